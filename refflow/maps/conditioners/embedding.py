r"""Embedding: a column of numbers for each token of a text.

The map.  Tokens `a_t` are whole numbers, `0 <= a_t < V`, one for each position `t`.  With `E_v` for row `v` of a table of `V`
rows,
    h_t = scale E_a_t            at valid positions, else 0                         (1)
    dh/da = 0                                                                       (2)
A token cannot move, so (2) says only that nothing flows back to it.

The reverse rule.  All valid positions with the token `v` share the row `E_v`, whose cotangent is therefore a sum over them:
    a_bar = 0,   E_bar_v = scale sum_t [a_t = v] h_bar_t                            (3)

Source: Bengio, Ducharme, Vincent & Jauvin, JMLR 3 (2003); the scale, Vaswani et al., arXiv:1706.03762, section 3.4.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, conditioner, plain, real, sequence_mask
from ...core.rules import FINITE
from ...core.arrays import masked
from ...core.sets import below
from .conv1d import held_to_mask


@conditioner(source="Bengio et al., JMLR 3 (2003)", smooth=False)
class Embedding(Conditioner):
    """h = scale E[a], columns (*batch, H, T) for tokens a (*batch, T), whole numbers; E (V, H), scale a plain number.

    `mask` (*batch, T), filled in by `at(mask=...)`: tokens at invalid positions are not read.
    """

    E: Array = real("V", "H")
    scale: float = plain(1.0, FINITE)
    mask: Array = sequence_mask("T")
    event_ndim = (1, 2)
    event_shape = ("T",)

    domain = property(lambda self: below(self.E.shape[-2]))

    def output_shape(self, shape):
        held_to_mask(self.mask, shape[0])
        return self.E.shape[-1], *shape

    def depends(self, shape):
        return np.tile(np.eye(shape[0], dtype=bool), (self.E.shape[-1], 1))

    @staticmethod
    def definition(m, a, E, scale, mask):
        rows = [next(E_v for v, E_v in enumerate(E) if a_t == v) for a_t in a]
        return [[scale * row[c] if mask is None or mask[t] else 0 for t, row in enumerate(rows)]
                for c in range(len(E[0]))]                                          # (1)

    def rows(self, a):
        """The index of each token in the tables of all events, one below the other, or in the one that they share."""
        tokens = np.rint(a).astype(np.intp)         # between whole numbers, where differences are taken, h is constant too
        if self.E.ndim == 2:
            return tokens
        batch = a.shape[:-1]
        return tokens + self.E.shape[-2] * np.arange(math.prod(batch)).reshape(*batch, 1)

    def forward(self, a):
        V, H = self.E.shape[-2:]
        tables = self.E if self.E.ndim == 2 else np.broadcast_to(self.E, (*a.shape[:-1], V, H)).reshape(-1, H)
        return masked((self.scale * tables[self.rows(a)]).mT, self.mask)            # (1)

    def jacobian(self, a):
        T = a.shape[-1]
        return np.zeros((*a.shape[:-1], self.E.shape[-1] * T, T), self.E.dtype)     # (2)

    def vjp(self, a):
        def pullback(h_bar):
            V, H = self.E.shape[-2:]
            batch = () if self.E.ndim == 2 else a.shape[:-1]
            E_bar = np.zeros((math.prod(batch) * V, H), h_bar.dtype)
            columns = masked(self.scale * h_bar, self.mask).mT
            np.add.at(E_bar, self.rows(a).ravel(), columns.reshape(-1, H))          # (3)
            return np.zeros(a.shape, h_bar.dtype), {"E": E_bar.reshape(*batch, V, H)}       # (3)

        return self.forward(a), pullback

    hard_cases = (
        case("Repeated", "a token stands twice: its cotangents are added", z=[[1.0, 0.0, 1.0]],
             E=[[0.1, -2.0], [3.0, 0.7], [1.0, 1.0]], scale=math.sqrt(2)),
        case("Ends", "the first and the last row", z=[[0.0, 2.0]], E=[[0.3], [1.0], [-5.0]], scale=0.1),
        case("Masked", "the second position is empty", z=[[1.0, 0.0]], E=[[2.0], [3.0]], mask=[True, False]),
        case("Cancelling", "the terms of the cotangent nearly cancel", z=[[0.0, 0.0, 0.0]], E=[[2.0**60]]),
    )
