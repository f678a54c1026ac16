"""Whole models of two ports of Glow, compared with numbers that the ports computed: chaiyujin's and rosinality's.

Their arrays are laid out like ours.  What a file's configuration does not say is read from the names and shapes of its
parameters: kinds of couplings and of matrices, learned tops, classes, widths.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from refflow.core import Chain, Flow, Inverse
from refflow.maps.densities import StandardNormal
from refflow.maps.shape import FactorOut
from refflow.models.glow import CONVENTIONS, Builder, classifier, labelled_vjp

from .comparison import ZERO, Lacking, Pair, Part, answered, gradients, order_of, pair, under
from .glow_names import Entry, Table, walked


# -- names ------------------------------------------------------------------------------------------------------------

class Words(NamedTuple):
    """How a port names things; a step's and a prior's place are given the level, the step and the number of steps."""

    step: str
    prior: str
    bias: str                           # of an actnorm
    scale: str
    factors: tuple                      # L, U, log|s|, the sign of s, P
    net: str
    conv: str                           # of a layer that starts at 0, and of its scale
    zeros_scale: str

    def place(self, kind, level, step, steps):
        return getattr(self, kind).format(level=level, step=step, place=level * (steps + 2) + 1 + step)


WORDS = {
    "chaiyujin": Words("flow.layers.{place}.", "flow.layers.{place}.conv.", "bias", "logs", ("l", "u", "log_s", "sign_s", "p"),
                       "f.", "", "logs"),
    "rosinality": Words("blocks.{level}.flows.{step}.", "blocks.{level}.prior.", "loc", "scale",
                        ("w_l", "w_u", "w_s", "s_sign", "w_p"), "coupling.net.", "conv.", "scale")}


class Names(Table):
    """The names of one model of a port with L levels of K steps; `given` and `held`: their parameters and other arrays."""

    def __init__(self, port, given, held, L, K):
        super().__init__()
        self.words, self.given, self.held, path = WORDS[port], given, held, ("bijector", "inner")
        self.zeros = set()              # the arrays that are 0 at the start
        for level in range(L):
            for k in range(K):
                self.step(self.words.place("step", level, k, K), (*path, "stages"), 1 + 3 * k)
            prior = (*path, "stages", str(1 + 3 * K), "inner", "net")
            if level < L - 1:
                self.zeros_layer(self.words.place("prior", level, K, K), (*prior, "layers"), 0)
                path = (*path, "stages", str(2 + 3 * K), "rest")
        classes, top = "project_ycond.weight" in given, top_of(port, L)
        if f"{top}{self.words.conv}weight" in given:
            layers = (*prior, "layers")
            self.zeros_layer(top, (*layers, "0", "layers") if classes else layers, 0, CONVENTIONS[port].last_padding)
        if classes:
            self.linear("project_ycond.", (*prior, "net", "layers"))
            self.linear("project_class.", ("classifier", "layers"))

    def vector(self, name, path):
        shape = self.given[name].shape
        self.entries[name] = Entry(path, lambda v: v.reshape(shape), np.ravel)

    def array(self, name, path):
        self.entries[name] = Entry(path, np.array, np.array)

    def step(self, name, stages, first):
        self.actnorm(f"{name}actnorm.", (*stages, str(first)))
        self.matrix(name, (*stages, str(first + 1), "inner"))
        self.network(f"{name}{self.words.net}", (*stages, str(first + 2), "net", "layers"))

    def actnorm(self, name, path):
        self.vector(f"{name}{self.words.bias}", (*path, "bias"))
        self.vector(f"{name}{self.words.scale}", (*path, "s"))

    def matrix(self, name, path):
        if f"{name}invconv.weight" in self.given:
            shape = self.given[f"{name}invconv.weight"].shape
            self.entries[f"{name}invconv.weight"] = Entry((*path, "W"), lambda W: W.reshape(shape),
                                                          lambda W: W.reshape(shape[:2]))
        elif is_factored(self.words, name, self.given):
            self.factors(path, *(f"{name}invconv.{key}" for key in self.words.factors))
        for indices in indices_of(name, self.held):
            self.order(indices, (*path, "order"))

    def factors(self, path, lower, upper, log_scale, sign, P):
        """P L (U + diag(s))."""
        self.entries[lower] = Entry((*path, "lower"), np.array, lambda L: np.tril(L, -1))
        self.entries[upper] = Entry((*path, "upper"), np.array, lambda U: np.triu(U, 1))
        self.entries[log_scale] = Entry((*path, "scale"), lambda s: np.log(np.abs(s)),
                                        lambda log_s, sign: sign * np.exp(log_s), lambda s_bar, s: s_bar * s, (sign,))
        self.constants[P] = Entry((*path, "order"), lambda order: np.eye(len(order))[order], order_of)
        self.constants[sign] = Entry((*path, "scale"), np.sign, None)

    def order(self, name, path):
        self.constants[name] = Entry(path, np.array, lambda order: np.asarray(order, np.int64))
        self.constants[f"{name}_inverse"] = Entry(path, np.argsort, None)

    def network(self, name, layers):
        """Convolutions 0, 2 and 4, with an actnorm or biases, and ReLU between them."""
        i = 0
        for k in (0, 2):
            self.array(f"{name}{k}.weight", (*layers, str(i), "W"))
            if f"{name}{k}.bias" in self.given:
                self.vector(f"{name}{k}.bias", (*layers, str(i), "b"))
                i += 2
            else:
                self.actnorm(f"{name}{k}.actnorm.", (*layers, str(i + 1), "f"))
                i += 3
        self.zeros_layer(f"{name}4.", layers, i)

    def zeros_layer(self, name, layers, i, top=None):
        """`top`: the padding of a layer that sees zeros alone.  Its kernels have gradient 0 and no counterpart if the padding
        is 0; if it is 1, the sum of the kernels over their inputs is our one kernel.
        """
        weight, path = f"{name}{self.words.conv}weight", (*layers, str(i), "W")
        self.zeros |= {weight, f"{name}{self.words.conv}bias", f"{name}{self.words.zeros_scale}"}
        shape = self.given[weight].shape
        if top == "zeros":
            self.entries[weight] = Entry(path, lambda W: np.zeros(shape), lambda W: W[:, :0])
        elif top == "ones":
            self.entries[weight] = Entry(path, lambda W: np.broadcast_to(W, shape), lambda W: W.sum(1, keepdims=True))
        else:
            self.array(weight, path)
        self.vector(f"{name}{self.words.conv}bias", (*layers, str(i), "b"))
        self.vector(f"{name}{self.words.zeros_scale}", (*layers, str(i + 1), "f", "s"))

    def linear(self, name, layers):
        self.array(f"{name}weight", (*layers, "0", "W"))
        self.vector(f"{name}bias", (*layers, "0", "b"))
        self.vector(f"{name}logs", (*layers, "1", "f", "s"))


def top_of(port, L):
    return "learn_top." if port == "chaiyujin" else f"blocks.{L - 1}.prior."


def indices_of(name, held):
    """The name of the order of a step's permutation in [], or [] without one."""
    return [key for key in held if key.startswith(name) and key.endswith("indices")]


