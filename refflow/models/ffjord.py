r"""FFJORD (Grathwohl et al., arXiv:1810.01367): a continuous normalizing flow whose layers all see the time.

A network gives the velocity `v(x, t)`, and a point of the data at `t = 0` becomes noise at `t = T`,
    dx/dt = v(x, t),   z = x(T) ~ N(0, I)                                           (1)
    v(x, t) = layer_K(f(... f(layer_1(x, t)) ...), t)                               (2)
With the weights `W`, `b` and the sigmoid `sigma`, a layer of `a` is one of
    W a + b                                                     "ignore"            (3)
    W a + b + s t                                               "concat"            (4)
    (W a + b) sigma(g t + c)                                    "squash"            (5)
    (W a + b) sigma(g t + c) + s t                              "concatsquash"      (6)
    (1 - t) (W a + b) + t (V a + d)                             "blend"             (7)
    W(t) a + b(t), from a network of t                          "hyper"             (8)

The authors follow the path with a solver that chooses its steps, and integrate along it the trace of `dv/dx`, or Hutchinson's
estimate of the trace: `refflow.maps.continuous.adaptive` and `log_density` have these.  Here the steps are equal and are themselves
the map, so the density is exact for them.  The last layer starts at 0, so that the flow starts as the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Flow, Inverse
from ..maps.conditioners import (ELU, BlendedDense, Dense, HyperDense, Sequential, SoftplusActivation, Square, Swish, TanhActivation,
                                 TimeDense, TimeNetwork)
from ..maps.conditioners.initialisers import kaiming_uniform, zero
from ..maps.continuous import DiscreteFlow
from ..maps.densities import StandardNormal
from .sizes import check_sizes

LAYERS = ("ignore", "concat", "squash", "concatsquash", "blend", "hyper")
ACTIVATIONS = {"softplus": SoftplusActivation, "tanh": TanhActivation, "elu": ELU, "square": Square, "swish": lambda: Swish(0.5)}
HYPER = 8               # hidden units of a network of the time


def ffjord(rng: np.random.Generator, size: int, hidden: Sequence[int] = (64, 64, 64), layer: str = "concatsquash",
           activation: str = "softplus", scheme: str = "dopri5", steps: int = 8, end: float = 1.0, dtype: DTypeLike = np.float64) -> Flow:
    """A flow in time of vectors of `size` entries, data at the time 0 and noise at `end`.

    `hidden`: the widths of the hidden layers; `layer`: "ignore", "concat", "squash", "concatsquash", "blend" or "hyper"; `activation`:
    "softplus", "tanh", "elu", "square" or "swish", which has a parameter that all layers share; `scheme` and `steps`: as in
    `DiscreteFlow`.  Weights are drawn from the Generator `rng`.  ValueError for no entry, no step, a width below 1, an unknown layer,
    scheme or activation, or an end that is not a number.
    """
    check_sizes("ffjord", hidden, size=(size, 1), steps=(steps, 1))
    for name, value, known in (("layer", layer, LAYERS), ("activation", activation, ACTIVATIONS)):
        if value not in known:
            raise ValueError(f"ffjord: {name} must be one of {', '.join(known)}, not {value!r}")
    sizes = [size, *hidden, size]
    draws = [kaiming_uniform] * len(hidden) + [zero]
    layers = [time_layer(rng, layer, inputs, outputs, draw, dtype) for inputs, outputs, draw in zip(sizes, sizes[1:], draws)]
    net = TimeNetwork(layers, ACTIVATIONS[activation]())                            # (2)
    return Flow(Inverse(DiscreteFlow(net, scheme, steps, 0.0, end)), StandardNormal(size))      # (1)


def time_layer(rng, layer, inputs, outputs, draw, dtype):
    """One of (3) to (8), with W from `draw`."""
    W, b, s = draw(rng, (outputs, inputs), dtype), np.zeros(outputs, dtype), draw(rng, (outputs, 1), dtype)[:, 0]
    if layer == "blend":
        return BlendedDense(W, b, draw(rng, (outputs, inputs), dtype), b)           # (7)
    if layer == "hyper":
        numbers = np.concatenate([b[:, None], W.reshape(-1, 1)]) * np.ones(HYPER) / HYPER
        first = kaiming_uniform(rng, (HYPER, 1), dtype)
        return HyperDense(Sequential((Dense(first), TanhActivation(), Dense(numbers, np.concatenate([b, W.reshape(-1)])))), outputs)     # (8)
    gate, gate_bias = rng.uniform(-1, 1, (2, outputs)).astype(dtype) if "squash" in layer else (None, None)
    return TimeDense(W, b, gate, gate_bias, s if "concat" in layer else None)       # (3) (4) (5) (6)
