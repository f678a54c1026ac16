"""Splines of a library's raw numbers, as refflow's composite.

A library that makes knots and slopes from raw numbers (softmax, softplus and a floor) cannot be given knots and slopes: the
way back is not exact.  So the raw numbers are the parameters: the biases of a network without weights, in a coupling whose
first entry passes.
"""

from __future__ import annotations

import numpy as np

from ...maps.conditioners import Dense
from ...maps.coupling import Coupling, Family
from ...oracle.points.parametrised import ENTRIES

WEIGHTS = ("net", "W")          # all 0, and not the library's
SPREADS = {"moderate": 1.0, "uneven": 4.0}


def splines(page, numbers):
    """(what the numbers are like, the coupling) for moderate and for uneven numbers of one entry."""
    for name, spread in SPREADS.items():
        h = spread * np.random.default_rng(numbers.size).standard_normal(numbers.size)
        yield name, Coupling(np.array([True, False]), Dense(np.zeros((h.size, 1)), np.round(h, 3)), Family(page, numbers))


def raw(params):
    """The raw numbers in a coupling's parameters."""
    return params["net"]["b"]


def vectors(h, count):
    """The first `count` vectors of raw numbers, and every number after them as an array of its own."""
    ends = [*range(0, count * ENTRIES + 1, ENTRIES), *range(count * ENTRIES + 1, len(h) + 1)]
    return [h[a:b] for a, b in zip(ends, ends[1:])]
