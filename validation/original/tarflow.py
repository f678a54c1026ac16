"""TarFlow, compared with its authors' numbers: blocks and whole models.

Their tokens are rows, (B, T, F), ours columns of (F, T), flattened.  Their log-det is a mean over tokens and features, ours a
sum.  The vectors of positions belong to the tokens of the image; in a block that reverses the tokens, ours belong to the reversed
ones.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from refflow.core import Chain, Flow, Inverse, tree
from refflow.maps.conditioners import at_temperature, context_of_classes
from refflow.maps.densities import DiagonalNormal
from refflow.maps.dequantisation import bits_per_dim, placed
from refflow.models.tarflow import adapted_prior, classes_of, denoised, guided_inverse, loss_vjp, tarflow, tarflow_block

from .comparison import (PRACTICE, Lacking, answered, cotangents, gradient_in, gradients, kind_of, nearest, numbers, of_system,
                         pair, read_as, runs_of, under)
from .steps import steps_of

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
    of_class = context_of_classes(np.where(null, 0, labels), classes)
    return {"context": np.where(null[:, None], context_of_classes(None, classes), of_class)}


def at(f, labels, last=False):
    """A map or flow of ours at their labels."""
    context = contexts(labels, classes_of(f), last)
    return f.at(**context) if context else f


LABELS = re.compile(r"in/(y|label|labels|class|classes)(_?\w+)?")
OF_DATA = re.compile(r"in/(y|label|labels|class|classes)")


def labels_of(theirs):
    """The labels of the data, or None."""
    key = next((key for key in theirs if OF_DATA.fullmatch(key)), None)
    return None if key is None else theirs[key]


class Reading(NamedTuple):
    """Labels of samples, None for no class, and the keys that they are from.

    `last`: does a negative label stand for the last class?  Else it stands for no class.
    """

    keys: list
    labels: np.ndarray | None
    last: bool = True


def labels_of_samples(theirs, name, count):
    """[Reading] of labels that `count` samples `name` may be given.

    A name says it, or they have labels of their own, or the labels of the data.  Labels of their own have an ending, as in
    in/y_rev; the name says so if it ends alike.  Data that are mapped there and back have their own labels; a negative label then
    stands for no class.
    """
    if "none" in name.split("_"):
        return [Reading([], None)]
    keys = sorted((key for key in theirs if LABELS.fullmatch(key)),
                  key=lambda key: (not alike(key, name), bool(OF_DATA.fullmatch(key)), key))
    found = [Reading([key], theirs.get(key)) for key in keys]
    if "negative" in name:
        return [Reading([], -np.ones(count, int)), *(one for one in found if (one.labels < 0).any())]
    return [*found, *(one._replace(last=False) for one in found if (one.labels < 0).any())] or [Reading([], None)]


def alike(key, name):
    return name.replace("_", "").endswith(key.removeprefix("in/").replace("_", ""))


# -- a block ---------------------------------------------------------------------------------------------------------

def block(config, theirs) -> dict:
    """{quantity: Pair} of a block."""
    own = Block(answered("param/", theirs), config["head_dim"], config["permutation"] == "flip")
    theirs.only("param/", own.places)
    grad = answered("grad/", theirs, own.places)
    f, x, y, (wz, wl) = Chain(own.stages), theirs["in/x"], labels_of(theirs), cotangents(theirs)
    (z, log_det), pullback = at(f, y).vjp(ours(x))
    given = {"z": theirs_of(z, x.shape[1:]), "logdet": log_det / x[0].size}
    if wz is not None:
        x_bar, bars = pullback(ours(wz), wl / x[0].size)
        given["loss"] = (given["z"] * wz).sum() + (given["logdet"] * wl).sum()
    asked = any("forward_none" in key for key in theirs)
    free, free_log_det = at(f, None).forward_and_log_det(ours(x)) if asked else (None, None)
    if free is not None:
        given |= {"forward_none_z": theirs_of(free, x.shape[1:]), "forward_none_logdet": free_log_det / x[0].size}
    made = compared(given, theirs)
    if "loss" in given:
        made["gradients of parameters"] = gradients(own.gradients(bars["stages"][str(own.at)], grad), grad)
        made |= gradient_in(theirs, "x", theirs_of(x_bar, x.shape[1:]))
    starts = {"z": (["out/z"], ours(given["z"]))} | {letter: ([f"in/{letter}"], ours(theirs.get(f"in/{letter}")))
                                                     for letter in ("u", "z", "noise") if f"in/{letter}" in theirs}
    return made | samples(config, theirs, f, starts, lambda v: theirs_of(v, x.shape[1:]))


def compared(given, theirs):
    """{name: Pair} of results of ours that the file has, under `out/`; "logdets" is "logdet"."""
    named = given | {other: given[name] for name, other in SPELLINGS.items() if name in given}
    return {name: pair(value, theirs[f"out/{name}"]) for name, value in named.items() if f"out/{name}" in theirs}


SPELLINGS = {"logdet": "logdets", "logdets": "logdet", "forward_none_logdet": "forward_none_logdets"}
SAMPLES = re.compile(r"out/(?:reverse|inverse|sample|samples|guided|cfg|decode|decoded)(?:_|\d|$)")


def samples(config, theirs, f, starts, shown):
    """{name of an output of the file: Pair} of samples of a chain of ours, and their inverses.

    `starts`: {letter in a name: ([keys], latents)}; a name without a letter takes the latents of the first letter but z; `shown`:
    from our vectors to what the file holds.  The name says which labels were given: the samples' own, the data's, or a negative
    one for all, which takes the last class.
    """
    runs, made = guidances(config, theirs), {}
    for key in sorted(key for key in theirs if SAMPLES.match(key) and "_seq" not in key and not key.endswith("logdet")):
        name = key.removeprefix("out/")
        letter = re.search(r"_(?:of_)?(u|z|noise)(?:_|$)", name)
        letter = letter[1] if letter and letter[1] in starts else next((one for one in starts if one != "z"), None)
        if letter is None:
            theirs.leave([key], "the file has no latents of samples")
        elif name not in runs and re.search(r"guided|cfg", name):
            theirs.leave([key], "its configuration does not say the guidance")
        elif isinstance(runs.get(name), str):
            theirs.leave([key], runs[name])
        else:
            readings = (([*given.keys, *held], shown(sampled(f, start, given, runs.get(name))))
                        for held, start in variants(starts[letter]) for given in labels_of_samples(theirs, name, len(start)))
            keys, value = nearest(readings, theirs[key])
            theirs.answer("", keys)
            made[name] = pair(value, theirs[key])
    return made


def variants(start):
    """[(keys, latents)] of one start, or of several that the file does not tell apart."""
    return start if isinstance(start, list) else [start]


def sampled(f, start, given, run=None):
    """The inverse of a chain at a `Reading` of labels, with guidance if there is a run of it."""
    given = at(f, given.labels, given.last)
    if run is None:
        return given.inverse(start)
    guidance, what, temperature, annealed = run
    return guided_inverse(given, at_temperature(at(f, None), temperature), start, guidance, what, annealed)


ARGUMENTS = {"guidance": 0.0, "guide_what": "ab", "attn_temp": 1.0, "annealed_guidance": False}


SAID_BESIDE = {"name", "note", "notes", "labels"}


def guidances(config, theirs):
    """{name of an output: its arguments of guidance, in the order of `ARGUMENTS`, or why it cannot be read}.

    The configuration lists the arguments, by name or in this order, in "guided" or "cfg_runs", for the outputs (reverse_)guided0,
    (reverse_)guided1, ..., cfg0, ..., or for the outputs that it names.
    """
    found = {}
    for i, (key, how) in enumerate(runs_of(config, "guided|guidance|cfg")):
        how = how if isinstance(how, dict) else dict(zip(ARGUMENTS, how))
        strange = sorted(how.keys() - ARGUMENTS.keys() - SAID_BESIDE)
        run = [how.get(argument, default) for argument, default in ARGUMENTS.items()]
        names = {f"{start}{word}{end}" for start in ("", "reverse_", "reverse_u_")
                 for word in ("", "guided", "cfg") for end in (i, key)}
        found |= {name: f"its guidance says {strange[0]!r}, which nothing here reads" if strange else run
                  for name in names | {how.get("name")} if f"out/{name}" in theirs}
    return found


# -- a model ---------------------------------------------------------------------------------------------------------

def model_of(config, params):
    """(the flow, [Block])."""
    count = len({match[1] for match in map(re.compile(r"blocks\.(\d+)\.").match, params) if match})
    if not count:
        raise Lacking("there is no layer 'blocks.0' in it")
    made = [Block(under(f"blocks.{k}.", params), config["head_dim"], k % 2 == 1) for k in range(count)]
    C, side, patch = config["in_channels"], config["img_size"], config["patch_size"]
    shell = tarflow(np.random.default_rng(0), (C, side, side), patch, channels=1, blocks=1, layers=1, head_size=1)
    stages = [*shell.bijector.inner.stages[:2], *(stage for one in made for stage in one.stages)]
    return Flow(Inverse(Chain(stages)), shell.base), made


def model(config, theirs) -> dict:
    """{quantity: Pair} of a whole model."""
    params = answered("param/", theirs)
    flow, blocks = model_of(config, params)
    names = [f"blocks.{k}.{name}" for k, one in enumerate(blocks) for name in one.places]
    theirs.only("param/", names)
    grad, x, y = answered("grad/", theirs, names), theirs["in/x"], labels_of(theirs)
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
    if any("forward_none" in key for key in theirs):
        free, free_log_det = at(flow, None).bijector.inner.forward_and_log_det(x)
        made |= {"forward_none_z": theirs_of(free, tokens), "forward_none_logdet": free_log_det / D}
    made = compared(made, theirs)
    made["gradients of parameters"] = gradients(gradients_of(blocks, ends, bars, grad), grad)
    made |= gradient_in(theirs, "x", x_bar)
    made |= variances_after(theirs, flow, z, tokens) | of_samples(config, theirs, flow, ends)
    if "out/bpd" in theirs or "out/x_dequantised" in theirs:
        made |= in_bits(theirs, flow, D)
    return made | steps_of(config, theirs, params, lambda now: loss_and_gradients(config, now, x, y))


def gradients_of(blocks, ends, bars, names):
    """{their name: gradient}, from the cotangents of a flow's parameters."""
    found = {}
    for k, (one, start) in enumerate(zip(blocks, [2, *ends])):
        found |= one.gradients(bars["bijector"]["inner"]["stages"][str(start + one.at)], names, f"blocks.{k}.")
    return found


