r"""A positive definite matrix from its Cholesky factor, `L -> L L^T`.

The map.  `L` is lower triangular with a positive diagonal, with `D` rows:
    S_ij = sum_k L_ik L_jk                                                          (1)
Column by column, for `j = 1 .. D` and `i > j`, `S` gives `L` back:
    L_jj = (S_jj - sum_{k<j} L_jk^2)^(1/2),   L_ij = (S_ij - sum_{k<j} L_ik L_jk) / L_jj            (2)
    dS_ij/dL_ab = [a = i] L_jb + [a = j] L_ib                                       (3)
The coordinates of both sets are the entries on and below the diagonal.  If they are ordered row by row, (3) is triangular.  Its
diagonal has `2 L_ii` for the coordinate `L_ii` and `L_jj` for the coordinate `L_ij`:
    log|det dS/dL| = D log 2 + sum_i (D + 1 - i) log L_ii                           (4)

The reverse rule.  With the cotangent `l_bar` of (4), on and below the diagonal
    L_bar_ij = sum_k (S_bar_ik + S_bar_ki) L_kj + l_bar [i = j] (D + 1 - i) / L_ii  (5)
For the inverse map, `dL = L P`, where `P` is the lower triangle of `L^-1 dS L^-T` with half of its diagonal.  With the
cotangent `l_bar` of minus (4), `U` is the whole cotangent of `L`, and `H` is the lower triangle of `L^T U` with half of its diagonal:
    U_ij = z_bar_ij - l_bar [i = j] (D + 1 - i) / L_ii                              (6)
    M = L^-T H L^-1                                                                 (7)
The inverse (2) reads only the entries of `S` on and below the diagonal, so that
    S_bar_ij = M_ij + M_ji  for j < i,   S_bar_ii = M_ii,   all other S_bar_ij = 0  (8)

Certified where entries are moderate, `2^-4` to `2^4`: the differences in (2) lose the digits that the condition number of `S` costs.

Source: Murray (2016), "Differentiation of the Cholesky decomposition", arXiv:1602.07527.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, cholesky_factor
from ...core.sets import positive_definite


@bijector(source="Murray (2016), arXiv:1602.07527", domain=cholesky_factor, codomain=positive_definite, normwise=True, moderate=True)
class CholeskyOuterProduct(Bijector):
    """S = L L^T; L and S are (*batch, D, D).

    The log-det is by the entries on and below the diagonal.  `Chain([CholeskyFactor(), CholeskyOuterProduct()])` takes free vectors
    to positive definite matrices, as Stan's cov_matrix.  ValueError for L that is not a lower triangular matrix with a positive
    diagonal, and for S that is not symmetric and positive definite.
    """

    event_ndim = (2, 2)

    def output_shape(self, shape):
        if shape[0] != shape[1] or shape[0] < 1:
            raise ValueError("it must be square, with D >= 1 rows")
        return shape

    input_shape = output_shape

    @staticmethod
    def definition(m, z):
        return [[sum((a * b for a, b in zip(row, other)), m.mpf(0)) for other in z] for row in z]   # (1)

    @staticmethod
    def inverse_definition(m, x):
        L = [[m.mpf(0)] * len(x) for _ in x]
        for j, _ in enumerate(x):
            for i in range(j, len(x)):
                rest = x[i][j] - sum((L[i][k] * L[j][k] for k in range(j)), m.mpf(0))
                L[i][j] = m.sqrt(rest) if i == j else rest / L[j][j]                # (2)
        return L

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        S = np.tril(z @ z.mT)                                                       # (1)
        return S + np.tril(S, -1).mT

    def inverse(self, x):
        L = np.zeros_like(x)
        for j in range(x.shape[-1]):
            rest = x[..., j:, j] - (L[..., j:, :j] @ L[..., j, :j, None])[..., 0]
            L[..., j:, j] = rest / np.sqrt(rest[..., :1])                           # (2)
        return L

    def log_det(self, z):
        D, diagonal = z.shape[-1], np.diagonal(z, axis1=-2, axis2=-1)
        return (counts(z) * np.log(diagonal)).sum(-1) + D * np.log(z.dtype.type(2))         # (4)

    def jacobian(self, z):
        D, one = z.shape[-1], np.eye(z.shape[-1], dtype=z.dtype)
        own = one[:, None, :, None] * z[..., None, :, None, :]
        J = own + np.swapaxes(own, -4, -3)                                          # (3)
        return J.reshape(*z.shape[:-2], D * D, D * D)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            return np.tril((x_bar + x_bar.mT) @ z + slope_of_log_det(z, log_det_bar)), {}   # (5)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        L, log_det = self.inverse_and_log_det(x)

        def pullback(z_bar, log_det_bar):
            U = np.tril(z_bar) - slope_of_log_det(L, log_det_bar)                   # (6)
            M = np.linalg.solve(L.mT, half(L.mT @ U))
            M = np.linalg.solve(L.mT, M.mT).mT                                      # (7)
            return half(M + M.mT), {}                                               # (8)

        return (L, log_det), pullback

    hard_cases = (
        case("One", "D = 1: a square", z=[[[3.0]]], x=[[[2.0]]]),
        case("Correlated", "the second pivot is a small difference", z=[[[1.0, 0.0], [1.0, 2.0**-4]]],
             x=[[[1.0, 1.0 - 2.0**-8], [1.0 - 2.0**-8, 1.0]]]),
        case("Cancelling", "the logarithms of the diagonal cancel", z=[[[2.0, 0.0], [1.0, 0.0625]]]),
    )


def counts(L):
    """D + 1 - i."""
    return np.arange(L.shape[-1], 0, -1, L.dtype)


def slope_of_log_det(L, log_det_bar):
    """l_bar (D + 1 - i) / L_ii on the diagonal."""
    slopes = log_det_bar[..., None] * counts(L) / np.diagonal(L, axis1=-2, axis2=-1)
    return slopes[..., None] * np.eye(L.shape[-1], dtype=L.dtype)


def half(A):
    """The lower triangle with half of the diagonal."""
    return np.tril(A) * (1 - np.eye(A.shape[-1], dtype=A.dtype) / 2)
