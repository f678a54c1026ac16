"""The networks of Glow-TTS, compared with its authors' numbers: the coupling, the duration predictor, the encoder's layers.

Their signals are (N, C, T), their masks (N, 1, T); gains of weight normalisation are (M, 1, 1).
"""

from __future__ import annotations

import math
import re

import numpy as np

from refflow.core import halves
from refflow.core.tree import at_path, components, flatten, nest, walk
from refflow.maps.conditioners import (BijectorLayer, Dense, GatedActivation, LayerNorm, Positionwise, Sequential, SiLU,
                                       UnitVector, WaveNet, duration_network, feed_forward_network, prenet,
                                       wave_net_coupling_network, with_dropout)
from refflow.maps.coupling import Coupling, affine_family, masks
from refflow.maps.elementwise import Affine, ExpScale, SigmoidScale

from .comparison import answered, checked_mask, gradients, judged, nudged, numbers, pair

FILES = ("glowtts_coupling_plain", "glowtts_duration_predictor", "glowtts_small_layers")
KEEPS = ("keep", "drop")             # how words begin that name recorded masks
DRAWS = (                            # a module and its call, and its place: after an attention and after a feed-forward network
    (r"pre\.relu_drop\.\d+#(\d+)$", lambda n: (0, n)),                       # the encoder calls one module of its own
    (r"attn_layers\.(\d+)\.drop#0$", lambda i: (1, 4 * i)),
    (r"encoder\.drop#(\d+)$", lambda n: (1, 2 * n + 1)),
    (r"ffn_layers\.(\d+)\.drop#0$", lambda i: (1, 4 * i + 2)),
    (r"flows\.(\d+)\.wn\.drop#(\d+)$", lambda k, n: (3, k, n)),
    (r"wn\.drop#(\d+)$", lambda n: (3, 0, n)),
    (r"(?:proj_w\.|/)drop#(\d+)$", lambda n: (2, n)))
GELU_FACTOR = 1.702                 # their GELU is x sigma(1.702 x)


# -- names ------------------------------------------------------------------------------------------------------------

def convolution(theirs, path):
    return {f"{theirs}.weight": (*path, "W"), f"{theirs}.bias": (*path, "b")}


def normalised(theirs, path):
    return {f"{theirs}.weight_g": (*path, "g"), f"{theirs}.weight_v": (*path, "v"), f"{theirs}.bias": (*path, "b")}


def norm(theirs, path):
    return {f"{theirs}gamma": (*path, "layer", "gain"), f"{theirs}beta": (*path, "layer", "bias")}


def layer(path, i):
    return (*path, "layers", str(i))


def of_wave_net(n, path, prefix=""):
    """Their names of a wave net with a dropout behind each of its n convolutions."""
    found = {}
    for i in range(n):
        found |= normalised(f"{prefix}in_layers.{i}", (*path, "in_layers", str(i), "layers", "0"))
        found |= normalised(f"{prefix}res_skip_layers.{i}", (*path, "res_skips", str(i)))
    return found


def of_duration():
    found = convolution("proj", layer((), 8))
    for i in (0, 1):
        found |= convolution(f"conv_{i + 1}", layer((), 4 * i)) | norm(f"norm_{i + 1}.", layer((), 4 * i + 2))
    return found


def of_prenet(n):
    found = convolution("proj", layer(("inner",), 4 * n))
    for i in range(n):
        found |= convolution(f"conv_layers.{i}", layer(("inner",), 4 * i))
        found |= norm(f"norm_layers.{i}.", layer(("inner",), 4 * i + 1))
    return found


def filled(net, names, theirs):
    """The network with their parameters.  ValueError if a parameter has no counterpart; "f" is an activation's own factor."""
    ours = {path for path, _ in flatten(net.params()) if "f" not in path}
    if set(names.values()) != ours or names.keys() != theirs.keys():
        raise ValueError(f"parameters without a counterpart: {sorted(names.keys() ^ theirs.keys())}")
    params = net.params()
    return net.replace(**nest({path: theirs[name].reshape(at_path(params, path).shape) for name, path in names.items()}))


def by_their_names(bars, names, theirs):
    """Our cotangents under their names, in their shapes."""
    return {name: at_path(bars, path).reshape(theirs[name].shape) for name, path in names.items()}


def valid(theirs):
    """Their mask (N, 1, T) as ours, (N, T)."""
    return checked_mask(theirs[:, 0])


def check_lengths(mask, lengths):
    """ValueError if a mask, (N, T), is not that of lengths."""
    if not np.array_equal(mask, np.arange(mask.shape[-1]) < np.asarray(lengths)[:, None]):
        raise ValueError("their mask has other lengths")


# -- the files --------------------------------------------------------------------------------------------------------

