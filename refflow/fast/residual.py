r"""Planar flows, tuned: floats in place of pairs, for fields that all events share.  Radial flows with events as columns.

The page `maps.residual.planar` computes with letters of its hyperplane; here the letters are computed in another way, and the page's
lines stay.  The direction is
    v = (c - 1) w/(w^T w) + P u,   (P u)_j = sum_i w_i (w_i u_j - w_j u_i)/(w^T w)  (1)
where each difference loses no more digits than a rounding of `w` or `u` does.  With `q = exp(-2 |a|)`,
    s = 4 q/(1 + q)^2,   p = t^2 + c s                                              (2)
Sums over the events come first, and the cotangents of the fields once, from the sums:
    g = sum_n h_n x_bar_n,   u_bar = P g,   c_bar = w^T g/(w^T w) + sum_n c_bar_n   (3)
    w_bar = sum_n a_bar_n z_n + k P g - (w^T g/(w^T w)) v                           (4)
For the inverse map, with `y >= 0`, Newton's method finds the root of
    (a - tanh(a)) + c tanh(a) = y                                                   (5)
whose left side is convex for `c < 1`, where steps from above stay above, and concave for `c >= 1`, where steps from below stay below:
    a_0 = min(y/c, y + 1 - c)    for c < 1,   a_0 = max(y/c, y + 1 - c)    for c >= 1           (6)
The difference in (5) cancels for a small `a`:
    a - tanh(a) = a^3/(3 + a^2 + a^2/(5 + a^2/(7 + a^2/(9 + ... a^2/17))))    for a < 1         (7)

The page takes over where numbers or their squares leave the normal numbers, and where the steps do not settle.  It keeps maps
whose fields differ between events; those with `D = 1`, where `z` and `v` are multiples of `w` and cancel; and the Jacobian.
"""

from __future__ import annotations

import numpy as np

from ..core.arrays import doubled
from ..maps.residual import Planar, Radial, planar
from ..maps.residual.hyperplane import Hyperplane

NORMAL = 2.0**-500, 2.0**500            # w^T w: its square is a normal number
STEPS, SETTLED = 100, 2.0**-51          # the last step is at most two roundings


class TunedPlanar(Planar):
    """A planar flow whose fields are one for all events."""

    @staticmethod
    def takes(f):
        return f.parameter_batch == () and f.dims["D"] > 1

    def of_latent(self, z):
        plane = SharedHyperplane(self, z)
        return (plane, Letters(plane.c, plane.a)) if plane.usable() else super().of_latent(z)

    def of_image(self, x):
        plane = SharedHyperplane(self, x)
        a = root(plane.a, plane.c) if plane.usable() else None
        return super().of_image(x) if a is None else (plane, Letters(plane.c, a))


class TunedRadial(Radial):
    """A radial flow whose events stand in memory entry by entry, so that numbers of an event meet all events at once."""

    @staticmethod
    def takes(f):
        return True

    def of_latent(self, z):
        return super().of_latent(np.asarray(z, order="F"))

    def of_image(self, x):
        return super().of_image(np.asarray(x, order="F"))


# -- the letters of a planar flow -------------------------------------------------------------------------------------

class SharedHyperplane:
    """What `Hyperplane` gives in pairs, in floats; the events are columns, and bars are sums over them."""

    def __init__(self, f, event):
        self.f = f
        self.event, self.w, u, b, self.c = doubled(event, f.w, f.u, f.b, f.slack)
        self.square, self.excess = self.w @ self.w, self.c - 1
        self.a = (self.w @ columns(self.event) + b).reshape(event.shape[:-1])
        self.k = (self.excess - self.w @ u) / self.square
        self.v = self.excess / self.square * self.w + self.across(u)                # (1)

    def usable(self):
        return NORMAL[0] < self.square < NORMAL[1] and np.isfinite(self.v).all() and np.isfinite(self.a).all()

    def across(self, u):
        """P u."""
        products = np.multiply.outer(self.w, u)
        return self.w @ (products - products.T) / self.square                       # (1)

    def moved(self, h):
        return self.with_multiples(self.event, self.v, h)

    def with_multiples(self, event, direction, h):
        """event + h direction."""
        return (np.multiply.outer(direction, h.ravel()) + columns(event)).T.reshape(event.shape)

    def jacobian(self, _):
        """By the page: in floats, a diagonal entry may cancel."""
        plane = Hyperplane(self.f, self.event)
        return plane.jacobian(planar.Letters(plane.c, plane.a).s)

    def along(self, x_bar):
        return (self.v @ columns(x_bar)).reshape(x_bar.shape[:-1])

    def bars(self, x_bar, h, a_bar, c_bar):
        g = columns(x_bar) @ h.ravel()                                              # (3)
        u_bar, of_v = self.across(g), self.w @ g / self.square                      # (3)
        w_bar = columns(self.event) @ a_bar.ravel() + (self.k * u_bar - of_v * self.v)          # (4)
        return self.with_multiples(x_bar, self.w, a_bar), {"w": w_bar, "b": a_bar.sum(), "u": u_bar, "slack": of_v + c_bar.sum()}   # (3)


class Letters:
    """a, t, s and p in floats."""

    def __init__(self, c, a):
        q = np.exp(-2 * np.abs(a))
        self.a, self.t, self.s = a, np.tanh(a), 4 * q / ((1 + q) * (1 + q))         # (2)
        self.rise, self.p = (c - 1) * self.s, self.t * self.t + c * self.s          # (2)

    def bend(self):
        """p'/p."""
        return -2 * self.rise * self.t / self.p

    def log_p(self):
        near = self.rise > -0.5
        return np.log1p(self.rise) if near.all() else np.where(near, np.log1p(np.where(near, self.rise, 0)), np.log(self.p))


def columns(event):
    """(D, n)."""
    return event.reshape(-1, event.shape[-1]).T


def root(y, c):
    """The a with (a - tanh a) + c tanh a = y, or None."""
    size, c = np.abs(y), c[()]
    a = (np.minimum if c < 1 else np.maximum)(size / c, size + (1 - c))             # (6)
    for _ in range(STEPS):
        at = Letters(c, a)
        step = (lag(a, at.t) + c * at.t - size) / at.p                              # (5)
        a = a - step
        if (np.abs(step) <= SETTLED * a).all():
            return np.copysign(a, y)
    return None


def lag(a, t):
    """a - tanh(a)."""
    b = a * a
    return np.where(a < 1, a * b / (3 + b + b / (5 + b / (7 + b / (9 + b / (11 + b / (13 + b / (15 + b / 17))))))), a - t)      # (7)
