r"""Planar flow, `R^D -> R^D`: each event moves along one direction, by a function of its distance from a hyperplane.

The map.  With a normal `w`, an offset `b`, a free vector `u` and a slack `c = slack > 0`,
    x = z + v tanh(a),   a = w^T z + b                                              (1)
    v = u + k w,   k = (c - 1 - w^T u)/(w^T w)                                      (2)
By (2), `w^T v = c - 1` whatever `u` is: the slack says by how much `w^T v` exceeds -1, and (1) is invertible because it does.  The
source takes `c = log(1 + exp(w^T u))`, other libraries take other functions of `w^T u`; their conventions are parametrisations.
    dx/dz = I + s v w^T,   s = 1 - t^2,   t = tanh(a)                               (3)
    log|det dx/dz| = log p,   p = 1 + (c - 1) s                                     (4)
`p` lies between 1 and `c`, because `s` lies between 0 and 1.  For the inverse map, the product of (1) with `w` is an equation of
one unknown, whose left side has the slope `p > 0` and is therefore increasing.  A bisection finds its root, which lies between
`y - |c - 1|` and `y + |c - 1|`:
    a + (c - 1) tanh(a) = y,   y = w^T x + b                                        (5)
    z = x - v tanh(a)                                                               (6)
    log|det dz/dx| = -log p   at the root                                           (7)

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    a_bar = s v^T x_bar + l_bar p'/p,   p' = -2 (c - 1) s t                         (8)
    z_bar = x_bar + a_bar w,   b_bar = a_bar                                        (9)
From (2), with `v_bar = t x_bar` and `k_bar = w^T v_bar`,
    u_bar = v_bar - k_bar w/(w^T w)                                                 (10)
    w_bar = a_bar z + k u_bar - k_bar v/(w^T w)                                     (11)
    c_bar = k_bar/(w^T w) + l_bar s/p                                               (12)
For the inverse map, (5) gives `da = (dy - t dc)/p`, so that with (6), with `v_bar = -t z_bar`, and with the cotangent `l_bar`
of (7),
    a_bar = -(s v^T z_bar + l_bar p'/p)/p                                           (13)
    x_bar = z_bar + a_bar w,   b_bar = a_bar                                        (14)
    c_bar = k_bar/(w^T w) - a_bar t - l_bar s/p                                     (15)
and (10) and (11) hold with `x` in the place of `z`.

Source: Rezende and Mohamed, Variational Inference with Normalizing Flows, arXiv:1505.05770, section 4.1 and appendix A.1.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, pair, positive, real
from ...core.arrays import rounded
from ...core.pairs import exp, expm1
from ...core.sets import nonzero_vector
from ..elementwise.solve import newton_step, root_above_floor
from .hyperplane import Hyperplane, log_1_plus, rounded_vjp


class textbook:
    """(1) to (15) as they are printed, for one event."""

    def direction(w, u, slack):
        """v and k."""
        k = (slack - 1 - w @ u) / (w @ w)                                           # (2)
        return u + k * w, k                                                         # (2)

    def letters(a, slack):
        """t, s, p and p'."""
        t = np.tanh(a)                                                              # (3)
        s = 1 - t**2                                                                # (3)
        return t, s, 1 + (slack - 1) * s, -2 * (slack - 1) * s * t                  # (4) (8)

    def forward(z, w, b, u, slack):
        return z + textbook.direction(w, u, slack)[0] * np.tanh(w @ z + b)          # (1)

    def root(x, w, b, slack):
        y = w @ x + b                                                               # (5)
        below, above = y - abs(slack - 1), y + abs(slack - 1)
        a = (below + above) / 2
        while below < a < above:
            below, above = (a, above) if a + (slack - 1) * np.tanh(a) < y else (below, a)       # (5)
            a = (below + above) / 2
        return a

    def inverse(x, w, b, u, slack):
        return x - textbook.direction(w, u, slack)[0] * np.tanh(textbook.root(x, w, b, slack))  # (6)

    def jacobian(z, w, b, u, slack):
        v, s = textbook.direction(w, u, slack)[0], 1 - np.tanh(w @ z + b) ** 2      # (3)
        return np.array([[(i == j) + s * v[i] * w[j] for j in range(len(z))] for i in range(len(z))])       # (3)

    def log_det(z, w, b, u, slack):
        return np.log(textbook.letters(w @ z + b, slack)[2])                        # (4)

    def inverse_log_det(x, w, b, u, slack):
        return -np.log(textbook.letters(textbook.root(x, w, b, slack), slack)[2])   # (7)

    def bars(event, w, u, slack, x_bar, t, a_bar):
        """u_bar, w_bar, and the first term of c_bar."""
        (v, k), v_bar, square = textbook.direction(w, u, slack), t * x_bar, w @ w
        k_bar = w @ v_bar
        u_bar = v_bar - k_bar * w / square                                          # (10)
        return u_bar, a_bar * event + k * u_bar - k_bar * v / square, k_bar / square        # (11)

    def vjp(z, w, b, u, slack, x_bar, l_bar):
        (v, _), (t, s, p, p_prime) = textbook.direction(w, u, slack), textbook.letters(w @ z + b, slack)
        a_bar = s * (v @ x_bar) + l_bar * p_prime / p                               # (8)
        u_bar, w_bar, c_bar = textbook.bars(z, w, u, slack, x_bar, t, a_bar)
        return x_bar + a_bar * w, {"w": w_bar, "b": a_bar, "u": u_bar, "slack": c_bar + l_bar * s / p}      # (9) (12)

    def inverse_vjp(x, w, b, u, slack, z_bar, l_bar):
        v, (t, s, p, p_prime) = textbook.direction(w, u, slack)[0], textbook.letters(textbook.root(x, w, b, slack), slack)
        a_bar = -(s * (v @ z_bar) + l_bar * p_prime / p) / p                        # (13)
        u_bar, w_bar, c_bar = textbook.bars(x, w, u, slack, z_bar, -t, a_bar)
        c_bar = c_bar - a_bar * t - l_bar * s / p                                   # (15)
        return z_bar + a_bar * w, {"w": w_bar, "b": a_bar, "u": u_bar, "slack": c_bar}          # (14)


