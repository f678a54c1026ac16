"""Values of refflow made from a library's raw parameters, and the way back from their cotangents to the raw gradients."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Callable

import numpy as np

from refflow import BatchNorm, Chain, Flow, Inverse, Permutation, PLULinear
from refflow.maps.autoregressive import Autoregressive
from refflow.maps.conditioners import Dense, MaskedDense, ReLU, Residual, Sequential, TanhActivation
from refflow.maps.coupling import Coupling
from refflow.maps.densities import StandardNormal

SCHEMA = "refflow/raw/1"


@dataclass
class Model:
    """One recorded model: settings, raw parameters and gradients by name, buffers, and the arrays of the library's answers."""

    library: str
    name: str
    config: dict
    raw: dict
    grad: dict
    buffers: dict
    answers: dict
    versions: dict
    read: set = field(default_factory=set)

    def parameter(self, name):
        """A raw parameter, each of which is read once."""
        if name in self.read:
            raise ValueError(f"{self.library} {self.name}: {name} is read twice")
        self.read.add(name)
        return self.raw[name]

    def used(self, name):
        """Does log_prob depend on a raw parameter?"""
        return bool(np.any(self.grad[name]))

    def unread(self):
        """The raw parameters that log_prob depends on and nothing has read."""
        return sorted(name for name in set(self.raw) - self.read if self.used(name))


def models(path) -> list[Model]:
    """The models of a file that an exporter has written."""
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    meta = json.loads(bytes(arrays.pop("meta")))
    if meta["schema"] != SCHEMA:
        raise ValueError(f"{path}: schema {meta['schema']!r}, not {SCHEMA!r}")
    return [model(meta, arrays, name) for name in meta["models"]]


def model(meta, arrays, name) -> Model:
    about = meta["models"][name]
    parts = {kind: unpacked(arrays[f"{name}/{kind}"], shapes) for kind, shapes in about["parts"].items()}
    answers = {key.removeprefix(f"{name}/"): array for key, array in arrays.items()
               if key.startswith(f"{name}/") and key.removeprefix(f"{name}/") not in parts}
    return Model(meta["library"], name, about["config"], parts["raw"], parts["grad"], parts["buffers"], answers,
                 meta["versions"])


def unpacked(vector, shapes):
    ends = np.cumsum([int(np.prod(shape)) for _, shape in shapes])
    pieces = np.split(vector, ends[:-1]) if shapes else []
    return {name: piece.reshape(shape) for (name, shape), piece in zip(shapes, pieces)}


# -- values and their raw gradients -----------------------------------------------------------------------------------

@dataclass(frozen=True)
class Loaded:
    """A value, and `pull(params_bar)` -> {raw name: gradient}."""

    value: object
    pull: Callable


def without_parameters(value):
    return Loaded(value, lambda bar: {})


def fields(make, **named):
    """A value whose fields are raw parameters, {field: (raw name, array)}."""
    return Loaded(make(**{key: array for key, (_, array) in named.items()}),
                  lambda bar: {name: bar[key] for key, (name, _) in named.items()})


def whole(make, **parts):
    """A value whose components are loaded: {field: Loaded}."""
    return Loaded(make(**{key: part.value for key, part in parts.items()}), lambda bar: merged(
        part.pull(bar.get(key, {})) for key, part in parts.items()))


def several(make, key, parts):
    """A value with a tuple of loaded components in one field."""
    return Loaded(make([part.value for part in parts]),
                  lambda bar: merged(part.pull(bar.get(key, {}).get(str(i), {})) for i, part in enumerate(parts)))


def merged(dictionaries):
    return {name: value for dictionary in dictionaries for name, value in dictionary.items()}


# -- networks ---------------------------------------------------------------------------------------------------------

def dense(m, prefix, **layout):
    """A layer by the names "prefix.weight" and "prefix.bias"; `layout` as for `affine_parameters`."""
    (W, b), pull = affine_parameters(m, prefix, **layout)
    return Loaded(Dense(W, b), pull)


def masked_dense(m, prefix, mask, **layout):
    (W, b), pull = affine_parameters(m, prefix, **layout)
    return Loaded(MaskedDense(W, np.asarray(mask, bool), b), pull)


