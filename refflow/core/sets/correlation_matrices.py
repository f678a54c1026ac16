"""Correlation matrices: positive definite, with a diagonal of ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .correlation import correlation_cholesky
from .definite import _not_positive_definite, symmetry
from .membership import broken, halved, no_room, Set
from .triangular import identities


def ones_on_the_diagonal(R):
    """|R_ii - 1|, and 4 D u."""
    left = np.abs(np.diagonal(R, axis1=-2, axis2=-1) - 1)
    return left, np.full_like(left, 4 * R.shape[-1] * np.finfo(R.dtype).eps / 2)


def symmetry_and_ones(R):
    return tuple(np.concatenate(parts, -1) for parts in zip(symmetry(R), ones_on_the_diagonal(R)))


def _not_a_correlation(R, closed):
    return broken(ones_on_the_diagonal, R) | _not_positive_definite(R, closed)


def _make_correlation_matrix(source, shape, dtype, low, high):
    """The sum of the sizes in a row is less than 1/2 off the diagonal, so that eigenvalues lie between 1/2 and 3/2."""
    below = np.tril(source.signed(shape, -1, 1), -1) / (4 * shape[-1])
    return (below + below.mT + np.eye(shape[-1])).astype(dtype)


def of_ones_on_the_diagonal(m, R):
    """d/dR_ij for j < i, which moves R_ji as well."""
    D = range(len(R))
    return [[int((a, b) in ((i, j), (j, i))) for i in D for j in range(i)] for a in D for b in D]


def _volume_of_correlations(R):
    """1/2 log det T^T T = D(D-1)/4 log 2, since each coordinate moves two entries."""
    D = R.shape[-1]
    return np.full(R.shape[:-2], D * (D - 1) / 4 * np.log(2), R.dtype), lambda bar: np.zeros_like(R)


correlation = Set(
    "correlation", "must be symmetric and positive definite with ones on the diagonal", lambda v: _not_a_correlation(v, False),
    lambda v: _not_a_correlation(v, True), _make_correlation_matrix, rank=2, entrywise=False, spare=no_room, anchor=identities,
    narrow=True, thin=True, equations=symmetry_and_ones, ratio_in_words="+D(D-1)/4 log 2",
    chart=lambda shape: np.flatnonzero(np.tril(np.ones(shape), -1)), tangents=of_ones_on_the_diagonal,
    log_ratio=_volume_of_correlations, biject_to=("CorrelationCholesky", "CorrelationOuterProduct"))


def _make_conditioned(source, shape, dtype, low, high):
    """Before rows are divided by their norms, no entry is larger than the diagonal."""
    rows = np.tril(source.signed(shape, min(halved(low, high, dtype, 4)[0], -1), 0), -1) + np.eye(shape[-1])
    return (rows / np.sqrt((rows * rows).sum(-1, keepdims=True))).astype(dtype)


# the same set, whose drawn members are factors of matrices that are not nearly singular
factors_of_correlations = replace(correlation_cholesky, make=_make_conditioned)
