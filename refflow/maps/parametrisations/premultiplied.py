r"""A map of h multiplied by a matrix: another layout, order, rate or origin of its numbers, or some that several entries share.

The map.  The matrix `A` and the offset `b` are constants; without an offset, `b` is 0:
    fields = map(h'),   h'_q = sum_p A_qp h_p + b_q                                 (1)
`map` gets a rounded `h'`, except where `h'_q` is one number of h.  The page is certified at moderate h: the rounding of a huge
`h'` moves a softmax further than any derivative tells.

The reverse rule.  The cotangent of `h'` comes from the pullback `map*`, and the cotangent of h from the transpose of `A`:
    h_bar_p = sum_q A_qp h'_bar_q,   h'_bar = map*(fields_bar)                      (2)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, case, child, constant, refusal
from ...core.words import passed_on
from ..elementwise import CONVENTIONS
from .entries import Entries
from .parametrisation import Map, parametrisation
from .softmax_knots import SoftmaxKnots


@parametrisation(source="definition", moderate=True)
class Premultiplied(Map):
    """The fields that `map` makes of matrix h + offset; the matrix (Q, P) and the offset (Q,) are constants.

    Raises ValueError if Q is not the map's size.
    """

    map: Map = child()
    matrix: Array = constant("Q", "P", dtype=np.float64)
    offset: Array = constant("Q", dtype=np.float64, optional=True)

    size = property(lambda self: self.matrix.shape[-1])
    names = property(lambda self: self.map.names)
    cores = property(lambda self: self.map.cores)

    def _validate(self):
        super()._validate()
        if self.matrix.ndim != 2 or len(self.matrix) != self.map.size:
            raise ValueError(f"Premultiplied: matrix must have {self.map.size} rows, not shape {self.matrix.shape}")

    @classmethod
    def examples(cls, source):
        matrix = source.choice((((1, 0), (1, 1e-3)), ((0, 1, 0), (1, 0, 0)), ((1, 0), (-1, 0))))
        fields = source.choice((SoftmaxKnots(2, floor=2e-3), Entries(CONVENTIONS["RealNVP"], 2)))
        return cls(fields, np.array(matrix, float), source.choice((None, np.array([0.5, 0.0])))), (len(matrix[0]),)

    @staticmethod
    def definition(m, h, map, matrix, offset):
        b = [0] * len(matrix) if offset is None else offset
        sums = [m.fsum([m.mpf(A_qp) * h_p for A_qp, h_p in zip(row, h) if A_qp] + [m.mpf(b_q)] * bool(b_q))
                for row, b_q in zip(matrix, b)]                                     # (1)
        picked = [[A_qp for A_qp in row if A_qp] == [1] and not b_q for row, b_q in zip(matrix, b)]
        return map.definition(m, [v if whole else passed_on(m, v) for v, whole in zip(sums, picked)])

    def vjp(self, h):
        A, b = self.matrix.astype(h.dtype), 0 if self.offset is None else self.offset.astype(h.dtype)
        fields, map_pullback = self.map.vjp(h @ A.T + b)                            # (1)

        def pullback(bars):
            bar, map_bar = map_pullback(bars)
            return bar @ A, {"map": map_bar}                                        # (2)

        return fields, pullback

    hard_cases = (
        case("Shared", "one number for both bins: no knot depends on it", z=[[3.0]], map=SoftmaxKnots(2),
             matrix=np.ones((2, 1))),
        case("Cancelling", "a number and its offset cancel", z=[[-1.0, 0.5]], map=Entries(CONVENTIONS["RealNVP"], 2),
             matrix=np.eye(2), offset=[1.0, 0.0]),
    )
    refused = (
        refusal("matrix must have 2 rows, not shape (1, 2)", map=Entries(CONVENTIONS["RealNVP"], 2), matrix=np.ones((1, 2))),
        refusal("matrix must have 2 rows, not shape (2, 1, 2)", map=Entries(CONVENTIONS["RealNVP"], 2),
                matrix=np.ones((2, 1, 2))),
    )
