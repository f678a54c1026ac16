r"""The Cholesky factor of the inverse of a matrix, from the Cholesky factor of the matrix.

The map.  `L` is the factor of `S = L L^T`, and `M` that of `S^-1 = M M^T`; both are lower triangular with positive diagonals and `D` rows.
With `X = L^-1`, `S^-1 = X^T X`.  So `X` is the product of an orthogonal `Q` and the upper triangular `M^T`.  To factor `X` rather than
`S^-1` does not square the condition number:
    X = Q M^T,   Q = L^T M                                                          (1)
The map is its own inverse, because `S` is the inverse of `S^-1`:
    L comes from M as M from L                                                      (2)
From `dS^-1 = -S^-1 dS S^-1`, with the lower triangle `P` of `M^T dL Q + (M^T dL Q)^T` with half of its diagonal,
    dM = -M P                                                                       (3)
The coordinates are the entries on and below the diagonal.  The map takes `L` to `S`, `S` to `S^-1` and `S^-1` to `M`.  The log-dets of these
steps are `D log 2 + sum_i (D + 1 - i) log L_ii`, `-2 (D + 1) sum_i log L_ii` and `-D log 2 - sum_i (D + 1 - i) log M_ii`.  As the product of all
`L_ii M_ii` is 1, their sum is
    log|det dM/dL| = sum_i i (log M_ii - log L_ii)                                  (4)

The reverse rule.  From (3), `dM_ii/M_ii = -P_ii`, which (4) needs.  Let `H` be the lower triangle of `M^T M_bar` with half of its diagonal.
With the cotangent `l_bar` of (4), half of `l_bar i` is added to the entry `i` of this diagonal:
    H_ij = (M^T M_bar)_ij  for j < i,   H_ii = (M^T M_bar)_ii / 2 + l_bar i / 2     (5)
    L_bar_ij = -(M (H + H^T) Q^T)_ij - [i = j] l_bar i / L_ii  for j <= i           (6)
For the inverse map, the same with the names exchanged                              (7)

Certified where entries are moderate, `2^-4` to `2^4`: `Q` mixes rows and columns of all sizes.

Source: TensorFlow Probability, `CholeskyToInvCholesky`, which forms `S^-1` and factors it.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, cholesky_factor
from .cholesky_outer_product import CholeskyOuterProduct, half
from .triangular_inverse import TriangularInverse


@bijector(source="TensorFlow Probability, CholeskyToInvCholesky", domain=cholesky_factor, codomain=cholesky_factor, normwise=True,
          moderate=True)
class CholeskyToInverseCholesky(Bijector):
    """M with M M^T = (L L^T)^-1; L and M are (*batch, D, D).

    The log-det is by the entries on and below the diagonal.  ValueError for matrices that are not lower triangular with a positive
    diagonal.
    """

    event_ndim = (2, 2)

    def output_shape(self, shape):
        if shape[0] != shape[1] or shape[0] < 1:
            raise ValueError("a Cholesky factor must be square, with D >= 1 rows")
        return shape

    input_shape = output_shape

    @staticmethod
    def definition(m, z):
        X, D = TriangularInverse.definition(m, z), range(len(z))
        inverse = [[sum((X[k][i] * X[k][j] for k in D), m.mpf(0)) for j in D] for i in D]
        return CholeskyOuterProduct.inverse_definition(m, inverse)                  # (1)

    @staticmethod
    def inverse_definition(m, x):
        return CholeskyToInverseCholesky.definition(m, x)                           # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return orthogonal_and_factor(z)[1]                                          # (1)

    def inverse(self, x):
        return self.forward(x)                                                      # (2)

    def forward_and_log_det(self, z):
        M = self.forward(z)
        each = np.log(np.diagonal(M, axis1=-2, axis2=-1)) - np.log(np.diagonal(z, axis1=-2, axis2=-1))
        return M, (places(z) * each).sum(-1)                                        # (4)

    def inverse_and_log_det(self, x):
        return self.forward_and_log_det(x)                                          # (2)

    def jacobian(self, z):
        Q, M = orthogonal_and_factor(z)
        D, batch = z.shape[-1], z.shape[:-2]
        moved = M[..., :, :, None, None] * Q[..., None, None, :, :]                 # (M^T dL Q) for dL = e_a e_b^T: [a, i, b, j]
        W = np.moveaxis(moved, (-4, -3, -2, -1), (-2, -4, -1, -3))                  # [i, j, a, b]
        mask = half(np.ones((D, D), z.dtype))[:, :, None, None]
        P = mask * (W + np.swapaxes(W, -4, -3))
        return -(M @ P.reshape(*batch, D, D**3)).reshape(*batch, D * D, D * D)        # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        Q, M = orthogonal_and_factor(z)
        one, D = np.eye(z.shape[-1], dtype=z.dtype), places(z)

        def pullback(x_bar, log_det_bar):
            weights = log_det_bar[..., None] * D
            H = half(M.mT @ x_bar) + one * weights[..., None] / 2                   # (5)
            own = weights / np.diagonal(z, axis1=-2, axis2=-1)
            return np.tril(-(M @ (H + H.mT) @ Q.mT)) - one * own[..., None], {}     # (6)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        return self.vjp(x)                                                          # (7)

    hard_cases = (
        case("One", "D = 1: a reciprocal", z=[[[4.0]]], x=[[[0.25]]]),
        case("Diagonal", "Q is the identity", z=[[[2.0, 0.0], [0.0, 0.25]]]),
        case("Correlated", "S is nearly singular: the condition of L is the root of that of S", z=[[[1.0, 0.0], [1.0, 2.0**-10]]],
             x=[[[1.0, 0.0], [-1.0, 2.0**-10]]]),
    )


def places(L):
    """i = 1 .. D."""
    return np.arange(1, L.shape[-1] + 1, dtype=L.dtype)


def orthogonal_and_factor(L):
    """Q and M; of the factors of X by Householder's reflections, which leaves signs open, these have a positive diagonal."""
    Q, R = np.linalg.qr(TriangularInverse().forward(L))                                      # (1)
    signs = np.copysign(1, np.diagonal(R, axis1=-2, axis2=-1)).astype(L.dtype)
    return Q * signs[..., None, :], np.tril((signs[..., :, None] * R).mT)           # (1)
