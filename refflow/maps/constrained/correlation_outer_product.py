r"""A correlation matrix from its Cholesky factor, `L -> L L^T`.

The map.  `L` is lower triangular with a positive diagonal and rows of norm 1, with `D` rows:
    R_ij = sum_k L_ik L_jk,   so that R_ii = 1                                      (1)
Column by column, for `j = 1 .. D` and `i > j`, `R` gives `L` back:
    L_jj = (R_jj - s_j)^(1/2),   s_j = sum_{k<j} L_jk^2                             (2)
    L_ij = (R_ij - sum_{k<j} L_ik L_jk) / L_jj                                      (3)
    dR_ij/dL_ab = [a = i] L_jb + [a = j] L_ib                                       (4)
The coordinates of both sets are the entries below the diagonal.  For `j < i`, the sum in (1) ends at `k = j`, so that `R_ij` does not
depend on `L_ii`.  Row by row, (4) is therefore triangular, and its diagonal has `L_jj` for the coordinate `L_ij`:
    log|det dR/dL| = sum_j (D - j) log L_jj                                         (5)
    log|det dL/dR| = -1/2 sum_j (D - j) log(R_jj - s_j)                             (6)

The reverse rule.  With the cotangent `l_bar` of (5),
    L_bar_ij = sum_k (R_bar_ik + R_bar_ki) L_kj + l_bar [i = j] (D - i) / L_ii   for j <= i         (7)
For the inverse map, `dL = L P`, where `P` is the lower triangle of `L^-1 dR L^-T` with half of its diagonal.  With the
cotangent `l_bar` of (6), which is minus (5), `U` is the whole cotangent of `L`, and `H` is the lower triangle of `L^T U` with half of
its diagonal:
    U_ij = z_bar_ij - l_bar [i = j] (D - i) / L_ii   for j <= i                     (8)
    M = L^-T H L^-1                                                                 (9)
The inverse reads only the entries of `R` on and below the diagonal, so that
    R_bar_ij = M_ij + M_ji  for j < i,   R_bar_ii = M_ii,   all other R_bar_ij = 0  (10)
The page is certified where no entry of `L` is larger than the diagonal of its row: the differences in (2)
and (3) lose the digits that the condition number of `R` costs.

Source: NumPyro, `CorrMatrixCholeskyTransform`, which is the inverse; Murray (2016), "Differentiation of the Cholesky
decomposition", arXiv:1602.07527.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case
from ...core.sets.correlation_matrices import correlation, factors_of_correlations
from .cholesky_outer_product import half


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def forward(z):
        return z @ z.T                                                              # (1)

    def inverse(x):
        L = 0 * x
        for j in range(len(x)):
            L[j, j] = np.sqrt(x[j, j] - sum(L[j, :j] ** 2))                         # (2)
            for i in range(j + 1, len(x)):
                L[i, j] = (x[i, j] - sum(L[i, :j] * L[j, :j])) / L[j, j]            # (3)
        return L

    def jacobian(z):
        D = range(len(z))
        return np.array([[(a == i) * z[j, b] + (a == j) * z[i, b] for a in D for b in D] for i in D for j in D])   # (4)

    def log_det(z):
        D = len(z)
        return sum((D - j) * np.log(z[j - 1, j - 1]) for j in range(1, D))          # (5)

    def inverse_log_det(x):
        L, D = textbook.inverse(x), len(x)
        s = [sum(row[:j] ** 2) for j, row in enumerate(L)]
        return -sum((D - j) * np.log(x[j - 1, j - 1] - s[j - 1]) for j in range(1, D)) / 2        # (6)

    def slope_of_log_det(L, l_bar):
        D = len(L)
        return np.array([[l_bar * (D - i) / L[i - 1, i - 1] if i == j < D else 0 for j in range(1, D + 1)] for i in range(1, D + 1)])

    def vjp(z, x_bar, l_bar):
        return np.tril((x_bar + x_bar.T) @ z) + textbook.slope_of_log_det(z, l_bar), {}             # (7)

    def inverse_vjp(x, z_bar, l_bar):
        L = textbook.inverse(x)
        U = np.tril(z_bar) - textbook.slope_of_log_det(L, l_bar)                    # (8)
        H, back = textbook.half(L.T @ U), textbook.inverse_of_lower(L)
        M = back.T @ H @ back                                                       # (9)
        return np.tril(M + M.T, -1) + np.diag(np.diagonal(M)), {}                   # (10)

    def half(A):
        """The lower triangle with half of the diagonal."""
        return np.array([[0 if j > i else A[i, j] / (2 if i == j else 1) for j in range(len(A))] for i in range(len(A))])

    def inverse_of_lower(L):
        X = 0 * L
        for i in range(len(L)):
            for j in range(i + 1):
                X[i, j] = (int(i == j) - sum(L[i, j:i] * X[j:i, j])) / L[i, i]
        return X


r"""In floating point.

In (6), `R_jj - s_j` rounds to 1 where correlations are small, and the difference from 1 is lost:
    log(R_jj - s_j) = log1p((R_jj - 1) - s_j)                                       (11)
