r"""Cholesky factors with more rows than columns: lower triangular matrices of `M` rows and `N <= M` columns with a positive
diagonal, from `R^n`.

The map.  `z` is laid row by row, `z_ij` with `j <= min(i, N)`, so that it has `n = N (N + 1)/2 + (M - N) N` entries:
    L_ij = z_ij  for j < i,   L_jj = exp z_jj,   L_ij = 0  for j > i                (1)
    z_ij = L_ij  for j < i,   z_jj = log L_jj                                       (2)
    M = N + (n - N (N + 1)/2) / N                                                   (3)
    dL_ij/dz_ij = 1  for j < i,   dL_jj/dz_jj = exp z_jj,   all else 0              (4)
The first `N` rows are a square factor, and the rows below them are free.  The chart is the entries of `L` with `j <= i`, row by
row, and their block of (4) is diagonal:
    log|det dL/dz| = z_11 + ... + z_NN                                              (5)
    log|det dz/dL| = -log L_11 - ... - log L_NN                                     (6)
With `M = N` it is `CholeskyFactor`.

The reverse rule.  With the cotangent `l_bar` of (5),
    z_ij_bar = L_ij_bar  for j < i,   z_jj_bar = L_jj_bar exp z_jj + l_bar          (7)
For the inverse map, with the cotangent `l_bar` of (6),
    L_ij_bar = z_ij_bar  for j < i,   L_jj_bar = (z_jj_bar - l_bar) / L_jj          (8)

Source: Stan reference manual, "Cholesky factors of covariance matrices", cholesky_factor_cov[M, N]; `z` is in Stan's order.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, log_abs_product, plain, real, refusal
from ...core.rules import count
from ...core.sets import rectangular_cholesky_factor
from .cholesky_factor import diagonal_of
from .half_line import times_exp


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def places(n, columns):
        """The (i, j) of the entries of z, with j <= i."""
        M = columns + (n - columns * (columns + 1) // 2) // columns                 # (3)
        return [(i, j) for i in range(M) for j in range(min(i + 1, columns))]

    def laid(entries, columns):
        """The matrix of entries row by row, 0 elsewhere."""
        places = textbook.places(len(entries), columns)
        found = dict(zip(places, entries))
        return np.array([[found.get((i, j), 0) for j in range(columns)] for i in range(places[-1][0] + 1)])

    def forward(z, columns):
        places = textbook.places(len(z), columns)
        return textbook.laid([np.exp(v) if i == j else v for v, (i, j) in zip(z, places)], columns)         # (1)

    def inverse(x, columns):
        return np.array([np.log(x[i, j]) if j == i else x[i, j]
                         for i in range(len(x)) for j in range(min(i + 1, columns))])       # (2)

    def jacobian(z, columns):
        places = textbook.places(len(z), columns)
        slopes = [np.exp(v) if i == j else 1 for v, (i, j) in zip(z, places)]
        return np.array([[slope if place == (i, j) else 0 for place, slope in zip(places, slopes)]
                         for i in range(places[-1][0] + 1) for j in range(columns)])        # (4)

    def log_det(z, columns):
        return sum(v for v, (i, j) in zip(z, textbook.places(len(z), columns)) if i == j)   # (5)

    def inverse_log_det(x, columns):
        return -np.sum(np.log(np.diagonal(x)))                                      # (6)

    def vjp(z, columns, x_bar, l_bar):
        return np.array([x_bar[i, j] * np.exp(v) + l_bar if i == j else x_bar[i, j]
                         for v, (i, j) in zip(z, textbook.places(len(z), columns))]), {}    # (7)

    def inverse_vjp(x, columns, z_bar, l_bar):
        places = textbook.places(len(z_bar), columns)
        return textbook.laid([(bar - l_bar) / x[i, i] if i == j else bar for bar, (i, j) in zip(z_bar, places)], columns), {}       # (8)


r"""In floating point.

In (6), a sum of logarithms may cancel, but the logarithm of a product does not:
    log|det dz/dL| = -log(L_11 ... L_NN)                                            (9)

In (7), `exp z_jj` may overflow, or lose digits below the smallest normal number, where its product with `L_jj_bar` does neither:
    L_jj_bar exp z_jj = (L_jj_bar h) h,   h = exp(z_jj/2)                           (10)
