"""Increasing vectors of positive numbers."""

from __future__ import annotations

import numpy as np

from .membership import EXPONENTS, Set


def steps_of(x):
    """The first entry, and how far each is from the one before it."""
    return np.diff(x, axis=-1, prepend=x.dtype.type(0))


def _outside(x, closed):
    with np.errstate(all="ignore"):
        before = np.concatenate((np.zeros_like(x[..., :1]), x[..., :-1]), -1)
        steps = x >= before if closed else x > before
    return ~(np.isfinite(x) & steps).all(-1)


def _make(source, shape, dtype, low, high):
    """Sums of drawn steps: of steps of any size, which grow; or of steps in any order that the dtype can tell from their sum."""
    seen = (np.finfo(dtype).nmant - 7) // 2
    any_size = source.booleans((*shape[:-1], 1))
    low = np.where(any_size, low, np.clip(low, -seen, seen - 1))
    high = np.where(any_size, min(high, EXPONENTS[dtype][1] - 8), np.clip(high, 1 - seen, seen))
    steps = source.numbers(shape, low, high).astype(dtype)
    x = np.cumsum(np.where(any_size, np.sort(steps, -1), steps), -1)
    for k in range(1, shape[-1]):                                               # a step may still have been rounded away
        x[..., k] = np.maximum(x[..., k], np.nextafter(x[..., k - 1], dtype.type(np.inf)))
    return x


def _to_neighbours(x):
    below = steps_of(x)
    above = np.concatenate((below[..., 1:], np.full_like(x[..., :1], np.inf)), -1)
    return np.minimum(below, above)


positive_ordered = Set(
    "positive_ordered", "must be finite, positive and strictly increasing", lambda x: _outside(x, False), lambda x: _outside(x, True),
    _make, rank=1, entrywise=False, spare=_to_neighbours, anchor=lambda shape: np.broadcast_to(np.arange(1.0, shape[-1] + 1), shape),
    biject_to="PositiveOrdered")
