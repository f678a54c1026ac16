"""Small shared words of the matrix pages: orders, products, outer products of scaled events."""

from __future__ import annotations

import numpy as np

from ...core.words import scaled


def reordered(y, order):
    """x_i = y_{order_i} over the last axis."""
    if order.ndim == 1:
        return np.take(y, order, -1)
    return np.take_along_axis(y, np.broadcast_to(order, y.shape), -1)


def opposite(order):
    """The order that undoes `order`: where x_i = y_{order_i}, y_i = x_{opposite_i}."""
    return np.argsort(order, -1)


def applied(W, z):
    """W z for each event; for a single matrix W one matrix product for all of them."""
    if W.ndim > 2:
        return np.matvec(W, z)
    return (z.reshape(-1, z.shape[-1]) @ W.T).reshape(*z.shape[:-1], W.shape[0])


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
    return outer_sum(scaled(a, h), scaled(b, i + j - h), like)


# -- a shift that may not be there ------------------------------------------------------------------------------------

def plus(x, shift):
    """x + shift, or x where the shift is None."""
    return x if shift is None else x + shift


def minus(x, shift):
    """x - shift, or x where the shift is None."""
    return x if shift is None else x - shift


def shift_bar(f, bar):
    """The cotangent `bar` of a map's shift, by its name, or nothing where that is None."""
    return {} if f.shift is None else {"shift": bar}
