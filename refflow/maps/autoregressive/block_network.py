"""Block neural autoregressive networks as training starts (De Cao, Titov & Aziz, arXiv:1904.04676)."""

from __future__ import annotations

import math

import numpy as np

from ..conditioners import BlockDense, uniform
from .block_autoregressive import BlockAutoregressive

__all__ = ["block_autoregressive_network"]


def block_autoregressive_network(rng, size, units, leak=0.01, dtype=np.float64):
    """A `BlockAutoregressive` of vectors of `size` entries, with `units` units for each entry in each hidden layer.

    Drawn with the Generator `rng`: the weights within blocks so that slopes are near 1, the others uniform and of variance
    1/fan_in; biases are 0.
    """
    sizes, layers = (1, *units, 1), []
    for i, width in enumerate(sizes[1:]):
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width < 1:
            raise ValueError(f"block_autoregressive_network: units[{i}] must be an int >= 1, not {width!r}")
    for B, A in zip(sizes, sizes[1:]):
        within = np.exp(rng.uniform(-0.5, 0.5, (size, A, B))) / B
        below = uniform(rng, (size * A, size * B), math.sqrt(3 / (size * B)), dtype)
        layers.append(BlockDense(within.astype(dtype), below))
    return BlockAutoregressive(layers, leak)
