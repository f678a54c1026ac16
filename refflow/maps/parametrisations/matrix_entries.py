r"""A matrix, its numbers row by row.

The map.  With `i` and `j` counted from 0, and with `N` the number of columns,
    A_ij = h_n,   n = i N + j                                                       (1)

The reverse rule.  The map moves entries and changes none of them, and cotangents move back:
    h_bar_n = A_bar_ij                                                              (2)
"""

from __future__ import annotations

from ...core import case, plain
from ...core.rules import count
from .parametrisation import Map, parametrisation


@parametrisation(source="definition")
class MatrixEntries(Map):
    """`matrix` (rows, columns): the numbers of h, row by row."""

    rows: int = plain(rule=count())
    columns: int = plain(rule=count())
    names = ("matrix",)

    size = property(lambda self: self.rows * self.columns)
    cores = property(lambda self: ((self.rows, self.columns),))

    @classmethod
    def examples(cls, source):
        f = cls(source.count(1, 3), source.count(1, 3))
        return f, (f.size,)

    @staticmethod
    def definition(m, h, rows, columns):
        return {"matrix": [h[i * columns:(i + 1) * columns] for i in range(rows)]}              # (1)

    def vjp(self, h):
        def pullback(bars):
            return bars["matrix"].reshape(*bars["matrix"].shape[:-2], self.size), {}            # (2)

        return {"matrix": h.reshape(*h.shape[:-1], self.rows, self.columns)}, pullback          # (1)

    hard_cases = (
        case("Rows", "row by row, not column by column", z=[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], rows=2, columns=3),
    )
