"""Products of matrices and events over a batch, and their adjoints: one matrix product if the matrix has no batch."""

from __future__ import annotations

import math

import numpy as np

from .arithmetic import scaled


def rows(a):
    """Events (*batch, N) as the rows of one matrix."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def product(W, a):
    """W a for events a (*batch, N)."""
    if W.ndim > 2:
        return np.matvec(W, a)
    return (rows(a) @ W.T).reshape(*a.shape[:-1], len(W))


def outer_sum(a, b, like):
    """a b^T, summed over the batch if the matrix `like` has no batch."""
    return rows(a).T @ rows(b) if like.ndim == 2 else a[..., :, None] * b[..., None, :]


def scaled_outer_sum(a, i, b, j, like):
    """outer_sum of 2^i a and 2^j b, both unit scaled: 2^(i+j) a b^T = (2^h a) (2^(i+j-h) b)^T with h = floor((i+j)/2).

    2^j b alone may overflow or vanish even if the product does not.
    """
    h = (i + j) // 2
    return outer_sum(scaled(a, h), scaled(b, i + j - h), like)


def event_sum(h, like):
    """h, summed over the batch if the vector `like` has no batch."""
    return np.ones(math.prod(h.shape[:-1]), h.dtype) @ rows(h) if like.ndim == 1 else h


def solution(z, e, b, inverse):
    """The scaled event (z, e) that solves W z = b.

    Where b is not finite: W^-1 b with W^-1 = inverse(), as floats multiply.  Elimination subtracts infinite numbers that this
    product adds, or never meets.
    """
    beyond = ~np.isfinite(b).all(-1, keepdims=True)
    if not beyond.any():
        return z, e
    return np.where(beyond, product(inverse(), b), z), np.where(beyond, 0, e)


def boolean_product(A, B):
    """Which i reach which k through some j: the composition of two patterns of dependence."""
    return A.astype(np.float32) @ B.astype(np.float32) > 0
