"""Jet, compared with its authors' numbers: couplings, whole models, and the projections of spatial couplings.

Their tokens are rows, (B, T, F), ours columns of (F, T), flattened; their images are (B, H, W, C).  Their matrices multiply rows; the
matrices of queries, keys and values, (inputs, heads, d), are one matrix here; the parameters of all couplings of a model are stacked.
"""

from __future__ import annotations

import math
import re

import numpy as np

from refflow.core import Chain, Flow, Inverse, tree
from refflow.maps.densities import StandardNormal
from refflow.maps.dequantisation import placed
from refflow.maps.shape import Reshape, Squeeze
from refflow.models.jet import HIGH, channel_order, halves_of, jet_coupling, jet_network, loss_vjp, spatial_order

from .comparison import (PRACTICE, Lacking, answered, cotangents, gradient_in, gradients, kind_of, name_of_cotangent, nearest,
                         numbers, of_system, order_of, pair, read_as)
from .steps import steps_of
from .tarflow import compared, ours, theirs_of

FILES = tuple(sorted(path.stem for path in PRACTICE.glob("jet_*.npz")))
ATTENTION = "MultiHeadDotProductAttention_0"


# -- their arrays ----------------------------------------------------------------------------------------------------

def places(layers, context):
    """{their name: (our path in the coupling, the axes of the inputs in front, its part and how many parts)} of a network."""
    found = {}

    def dense(name, *path, inputs=1, part=(0, 1)):
        found[f"{name}/kernel"] = (("net", "net", "layers", *path, "layer", "W"), inputs, part)
        found[f"{name}/bias"] = (("net", "net", "layers", *path, "layer", "b"), 0, part)

    def norm(name, *path):
        found[f"{name}/scale"] = (("net", "net", "layers", *path, "gain"), 0, (0, 1))
        found[f"{name}/bias"] = (("net", "net", "layers", *path, "bias"), 0, (0, 1))

    dense("init_proj", "0")
    found["posemb"] = (("net", "net", "layers", "1", "P"), 2, (0, 1))
    if context:
        across = ("2", "inner", "layers")
        dense(f"{ATTENTION}/query", *across, "0")
        for k, name in enumerate(("key", "value")):
            dense(f"{ATTENTION}/{name}", *across, "1", "net", part=(k, 2))
        dense(f"{ATTENTION}/out", *across, "2", inputs=2)
    body = 2 + bool(context)
    for i in range(layers):
        theirs = f"vit/encoderblock_{i}"
        mixed, own = ((str(body), "layers", str(2 * i + k), "inner") for k in range(2))
        norm(f"{theirs}/LayerNorm_0", *mixed, "layers", "0", "layer")
        for k, name in enumerate(("query", "key", "value")):
            dense(f"{theirs}/{ATTENTION}/{name}", *mixed, "layers", "1", part=(k, 3))
        dense(f"{theirs}/{ATTENTION}/out", *mixed, "layers", "3", inputs=2)
        norm(f"{theirs}/LayerNorm_1", *own, "layer", "layers", "0")
        for k, layer in enumerate(("1", "3")):
            path = ("net", "net", "layers", *own, "layer", "layers", layer)
            found[f"{theirs}/MlpBlock_0/Dense_{k}/kernel"] = ((*path, "W"), 1, (0, 1))
            found[f"{theirs}/MlpBlock_0/Dense_{k}/bias"] = ((*path, "b"), 0, (0, 1))
    norm("vit/encoder_norm", str(body + 1), "layer")
    dense("final_proj", str(body + 2))
    return found


def as_ours(array, inputs):
    """A vector, or a matrix (outputs, inputs), from an array of theirs with the axes of its inputs in front."""
    return array.reshape(math.prod(array.shape[:inputs]), -1).T if inputs else array.ravel()


