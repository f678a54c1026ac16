r"""A strict triangle of a matrix, its numbers row by row.

The map.  With `(i_n, j_n)` the places below the diagonal, or above it, row by row,
    T_{i_n j_n} = h_n,   all other T_ij = 0                                         (1)

The reverse rule.  The map moves entries and changes none of them, and cotangents move back:
    h_bar_n = T_bar_{i_n j_n}                                                       (2)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import FLAG, count
from .parametrisation import Map, parametrisation


@parametrisation(source="nflows")
class Triangle(Map):
    """`triangle` (D, D), D = `rows`: h in its strict lower triangle or, with `upper`, in its upper one."""

    rows: int = plain(rule=count())
    upper: bool = plain(False, FLAG)
    names = ("triangle",)

    size = property(lambda self: self.rows * (self.rows - 1) // 2)
    cores = property(lambda self: ((self.rows,) * 2,))

    @classmethod
    def examples(cls, source):
        f = cls(source.count(2, 3), source.choice((False, True)))
        return f, (f.size,)

    @staticmethod
    def definition(m, h, rows, upper):
        D, left = range(rows), iter(h)
        return {"triangle": [[next(left) if (j > i if upper else j < i) else m.mpf(0) for j in D] for i in D]}      # (1)

    def vjp(self, h):
        D = self.rows
        places = np.triu_indices(D, 1) if self.upper else np.tril_indices(D, -1)
        T = np.zeros((*h.shape[:-1], D, D), h.dtype)
        T[(..., *places)] = h                                                       # (1)
        return {"triangle": T}, lambda bars: (bars["triangle"][(..., *places)], {})             # (2)

    hard_cases = (
        case("Nothing", "D = 1: a triangle without numbers", z=[[]], rows=1),
        case("Upper", "row by row, also above the diagonal", z=[[1.0, 2.0, 3.0]], rows=3, upper=True),
    )
