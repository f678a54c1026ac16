r"""Two networks of an event, blended by the time.

The map.  An event is `(a, t)`: its last entry is the time.
    h = f(a) + t (g(a) - f(a))                                                      (1)
    dh/da = (1 - t) F + t G,   dh/dt = g(a) - f(a)                                  (2)
where `F` and `G` are the Jacobians of `f` and `g`, the fields `start` and `end`, whose outputs are those at `t = 0` and `t = 1`.

The reverse rule.  With the pullbacks `f*` and `g*` at `a`,
    a_bar = f*((1 - t) h_bar) + g*(t h_bar),   t_bar = <h_bar, g(a) - f(a)>         (3)
Tangents `A` of `a` and `T` of `t`, a row, become
    H_dot = (1 - t) F A + t G A + (g(a) - f(a)) T                                   (4)
With their cotangent `H_bar`, and `r = sum_k H_bar_k T_k`, `f` and `g` have the cotangents of values and of tangents
    f_bar = (1 - t) h_bar - r,   F_bar = (1 - t) H_bar,   g_bar = t h_bar + r,   G_bar = t H_bar        (5)
and the time has
    t_bar = <h_bar, g(a) - f(a)> + <H_bar, G A - F A>,   T_bar = (g(a) - f(a))^T H_bar      (6)

Source: Grathwohl et al., FFJORD, arXiv:1810.01367, and its code, where two dense layers are blended.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, child, conditioner, refusal
from .dense import Dense
from .examples import dense


@conditioner(source="arXiv:1810.01367")
class Blended(Conditioner):
    """h = (1 - t) start(a) + t end(a), of the event (a, t): two networks of vectors a, and the time as the last entry."""

    start: Conditioner = child()
    end: Conditioner = child()
    event_shape = ("N+1",)

    normwise = property(lambda self: any(c.normwise for c in self.components()))
    smooth = property(lambda self: all(c.smooth for c in self.components()))

    def _validate(self):
        for name in ("start", "end"):
            if getattr(self, name).event_ndim != (1, 1):
                raise ValueError(f"Blended: {name} must be of vectors, event ranks (1, 1), not {getattr(self, name).event_ndim}")
        super()._validate()

    @property
    def fixed_shape(self):
        shape = self.start.fixed_shape or self.end.fixed_shape
        return shape and (shape[0] + 1,)

    def output_shape(self, shape):
        first, last = (tuple(one.output_shape((shape[0] - 1,))) for one in (self.start, self.end))
        if first != last:
            raise ValueError(f"its networks give different shapes, {first} and {last}")
        return first

    def depends(self, shape):
        inner = (shape[0] - 1,)
        pattern = self.start.depends(inner) | self.end.depends(inner)
        return np.concatenate([pattern, np.ones((len(pattern), 1), bool)], 1)

    @staticmethod
    def definition(m, a, start, end):
        *a, t = a
        return [f + t * (g - f) for f, g in zip(start.definition(m, a), end.definition(m, a))]      # (1)

    def forward(self, a):
        a, t = a[..., :-1], a[..., -1:]
        return (1 - t) * self.start.forward(a) + t * self.end.forward(a)            # (1)

    def jacobian(self, a):
        a, t = a[..., :-1], a[..., -1:, None]
        by_time = self.end.forward(a) - self.start.forward(a)                       # (2)
        return np.concatenate([(1 - t) * self.start.jacobian(a) + t * self.end.jacobian(a), by_time[..., None]], -1)      # (2)

    def vjp(self, a):
        a, t = a[..., :-1], a[..., -1:]
        (f, f_pullback), (g, g_pullback) = self.start.vjp(a), self.end.vjp(a)

        def pullback(h_bar):
            (f_bar, start_bar), (g_bar, end_bar) = f_pullback((1 - t) * h_bar), g_pullback(t * h_bar)       # (3)
            t_bar = (h_bar * (g - f)).sum(-1, keepdims=True)                        # (3)
            return np.concatenate([f_bar + g_bar, t_bar], -1), {"start": start_bar, "end": end_bar}

        return (1 - t) * f + t * g, pullback                                        # (1)

    def jvp(self, a, A_dot):
        a, t, A, T = a[..., :-1], a[..., -1:], A_dot[..., :-1, :], A_dot[..., -1:, :]
        ((f, F), f_pullback), ((g, G), g_pullback) = self.start.jvp(a, A), self.end.jvp(a, A)
        w = t[..., None]

        def pullback(h_bar, H_bar):
            r = (H_bar * T).sum(-1)
            a_bar, A_bar, start_bar = f_pullback((1 - t) * h_bar - r, (1 - w) * H_bar)          # (5)
            a_more, A_more, end_bar = g_pullback(t * h_bar + r, w * H_bar)          # (5)
            t_bar = (h_bar * (g - f)).sum(-1, keepdims=True) + (H_bar * (G - F)).sum((-2, -1))[..., None]           # (6)
            T_bar = ((g - f)[..., None] * H_bar).sum(-2, keepdims=True)             # (6)
            return (np.concatenate([a_bar + a_more, t_bar], -1), np.concatenate([A_bar + A_more, T_bar], -2),
                    {"start": start_bar, "end": end_bar})

        return ((1 - t) * f + t * g, (1 - w) * F + w * G + (g - f)[..., None] * T), pullback        # (1) (4)

    @classmethod
    def examples(cls, source):
        M, N = source.count(1, 3), source.count(1, 3)
        return cls(dense(source, M, N, 2), dense(source, M, N, 2)), (N + 1,)

    hard_cases = (
        case("Between", "a time between the two", z=[[1.0, -2.0, 0.25]], start=Dense([[1.0, 0.5]], [0.25]), end=Dense([[3.0, -1.0]], [0.5])),
        case("End", "at t = 1 nothing is left of the first network", z=[[1.0, 1.0]], start=Dense([[2.0**60]], [0.0]),
             end=Dense([[2.0**-60]], [0.0])),
        case("Alike", "the two networks differ in their last digits", z=[[1.0, 0.5]], start=Dense([[1.0]], [0.0]),
             end=Dense([[1.0 + 2.0**-20]], [0.0])),
    )
    refused = (
        refusal("its networks give different shapes, (1,) and (2,)", [1.0, 2.0], start=Dense([[1.0]]), end=Dense([[1.0], [2.0]])),
    )