def loss_and_gradients(config, params, x, y):
    """(loss, {their name: gradient}) of a model of these parameters of theirs."""
    flow, blocks = model_of(config, params)
    losses, pullback = loss_vjp(at(flow, y), x)
    ends = np.cumsum([len(one.stages) for one in blocks]) + 2
    return losses.mean(), gradients_of(blocks, ends, pullback(1 / len(x))[1], params)


def in_bits(theirs, flow, D):
    """{quantity: Pair} of the data's pixels with their noise, and of their bits per dimension, which see no class."""
    keys = [["in/x_uint8", f"in/{noise}"] for noise in ("u", "uniform", "noise")]
    readings = [(both, placed(*(theirs.get(key) for key in both), 256, -1, 1)) for both in keys
                if set(both) <= theirs.keys() and theirs.get(both[0]).shape == theirs.get(both[1]).shape]
    if not readings:
        left = [key for key in theirs if re.match("out/(bpd|x_deq)", key)]
        theirs.leave(left, "the file lacks the pixels in/x_uint8 or their noise in/u")
        return {}
    keys, x = nearest(readings, theirs.get("out/x_dequantised", readings[0][1]))
    theirs.answer("", keys)
    made = {"x_dequantised": x, "bpd": bits_per_dim(at(flow, None).log_prob(x), D, low=-1, high=1)}
    return compared(made, theirs)