"""


@bijector(source="NumPyro, CorrMatrixCholeskyTransform", domain=factors_of_correlations, codomain=correlation, normwise=True,
          moderate=True, textbook=textbook)
class CorrelationOuterProduct(Bijector):
    """R = L L^T; L and R are (*batch, D, D).

    The log-det is by the entries below the diagonal.  `Chain([CorrelationCholesky(), CorrelationOuterProduct()])` takes free vectors
    to correlation matrices, as Stan's corr_matrix.
    ValueError for L that is not lower triangular with rows of norm 1, and for R that is not a correlation matrix.
    """

    event_ndim = (2, 2)

    def output_shape(self, shape):
        if shape[0] != shape[1] or shape[0] < 1:
            raise ValueError("it must be square, with D >= 1 rows")
        return shape

    input_shape = output_shape

    @staticmethod
    def inverse_definition(m, x):
        L = [[m.mpf(0)] * len(x) for _ in x]
        for j, _ in enumerate(x):
            L[j][j] = m.sqrt(x[j][j] - sum((v * v for v in L[j][:j]), m.mpf(0)))    # (2)
            for i in range(j + 1, len(x)):
                L[i][j] = (x[i][j] - sum((L[i][k] * L[j][k] for k in range(j)), m.mpf(0))) / L[j][j]         # (3)
        return L

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        R = np.tril(z @ z.mT, -1)                                                   # (1)
        return R + R.mT + np.eye(z.shape[-1], dtype=z.dtype)

    def inverse(self, x):
        L = np.zeros_like(x)
        for j in range(x.shape[-1]):
            L[..., j, j] = np.sqrt(x[..., j, j] - (L[..., j, :j] ** 2).sum(-1))     # (2)
            rest = x[..., j + 1:, j] - (L[..., j + 1:, :j] @ L[..., j, :j, None])[..., 0]
            L[..., j + 1:, j] = rest / L[..., j, j, None]                           # (3)
        return L

    def inverse_and_log_det(self, x):
        L = self.inverse(x)
        s, ones = (np.tril(L, -1) ** 2).sum(-1), np.diagonal(x, axis1=-2, axis2=-1)
        return L, -(rows_after(L) * np.log1p((ones - 1) - s))[..., :-1].sum(-1) / 2         # (6) (11)

    def log_det(self, z):
        diagonal = np.diagonal(z, axis1=-2, axis2=-1)[..., :-1]
        return (rows_after(z)[:-1] * np.log(diagonal)).sum(-1)                      # (5)

    def jacobian(self, z):
        D, one = z.shape[-1], np.eye(z.shape[-1], dtype=z.dtype)
        own = one[:, None, :, None] * z[..., None, :, None, :]
        J = own + np.swapaxes(own, -4, -3)                                          # (4)
        return J.reshape(*z.shape[:-2], D * D, D * D)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            return np.tril((x_bar + x_bar.mT) @ z) + slope_of_log_det(z, log_det_bar), {}            # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        L, log_det = self.inverse_and_log_det(x)

        def pullback(z_bar, log_det_bar):
            U = np.tril(z_bar) - slope_of_log_det(L, log_det_bar)                   # (8)
            M = np.linalg.solve(L.mT, half(L.mT @ U))
            M = np.linalg.solve(L.mT, M.mT).mT                                      # (9)
            return half(M + M.mT), {}                                               # (10)

        return (L, log_det), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("One", "D = 1: nothing is free", z=[[[1.0]]], x=[[[1.0]]]),
        case("Independent", "the identity", z=[[[1.0, 0.0], [0.0, 1.0]]], x=[[[1.0, 0.0], [0.0, 1.0]]]),
        case("Uncorrelated", "R_jj - s_j in (6) rounds to 1", x=[[[1.0, 2.0**-40, 0.0], [2.0**-40, 1.0, 2.0**-30], [0.0, 2.0**-30, 1.0]]]),
        case("Correlated", "R_22 - s_2 in (2) is a small difference", z=[[[1.0, 0.0], [(1 - 2.0**-8) / (1 + 2.0**-8), 2.0**-3 / (1 + 2.0**-8)]]],
             x=[[[1.0, 1.0 - 2.0**-8], [1.0 - 2.0**-8, 1.0]]]),
        case("Opposed", "the first two numbers are nearly opposite", z=[[[1.0, 0.0, 0.0], [-0.96, 0.28, 0.0], [0.6, 0.0, 0.8]]],
             x=[[[1.0, -0.96, 0.6], [-0.96, 1.0, -0.576], [0.6, -0.576, 1.0]]]),
    )


def rows_after(L):
    """D - i."""
    return np.arange(L.shape[-1] - 1, -1, -1, L.dtype)


def slope_of_log_det(L, log_det_bar):
    """l_bar (D - i) / L_ii on the diagonal, except for i = D."""
    slopes = np.zeros(L.shape[:-1], L.dtype)
    slopes[..., :-1] = log_det_bar[..., None] * rows_after(L)[:-1] / np.diagonal(L, axis1=-2, axis2=-1)[..., :-1]
    return slopes[..., None] * np.eye(L.shape[-1], dtype=L.dtype)
