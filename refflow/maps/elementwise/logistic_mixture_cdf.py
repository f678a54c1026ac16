r"""Cumulative distribution function of a mixture of logistic distributions, R -> (0, 1).

With weights w_k > 0, W = sum_k w_k, loc m_k, scale s_k > 0 and the logistic function S(u) = 1/(1 + exp(-u)),
    x = sum_k w_k S(u_k) / W,   u_k = (z - m_k)/s_k                                 (1)
    1 - x = sum_k w_k S(-u_k) / W                                                   (2)
W is 1 but for rounding; divided by it, x is a distribution function exactly and (2) holds exactly.  With
    S(u) = exp(min(u, 0)) / (1 + q),   q = exp(-|u|)                                (3)
    f_k = S(u_k) S(-u_k) / s_k = exp(-|u_k|) / (s_k (1 + q_k)^2)                    (4)
    dx/dz = g = sum_k w_k f_k / W                                                   (5)
    log|dx/dz| = M + log G,   M = -min_k |u_k|,   F_k = f_k exp(-M),   G = sum_k w_k F_k / W                (6)
G exp(M) is g without its underflow.  u_k may overflow; the exponents of F_k are differences of (z - m_k)/s_k times a power
of 2 that keeps them finite, so that they are right beyond the range of u_k too.                            (7)

Inverse: the root of
    H(z) = log(sum_k w_k S(u_k)/W) - log x                         for x <= 1/2     (8)
         = log(1 - x) - log(sum_k w_k S(-u_k)/W)                   elsewhere        (9)
which keep the digits of either tail (1 - x is exact there).  H rises, and the root lies between the inverses of the
components, as a mean lies between the least and the largest: with L = log(x/(1 - x)),
    min_k (m_k + s_k L) <= z <= max_k (m_k + s_k L)                                 (10)
which is widened, moving L by (1 + |L|)/1024 to either side, so that rounding leaves a root inside.
The log-det and all cotangents need the digits of u_k, which z = m_k + s_k u_k may have lost.  So the unknown is
    d = z - m_j,   u_k = (d + (m_j - m_k))/s_k                                      (11)
where m_j is the loc nearest to z: no other is less than half as far as it looks from there, so all u_k keep their digits.
It is found by the signs of H in the middle between neighbouring locs.                                      (12)

Reverse rule.  Let r_k = w_k f_k/(W g) = w_k F_k/(W G), the part of the density that is k's, sum_k r_k = 1, and
    t_k = dlog f_k/dz = -tanh(u_k/2)/s_k                                            (13)
    z_bar = x_bar g + l_bar sum_k r_k t_k                                           (14)
    m_k_bar = -x_bar g r_k - l_bar r_k t_k                                          (15)
    s_k_bar = -x_bar g r_k u_k - l_bar r_k (1 - u_k tanh(u_k/2))/s_k                (16)
    w_k_bar = x_bar (S_k - x)/W + l_bar (f_k - g)/(g W)
            = x_bar sum_i w_i (S_k - S_i)/W^2 + l_bar sum_i w_i (F_k - F_i)/(G W^2) (17)
with l_bar = log_det_bar.  The second row of (17) keeps its digits where one weight is nearly all of W: for a mixture of one
it is 0 exactly.  For u_k >= u_i
    S_k - S_i = S(u_k) S(-u_i) (1 - exp(u_i - u_k)) = Y^2 Z,
    Y = exp((min(u_k, 0) + min(-u_i, 0))/2),   Z = (1 - exp(u_i - u_k))/((1 + q_k)(1 + q_i))                (18)

For the inverse map and its log-det n = -l, by the implicit function theorem: dz/dx = 1/g and dz/dfield = -(dx/dfield)/g,
    x_bar = (z_bar - l_bar l')/g,   l' = sum_k r_k t_k                              (19)
    e_k = z_bar + l_bar c_k,   c_k = sum_i r_i (t_k - t_i)                          (20)
    m_k_bar = r_k e_k                                                               (21)
    s_k_bar = r_k (u_k e_k + l_bar/s_k)                                             (22)
    w_k_bar = -sum_i w_i (z_bar (S_k - S_i) - l_bar (D_k - D_i))/(g W^2)            (23)
where D_k = l' S_k - f_k cancels in the tails, where f_k is nearly S_k/s_k, but
    D_k = -S_k (c_k + S_k/s_k)           for u_k <  0
        = -S_k (S(-u_k)/s_k - l')        for u_k >= 0                               (24)
does not; and where u_k and u_i are positive, D_k - D_i = E_i - E_k with
    E_k = S(-u_k) (S(-u_k)/s_k - c_k)    for u_k >= 0
        = S(-u_k) (S_k/s_k + l')         for u_k <  0                               (25)

r_k, g, S_k and their quotients may leave the floats where their products with cotangents do not.  So each is a square, up
to a moderate factor, and a cotangent stands between its two roots:
    r_k = y_k^2 R_k,   y_k = F_k's exponential to the power 1/2,   g = h^2 G,   h = exp(M/2),   S_k = exp(min(u_k, 0)/2)^2/(1 + q_k)     (26)
For the inverse map exp(M) is not taken for granted: u_k is rounded, where y, the smaller of x and 1 - x, is known.  With
v_k = u_k for x <= 1/2 and -u_k elsewhere,
    y = N exp(b),   b = max_k min(v_k, 0),   N = sum_k w_k S(v_k) exp(-b) / W
    g = y exp(M - b) G/N                                                            (28)
where M - b is 0, and the rounding of exponents has divided out, wherever one component is both most of y and most of g.
At x = 0 and x = 1 the inverse and its log-det are infinite.                        (27)

Source: Ho, Chen, Srinivas, Duan and Abbeel, Flow++, arXiv:1902.00275, section 3.2.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, log_abs_product, positive, real, simplex
from .solve import increasing_root

SHIFT = 64


@bijector(source="arXiv:1902.00275", domain=real, codomain=interval(0, 1), increasing=True, solver=True)
class LogisticMixtureCDF(Bijector):
    """x = sum_k weights_k sigmoid((z - loc_k)/scale_k), from R to (0, 1); the inverse is a bracketing solver's."""

    weights: Array = simplex("K")
    loc: Array = real("K")
    scale: Array = positive("K")
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, weights, loc, scale):
        total = sum(weights)
        x = 0
        for w, m_k, s in zip(weights, loc, scale):
            x = x + w / (1 + m.exp(-(z - m_k) / s))                                 # (1)
        return x / total                                                            # (1)

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.image(Mixture(self, z[..., None] - self.loc))                   # (1)

    def image(self, v):
        return (v.w * v.S).sum(-1) / v.W                                            # (1)

    def log_det(self, z):
        return Mixture(self, z[..., None] - self.loc).log_density()

    def forward_and_log_det(self, z):
        v = Mixture(self, z[..., None] - self.loc)
        return self.image(v), v.log_density()

    def slope(self, z):
        v = Mixture(self, z[..., None] - self.loc)
        return v.G * v.h * v.h                                                      # (5) (6)

    # -- inverse ------------------------------------------------------------------------------------------------------

    def inverse(self, x):
        return self.root(x)[0]

    def inverse_and_log_det(self, x):
        z, v, at_end = self.root(x)
        return z, self.inverse_log_det(x, v, at_end)

    def inverse_log_det(self, x, v, at_end):
        steps, G_N = v.relative(x)
        inner = -log_abs_product(np.stack((nearer_end(x), G_N), -1)) - steps        # (28)
        return np.where(at_end, x.dtype.type(np.inf), inner)                        # (27)

    def root(self, x):
        """(z, the mixture at z, marks of the ends of the interval)."""
        K, dtype = self.loc.shape[-1], x.dtype
        at_end = (x == 0) | (x == 1)
        inner = np.where(at_end, dtype.type(0.5), x).reshape(-1)
        fields = (np.broadcast_to(v, x.shape + (K,)).reshape(-1, K) for v in (self.weights, self.loc, self.scale))
        problem = RootProblem(inner, *fields)
        j, d = problem.solved()
        apart = problem.from_nearest(j)
        z = (np.take_along_axis(problem.loc, j[:, None], -1)[:, 0] + d).reshape(x.shape)            # (11)
        z = np.where(at_end, np.where(x == 0, dtype.type(-np.inf), dtype.type(np.inf)), z)          # (27)
        return z, Mixture(self, (d[:, None] + apart).reshape(x.shape + (K,))), at_end

    # -- reverse ------------------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = Mixture(self, z[..., None] - self.loc)

        def pullback(x_bar, log_det_bar):
            of_x, of_l = x_bar[..., None], log_det_bar[..., None]
            bend = v.u * np.tanh(v.u / 2)
            density_bar, h = of_x * v.G[..., None] * v.h[..., None], v.h[..., None]                 # (6) (26)
            z_bar = x_bar * v.G * v.h * v.h + log_det_bar * v.shared(v.t).sum(-1)   # (14)
            loc_bar = -v.shared(density_bar) * h - v.shared(of_l * v.t)             # (15)
            scale_bar = -v.shared(density_bar, v.u) * h - v.shared(of_l / v.s) + v.shared(of_l / v.s, bend)         # (16)
            weights_bar = v.mean(v.between(x_bar) + of_l[..., None] * pairs(v.F) / v.G[..., None, None]) / v.W[..., None]       # (17)
            return z_bar, {"weights": weights_bar, "loc": loc_bar, "scale": scale_bar}

        return (self.image(v), v.log_density()), pullback

    def inverse_vjp(self, x):
        z, v, at_end = self.root(x)
        steps, G_N = v.relative(x)

        def pullback(z_bar, log_det_bar):
            of_z, of_l = z_bar[..., None], log_det_bar[..., None]
            slope = v.shared(v.t).sum(-1)                                           # (19)
            root, u_bar = np.exp(steps / 2), z_bar - log_det_bar * slope
            x_bar = np.where(u_bar == 0, u_bar, u_bar / G_N / root / nearer_end(x) / root)          # (19) (28)
            c = (v.shared(np.ones_like(v.u))[..., None, :] * pairs(v.t)).sum(-1)    # (20)
            e = of_z + of_l * c                                                     # (20)
            loc_bar = v.shared(e)                                                   # (21)
            scale_bar = v.shared(v.u * e + of_l / v.s)                              # (22)
            low, slope, of_density = v.u < 0, slope[..., None], of_l / v.G[..., None]
            D = -v.squared(v.u, of_density * np.where(low, c + v.S / v.s, v.rest / v.s - slope))           # (24)
            E = v.squared(-v.u, of_density * np.where(low, v.S / v.s + slope, v.rest / v.s - c))           # (25)
            above = np.minimum(v.u[..., :, None], v.u[..., None, :]) > 0
            differences = v.between(z_bar / v.G, v.M) - np.where(above, -pairs(E), pairs(D))             # (23)
            return x_bar, {"weights": -v.mean(differences) / v.W[..., None], "loc": loc_bar, "scale": scale_bar}        # (23)

        return (z, self.inverse_log_det(x, v, at_end)), pullback

    hard_cases = (
        case("One", "a single logistic: no cotangent reaches its weight, and the inverse's log-det does not see its loc",
             z=[1.0, -30.0, 1e6 + 1], x=[0.25, 1e-300, np.nextafter(1, 0)], weights=[1.0], loc=[1e6], scale=[1.0]),
        case("Equal", "two components that are one", z=[0.5, -3.0], x=[0.5, 0.9], weights=[0.5, 0.5], loc=[1.0, 1.0],
             scale=[2.0, 2.0]),
        case("Plateau", "between far components the density is tiny, and z ill conditioned", z=[0.5, 1.0],
             x=[0.25, 0.5 - 2.0**-20], weights=[0.5, 0.5], loc=[-40.0, 41.0], scale=[1.0, 1.0]),
        case("Tails", "x, 1 - x and the density underflow in turn: logarithms do not", z=[-700.0, 36.0, 745.0, 1e4],
             x=[1e-300, 1e-30, np.nextafter(1, 0)], weights=[0.25, 0.75], loc=[-1.0, 1.0], scale=[1.0, 0.5]),
        case("Needle", "a narrow component on a wide one: a step inside a bracket of the wide one's width",
             z=[0.5, 0.5 + 1e-6], x=[0.5, 0.3, 0.7], weights=[0.5, 0.5], loc=[0.5, -3.0], scale=[1e-6, 1e3]),
        case("LightWeight", "a weight beside which the others are lost", z=[0.0, 5.0], x=[0.5, 1e-20],
             weights=[1 - 2.0**-53, 2.0**-53], loc=[0.0, 5.0], scale=[1.0, 0.125]),
        case("Far", "u overflows; the widest component is still the one that counts", z=[2.0**1000, -2.0**1000],
             x=[0.2], weights=[0.5, 0.5], loc=[0.0, 1.0], scale=[2.0**-60, 2.0**-59]),
        case("AtLoc", "d is 0", z=[0.0, 5e-324], x=[0.5, np.nextafter(0.5, 0)], weights=[1.0], loc=[0.0], scale=[3.0]),
    )


