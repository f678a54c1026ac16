r"""Strict triangles, `R^(D(D-1)/2)` -> the matrices that are 0 on the diagonal and on one side of it.

The map.  `z` is laid row by row into the strict lower triangle or, with `upper`, into the upper one, `z_n` at `(i_n, j_n)`:
    x_{i_n j_n} = z_n,   all other x_ij = 0                                         (1)
    z_n = x_{i_n j_n}                                                               (2)
    dx_{i_n j_n}/dz_n = 1,   all else 0                                             (3)
The chart is that triangle, row by row, whose block is the identity:
    log|det| = 0                                                                    (4)

The reverse rule.  From (1) and, for the inverse map, from (2),
    z_bar_n = x_bar_{i_n j_n}                                                       (5)
    x_bar_{i_n j_n} = z_bar_n,   all other x_bar_ij = 0                             (6)

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, plain, real, sets
from ...core.rules import FLAG
from .correlation_cholesky import size_of_triangle


@bijector(source="definition", domain=real, constant_log_det=True)
class StrictTriangle(Bijector):
    """The numbers of a vector row by row in the strict lower triangle of a matrix, or with `upper` in its upper one.

    ValueError for a vector whose length is not D(D-1)/2, and a matrix that is not square or not such a triangle.
    """

    upper: bool = plain(False, FLAG)
    event_ndim = (1, 2)

    codomain = property(lambda self: sets.strictly_upper if self.upper else sets.strictly_lower)

    @classmethod
    def reaching(cls, where, like):
        return cls(where is sets.strictly_upper)

    def output_shape(self, shape):
        D = size_of_triangle(shape[0])
        return D, D

    def input_shape(self, shape):
        if shape[0] != shape[1] or shape[0] < 1:
            raise ValueError("a triangle must be square, with D >= 1 rows")
        return (shape[0] * (shape[0] - 1) // 2,)

    def places(self, D):
        """(i_n, j_n)."""
        return np.triu_indices(D, 1) if self.upper else np.tril_indices(D, -1)

    @staticmethod
    def definition(m, z, upper):
        D, left = size_of_triangle(len(z)), iter(z)
        return [[next(left) if (j > i if upper else j < i) else 0 for j in range(D)] for i in range(D)]     # (1)

    @staticmethod
    def inverse_definition(m, x, upper):
        D = len(x)
        return [x[i][j] for i in range(D) for j in range(D) if (j > i if upper else j < i)]         # (2)

    def forward(self, z):
        D = size_of_triangle(z.shape[-1])
        x = np.zeros((*z.shape[:-1], D, D), z.dtype)
        x[(..., *self.places(D))] = z                                               # (1)
        return x

    def inverse(self, x):
        return x[(..., *self.places(x.shape[-1]))]                                  # (2)

    def log_det(self, z):
        return np.zeros(z.shape[:-1], z.dtype)                                      # (4)

    def jacobian(self, z):
        N, D = z.shape[-1], size_of_triangle(z.shape[-1])
        J = np.zeros((*z.shape[:-1], D * D, N), z.dtype)
        J[..., self.codomain.coordinates((D, D)), np.arange(N)] = 1                                  # (3)
        return J

    def vjp(self, z):
        return self.forward_and_log_det(z), lambda x_bar, log_det_bar: (self.inverse(x_bar), {})    # (5)

    def inverse_vjp(self, x):
        return self.inverse_and_log_det(x), lambda z_bar, log_det_bar: (self.forward(z_bar), {})    # (6)

    hard_cases = (
        case("Rows", "row by row", z=[[1.0, 2.0, 3.0]], x=[[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 3.0, 0.0]]], upper=False),
        case("Upper", "row by row, the first row longest", z=[[1.0, 2.0, 3.0]],
             x=[[[0.0, 1.0, 2.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]]], upper=True),
    )
