"""Small shared words of the matrix pages: substitution, orders, powers of two."""

from __future__ import annotations

import numpy as np


def solve_lower(L, b, unit=False):
    """y with L y = b by forward substitution over the last axis: y_i = (b_i - sum_{j<i} L_ij y_j) / L_ii.

    L (*batch, D, D), of which the lower triangle alone is read (with `unit` the diagonal is 1 and not read);
    b (*batch, D).  |given - y| <= D u |L^-1| |L| |y| to first order, whatever the conditioning.
    """
    y = np.empty(np.broadcast_shapes(b.shape, L.shape[:-1]), b.dtype)
    for i in range(b.shape[-1]):
        rest = b[..., i] - np.vecdot(L[..., i, :i], y[..., :i])
        y[..., i] = rest if unit else rest / L[..., i, i]
    return y


def solve_upper(U, b, unit=False):
    """y with U y = b by back substitution: y_i = (b_i - sum_{j>i} U_ij y_j) / U_ii; as `solve_lower` in all else."""
    return solve_lower(U[..., ::-1, ::-1], b[..., ::-1], unit)[..., ::-1]


def reordered(y, order):
    """x_i = y_{order_i} over the last axis."""
    return np.take_along_axis(y, np.broadcast_to(order, y.shape), -1)


def opposite(order):
    """The order that undoes `order`: x_i = y_{order_i} for all i is y_i = x_{opposite_i}."""
    return np.argsort(order, -1)


def unit_scaled(event):
    """(2^-e event, e): the largest entry of each event becomes 1/2 <= |entry| < 1, exactly; e is (*batch, 1).

    A linear map applied to the scaled event cannot overflow on its way to a result that does not, and works on no
    subnormal number.  What underflows beside the largest entry is below the normwise unit of error.
    """
    _, e = np.frexp(np.abs(event).max(-1, keepdims=True))
    return np.ldexp(event, -e), e


def outer_sum(a, b, like):
    """sum over the batch of a b^T where the matrix `like` has no batch, as one product; else a b^T of each event."""
    if like.ndim == 2:
        return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])
    return a[..., :, None] * b[..., None, :]
