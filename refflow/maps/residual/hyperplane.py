r"""What planar and Sylvester flows share: they move an event by functions of its place relative to hyperplanes.

A planar flow has one hyperplane and one direction.  With a normal `w`, an offset `b`, a vector `u` and a slack `c`,
    x = z + h v,   a = w^T z + b                                                    (1)
    v = u + k w,   k = (c - 1 - w^T u)/(w^T w)                                      (2)
where `h` is a function of `a`, with the slope `s`.  By (2), `w^T v = c - 1` whatever `u` is.  From (1),
    dx/dz = I + s v w^T                                                             (3)
With the cotangent `a_bar` of `a`, with `v_bar = h x_bar` and `k_bar = w^T v_bar`,
    z_bar = x_bar + a_bar w,   b_bar = a_bar                                        (4)
    u_bar = v_bar - k_bar w/(w^T w)                                                 (5)
    c_bar = k_bar/(w^T w)                                                           (6)
    w_bar = a_bar z + k u_bar - c_bar v                                             (7)
The inverse `z = x - h v` has the same rule, with `-h` and with the cotangent of its own `a = w^T x + b`.
The differences in (2) and (5) cancel: everything is computed with pairs of floats, for float32 too.  (5) is 0 where `x_bar` is a
multiple of `w`.  Floats give this 0 only if (5) is written as a sum of determinants:
    u_bar_j = h sum_i w_i (w_i x_j_bar - w_j x_i_bar)/(w^T w)                       (8)
The log-det is `log p`, `p = 1 + r`, `r = (c - 1) s`.  The sum is a pair, and near 1 its logarithm needs the digits of `r`:
    log p = log1p(r)    for r > -1/2                                                (9)
"""

from __future__ import annotations

import numpy as np

from ...core import chosen, pair
from ...core.arrays import doubled, rounded


class Hyperplane:
    """An event and the fields w, u, b and c in float64; a, v, k and w^T w as pairs."""

    def __init__(self, f, event):
        self.event, self.w, self.u, self.b, self.c = doubled(event, f.w, f.u, f.b, f.slack)
        self.a = inner(self.w, self.event) + self.b                                      # (1)
        self.square = inner(self.w, self.w)
        self.k = (self.excess - inner(self.w, self.u)) / self.square                # (2)
        self.v = self.k[..., None] * self.w + self.u                                # (2)

    @property
    def excess(self):
        """c - 1."""
        return pair(self.c) - 1

    def moved(self, h):
        """event + h v."""
        return self.v * h[..., None] + self.event                                   # (1)

    def jacobian(self, s):
        """I + s v w^T."""
        return (self.v * s[..., None])[..., :, None] * self.w[..., None, :] + np.eye(self.event.shape[-1])      # (3)

    def along(self, x_bar):
        """v^T x_bar."""
        return inner(self.v, x_bar)

    def bars(self, x_bar, h, a_bar, c_bar):
        """The cotangents of the event and of the fields of event + h v; a_bar is the cotangent of a, c_bar what c gets beside v."""
        u_bar = across(self.w, x_bar) * (h / self.square)[..., None]                # (5) (8)
        of_v, through_a = inner(self.w, x_bar) * h / self.square, a_bar[..., None]  # (6)
        w_bar = through_a * self.event + (self.k[..., None] * u_bar - of_v[..., None] * self.v)     # (7)
        return through_a * self.w + x_bar, {"w": w_bar, "b": a_bar, "u": u_bar, "slack": of_v + c_bar}      # (4)


def rounded_vjp(found, pullback, dtype):
    """What a vjp gives, from values that are pairs and a pullback from float64 cotangents to pairs: all is rounded once."""
    def rounding(event_bar, log_det_bar):
        return rounded(pullback(*doubled(event_bar, log_det_bar)), dtype)

    return rounded(found, dtype), rounding


def inner(a, b):
    """a^T b as a pair."""
    return (pair(a) * b).sum(-1)


def across(w, x_bar):
    """w^T w times the part of x_bar at a right angle to w."""
    product = pair(w)[..., :, None] * x_bar[..., None, :]
    return ((product - pair(x_bar)[..., :, None] * w[..., None, :]) * w[..., :, None]).sum(-2)      # (8)


def log_1_plus(r, p):
    """log p of pairs r and p = 1 + r, in floats."""
    near = r.high > -0.5
    r = chosen(near, r, 0 * r)
    return np.where(near, np.log1p(r.high) + r.low / (1 + r.high), np.log(p.high) + p.low / p.high)        # (9)
