"""Cholesky factors of correlation matrices: their rows have norm 1."""

from __future__ import annotations

import numpy as np

from ..arithmetic import quotient
from .membership import broken, halved, no_room, residual_bound, Set
from .triangular import identities, lower_triangle


def unit_rows(factor):
    """|sum_j L_ij^2 - 1|, and 4 D u sum_j L_ij^2."""
    squares = factor * factor
    return np.abs(squares.sum(-1) - 1), residual_bound(squares, factor.shape[-1])


def _correlation_outside(factor, closed):
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    triangular = (np.triu(factor, 1) == 0).all((-2, -1))
    on_diagonal = ((diagonal >= 0) if closed else (diagonal > 0)).all(-1)
    return ~(triangular & on_diagonal) | broken(unit_rows, factor)


def _make_correlation(source, shape, dtype, low, high):
    rows = np.tril(source.signed(shape, *halved(low, high, dtype, 4)), -1) + np.eye(shape[-1])
    return (rows / np.sqrt((rows * rows).sum(-1, keepdims=True))).astype(dtype)


def of_unit_rows(m, L):
    """d/dL_ij for j < i of these and L_ii = sqrt(1 - sum_{j<i} L_ij^2)."""
    D = range(len(L))

    def slope(a, b, i, j):
        return 0 if a != i else -L[i][j] / L[i][i] if b == i else int(b == j)

    return [[slope(a, b, i, j) for i in D for j in range(i)] for a in D for b in D]


def _volume_of_unit_rows(L):
    """1/2 log det T^T T = sum_i log(|L_i| / L_ii), for the rows L_i; near 1 by 1/2 log1p(sum_{j<i} (L_ij / L_ii)^2)."""
    diagonal, before = np.diagonal(L, axis1=-2, axis2=-1), np.tril(L, -1)
    squares = (before * before).sum(-1)
    norms, ratios = squares + diagonal * diagonal, before / diagonal[..., None]
    near, far = np.log1p((ratios * ratios).sum(-1)) / 2, np.log(norms) / 2 - np.log(diagonal)
    value = np.where(squares <= diagonal * diagonal, near, far).sum(-1)

    def pullback(bar):
        each = np.broadcast_to(bar[..., None], diagonal.shape)
        L_bar = quotient(each, norms)[..., None] * before
        k = np.arange(L.shape[-1])
        L_bar[..., k, k] = -quotient(each * (squares / norms), diagonal)
        return L_bar

    return value, pullback


correlation_cholesky = Set(
    "correlation_cholesky", "must be lower triangular with a positive diagonal and rows of norm 1",
    lambda v: _correlation_outside(v, False), lambda v: _correlation_outside(v, True), _make_correlation, rank=2,
    entrywise=False, spare=no_room, anchor=identities, narrow=True, thin=True, equations=unit_rows,
    ratio_in_words="-sum log L_ii", biject_to="CorrelationCholesky",
    free=lower_triangle, chart=lambda shape: np.flatnonzero(np.tril(np.ones(shape), -1)), tangents=of_unit_rows,
    log_ratio=_volume_of_unit_rows)
