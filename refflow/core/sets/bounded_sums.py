"""Vectors whose entries have a sum of magnitudes below 1: the corner of positive ones, and the whole ball."""

from __future__ import annotations

import numpy as np

from ..arithmetic import split_sum
from .membership import halved, residual_bound, Set
from .numbers import in_interval


def what_is_left(x):
    """(*batch, D+1): 1 - |x_1| - ... - |x_k| for k = 0 .. D.  What rounding takes from each is carried along."""
    left, lost = np.ones(x.shape[:-1], x.dtype), np.zeros(x.shape[:-1], x.dtype)
    found = [left]
    for k in range(x.shape[-1]):
        left, rest = split_sum(left, -np.abs(x[..., k]))
        lost = lost + rest
        found.append(left + lost)
    return np.stack(found, -1)


def _last(x):
    with np.errstate(all="ignore"):
        return what_is_left(x)[..., -1]


def _not_in_corner(x, closed):
    entries, last = (x >= 0) if closed else (x > 0), _last(x)
    return ~(entries.all(-1) & ((last >= 0) if closed else (last > 0)))


def _not_in_ball(x, closed):
    """An image that is rounded may lie beyond the closed ball by the rounding of its entries."""
    last = _last(x)
    return ~((last >= -residual_bound(x, x.shape[-1])) if closed else (last > 0))


def _make_positive(source, shape, dtype, low, high):
    """A drawn sum times drawn shares of it; as long as rounding brings the sum to 1, it is made a little smaller."""
    low, high = halved(low, high, dtype, 4)
    weights, total = source.numbers(shape, low, high), in_interval(0.0, 1.0)(source, (*shape[:-1], 1), dtype, low, high)
    x = (total * (weights / weights.sum(-1, keepdims=True))).astype(dtype)
    while np.any(_last(x) <= 0):
        x = np.where(_last(x)[..., None] <= 0, x * (1 - 4 * np.finfo(dtype).eps), x).astype(dtype)
    return x


def _make_signed(source, shape, dtype, low, high):
    return np.where(source.booleans(shape), 1, -1).astype(dtype) * _make_positive(source, shape, dtype, low, high)


def _to_sum(x):
    return np.broadcast_to(_last(x)[..., None], x.shape)


subsimplex = Set("subsimplex", "must have entries > 0 whose sum is < 1", lambda x: _not_in_corner(x, False),
                 lambda x: _not_in_corner(x, True), _make_positive, rank=1, entrywise=False,
                 spare=lambda x: np.minimum(x, _to_sum(x)), anchor=lambda shape: np.full(shape, 1 / (shape[-1] + 1)), narrow=True,
                 biject_to=("StickBreaking", "inverse of SumTo1"))

l1_ball = Set("l1_ball", "must have entries whose sum of magnitudes is < 1", lambda x: _not_in_ball(x, False),
              lambda x: _not_in_ball(x, True), _make_signed, rank=1, entrywise=False, spare=_to_sum, biject_to="L1Ball")
