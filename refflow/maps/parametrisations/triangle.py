r"""A strict triangle of a matrix, its numbers row by row.

    T_{i_n j_n} = h_n,   all other T_ij = 0                                         (1)
    h_bar_n = T_bar_{i_n j_n}                                                       (2)
with `(i_n, j_n)` the places below the diagonal, or above it, row by row.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from .parametrisation import Map, parametrisation


@parametrisation(source="nflows")
class Triangle(Map):
    """`triangle` (D, D), D = `size_of_matrix`: h in its strict lower triangle or, with `upper`, in its upper one."""

    size_of_matrix: int = plain()
    upper: bool = plain(False)
    names = ("triangle",)

    size = property(lambda self: self.size_of_matrix * (self.size_of_matrix - 1) // 2)
    cores = property(lambda self: ((self.size_of_matrix,) * 2,))

    def _validate(self):
        super()._validate()
        if self.size_of_matrix < 1:
            raise ValueError(f"Triangle: size_of_matrix must be at least 1, not {self.size_of_matrix}")

    @classmethod
    def examples(cls, source):
        f = cls(source.count(2, 3), source.choice((False, True)))
        return f, (f.size,)

    @staticmethod
    def definition(m, h, size_of_matrix, upper):
        D, left = range(size_of_matrix), iter(h)
        return {"triangle": [[next(left) if (j > i if upper else j < i) else m.mpf(0) for j in D] for i in D]}      # (1)

    def vjp(self, h):
        D = self.size_of_matrix
        places = np.triu_indices(D, 1) if self.upper else np.tril_indices(D, -1)
        T = np.zeros((*h.shape[:-1], D, D), h.dtype)
        T[(..., *places)] = h                                                       # (1)
        return {"triangle": T}, lambda bars: (bars["triangle"][(..., *places)], {})             # (2)

    hard_cases = (
        case("Nothing", "D = 1: a triangle without numbers", z=[[]], size_of_matrix=1),
        case("Upper", "row by row, also above the diagonal", z=[[1.0, 2.0, 3.0]], size_of_matrix=3, upper=True),
    )
