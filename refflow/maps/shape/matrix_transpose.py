r"""Matrix transpose: rows become columns.

The map.  A matrix `z` of `M` rows and `K` columns becomes one of `K` rows and `M` columns:
    x_kl = z_lk                                                                     (1)
    z_lk = x_kl                                                                     (2)
The map moves entries and changes none of them:
    dx/dz = a permutation matrix,   log|det| = 0                                    (3)
A matrix whose rows lie on the simplex becomes one whose columns do.  A row-stochastic matrix becomes a column-stochastic one.
Symmetric matrices stay what they are, and orthogonal ones become their inverses.  Rows and columns that sum to 0 still do.  So the
map takes these sets to themselves and, by (3), keeps their volumes.                (4)
Strictly lower triangles and strictly upper ones go to each other.                                              (5)

The reverse rule.  The transpose of a permutation matrix is its inverse, so that cotangents move back as entries do:
    z_bar_lk = x_bar_kl,   of the inverse map read from right to left               (6)

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, real, strictly_lower, strictly_upper
from ...core.sets.rearranged import put_back, rearranged

KEPT = ("positive_definite", "correlation", "zero_sum_matrix", "orthogonal", "orthogonal, det 1", "orthogonal, det -1")
TRIANGLES = {"strictly_lower": strictly_upper, "strictly_upper": strictly_lower}


def exchanged(shape):
    M, K = shape
    return K, M


@bijector(source="definition", domain=real, codomain=real, constant_log_det=True)
class MatrixTranspose(Bijector):
    """x = z^T; z is (*batch, M, K), x is (*batch, K, M)."""

    event_ndim = (2, 2)

    def image_of(self, where, side=0):
        """The same entries in other places."""
        if not where.thin:
            return super().image_of(where, side)
        if where.name in KEPT:
            return where                                                            # (4)
        if where.name in TRIANGLES:
            return TRIANGLES[where.name]                                            # (5)
        before = put_back(where, "transposed")
        if before is not None or where.member_ndim > 2:
            return before
        transposed = self.unchecked_copy.forward
        return rearranged(where, "transposed", 2, exchanged, transposed, transposed)

    def output_shape(self, shape):
        return exchanged(shape)

    def input_shape(self, shape):
        return exchanged(shape)

    @staticmethod
    def definition(m, z):
        return [[row[k] for row in z] for k in range(len(z[0]))]                    # (1)

    @staticmethod
    def inverse_definition(m, x):
        return [[row[l] for row in x] for l in range(len(x[0]))]                    # (2)

    def forward(self, z):
        return z.mT                                                                 # (1)

    def inverse(self, x):
        return x.mT                                                                 # (2)

    def log_det(self, z):
        return np.zeros(z.shape[:-2], z.dtype)                                      # (3)

    def jacobian(self, z):
        size = int(np.prod(z.shape[-2:]))
        moved = np.arange(size).reshape(z.shape[-2:]).mT.ravel()
        J = (moved[:, None] == np.arange(size)).astype(z.dtype)                     # (3)
        return np.broadcast_to(J, (*z.shape[:-2], size, size))

    def vjp(self, z):
        return self.forward_and_log_det(z), lambda x_bar, log_det_bar: (x_bar.mT, {})       # (6)

    def inverse_vjp(self, x):
        return self.inverse_and_log_det(x), lambda z_bar, log_det_bar: (z_bar.mT, {})       # (6)

    hard_cases = (
        case("Wide", "two rows become two columns", z=[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]],
             x=[[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]]),
        case("Row", "one row becomes one column", z=[[[1.0, -2.0]]], x=[[[1.0], [-2.0]]]),
        case("Square", "the diagonal stays", z=[[[1.0, 2.0], [3.0, 4.0]]], x=[[[1.0, 3.0], [2.0, 4.0]]]),
        case("Subnormal", "entries are moved, whatever their size", z=[[[5e-324, 2.0**1000]]], x=[[[5e-324], [2.0**1000]]]),
    )