r"""In floating point.

In (2), `w^T u` cancels `c - 1` and the sum cancels `u` where `u` is nearly a multiple of `w`.  From (1) to (15), everything is
computed with pairs of floats, of twice the digits, for float32 too, and rounded once.         (16)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases: products of pairs keep their
digits only while their roundings are normal numbers.

In (3), `1 - t^2` loses all digits where `t` rounds to 1.  With `q = exp(-2 |a|)`,
    |t| = (1 - q)/(1 + q),   s = 4 q/(1 + q)^2                                      (17)

In (4), `1 + (c - 1) s` cancels for a small `c`, and its logarithm loses the digits of a small `(c - 1) s`:
    p = t^2 + c s                                                                   (18)
    log p = log1p((c - 1) s)    for (c - 1) s > -1/2                                (19)

In (5), `a` nearly cancels `(c - 1) tanh(a)` for small `c` and `a`.  The solver takes `a g = y` with the mean slope `g` between 0
and `a`, so that the root lies between 0 and `y/min(c, 1)`:
    g = c + (1 - c) e    for c < 1,   g = 1 + (c - 1) (1 - e)    for c >= 1,   e = 1 - tanh(a)/a            (20)
    e = a^2/(3 + a^2 + a^2/(5 + a^2/(7 + a^2/(9 + a^2/11))))    for |a| < 1/2       (21)
where (21) is the continued fraction of `tanh`.  One step of Newton's method with pairs takes the root of the solver to
    a - (a + (c - 1) tanh(a) - y)/p                                                 (22)

In (10), `u_bar` is 0 where `x_bar` is a multiple of `w`, as always for `D = 1`:
    u_bar_j = t sum_i w_i (w_i x_j_bar - w_j x_i_bar)/(w^T w)                       (23)
"""


