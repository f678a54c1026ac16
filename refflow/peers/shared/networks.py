"""Couplings and autoregressive maps with a small network, W tanh(a) + b, as refflow's composites.

A library's own network is replaced by this one, with the composite's weights: what is compared is which entries a network reads,
the order and the layout of its numbers, and the map that they give.  Its tanh keeps the numbers moderate at every event.
"""

from __future__ import annotations

import numpy as np

from ...maps.autoregressive import Autoregressive
from ...maps.conditioners import Dense, MaskedDense, Sequential, TanhActivation
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


def small_coupling(family, layout="interleaved", passes=PASSES):
    """The entries that do not pass, by the numbers that the network makes of those that do."""
    return Coupling(passes, small_network(passes, family.size), family, layout)


def small_network(passes, count):
    """The network from the entries that pass to `count` numbers for each of the others."""
    return Sequential((TanhActivation(), Dense(*layer(count * int(np.sum(~passes)), int(np.sum(passes))))))


def small_autoregressive(family, layout="interleaved", size=SIZE):
    """Each entry by the numbers that the network, whose weights are masked, makes of the entries before it."""
    W, b = layer(family.size * size, size)
    masked = MaskedDense(W, connects(size, family.size, layout), b)
    return Autoregressive(Sequential((TanhActivation(), masked)), family, layout)