def affine_parameters(m, prefix, rows=None, columns=None, transposed=False, names=("weight", "bias")):
    """((W, b), pull) of a layer.

    `rows` and `columns`: the outputs and inputs that refflow wants, in its order; `transposed` for a library that keeps
    (inputs, outputs).
    """
    weight, bias = (f"{prefix}{name}" for name in names)
    W, b = m.parameter(weight), m.parameter(bias)
    given = W.T if transposed else W
    rows, columns = (np.arange(n) if chosen is None else chosen for n, chosen in zip(given.shape, (rows, columns)))

    def pull(bar):
        W_bar, b_bar = np.zeros(given.shape), np.zeros(b.size)
        W_bar[np.ix_(rows, columns)], b_bar[rows] = bar["W"], bar["b"]
        return {weight: W_bar.T if transposed else W_bar, bias: b_bar.reshape(b.shape)}

    return (given[np.ix_(rows, columns)], b.ravel()[rows]), pull


def sequential(*parts):
    return several(Sequential, "layers", parts)


def relu():
    return without_parameters(ReLU())


def tanh():
    return without_parameters(TanhActivation())


def residual(*parts):
    return whole(Residual, inner=sequential(*parts))


# -- flows ------------------------------------------------------------------------------------------------------------

def coupling(passes, net, family, layout="interleaved"):
    return whole(lambda net: Coupling(np.asarray(passes, bool), net, family, layout), net=net)


def autoregressive(net, family, layout="interleaved"):
    return whole(lambda net: Autoregressive(net, family, layout), net=net)


def plu(m, names, bias, convention, order=None):
    """y = P L (U + S) x + bias by a convention of triangular factors, from the raw parameters that it takes in turn.

    `bias` is None for a library that has none.
    """
    raw, size = [m.parameter(name) for name in names], m.answers["x"].shape[-1]
    shift = np.zeros(size) if bias is None else m.parameter(bias)
    made, pullback = convention(size).unchecked(shift.dtype).vjp(np.concatenate([np.ravel(array) for array in raw]))
    shapes = [(name, array.shape) for name, array in zip(names, raw)]
    return Loaded(PLULinear(order=np.arange(size) if order is None else order, shift=shift, **made),
                  lambda bar: unpacked(pullback(bar)[0], shapes) | ({} if bias is None else {bias: bar["shift"]}))


def normalisation(m, convention, mean, var, gain, bias):
    """Batch normalisation by a convention, from the names of two raw parameters."""
    raw, shift = m.parameter(gain), m.parameter(bias)
    made, pullback = convention(raw.size).unchecked(raw.dtype).vjp(raw)
    return Loaded(BatchNorm(mean, var, bias=shift, **made), lambda bar: {gain: pullback(bar)[0], bias: bar["bias"]})


def permutation(order):
    """x_i = z_{order_i}."""
    return without_parameters(Permutation(np.asarray(order, int)))


def constant_spline(m, passes, family, names):
    """Splines of the entries that do not pass, whose numbers are raw parameters (entries, numbers), named in turn.

    They are the biases of a network without weights.
    """
    passes, raw = np.asarray(passes, bool), [m.parameter(name) for name in names]
    ends = np.cumsum([array.shape[-1] for array in raw])[:-1]
    bias = np.concatenate(raw, -1)
    net = Dense(np.zeros((bias.size, int(passes.sum()))), bias.ravel())
    return Loaded(Coupling(passes, net, family, "interleaved"),
                  lambda bar: dict(zip(names, np.split(bar["net"]["b"].reshape(bias.shape), ends, -1))))


def chain(*stages):
    return several(Chain, "stages", stages)


def inverted(part):
    return Loaded(Inverse(part.value), lambda bar: part.pull(bar.get("inner", {})))


def to_latents(stages, size):
    """The flow whose stages lead from data to latents, in their order."""
    return to_data([inverted(chain(*stages))], size)


def to_data(stages, size):
    """The flow whose stages lead from latents to data, in their order."""
    f = chain(*stages)
    return Loaded(Flow(f.value, StandardNormal(size)), lambda bar: f.pull(bar["bijector"]))
