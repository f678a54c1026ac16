"""TarFlow, compared with its authors' numbers: blocks and whole models.

Their tokens are rows, (B, T, F), ours columns of (F, T), flattened.  Their log-det is a mean over tokens and features, ours a sum.
The vectors of positions belong to the tokens of the image; in a block that reverses the tokens, ours belong to the reversed ones.
"""

from __future__ import annotations

import re

import numpy as np

from refflow.core import Chain, Flow, Inverse, tree
from refflow.maps.conditioners import at_temperature, context_of_classes
from refflow.maps.dequantisation import bits_per_dim, placed
from refflow.models.tarflow import classes_of, denoised, guided_inverse, loss_vjp, tarflow, tarflow_block

from .comparison import PRACTICE, Lacking, answered, gradients, kind_of, numbers, of_system, pair, read_as

FILES = tuple(sorted(path.stem for path in PRACTICE.glob("tarflow_*.npz")))


# -- their arrays ----------------------------------------------------------------------------------------------------

def transposed(reverse):
    """(from their table of positions to ours, and back)."""
    return (lambda P: P[::-1].T, lambda P: P.T[::-1]) if reverse else (np.transpose, np.transpose)


def same(array):
    return array


def places(layers, classes, reverse):
    """{their name: (our path in the autoregressive map, from theirs to ours, from ours to theirs)} of a block."""
    found = {}

    def put(name, path, to=same, back=same):
        found[name] = (("net", "net", "net", "layers", *path), to, back)

    def dense(name, *path):
        put(f"{name}.weight", (*path, "W"))
        put(f"{name}.bias", (*path, "b"))

    def norm(name, *path):
        put(f"{name}.weight", (*path, "gain"))
        put(f"{name}.bias", (*path, "bias"))

    dense("proj_in", "0", "layer")
    put("pos_embed", ("1", "P"), *transposed(reverse))
    if classes:
        put("class_embed", ("2", "E"), lambda E: E[:, 0], lambda E: E[:, None])
    k = 2 + bool(classes)
    for i in range(layers):
        theirs, ours = f"attn_blocks.{i}", (str(k), "layers")
        attention, dense_layers = (*ours, str(2 * i), "inner", "layers"), (*ours, str(2 * i + 1), "inner", "layer", "layers")
        norm(f"{theirs}.attention.norm", *attention, "0", "layer")
        dense(f"{theirs}.attention.qkv", *attention, "1", "layer")
        dense(f"{theirs}.attention.proj", *attention, "3", "layer")
        norm(f"{theirs}.mlp.norm", *dense_layers, "0")
        dense(f"{theirs}.mlp.main.0", *dense_layers, "1")
        dense(f"{theirs}.mlp.main.2", *dense_layers, "3")
    dense("proj_out", str(k + 1), "layer")
    return found


class Block:
    """A block of theirs, of the arrays `params`: our stages, and where their parameters are."""

    def __init__(self, params, head_size, reverse):
        def shape(name):
            return params[name].shape

        channels, features = shape("proj_in.weight")
        layers = len({match[1] for match in map(re.compile(r"attn_blocks\.(\d+)\.").match, params) if match})
        classes, scaled = len(params.get("class_embed", ())), shape("proj_out.weight")[0] == 2 * features
        if not layers:
            raise Lacking("there is no layer 'attn_blocks.0' in it")
        self.at, self.places = int(reverse), places(layers, classes, reverse)
        expansion = shape("attn_blocks.0.mlp.main.0.weight")[0] // channels
        stages = tarflow_block(np.random.default_rng(0), features, len(params["pos_embed"]), channels, layers, reverse=reverse,
                               head_size=head_size, expansion=expansion, scaled=scaled, classes=classes)
        ours = tree.nest({path: to(params[name]) for name, (path, to, _) in self.places.items()})
        self.stages = [stage.replace(**ours) if i == self.at else stage for i, stage in enumerate(stages)]

    def gradients(self, stage_bars, names, prefix=""):
        """{their name: gradient}, from the cotangents of the stage that has parameters."""
        return {prefix + name: back(tree.at_path(stage_bars, path)) for name, (path, _, back) in self.places.items()
                if prefix + name in names}


def ours(tokens):
    """Tokens (B, T, F) as vectors of ours."""
    return np.swapaxes(tokens, 1, 2).reshape(len(tokens), -1)


