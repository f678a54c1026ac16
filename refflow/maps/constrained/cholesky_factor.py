r"""Cholesky factors, `R^(D(D+1)/2)` -> the lower triangular matrices with a positive diagonal.

The map.  `z` is laid row by row into the lower triangle, `z_ij` with `j <= i`:
    L_ij = z_ij  for j < i,   L_ii = exp z_ii                                       (1)
    z_ij = L_ij  for j < i,   z_ii = log L_ii                                       (2)
    dL_ij/dz_ij = 1  for j < i,   dL_ii/dz_ii = exp z_ii,   all else 0              (3)
The chart is the lower triangle row by row, whose block is diagonal:
    log|det dL/dz| = z_11 + ... + z_DD                                              (4)
    log|det dz/dL| = -log L_11 - ... - log L_DD                                     (5)

The reverse rule.  With the cotangent `l_bar` of (4),
    z_ij_bar = L_ij_bar  for j < i,   z_ii_bar = L_ii_bar exp z_ii + l_bar          (6)
For the inverse map, with the cotangent `l_bar` of (5),
    L_ij_bar = z_ij_bar  for j < i,   L_ii_bar = (z_ii_bar - l_bar) / L_ii          (7)

Source: Stan reference manual, "Cholesky factors of covariance matrices".
"""

from __future__ import annotations

from math import isqrt

import numpy as np

from ...core import Bijector, bijector, case, cholesky_factor, log_abs_product, real
from .half_line import times_exp


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def places(N):
        """The (i, j) of the entries of z, with j <= i."""
        D = int((2 * N) ** 0.5)
        return [(i, j) for i in range(D) for j in range(i + 1)]

    def laid(entries):
        """A lower triangular matrix from its entries row by row."""
        places = textbook.places(len(entries))
        D, found = places[-1][0] + 1, dict(zip(places, entries))
        return np.array([[found.get((i, j), 0) for j in range(D)] for i in range(D)])

    def forward(z):
        return textbook.laid([np.exp(v) if i == j else v for v, (i, j) in zip(z, textbook.places(len(z)))])         # (1)

    def inverse(x):
        return np.array([np.log(x[i, i]) if j == i else x[i, j] for i in range(len(x)) for j in range(i + 1)])      # (2)

    def jacobian(z):
        places = textbook.places(len(z))
        D, slopes = places[-1][0] + 1, [np.exp(v) if i == j else 1 for v, (i, j) in zip(z, places)]
        return np.array([[slope if place == (i, j) else 0 for place, slope in zip(places, slopes)]
                         for i in range(D) for j in range(D)])                      # (3)

    def log_det(z):
        return sum(v for v, (i, j) in zip(z, textbook.places(len(z))) if i == j)    # (4)

    def inverse_log_det(x):
        return -np.sum(np.log(np.diagonal(x)))                                      # (5)

    def vjp(z, x_bar, l_bar):
        return np.array([x_bar[i, j] * np.exp(v) + l_bar if i == j else x_bar[i, j]
                         for v, (i, j) in zip(z, textbook.places(len(z)))]), {}     # (6)

    def inverse_vjp(x, z_bar, l_bar):
        return textbook.laid([(bar - l_bar) / x[i, i] if i == j else bar
                              for bar, (i, j) in zip(z_bar, textbook.places(len(z_bar)))]), {}      # (7)


r"""In floating point.

In (5), a sum of logarithms may cancel, but the logarithm of a product does not:
    log|det dz/dL| = -log(L_11 ... L_DD)                                            (8)

In (6), `exp z_ii` may overflow, or lose digits below the smallest normal number, where its product with `L_ii_bar` does neither:
    L_ii_bar exp z_ii = (L_ii_bar h) h,   h = exp(z_ii/2)                           (9)
"""


@bijector(source="Stan reference manual, Cholesky factors of covariance matrices", domain=real, codomain=cholesky_factor,
          textbook=textbook)
