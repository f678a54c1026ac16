"""STARFlow, compared with its authors' numbers: blocks, whole models and the learned denoiser.

Their tokens are rows, (B, [frames,] H, W, F), ours columns of (F, T), flattened; their texts are (B, S, E), ours (B, E, S).  Their log-dets
are kept for each token and feature, in the order of the block's sequence.  Their root mean squares multiply by `1 + weight`, ours by
the gain.  What a block has follows from its arrays; its activations, clip and positions are in the configuration.
"""

from __future__ import annotations

import math
import re

import numpy as np

from refflow.core import Chain, Flow, Inverse, tree
from refflow.maps.conditioners import PrefixedNetwork, at_temperature
from refflow.maps.densities import StandardNormal
from refflow.maps.shape import Reshape, Squeeze
from refflow.models.starflow import (Jacobi, by_jacobi, denoised, denoised_by_network, denoiser_target, frame_by_frame, frames_seen,
                                     given_text, guided, image_as_video, in_turn, own_map, positions, readers, regularised_loss_vjp,
                                     sampled, scale_and_shift, slopes_vjp, starflow_block, starflow_denoiser, token_log_dets,
                                     video_as_image)

from .comparison import PRACTICE, ZERO, Lacking, Pair, answered, gradients, kind_of, numbers, of_system, pair, read_as
from .tarflow import ours, theirs_of

FILES = tuple(sorted(path.stem for path in PRACTICE.glob("starflow_*.npz")))


# -- their arrays ----------------------------------------------------------------------------------------------------

def said(config, name, default):
    """What the configuration says of a switch, inside "switches" or beside it."""
    held = config.get("switches", {}).get(name, config.get(name))
    return default if held is None else held