def theirs_of(vectors, shape):
    """The reverse, for tokens of the shape (T, F)."""
    return np.swapaxes(vectors.reshape(len(vectors), *shape[::-1]), 1, 2)


def contexts(labels, classes, last=False):
    """The context of their labels; a negative one is the null class, or with `last`, as in their samples, the last class."""
    if not classes:
        return {}
    if labels is None:
        return {"context": context_of_classes(None, classes)}
    labels = np.asarray(labels).astype(int)
    if last:
        labels = np.where(labels < 0, classes + labels, labels)
    null = labels < 0
    return {"context": np.where(null[:, None], context_of_classes(None, classes), context_of_classes(np.where(null, 0, labels), classes))}


def at(f, labels, last=False):
    """A map or flow of ours at their labels."""
    context = contexts(labels, classes_of(f), last)
    return f.at(**context) if context else f


def labels_of(theirs, *keys):
    """Their labels under the first of these keys that the file has, or None; samples may have other labels, in/yrev, than data."""
    return next((theirs[key] for key in keys if key in theirs), None)


# -- a block ---------------------------------------------------------------------------------------------------------

def block(config, theirs) -> dict:
    """{quantity: Pair} of a block."""
    params, grad = answered("param/", theirs), answered("grad/", theirs)
    own = Block(params, config["head_dim"], config["permutation"] == "flip")
    f, x, wz, wl = Chain(own.stages), theirs["in/x"], theirs["in/wz"], theirs["in/wl"]
    y = labels_of(theirs, "in/y")
    (z, log_det), pullback = at(f, y).vjp(ours(x))
    x_bar, bars = pullback(ours(wz), wl / x[0].size)
    given = {"z": theirs_of(z, x.shape[1:]), "logdet": log_det / x[0].size}
    given["loss"] = (given["z"] * wz).sum() + (given["logdet"] * wl).sum()
    made = {name: pair(value, theirs[f"out/{name}"]) for name, value in given.items()}
    made["gradients of parameters"] = gradients(own.gradients(bars["stages"][str(own.at)], grad), grad)
    made["gradient of data"] = pair(theirs_of(x_bar, x.shape[1:]), theirs["gradin/x"])
    starts = {"z": ours(given["z"]), "u": ours(theirs["in/u"]) if "in/u" in theirs else None}
    return made | {name: pair(theirs_of(back, x.shape[1:]), theirs[f"out/{name}"])
                   for name, back in samples(config, theirs, f, starts)}


def samples(config, theirs, f, starts):
    """[(name of an output of the file, the samples)] of a chain of ours.

    `starts`: the latents, by the letter in the name.  The name says which labels were given: the samples' own, the data's, or a
    negative one for all, which takes the last class.
    """
    guided = dict(guidances(config, theirs))
    plain = {name.removeprefix("out/") for name in theirs if name.startswith("out/reverse")}
    for name in sorted(plain | guided.keys()):
        start = starts["z" if name.startswith("reverse_of_z") else "u"]
        labels = labels_of(theirs, "in/y") if name == "reverse_of_z" else labels_of(theirs, "in/yrev", "in/y")
        given = at(f, -np.ones(len(start), int) if "negative" in name else labels, last=True)
        if name in guided:
            guidance, what, temperature, annealed = guided[name]
            yield name, guided_inverse(given, at_temperature(at(f, None), temperature), start, guidance, what, annealed)
        else:
            yield name, given.inverse(start)


ARGUMENTS = {"guidance": 0.0, "guide_what": "ab", "attn_temp": 1.0, "annealed_guidance": False}


def guidances(config, theirs):
    """[(name of an output, its arguments of guidance, in the order of `ARGUMENTS`)].

    The configuration lists the arguments, by name or in this order, for the outputs (reverse_)guided0, (reverse_)guided1, ..., or for
    the outputs that it names.
    """
    given = config.get("guided", [])
    for i, (key, how) in enumerate(given.items() if isinstance(given, dict) else ((None, how) for how in given)):
        how = how if isinstance(how, dict) else dict(zip(ARGUMENTS, how))
        for name in (key or how.get("name"), f"reverse_{key}", f"reverse_guided{i}", f"guided{i}"):
            if f"out/{name}" in theirs:
                yield name, [how.get(argument, default) for argument, default in ARGUMENTS.items()]


