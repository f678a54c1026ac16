r"""Planar flow with a leaky rectified linear unit, `R^D -> R^D`: linear on either side of a hyperplane.

The map.  With a normal `w`, an offset `b`, a free vector `u`, a slack `c = slack > 0` and a slope
`d = negative_slope > 0`,
    x = z + h v,   h = s a,   a = w^T z + b,   s = 1 for a >= 0,   s = d for a < 0  (1)
    v = u + k w,   k = (c - 1 - w^T u)/(w^T w)                                      (2)
By (2), `w^T v = c - 1` whatever `u` is.
    dx/dz = I + s v w^T                                                             (3)
    log|det dx/dz| = log p,   p = 1 + (c - 1) s                                     (4)
`p` is `c` on the side of `a >= 0`.  It must be positive on the other side, too: with a slack below 1, slopes of `1/(1 - c)` or more
are refused.  The product of (1) with `w` is `w^T x + b = p a`, so no event crosses the hyperplane, and
    z = x - h v,   h = s a,   a = y/p,   y = w^T x + b                              (5)
    log|det dz/dx| = -log p                                                         (6)
where the sign of `y` is the sign of `a`.  The hyperplane is a break: there (3) is the derivative from the side of `a > 0`.

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    a_bar = s v^T x_bar                                                             (7)
    z_bar = x_bar + a_bar w,   b_bar = a_bar                                        (8)
    d_bar = a v^T x_bar + l_bar (c - 1)/p   for a < 0,   0   for a >= 0             (9)
From (2), with `v_bar = h x_bar` and `k_bar = w^T v_bar`,
    u_bar = v_bar - k_bar w/(w^T w)                                                 (10)
    w_bar = a_bar z + k u_bar - k_bar v/(w^T w)                                     (11)
    c_bar = k_bar/(w^T w) + l_bar s/p                                               (12)
For the inverse map, `da = (dy - a dp)/p` with `dp = s dc + (c - 1) dd`, so that with `v_bar = -h z_bar` and the cotangent
`l_bar` of (6),
    a_bar = -s v^T z_bar/p                                                          (13)
    x_bar = z_bar + a_bar w,   b_bar = a_bar                                        (14)
    d_bar = -(a v^T z_bar + l_bar (c - 1))/p   for a < 0,   0   for a >= 0          (15)
    c_bar = k_bar/(w^T w) - a_bar h - l_bar s/p                                     (16)
and (10) and (11) hold with `x` in the place of `z`.

Source: FlowJAX, normflows; Rezende and Mohamed, arXiv:1505.05770, have `tanh`.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, chosen, pair, positive, real, refusal
from ...core.arrays import at_index, doubled, rounded
from ...core.sets import nonzero_vector
from .hyperplane import Hyperplane, log_1_plus, rounded_vjp


class textbook:
    """(1) to (16) as they are printed, for one event."""

    def direction(w, u, slack):
        """v and k."""
        k = (slack - 1 - w @ u) / (w @ w)                                           # (2)
        return u + k * w, k                                                         # (2)

    def side(a, slack, negative_slope):
        """s and p."""
        s = 1 if a >= 0 else negative_slope                                         # (1)
        return s, 1 + (slack - 1) * s                                               # (4)

    def forward(z, w, b, u, slack, negative_slope):
        a = w @ z + b                                                               # (1)
        return z + textbook.side(a, slack, negative_slope)[0] * a * textbook.direction(w, u, slack)[0]          # (1)

    def place(x, w, b, slack, negative_slope):
        """a, s and p."""
        y = w @ x + b                                                               # (5)
        s, p = textbook.side(y, slack, negative_slope)
        return y / p, s, p                                                          # (5)

    def inverse(x, w, b, u, slack, negative_slope):
        a, s, _ = textbook.place(x, w, b, slack, negative_slope)
        return x - s * a * textbook.direction(w, u, slack)[0]                       # (5)

    def jacobian(z, w, b, u, slack, negative_slope):
        v, s = textbook.direction(w, u, slack)[0], textbook.side(w @ z + b, slack, negative_slope)[0]
        return np.array([[(i == j) + s * v[i] * w[j] for j in range(len(z))] for i in range(len(z))])       # (3)

    def log_det(z, w, b, u, slack, negative_slope):
        return np.log(textbook.side(w @ z + b, slack, negative_slope)[1])           # (4)

    def inverse_log_det(x, w, b, u, slack, negative_slope):
        return -np.log(textbook.place(x, w, b, slack, negative_slope)[2])           # (6)

    def bars(event, w, u, slack, x_bar, h, a_bar):
        """u_bar, w_bar, and the first term of c_bar."""
        (v, k), v_bar, square = textbook.direction(w, u, slack), h * x_bar, w @ w
        k_bar = w @ v_bar
        u_bar = v_bar - k_bar * w / square                                          # (10)
        return u_bar, a_bar * event + k * u_bar - k_bar * v / square, k_bar / square        # (11)

    def vjp(z, w, b, u, slack, negative_slope, x_bar, l_bar):
        a, v = w @ z + b, textbook.direction(w, u, slack)[0]
        s, p = textbook.side(a, slack, negative_slope)
        a_bar = s * (v @ x_bar)                                                     # (7)
        d_bar = 0 * a if a >= 0 else a * (v @ x_bar) + l_bar * (slack - 1) / p      # (9)
        u_bar, w_bar, c_bar = textbook.bars(z, w, u, slack, x_bar, s * a, a_bar)
        bars = {"w": w_bar, "b": a_bar, "u": u_bar, "slack": c_bar + l_bar * s / p, "negative_slope": d_bar}    # (12)
        return x_bar + a_bar * w, bars                                              # (8)

    def inverse_vjp(x, w, b, u, slack, negative_slope, z_bar, l_bar):
        v, (a, s, p) = textbook.direction(w, u, slack)[0], textbook.place(x, w, b, slack, negative_slope)
        a_bar = -s * (v @ z_bar) / p                                                # (13)
        d_bar = 0 * a if a >= 0 else -(a * (v @ z_bar) + l_bar * (slack - 1)) / p   # (15)
        u_bar, w_bar, c_bar = textbook.bars(x, w, u, slack, z_bar, -s * a, a_bar)
        c_bar = c_bar - a_bar * s * a - l_bar * s / p                               # (16)
        return z_bar + a_bar * w, {"w": w_bar, "b": a_bar, "u": u_bar, "slack": c_bar, "negative_slope": d_bar}         # (14)


r"""In floating point.