class Network:
    """A network of theirs, of the arrays `params`, {name: array}."""

    def __init__(self, params):
        self.shapes = {name: array.shape for name, array in params.items()}
        half, channels = params["init_proj/kernel"].shape
        layers = len({match[1] for match in map(re.compile(r"vit/encoderblock_(\d+)/").match, params) if match})
        if not layers:
            raise Lacking("there is no layer 'vit/encoderblock_0' in it")
        kernel = self.shapes.get(f"{ATTENTION}/key/kernel")
        self.context = kernel[0] if kernel else 0
        heads = params[f"vit/encoderblock_0/{ATTENTION}/query/kernel"].shape[1]
        self.places, rows = places(layers, self.context), {}
        for name, (path, inputs, _) in self.places.items():
            rows.setdefault(path, []).append(as_ours(params[name], inputs))
        shell = jet_network(np.random.default_rng(0), 2 * half, params["posemb"].shape[1], channels, layers, heads=heads,
                            context=self.context)
        self.net = shell.replace(**tree.nest({path[1:]: np.concatenate(parts) for path, parts in rows.items()}))

    def gradients(self, bars):
        """{their name: gradient}, from the cotangents of the coupling."""
        found = {}
        for name, (path, inputs, (part, parts)) in self.places.items():
            bar = np.split(tree.at_path(bars, path), parts)[part]
            found[name] = (bar.T if inputs else bar).reshape(self.shapes[name])
        return found


def as_context(given):
    """Their context (B, S, E) as ours."""
    return np.swapaxes(given, 1, 2)


# -- a coupling ------------------------------------------------------------------------------------------------------

def coupling(config, theirs) -> dict:
    """{quantity: Pair} of a coupling."""
    x, (wz, wl) = theirs["in/x"], cotangents(theirs)
    own, (tokens, features) = Network(answered("param/dnn/", theirs)), x.shape[1:]
    theirs.only("param/dnn/", own.places)
    grad = answered("grad/dnn/", theirs, own.places)
    order, made = order_and_pattern(config, theirs, tokens, features)
    f = Chain(jet_coupling(order, own.net, config["scale_factor"]))
    if own.context:
        f = f.at(context=as_context(theirs["in/context"]))
    (z, log_det), pullback = f.vjp(ours(x))
    given = {"z": theirs_of(z, x.shape[1:]), "logdet": log_det}
    if wz is not None:
        x_bar, bars = pullback(ours(wz), wl)
        given["loss"] = (given["z"] * wz).sum() + (log_det * wl).sum()
        made |= gradient_in(theirs, "x", theirs_of(x_bar, x.shape[1:])) | gradient_of_context(theirs, bars)
        made["gradients of parameters"] = gradients(own.gradients(bars["stages"]["1"]), grad)
    made |= compared(given, theirs) | inverses(theirs, lambda u: split(f, ours(u), lambda v: theirs_of(v, x.shape[1:])), x.shape)
    return made


def split(f, u, shown):
    """(the inverse as theirs, its log-det) of vectors u."""
    back, log_det = f.inverse_and_log_det(u)
    return shown(back), log_det


INVERSE = re.compile(r"out/((?:inverse|reverse|sample|samples)(?:_of)?(?:_(\w+?))?)(_logdet)?")


def inverses(theirs, inverse_of, shape):
    """{name: Pair} of `inverse_<name>` of in/<name>, of `inverse_of_z` and of their log-dets; `inverse_of(u)` -> (inverse, its log-det).

    The input may be any one of this shape: the one that is named, or else another.
    """
    made, keys = {}, [key for key in theirs if re.match("in/|out/z$", key) and theirs.get(key).shape == shape]
    for key in [key for key in theirs if INVERSE.fullmatch(key)]:
        name, of, log_det = INVERSE.fullmatch(key).groups()
        starts = sorted(keys, key=lambda start: (start.partition("/")[2] != of, start != "in/u", start == "in/x", start))
        if not starts:
            theirs.leave([key], "the file has no latents of its shape, as in/u")
            continue
        read, value = nearest((([start], inverse_of(theirs.get(start))[log_det is not None]) for start in starts), theirs[key])
        theirs.answer("", read)
        made[key.removeprefix("out/")] = pair(value, theirs[key])
    return made