# -- a model ---------------------------------------------------------------------------------------------------------

def model_of(config, params):
    """(the flow, [Block])."""
    count = len({match[1] for match in map(re.compile(r"blocks\.(\d+)\.").match, params) if match})
    if not count:
        raise Lacking("there is no layer 'blocks.0' in it")
    made = [Block({name.removeprefix(f"blocks.{k}."): array for name, array in params.items() if name.startswith(f"blocks.{k}.")},
                  config["head_dim"], k % 2 == 1) for k in range(count)]
    C, side, patch = config["in_channels"], config["img_size"], config["patch_size"]
    shell = tarflow(np.random.default_rng(0), (C, side, side), patch, channels=1, blocks=1, layers=1, head_size=1)
    stages = [*shell.bijector.inner.stages[:2], *(stage for one in made for stage in one.stages)]
    return Flow(Inverse(Chain(stages)), shell.base), made


def model(config, theirs) -> dict:
    """{quantity: Pair} of a whole model."""
    flow, blocks = model_of(config, answered("param/", theirs))
    grad, x, y = answered("grad/", theirs), theirs["in/x"], labels_of(theirs, "in/y")
    trained, D = at(flow, y), x[0].size
    tokens = (D // config["in_channels"] // config["patch_size"]**2, config["in_channels"] * config["patch_size"]**2)
    f = trained.bijector.inner
    (z, log_det), (losses, pullback) = f.forward_and_log_det(x), loss_vjp(trained, x)
    x_bar, bars = pullback(1 / len(x))
    made = {"z": theirs_of(z, tokens), "logdets": log_det / D, "loss": losses.mean()}
    images = [x]
    for stage in f.stages:
        images.append(stage.forward(images[-1]))
    ends = np.cumsum([len(one.stages) for one in blocks]) + 2
    made |= {f"outputs{k}": theirs_of(images[end], tokens) for k, end in enumerate(ends)}
    made = {name: pair(value, theirs[f"out/{name}"]) for name, value in made.items() if f"out/{name}" in theirs}
    gradient = {}
    for k, (one, start) in enumerate(zip(blocks, [2, *ends])):
        gradient |= one.gradients(bars["bijector"]["inner"]["stages"][str(start + one.at)], grad, f"blocks.{k}.")
    made["gradients of parameters"] = gradients(gradient, grad)
    made["gradient of data"] = pair(x_bar, theirs["gradin/x"])
    made |= sampled(config, theirs, flow, ends) if "in/noise" in theirs else {}
    if "out/bpd" in theirs:
        dequantised = placed(theirs["in/x_uint8"], theirs["in/u"], 256, -1, 1)
        log_prob = at(flow, None).log_prob(dequantised)
        made["x_dequantised"] = pair(dequantised, theirs["out/x_dequantised"])
        made["bpd"] = pair(bits_per_dim(log_prob, D, low=-1, high=1), theirs["out/bpd"])
    return made


def sampled(config, theirs, flow, ends):
    """{quantity: Pair} of samples, of what stands after each block, and of the step along the score."""
    noise, f = ours(theirs["in/noise"]), flow.bijector.inner
    z = noise * np.sqrt(ours(theirs["buffer/var"][None])) if "buffer/var" in theirs else noise
    made = {name: back for name, back in samples(config, theirs, f, {"u": z}) if "seq" not in name}
    labels = labels_of(theirs, "in/yrev", "in/y")
    given, to_image = at(f, labels, last=True).stages, Chain(f.stages[:2])
    made["reverse_seq0"] = to_image.inverse(noise)
    for k, (start, end) in enumerate(zip([2, *ends][::-1][1:], ends[::-1]), 1):
        z = Chain(given[start:end]).inverse(z)
        made[f"reverse_seq{k}"] = to_image.inverse(z)
    if "out/denoised" in theirs:
        made["denoised"] = denoised(at(flow, labels), theirs["out/reverse"], config["denoise_std"])
    return {name: pair(image, theirs[f"out/{name}"]) for name, image in made.items() if f"out/{name}" in theirs}


KINDS = {"a block": (of_system("tarflow", "MetaBlock"), block), "a model": (of_system("tarflow", "Model"), model)}


def holds(config, keys):
    return kind_of(KINDS, config, keys) is not None


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