def of_coupling(n, path, prefix="", speakers=False):
    """Their names of a coupling's network with n layers."""
    found = normalised(f"{prefix}start", layer(path, 0)) | convolution(f"{prefix}end", layer(path, 2))
    found |= of_wave_net(n, layer(path, 1), f"{prefix}wn.")
    return found | (normalised(f"{prefix}wn.cond_layer", layer((*layer(path, 1), "cond", "0"), 1)) if speakers else {})


def of_unit_vectors(value, size):
    """The value with networks that take speakers as they are given: in their code somebody else divides by the length."""
    if type(value) is UnitVector:
        return Dense(np.eye(size))
    new = {}
    for (key, *index), part in components(value):
        found = of_unit_vectors(part, size)
        new[key] = (*new.get(key, ()), found) if index else found
    return value.replace(**new) if any(type(held) is UnitVector for _, held in walk(value)) else value


def recorded_keeps(theirs):
    """Recorded masks of dropout, in the order in which they are drawn in their code; [] without dropout.

    A word of a key says that it holds one.  After "dropout/" stand the module and how often it had been called; in other keys,
    numbers say which mask it is.
    """
    keys = [key for key in theirs if any(word.startswith(KEEPS) for word in key.split("/"))]
    by_module = any(key.startswith("dropout/") for key in keys)
    return [checked_mask(theirs[key]) for key in sorted(keys, key=drawn_as if by_module else numbers_in)]


def numbers_in(key):
    return [int(n) for n in re.findall(r"\d+", key)]


def drawn_as(key):
    """The place of a module's call among all draws: prenet, layers of the encoder, predictor of durations, decoder."""
    for pattern, place in DRAWS:
        found = re.search(pattern, key)
        if found:
            return place(*map(int, found.groups()))
    raise ValueError(f"it is not known when {key} was drawn")


def rate_of(config):
    """The rate of dropout, whose name differs between their classes."""
    found = [config[name] for name in ("p_dropout", "p_dropout_dec", "dropout") if name in config]
    if not found:
        raise ValueError("there are masks of dropout, but its rate is not given")
    return found[0]


def coupling(config, theirs) -> dict:
    """{quantity: Pair} of a coupling and of its wave net alone."""
    C, n, x, mask = config["in_channels"], config["n_layers"], theirs["in/x"], valid(theirs["in/mask"])
    check_lengths(mask, theirs["in/lengths"])
    speakers, keeps = config.get("gin", 0), recorded_keeps(theirs)
    net = wave_net_coupling_network(np.random.default_rng(0), C // 2, config["hidden"], C, n, config["kernel"],
                                    config["dilation_rate"], speakers)
    net = filled(net, of_coupling(n, (), speakers=speakers > 0), answered("param/", theirs)).at(mask=mask)
    net = with_dropout(net, keeps, rate_of(config)) if keeps else net
    scale = SigmoidScale(offset=2.0, floor=1e-6) if config["sigmoid_scale"] else ExpScale()
    f = Coupling(masks.channels(masks.halves(C), 2), net, affine_family(scale, ("shift", "scale")))
    f = of_unit_vectors(f, speakers).at(mask=mask, context=theirs["in/g"][..., 0]) if speakers else f.at(mask=mask)
    (z, log_det), pullback = f.vjp(np.where(mask[:, None], x, 0))
    count = mask.sum() * C
    x_bar, bars = pullback(z / count, np.full(log_det.shape, -1 / count))
    loss = ((z * z).sum() / 2 - log_det.sum()) / count + math.log(2 * math.pi) / 2
    grad, names = answered("grad/", theirs), of_coupling(n, (), speakers=speakers > 0)
    found = {"latents": pair(z, theirs["out/z"]), "log-det": pair(log_det, theirs["out/logdet"]),
             "loss": pair(loss, theirs["out/loss"]), "inverse": pair(f.inverse(z), theirs["out/reverse_of_z"]),
             "gradients of parameters": gradients(by_their_names(bars["net"], names, grad), grad),
             "gradient of data": pair(x_bar, theirs["gradin/x"])}
    if speakers:
        found["gradient of speaker"] = pair(bars["context"][..., None], theirs["gradin/g"])
        return found
    return found | (wave_net_alone(net.layers[1], mask, theirs) if "wn/x" in theirs else {})


