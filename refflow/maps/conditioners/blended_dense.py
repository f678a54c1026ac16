r"""Two dense layers, blended by the time, `R^(N+1) -> R^M`.

The map.  An event is `(a, t)`: its last entry is the time.
    Q = (1 - t) W + t V,   q = (1 - t) b + t d                                      (1)
    h = Q a + q                                                                     (2)
    dh/da = Q,   dh/dt = c,   c = (V - W) a + d - b                                 (3)
The fields `W_end` and `b_end` are `V` and `d`, of the layer that remains at `t = 1`.

The reverse rule.  From (1) and (2),
    a_bar = Q^T h_bar,   t_bar = <h_bar, c>                                         (4)
    W_bar = (1 - t) h_bar a^T,   b_bar = (1 - t) h_bar,   V_bar = t h_bar a^T,   d_bar = t h_bar        (5)
Tangents `A` of `a` and `T` of `t`, a row, become
    H_dot = Q A + c T                                                               (6)
With their cotangent `H_bar`, `r = sum_k H_bar_k T_k` and `S = h_bar a^T + H_bar A^T`, (4) and (5) are
    A_bar = Q^T H_bar,   T_bar = c^T H_bar                                          (7)
    a_bar = Q^T h_bar + (V - W)^T r,   t_bar = <h_bar, c> + <H_bar, (V - W) A>      (8)
    W_bar = (1 - t) S - r a^T,   V_bar = t S + r a^T                                (9)
    b_bar = (1 - t) h_bar - r,   d_bar = t h_bar + r                                (10)

Source: the code of Grathwohl et al., FFJORD, arXiv:1810.01367.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, join, real, refusal
from ...core.arrays import rounded
from .dense import affine
from .examples import weights
from .time_dense import TimeDense


@conditioner(source="arXiv:1810.01367")
class BlendedDense(Conditioner):
    """h = (1 - t) (W a + b) + t (W_end a + b_end), of the event (a, t); a (*batch, N), t its last entry, h (*batch, M)."""

    W: Array = real("M", "N")
    b: Array = real("M")
    W_end: Array = real("M", "N")
    b_end: Array = real("M")
    event_shape = ("N+1",)

    fixed_shape, output_shape = TimeDense.fixed_shape, TimeDense.output_shape

    @staticmethod
    def definition(m, a, W, b, W_end, b_end):
        *a, t = a
        return [sum((((1 - t) * w + t * v) * a_j for w, v, a_j in zip(*rows, a)), (1 - t) * one + t * other)        # (1) (2)
                for *rows, one, other in zip(W, W_end, b, b_end)]

    def pieces(self, a):
        """a, t, Q, V - W and c."""
        a, W, b, V, d = (np.float64(one) for one in (a, self.W, self.b, self.W_end, self.b_end))
        a, t = a[..., :-1], a[..., -1:]
        w, change = t[..., None], V - W
        return a, t, (1 - w) * W + w * V, change, affine(change, d - b, a)          # (1) (3)

    def forward(self, a):
        dtype, (a, t, Q, _, _) = a.dtype, self.pieces(a)
        return affine(Q, (1 - t) * self.b + t * self.b_end, a).astype(dtype)        # (1) (2)

    def jacobian(self, a):
        _, _, Q, _, c = self.pieces(a)
        return join(Q, c[..., None]).astype(a.dtype)                                # (3)

    def vjp(self, a):
        h, dtype, (a, t, Q, _, c) = self.forward(a), a.dtype, self.pieces(a)

        def pullback(h_bar):
            h_bar = np.float64(h_bar)
            a_bar, t_bar, outer = np.vecmat(h_bar, Q), (h_bar * c).sum(-1, keepdims=True), a[..., None, :]          # (4)
            b_bar, d_bar = (1 - t) * h_bar, t * h_bar                               # (5)
            bars = {"W": b_bar[..., None] * outer, "b": b_bar, "W_end": d_bar[..., None] * outer, "b_end": d_bar}           # (5)
            return rounded((join(a_bar, t_bar), bars), dtype)

        return h, pullback

    def jvp(self, a, A_dot):
        h, dtype, (a, t, Q, change, c) = self.forward(a), a.dtype, self.pieces(a)
        A, T = np.split(A_dot, [a.shape[-1]], -2)
        w, outer = t[..., None], a[..., None, :]

        def pullback(h_bar, H_bar):
            r, S = (H_bar * T).sum(-1), h_bar[..., None] * outer + H_bar @ A.mT
            A_bar, T_bar = Q.mT @ H_bar, (c[..., None] * H_bar).sum(-2, keepdims=True)          # (7)
            a_bar = np.vecmat(h_bar, Q) + np.vecmat(r, change)                      # (8)
            t_bar = (h_bar * c).sum(-1, keepdims=True) + (H_bar * (change @ A)).sum((-2, -1))[..., None]        # (8)
            bars = {"W": (1 - w) * S - r[..., None] * outer, "b": (1 - t) * h_bar - r,          # (9) (10)
                    "W_end": w * S + r[..., None] * outer, "b_end": t * h_bar + r}  # (9) (10)
            return rounded((join(a_bar, t_bar), join(A_bar, T_bar, axis=-2), bars), dtype)

        return (h, (Q @ A + c[..., None] * T).astype(dtype)), pullback                              # (6)

    @classmethod
    def examples(cls, source):
        M, N = source.count(1, 3), source.count(1, 3)
        return cls(*(weights(source, shape, 2) for shape in ((M, N), (M,), (M, N), (M,)))), (N + 1,)

    hard_cases = (
        case("Between", "a time between the two", z=[[1.0, -2.0, 0.25]], W=[[1.0, 0.5]], b=[0.25], W_end=[[3.0, -1.0]], b_end=[0.5]),
        case("End", "at t = 1 nothing is left of the first layer", z=[[1.0, 1.0]], W=[[2.0**60]], b=[0.0], W_end=[[2.0**-60]], b_end=[0.0]),
        case("Alike", "the layers differ in their last digits", z=[[1.0, 0.5]], W=[[1.0]], b=[0.0], W_end=[[1.0 + 2.0**-20]], b_end=[0.0]),
    )
    refused = (
        refusal("its events have N + 1 = 2 entries, the last one the time", [1.0], W=[[1.0]], b=[0.0], W_end=[[1.0]], b_end=[0.0]),
    )