class CholeskyFactor(Bijector):
    """L_ij = z_ij below the diagonal, L_ii = exp z_ii; z (*batch, D(D+1)/2) row by row, L (*batch, D, D).

    The log-det is that of the lower triangle.  ValueError for z of another length, for L that is not square or not such a
    factor.
    """

    event_ndim = (1, 2)

    def output_shape(self, shape):
        D = size_of(shape[0])
        return D, D

    def input_shape(self, shape):
        if shape[0] != shape[1] or shape[0] < 1:
            raise ValueError("a Cholesky factor must be square, with D >= 1 rows")
        return (shape[0] * (shape[0] + 1) // 2,)

    @staticmethod
    def inverse_definition(m, x):
        return [row[j] if j < i else m.log(row[i]) for i, row in enumerate(x) for j in range(i + 1)]       # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        k, L = diagonal_of(size_of(z.shape[-1])), np.array(z)
        L[..., k] = np.exp(z[..., k])                                               # (1)
        return laid(L)

    def inverse(self, x):
        z, k = x[(..., *np.tril_indices(x.shape[-1]))], diagonal_of(x.shape[-1])
        z[..., k] = np.log(z[..., k])                                               # (2)
        return z

    def log_det(self, z):
        return z[..., diagonal_of(size_of(z.shape[-1]))].sum(-1)                    # (4)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -log_abs_product(np.diagonal(x, axis1=-2, axis2=-1))        # (5) (8)

    def jacobian(self, z):
        N, D = z.shape[-1], size_of(z.shape[-1])
        k, slopes = diagonal_of(D), np.ones_like(z)
        slopes[..., k] = np.exp(z[..., k])
        J = np.zeros((*z.shape[:-1], D * D, N), z.dtype)
        J[..., self.codomain.coordinates((D, D)), np.arange(N)] = slopes                             # (3)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        k = diagonal_of(size_of(z.shape[-1]))

        def pullback(x_bar, log_det_bar):
            z_bar = x_bar[(..., *np.tril_indices(x_bar.shape[-1]))]                 # (6)
            z_bar[..., k] = times_exp(z_bar[..., k], z[..., k]) + log_det_bar[..., None]    # (6) (9)
            return z_bar, {}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        k, diagonal = diagonal_of(x.shape[-1]), np.diagonal(x, axis1=-2, axis2=-1)

        def pullback(z_bar, log_det_bar):
            L_bar = np.array(z_bar)
            L_bar[..., k] = (z_bar[..., k] - log_det_bar[..., None]) / diagonal     # (7)
            return laid(L_bar), {}

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Rows", "row by row, the diagonal last in each", z=[[0.0, 2.0, -1.0, 4.0, 5.0, 1.0]],
             x=[[[1.0, 0.0, 0.0], [2.0, 0.5, 0.0], [4.0, 5.0, 2.0]]]),
        case("UnitDeterminant", "the logarithms of the diagonal cancel", z=[[3.0, 1.0, -3.0]],
             x=[[[2.0**20, 0.0], [1.0, 2.0**-20]]]),
        case("Subnormal", "exp z is subnormal, its product with a cotangent is not", z=[[-740.0]]),
        case("Beyond", "exp z overflows, log-det is z still", z=[[2.0**1000]]),
    )


def size_of(N):
    """D with D(D+1)/2 = N, D >= 1."""
    D = (isqrt(1 + 8 * N) - 1) // 2
    if D * (D + 1) // 2 != N or D < 1:
        raise ValueError(f"the length must be D(D+1)/2 = 1, 3, 6, 10, ...; {N} is not one of these")
    return D


def diagonal_of(D):
    """The indices of the diagonal in the vector."""
    i = np.arange(D)
    return i * (i + 3) // 2


def laid(vector):
    """The vector row by row in the lower triangle of a matrix."""
    D = size_of(vector.shape[-1])
    matrix = np.zeros((*vector.shape[:-1], D, D), vector.dtype)
    matrix[(..., *np.tril_indices(D))] = vector
    return matrix