# -- the prior of a model without scales -------------------------------------------------------------------------------

def variances_after(theirs, flow, z, tokens):
    """{quantity: Pair} of the variances after n updates with the data's latents z, from those before."""
    made = {}
    for key in theirs:
        match = re.fullmatch(r"buffer/(.+)_after_(\d+)_(?:updates?|steps?)", key)
        if match:
            start = next((f"buffer/{match[1]}{end}" for end in ("_before", "") if f"buffer/{match[1]}{end}" in theirs), None)
            variances = np.ones(tokens) if start is None else theirs[start]
            base = DiagonalNormal(np.zeros(z.shape[1]), np.sqrt(ours(variances[None])[0]))
            prior = Flow(flow.bijector, base)
            for _ in range(int(match[2])):
                prior = adapted_prior(prior, z)
            made[key.removeprefix("buffer/")] = pair(theirs_of(prior.base.scale[None] ** 2, tokens)[0], theirs[key])
    return made


def latents_of(theirs):
    """[([keys], latents)] of the noise of samples, times the standard deviations that a model without scales has in a buffer."""
    noise = next((f"in/{name}" for name in ("noise", "z", "u") if np.ndim(theirs.get(f"in/{name}")) == 3), None)
    if noise is None:
        return []
    held = sorted((key for key in theirs if re.match(r"buffer/(var|prior)", key)),
                  key=lambda key: ("before" in key, "after" not in key))
    z = ours(theirs.get(noise))
    return [([noise, key], z * np.sqrt(ours(theirs.get(key)[None]))) for key in held] or [([noise], z)]


