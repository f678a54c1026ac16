"""Positive definite matrices."""

from __future__ import annotations

import numpy as np

from .invertible import to_singular
from .membership import broken, halved, Set
from .triangular import identities, lower_triangle


def symmetry(S):
    """|S_ij - S_ji|, and 4 D u (|S_ij| + |S_ji|)."""
    D = S.shape[-1]
    rounding = 4 * D * (np.finfo(S.dtype).eps / 2) * np.abs(S)
    return np.abs(S - S.mT).reshape(*S.shape[:-2], D * D), (rounding + rounding.mT).reshape(*S.shape[:-2], D * D)


def _not_positive_definite(S, closed):
    """Is it not symmetric, or has S_ij / (S_ii S_jj)^(1/2) an eigenvalue <= 0?  On the boundary, rounding may make one negative."""
    u, D = np.finfo(S.dtype).eps / 2, S.shape[-1]
    with np.errstate(all="ignore"):
        diagonal = np.diagonal(S, axis1=-2, axis2=-1)
        roots = np.sqrt(np.where(diagonal > 0, diagonal, 1))
        scaled = S / roots[..., :, None] / roots[..., None, :]
    members = ~broken(symmetry, S) & np.isfinite(scaled).all((-2, -1)) & ((diagonal >= 0) if closed else (diagonal > 0)).all(-1)
    least = np.linalg.eigvalsh(np.where(members[..., None, None], scaled, np.eye(D)).astype(np.float64)).min(-1)
    return ~(members & ((least >= -4 * D * D * u) if closed else (least > 0)))


def _make_positive_definite(source, shape, dtype, low, high):
    """Scales of rows and columns around a matrix with eigenvalues between 1/2 and 3/2."""
    scale = source.numbers(shape[:-1], *halved(low, high, dtype, 4))
    B = source.signed(shape, -1, 1)
    return (scale[..., :, None] * (np.eye(shape[-1]) + (B + B.mT) / (8 * shape[-1])) * scale[..., None, :]).astype(dtype)


def _room_of_positive_definite(S):
    """det(S + d e_i e_i^T) = det S (1 + d (S^-1)_ii)."""
    return np.eye(S.shape[-1]) * to_singular(S)


def of_symmetric(m, S):
    """d/dS_ij for j <= i, which moves S_ji as well."""
    D = range(len(S))
    return [[int((a, b) in ((i, j), (j, i))) for i in D for j in range(i + 1)] for a in D for b in D]


def _volume_of_symmetric(S):
    """1/2 log det T^T T = D(D-1)/4 log 2, since the entries below the diagonal move two."""
    D = S.shape[-1]
    return np.full(S.shape[:-2], D * (D - 1) / 4 * np.log(2), S.dtype), lambda bar: np.zeros_like(S)


positive_definite = Set(
    "positive_definite", "must be symmetric and positive definite", lambda v: _not_positive_definite(v, False),
    lambda v: _not_positive_definite(v, True), _make_positive_definite, rank=2, entrywise=False, spare=_room_of_positive_definite,
    anchor=identities, thin=True, equations=symmetry, ratio_in_words="+D(D-1)/4 log 2",
    chart=lambda shape: np.flatnonzero(lower_triangle(shape)), tangents=of_symmetric,
    log_ratio=_volume_of_symmetric, biject_to=("CholeskyFactor", "CholeskyOuterProduct"))
