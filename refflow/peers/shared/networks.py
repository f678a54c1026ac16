"""Couplings and autoregressive maps whose network is one linear layer, as refflow's composites.

A library's own network is replaced by that layer, with the composite's weights: what is compared is which entries a network
reads, the order and the layout of its numbers, and the map that they give.  A spline's numbers are asked in `numbers`; here a
weight leads from an entry to each of them.
"""

from __future__ import annotations

import numpy as np

from ...maps.autoregressive import Autoregressive
from ...maps.conditioners import Dense, MaskedDense
from ...maps.coupling import Coupling

SIZE = 3
PASSES = np.array([True, False, False])


def layer(outputs, inputs):
    """(W, b): moderate numbers, the same ones each time."""
    rng = np.random.default_rng([outputs, inputs])
    return np.round(rng.uniform(-0.5, 0.5, (outputs, inputs)), 3), np.round(rng.uniform(-1, 1, outputs), 3)


def connects(size, count, layout="interleaved"):
    """Which of `size` entries each of `count` numbers of each entry may read: the entries before it."""
    before = np.tril(np.ones((size, size), bool), -1)
    return np.tile(before, (count, 1)) if layout == "halves" else np.repeat(before, count, 0)


def linear_coupling(family, layout="interleaved", passes=PASSES):
    """The entries that do not pass, by the numbers that a linear layer makes of those that do."""
    return Coupling(passes, dense_of(passes, family.size), family, layout)


def dense_of(passes, count):
    return Dense(*layer(count * int(np.sum(~passes)), int(np.sum(passes))))


def linear_autoregressive(family, layout="interleaved", size=SIZE):
    """Each entry by the numbers that a masked linear layer makes of the entries before it."""
    W, b = layer(family.size * size, size)
    return Autoregressive(MaskedDense(W, connects(size, family.size, layout), b), family, layout)
