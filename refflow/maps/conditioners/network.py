"""Networks of dense layers."""

from __future__ import annotations

import numpy as np

from .contextual import Contextual
from .dense import Dense
from .examples import activation, dense
from .gelu import GELU
from .initialisers import kaiming_uniform, xavier_uniform, zero
from .layer_norm import LayerNorm
from .relu import ReLU
from .residual import Residual
from .sequential import Sequential
from .silu import SiLU
from .softplus_activation import SoftplusActivation
from .tanh_activation import TanhActivation
from .weight_norm import WeightNormDense

__all__ = ["dense_network"]

ACTIVATIONS = {"relu": ReLU, "tanh": TanhActivation, "gelu": GELU, "silu": SiLU, "softplus": SoftplusActivation}


def dense_network(rng, sizes, activation="relu", residual=False, layer_norm=False, weight_norm=False, zero_last=True,
                  context=0, dtype=np.float64):
    """A Sequential of dense layers from sizes[0] to sizes[-1] entries, with an activation after each but the last.

    A hidden layer is dense, [layer norm], activation; with `residual`, hidden layers that keep the size are h + layer(h).  With
    `weight_norm` the dense layers are `WeightNormDense` with a gain.  With `zero_last` the output starts at 0 for every
    input: its matrix, or its gain, is zero.  With `context` entries of context the first layer sees them after its input,
    and the network takes them through `at(context=...)`.

    Weights are drawn from the Generator `rng`: `kaiming_uniform`, for tanh and the last layer `xavier_uniform`; biases
    are 0.  Raises ValueError for fewer than two sizes or an unknown activation.
    """
    if len(sizes) < 2:
        raise ValueError(f"dense_network: sizes must hold at least an input and an output size, not {sizes!r}")
    for i, size in enumerate(sizes):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0:
            raise ValueError(f"dense_network: sizes must hold counts; sizes[{i}] = {size!r}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"dense_network: activation must be one of {sorted(ACTIVATIONS)}, not {activation!r}")
    initialiser = xavier_uniform if activation == "tanh" else kaiming_uniform
    inputs, *hidden, outputs = sizes
    layers, size = [], inputs + context
    for width in hidden:
        block = [dense_layer(rng, size, width, initialiser, weight_norm, dtype)]
        block += [LayerNorm(gain=np.ones(width, dtype))] if layer_norm else []
        block += [ACTIVATIONS[activation]()]
        layers += [Residual(Sequential(block))] if residual and width == size else block
        size = width
    last = last_layer if zero_last else dense_layer
    layers.append(last(rng, size, outputs, xavier_uniform, weight_norm, dtype))
    net = Sequential(layers)
    return Contextual(net) if context else net


def dense_layer(rng, size, width, initialiser, weight_norm, dtype):
    W = initialiser(rng, (width, size), dtype)
    return WeightNormDense(v=W, g=np.linalg.norm(W, axis=-1)) if weight_norm else Dense(W)


def last_layer(rng, size, width, initialiser, weight_norm, dtype):
    """A layer whose output starts at 0."""
    if weight_norm:
        return WeightNormDense(v=initialiser(rng, (width, size), dtype), g=np.zeros(width, dtype))
    return Dense(zero(rng, (width, size), dtype))


def network(source, inputs, outputs):
    """Two dense layers and an activation, drawn from a `Source`."""
    width = source.count(1, 3)
    return Sequential((dense(source, width, inputs), activation(source), dense(source, outputs, width)))
