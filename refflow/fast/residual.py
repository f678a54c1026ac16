r"""Planar and radial flows, tuned, for fields that all events share: events are columns, and gradients sums over them.

The page `maps.residual.planar` computes with pairs of floats for its letters; here the letters are floats, computed in another way,
and the page's lines stay.  The direction is
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

For the gradients of a radial flow, with the letters of `maps.residual.radial`, the parts along `n` and across it are not taken apart,
and no event is divided by its length.  With `S = y^T x_bar`, `T = S/A`, `L = l_bar/A` and `E = (D - 1)/g`,
    z_bar = g x_bar + k y,   centre_bar = -q x_bar - k y,   k = -q (T + L (E + 2 tau/d))/r          (8)
    c_bar = T + L (E + tau/d),   alpha_bar = -g T - L (D - rho g/d)                 (9)
For the inverse map, with `e` in the place of `y`, and with `z_bar` in `S`,
    x_bar = z_bar/g + k e,   centre_bar = (q/g) z_bar - k e,   k = q (T/g^2 + L (E + 2 tau/d))/(g d r)      (10)
    c_bar = -(T/g + L (D - 1 + tau (rho (g + gamma) + tau gamma)/d))/d              (11)
    alpha_bar = (T + L ((D - 1) g + (tau (rho^2 + g^2) - gamma rho^2)/d))/d         (12)
With `m = q`, for the inverse map `m = -q/g`, the image is the first of two sums, which cancels for `m` near -1, or the second:
    event + m y = centre + (1 + m) y                                                (13)
The root is
    r = H + |h|                for h >= 0
      = alpha R/(H + |h|)      for h <  0,   h = (R - c)/2,   H = sqrt(h^2 + alpha R)       (14)

The page takes over where numbers or their squares leave the normal numbers, at the centre of a radial flow, and where the steps do
not settle.  It also computes maps whose fields differ between events, the Jacobian, and all of `D = 1`: there `z` and `v` of a planar
flow are multiples of `w`, and (9) cancels.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..core.arrays import doubled
from ..core.boundary import published, vjp_of_event
from ..maps.residual import Planar, Radial, planar
from ..maps.residual.hyperplane import Hyperplane

NORMAL = 2.0**-500, 2.0**500            # w^T w: its square is a normal number
LENGTHS = {np.dtype(kind): (np.finfo(kind).tiny ** 0.25, np.finfo(kind).max ** 0.25) for kind in (np.float32, np.float64)}
                                        # of y, alpha and c: squares and quotients of them, and their products, are normal numbers
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
    """A radial flow whose events stand in memory entry by entry, so that numbers of an event meet all events at once.

    Gradients of fields that all events share are its own.
    """

    @staticmethod
    def takes(f):
        return True

    def of_latent(self, z):
        return super().of_latent(np.asarray(z, order="F"))

    def of_image(self, x):
        return super().of_image(np.asarray(x, order="F"))

    @partial(published, outside=vjp_of_event(0, "x_bar", "log_det_bar"), doc=Radial.vjp.__doc__)
    def vjp(self, z):
        ball = SharedCentre.of(self, z)
        return super().vjp(z) if ball is None else ball.vjp()

    @partial(published, outside=vjp_of_event(1, "z_bar", "log_det_bar"), doc=Radial.inverse_vjp.__doc__)
    def inverse_vjp(self, x):
        ball = SharedCentre.of(self, x)
        return super().inverse_vjp(x) if ball is None else ball.inverse_vjp()


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
        return log_1_plus(self.rise, self.p)


def log_1_plus(q, g):
    """log g for g = 1 + q."""
    near = q > -0.5
    return np.log1p(q) if near.all() else np.where(near, np.log1p(np.where(near, q, 0)), np.log(g))


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


# -- the letters of a radial flow -------------------------------------------------------------------------------------

class SharedCentre:
    """The events, (D, n), their differences from the centre, and the lengths of these."""

    @classmethod
    def of(cls, f, event):
        """None where the page is to compute."""
        if f.parameter_batch != () or f.dims["D"] == 1:
            return None
        ball, (least, most) = cls(f, event), LENGTHS[event.dtype]
        numbers = ball.alpha, ball.c
        usable = least < ball.length.min(initial=min(numbers)) and ball.length.max(initial=max(numbers)) < most
        return ball if usable else None

    def __init__(self, f, event):
        self.shape, self.event, self.across = event.shape, columns(event), event.dtype.type(event.shape[-1] - 1)
        self.centre, self.alpha, self.c = f.centre[:, None], f.alpha[()], f.slack[()]
        self.y = np.subtract(self.event, self.centre, order="C")
        self.length = np.sqrt(np.einsum("dn,dn->n", self.y, self.y))

    def vjp(self):
        v, K = RadialLetters(self.alpha, self.c, self.length), self.across

        def pullback(x_bar, l_bar):
            T, L = self.along(x_bar) / v.A, l_bar.ravel() / v.A
            once = K / v.g + v.tau / v.d
            k = -v.q * (T + L * (once + v.tau / v.d)) / v.r                         # (8)
            of_alpha, of_c = -(v.g @ T) - L @ (K + 1 - v.rho * v.g / v.d), T.sum() + L @ once       # (9)
            return self.bars(x_bar, v.g, v.q, k, of_alpha, of_c)

        return self.moved(v.g, v.q, v.log_det(K)), pullback

    def inverse_vjp(self):
        v, K = RadialLetters(self.alpha, self.c, self.root()), self.across

        def pullback(z_bar, l_bar):
            T, L, rho_2, g_2 = self.along(z_bar) / v.A, l_bar.ravel() / v.A, v.rho * v.rho, v.g * v.g
            k = v.q * (T / g_2 + L * (K / v.g + 2 * v.tau / v.d)) / (v.g * v.d * v.r)       # (10)
            bend = v.tau * (v.rho * (v.g + v.gamma) + v.tau * v.gamma) / v.d
            of_c = -((T / v.g + L * (K + bend)) / v.d).sum()                        # (11)
            bend = (v.tau * (rho_2 + g_2) - v.gamma * rho_2) / v.d
            of_alpha = ((T + L * (K * v.g + bend)) / v.d).sum()                     # (12)
            return self.bars(z_bar, 1 / v.g, -v.q / v.g, k, of_alpha, of_c)

        return self.moved(1 / v.g, -v.q / v.g, -v.log_det(K)), pullback

    def root(self):
        """r from R."""
        h, product = (self.length - self.c) / 2, self.alpha * self.length
        larger = np.sqrt(h * h + product) + np.abs(h)                               # (14)
        return np.where(h >= 0, larger, product / larger)                           # (14)

    def moved(self, factor, m, log_det):
        """(event + m y, the log-det) for factor = 1 + m."""
        near, moved = m > -0.5, m * self.y + self.event                             # (13)
        if not near.all():
            moved = np.where(near, moved, self.centre + factor * self.y)            # (13)
        return moved.T.reshape(self.shape), log_det.reshape(self.shape[:-1])

    def along(self, bar):
        """S."""
        return np.einsum("dn,dn->n", self.y, columns(bar))

    def bars(self, bar, factor, m, k, of_alpha, of_c):
        centre_bar = -(columns(bar) @ m) - self.y @ k                               # (8) (10)
        event_bar = factor * columns(bar) + k * self.y                              # (8) (10)
        return event_bar.T.reshape(self.shape), {"centre": centre_bar, "alpha": of_alpha, "slack": of_c}


class RadialLetters:
    """r, and the letters that the page has for it."""

    def __init__(self, alpha, c, r):
        self.r, self.A = r, alpha + r
        self.rho, self.tau, self.gamma, self.q = r / self.A, alpha / self.A, c / self.A, (c - alpha) / self.A
        self.g = self.rho + self.gamma
        self.d = self.rho + self.tau * self.g

    def log_det(self, across):
        return across * log_1_plus(self.q, self.g) + log_1_plus(self.q * self.tau, self.d)
