r"""A dense layer whose outputs are gated and shifted by the time, `R^(N+1) -> R^M`.

The map.  An event is `(a, t)`: its last entry is the time.  With the logistic sigmoid `sigma`, entry by entry,
    u = W a + b,   v = g t + c                                                      (1)
    h = u sigma(v) + s t,   sigma(v) = 1/(1 + exp(-v))                              (2)
    dh/da = diag(sigma(v)) W                                                        (3)
    dh/dt = u sigma'(v) g + s,   sigma'(v) = sigma(v) sigma(-v)                     (4)
FFJORD calls it "concatsquash"; without the shift `s`, "squash"; without the gate, so that `h = u + s t`, "concat"; without both, `h = u`,
"ignore".

The reverse rule.  From (1) and (2),
    u_bar = h_bar sigma(v),   v_bar = h_bar u sigma'(v)                             (5)
    a_bar = W^T u_bar,   t_bar = <g, v_bar> + <s, h_bar>                            (6)
    W_bar = u_bar a^T,   b_bar = u_bar,   g_bar = t v_bar,   c_bar = v_bar,   s_bar = t h_bar           (7)
Tangents `A` of `a` and `T` of `t`, a row, make `U = W A` and `V = g T`, and
    H_dot = sigma(v) U + u sigma'(v) V + s T                                        (8)
With the cotangent `H_bar` of these,
    U_bar = sigma(v) H_bar,   V_bar = u sigma'(v) H_bar                             (9)
    A_bar = W^T U_bar,   T_bar = g^T V_bar + s^T H_bar                              (10)
and (5) and (7) are, with `P_k = H_bar_k V_k`, entry by entry, and `sigma''(v) = sigma'(v) (1 - 2 sigma(v))`,
    u_bar = h_bar sigma(v) + sigma'(v) sum_k P_k                                    (11)
    v_bar = h_bar u sigma'(v) + sigma'(v) sum_k H_bar_k U_k + u sigma''(v) sum_k P_k        (12)
    W_bar = u_bar a^T + U_bar A^T,   g_bar = t v_bar + V_bar T^T,   s_bar = t h_bar + H_bar T^T         (13)

Source: Grathwohl et al., FFJORD, arXiv:1810.01367, appendix B.2, and its code.
"""

from __future__ import annotations

import numpy as np
import scipy

from ...core import Array, Conditioner, case, conditioner, join, real, refusal
from ...core.arrays import doubled, rounded
from ...core.declarations import Field
from ...core.products import product
from .dense import affine
from .examples import weights


class textbook:
    """(1) to (13) as they are printed, for one event."""

    def parts(a, W, b, gate, gate_bias):
        """u, sigma(v) and sigma'(v)."""
        u = W @ a[:-1] + b                                                          # (1)
        if gate is None:
            return u, 1, 0
        v = gate * a[-1] + gate_bias                                                # (1)
        sigma = 1 / (1 + np.exp(-v))                                                # (2)
        return u, sigma, sigma * (1 / (1 + np.exp(v)))                              # (4)

    def forward(a, W, b, gate, gate_bias, shift):
        u, sigma, _ = textbook.parts(a, W, b, gate, gate_bias)
        h = u * sigma                                                               # (2)
        return h if shift is None else h + shift * a[-1]                            # (2)

    def jacobian(a, W, b, gate, gate_bias, shift):
        u, sigma, slope = textbook.parts(a, W, b, gate, gate_bias)
        of_time = 0 * u if gate is None else u * slope * gate                       # (4)
        of_time = of_time if shift is None else of_time + shift                     # (4)
        return np.column_stack([(W.T * sigma).T, of_time])                          # (3)

    def vjp(a, W, b, gate, gate_bias, shift, h_bar):
        u, sigma, slope = textbook.parts(a, W, b, gate, gate_bias)
        u_bar, v_bar, t = h_bar * sigma, h_bar * u * slope, a[-1]                   # (5)
        t_bar = 0 if gate is None else gate @ v_bar                                 # (6)
        t_bar = t_bar if shift is None else t_bar + shift @ h_bar                   # (6)
        bars = {"W": np.outer(u_bar, a[:-1]), "b": u_bar}                           # (7)
        bars |= {} if gate is None else {"gate": t * v_bar, "gate_bias": v_bar}     # (7)
        bars |= {} if shift is None else {"shift": t * h_bar}                       # (7)
        return np.append(W.T @ u_bar, t_bar), bars                                  # (6)

    def jvp(a, A_dot, W, b, gate, gate_bias, shift, h_bar, H_bar):
        u, sigma, slope = textbook.parts(a, W, b, gate, gate_bias)
        A, T, t, sum_of = A_dot[:-1], A_dot[-1], a[-1], lambda P: P.sum(-1)
        g, s = (0 * u if one is None else one for one in (gate, shift))
        U, V = W @ A, np.outer(g, T)                                                # (8)
        U_bar, V_bar, P = (H_bar.T * sigma).T, (H_bar.T * u * slope).T, sum_of(H_bar * V)       # (9)
        u_bar = h_bar * sigma + slope * P                                           # (11)
        v_bar = h_bar * u * slope + slope * sum_of(H_bar * U) + u * slope * (1 - 2 * sigma) * P         # (12)
        bars = {"W": np.outer(u_bar, a[:-1]) + U_bar @ A.T, "b": u_bar}             # (7) (13)
        bars |= {} if gate is None else {"gate": t * v_bar + V_bar @ T, "gate_bias": v_bar}     # (7) (13)
        bars |= {} if shift is None else {"shift": t * h_bar + H_bar @ T}           # (13)
        a_bar = np.append(W.T @ u_bar, g @ v_bar + s @ h_bar)                       # (6)
        return a_bar, np.vstack([W.T @ U_bar, g @ V_bar + s @ H_bar]), bars         # (10)


