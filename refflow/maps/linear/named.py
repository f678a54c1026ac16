r"""Linear maps of vectors, and rearrangements, that have a name of their own and are compositions of pages.

Each function returns the bijector.  The matrices are constants of their names, not parameters to be trained.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Chain
from ..elementwise.affine import Affine
from ..shape import Concatenate, Reshape, Squeeze
from .dense import DenseLinear
from .orthogonal import OrthogonalLinear
from .permutation import Permutation
from .plu import PLULinear
from .pointwise import Pointwise

__all__ = ["autoregressive_filter", "circulant", "cumulative_sum", "discrete_cosine", "haar", "haar_downsampling", "on_diagonal",
           "on_indices", "permuted_axes"]


def discrete_cosine(D) -> OrthogonalLinear:
    """x_k = c_k sum_(n < D) cos(pi (n + 1/2) k/D) z_n, c_0 = sqrt(1/D), c_k = sqrt(2/D): the orthonormal cosine transform.

    Source: Ahmed, Natarajan & Rao 1974.
    """
    k, n = np.arange(D)[:, None], np.arange(D)
    return OrthogonalLinear(np.where(k == 0, math.sqrt(1 / D), math.sqrt(2 / D)) * np.cos(math.pi * (2 * n + 1) * k / (2 * D)))


def haar(D) -> OrthogonalLinear:
    """The orthonormal Haar transform of D entries, D a power of 2: scaled sums of all, and differences of halves, of quarters, ...

    ValueError if D is not a power of 2.

    Source: Haar 1910.
    """
    if D < 1 or D & (D - 1):
        raise ValueError(f"haar: D must be a power of 2, not {D}")
    H = np.ones((1, 1))
    while len(H) < D:
        H = np.concatenate([np.kron(H, [1, 1]), np.kron(np.eye(len(H)), [1, -1])]) / math.sqrt(2)
    return OrthogonalLinear(H)


def haar_downsampling(C) -> Chain:
    """Of images (C, 2 H, 2 W): for each channel and 2 by 2 block (a, b; c, d) the channels (a + b + c + d)/2, (a - b + c - d)/2,
    (a + b - c - d)/2, (a - b - c + d)/2, in this order, at half the height and width.

    Source: Ardizzone et al., arXiv:1907.02392.
    """
    signs = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    return Chain([Squeeze(2), Pointwise(OrthogonalLinear(np.kron(np.eye(C), signs)))])


def cumulative_sum(D) -> PLULinear:
    """x_i = z_1 + ... + z_i, of D entries; log-det 0.

    Source: definition.
    """
    return autoregressive_filter(D, 1.0)


def autoregressive_filter(D, coefficient) -> PLULinear:
    """x_1 = z_1, x_i = coefficient x_(i-1) + z_i, of D entries; log-det 0.

    Source: definition.
    """
    i = np.arange(D)
    powers = np.tril(float(coefficient) ** np.maximum(i[:, None] - i, 0), -1)
    return PLULinear(i, powers, np.zeros((D, D)), np.ones(D), np.zeros(D))


def circulant(kernel) -> DenseLinear:
    """x_i = sum_j k_((i - j) mod D) z_j, for a kernel k of D entries whose discrete Fourier transform has no 0.

    Source: definition.
    """
    kernel = np.asarray(kernel)
    i = np.arange(len(kernel))
    return DenseLinear(kernel[(i[:, None] - i) % len(kernel)])


# -- rearrangements ---------------------------------------------------------------------------------------------------

def permuted_axes(shape, axes) -> Chain:
    """The axes of events of this shape in another order, as `numpy.transpose(z, axes)`; log-det 0.

    Source: definition.
    """
    order = np.arange(math.prod(shape)).reshape(shape).transpose(axes)
    return Chain([Reshape(tuple(shape), (order.size,)), Permutation(order.ravel()), Reshape((order.size,), order.shape)])


def on_indices(f, indices, D) -> Chain:
    """f on the entries of a vector of D entries at these indices; the others stay as they are.

    Source: definition.
    """
    indices = np.asarray(indices)
    order = np.concatenate([indices, np.setdiff1d(np.arange(D), indices)])
    return Chain([Permutation(order), Concatenate([f, Affine()], (len(indices), D - len(indices))), Permutation(np.argsort(order))])


def on_diagonal(f, D) -> Chain:
    """f on the diagonal entries of D by D matrices; the others stay as they are.

    Source: definition.
    """
    inner = on_indices(f, np.arange(D) * (D + 1), D * D)
    return Chain([Reshape((D, D), (D * D,)), *inner.stages, Reshape((D * D,), (D, D))])