In (2), `w^T u` cancels `c - 1`, and the sum cancels `u` where `u` is nearly a multiple of `w`.  From (1) to (16), everything is
computed with pairs of floats, of twice the digits, for float32 too, and rounded once.          (17)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases: products of pairs keep their
digits only while their roundings are normal numbers.

In (4), a rounded `p` near 1 has few digits of its logarithm:
    log p = log1p((c - 1) s)    for (c - 1) s > -1/2                                (18)

In (10), `u_bar` is 0 where `x_bar` is a multiple of `w`, as always for `D = 1`:
    u_bar_j = h sum_i w_i (w_i x_j_bar - w_j x_i_bar)/(w^T w)                       (19)
"""


@bijector(source="FlowJAX, normflows", domain=real, codomain=real, moderate=True, rounded_breaks=True, textbook=textbook)
class PiecewisePlanar(Bijector):
    """x = z + v h(w^T z + b), where h(a) = a for a >= 0, negative_slope a for a < 0, and v = u + (slack - 1 - w^T u) w/(w^T w).

    z and x are (*batch, D); w is (D,) and not 0, u is (D,), all else numbers.  The inverse is a formula.  ValueError for w = 0, and
    for a slack and a negative slope that are not positive, or with `1 + (slack - 1) negative_slope <= 0`: the map then folds space.
    """

    w: Array = nonzero_vector("D")
    b: Array = real()
    u: Array = real("D")
    slack: Array = positive()
    negative_slope: Array = positive()
    event_ndim = (1, 1)

    def _validate(self):
        super()._validate()
        c, d = np.broadcast_arrays(self.slack, self.negative_slope)
        folds = ~(self.growths()[1].high > 0)                                       # (4)
        if folds.any():
            i = tuple(int(k) for k in np.argwhere(folds)[0])
            raise ValueError(f"PiecewisePlanar: negative_slope must have 1 + (slack - 1) negative_slope > 0; "
                             f"{at_index('slack', i)} = {c[i]}, {at_index('negative_slope', i)} = {d[i]}")

    @staticmethod
    def inverse_definition(m, x, w, b, u, slack, negative_slope):
        y = sum(w_i * x_i for w_i, x_i in zip(w, x)) + b                            # (5)
        s = 1 if y >= 0 else negative_slope
        h = s * y / (1 + (slack - 1) * s)                                           # (4) (5)
        k = (slack - 1 - sum(w_i * u_i for w_i, u_i in zip(w, u))) / sum(w_i * w_i for w_i in w)        # (2)
        return [x_i - (u_i + k * w_i) * h for x_i, u_i, w_i in zip(x, u, w)]        # (5)

    def breaks(self):
        """The number -b/w for D = 1; NaN for D > 1, where the break is a hyperplane and no entry of z alone tells of it."""
        if self.dims["D"] > 1:
            return np.full(1, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):        # steps of differences may reach w = 0: no break
            return (-self.b / self.w[..., 0])[..., None, None]

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward_and_log_det(self, z):
        plane, at = self.of_latent(z)
        return rounded((plane.moved(at.h), at.log_p()), z.dtype)                    # (1) (4)

    def jacobian(self, z):
        plane, at = self.of_latent(z)
        return plane.jacobian(at.s).astype(z.dtype)                                 # (3)

    def inverse_and_log_det(self, x):
        plane, at = self.of_image(x)
        return rounded((plane.moved(-at.h), -at.log_p()), x.dtype)                  # (5) (6)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        plane, at = self.of_latent(z)

        def pullback(x_bar, l_bar):
            along = plane.along(x_bar)
            z_bar, bars = plane.bars(x_bar, at.h, along * at.s, l_bar * at.s / at.p)        # (7) (8) (10) (11) (12) (19)
            d_bar = along * at.a + l_bar * (plane.excess / at.p)                    # (9)
            return z_bar, bars | {"negative_slope": chosen(at.right, 0 * d_bar, d_bar)}     # (9)

        return rounded_vjp((plane.moved(at.h), at.log_p()), pullback, z.dtype)      # (1) (4)

    def inverse_vjp(self, x):
        plane, at = self.of_image(x)

        def pullback(z_bar, l_bar):
            along = plane.along(z_bar)
            a_bar = -along * at.s / at.p                                            # (13)
            x_bar, bars = plane.bars(z_bar, -at.h, a_bar, -a_bar * at.h - l_bar * at.s / at.p)      # (10) (11) (14) (16) (19)
            d_bar = -(along * at.a + l_bar * plane.excess) / at.p                   # (15)
            return x_bar, bars | {"negative_slope": chosen(at.right, 0 * d_bar, d_bar)}     # (15)

        return rounded_vjp((plane.moved(-at.h), -at.log_p()), pullback, x.dtype)    # (5) (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    def growths(self):
        """p on the side of a >= 0 and on the other one."""
        c, d = doubled(self.slack, self.negative_slope)                             # (17)
        return pair(c), (pair(c) - 1) * d + 1                                       # (4)

    def of_latent(self, z):
        """The hyperplane, and the letters at z."""
        plane = Hyperplane(self, z)
        return plane, Letters(self, plane, plane.a, plane.a.high >= 0)              # (1) (17)

    def of_image(self, x):
        """The hyperplane, and the letters at the z of x."""
        plane = Hyperplane(self, x)
        y, right = plane.a, plane.a.high >= 0
        return plane, Letters(self, plane, y / chosen(right, *self.growths()), right)           # (5) (17)

    @classmethod
    def examples(cls, source):
        D, d = source.count(1, 3), positive.draw(source, ())
        slack = np.maximum(1 - 1 / d, 0) + positive.draw(source, ())
        return cls(nonzero_vector.draw(source, (D,)), real.draw(source, ()), real.draw(source, (D,)), slack, d), (D,)

    hard_cases = (
        case("Line", "D = 1: u does not count", z=[[0.5], [-3.0]], x=[[0.25], [-7.0]], w=[2.0], b=0.5, u=[3.0], slack=0.25,
             negative_slope=0.2),
        case("Break", "events on the hyperplane: the side of a > 0 holds", z=[[1.0, -2.0], [0.0, -1.5]], x=[[1.0, -2.0], [0.0, -1.5]],
             w=[1.0, 2.0], b=3.0, u=[0.5, -1.0], slack=0.5, negative_slope=0.25),
        case("BesideBreak", "w^T z rounds to -b, the pair does not", z=[[0.1, 0.3]], x=[[0.1, 0.3]], w=[3.0, -1.0], b=0.0,
             u=[0.5, -1.0], slack=0.5, negative_slope=0.25),
        case("NearlySingular", "p is small on the side of a < 0", z=[[-1.0, 0.5]], x=[[-2.0**-10, 2.0**-12]], w=[1.0, 1.0], b=0.0,
             u=[0.25, 2.0], slack=0.5, negative_slope=2.0 - 2.0**-20),
        case("Volume", "slack = 1: the log-det is 0 everywhere", z=[[0.5, -1.0, 2.0], [0.5, 1.0, 2.0]], x=[[0.5, 1.0, 2.0]],
             w=[1.0, -2.0, 0.5], b=0.25, u=[1.0, 1.0, 1.0], slack=1.0, negative_slope=0.01),
        case("NearlyVolume", "the log-det is a small number", z=[[0.5, -1.0], [-2.0, 1.0]], x=[[0.5, -1.0], [-2.0, 1.0]],
             w=[1.0, -0.5], b=0.25, u=[1.0, 1.0], slack=1.0 + 2.0**-20, negative_slope=2.0**-10),
        case("Opposite", "u is nearly a multiple of w: w^T u cancels c - 1, and k w cancels u", z=[[0.5, 0.25]], x=[[0.5, 0.25]],
             w=[3.0, 4.0], b=-3.0, u=[-3.0, -4.0 + 2.0**-10], slack=2.0**-10, negative_slope=0.5),
        case("Linear", "negative_slope = 1: no break", z=[[2.0, -1.0], [-2.0, 1.0]], x=[[500.0, 3.0]], w=[1.0, 2.0], b=0.0,
             u=[0.0, 1.0], slack=1000.0, negative_slope=1.0),
    )
    refused = (
        refusal("negative_slope must have 1 + (slack - 1) negative_slope > 0; slack = 0.5, negative_slope = 2.0", w=[1.0, 2.0], b=0.0,
                u=[0.0, 0.0], slack=0.5, negative_slope=2.0),
    )


class Letters:
    """a, s, h and p of float64 pairs, and whether a >= 0."""

    def __init__(self, f, plane, a, right):
        d, = doubled(f.negative_slope)                                              # (17)
        self.a, self.right, self.s = a, right, np.where(right, 1, d)                # (1)
        self.h, self.p = a * self.s, chosen(right, *f.growths())                    # (1) (4)
        self.rise = plane.excess * self.s

    def log_p(self):
        return log_1_plus(self.rise, self.p)                                        # (4) (18)
