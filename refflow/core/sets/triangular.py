"""Triangular matrices: Cholesky factors, and what is 0 on the diagonal as well."""

from __future__ import annotations

import numpy as np

from .membership import halved, not_finite, Set
from .numbers import real


def identities(shape):
    return np.broadcast_to(np.eye(shape[-1]), shape)


def lower_triangle(shape):
    return np.tril(np.ones(shape, bool))


def _cholesky_outside(factor, closed):
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    finite = np.isfinite(factor).all((-2, -1))
    triangular = (np.triu(factor, 1) == 0).all((-2, -1))
    return ~(finite & triangular & ((diagonal >= 0) if closed else (diagonal > 0)).all(-1))


def _room_of_cholesky(factor):
    one = np.eye(factor.shape[-1], dtype=bool)
    return np.where(one, factor, np.where(np.tril(np.ones_like(one)), np.inf, 0))


def _make_cholesky(source, shape, dtype, low, high):
    scale = source.numbers(shape[:-1] + (1,), *halved(low, high, dtype))
    return (scale * (np.tril(source.signed(shape, -1, 1), -1) + np.eye(shape[-1]))).astype(dtype)


cholesky_factor = Set(
    "cholesky_factor", "must be finite and lower triangular with a positive diagonal",
    lambda v: _cholesky_outside(v, False), lambda v: _cholesky_outside(v, True), _make_cholesky, rank=2, entrywise=False,
    spare=_room_of_cholesky, anchor=identities, thin=True, biject_to="CholeskyFactor", free=lower_triangle, scalable=True)


def triangle(name, side, cut):
    """The matrices that are 0 on the diagonal and on one side of it; `cut` leaves the other side."""
    def outside(v):
        return not_finite(v) | (v != cut(v))

    def free(shape):
        return cut(np.ones(shape)) != 0

    return Set(name, f"must be finite and 0 on and {side} the diagonal", outside, outside,
               lambda source, shape, dtype, low, high: cut(real.make(source, shape, dtype, low, high)), rank=2,
               spare=lambda v: np.where(free(v.shape), np.inf, 0), thin=True, biject_to="StrictTriangle", free=free)


strictly_lower = triangle("strictly_lower", "above", lambda v: np.tril(v, -1))

strictly_upper = triangle("strictly_upper", "below", lambda v: np.triu(v, 1))
