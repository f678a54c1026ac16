"""Vectors whose sum is known: the simplex, and vectors of sum 0."""

from __future__ import annotations

import numpy as np

from .tangents import selecting
from .membership import broken, halved, no_room, residual_bound, Set, sums


def of_simplex(m, x):
    """d/dx_k of x_1, ..., x_{K-1} and x_K = 1 - x_1 - ... - x_{K-1}."""
    K = len(x)
    return [*selecting(range(K - 1), K - 1), [-1] * (K - 1)]


def _volume_of_simplex(x):
    """1/2 log det T^T T = 1/2 log K, also of another plane x_K = c - x_1 - ... - x_{K-1}."""
    return np.full(x.shape[:-1], np.log(x.shape[-1]) / 2, x.dtype), lambda bar: np.zeros_like(x)


def sum_to(total):
    """|x_1 + ... + x_K - total|, and 4 K u sum|x_k|."""
    return lambda x: (np.abs(sums(x, -1) - total)[..., None], residual_bound(x, x.shape[-1])[..., None])


def _simplex_outside(x, closed):
    entries = (x >= 0) if closed else (x > 0)
    return ~entries.all(-1) | broken(sum_to(1), x)


def _make_simplex(source, shape, dtype, low, high):
    weights = source.numbers(shape, *halved(low, high, dtype, 3))
    return (weights / weights.sum(-1, keepdims=True)).astype(dtype)


simplex = Set("simplex", "must have entries >= 0 that sum to 1", lambda x: _simplex_outside(x, False),
              lambda x: _simplex_outside(x, True), _make_simplex, rank=1, entrywise=False,
              spare=no_room, anchor=lambda shape: np.full(shape, 1 / max(shape[-1], 1)), narrow=True, thin=True,
              equations=sum_to(1), ratio_in_words="+1/2 log K", chart=lambda shape: np.arange(shape[-1] - 1), tangents=of_simplex,
              log_ratio=_volume_of_simplex, exchangeable=True, biject_to="StickBreaking")


def _nonzero_sum(x):
    return broken(sum_to(0), x)


def _make_zero_sum(source, shape, dtype, low, high):
    v = source.signed(shape, *halved(low, high, dtype))
    for _ in range(2):                                          # what is left after the first time is rounded as v was
        v = v - v.mean(-1, keepdims=True)
    return v.astype(dtype)


zero_sum = Set("zero_sum", "must have entries that sum to 0", _nonzero_sum, _nonzero_sum, _make_zero_sum, rank=1, entrywise=False,
               spare=no_room, thin=True, equations=sum_to(0), ratio_in_words="+1/2 log K",
               chart=lambda shape: np.arange(shape[-1] - 1), tangents=of_simplex,
               log_ratio=_volume_of_simplex, measure="intrinsic", exchangeable=True, biject_to="ZeroSum")
