r"""A context `c` that is a signal, `(C, T)`, added to the event at every position.

The map.  At position `t`,
    h(t) = a(t) + c(t)   at valid positions,   0 elsewhere                          (1)
    dh/da = I            at valid positions,   0 elsewhere                          (2)
A caller computes `c` once, from a text for instance, for all layers and flows that read it.

The reverse rule.  A sum hands its cotangent to both terms.  With `h_bar` 0 at invalid positions,
    a_bar = h_bar,   c_bar = h_bar                                                  (3)

Source: the stochastic duration predictor of VITS, Kim, Kong & Son, arXiv:2106.06103.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, context, refusal, sequence_mask
from ...core.arrays import masked, masked_jacobian
from ...core.words import each, zero_where_invalid
from .conv1d import held_to_mask


@conditioner(source="arXiv:2106.06103")
class AddedSignal(Conditioner):
    """h = a + context; a, h, context (*batch, C, T).

    `context` and the valid positions `mask` (*batch, T) are filled in by `at(context=..., mask=...)`.
    """

    context: Array = context("C", "T")
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    def output_shape(self, shape):
        held_to_mask(self.mask, shape[1])
        return shape

    def depends(self, shape):
        return np.eye(shape[0] * shape[1], dtype=bool)

    @staticmethod
    def definition(m, a, context, mask):
        return zero_where_invalid(m, each(lambda a_t, c_t: a_t + c_t, a, context), mask)        # (1)

    def added(self, a):
        if self.context is None:
            raise ValueError("AddedSignal: there is no context; fill it in with at(context=...)")
        return masked(a + self.context, self.mask)                                  # (1)

    def forward(self, a):
        return self.added(a)

    def jacobian(self, a):
        *batch, C, T = np.broadcast_shapes(a.shape, self.context.shape)
        J = np.broadcast_to(np.eye(C * T, dtype=a.dtype), (*batch, C * T, C * T))
        return masked_jacobian(J, self.mask)                                        # (2)

    def vjp(self, a):
        def pullback(h_bar):
            h_bar = masked(h_bar, self.mask)
            return h_bar, {"context": h_bar}                                        # (3)

        return self.added(a), pullback

    @classmethod
    def examples(cls, source):
        C, T = source.count(1, 2), source.count(1, 3)
        f = cls(source.signed((C, T), -4, 4))
        return (f.at(mask=source.orders((T,)) < source.count(1, T)) if source.chance(0.5) else f), (C, T)

    hard_cases = (
        case("Cancelling", "the context all but cancels the event", z=[[[1.0, -2.0]]], context=[[2.0**-20 - 1, 2.0]]),
        case("Masked", "neither the context nor the event is read at an invalid position", z=[[[1.0, 2.0**100, 4.0]]],
             context=[[0.25, 2.0**90, 1.0]], mask=[True, False, True]),
        case("Lost", "the event is far below the last digit of the context", z=[[[5e-324, 2.0**-60]]], context=[[1.0, -1.0]]),
    )
    refused = (refusal("have C=1", [[1.0, 1.0], [2.0, 1.0]], context=[[1.0, 2.0]]),)
