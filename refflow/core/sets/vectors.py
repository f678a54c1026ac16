"""Increasing vectors, and arrays that are not 0 everywhere."""

from __future__ import annotations

import numpy as np

from .membership import EXPONENTS, Set
from .numbers import real


def _not_increasing(x, closed):
    with np.errstate(all="ignore"):
        steps = x[..., 1:] >= x[..., :-1] if closed else x[..., 1:] > x[..., :-1]
    return ~(np.isfinite(x).all(-1) & steps.all(-1))


def _make_increasing(source, shape, dtype, low, high):
    """Sums of drawn steps from the middle outwards.

    Either their size grows outwards, so that a step of any size is still visible relative to the sum; or they stand in any
    order and have sizes that the dtype can tell from their sum.
    """
    K, seen = shape[-1], (np.finfo(dtype).nmant - 7) // 2
    any_size = source.booleans((*shape[:-1], 1))
    low = np.where(any_size, low, np.clip(low, -seen, seen - 1))
    high = np.where(any_size, min(high, EXPONENTS[dtype][1] - 8), np.clip(high, 1 - seen, seen))
    steps = source.numbers(shape, low, high).astype(dtype)
    left, right = (np.where(any_size, np.sort(part, -1), part) for part in (steps[..., :K // 2], steps[..., K // 2:]))
    x = np.concatenate((-np.cumsum(left, -1)[..., ::-1], np.cumsum(right, -1)), -1)
    for k in range(1, K):                                                       # a step may still have been rounded away
        x[..., k] = np.maximum(x[..., k], np.nextafter(x[..., k - 1], dtype.type(np.inf)))
    return x


def _to_neighbours(x):
    steps = np.pad(np.diff(x, axis=-1), [(0, 0)] * (x.ndim - 1) + [(1, 1)], constant_values=np.inf)
    return np.minimum(steps[..., :-1], steps[..., 1:])


increasing = Set("increasing", "must be finite and strictly increasing", lambda x: _not_increasing(x, False),
                 lambda x: _not_increasing(x, True), _make_increasing, rank=1, entrywise=False, spare=_to_neighbours,
                 anchor=lambda shape: np.broadcast_to(np.arange(shape[-1], dtype=float), shape), biject_to="Ordered")


def not_all_zero(name, rank):
    """The arrays of `rank` axes that are not 0 everywhere."""
    axes = tuple(range(-rank, 0))

    def outside(v):
        return ~np.isfinite(v).all(axes) | ~v.any(axes)

    def spare(v):
        others = (v != 0).sum(axes, keepdims=True) - (v != 0)
        return np.where(others > 0, np.inf, np.abs(v))

    return Set(name, "must be finite and not all 0", outside, outside, real.make, rank=rank, entrywise=False, spare=spare,
               anchor=1.0)


nonzero_vector, nonzero_bank = not_all_zero("nonzero_vector", 1), not_all_zero("nonzero_bank", 3)

nonzero_matrix = not_all_zero("nonzero_matrix", 2)