"""


@bijector(source="Stan reference manual, Cholesky factors of covariance matrices", domain=real,
          codomain=rectangular_cholesky_factor, textbook=textbook)
class RectangularCholeskyFactor(Bijector):
    """L_ij = z_ij below the diagonal, L_jj = exp z_jj; z (*batch, N(N+1)/2 + (M-N)N) row by row, L (*batch, M, N), N = columns.

    The log-det is by the entries on and below the diagonal.  ValueError for z of another length, for L with another number of columns, with
    fewer rows than columns, or that is not such a factor.
    """

    columns: int = plain(rule=count())
    event_ndim = (1, 2)

    @classmethod
    def reaching(cls, where, like):
        """The map onto factors with the columns of `like`."""
        return cls(like.shape[-1])

    def output_shape(self, shape):
        N, below = self.columns, shape[0] - self.columns * (self.columns + 1) // 2
        if below < 0 or below % N:
            raise ValueError(f"the length must be {N * (N + 1) // 2} plus a multiple of {N}")
        return N + below // N, N                                                    # (3)

    def input_shape(self, shape):
        M, N = shape
        if N != self.columns or M < N:
            raise ValueError(f"it must have {self.columns} columns, and at least as many rows")
        return (N * (N + 1) // 2 + (M - N) * N,)                                    # (3)

    @staticmethod
    def inverse_definition(m, x, columns):
        return [m.log(row[j]) if j == i else row[j] for i, row in enumerate(x) for j in range(min(i + 1, columns))]         # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        k, L = diagonal_of(self.columns), np.array(z)
        L[..., k] = np.exp(z[..., k])                                               # (1)
        return self.laid(L)

    def inverse(self, x):
        z, k = x[..., below(x.shape[-2:])], diagonal_of(self.columns)
        z[..., k] = np.log(z[..., k])                                               # (2)
        return z

    def log_det(self, z):
        return z[..., diagonal_of(self.columns)].sum(-1)                            # (5)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -log_abs_product(np.diagonal(x, axis1=-2, axis2=-1))        # (6) (9)

    def jacobian(self, z):
        k, slopes, shape = diagonal_of(self.columns), np.ones_like(z), self.output_shape(z.shape[-1:])
        slopes[..., k] = np.exp(z[..., k])
        J = np.zeros((*z.shape[:-1], shape[0] * shape[1], z.shape[-1]), z.dtype)
        J[..., np.flatnonzero(below(shape)), np.arange(z.shape[-1])] = slopes       # (4)
        return J

    def laid(self, vector):
        """The matrix of a vector row by row."""
        shape = self.output_shape(vector.shape[-1:])
        matrix = np.zeros((*vector.shape[:-1], *shape), vector.dtype)
        matrix[..., below(shape)] = vector
        return matrix

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        k = diagonal_of(self.columns)

        def pullback(x_bar, log_det_bar):
            z_bar = x_bar[..., below(x_bar.shape[-2:])]                             # (7)
            z_bar[..., k] = times_exp(z_bar[..., k], z[..., k]) + log_det_bar[..., None]    # (7) (10)
            return z_bar, {}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        k, diagonal = diagonal_of(self.columns), np.diagonal(x, axis1=-2, axis2=-1)

        def pullback(z_bar, log_det_bar):
            L_bar = np.array(z_bar)
            L_bar[..., k] = (z_bar[..., k] - log_det_bar[..., None]) / diagonal     # (8)
            return self.laid(L_bar), {}

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        N = source.count(1, 3)
        M = source.count(N, N + 2)
        return cls(N), cls(N).input_shape((M, N))

    hard_cases = (
        case("Rows", "row by row, the diagonal last in the first N", z=[[0.0, 2.0, -1.0, 4.0, 5.0, 6.0, 7.0]],
             x=[[[1.0, 0.0], [2.0, 0.5], [4.0, 5.0], [6.0, 7.0]]], columns=2),
        case("Column", "one column: the first entry is positive", z=[[0.5, -2.0, 3.0]], x=[[[2.0], [-1.0], [0.0]]], columns=1),
        case("Square", "no free rows", z=[[0.0, 2.0, -1.0]], x=[[[1.0, 0.0], [2.0, 0.5]]], columns=2),
        case("UnitDeterminant", "the logarithms of the diagonal cancel", z=[[3.0, 1.0, -3.0, 1.0, 2.0]],
             x=[[[2.0**20, 0.0], [1.0, 2.0**-20], [1.0, 2.0]]], columns=2),
        case("Subnormal", "exp z is subnormal, its product with a cotangent is not", z=[[-740.0, 1.0]], columns=1),
        case("Beyond", "exp z overflows, log-det is z still", z=[[2.0**1000, 1.0]], columns=1),
    )
    refused = (
        refusal("the length must be 3 plus a multiple of 2", [1.0, 2.0, 3.0, 4.0], columns=2),
        refusal("the length must be 6 plus a multiple of 3", [1.0, 2.0, 3.0], columns=3),
    )


def below(shape):
    """Marks of the entries on the diagonal and below it."""
    return np.tri(*shape, dtype=bool)
