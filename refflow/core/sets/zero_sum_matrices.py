"""Matrices whose rows and columns sum to 0."""

from __future__ import annotations

import numpy as np

from .membership import broken, halved, no_room, residual_bound, Set, sums


def sums_to_0(x):
    """The sizes of the sums of rows and of columns, and 4 max(M, K) u sum|x_kl|."""
    left = np.abs(np.concatenate((sums(x, -1), sums(x, -2)), -1))
    entries = x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
    return left, residual_bound(entries, max(x.shape[-2:]))[..., None]


def _nonzero_sums(x):
    return broken(sums_to_0, x)


def _make_zero_sums(source, shape, dtype, low, high):
    v = source.signed(shape, *halved(low, high, dtype))
    for _ in range(2):                                          # what is left after the first time is rounded as v was
        v = v - v.mean(-1, keepdims=True)
        v = v - v.mean(-2, keepdims=True)
    return v.astype(dtype)


def of_zero_sums(m, size):
    """Orthonormal columns whose entries sum to 0, as a list of rows."""
    h = m.sqrt(size)
    return [[int(j == k) - 1 / (size + h) for j in range(size - 1)] for k in range(size - 1)] + [[-1 / h for _ in range(size - 1)]]


def of_zero_sum_matrices(m, x):
    """Products of an orthonormal column for the columns and one for the rows."""
    rows, columns = of_zero_sums(m, len(x)), of_zero_sums(m, len(x[0]))
    return [[a * b for a in left for b in right] for left in rows for right in columns]


zero_sum_matrix = Set(
    "zero_sum_matrix", "must have rows and columns that sum to 0", _nonzero_sums, _nonzero_sums, _make_zero_sums, rank=2, entrywise=False,
    spare=no_room, thin=True, equations=sums_to_0, tangents=of_zero_sum_matrices, measure="intrinsic", biject_to="ZeroSumMatrix")
