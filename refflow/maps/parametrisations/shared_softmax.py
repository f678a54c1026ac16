r"""Matrices with rows that sum to 1, from logits of their own and numbers that all rows of a matrix share.

The map.  Entry `k` of row `r` of matrix `m` has a logit of its own, and shares `h_mk` with the other rows:
    w_mrk = exp(v_mrk)/sum_j exp(v_mrj),   v_mrk = logits_mrk + h_mk                (1)
In a deep dense sigmoidal flow all events share the trained logits, and a network gives h for each event: it has `M K` outputs in
place of `M R K`.  The page is certified at moderate h: the rounding of a huge `v` moves a softmax further than any derivative
tells.

The reverse rule.  The page `softmax_weights` derives the pullback of a row, which gives `v_bar`.  All rows of a matrix share
`h_mk`, whose cotangent is therefore a sum over them:
    logits_bar_mrk = v_mrk_bar,   h_bar_mk = sum_r v_mrk_bar                        (2)

Source: Huang, Krueger, Lacoste and Courville, Neural Autoregressive Flows, arXiv:1804.00779, and the authors' code.
"""

from __future__ import annotations

from ...core import Array, case, real
from ...core.arrays import sum_to_shape
from .parametrisation import Map, parametrisation
from .softmax_weights import softmax


@parametrisation(source="arXiv:1804.00779", moderate=True)
class SharedSoftmax(Map):
    """`matrices` (M, R, K), each row on the simplex: a softmax of its logits plus the K numbers of h for its matrix."""

    logits: Array = real("M", "R", "K")
    names = ("matrices",)

    size = property(lambda self: self.logits.shape[-3] * self.logits.shape[-1])
    cores = property(lambda self: (self.logits.shape[-3:],))

    @classmethod
    def examples(cls, source):
        f = cls(real.draw(source, (source.count(1, 2), source.count(1, 2), source.count(1, 3))))
        return f, (f.size,)

    @staticmethod
    def definition(m, h, logits):
        matrices, K = [], len(logits[0][0])
        for i, matrix in enumerate(logits):
            e = [[m.exp(v + h_k) for v, h_k in zip(row, h[i * K:(i + 1) * K])] for row in matrix]       # (1)
            matrices.append([[e_k / m.fsum(row) for e_k in row] for row in e])      # (1)
        return {"matrices": matrices}

    def vjp(self, h):
        M, _, K = self.logits.shape[-3:]
        matrices, softmax_pullback = softmax(self.logits + h.reshape(*h.shape[:-1], M, 1, K))       # (1)

        def pullback(bars):
            v_bar = softmax_pullback(bars["matrices"])
            return v_bar.sum(-2).reshape(h.shape), {"logits": sum_to_shape(v_bar, self.logits.shape)}           # (2)

        return {"matrices": matrices}, pullback

    hard_cases = (
        case("One", "a row of one entry is 1 whatever h is", z=[[3.0]], logits=[[[1.0], [-2.0]]]),
        case("Dominant", "one entry of each row rounds to 1", z=[[50.0, 0.0], [0.0, 40.0]], logits=[[[0.0, 1.0], [2.0, -3.0]]]),
        case("Two", "numbers of two matrices", z=[[0.0, 1.0, 2.0, -1.0]], logits=[[[0.5, 0.25]], [[1.0, -1.0]]]),
    )