def order_and_pattern(config, theirs, tokens, features):
    """(the order of the entries, {quantity: Pair} of the projections): the other kind's projection is 0."""
    P, Q = theirs["in/channel_proj"], theirs["in/spatial_proj"]
    if config["coupling"] == "channels":
        return channel_order(order_of(P.T), tokens), {"no projection of tokens": pair(np.zeros_like(Q), Q)}
    pattern = matrix_of(config["spatial_kind"], config["h"], config["w"])
    made = {"no projection of channels": pair(np.zeros_like(P), P), "projection of tokens": pair(pattern, Q)}
    return spatial_order(order_of(Q.T), features), made


def gradient_of_context(theirs, bars):
    return {"gradient of context": pair(as_context(bars["context"]), theirs["gradin/context"])} if "gradin/context" in theirs else {}


# -- a model ---------------------------------------------------------------------------------------------------------

PREFIX_OF_MODEL = "couplings/dnn/"
PROJECTIONS = {kind: f"{kind}_coupling_masks-FREEZE_ME" for kind in ("channel", "spatial")}


def images(x):
    """(B, H, W, C) as (B, C, H, W)."""
    return np.moveaxis(x, -1, 1)


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def model_of(config, params, channels, height, width):
    """(the flow, [Network]): ours of their stacked parameters, for images of this size."""
    of_channels, of_tokens = (params[name] for name in PROJECTIONS.values())
    features, tokens = of_channels.shape[-1], of_tokens.shape[-1]
    patch = math.isqrt(features // channels)
    if (features, tokens) != (channels * patch**2, height * width // patch**2):
        raise Lacking(f"images of {height} x {width} and {channels} channels do not have {tokens} tokens of {features} features")
    stages = [Squeeze(patch, "blocks"), Reshape((features, height // patch, width // patch), (features * tokens,))]
    networks = []
    for k, (P, Q) in enumerate(zip(of_channels, of_tokens)):
        networks.append(Network({name.removeprefix(PREFIX_OF_MODEL): array[k] for name, array in params.items()
                                 if name.startswith(PREFIX_OF_MODEL)}))
        order = channel_order(order_of(P.T), tokens) if P.any() else spatial_order(order_of(Q.T), features)
        stages += jet_coupling(order, networks[-1].net, config["scale_factor"])
    return Flow(Inverse(Chain(stages)), StandardNormal(features * tokens)), networks


def model(config, theirs) -> dict:
    """{quantity: Pair} of a whole model; its loss is in bits, or a sum of cotangents `in/wz` and `in/wl`."""
    params, (x, made) = answered("param/", theirs), data(theirs)
    flow, networks = model_of(config, params, *x.shape[1:])
    names = [PREFIX_OF_MODEL + name for name in networks[0].places]
    theirs.only("param/", [*names, *PROJECTIONS.values()])
    grad = answered("grad/", theirs, names)
    if networks[0].context:
        flow = flow.at(context=as_context(theirs["in/context"]))
    f = flow.bijector.inner
    (z, log_det), pullback = f.vjp(x)
    to_image = Chain(f.stages[:2])

    def as_image(vectors):
        return channels_last(to_image.inverse(vectors))

    given = {"z": as_image(z), "logdet": log_det}
    wz, wl = (None, None) if name_of_cotangent(theirs, "l") is None else cotangents(theirs)
    if wz is not None:
        given["loss"] = (given["z"] * wz).sum() + (log_det * wl).sum()
        x_bar, bars = pullback(to_image.forward(images(wz)), wl)
        bars = {"bijector": {"inner": bars}} | {key: bars[key] for key in ("context",) if key in bars}
    else:
        bits, of_bits = loss_vjp(flow, x)
        of_log_det = log_det / (x[0].size * math.log(2))
        given |= {"loss": bits.mean(), "bpd": bits, "logdet_bits": of_log_det.mean(), "nll_bits": (bits + of_log_det).mean()}
        x_bar, bars = of_bits(1 / len(x))
    made |= compared(given, theirs)
    made |= inverses(theirs, lambda u: split(f, to_image.forward(images(u)), channels_last), channels_last(x).shape)
    made["gradients of parameters"] = gradients(gradients_of(networks, bars), grad)
    made |= gradient_in(theirs, "x", channels_last(x_bar)) | gradient_of_context(theirs, bars)
    return made | steps_of(config, theirs, params, lambda now: loss_and_gradients(config, now, x, theirs), PROJECTIONS.values())


def data(theirs):
    """(images x, {quantity: Pair}): x, or pixels with uniform noise in [0, 1) or already in [0, 1/127.5): in/u, in/noise or in/uniform."""
    held = theirs.get("in/x", theirs.get("out/x_dequantised"))
    noises = [f"in/{name}" for name in ("u", "noise", "uniform") if f"in/{name}" in theirs]
    readings = [(["in/x_uint8", noise], placed(theirs.get("in/x_uint8"), theirs.get(noise) * unit, 256, -1, HIGH))
                for noise in noises for unit in (1, 256 / (HIGH + 1)) if "in/x_uint8" in theirs]
    if not readings:
        return images(theirs["in/x"]), {}
    keys, x = nearest(readings, readings[0][1] if held is None else held)
    theirs.answer("", keys)
    made = {name: pair(x, theirs[key]) for name, key in (("data", "in/x"), ("x_dequantised", "out/x_dequantised")) if key in theirs}
    return images(theirs["in/x"] if "in/x" in theirs else x), made


def gradients_of(networks, bars):
    """{their name: gradient}, stacked, from the cotangents of a flow's parameters."""
    stages = bars["bijector"]["inner"]["stages"]
    each = [one.gradients(stages[str(3 + 3 * k)]) for k, one in enumerate(networks)]
    return {PREFIX_OF_MODEL + name: np.stack([one[name] for one in each]) for name in each[0]}


def loss_and_gradients(config, params, x, theirs):
    """(loss in bits, {their name: gradient}) of a model of these parameters of theirs."""
    flow, networks = model_of(config, params, *x.shape[1:])
    losses, pullback = loss_vjp(flow.at(context=as_context(theirs["in/context"])) if networks[0].context else flow, x)
    return losses.mean(), gradients_of(networks, pullback(1 / len(x))[1])


# -- projections -----------------------------------------------------------------------------------------------------

NAME = re.compile(r"out/(\d+)x(\d+)_ps(\d+)/(.+)")


def projections(config, theirs) -> dict:
    """{quantity: Pair} of matrices of patterns; those that are refused here must be another pattern than their name says."""
    made = {}
    for key in [key for key in theirs if NAME.fullmatch(key)]:
        height, width, patch, pattern = NAME.fullmatch(key).groups()
        rows, columns, P = int(height) // int(patch), int(width) // int(patch), theirs[key]
        name = key.removeprefix("out/")
        try:
            own = np.zeros_like(P) if pattern == "zero" else matrix_of(pattern, rows, columns)
            made[name] = pair(own, P)
        except ValueError:
            made[f"{name}, refused"] = pair(True, not is_pattern(P, pattern, rows, columns))
    return made


def matrix_of(pattern, rows, columns):
    """Their matrix: a column for each token, the first half in front."""
    order = np.concatenate(halves_of(pattern, rows, columns))
    return (np.arange(rows * columns)[:, None] == order).astype(np.int8)


def is_pattern(P, pattern, rows, columns):
    """Does a matrix of theirs permute, and have its halves the two parities of what its pattern's name says?"""
    if not np.array_equal(P.sum(0), np.ones(len(P))) or not np.array_equal(P.sum(1), np.ones(len(P))):
        return False
    i, j = np.divmod(np.argmax(P, 0), columns)
    along = {"checkerboard": i + j, "vstripes": j, "hstripes": i}[pattern.removesuffix("-inv")] % 2
    second = np.arange(len(P)) >= len(P) // 2
    return np.array_equal(along, second ^ pattern.endswith("-inv"))


KINDS = {"a coupling": (of_system("jet", "Coupling"), coupling), "a model": (of_system("jet", "Model"), model),
         "projections": (of_system("jet", "spatial projections"), projections)}


def holds(config, keys):
    return kind_of(KINDS, config, keys) is not None


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
