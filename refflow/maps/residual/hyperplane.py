r"""Words of the maps that move events along one direction, by a function of their place relative to a hyperplane.

With a normal `w`, a vector `u` and a slack `c`,
    v = u + k w,   k = (c - 1 - w^T u)/(w^T w)                                      (1)
so that `w^T v = c - 1` whatever `u` is.  For `x = z + h v`, with `v_bar = h x_bar` and `k_bar = w^T v_bar`,
    u_bar = v_bar - k_bar w/(w^T w)                                                 (2)
    w_bar = k v_bar - k_bar (u + 2 k w)/(w^T w)                                     (3)
    c_bar = k_bar/(w^T w)                                                           (4)
The differences in (1) and (2) cancel: everything is computed with pairs of floats, for float32 too.  (2) is 0 where `x_bar` is a
multiple of `w`, in floats only as a sum of determinants:
    u_bar_j = h sum_i w_i (w_i x_j_bar - w_j x_i_bar)/(w^T w)                       (5)
With the slope `s` of the function, the log-det is `log p`, `p = 1 + r`, `r = (c - 1) s`.  The sum is a pair, and near 1 its logarithm
needs the digits of `r`:
    log p = log1p(r)    for r > -1/2                                                (6)
"""

from __future__ import annotations

import numpy as np

from ...core import chosen, pair
from ...core.arrays import doubled


class Hyperplane:
    """w, u, b and c of a page in float64, and v, k and w^T w as pairs."""

    def __init__(self, f):
        self.w, self.u, self.b, self.c = doubled(f.w, f.u, f.b, f.slack)
        self.square = inner(self.w, self.w)
        self.k = (self.excess - inner(self.w, self.u)) / self.square                # (1)
        self.v = self.k[..., None] * self.w + self.u                                # (1)

    @property
    def excess(self):
        """c - 1."""
        return pair(self.c) - 1

    def place(self, event):
        """w^T event + b."""
        return inner(self.w, event) + self.b

    def moved(self, event, h):
        """event + h v."""
        return self.v * h[..., None] + event

    def bars(self, x_bar, h):
        """The cotangents of w, u and c, as far as they are due to v."""
        v_bar, k_bar = x_bar * h[..., None], inner(self.w, x_bar) * h
        of_w = (2 * self.k)[..., None] * self.w + self.u
        w_bar = self.k[..., None] * v_bar - (k_bar / self.square)[..., None] * of_w     # (3)
        u_bar = across(self.w, x_bar) * (h / self.square)[..., None]                # (2) (5)
        return w_bar, u_bar, k_bar / self.square                                    # (4)


def inner(a, b):
    """a^T b as a pair."""
    return (pair(a) * b).sum(-1)


def across(w, x_bar):
    """w^T w times the part of x_bar at a right angle to w."""
    product = pair(w)[..., :, None] * x_bar[..., None, :]
    return ((product - pair(x_bar)[..., :, None] * w[..., None, :]) * w[..., :, None]).sum(-2)      # (5)


def log_1_plus(r, p):
    """log p of pairs r and p = 1 + r, in floats."""
    near = r.high > -0.5
    r = chosen(near, r, 0 * r)
    return np.where(near, np.log1p(r.high) + r.low / (1 + r.high), np.log(p.high) + p.low / p.high)        # (6)
