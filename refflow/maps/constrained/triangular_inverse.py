r"""The inverse of a lower triangular matrix with a positive diagonal.

The map.  `L` has `D` rows, and `X = L^-1` is lower triangular with a positive diagonal, too:
    X_ii = 1 / L_ii,   X_ij = -sum_{j<=k<i} L_ik X_kj / L_ii  for j < i             (1)
    L = X^-1, by (1) with the names exchanged                                       (2)
From `L X = I`, `dX = -X dL X`, so that
    dX_ij/dL_ab = -X_ia X_bj  for b <= a                                            (3)
The coordinates are the entries on and below the diagonal.  The product with `X` from the left multiplies the volume of column `j`
by `X_jj ... X_DD`, and the product from the right that of row `i` by `X_11 ... X_ii`.  Together, `X_ii` occurs `D + 1` times:
    log|det dX/dL| = -(D + 1) (log L_11 + ... + log L_DD)                           (4)

The reverse rule.  From (3), with the cotangent `l_bar` of (4),
    L_bar_ab = -sum_ij X_ia X_bar_ij X_bj - [a = b] (D + 1) l_bar / L_aa   for b <= a       (5)
For the inverse map, the same with the names exchanged                              (6)

Source: TensorFlow Probability, `MatrixInverseTriL`.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, cholesky_factor, log_abs_product
from ...core.arithmetic import apart, product_of_pairs, sum_of_pairs


class textbook:
    """(1) to (6) as they are printed, for one event."""

    def forward(z):
        X = 0 * z
        for i in range(len(z)):
            X[i, i] = 1 / z[i, i]                                                   # (1)
            for j in range(i):
                X[i, j] = -sum(z[i, k] * X[k, j] for k in range(j, i)) / z[i, i]    # (1)
        return X

    def inverse(x):
        return textbook.forward(x)                                                  # (2)

    def jacobian(z):
        X, D = textbook.forward(z), range(len(z))
        return np.array([[-X[i, a] * X[b, j] if b <= a else 0 for a in D for b in D] for i in D for j in D])       # (3)

    def log_det(z):
        return -(len(z) + 1) * np.sum(np.log(np.diagonal(z)))                       # (4)

    def inverse_log_det(x):
        return textbook.log_det(x)                                                  # (2)

    def vjp(z, x_bar, l_bar):
        X, D = textbook.forward(z), len(z)
        return np.tril(-(X.T @ x_bar @ X.T)) - np.diag((D + 1) * l_bar / np.diagonal(z)), {}        # (5)

    def inverse_vjp(x, z_bar, l_bar):
        return textbook.vjp(x, z_bar, l_bar)                                        # (6)


r"""In floating point.

In (1) and (5), products of two factors may leave the floats where sums of products with a third one do not.  The exponents of
numbers are kept apart:
    v = m 2^e,   1/2 <= |m| < 1                                                     (7)

In (4), a sum of logarithms may cancel, but the logarithm of a product does not:
    log L_11 + ... + log L_DD = log(L_11 ... L_DD)                                  (8)
"""


@bijector(source="TensorFlow Probability, MatrixInverseTriL", domain=cholesky_factor, codomain=cholesky_factor, textbook=textbook)
class TriangularInverse(Bijector):
    """X = L^-1; L and X are (*batch, D, D).

    The log-det is by the entries on and below the diagonal.  ValueError for matrices that are not lower triangular with a positive
    diagonal.
    """

    event_ndim = (2, 2)

    def output_shape(self, shape):
        if shape[0] != shape[1] or shape[0] < 1:
            raise ValueError("a triangular matrix must be square, with D >= 1 rows")
        return shape

    input_shape = output_shape

    @staticmethod
    def inverse_definition(m, x):
        return TriangularInverse.definition(m, x)                                   # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.ldexp(*inverse_apart(z))                                          # (1) (7)

    def inverse(self, x):
        return self.forward(x)                                                      # (2)

    def log_det(self, z):
        diagonal = np.diagonal(z, axis1=-2, axis2=-1)
        return -(z.shape[-1] + 1) * log_abs_product(diagonal)                       # (4) (8)

    def inverse_and_log_det(self, x):
        return self.forward_and_log_det(x)                                          # (2)

    def jacobian(self, z):
        X, D = self.forward(z), z.shape[-1]
        J = -X[..., :, None, :, None] * X.mT[..., None, :, None, :]                 # (3)
        return np.where(np.tri(D, dtype=bool), J, 0).reshape(*z.shape[:-2], D * D, D * D)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        X = inverse_apart(z)
        X_T, k = tuple(part.mT for part in X), np.arange(z.shape[-1])

        def pullback(x_bar, log_det_bar):
            L_bar = matrix_product(matrix_product(X_T, apart(-x_bar)), X_T)         # (5) (7)
            slopes = product_of_pairs(apart(-(len(k) + 1) * log_det_bar[..., None]), diagonal_of(X))    # (7)
            both = [np.stack(np.broadcast_arrays(p, q), -1) for p, q in zip(diagonal_of(L_bar), slopes)]
            for part, total in zip(L_bar, sum_of_pairs(both, -1)):
                part[..., k, k] = total                                             # (5) (7)
            return np.tril(np.ldexp(*L_bar)), {}                                    # (5) (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        return self.vjp(x)                                                          # (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("One", "D = 1: a reciprocal", z=[[[4.0]], [[2.0**120]]], x=[[[0.25]]]),
        case("Graded", "L_21 / L_22 overflows, X_21 does not", z=[[[2.0**75, 0.0], [2.0**75, 2.0**-58]], [[2.0**600, 0.0], [2.0**600, 2.0**-490]]],
             x=[[[2.0**75, 0.0], [-(2.0**75), 2.0**-58]]]),
        case("Overflow", "X_22 is a float, its square in (3) is not", z=[[[1.0, 0.0], [1.0, 2.0**-100]], [[1.0, 0.0], [1.0, 2.0**-600]]]),
        case("Cancelling", "the logarithms of the diagonal cancel, and the terms of X_31",
             z=[[[2.0, 0.0, 0.0], [1.0, 0.0625, 0.0], [16.0, 1.0, 8.0]]],
             x=[[[2.0, 0.0], [1.0, 0.5]]]),
    )


def diagonal_of(A):
    """The diagonals of matrices with their exponents apart."""
    return tuple(np.diagonal(part, axis1=-2, axis2=-1) for part in A)


def matrix_product(A, B):
    """A B, all with exponents apart."""
    terms = product_of_pairs(tuple(part[..., :, :, None] for part in A), tuple(part[..., None, :, :] for part in B))
    return sum_of_pairs(terms, -2)                                                  # (7)


def inverse_apart(L):
    """X with its exponents apart, row by row."""
    m, e = apart(L)                                                                 # (7)
    X = np.zeros(L.shape, L.dtype), np.zeros(L.shape, np.int64)
    for i in range(L.shape[-1]):
        above = tuple(part[..., :i, :i] for part in X)
        row, shift = matrix_product((-m[..., i, None, :i], e[..., i, None, :i]), above)
        X[0][..., i, :i], carry = np.frexp(row[..., 0, :] / m[..., i, i, None])     # (1) (7)
        X[1][..., i, :i] = shift[..., 0, :] - e[..., i, i, None] + carry
        X[0][..., i, i], carry = np.frexp(1 / m[..., i, i])                         # (1) (7)
        X[1][..., i, i] = carry - e[..., i, i]
    return X
