r"""A conditioner of signals, `(C, T)`, and a context `c`, which becomes further channels, the same at every position.

The map.  With `e = net(c)` at every valid position, 0 at the others,
    h = inner([a, e])                                                               (1)
    dh/da = the columns of J that belong to a,   J = d inner/d[a, e]                (2)

The reverse rule.  All valid positions share `net(c)`, whose cotangent is therefore a sum over them.  With the pullbacks
`inner*` at `[a, e]` and `net*` at `c`,
    [a_bar, e_bar] = inner*(h_bar),   c_bar = net*(sum_t e_bar(t))                  (3)

Source: the duration predictor of several speakers in the code of Glow-TTS (Kim, Kim, Kong & Yoon, arXiv:2005.11129).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, child, conditioner, context, sequence_mask
from ...core.arrays import masked, sum_to_shape
from ...core.words import zero_where_invalid
from .conv1d import Conv1d, held_to_mask
from .dense import Dense
from .examples import WIDTHS, dense, signal_convolution

CHANNELS = -2                                   # the axis of channels


@conditioner(source="arXiv:2005.11129")
class SignalContext(Conditioner):
    """h = inner([a, net(context) at every position]); a (*batch, C, T).

    `net`: a conditioner of vectors, from the context (*batch, K) to the further channels; `inner`: of signals, from all
    channels; `context` and the valid positions `mask` (*batch, T) are filled in by `at(context=..., mask=...)`.
    """

    net: Conditioner = child()
    inner: Conditioner = child()
    context: Array = context("K")
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    normwise = property(lambda self: any(c.normwise for c in self.components()))
    smooth = property(lambda self: all(c.smooth for c in self.components()))

    def output_shape(self, shape):
        size = self.net.fixed_shape if self.context is None else self.context.shape[-1:]
        if size is None:
            raise ValueError("there is no context; fill it in with at(context=...)")
        held_to_mask(self.mask, shape[1])
        return tuple(self.inner.output_shape((shape[0] + self.net.output_shape(size)[0], shape[1])))

    @staticmethod
    def definition(m, a, net, inner, context, mask):
        further = [[e] * len(a[0]) for e in net.definition(m, context)]
        return inner.definition(m, [*a, *zero_where_invalid(m, further, mask)])     # (1)

    def of_context(self):
        if self.context is None:
            raise ValueError("SignalContext: there is no context; fill it in with at(context=...)")
        return self.context

    def joined(self, a, e):
        """[a, e]."""
        further = np.broadcast_to(e[..., None], (*a.shape[:-2], e.shape[-1], a.shape[-1]))
        return np.concatenate((a, masked(further, self.mask)), CHANNELS)

    def forward(self, a):
        return self.inner.forward(self.joined(a, self.net.forward(self.of_context())))      # (1)

    def jacobian(self, a):
        J = self.inner.jacobian(self.joined(a, self.net.forward(self.of_context())))
        return J[..., :a.shape[-2] * a.shape[-1]]                                   # (2)

    def vjp(self, a):
        e, net_pullback = self.net.vjp(self.of_context())
        h, inner_pullback = self.inner.vjp(self.joined(a, e))                       # (1)

        def pullback(h_bar):
            both_bar, inner_bar = inner_pullback(h_bar)                             # (3)
            a_bar, e_bar = np.split(masked(both_bar, self.mask), [a.shape[-2]], CHANNELS)
            context_bar, net_bar = net_pullback(sum_to_shape(e_bar.sum(-1), e.shape))       # (3)
            return a_bar, {"net": net_bar, "inner": inner_bar, "context": context_bar}

        return h, pullback

    def initialised(self, data, rng):
        """Its inner network, initialised on the data with their further channels."""
        both = self.joined(masked(np.asarray(data), self.mask), self.net.forward(self.of_context()))
        return self.replace(inner=self.inner.initialised(both, rng))

    @classmethod
    def examples(cls, source):
        C, T = source.choice(WIDTHS), source.count(1, 3)
        inner = signal_convolution(source, source.choice(WIDTHS), C + 1, source.count(1, 3))
        f = cls(dense(source, 1, 2), inner, source.signed((2,), -4, 4))
        return (f.at(mask=source.booleans((T,), 0.75)) if source.chance(0.5) else f), (C, T)

    hard_cases = (
        case("Edges", "beyond both ends the context is read as 0", z=[[[1.0, -2.0]]], net=Dense([[2.0]], [0.5]), context=[0.25],
             inner=Conv1d([[[1.0, 2.0, 4.0], [0.5, 3.0, -1.0]]], [0.0])),
        case("Masked", "neither the context nor the signal is read at an invalid position", z=[[[1.0, 2.0**100, 4.0]]],
             net=Dense([[2.0]], [0.5]), context=[0.25], mask=[True, False, True],
             inner=Conv1d([[[1.0, 2.0, 4.0], [0.5, 3.0, -1.0]]], [0.0], mask=[True, False, True])),
    )