def of_samples(config, theirs, flow, ends):
    """{quantity: Pair} of samples, of what stands after each block, and of the step along the score."""
    f, starts = flow.bijector.inner, latents_of(theirs)
    if not starts:
        left = [key for key in theirs if re.match("out/(reverse|sample|guided|denoised)", key)]
        theirs.leave(left, "the file has no noise of samples, in/noise")
        return {}
    made = samples(config, theirs, f, {"u": starts, "noise": starts, "z": starts}, np.asarray)
    made |= in_sequence(theirs, f, starts, ends)
    key = next((key for key in ("out/denoised", "out/reverse_denoised") if key in theirs), None)
    if key is not None:
        made |= denoised_of(config, theirs, flow, key)
    return made


def in_sequence(theirs, f, starts, ends):
    """{reverse_seq<k>: Pair}: the images of what stands after k blocks of the way back, the noise itself first."""
    made, to_image = {}, Chain(f.stages[:2])
    if "out/reverse_seq0" in theirs:
        made["reverse_seq0"] = pair(to_image.inverse(ours(theirs[starts[0][0][0]])), theirs["out/reverse_seq0"])
    for k in range(1, len(ends) + 1):
        if f"out/reverse_seq{k}" not in theirs:
            continue
        first = [2, *ends][len(ends) - k]
        readings = (([*given.keys, *held], to_image.inverse(Chain(at(f, given.labels, given.last).stages[first:]).inverse(z)))
                    for held, z in starts for given in labels_of_samples(theirs, "reverse", len(z)))
        keys, image = nearest(readings, theirs[f"out/reverse_seq{k}"])
        theirs.answer("", keys)
        made[f"reverse_seq{k}"] = pair(image, theirs[f"out/reverse_seq{k}"])
    return made


def std_of(config, theirs):
    """The standard deviation of the noise that denoising removes, from the configuration or an input, or None."""
    named = re.compile(r"(denoise_|denoising_)?(noise_)?(std|sigma)|denoise_noise_std")
    said = next((held for key, held in config.items() if named.fullmatch(key) and held is not None), None)
    if said is None:
        key = next((key for key in theirs if key[:3] == "in/" and named.fullmatch(key[3:]) and theirs.get(key).size == 1), None)
        said = None if key is None else theirs[key].item()
    return said


def denoised_of(config, theirs, flow, key):
    std = std_of(config, theirs)
    if std is None:
        theirs.leave([key], "the configuration does not say the noise that is removed, 'denoise_std'")
        return {}
    starts = [start for start in ("in/denoise_x", "in/x_noisy", "out/reverse", "in/x") if start in theirs]
    readings = (([*given.keys, start], denoised(at(flow, given.labels, last), theirs.get(start), std)) for start in starts
                for given in labels_of_samples(theirs, "reverse", len(theirs.get(start))) for last in (given.last, False))
    keys, image = nearest(readings, theirs[key])
    theirs.answer("", keys)
    return {key.removeprefix("out/"): pair(image, theirs[key])}


KINDS = {"a block": (of_system("tarflow", "MetaBlock"), block), "a model": (of_system("tarflow", "Model"), model)}


def holds(config, keys):
    return kind_of(KINDS, config, keys) is not None


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
