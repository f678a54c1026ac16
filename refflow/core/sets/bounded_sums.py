"""Vectors whose entries have a sum of magnitudes below 1."""

from __future__ import annotations

import numpy as np

from .membership import halved, Set
from .numbers import in_interval


def _size(x):
    return np.abs(x).sum(-1)


def _sum_too_large(x, closed):
    with np.errstate(all="ignore"):
        return ~((_size(x) <= 1) if closed else (_size(x) < 1))


def _not_in_corner(x, closed):
    entries = (x >= 0) if closed else (x > 0)
    return ~entries.all(-1) | _sum_too_large(x, closed)


def _make_positive(source, shape, dtype, low, high):
    """A drawn sum times drawn shares of it; as often as rounding brings the sum to 1, it is made a little smaller."""
    low, high = halved(low, high, dtype, 4)
    weights, total = source.numbers(shape, low, high), in_interval(0.0, 1.0)(source, (*shape[:-1], 1), dtype, low, high)
    x = (total * (weights / weights.sum(-1, keepdims=True))).astype(dtype)
    while shape[-1] and np.any(_sum_too_large(x, False)):
        x = np.where(_sum_too_large(x, False)[..., None], x * (1 - 4 * np.finfo(dtype).eps), x).astype(dtype)
    return x


def _to_sum(x):
    return np.broadcast_to(1 - _size(x)[..., None], x.shape)


subsimplex = Set("subsimplex", "must have entries > 0 whose sum is < 1", lambda x: _not_in_corner(x, False),
                 lambda x: _not_in_corner(x, True), _make_positive, rank=1, entrywise=False,
                 spare=lambda x: np.minimum(x, _to_sum(x)), anchor=lambda shape: np.full(shape, 1 / (shape[-1] + 1)), narrow=True)
