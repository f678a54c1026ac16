r"""A network of signals that reads a context before its signal, `(C, T) -> (M, T)`.

The map.  A second network makes `C` channels at the `S` positions of the context `c`, `(E, S)`.  They stand before the signal, the
inner network reads both, and its outputs at the signal's positions are kept:
    g = net(c)                                                                      (1)
    y = inner((g, a)),   h_t = y_(S + t)   for t = 0, ..., T - 1                    (2)
    dh/da = J,   the rows and columns of d inner/d(g, a) at the positions S + t     (3)
In a causal transformer, the context thus conditions every token, and depends on none.

The reverse rule.  The outputs that are left out have cotangents of 0.  With the pullbacks `inner*` at `(g, a)` and `net*` at `c`,
    (g_bar, a_bar) = inner*((0, h_bar))                                             (4)
    c_bar = net*(g_bar)                                                             (5)
The parameters of each network get their cotangents from its own pullback.

Source: the text of STARFlow, Gu et al., arXiv:2506.06276.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, child, conditioner, context, plain, refusal
from ...core.arrays import sum_to_shape
from ...core.rules import count
from .conv1d import Conv1d
from .dense import Dense
from .examples import dense, weights
from .positionwise import Positionwise
from .relative_attention import RelativeAttention
from .sequential import Sequential


@conditioner(source="arXiv:2506.06276")
class PrefixedNetwork(Conditioner):
    """h = inner((net(context), a)) at the positions of a; a (*batch, C, T), context (*batch, E, S), filled in by `at(context=...)`.

    `inner`: a conditioner of signals, from S + T to S + T positions; `net`: from the context to C channels at S positions;
    `positions`: S.  ValueError for a context of another length or width, and for networks that do not fit.
    """

    inner: Conditioner = child()
    net: Conditioner = child()
    positions: int = plain(rule=count())
    context: Array = context("E", "S")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    normwise = property(lambda self: any(c.normwise for c in self.components()))
    smooth = property(lambda self: all(c.smooth for c in self.components()))

    def _validate(self):
        for name in ("inner", "net"):
            if getattr(self, name).event_ndim != (2, 2):
                raise ValueError(f"PrefixedNetwork: {name} must be of signals, event ranks (2, 2), not {getattr(self, name).event_ndim}")
        super()._validate()
        if self.context is not None:
            self.of_net()

    def of_net(self):
        """(C, S)."""
        shape = self.context.shape[-2:]
        if shape[1] != self.positions:
            raise ValueError(f"PrefixedNetwork: context must have positions = {self.positions} positions, not {shape[1]}")
        try:
            return tuple(self.net.output_shape(shape))
        except ValueError as error:
            raise ValueError(f"PrefixedNetwork: net does not take a context of shape {shape}: {error}") from None

    def output_shape(self, shape):
        C, T = shape
        if self.context is not None and self.of_net() != (C, self.positions):
            raise ValueError(f"its net gives the context the shape {self.of_net()}, ({C}, {self.positions}) is needed")
        M, N = self.inner.output_shape((C, self.positions + T))
        if N != self.positions + T:
            raise ValueError(f"its inner network must keep the number of positions, {self.positions + T}; it makes them {N}")
        return M, T

    def depends(self, shape):
        C, T = shape
        S = self.positions
        M, _ = self.inner.output_shape((C, S + T))
        return self.inner.depends((C, S + T)).reshape(M, S + T, C, S + T)[:, S:, :, S:].reshape(M * T, C * T)

    def depends_on_positions(self, shape):
        C, T = shape
        return self.inner.depends_on_positions((C, self.positions + T))[self.positions:, self.positions:]

    @staticmethod
    def definition(m, a, inner, net, positions, context):
        g = net.definition(m, context)                                              # (1)
        y = inner.definition(m, [[*before, *row] for before, row in zip(g, a)])     # (2)
        return [row[positions:] for row in y]                                       # (2)

    def of_context(self):
        if self.context is None:
            raise ValueError("PrefixedNetwork: there is no context; fill it in with at(context=...)")
        return self.context

    def joined(self, g, a):
        batch = np.broadcast_shapes(g.shape[:-2], a.shape[:-2])
        return np.concatenate([np.broadcast_to(part, (*batch, *part.shape[-2:])) for part in (g, a)], -1)

    def forward(self, a):
        g = self.net.forward(self.of_context())                                     # (1)
        return self.inner.forward(self.joined(g, a))[..., self.positions:]          # (2)

    def jacobian(self, a):
        S, (C, T) = self.positions, a.shape[-2:]
        J = self.inner.jacobian(self.joined(self.net.forward(self.of_context()), a))        # (1) (3)
        *batch, rows, columns = J.shape
        J = J.reshape(*batch, rows // (S + T), S + T, C, S + T)[..., S:, :, S:]     # (3)
        return J.reshape(*batch, rows // (S + T) * T, C * T)

    def vjp(self, a):
        g, net_pullback = self.net.vjp(self.of_context())                           # (1)
        y, inner_pullback = self.inner.vjp(self.joined(g, a))                       # (2)
        S = self.positions

        def pullback(h_bar):
            y_bar = np.zeros((*h_bar.shape[:-1], y.shape[-1]), h_bar.dtype)
            y_bar[..., S:] = h_bar                                                  # (4)
            bar, inner_bar = inner_pullback(y_bar)                                  # (4)
            context_bar, net_bar = net_pullback(sum_to_shape(bar[..., :S], g.shape))        # (5)
            return bar[..., S:], {"inner": inner_bar, "net": net_bar, "context": context_bar}

        return y[..., S:], pullback                                                 # (2)

    def initialised(self, data, rng):
        """Its inner network, initialised on the context's channels and then the data."""
        both = self.joined(self.net.forward(self.of_context()), np.asarray(data))
        return self.replace(inner=self.inner.initialised(both, rng))

    @classmethod
    def examples(cls, source):
        """Causal attention to the context, or a layer that does not read it."""
        C, T, S, E = (source.count(1, 2) for _ in range(4))
        attention = Sequential((Conv1d(weights(source, (3 * C, C, 1), 1)), RelativeAttention(causal=True)))
        inner = attention if source.chance(0.75) else Positionwise(dense(source, source.count(1, 2), C, 2))
        return cls(inner, Positionwise(dense(source, C, E, 2)), S, source.signed((E, S), -4, 4)), (C, T)

    hard_cases = (
        case("Read", "the first token sees the context and itself", z=[[[1.0, -2.0]]], context=[[0.5]], positions=1,
             inner=Sequential((Conv1d([[[1.0]], [[0.5]], [[2.0]]]), RelativeAttention(causal=True))),
             net=Positionwise(Dense([[3.0]], [0.25]))),
        case("Unread", "no token sees the context", z=[[[1.0, -2.0]]], context=[[0.5, 2.0]], positions=2,
             inner=Positionwise(Dense([[2.0], [-1.0]], [0.5, 0.0])), net=Positionwise(Dense([[3.0]], [0.25]))),
    )
    refused = (
        refusal("inner must be of signals", inner=Dense([[1.0]]), net=Conv1d([[[1.0]]]), positions=1),
        refusal("net must be of signals", inner=Conv1d([[[1.0]]]), net=Dense([[1.0]]), positions=1),
        refusal("context must have positions = 2 positions, not 1", inner=Conv1d([[[1.0]]]), net=Conv1d([[[1.0]]]), positions=2,
                context=[[1.0]]),
        refusal("net does not take a context of shape (2, 1)", inner=Conv1d([[[1.0]]]), net=Positionwise(Dense([[1.0]])), positions=1,
                context=[[1.0], [2.0]]),
        refusal("its net gives the context the shape (1, 1)", [[1.0], [2.0]], inner=Positionwise(Dense([[1.0, 1.0]])),
                net=Positionwise(Dense([[1.0]])), positions=1, context=[[1.0]]),
    )