r"""In floating point.

In (4), `sigma(-v)` may be 0 in float32 where its product with `u` is not.  It is computed in float64, and rounded once.         (14)
"""


@conditioner(source="arXiv:1810.01367", textbook=textbook)
class TimeDense(Conditioner):
    """h = (W a + b) sigmoid(gate t + gate_bias) + shift t, of the event (a, t); a (*batch, N), t its last entry, h (*batch, M).

    `gate`, with its `gate_bias`, and `shift` may be None: what they do is then left out.
    """

    W: Array = real("M", "N")
    b: Array = real("M", default=0.0)
    gate: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    gate_bias: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    shift: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    event_shape = ("N+1",)

    def _validate(self):
        if (self.gate is None) != (self.gate_bias is None):
            raise ValueError("TimeDense: gate and gate_bias must be given together")
        super()._validate()

    @property
    def fixed_shape(self):
        return (self.W.shape[-1] + 1,)

    def output_shape(self, shape):
        if shape != self.fixed_shape:
            raise ValueError(f"its events have N + 1 = {self.fixed_shape[0]} entries, the last one the time")
        return self.W.shape[-2:-1]

    def depends(self, shape):
        pattern = super().depends(shape)
        pattern[:, -1] = self.gate is not None or self.shift is not None
        return pattern

    # -- the map ------------------------------------------------------------------------------------------------------

    def pieces(self, a):
        """u, sigma(v), sigma'(v), W, g, s and t, in float64; 1 and 0 in the place of a gate that is not there."""
        a, W, b = doubled(a, self.W, self.b)                                        # (14)
        g, s = (np.zeros(W.shape[-2]) if one is None else np.float64(one) for one in (self.gate, self.shift))       # (14)
        t, u = a[..., -1:], affine(W, b, a[..., :-1])                               # (1)
        if self.gate is None:
            return u, np.ones_like(u), np.zeros_like(u), W, g, s, t
        v = g * t + self.gate_bias                                                  # (1)
        opened = scipy.special.expit(v)                                             # (2)
        return u, opened, opened * scipy.special.expit(-v), W, g, s, t              # (4)

    def forward(self, a):
        u, opened, _, _, _, s, t = self.pieces(a)
        return (u * opened + s * t).astype(a.dtype)                                 # (2)

    def jacobian(self, a):
        u, opened, slope, W, g, s, _ = self.pieces(a)
        return join(opened[..., None] * W, (u * slope * g + s)[..., None]).astype(a.dtype)          # (3) (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        u, opened, slope, _, _, s, t = self.pieces(a)

        def pullback(h_bar):
            bar = np.float64(h_bar)                                                 # (14)
            return rounded(self.taken_back(a, bar * opened, bar * slope * u, bar), a.dtype)         # (5)

        return (u * opened + s * t).astype(a.dtype), pullback                       # (2)

    def taken_back(self, a, u_bar, v_bar, h_bar):
        """The cotangents of the event and of the fields, for each event, given the cotangents of u, v and h."""
        _, _, _, W, g, s, t = self.pieces(a)
        t_bar = (g * v_bar + s * h_bar).sum(-1, keepdims=True)                      # (6)
        bars = {"W": u_bar[..., None] * a[..., None, :-1], "b": u_bar, "gate": t * v_bar, "gate_bias": v_bar, "shift": t * h_bar}   # (7)
        return join(product(W.mT, u_bar), t_bar), self.present(bars)                # (6)

    def jvp(self, a, A_dot):
        u, opened, slope, W, g, s, t = self.pieces(a)
        A, T = np.split(np.float64(A_dot), [a.shape[-1] - 1], -2)                   # (14)
        U, V = W @ A, g[..., None] * T
        H_dot = opened[..., None] * U + (u * slope)[..., None] * V + s[..., None] * T       # (8)

        def pullback(h_bar, H_bar):
            h_bar, H_bar = doubled(h_bar, H_bar)                                    # (14)
            U_bar, V_bar = opened[..., None] * H_bar, (u * slope)[..., None] * H_bar        # (9)
            P = slope * (H_bar * V).sum(-1)
            u_bar = h_bar * opened + P                                              # (11)
            v_bar = h_bar * slope * u + slope * (H_bar * U).sum(-1) + u * (1 - 2 * opened) * P      # (12)
            bar, bars = self.taken_back(a, u_bar, v_bar, h_bar)
            more = {"W": U_bar @ A.mT, "gate": (V_bar * T).sum(-1), "shift": (H_bar * T).sum(-1)}           # (13)
            bars = {name: value + more.get(name, 0) for name, value in bars.items()}            # (13)
            T_bar = (g[..., None] * V_bar + s[..., None] * H_bar).sum(-2, keepdims=True)        # (10)
            return rounded((bar, join(W.mT @ U_bar, T_bar, axis=-2), bars), a.dtype)        # (10)

        return rounded((u * opened + s * t, H_dot), a.dtype), pullback              # (2)

    def present(self, bars):
        """The cotangents of the fields that are there."""
        return {name: bar for name, bar in bars.items() if getattr(self, name) is not None}

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        """With a gate or without, with a shift or without."""
        M, N = source.count(1, 3), source.count(1, 3)
        gate, gate_bias, shift = (weights(source, (M,), 2) for _ in range(3))
        gated, shifted = source.chance(0.7), source.chance(0.7)
        return cls(weights(source, (M, N), 2), weights(source, (M,), 2), gate if gated else None, gate_bias if gated else None,
                   shift if shifted else None), (N + 1,)

    hard_cases = (
        case("Gated", "gate and shift, at a time that is not 0", z=[[2.0, -1.0, 0.75]], W=[[1.0, 2.0], [0.5, -3.0]], b=[0.25, 1.0],
             gate=[0.5, -2.0], gate_bias=[1.0, 0.5], shift=[0.1, -0.3]),
        case("Squash", "no shift", z=[[2.0, 0.75]], W=[[1.0]], b=[0.25], gate=[0.5], gate_bias=[1.0]),
        case("Concat", "no gate", z=[[2.0, 0.75]], W=[[1.0]], b=[0.25], shift=[0.5]),
        case("Ignore", "neither: the time counts for nothing", z=[[2.0, 0.75]], W=[[3.0]], b=[0.25]),
        case("Closed", "the gate is exp(v), far below u", z=[[2.0**100, 1.0]], W=[[1.0]], b=[0.0], gate=[-60.0], gate_bias=[0.0],
             shift=[0.0]),
        case("Open", "the gate rounds to 1, its slope does not round to 0", z=[[1.0, 40.0]], W=[[1.0]], b=[0.5], gate=[1.0],
             gate_bias=[0.0], shift=[0.0]),
    )
    refused = (
        refusal("gate and gate_bias must be given together", W=[[1.0]], b=[0.0], gate=[1.0]),
        refusal("its events have N + 1 = 2 entries, the last one the time", [1.0], W=[[1.0]], b=[0.0]),
    )
