r"""Dense layer with normalised weights, `R^N -> R^M`.

The map.  Each row of `W`, the weights of one output, has a direction `v_i` and, if there is a gain, a length `g_i`; without a
gain the length is 1:
    u_i = v_i / |v_i|,   W_i = g_i u_i                                              (1)
    h = W a + b                                                                     (2)
    dh/da = W                                                                       (3)

The reverse rule.  From (1), `dW_i = dg_i u_i + g_i (dv_i - u_i <u_i, dv_i>) / |v_i|`, hence
    a_bar = W^T h_bar     W_bar = h_bar a^T     b_bar = h_bar                       (4)
    g_bar_i = <W_bar_i, u_i>                                                        (5)
    v_bar_i = g_i / |v_i| (W_bar_i - u_i <W_bar_i, u_i>)                            (6)
The unit of error is normwise: (6) projects onto the orthogonal complement of `u_i`, and if one entry of `v_i` outweighs all
others, its own `v_bar` is a small difference of large numbers.

Source: Salimans & Kingma, arXiv:1602.07868; without gain, Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, real
from ...core.declarations import Field
from ...core.arithmetic import unit_scaled
from ...core.products import event_sum, outer_sum, product
from ...core.sets import nonzero_vector
from .dense import affine


class textbook:
    """(1) to (6) as they are printed, for one event."""

    def directions(v):
        """u and the lengths of v."""
        lengths = np.sqrt((v ** 2).sum(1))
        return (v.T / lengths).T, lengths                                           # (1)

    def weights(v, g):
        u, _ = textbook.directions(v)
        return u if g is None else (g * u.T).T                                      # (1)

    def forward(a, v, g, b):
        return textbook.weights(v, g) @ a + b                                       # (2)

    def jacobian(a, v, g, b):
        return textbook.weights(v, g)                                               # (3)

    def vjp(a, v, g, b, h_bar):
        (u, lengths), W_bar = textbook.directions(v), np.outer(h_bar, a)            # (1) (4)
        along = (W_bar * u).sum(1)                                                  # (5)
        factor = 1 / lengths if g is None else g / lengths
        bars = {"v": (factor * (W_bar - (along * u.T).T).T).T, "b": h_bar}          # (4) (6)
        a_bar = textbook.weights(v, g).T @ h_bar                                    # (4)
        return a_bar, bars if g is None else bars | {"g": along}                    # (5)


class Directions:
    """u, s and e of (7) for rows v (..., M, N) and lengths g (..., M) or None."""

    def __init__(self, v, g):
        v, self.e = unit_scaled(v)                                                  # (7)
        self.s = np.sqrt((v * v).sum(-1, keepdims=True))                            # (7)
        self.u, self.g = v / self.s, g                                              # (1) (7)

    def times_gain(self, u):
        return u if self.g is None else self.g[..., None] * u                       # (1)

    def weights(self):
        return self.times_gain(self.u)                                              # (1)

    def pullback(self, W_bar, k):
        """{"v": v_bar, "g": g_bar} for the cotangent 2^k W_bar."""
        along = (W_bar * self.u).sum(-1, keepdims=True)                             # (5)
        across = (W_bar - self.u * along) / self.s                                  # (6)
        bars = {"v": np.ldexp(self.times_gain(across), k - self.e)}                 # (6) (7) (9)
        return bars if self.g is None else bars | {"g": np.ldexp(along, k)[..., 0]}     # (5) (9)


r"""In floating point.

In (1) and (6), squares of the entries of `v_i` may overflow or vanish where `|v_i|` does not.  With the largest entry of
`2^-e v_i` in `[1/2, 1)`, none does:
    |v_i| = 2^e s_i,   s_i = |2^-e v_i|,   u_i = 2^-e v_i / s_i                     (7)

In (2), a partial sum may overflow where `h` does not.  For `2^-k a`, whose largest entry is in `[1/2, 1)`, it does not, as in
`Dense`:
    h = 2^k W (2^-k a) + b                                                          (8)

In (5) and (6), a product with `W_bar` may overflow where the cotangents do not, or lose digits below the smallest normal number.
With this `k`, or one `k` for all events that share `W`,
    W_bar = 2^k h_bar (2^-k a)^T                                                    (9)
and `2^k` is multiplied last.
"""


@conditioner(source="arXiv:1602.07868", normwise=True, textbook=textbook)
class WeightNormDense(Conditioner):
    """h = W a + b with rows W_i = g_i v_i / |v_i|, or v_i / |v_i| if g is None; v (M, N), g and b (M,)."""

    v: Array = nonzero_vector("M", "N")
    g: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    b: Array = real("M", default=0.0)
    event_shape = ("N",)

    fixed_shape = property(lambda self: self.v.shape[-1:])

    def output_shape(self, shape):
        if shape != self.fixed_shape:
            raise ValueError(f"its events have N={self.fixed_shape[0]} entries")
        return self.v.shape[-2:-1]

    # -- the map ------------------------------------------------------------------------------------------------------

    def weights(self):
        return Directions(self.v, self.g).weights()

    def forward(self, a):
        return affine(self.weights(), self.b, a)                                    # (2) (8)

    def jacobian(self, a):
        W = self.weights()
        return np.broadcast_to(W, a.shape[:-1] + W.shape[-2:])                      # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        directions = Directions(self.v, self.g)
        W = directions.weights()

        def pullback(h_bar):
            bars = directions.pullback(*outer_sum_apart(h_bar, a, W))               # (4) (9)
            return product(W.mT, h_bar), bars | {"b": event_sum(h_bar, self.b)}     # (4)

        return affine(W, self.b, a), pullback                                       # (2) (8)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Number", "N = 1: v_bar is 0", z=[[3.0]], v=[[-0.3]], g=[2.0], b=[0.7]),
        case("NoGain", "rows of length 1", z=[[1.0, 2.0]], v=[[3.0, -4.0], [1.0, 1.0], [0.0, 2.0]], g=None,
             b=[0.0, 0.0, 0.0]),
        case("NoLength", "a gain of 0: v has no gradient, g has", z=[[1.0, -2.0]], v=[[3.0, 4.0]], g=[0.0], b=[1.0]),
        case("Outweighed", "one entry of v outweighs the other", z=[[1.0, 1.0]], v=[[2.0**20, 1.0]], g=[1.0], b=[0.0]),
        case("SubnormalProduct", "W_bar is subnormal, v_bar is not", z=[[-5e-324, 1.5e-323]], v=[[3 * 2.0**-20, -2.0**-20]],
             g=None, b=[0.0]),
        case("Huge", "both products overflow, their sum does not", z=[[2.0**123, 2.0**123], [2.0**1005, 2.0**1005]],
             v=[[1.0, -1.0 + 2.0**-20]], g=[2.0**20], b=[0.0]),
    )


def outer_sum_apart(h, a, like):
    """(P, k) with outer_sum(h, a, like) = 2^k P and P between the roots of the smallest and the largest float.

    If P has no batch, k is one number; else there is one for each event.
    """
    P, together = outer_sum(h, a, like), like.ndim == 2
    limits, largest = np.finfo(P.dtype), np.abs(P).max(None if together else (-2, -1), initial=0)       # (9)
    moderate = (np.sqrt(limits.tiny) < largest) & (largest < np.sqrt(limits.max))
    if moderate.all():
        return P, 0
    _, k = np.frexp(np.abs(a).max(None if together else -1, initial=0))             # (9)
    k = np.where(moderate, 0, k)
    return outer_sum(h, np.ldexp(a, -k[..., None]), like), k[..., None, None]       # (9)