@bijector(source="arXiv:1505.05770", domain=real, codomain=real, solver=True, moderate=True, textbook=textbook)
class Planar(Bijector):
    """x = z + v tanh(w^T z + b), where v = u + (slack - 1 - w^T u) w/(w^T w); the inverse uses a bracketing solver.

    z and x are (*batch, D); w is (D,) and not 0, u is (D,), b and the slack are numbers.  `w^T v = slack - 1` whatever u is, so the
    map is invertible for every slack > 0.  ValueError for w = 0 and for a slack that is not positive.
    """

    w: Array = nonzero_vector("D")
    b: Array = real()
    u: Array = real("D")
    slack: Array = positive()
    event_ndim = (1, 1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward_and_log_det(self, z):
        plane, at = self.of_latent(z)
        return rounded((plane.moved(at.t), at.log_p()), z.dtype)                    # (1) (4)

    def jacobian(self, z):
        plane, at = self.of_latent(z)
        return plane.jacobian(at.s).astype(z.dtype)                                 # (3)

    def inverse_and_log_det(self, x):
        plane, at = self.of_image(x)
        return rounded((plane.moved(-at.t), -at.log_p()), x.dtype)                  # (6) (7)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        plane, at = self.of_latent(z)

        def pullback(x_bar, l_bar):
            a_bar = at.s * plane.along(x_bar) + l_bar * at.bend()                   # (8)
            return plane.bars(x_bar, at.t, a_bar, l_bar * at.s / at.p)              # (9) (10) (11) (12) (23)

        return rounded_vjp((plane.moved(at.t), at.log_p()), pullback, z.dtype)      # (1) (4)

    def inverse_vjp(self, x):
        plane, at = self.of_image(x)

        def pullback(z_bar, l_bar):
            a_bar = -(at.s * plane.along(z_bar) + l_bar * at.bend()) / at.p         # (13)
            return plane.bars(z_bar, -at.t, a_bar, -a_bar * at.t - l_bar * at.s / at.p)     # (10) (11) (14) (15) (23)

        return rounded_vjp((plane.moved(-at.t), -at.log_p()), pullback, x.dtype)    # (6) (7)

    # -- in floating point --------------------------------------------------------------------------------------------

    def of_latent(self, z):
        """The hyperplane, and the letters at z."""
        plane = Hyperplane(self, z)
        return plane, Letters(plane.c, plane.a)                                     # (1) (16)

    def of_image(self, x):
        """The hyperplane, and the letters at the root."""
        plane = Hyperplane(self, x)
        return plane, solved(plane.a, plane.c)                                      # (5) (16)

    hard_cases = (
        case("Line", "D = 1: u does not count", z=[[0.5], [-3.0]], x=[[0.25], [7.0]], w=[2.0], b=0.5, u=[3.0], slack=0.25),
        case("Plane", "events on the hyperplane, where tanh(a) is 0", z=[[1.0, -2.0], [0.0, -1.5]], x=[[1.0, -2.0], [0.0, -1.5]],
             w=[1.0, 2.0], b=3.0, u=[0.5, -1.0], slack=0.5),
        case("Saturated", "1 - t^2 underflows", z=[[30.0, 10.0], [-300.0, 60.0]], x=[[20.0, 9.0], [-400.0, 1.0]], w=[1.0, 0.5],
             b=0.0, u=[1.0, -2.0], slack=4.0),
        case("NearlySingular", "p is small near the hyperplane, and the root flat", z=[[2.0**-12, 0.0], [0.5, -1.0]],
             x=[[2.0**-30, 2.0**-31], [0.25, 0.125], [0.0, 0.0]], w=[1.0, 1.0], b=0.0, u=[0.25, 2.0], slack=2.0**-20),
        case("Volume", "slack = 1: the log-det is 0 everywhere", z=[[0.5, -1.0, 2.0]], x=[[0.5, -1.0, 2.0]], w=[1.0, -2.0, 0.5],
             b=0.25, u=[1.0, 1.0, 1.0], slack=1.0),
        case("NearlyVolume", "the log-det is a small number, and so is its derivative", z=[[0.5, -1.0]], x=[[0.5, -1.0]],
             w=[1.0, -0.5], b=0.25, u=[1.0, 1.0], slack=1.0 + 2.0**-20),
        case("Opposite", "u is nearly a multiple of w: w^T u cancels c - 1, and k w cancels u", z=[[0.5, 0.25]], x=[[0.5, 0.25]],
             w=[3.0, 4.0], b=-1.0, u=[-3.0, -4.0 + 2.0**-10], slack=2.0**-10),
        case("Large", "a large slack: the slope passes from c to 1 in a narrow strip", z=[[2.0, -1.0]], x=[[500.0, 3.0]],
             w=[1.0, 1.0], b=0.0, u=[0.0, 1.0], slack=1000.0),
        case("Switch", "(21) meets the quotient", x=[[0.5, 0.0], [np.nextafter(0.5, 1), 0.0]], w=[1.0, 0.0], b=0.0, u=[1.0, 1.0],
             slack=1.0 - 2.0**-20),
    )


class Letters:
    """a, t, s and p of float64 pairs."""

    def __init__(self, c, a):
        q, e, self.a = exp(-magnitude(a) * 2), expm1(-magnitude(a) * 2), a          # (17)
        self.t = -e / (1 + q) * np.copysign(1, a.high)                              # (17)
        self.s = 4 * q / ((1 + q) * (1 + q))                                        # (17)
        self.excess = pair(c) - 1
        self.rise = self.excess * self.s
        self.p = self.t * self.t + c * self.s                                       # (18)

    def bend(self):
        """p'/p."""
        return -2 * self.rise * self.t / self.p                                     # (8)

    def log_p(self):
        return log_1_plus(self.rise, self.p)                                        # (4) (19)


def solved(y, c):
    """The letters at the root a of (5)."""
    numbers, target = (v.ravel() for v in np.broadcast_arrays(c, y.high))
    solvable = np.isfinite(target)                              # elsewhere the place has left the floats, and so has the root
    a = root_above_floor(lambda a, i: mean_slope(a, numbers[i]), np.where(solvable, target, 0), np.minimum(numbers, 1))     # (5) (20)
    at = Letters(c, pair(np.where(solvable, a, target).reshape(y.shape)))
    return Letters(c, newton_step(at.a, (at.a + at.excess * at.t - y) / at.p))      # (22)


def magnitude(a):
    """|a| of a pair."""
    return a * np.copysign(1, a.high)


def mean_slope(a, c):
    """(a + (c - 1) tanh(a))/a of floats."""
    b, near = a * a, np.abs(a) < 0.5
    fraction, share = b / (3 + b + b / (5 + b / (7 + b / (9 + b / 11)))), np.tanh(a) / a           # (20) (21)
    e, share = np.where(near, fraction, 1 - share), np.where(near, 1 - fraction, share)
    return np.where(c < 1, c + (1 - c) * e, 1 + (c - 1) * share)                    # (20)
