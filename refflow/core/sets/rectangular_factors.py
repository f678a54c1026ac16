"""Cholesky factors with more rows than columns."""

from __future__ import annotations

import numpy as np

from .membership import halved, Set
from .triangular import lower_triangle


def identities(shape):
    return np.broadcast_to(np.eye(*shape[-2:]), shape)


def _outside(factor, closed):
    rows, columns = factor.shape[-2:]
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    finite = np.isfinite(factor).all((-2, -1))
    triangular = (np.triu(factor, 1) == 0).all((-2, -1))
    return ~(finite & triangular & ((diagonal >= 0) if closed else (diagonal > 0)).all(-1) & (rows >= columns))


def _room(factor):
    one = np.eye(*factor.shape[-2:], dtype=bool)
    return np.where(one, factor, np.where(lower_triangle(one.shape), np.inf, 0))


def _make(source, shape, dtype, low, high):
    scale = source.numbers(shape[:-1] + (1,), *halved(low, high, dtype))
    return (scale * (np.tril(source.signed(shape, -1, 1), -1) + identities(shape))).astype(dtype)


rectangular_cholesky_factor = Set(
    "rectangular_cholesky_factor", "must be finite, 0 above the diagonal and positive on it, with at least as many rows as columns",
    lambda v: _outside(v, False), lambda v: _outside(v, True), _make, rank=2, entrywise=False, spare=_room, anchor=identities,
    thin=True, biject_to="RectangularCholeskyFactor", free=lower_triangle, scalable=True)
