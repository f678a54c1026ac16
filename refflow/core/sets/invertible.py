"""Invertible matrices, and orthogonal ones."""

from __future__ import annotations

import numpy as np

from .membership import broken, halved, no_room, Set
from .triangular import identities


def random_turns(source, shape):
    """Orthogonal matrices in float64; the identity is the simplest one."""
    q, r = np.linalg.qr(source.signed(shape, -2, 2) - 1 + 3 * np.eye(shape[-1]))
    q = q * np.copysign(1, np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    moved = np.take_along_axis(q, source.orders(shape[:-2] + (1, shape[-1])), -1)
    return moved * (1.0 - 2.0 * source.choices(shape[:-2] + (1, shape[-1]), 2))


def _make_invertible(source, shape, dtype, low, high):
    """Row scale x well-conditioned x column scale, where the well-conditioned matrix is Q + c I with c = 0, 1/4 or -1/4."""
    low, high = halved(low, high, dtype)
    rows, columns = source.numbers(shape[:-1] + (1,), low, high), source.numbers(shape[:-2] + (1, shape[-1]), low, high)
    core = random_turns(source, shape) + np.array([0, 0.25, -0.25])[source.choices(shape[:-2] + (1, 1), 3)] * np.eye(shape[-1])
    return (rows * core * columns).astype(dtype)


def _singular(matrix):
    finite = np.isfinite(matrix).all((-2, -1))
    sign = np.zeros(matrix.shape[:-2])
    sign[finite] = np.linalg.slogdet(matrix[finite].astype(np.float64))[0]
    return sign == 0


def to_singular(matrix):
    """1/|(M^-1)_ji|: det(M + d e_i e_j^T) = det M (1 + d (M^-1)_ji)."""
    with np.errstate(all="ignore"):
        return 1 / np.abs(np.linalg.inv(matrix.astype(np.float64)).mT)


invertible = Set("invertible", "must be finite and invertible", _singular, _singular, _make_invertible, rank=2,
                 entrywise=False, spare=to_singular, anchor=identities, scalable=True)


def orthogonality(Q):
    """|q_i^T q_j - [i = j]| of two columns, and 4 D u (|q_i| |q_j| + [i = j]), the most that sum|terms| can be."""
    u, one, flat = np.finfo(Q.dtype).eps / 2, np.eye(Q.shape[-1], dtype=Q.dtype), (*Q.shape[:-2], Q.shape[-1] ** 2)
    products = Q.mT @ Q
    squares = np.diagonal(products, axis1=-2, axis2=-1)
    bound = 4 * Q.shape[-1] * u * (np.sqrt(squares[..., :, None] * squares[..., None, :]) + one)
    return np.abs(products - one).reshape(flat), bound.reshape(flat)


def _not_orthogonal(Q):
    return broken(orthogonality, Q)


def of_orthogonal(m, x):
    """x (E_ij - E_ji) / sqrt 2 for j < i."""
    D, root = range(len(x)), m.sqrt(2)
    return [[x[a][i] / root if b == j else -x[a][j] / root if b == i else 0 for i in D for j in range(i)] for a in D for b in D]


orthogonal = Set("orthogonal", "must be orthogonal, Q^T Q = I to within rounding", _not_orthogonal, _not_orthogonal,
                 lambda source, shape, dtype, low, high: random_turns(source, shape).astype(dtype), rank=2, entrywise=False,
                 spare=no_room, anchor=identities, thin=True, equations=orthogonality, tangents=of_orthogonal, measure="intrinsic",
                 biject_to="CayleyOrthogonal")


def turned(start):
    """The orthogonal matrices with the determinant of `start`; drawn members are not near a rotation by half a turn."""
    def outside(x):
        with np.errstate(all="ignore"):
            other = np.linalg.det(np.where(np.isfinite(x), x, 0).mT @ start) < 0
        return _not_orthogonal(x) | other

    def make(source, shape, dtype, low, high):
        S = np.tril(source.signed(shape, *np.clip((low, high), -4, 2)), -1)
        one = np.eye(shape[-1])
        return (start.astype(np.float64) @ (2 * np.linalg.inv(one + S - S.mT) - one)).astype(dtype)

    sign = np.sign(np.linalg.det(start)).astype(int).tolist()
    return Set(f"orthogonal, det {sign}", orthogonal.rule + ", with the determinant of start", outside, outside, make, rank=2,
               entrywise=False, spare=no_room, anchor=lambda shape: np.broadcast_to(start, shape), thin=True,
               equations=orthogonality, tangents=of_orthogonal, measure="intrinsic")
