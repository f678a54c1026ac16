"""Small shared words of the conditioners: products over a batch, nested lists of definitions, Jacobians of slopes."""

from __future__ import annotations

import math

import numpy as np

from ...core.words import unit_scaled


def rows(a):
    """Events (*batch, N) as the rows of one matrix."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def product(W, a):
    """W a for events a (*batch, N): one matrix product where W (M, N) has no batch."""
    if W.ndim > 2:
        return np.matvec(W, a)
    return (rows(a) @ W.T).reshape(*a.shape[:-1], len(W))


def scaled_product(W, a):
    """W a = 2^e W (2^-e a), so that no partial sum overflows."""
    a, e = unit_scaled(a)
    return np.ldexp(product(W, a), e)


def outer_sum(h, a, like):
    """h a^T, summed over the batch where the matrix `like` has none."""
    return rows(h).T @ rows(a) if like.ndim == 2 else h[..., :, None] * a[..., None, :]


def scaled_outer_sum(h, a, like):
    """(P, k) with outer_sum(h, a, like) = 2^k P and P between the roots of the smallest and the largest float.

    Where P has no batch k is one number, else one for each event.
    """
    P, together = outer_sum(h, a, like), like.ndim == 2
    limits, largest = np.finfo(P.dtype), np.abs(P).max(None if together else (-2, -1), initial=0)
    moderate = (np.sqrt(limits.tiny) < largest) & (largest < np.sqrt(limits.max))
    if moderate.all():
        return P, 0
    _, k = np.frexp(np.abs(a).max(None if together else -1, initial=0))
    k = np.where(moderate, 0, k)
    return outer_sum(h, np.ldexp(a, -k[..., None]), like), k[..., None, None]


def boolean_product(A, B):
    """Which i reach which k through some j: patterns of dependence, one after the other."""
    return A.astype(np.float32) @ B.astype(np.float32) > 0


def event_sum(h, like):
    """h, summed over the batch where the vector `like` has none."""
    return np.ones(math.prod(h.shape[:-1]), h.dtype) @ rows(h) if like.ndim == 1 else h


def each(function, *nested):
    """A function of numbers, on every entry of nested lists of one shape."""
    if isinstance(nested[0], list):
        return [each(function, *parts) for parts in zip(*nested)]
    return function(*nested)


def from_slope(self, a):
    """The Jacobian of a map of one number: its slope as a 1 by 1 matrix."""
    return self.slope(a)[..., None, None]


def exponentials(a):
    """exp(min(a, 0)/2) and exp(-|a|)."""
    return np.exp(np.minimum(a, 0) / 2), np.exp(-np.abs(a))
