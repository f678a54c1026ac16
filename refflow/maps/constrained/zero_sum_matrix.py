r"""Matrices whose rows and columns sum to 0, `R^((M-1) x (K-1))` -> `R^(M x K)`, without a change of lengths.

The map.  `B_K` is the matrix of `ZeroSum` for `K` entries, with `h` the root of `K`; its columns are orthonormal and sum to 0:
    B_kj = [j = k] - 1 / (K + h)  for k < K,   B_Kj = -1 / h                        (1)
It acts on rows, and `B_M` on columns, so that both sum to 0:
    x = B_M z B_K^T                                                                 (2)
On vectors that sum to 0, `B_K` is undone by
    C_jk = [j = k]  for k < K,   C_jK = -1 / (h + 1)                                (3)
    z = C_M x C_K^T                                                                 (4)
    dx_kl/dz_ij = (B_M)_ki (B_K)_lj                                                 (5)
The columns of (5) are products of orthonormal ones, and orthonormal themselves.  By the own volume of the matrices,
    log|det dx/dz| = 0                                                              (6)

The reverse rule.  From (2), and for the inverse map from (4),
    z_bar = B_M^T x_bar B_K                                                         (7)
    x_bar = C_M^T z_bar C_K                                                         (8)

Source: PyMC, `ZeroSumTransform` over two axes; Stan's sum_to_zero_matrix is an isometry onto the same set.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, real
from ...core.sets import zero_sum_matrix


@bijector(source="PyMC, ZeroSumTransform", domain=real, codomain=zero_sum_matrix, constant_log_det=True)
class ZeroSumMatrix(Bijector):
    """x = B_M z B_K^T.

    z is (*batch, M-1, K-1) and real, x is (*batch, M, K) with rows and columns that sum to 0, M >= 1 and K >= 1.  The log-det is by own
    volume.  ValueError for z that is not finite and for x with another sum of a row or column.
    """

    event_ndim = (2, 2)

    def output_shape(self, shape):
        return shape[0] + 1, shape[1] + 1

    def input_shape(self, shape):
        if min(shape) < 1:
            raise ValueError("a matrix whose rows and columns sum to 0 needs M >= 1 rows and K >= 1 columns")
        return shape[0] - 1, shape[1] - 1

    @staticmethod
    def definition(m, z):
        B_K = B(m, len(z[0]) + 1 if z else 1)
        rows = [[sum((b * v for b, v in zip(weights, row)), m.mpf(0)) for weights in B_K] for row in z]     # (1) (2)
        return [[sum((b * row[k] for b, row in zip(weights, rows)), m.mpf(0)) for k in range(len(B_K))]
                for weights in B(m, len(z) + 1)]                                    # (1) (2)

    @staticmethod
    def inverse_definition(m, x):
        h, g = m.sqrt(len(x[0])), m.sqrt(len(x))
        rows = [[v - row[-1] / (h + 1) for v in row[:-1]] for row in x]             # (3) (4)
        return [[v - w / (g + 1) for v, w in zip(row, rows[-1])] for row in rows[:-1]]      # (3) (4)

    def forward(self, z):
        left, right = (columns(size + 1, z.dtype) for size in z.shape[-2:])
        return left @ z @ right.T                                                   # (2)

    def inverse(self, x):
        left, right = (undoing(size, x.dtype) for size in x.shape[-2:])
        return left @ x @ right.T                                                   # (4)

    def log_det(self, z):
        return np.zeros(z.shape[:-2], z.dtype)                                      # (6)

    def jacobian(self, z):
        J = np.kron(*(columns(size + 1, z.dtype) for size in z.shape[-2:]))         # (5)
        return np.broadcast_to(J, z.shape[:-2] + J.shape)

    def vjp(self, z):
        left, right = (columns(size + 1, z.dtype) for size in z.shape[-2:])
        return self.forward_and_log_det(z), lambda x_bar, log_det_bar: (left.T @ x_bar @ right, {})         # (7)

    def inverse_vjp(self, x):
        left, right = (undoing(size, x.dtype) for size in x.shape[-2:])
        return self.inverse_and_log_det(x), lambda z_bar, log_det_bar: (left.T @ z_bar @ right, {})         # (8)

    hard_cases = (
        case("Centred", "the rows and columns of z themselves sum to 0: the last entries are 0", z=[[[1.0, -1.0], [-1.0, 1.0]]]),
        case("Two", "one number in four places, halved", z=[[[3.0]]], x=[[[1.0, -1.0], [-1.0, 1.0]]]),
        case("Long", "two rows, four columns", z=[[[1.0, 2.0**60, -3.0]]], x=[[[1.0, 2.0, -4.0, 1.0], [-1.0, -2.0, 4.0, -1.0]]]),
    )


def B(m, size):
    """B_size as a list of rows, in the numbers of m."""
    h = m.sqrt(size)
    return [[int(j == k) - 1 / (size + h) for j in range(size - 1)] for k in range(size - 1)] + [[-1 / h] * (size - 1)]      # (1)


def columns(size, dtype):
    """B_size."""
    return np.array(B(np, size), dtype).reshape(size, size - 1)                     # (1)


def undoing(size, dtype):
    """C_size."""
    return np.hstack((np.eye(size - 1), np.full((size - 1, 1), -1 / (np.sqrt(size) + 1)))).astype(dtype)    # (3)