def pairs(v):
    """v_k - v_i, on axes k, i."""
    return v[..., :, None] - v[..., None, :]


def nearer_end(x):
    """x or 1 - x, whichever is smaller."""
    return np.where(x <= 0.5, x, 1 - x)                                             # (28)


class Mixture:
    """The components at given distances z - m_k: the letters of the equations, k along the last axis."""

    def __init__(self, page, distances):
        self.w, self.s = page.weights, page.scale
        self.u = distances / self.s                                                 # (1)
        self.W = np.broadcast_to(self.w, self.u.shape).sum(-1)                      # (1)
        self.q = np.exp(-np.abs(self.u))
        self.S, self.rest = (np.exp(np.minimum(v, 0)) / (1 + self.q) for v in (self.u, -self.u))    # (3)
        small = -np.abs(np.ldexp(distances, -SHIFT) / self.s)                       # (7)
        nearest = small.max(-1, keepdims=True)
        self.M = np.ldexp(nearest[..., 0], SHIFT)                                   # (6)
        self.y = np.exp(np.ldexp(small - nearest, SHIFT - 1))                       # (7) (26)
        self.F = self.y * self.y / self.s / (1 + self.q) ** 2                       # (4) (6)
        total = (self.w * self.F).sum(-1)
        self.G, self.h = total / self.W, np.exp(self.M / 2)                         # (6) (26)
        self.R = self.w / self.s / (1 + self.q) ** 2 / total[..., None]             # (26)

    def log_density(self):
        return self.M + np.log(self.G)                                              # (6)

    def relative(self, x):
        """(M - b, G/N) of (28)."""
        e = np.minimum(np.where(x[..., None] <= 0.5, self.u, -self.u), 0)
        b = e.max(-1)
        N = (self.w * np.exp(e - b[..., None]) / (1 + self.q)).sum(-1) / self.W     # (28)
        return self.M - b, self.G / N

    @property
    def t(self):
        return -np.tanh(self.u / 2) / self.s                                        # (13)

    def shared(self, bar, u=None):
        """r_k bar, or r_k bar u_k, which is 0 where r_k bar is, even if u_k has overflowed."""
        root = bar * self.y * self.R                                                # (26)
        root = root if u is None else np.where(root == 0, root, root * u)
        return root * self.y                                                        # (26)

    def squared(self, u, bar):
        """S(u_k) bar / exp(M)."""
        root = np.exp((np.minimum(u, 0) - self.M[..., None]) / 2)
        return bar * root / (1 + self.q) * root                                     # (26)

    def between(self, bar, top=None):
        """(S_k - S_i) bar on axes k, i; with top divided by exp(top)."""
        upper, lower = (f(self.u[..., :, None], self.u[..., None, :]) for f in (np.maximum, np.minimum))
        apart = np.where(upper == lower, 0, upper - lower)
        exponent = (np.minimum(upper, 0) + np.minimum(-lower, 0)) / 2
        Y = np.exp(exponent if top is None else exponent - top[..., None, None] / 2)    # (18) (26)
        Z = -np.expm1(-apart) / ((1 + self.q[..., :, None]) * (1 + self.q[..., None, :]))           # (18)
        sign = np.where(self.u[..., :, None] >= self.u[..., None, :], Z, -Z)
        return bar[..., None, None] * Y * sign * Y                                  # (18)

    def mean(self, differences):
        """sum_i w_i (v_k - v_i) / W."""
        return (self.w[..., None, :] * differences).sum(-1) / self.W[..., None]


