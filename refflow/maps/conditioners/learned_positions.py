r"""A learned vector for each position, added to a signal, `(C, T) -> (C, T)`.

The map.  The table `P` holds a vector `P_t` for each of `N` positions.  A signal of `T <= N` positions takes the first `T` of them:
    h_t = a_t + P_t   at valid positions,   0 elsewhere                             (1)
    dh/da = I         at valid positions,   0 elsewhere                             (2)
Attention alone does not know in which order its keys stand; with (1) it does.

The reverse rule.  A sum hands its cotangent to both terms.  With `h_bar` 0 at invalid positions,
    a_bar_t = h_bar_t,   P_bar_t = h_bar_t,   0 for t >= T                          (3)

Source: Gehring, Auli, Grangier, Yarats & Dauphin, arXiv:1705.03122, section 3.1.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, real, refusal, sequence_mask
from ...core.arrays import masked, masked_jacobian
from ...core.words import each, zero_where_invalid
from .conv1d import held_to_mask
from .examples import weights


@conditioner(source="arXiv:1705.03122")
class LearnedPositions(Conditioner):
    """h_t = a_t + P_t; a, h (*batch, C, T), P (C, N) for T <= N; `mask` (*batch, T).  ValueError for more positions than N."""

    P: Array = real("C", "N")
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    def output_shape(self, shape):
        if shape[1] > self.P.shape[-1]:
            raise ValueError(f"it has vectors for N={self.P.shape[-1]} positions")
        held_to_mask(self.mask, shape[1])
        return shape

    def depends(self, shape):
        return np.eye(shape[0] * shape[1], dtype=bool)

    def depends_on_positions(self, shape):
        return np.eye(shape[1], dtype=bool)

    @staticmethod
    def definition(m, a, P, mask):
        return zero_where_invalid(m, each(lambda a_t, P_t: a_t + P_t, a, [row[:len(a[0])] for row in P]), mask)     # (1)

    def forward(self, a):
        return masked(a + self.P[..., :a.shape[-1]], self.mask)                     # (1)

    def jacobian(self, a):
        C, T = a.shape[-2:]
        batch = np.broadcast_shapes(a.shape[:-2], self.P.shape[:-2])
        return masked_jacobian(np.broadcast_to(np.eye(C * T, dtype=a.dtype), (*batch, C * T, C * T)), self.mask)       # (2)

    def vjp(self, a):
        def pullback(h_bar):
            h_bar, unread = masked(h_bar, self.mask), self.P.shape[-1] - a.shape[-1]
            return h_bar, {"P": np.pad(h_bar, [(0, 0)] * (h_bar.ndim - 1) + [(0, unread)])}         # (3)

        return self.forward(a), pullback

    @classmethod
    def examples(cls, source):
        C, T = source.count(1, 2), source.count(1, 3)
        mask = source.orders((T,)) < source.count(1, T) if source.chance(0.5) else None
        return cls(weights(source, (C, T + source.count(0, 2)), 4), mask), (C, T)

    hard_cases = (
        case("Cancelling", "a vector all but cancels its event", z=[[[1.0, -2.0]]], P=[[2.0**-20 - 1, 2.0]]),
        case("Shorter", "the last vector is not read: its cotangent is 0", z=[[[1.0], [3.0]]], P=[[1.0, 9.0], [0.25, 9.0]]),
        case("Masked", "neither the event nor the vector is read at an invalid position", z=[[[1.0, 2.0**100, 4.0]]],
             P=[[0.25, 2.0**90, 1.0]], mask=[True, False, True]),
        case("Lost", "the event is far below the last digit of the vector", z=[[[5e-324, 2.0**-60]]], P=[[1.0, -1.0]]),
    )
    refused = (
        refusal("it has vectors for N=1 positions", [[1.0, 1.0]], P=[[1.0]]),
        refusal("have C=2", [[1.0, 1.0]], P=[[1.0, 2.0], [3.0, 4.0]]),
    )