def is_factored(words, name, given):
    return f"{name}invconv.{words.factors[0]}" in given


# -- models -----------------------------------------------------------------------------------------------------------

class Model(NamedTuple):
    """Our flow with their parameters, the classifier or None, their names, and the shape of an image."""

    flow: Flow
    net: object
    names: Names
    image: tuple

    def params(self):
        return self.flow.params() | ({} if self.net is None else {"classifier": self.net.params()})

    def tops(self, x):
        """The latents before the top's prior, (N, C, H, W)."""
        return list(walked(self.flow.bijector.inner, x))[-1][0]


def model_of(port, L, K, image, given, held, onehot=None):
    """The model of these arrays of theirs."""
    words, names = WORDS[port], Names(port, given, held, L, K)
    absent = sorted(name for name, entry in names.constants.items() if entry.ours is not None and name not in held)
    if absent:
        raise Lacking(f"there is no {'buffer/' + absent[0]!r} in it" + (f", nor {len(absent) - 1} more" if absent[1:] else ""))
    builders = []
    for level in range(L):
        name, C = words.place("step", level, 0, K), image[0] * 2 ** (level + 2)
        hidden, outputs = (len(given[f"{name}{words.net}{key}weight"]) for key in ("0.", f"4.{words.conv}"))
        kinds = {C: "affine", C // 2: "additive"}
        if outputs not in kinds:
            raise ValueError(f"a coupling of {C} channels whose network has {outputs} outputs is neither affine nor additive")
        permutation = ("lu" if is_factored(words, name, given) else "1x1" if f"{name}invconv.weight" in given else "shuffle"
                       if indices_of(name, held) else "reverse")
        builders.append(Builder(np.random.default_rng(0), hidden, kinds[outputs], permutation, CONVENTIONS[port], np.float64))
    classes = given["project_ycond.weight"].shape[1] if "project_ycond.weight" in given else 0
    top = builders[-1].top_prior(image[0] * 2 ** (L + 1), f"{top_of(port, L)}{words.conv}weight" in given, classes)
    flow = Flow(Inverse(levels(builders, image, K, top)), StandardNormal(math.prod(image)))
    net = classifier(image[0] * 2 ** (L + 1), classes) if classes else None
    ours = names.ours(given | held)
    net = net and net.replace(**ours.pop("classifier"))
    flow = flow.replace(**ours)
    return Model(flow.at(context=onehot) if classes else flow, net, names, image)


def levels(builders, image, K, top):
    """The map of images, each level by its own builder."""
    whole = builders[0].level(image, len(builders), K, top)
    if not builders[1:]:
        return whole
    *stages, last = whole.stages
    C, H, W = image
    return Chain([*stages, FactorOut(last.keep, levels(builders[1:], (2 * C, H // 2, W // 2), K, top))])


def parts(theirs, prefix="param/"):
    """(their parameters, their other arrays), of which `model_of` says what it knows."""
    given, held = under(prefix, theirs), under("buffer/", theirs)
    kept = {name: array for name, array in given.items() if name.endswith(("indices", "indices_inverse"))}
    return Part(prefix, {name: array for name, array in given.items() if name not in kept}), held | kept


def known(theirs, prefix, names):
    """All arrays that have a place in our model count as read."""
    for where in (prefix, "buffer/"):
        theirs.answer(where, [name for name in (*names.entries, *names.constants) if f"{where}{name}" in theirs])


# -- what both have ---------------------------------------------------------------------------------------------------

def dequantised(config, theirs):
    """x = (v + u) / n - 1/2 for their pixels of n values and their noise."""
    n = 2 ** config["n_bits"]
    return np.floor(theirs["in/x_int"] / 2 ** (8 - config["n_bits"])) / n - 0.5 + theirs["in/uniform"] / n


def of_gradients(found, model, bars, x_bar, theirs, data):
    """The gradients of the loss; variables that are not in a file's loss have gradient 0 in ours."""
    grad = answered("grad/", theirs)
    ours = model.names.gradients(bars, model.params())
    found["gradients"] = gradients({name: bar for name, bar in ours.items() if name in grad or bar.any()}, grad)
    if f"gradin/{data}" in theirs:
        found["gradient of data"] = pair(x_bar, theirs[f"gradin/{data}"])


def samples(model, theirs):
    """Images of their noise, whose shapes say which level it belongs to."""
    keys = sorted(key for key in theirs if key.startswith("sample/eps"))
    if not keys and "sample/x" not in theirs:
        return {}
    shapes = model.flow.latent_shapes()
    of_shape = {theirs[key].shape[1:]: theirs[key] for key in keys}
    if set(of_shape) != set(shapes) or len(keys) != len(shapes):
        raise ValueError(f"the noise of its samples has shapes {sorted(of_shape)}, not {sorted(shapes)}")
    z = model.flow.pack([of_shape[shape] for shape in shapes])
    return {"samples": pair(model.flow.bijector.forward(z), theirs["sample/x"])}


def initial(port, L, K, theirs, x, held, onehot=None):
    """Data-dependent initialisation on x, from their drawn weights; centres in units of the channel's deviation, as a second
    actnorm finds channels whose mean is 0 up to rounding.
    """
    wanted = under("ddi/", theirs)
    if not wanted:
        return {}
    words = WORDS[port]
    ends = f"actnorm.{words.bias}", f"actnorm.{words.scale}"
    at_start = np.ones_like if CONVENTIONS[port].direct else np.zeros_like
    drawn = {name: np.zeros_like(v) if name.endswith(ends[0]) else at_start(v) if name.endswith(ends[1]) else v
             for name, v in wanted.items()}
    drawn_parts = Part("ddi/", {name: v for name, v in drawn.items() if not name.endswith(("indices", "indices_inverse"))})
    model = model_of(port, L, K, x.shape[1:], drawn_parts, held, onehot)
    known(theirs, "ddi/", model.names)
    model = model._replace(flow=model.flow.initialised(x, np.random.default_rng(0)))
    found = model.names.theirs(model)
    scale = (lambda s: s) if CONVENTIONS[port].direct else np.exp
    scales = {name: scale(v) for name, v in wanted.items() if name.endswith(ends[1])}
    centres, ours = ({name: v[name] * scale(wanted[name.removesuffix(words.bias) + words.scale])
                      for name in wanted if name.endswith(ends[0])} for v in (wanted, found))
    zeros = {name: (np.abs(ours[name]) <= ZERO) & (np.abs(v) <= ZERO) for name, v in centres.items()}
    others = {name: v for name, v in wanted.items() if name in model.names.zeros}
    return {"other initial values": Pair({name: np.zeros_like(v) for name, v in others.items()}, others),
            "initial scales": Pair({name: scale(found[name]) for name in scales}, scales),
            "initial centres": Pair(ours, centres, zeros, 1.0, "the channel's deviation")}


# -- chaiyujin/glow-pytorch -------------------------------------------------------------------------------------------

def chaiyujin(config, theirs) -> dict:
    """{quantity: Pair} of a whole model; its loss is in bits per dimension."""
    L, K, x = config["L"], config["K"], theirs["in/z0"]
    N, D = len(x), x[0].size
    given, held = parts(theirs)
    zeros = theirs["param/prior_h"] if "prior_h" in given else np.zeros(1)
    if zeros.any() or zeros.size not in (1, 2 * x.size // 2 ** (L - 1)):
        raise ValueError(f"prior_h must be zeros for the top of {N} images, not of shape {zeros.shape}")
    onehot = classes_of(theirs, given, N)
    model = model_of("chaiyujin", L, K, x.shape[1:], given, held, onehot)
    known(theirs, "param/", model.names)
    check_inverses(theirs, model.names)
    check_constants(theirs)
    log_prob, pullback = model.flow.log_prob_vjp(x)
    levels_of_loss = re.search(r"log\((\d+)\)", config.get("loss", ""))
    n = int(levels_of_loss[1]) if levels_of_loss else 2 ** config["n_bits"]
    bits = -(log_prob - D * math.log(n)) / (D * math.log(2))
    weight, extra = config.get("weight_y", 0) if onehot is not None else 0, 0.0
    b = np.full(N, -1 / (N * D * math.log(2)))
    if weight:
        (_, bits_y), labelled = labelled_vjp(model.flow, model.net, x, onehot.argmax(-1))
        x_bar, bars, net_bars = labelled(b, np.full(N, weight * math.log(2) / N))
        bars, extra = bars | {"classifier": net_bars}, weight * math.log(2) * bits_y.mean()
    else:
        x_bar, bars = pullback(b)
        bars = bars if model.net is None else bars | {"classifier": zeros_like(model.net.params())}
    *_, (h, _, m, q) = walked(model.flow.bijector.inner, x)
    found = {"data": pair(dequantised(config, theirs), x), "latents": pair(h, theirs["out/z"]),
             "objective": pair(log_prob - D * math.log(n), theirs["out/objective"]),
             "bits per dimension": pair(bits, theirs["out/bits_per_dim"]), "loss": pair(bits.mean() + extra, theirs["out/loss"]),
             "means of the top": pair(np.broadcast_to(m, h.shape), theirs["out/prior_mean"]),
             "log-scales of the top": pair(np.broadcast_to(q, h.shape), theirs["out/prior_logs"])}
    if "out/y_logits" in theirs:
        found["logits of classes"] = pair(model.net.forward(h.mean((-2, -1))), theirs["out/y_logits"])
    of_gradients(found, model, bars, x_bar, theirs, "z0")
    return found | own_noise(model, theirs) | samples(model, theirs) | initial("chaiyujin", L, K, theirs, x, held, onehot)


def classes_of(theirs, given, N):
    """Their classes (N, classes), one of them 1; None for a model without classes."""
    if "project_ycond.weight" not in given:
        return None
    count = given["project_ycond.weight"].shape[1]
    given = [theirs[key] for key in ("in/y_onehot", "in/y") if key in theirs] or [theirs["in/y"]]
    onehot, *others = (np.asarray(y, float) if y.shape == (N, count) else np.eye(count)[np.asarray(y, np.int64)] for y in given)
    if others and not np.array_equal(onehot, others[0]):
        raise ValueError("in/y_onehot and in/y are different classes")
    return onehot


def check_inverses(theirs, names):
    """Their second array of a permutation undoes the first."""
    held = under("buffer/", theirs) | under("param/", theirs)
    for name in names.constants:
        undone = held.get(f"{name}_inverse")
        if undone is not None and not np.array_equal(np.argsort(held[name]), undone):
            raise ValueError(f"{name}_inverse does not undo {name}")


def zeros_like(nested):
    return {key: zeros_like(value) if isinstance(value, dict) else np.zeros_like(value) for key, value in nested.items()}


def own_noise(model, theirs):
    """The port's own loss: normal noise on pixels, and per pixel what should be per number."""
    if not any(key.startswith("port/") for key in theirs):
        return {}
    x = theirs["port/x"] + theirs["port/noise"]
    positions = x.shape[-2] * x.shape[-1]
    nll = -(model.flow.log_prob(x) - math.log(256) * positions) / (math.log(2) * positions)
    top = model.tops(x)
    found = {"port's latents": pair(top, theirs["port/z"]), "port's loss": pair(nll, theirs["port/nll"])}
    if "port/y_logits" in theirs:
        found["port's logits of classes"] = pair(model.net.forward(top.mean((-2, -1))), theirs["port/y_logits"])
    return found


# -- rosinality/glow-pytorch ------------------------------------------------------------------------------------------

def rosinality(config, theirs) -> dict:
    """{quantity: Pair} of a whole model; its loss is in bits per dimension of images of three channels."""
    L, K, x = config["n_block"], config["n_flow"], theirs["in/x"]
    N, said = len(x), re.search(r"D=(\d+(?:\*\d+)*)", config.get("loss", ""))
    D = math.prod(map(int, said[1].split("*"))) if said else x[0].size
    given, held = parts(theirs)
    model = model_of("rosinality", L, K, x.shape[1:], given, held)
    known(theirs, "param/", model.names)
    check_constants(theirs)
    log_prob, pullback = model.flow.log_prob_vjp(x)
    x_bar, bars = pullback(np.full(N, -1 / (N * D * math.log(2))))
    log_p, log_det, finished = 0.0, 0.0, []
    for level, (h, each, m, q) in enumerate(walked(model.flow.bijector.inner, x), 1):
        z = h if level == L else np.split(h, 2, 1)[1]
        log_p = log_p - (math.log(2 * math.pi) / 2 + q + (z - m) ** 2 * np.exp(-2 * q) / 2).sum((1, 2, 3))
        log_det, finished = log_det + each, [*finished, z]
    bits = (D * config["n_bits"] * math.log(2) - log_prob) / (D * math.log(2))
    found = {"data": pair(dequantised(config, theirs), x), "log p of latents": pair(log_p, theirs["out/log_p"]),
             "log-det": pair(log_det, np.broadcast_to(theirs["out/logdet"], log_det.shape)),
             "loss": pair(bits.mean(), theirs["out/loss"]),
             "round trip": pair(model.flow.bijector.forward(model.flow.bijector.inverse(x)), theirs["out/reconstruct"])}
    found |= {f"latents {i}": pair(z, theirs[f"out/z{i}"]) for i, z in enumerate(finished)}
    of_gradients(found, model, bars, x_bar, theirs, "x")
    return found | samples(model, theirs) | initial("rosinality", L, K, theirs, x, held)


def check_constants(theirs):
    """Their masks and flags say what the equations say."""
    for name, array in under("buffer/", theirs).items():
        n = len(np.atleast_1d(array))
        wanted = {"u_mask": np.triu(np.ones((n, n)), 1), "l_mask": np.tril(np.ones((n, n)), -1), "l_eye": np.eye(n),
                  "eye": np.eye(n), "initialized": np.array(1)}.get(name.rpartition(".")[2])
        if wanted is not None and not np.array_equal(theirs[f"buffer/{name}"], wanted):
            raise ValueError(f"buffer/{name} is not what it is in the port's code")