def wave_net_alone(net, mask, theirs) -> dict:
    """{quantity: Pair} of the wave net on a signal whose padding theirs reads in the first layer, and ours never.

    The first layer is therefore taken apart: its convolution has no mask, and the other layers are a wave net.
    """
    first, res_skip = net.in_layers[0].layers[0].replace(mask=None), net.res_skips[0].replace(mask=None)
    p, in_pullback = first.vjp(theirs["wn/x"])
    g, gate_pullback = GatedActivation(2).vjp(p)
    r, res_pullback = res_skip.vjp(g)
    to_x, to_s = halves(r, -2)
    rest, rest_pullback = WaveNet(net.in_layers[1:], net.res_skips[1:], (), mask=mask).vjp(theirs["wn/x"] + to_x)
    h_bar = np.where(mask[:, None], theirs["wn/cotangent"], 0)
    x_bar, bars = rest_pullback(h_bar)
    g_bar, res_bar = res_pullback(np.concatenate((x_bar, h_bar), -2))
    through, in_bar = in_pullback(gate_pullback(g_bar)[0])
    names, grad = of_wave_net(len(net.in_layers), ()), answered("wn/grad/", theirs)
    bars = {"in_layers": {"0": {"layers": {"0": in_bar}}} | moved_on(bars["in_layers"]),
            "res_skips": {"0": res_bar} | moved_on(bars["res_skips"])}
    return {"wave net": pair(np.where(mask[:, None], to_s, 0) + rest, theirs["wn/out"]),
            "wave net: gradient of input": pair(x_bar + through, theirs["wn/gradin_x"]),
            "wave net: gradients of parameters": gradients(by_their_names(bars, names, grad), grad)}


def moved_on(bars):
    """The layers of a wave net without its first, under their numbers in the whole."""
    return {str(int(i) + 1): bar for i, bar in bars.items()}


def duration_predictor(config, theirs) -> dict:
    """{quantity: Pair} of the duration predictor."""
    mask, names = valid(theirs["in/mask"]), of_duration()
    net = duration_network(np.random.default_rng(0), config["in_channels"], config["filter"], config["kernel"])
    check_lengths(mask, theirs["in/lengths"])
    net, keeps = filled(net, names, answered("param/", theirs)).at(mask=mask), recorded_keeps(theirs)
    net = with_dropout(net, keeps, rate_of(config)) if keeps else net
    log_w, pullback = net.vjp(theirs["in/x"])
    target, count = np.where(mask[:, None], np.log(1e-8 + theirs["in/w"]), 0), theirs["in/lengths"].sum()
    x_bar, bars = pullback(2 * (log_w - target) / count)
    grad = answered("grad/", theirs)
    return {"log-durations": pair(log_w, theirs["out/logw"]), "target": pair(target, theirs["out/logw_target"]),
            "loss": pair(((log_w - target) ** 2).sum() / count, theirs["out/loss"]),
            "gradients of parameters": gradients(by_their_names(bars, names, grad), grad),
            "gradient of data": pair(x_bar, theirs["gradin/x"])}


def small_layers(config, theirs) -> dict:
    """{quantity: Pair} of layer normalisation over channels, the prenet, and the feed-forward network twice."""
    rng = np.random.default_rng(0)
    gelu = Sequential((BijectorLayer(Affine(scale=GELU_FACTOR)), SiLU(), BijectorLayer(Affine(scale=1 / GELU_FACTOR))))
    M, C, K = theirs["ffn/param/conv_1.weight"].shape
    layers = sum(key.startswith("prenet/param/conv_layers") for key in theirs) // 2
    width, channels, size = theirs["prenet/param/conv_layers.0.weight"].shape
    feed_forward = convolution("conv_1", layer((), 0)) | convolution("conv_2", layer((), 3))
    nets = {"layernorm": (Positionwise(LayerNorm(np.ones(C), eps=1e-4)), norm("", ())),
            "prenet": (prenet(rng, channels, width, layers, size), of_prenet(layers)),
            "ffn": (feed_forward_network(rng, C, M, C, K), feed_forward),
            "ffn_gelu": (feed_forward_network(rng, C, M, C, K, gelu), feed_forward)}
    found = {}
    for name, (net, names) in nets.items():
        prefix = f"{name}/"
        net = filled(net, names, answered(f"{prefix}param/", theirs))
        found |= of_layer(name, net, names, theirs)
    return found


def of_layer(name, net, names, theirs):
    mask = valid(theirs[f"{name}/in/mask"])
    net = net if name == "layernorm" else net.at(mask=mask)         # theirs normalises at every position
    h, pullback = net.vjp(theirs[f"{name}/in/x"])
    x_bar, bars = pullback(theirs[f"{name}/in/cotangent"])
    grad = answered(f"{name}/grad/", theirs)
    return {f"{name}: value": pair(h, theirs[f"{name}/out/y"]),
            f"{name}: gradient of input": pair(x_bar, theirs[f"{name}/gradin/x"]),
            f"{name}: gradients of parameters": gradients(by_their_names(bars, names, grad), grad)}


READERS = {"attentions.CouplingBlock": coupling, "models.DurationPredictor": duration_predictor,
           "modules.LayerNorm": small_layers}
QUANTITIES = {"glowtts_coupling_plain": coupling, "glowtts_duration_predictor": duration_predictor,
              "glowtts_small_layers": small_layers}


def read(name):
    """({quantity: Difference} of a file, its keys that were not compared)."""
    config, theirs = numbers(name)
    of_file = QUANTITIES[name]
    found = judged(of_file(config, theirs), lambda rng: of_file(config, nudged(theirs, rng)))
    return found, theirs.unanswered()
