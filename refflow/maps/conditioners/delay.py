r"""A signal delayed by one position, `(C, T) -> (C, T)`.

The map.  Each position gets the vector of the position before it; the first position gets `start`, or 0 without it:
    h_0 = start,   h_t = a_(t-1)   for t > 0                                        (1)
    dh_t/da_(t-1) = I,   all other blocks of dh/da are 0                            (2)
The output of a causal network at `t` depends on no input after `t`; delayed, it does not depend on the input at `t` either, as an
autoregressive map requires.  Before a causal network, `start` is the token with which sequences begin.

The reverse rule.  Cotangents move back as entries moved forward; nothing reads the last position:
    a_bar_t = h_bar_(t+1),   a_bar_(T-1) = 0,   start_bar = h_bar_0                 (3)
With a sequence mask, `a` is 0 at invalid positions, and so are `h` and `a_bar`.

Source: TarFlow, Zhai et al., arXiv:2412.06329; a start token, STARFlow, Gu et al., arXiv:2506.06276.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, real, refusal, sequence_mask
from ...core.arrays import masked, masked_jacobian
from ...core.declarations import Field
from ...core.words import zero_where_invalid
from .conv1d import held_to_mask
from .examples import weights


@conditioner(source="arXiv:2412.06329")
class Delay(Conditioner):
    """h_t = a_(t-1), h_0 = start; a, h (*batch, C, T), start (C,), or None for 0; `mask` (*batch, T)."""

    start: Array = Field(real, ("C",), optional=True)  # type: ignore[assignment]
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    def output_shape(self, shape):
        held_to_mask(self.mask, shape[1])
        return shape

    def depends(self, shape):
        return np.kron(np.eye(shape[0], dtype=bool), self.depends_on_positions(shape))

    def depends_on_positions(self, shape):
        return np.eye(shape[1], k=-1, dtype=bool)

    @staticmethod
    def definition(m, a, start, mask):
        first, read = [m.mpf(0)] * len(a) if start is None else start, zero_where_invalid(m, a, mask)
        return zero_where_invalid(m, [[h_0, *row][:len(row)] for h_0, row in zip(first, read)], mask)      # (1)

    def forward(self, a):
        first = np.zeros((), a.dtype) if self.start is None else self.start[..., None]
        batch = np.broadcast_shapes(a.shape[:-2], first.shape[:-2])
        h = np.empty((*batch, *a.shape[-2:]), a.dtype)
        h[..., :1], h[..., 1:] = first, masked(a, self.mask)[..., :-1]              # (1)
        return masked(h, self.mask)

    def jacobian(self, a):
        C, T = a.shape[-2:]
        batch = a.shape[:-2] if self.start is None else np.broadcast_shapes(a.shape[:-2], self.start.shape[:-1])
        J = np.kron(np.eye(C, dtype=a.dtype), np.eye(T, k=-1, dtype=a.dtype))
        return masked_jacobian(np.broadcast_to(J, (*batch, C * T, C * T)), self.mask)       # (2)

    def vjp(self, a):
        def pullback(h_bar):
            h_bar = masked(h_bar, self.mask)
            a_bar = np.zeros_like(h_bar)
            a_bar[..., :-1] = h_bar[..., 1:]                                        # (3)
            bars = {} if self.start is None else {"start": h_bar[..., :1].sum(-1)}  # (3)
            return masked(a_bar, self.mask), bars

        return self.forward(a), pullback

    @classmethod
    def examples(cls, source):
        C, T = source.count(1, 2), source.count(1, 3)
        start = weights(source, (C,)) if source.chance(0.75) else None
        return cls(start, source.orders((T,)) < source.count(1, T) if source.chance(0.5) else None), (C, T)

    hard_cases = (
        case("Alone", "one position: h is the start, whatever a", z=[[[3.0], [2.0**100]]], start=[0.5, -1.0]),
        case("Unstarted", "without a start, the first position is 0", z=[[[1.0, -2.0, 5e-324]]]),
        case("Masked", "the position after an invalid one gets 0", z=[[[1.0, 2.0**100, 4.0]]], start=[0.5],
             mask=[True, False, True]),
    )
    refused = (refusal("have C=2", [[1.0, 1.0]], start=[1.0, 2.0]),)
