"""Small shared words of the matrix pages: scaled events, substitution, orders, outer products.

A scaled event is a pair (y, e), y (*batch, D) and e (*batch, 1) integers, that stands for 2^e y.  It overflows nowhere.
"""

from __future__ import annotations

import numpy as np


def unit_scaled(y, e=0):
    """The scaled event (y, e) with the largest |y_i| of each event in [1/2, 1), exactly; all 0 stays 0.

    A linear map applied to it cannot overflow on its way to a result that does not, and meets no subnormal number that
    matters: what underflows beside the largest entry is far below the normwise unit of error.
    """
    _, k = np.frexp(np.abs(y).max(-1, keepdims=True))
    return np.ldexp(y, -k), e + k


def solve_lower(L, b, e=0, unit=False):
    """The unit scaled (y, e') with L 2^e' y = 2^e b, by forward substitution: y_i = (b_i - sum_{j<i} L_ij y_j) / L_ii.

    L (*batch, D, D), of which the lower triangle alone is read (with `unit` the diagonal is 1 and not read); b and e as
    in a scaled event of the full batch.  An event that outgrows the root of the largest float is scaled down on the way.
    """
    y, e = unit_scaled(b, e)
    root = np.sqrt(np.finfo(y.dtype).max)
    single = L.ndim == 2
    L = L if single else np.moveaxis(np.broadcast_to(L, y.shape + y.shape[-1:]), (-2, -1), (0, 1))
    y = np.ascontiguousarray(np.moveaxis(y, -1, 0))                 # entry i of all events lies together in memory
    for i in range(len(y)):
        y[i] -= np.tensordot(L[i, :i], y[:i], 1) if single else (L[i, :i] * y[:i]).sum(0)
        if not unit:
            y[i] /= L[i, i]
        if np.any(np.abs(y[i]) > root):
            scaled, e = unit_scaled(np.moveaxis(y, 0, -1), e)
            y = np.moveaxis(scaled, -1, 0)
    return unit_scaled(np.moveaxis(y, 0, -1), e)


def solve_upper(U, b, e=0, unit=False):
    """The same for U y = b by back substitution, from the last row to the first."""
    y, e = solve_lower(U[..., ::-1, ::-1], b[..., ::-1], e, unit)
    return np.ascontiguousarray(y[..., ::-1]), e


def reordered(y, order):
    """x_i = y_{order_i} over the last axis."""
    return np.take_along_axis(y, np.broadcast_to(order, y.shape), -1)


def opposite(order):
    """The order that undoes `order`: where x_i = y_{order_i}, y_i = x_{opposite_i}."""
    return np.argsort(order, -1)


def outer_sum(a, b, like):
    """sum over the batch of a b^T where the matrix `like` has no batch, as one product; else a b^T of each event."""
    if like.ndim == 2:
        return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])
    return a[..., :, None] * b[..., None, :]


def scaled_outer_sum(a, i, b, j, like):
    """outer_sum of 2^i a and 2^j b, unit scaled both: 2^(i+j) a b^T = (2^h a) (2^(i+j-h) b)^T with h = floor((i+j)/2).

    2^j b alone may overflow, or vanish, where the product does not.
    """
    h = (i + j) // 2
    return outer_sum(np.ldexp(a, h), np.ldexp(b, i + j - h), like)