class Net:
    """The network of arrays `params` of theirs: what it is made of, and where its parameters are in ours.

    `places`: [(their name, our path, the slice of our rows that are theirs, what theirs and ours differ by)], of the network alone.
    """

    def __init__(self, config, params):
        def shape(name):
            return params[name].shape

        self.params, self.places, self.fixed = params, [], {}
        self.channels, self.features = shape("proj_in.weight")
        self.layers = len({match[1] for match in map(re.compile(r"attn_blocks\.(\d+)\.").match, params) if match})
        if not self.layers:
            raise Lacking("there is no layer 'attn_blocks.0' in it")
        d, first = config["head_dim"], "attn_blocks.0"
        rows, self.gated = len(params[f"{first}.attention.qkv.weight"]), f"{first}.mlp.gate_proj.weight" in params
        heads = shape(f"{first}.attention.proj.weight")[1] // d
        E, S = said(config, "txt_dim", 0), said(config, "txt_size", 0)
        inside = len(params[f"{first}.mlp.{'gate_proj' if self.gated else 'main.0'}.weight"])
        self.text, self.start, self.final_norm = (E, S) if E else None, "sos_embed" in params, "final_norm.weight" in params
        self.norm = ("layer" if f"{first}.attention.norm.bias" in params else
                     "root mean square" if f"{first}.attention.norm.weight" in params else "none")
        self.parts = {"query_key_norm": f"{first}.attention.query_norm.weight" in params,
                      "norm_after": f"{first}.attention.post_norm.weight" in params,
                      "split_pairs": bool(said(config, "hf_style_rope", False)), "key_heads": (rows // d - heads) // 2, "norm": self.norm}
        self.given = dict(channels=self.channels, text=self.text, third=bool(S or said(config, "frames", 0)),
                          length=said(config, "pt_seq_len", None), line=bool(said(config, "rope_1d", False)), head_size=d, heads=heads,
                          expansion=(inside + 0.5) / self.channels, final_norm=self.final_norm, gated=self.gated, **self.parts)
        self.grouped = self.parts["key_heads"] != heads

    def dense(self, name, *path, rows=slice(None), into=None):
        into = len(self.params[f"{name}.weight"]) if into is None else into
        self.places.append((f"{name}.weight", (*path, "W"), rows, 0))
        if f"{name}.bias" in self.params:
            self.places.append((f"{name}.bias", (*path, "b"), rows, 0))
        else:
            self.fixed[(*path, "b")] = np.zeros(into)

    def normed(self, name, *path):
        """[the places of a normalisation of theirs, if there is one]: whether there is."""
        if f"{name}.weight" not in self.params:
            return False
        by_root_mean_square = f"{name}.bias" not in self.params
        self.places.append((f"{name}.weight", (*path, "gain"), slice(None), int(by_root_mean_square)))
        if not by_root_mean_square:
            self.places.append((f"{name}.bias", (*path, "bias"), slice(None), 0))
        return True

    def placed(self, first, last):
        """Find everything, between the paths of the first layer and of the last one: `trunk` is the layer after `first`."""
        at, trunk = first
        self.dense("proj_in", *at, "layer")
        if self.text:
            reads = (*trunk, "net", "layer")
            trunk = (*trunk, "inner")
            if "proj_txt.weight" in self.params:
                self.dense("proj_txt", *reads)
            else:
                self.fixed |= {(*reads, "W"): np.eye(self.channels), (*reads, "b"): np.zeros(self.channels)}
        for i in range(self.layers):
            self.layer(f"attn_blocks.{i}", *((*trunk, "layers", "0", "layers", str(2 * i + k), "inner") for k in range(2)))
        self.normed("final_norm", *trunk, "layers", "1", "layer")
        self.dense("proj_out", *last, "layer")
        return self

    def layer(self, name, mixed, own):
        """A layer of attention, and one of dense layers."""
        attention, mlp, k = f"{name}.attention", f"{name}.mlp", 0

        def here(path, *inner):
            return (*path, str(k), *inner)

        mixed, own = (*mixed, "layers"), (*own, "layer", "layers")
        k += self.normed(f"{attention}.norm", *here(mixed, "layer"))
        self.dense(f"{attention}.qkv", *here(mixed, "layer"))
        k += 1
        if self.parts["query_key_norm"]:
            for theirs, part in (("query", "queries"), ("key", "keys")):
                self.normed(f"{attention}.{theirs}_norm", *here(mixed, "layer", part))
            k += 1
        k += self.parts["split_pairs"] + 1 + self.grouped + 1                       # the rearrangement, the rotation, the groups, attention
        self.dense(f"{attention}.proj", *here(mixed, "layer"))
        k += 1
        self.normed(f"{attention}.post_norm", *here(mixed, "layer"))
        k = 0
        k += self.normed(f"{mlp}.norm", *here(own))
        if self.gated:
            n = len(self.params[f"{mlp}.gate_proj.weight"])
            for part, rows in (("gate_proj", slice(0, n)), ("up_proj", slice(n, 2 * n))):
                self.dense(f"{mlp}.{part}", *here(own), rows=rows, into=2 * n)
        else:
            self.dense(f"{mlp}.main.0", *here(own))
        k += 2
        self.dense(f"{mlp}.{'down_proj' if self.gated else 'main.2'}", *here(own))
        k += 1
        self.normed(f"{mlp}.post_norm", *here(own))

    def filled(self, value, *above):
        """A value of ours with their arrays, whose network is at the path `above`."""
        held = {(*above, *path): array for path, array in self.fixed.items()}
        for name, path, rows, offset in self.places:
            path = (*above, *path)
            held[path] = np.array(held.get(path, tree.at_path(value.params(), path)))
            held[path][rows] = self.params[name].reshape(held[path][rows].shape) + offset
        return value.replace(**tree.nest(held))

    def gradients(self, bars, names, prefix=""):
        """{their name: gradient}, from the cotangents of the network."""
        return {prefix + name: tree.at_path(bars, path)[rows].reshape(self.params[name].shape)
                for name, path, rows, _ in self.places if prefix + name in names}


class Block(Net):
    """A block of theirs: our stages, and where their parameters are in the network of the map `f`, the stage number `at`."""

    def __init__(self, config, params, grid, permutation):
        super().__init__(config, params)
        clip, base, k = said(config, "soft_clip", 0), ("net", "net", "layers"), int(self.start)
        if self.start:
            self.places.append(("sos_embed", (*base, "0", "start"), slice(None), 0))
        last = (*base, str(k + 2))
        self.placed(((*base, str(k)), (*base, str(k + 1))), (*last, "net", "layers", "0", "net") if clip else last)
        reverse = permutation != "identity"
        stages = starflow_block(np.random.default_rng(0), self.features, grid, layers=self.layers, reverse=reverse,
                                within_frames=reverse and permutation != "flip", start=self.start, clip=float(clip),
                                scale="softplus" if said(config, "use_softplus", False) else "exp", **self.given)
        self.at = int(reverse)
        stages[self.at] = self.filled(stages[self.at], "net")
        self.stages, self.f = stages, stages[self.at]


# -- tokens and texts ------------------------------------------------------------------------------------------------

def vectors(x):
    """Tokens (B, [frames,] H, W, F) as vectors of ours."""
    return ours(x.reshape(len(x), -1, x.shape[-1]))


def tokens(v, shape):
    """The reverse, for tokens of the shape ([frames,] H, W, F)."""
    return theirs_of(v, (math.prod(shape[:-1]), shape[-1])).reshape(len(v), *shape)


def rows(v, shape):
    """(B, T, F) of vectors of ours, for tokens of that shape."""
    return theirs_of(v, (math.prod(shape[:-1]), shape[-1]))


def text_of(theirs, *keys):
    """Their text under the first of these keys, as ours, or None."""
    return next((np.swapaxes(theirs[key], -1, -2) for key in keys if key in theirs), None)


def given(value, text):
    """A map, network or flow of ours at a text, if it reads one and there is one."""
    return given_text(value, text) if text is not None and readers(value) else value


def doubled(theirs, i, B):
    """(text, null text) of the pair i, of the file's own text if it has no pair."""
    text = text_of(theirs, f"in/y_cfg{i}", "in/y_cfg", "in/y")
    return (None, None) if text is None else (text[:B], text[-B:])


# -- a block ---------------------------------------------------------------------------------------------------------

def block(config, theirs) -> dict:
    """{quantity: Pair} of a block."""
    params, grad = answered("param/", theirs), answered("grad/", theirs)
    x, wz, wl = theirs["in/x"], theirs["in/wz"], theirs["in/wl"]
    own, shape, y = Block(config, params, x.shape[1:-1], config["permutation"]), x.shape[1:], text_of(theirs, "in/y")
    f, turned = given(own.f, y), Chain(own.stages[:own.at] or [own.stages[0]]) if own.at else None

    def turn(v):
        return turned.forward(v) if turned else v

    event = turn(vectors(x))
    (image, log_slopes), pullback = slopes_vjp(f, event)
    event_bar, bars = pullback(turn(vectors(wz)), ours(wl))
    values = {"z": tokens(turn(image), shape), "logdet": rows(log_slopes, shape)}
    values["loss"] = (values["z"] * wz).sum() + (values["logdet"] * wl).sum()
    made = {name: pair(value, theirs[f"out/{name}"]) for name, value in values.items()}
    made["gradients of parameters"] = gradients(own.gradients(bars["net"], grad), grad)
    made["gradient of data"] = pair(tokens(turn(event_bar), shape), theirs["gradin/x"])
    if "gradin/y" in theirs:
        if not own.text:
            raise Lacking("there is a gradient of a text, and its configuration does not say 'txt_dim', the width of the text")
        made["gradient of the text"] = pair(np.swapaxes(context_bar(bars), -1, -2), theirs["gradin/y"])
    if "out/y" in theirs:
        made["y"] = pair(np.swapaxes(states_of_text(f, event), -1, -2), theirs["out/y"])
    if "out/freqs_cis" in theirs:
        made["freqs_cis"] = pair(angles(own, x.shape[1:-1], theirs["out/freqs_cis"]), theirs["out/freqs_cis"])
    found = samples(config, theirs, own, turn, shape) if "in/u" in theirs else {}
    return made | {name: sampled_pair(name, value, theirs[f"out/{name}"]) for name, value in found.items()}


def sampled_pair(name, value, theirs):
    """A quantity of samples.  A token that stays has the scale 1; with guidance, theirs is 1 up to rounding."""
    stays = {"": (value == 0) & (np.abs(theirs) <= ZERO)} if name.startswith("forward_guided_logdet") else {}
    return Pair({"": value}, {"": theirs}, stays, 1.0, "the scale, 1")


def context_bar(bars):
    """The cotangent of a text among a block's cotangents."""
    return bars["net"]["context"]


def states_of_text(f, event):
    """What the transformer makes of the text, (B, C, S)."""
    layers = f.net.net.net.layers
    a = event.reshape(*event.shape[:-1], *f.net.net.shape)
    for layer in layers:
        if isinstance(layer, PrefixedNetwork):
            return layer.inner.forward(layer.joined(layer.net.forward(layer.context), a))[..., :layer.positions]
        a = layer.forward(a)
    raise Lacking("there is a text, but the block reads none")


def angles(own, grid, theirs):
    """Their table of angles, (S + T, head_dim): each angle stands twice."""
    held = own.given
    text = len(theirs) - math.prod(grid) if held["line"] else own.text[1] if own.text else 0
    return np.repeat(positions(grid, held["head_size"], held["length"], text, held["third"], held["line"]).T, 2, -1)


def samples(config, theirs, own, turn, shape):
    """{name of an output: the samples, or images of data, of a block}."""
    u, B, made = turn(vectors(theirs["in/u"])), len(theirs["in/u"]), {}
    plain = given(own.f, text_of(theirs, "in/y"))

    def put(name, events):
        if f"out/{name}" in theirs:
            made[name] = tokens(turn(events), shape)

    if "out/reverse_u" in theirs:
        put("reverse_u", plain.inverse(u))
    for i, how in enumerate(config.get("guided", [])):
        w, tau, (text, null) = how["guidance"], how.get("attn_temp", 1.0), doubled(theirs, i, B)
        both = [given(own.f, one) for one in (text, null)]
        cooled = [at_temperature(f, tau) for f in both]
        put(f"reverse_guided{i}", in_turn(own.f, guided(*cooled, w) if w else step_of(cooled[0]), u))
        if f"out/forward_guided_z{i}" in theirs:
            event = turn(vectors(theirs["in/x"]))
            s, b = guided(*both, w)(event)
            made[f"forward_guided_z{i}"] = np.tile(tokens(turn((event - b) / s), shape), (2, *[1] * len(shape)))
            made[f"forward_guided_logdet{i}"] = np.tile(rows(-np.log(s), shape), (2, 1, 1))
    for i, how in enumerate(listed(config.get("jacobi", []))):
        w, (text, null) = how.get("guidance", 0), doubled(theirs, i, B)
        if w:
            step = guided(given(own.f, text), given(own.f, null), w)
        else:
            step = step_of(plain)
        for name in (f"jacobi{i}", f"jacobi_u{i}", f"reverse_jacobi{i}", *(("jacobi", "jacobi_u") if i == 0 else ())):
            put(name, by_jacobi(own.f, step, u, jacobi_of(how, shape)))
    return made


def step_of(f):
    return lambda h: scale_and_shift(f, h)


def listed(held):
    return [held] if isinstance(held, dict) else held


def jacobi_of(how, shape):
    """The `Jacobi` of their arguments, of which the block is cut into frames."""
    return Jacobi(how.get("jacobi_block_size", how.get("block_size", 32)), how.get("jacobi_max_iter", how.get("max_iter", 32)),
                  how.get("jacobi_th", how.get("th", 0.001)), shape[-3] * shape[-2])


# -- a model ---------------------------------------------------------------------------------------------------------

TOTALS = ("loss_reg", "loss_regularised", "loss_total")     # names of a loss with (10) in it, beside the loss without



def model_of(config, params, shape):
    """(the flow, the stages of each block, [Block], one None for no layers) for images of (C, H, W) or videos of (frames, C, H, W)."""
    *frames, C, H, W = shape
    p, R2L = config["patch_size"], said(config, "seq_order", "R2L") == "R2L"
    still, turn = (H // p, W // p), "flip in frames" if said(config, "temporal_causal", 0) else "flip"
    F, top_only, local = C * p**2, said(config, "cond_top_only", False), bool(frames) and said(config, "shallow_block_local", False)
    K, made, stages = config["num_blocks"], [], []
    for k in range(K):
        own = {name.removeprefix(f"blocks.{k}."): array for name, array in params.items() if name.startswith(f"blocks.{k}.")}
        shallow = k < K - 1
        says = config | {"frames": frames[0] if frames else 0, "txt_dim": 0 if top_only and shallow else said(config, "txt_dim", 0),
                         "pt_seq_len": said(config, "pt_seq_len", None) or config.get("img_size", H) // p, "switches": switches(config)}
        apart = local and shallow
        grid = (1, *still) if apart else (*frames, *still)
        made.append(Block(says, own, grid, "identity" if (k % 2 == 0) == R2L else turn) if own else None)
        here = made[-1].stages if own else starflow_block(None, F, grid, 1, 0)      # which keeps its event
        stages.append(frame_by_frame(here, F, *frames, *still) if apart else here)
    D, tall = math.prod(shape), H * (frames or [1])[0]
    first = [Squeeze(p, "blocks"), Reshape((F, tall // p, W // p), (D,))]
    return Flow(Inverse(Chain([*first, *(stage for part in stages for stage in part)])), StandardNormal(D)), stages, made


def switches(config):
    """What the configuration says of single blocks, without the text and the frames, which differ from block to block."""
    return {key: held for key, held in config.get("switches", {}).items() if key not in ("txt_dim", "frames", "pt_seq_len")}


def model(config, theirs) -> dict:
    """{quantity: Pair} of a whole model."""
    params, grad, x = answered("param/", theirs), answered("grad/", theirs), theirs["in/x"]
    flow, parts, blocks = model_of(config, params, x.shape[1:])
    trained, ends = given(flow, text_of(theirs, "in/y")), np.cumsum([2, *map(len, parts)])
    weight, norm_weight = said(config, "loss_weight", 1.0), said(config, "latent_norm_regularization", 0.0)
    losses, pullback = regularised_loss_vjp(trained, as_image(x), weight, norm_weight)
    x_bar, bars = pullback(1 / len(x))
    made = values_of(trained, ends, blocks, x, token_shape(config, x.shape[1:]))
    named = next((name for name in TOTALS if f"out/{name}" in theirs), "loss")
    made = {name: pair(value, theirs[f"out/{name}"]) for name, value in (made | {named: losses.mean()}).items() if f"out/{name}" in theirs}
    gradient, stages = {}, bars["bijector"]["inner"]["stages"]
    for one, start, part in zip(blocks, ends, parts):
        for i in (i for i, stage in enumerate(part, start) if own_map(stage) is not None):
            gradient |= one.gradients(stages[str(i)].get("inner", stages[str(i)])["net"], grad, f"blocks.{blocks.index(one)}.")
    made["gradients of parameters"] = gradients(gradient, {name: array for name, array in grad.items() if name.startswith("blocks.")})
    made["gradient of data"] = pair(as_theirs(x_bar, x.shape), theirs["gradin/x"])
    if "gradin/y" in theirs:
        made["gradient of the text"] = pair(np.swapaxes(bars["context"], -1, -2), theirs["gradin/y"])
    return made | model_samples(config, theirs, flow, ends) | denoising(config, theirs, flow, params)


def values_of(flow, ends, blocks, x, shape):
    """{name: what a model gives} at images or videos x of theirs, whose block k is made of the stages ends[k] to ends[k + 1]."""
    stages, image = flow.bijector.inner.stages, as_image(x)
    events = [Chain(stages[:2]).forward(image)]
    for start, end in zip(ends, ends[1:]):
        events.append(Chain(stages[start:end]).forward(events[-1]) if end > start else events[-1])
    found = iter(token_log_dets(flow, image))
    log_dets = [np.zeros(len(x)) if one is None else np.swapaxes(next(found), -1, -2) for one in blocks]
    made = {f"outputs{k}": tokens(event, shape) for k, event in enumerate(events)}
    made |= {f"{name}{k}": one for k, one in enumerate(log_dets) for name in ("logdet", "logdets")}
    made |= {"loss_z": (events[-1]**2).mean() / 2, "loss_logdet": -sum(one.mean() for one in log_dets)}
    deep = blocks[-1]
    if deep is not None and deep.text:
        event = Chain([*stages[:2], *stages[2:ends[-2] + deep.at]]).forward(image)
        made["y"] = np.swapaxes(states_of_text(own_map(stages[ends[-2] + deep.at]), event), -1, -2)
    return made | {"z": as_theirs(Chain(stages[:2]).inverse(events[-1]), x.shape), "loss": made["loss_z"] + made["loss_logdet"]}


def as_image(x):
    return video_as_image(x) if x.ndim == 5 else x


def as_theirs(image, shape):
    return image_as_video(image, shape[1]) if len(shape) == 5 else image


def token_shape(config, shape):
    *frames, C, H, W = shape
    p = config["patch_size"]
    return *frames, H // p, W // p, C * p**2


def model_samples(config, theirs, flow, ends):
    """{quantity: Pair} of samples, and of what stands after each block."""
    key = next((key for key in ("in/noise", "in/u") if key in theirs), None)
    if key is None:
        return {}
    u, f, made = theirs[key], flow.bijector.inner, {}
    patches, B = Chain(f.stages[:2]), len(u)
    z, shape = patches.forward(as_image(u)), token_shape(config, u.shape[1:])
    deep_only, text = said(config, "cond_top_only", False), text_of(theirs, "in/yrev", "in/y")

    def put(name, image):
        if f"out/{name}" in theirs:
            made[name] = pair(as_theirs(image, u.shape), theirs[f"out/{name}"])

    stages, event = given(f, text).stages, z
    put("reverse_seq0", as_image(u))
    for k, (start, end) in enumerate(zip(ends[-2::-1], ends[:0:-1]), 1):
        event = Chain(stages[start:end]).inverse(event) if end > start else event
        put(f"reverse_seq{k}", patches.inverse(event))
    for name in ("reverse", "reverse_u"):
        put(name, patches.inverse(event))
    for i, how in enumerate(listed(config.get("guided", []))):
        pair_of = doubled(theirs, i, B)
        given_pair = [at_temperature(given(f, one), how.get("attn_temp", 1.0)) for one in pair_of]
        image = sampled(*given_pair, z, how["guidance"], deep_only or how.get("guide_top") is not None, None)
        for name in (f"guided{i}", f"reverse_guided{i}"):
            put(name, image)
    for i, how in enumerate(listed(config.get("jacobi", []))):
        w, pair_of = how.get("guidance", 0), doubled(theirs, i, B)
        both = [given(f, one) for one in (pair_of if w else (text, text))]
        image = sampled(*both, z, w, deep_only, jacobi_of(how, shape))
        for name in (f"jacobi{i}", f"reverse_jacobi{i}", *(("jacobi", "reverse_jacobi") if i == 0 else ())):
            put(name, image)
    return made


def denoising(config, theirs, flow, params):
    """{quantity: Pair} of the step along the score, and of the learned denoiser."""
    made, y = {}, text_of(theirs, "in/yrev", "in/y")
    std = said(config, "denoise_std", said(config, "noise_std", None))
    if "out/denoised" in theirs:
        start = next(theirs[key] for key in ("in/denoise_x", "out/reverse", "in/x") if key in theirs)
        made["denoised"] = pair(as_theirs(denoised(given(flow, y), as_image(start), std), start.shape), theirs["out/denoised"])
    own = {name.removeprefix("learnable_self_denoiser."): array for name, array in params.items() if name.startswith("learnable_self_den")}
    if own:
        x = theirs["in/x"]
        says = config | {"txt_dim": own["proj_txt.weight"].shape[1] if "proj_txt.weight" in own else 0, "switches": switches(config),
                         "frames": x.shape[1] if x.ndim == 5 else 0,
                         "pt_seq_len": said(config, "pt_seq_len", None) or config.get("img_size", x.shape[-2]) // config["patch_size"]}
        net, shape = denoiser_of(says, own, token_shape(config, x.shape[1:])[:-1]), x.shape
        patches = Chain(flow.bijector.inner.stages[:2])
        net = given(net.net, text_of(theirs, "in/y"))
        prediction = patches.inverse(net.forward(patches.forward(as_image(x))))
        target = denoiser_target(given(flow, text_of(theirs, "in/y")), as_image(x), std or 1.0)
        for name, image in (("pred", prediction), ("denoiser", prediction), ("denoiser_target", target), ("target", target)):
            if f"out/{name}" in theirs:
                made[name] = pair(as_theirs(image, shape), theirs[f"out/{name}"])
        if "out/denoised_learned" in theirs:
            moved = denoised_by_network(net, flow, as_image(x), std, said(config, "sigma_next", 0.0))
            made["denoised_learned"] = pair(as_theirs(moved, shape), theirs["out/denoised_learned"])
    return made


# -- the denoiser ----------------------------------------------------------------------------------------------------

def denoiser_of(config, params, grid):
    """A Net whose `net` is the filled network of vectors."""
    made, base = Net(config, params), ("net", "layers")
    made.placed(((*base, "0"), (*base, "1")), (*base, "2"))
    ahead = said(config, "block_causal", said(config, "temporal_causal", 0))
    window = said(config, "window", said(config, "denoiser_window", None))
    net = starflow_denoiser(np.random.default_rng(0), made.features, grid, layers=made.layers, ahead=ahead, window=window, **made.given)
    made.net = made.filled(net)
    return made


def denoiser(config, theirs) -> dict:
    """{quantity: Pair} of the learned denoiser alone, of tokens (B, [frames,] H, W, F)."""
    params, grad, x = answered("param/", theirs), answered("grad/", theirs), theirs["in/x"]
    own, y = denoiser_of(config, params, x.shape[1:-1]), text_of(theirs, "in/y")
    h, pullback = given(own.net, y).vjp(vectors(x))
    out = next((name for name in ("pred", "z", "x", "out") if f"out/{name}" in theirs), "pred")
    made = {out: pair(tokens(h, x.shape[1:]), theirs[f"out/{out}"])}
    weights = next((key for key in ("in/wz", "in/w") if key in theirs), None)
    if weights:
        x_bar, bars = pullback(vectors(theirs[weights]))
        made["gradients of parameters"] = gradients(own.gradients(bars, grad), grad)
        made["gradient of data"] = pair(tokens(x_bar, x.shape[1:]), theirs["gradin/x"])
        if "out/loss" in theirs:
            made["loss"] = pair((tokens(h, x.shape[1:]) * theirs[weights]).sum(), theirs["out/loss"])
        if "gradin/y" in theirs:
            made["gradient of the text"] = pair(np.swapaxes(bars["context"], -1, -2), theirs["gradin/y"])
    if "out/mask" in theirs:
        text = y.shape[-1] if y is not None and own.text else 0
        mask = frames_seen(x.shape[1:-1], text, said(config, "block_causal", 1), said(config, "window", None))
        made["mask"] = pair(mask, theirs["out/mask"])
    return made


KINDS = {"a block": (of_system("starflow", "MetaBlock"), block), "a model": (of_system("starflow", "Model"), model),
         "a denoiser": (of_system("starflow", "NonCausalBlock"), denoiser)}


def holds(config, keys):
    return kind_of(KINDS, config, keys) is not None


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