class RootProblem:
    """The equations (8) and (9) for x (n,) and fields (n, K)."""

    def __init__(self, x, weights, loc, scale):
        self.x, self.weights, self.loc, self.scale = x, weights, loc, scale
        self.low = x <= 0.5
        with np.errstate(all="ignore"):
            self.log_x, self.log_rest = np.log(x), np.log1p(-x)

    def H(self, u, i):
        """H of the problems number i, from their u (len(i), K)."""
        sign = np.where(self.low[i], 1, -1).astype(u.dtype)
        e = np.minimum(sign[:, None] * u, 0)
        top, weights = e.max(-1), self.weights[i]
        terms = weights * np.exp(e - top[:, None]) / (1 + np.exp(-np.abs(u)))       # (3)
        tail = top + np.log(terms.sum(-1) / weights.sum(-1))
        return np.where(self.low[i], tail - self.log_x[i], self.log_rest[i] - tail)             # (8) (9)

    def nearest(self):
        """j of (12)."""
        everything, order = np.arange(self.x.size), np.argsort(self.loc, -1)
        ordered = np.take_along_axis(self.loc, order, -1)
        passed = np.zeros(self.x.size, int)
        for middle in ((ordered[:, 1:] + ordered[:, :-1]) / 2).T:
            passed += self.H((middle[:, None] - self.loc) / self.scale, everything) < 0             # (12)
        return np.take_along_axis(order, passed[:, None], -1)[:, 0]

    def from_nearest(self, j):
        """m_j - m_k."""
        return np.take_along_axis(self.loc, j[:, None], -1) - self.loc              # (11)

    def solved(self):
        """(j, d)."""
        j = self.nearest()
        apart, L = self.from_nearest(j), self.log_x - self.log_rest
        lower, upper = ((self.scale * (L + side * (1 + np.abs(L)) / 1024)[:, None] - apart) for side in (-1, 1))        # (10)

        def function(d, i):
            return self.H((d[:, None] + apart[i]) / self.scale[i], i)               # (8) (9) (11)

        return j, increasing_root(function, lower.min(-1), upper.max(-1))
