r"""Cumulative distribution function of a mixture of logistic distributions, `R -> (0, 1)`.

With weights `w_k > 0, W = sum_k w_k`, loc `m_k`, scale `s_k > 0` and the logistic function `S(u) = 1/(1 + exp(-u))`,
    x = sum_k w_k S(u_k) / W,   u_k = (z - m_k)/s_k                                 (1)
    1 - x = sum_k w_k S(-u_k) / W                                                   (2)
`W` is 1 but for rounding; divided by it, `x` is a distribution function exactly and (2) holds exactly.  With
    S(u) = exp(min(u, 0)) / (1 + q),   q = exp(-|u|)                                (3)
    f_k = S(u_k) S(-u_k) / s_k = exp(-|u_k|) / (s_k (1 + q_k)^2)                    (4)
    dx/dz = g = sum_k w_k f_k / W                                                   (5)
    log|dx/dz| = M + log G,   M = -min_k |u_k|,   F_k = f_k exp(-M),   G = sum_k w_k F_k / W                (6)
`G exp(M)` is `g` without its underflow.  `u_k` may overflow, where the exponents of `F_k` still differ; they are
    |u_k| + M = 2^64 (v_k - min_k v_k),   v_k = 2^-64 |z - m_k| / s_k               (7)

Inverse: the root of
    H(z) = log(sum_k w_k S(u_k)/W) - log x                         for x <= 1/2     (8)
         = log(1 - x) - log(sum_k w_k S(-u_k)/W)                   elsewhere        (9)
which keep the digits of either tail (`1 - x` is exact there); near the root the logarithm of the quotient is taken, because
the difference of logarithms would lose the digits of `log x`.  `H` rises, and the root lies between the inverses of the
components, as a mean lies between the least and the largest: with `L = log(x/(1 - x))`,
    min_k (m_k + s_k L) <= z <= max_k (m_k + s_k L)                                 (10)
which is widened, moving `L` by `(1 + |L|)/1024` to either side, so that rounding leaves a root inside.
The log-det and all cotangents need the digits of `u_k`, which `z = m_k + s_k u_k` may have lost.  So the unknown is
    d = z - m_j,   u_k = (d + (m_j - m_k))/s_k                                      (11)
where `m_j` is the loc nearest to `z`: `d` and `m_j - m_k` are at most twice `z - m_k`, so all `u_k` keep their digits.  With
the locs in rising order, it is found before `z` is,
    j = number of i with H((m_i + m_(i+1))/2) < 0                                   (12)

Reverse rule.  Let `r_k = w_k f_k/(W g) = w_k F_k/(W G)`, the part of the density that is k's, `sum_k r_k = 1`, and
    t_k = dlog f_k/dz = -tanh(u_k/2)/s_k                                            (13)
    z_bar = x_bar g + l_bar sum_k r_k t_k                                           (14)
    m_k_bar = -x_bar g r_k - l_bar r_k t_k                                          (15)
    s_k_bar = -x_bar g r_k u_k - l_bar r_k (1 - u_k tanh(u_k/2))/s_k                (16)
    w_k_bar = x_bar (S_k - x)/W + l_bar (f_k - g)/(g W)
            = x_bar sum_i w_i (S_k - S_i)/W^2 + l_bar sum_i w_i (F_k - F_i)/(G W^2)       (17)
with `l_bar = log_det_bar`.  The second row of (17) keeps its digits where one weight is nearly all of `W`: for a mixture of
one it is 0 exactly.  For `u_k >= u_i`
    S_k - S_i = S(u_k) S(-u_i) (1 - exp(u_i - u_k)) = Y^2 Z,
    Y = exp((min(u_k, 0) + min(-u_i, 0))/2),   Z = (1 - exp(u_i - u_k))/((1 + q_k)(1 + q_i))                (18)

For the inverse map and its log-det `n = -l`, by the implicit function theorem: `dz/dx = 1/g` and `dz/dfield = -(dx/dfield)/g`,
    x_bar = (z_bar - l_bar l')/g,   l' = sum_k r_k t_k                              (19)
    e_k = z_bar + l_bar c_k,   c_k = sum_i r_i (t_k - t_i)                          (20)
    m_k_bar = r_k e_k                                                               (21)
    s_k_bar = r_k (u_k e_k + l_bar/s_k)                                             (22)
    w_k_bar = -sum_i w_i d_ki / W^2,   d_ki = ((z_bar - l_bar l')(S_k - S_i) + l_bar (f_k - f_i))/g             (23)
In the tails `f_k` is nearly S_k/s_k, and `l'` nearly `1/s_k`: (23) cancels, but for `u_k` and `u_i` of one sign
    d_ki = (z_bar (S_k - S_i) + l_bar (D_k - D_i))/g,   D_k = S_k (c_k + S_k/s_k)                       both < 0       (24)
         = (z_bar (S_k - S_i) + l_bar (E_k - E_i))/g,   E_k = S(-u_k) (S(-u_k)/s_k - c_k)               both >= 0      (25)
does not.

`r_k`, `g`, `S_k` and their quotients may leave the floats where their products with cotangents do not.  So each is a square,
up to a moderate factor, and a cotangent stands between its two roots:
    r_k = y_k^2 R_k,   y_k = exp(-(|u_k| + M)/2),   g = h^2 G,   h = exp(M/2)       (26)
For the inverse map `exp(M)` is not taken for granted: `u_k` is rounded, where `y`, the smaller of `x` and `1 - x`, is known.
With `a_k = u_k` for `x <= 1/2` and `-u_k` elsewhere,
    y = N exp(b),   b = max_k min(a_k, 0),   N = sum_k w_k S(a_k) exp(-b) / W
    g = y exp(M - b) G/N                                                            (27)
where `M - b` is 0, and the rounding of exponents has divided out, wherever one component is both most of `y` and most of `g`.
The `S_k` and `S(-u_k)` inside (24) and (25) are taken as parts of `y` too.

The ends of `(0, 1)` have infinite images, and log-dets:
    z = -inf, n = inf   at x = 0,   z = inf, n = inf   at x = 1                     (28)

A known defect: on a plateau between far components, where one float of `x` stands for a wide range of `z`, the inverse's
cotangents may overflow although their truth is finite.  The page declares it, and its certificate counts such points as
unsettled.

Source: Ho, Chen, Srinivas, Duan and Abbeel, Flow++, arXiv:1902.00275, on improved coupling layers.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, log_abs_product, positive, real, simplex
from .solve import increasing_root

SHIFT = 64


@bijector(source="arXiv:1902.00275", domain=real, codomain=interval(0, 1), increasing=True, solver=True,
          overflows_on_plateaus=True)
class LogisticMixtureCDF(Bijector):
    """x = sum_k weights_k sigmoid((z - loc_k)/scale_k), from R to (0, 1); the inverse is a bracketing solver's."""

    weights: Array = simplex("K")
    loc: Array = real("K")
    scale: Array = positive("K")
    event_ndim = (0, 0)

    def cast(self, dtype):
        """Its fields in another precision; weights of float32 must add up to 1 in float64 too."""
        fields = super().cast(dtype)
        return fields | {"weights": fields["weights"] / fields["weights"].sum(-1, keepdims=True)}

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
        inner = -log_abs_product(np.stack((nearer_end(x), G_N), -1)) - steps        # (27)
        return np.where(at_end, x.dtype.type(np.inf), inner)                        # (28)

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
        z = np.where(at_end, np.where(x == 0, dtype.type(-np.inf), dtype.type(np.inf)), z)          # (28)
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
            differences = v.between(x_bar) + (of_l / v.G[..., None])[..., None] * pairs(v.F)
            weights_bar = v.mean(differences) / v.W[..., None]                      # (17)
            return z_bar, {"weights": weights_bar, "loc": loc_bar, "scale": scale_bar}

        return (self.image(v), v.log_density()), pullback

    def inverse_vjp(self, x):
        z, v, at_end = self.root(x)
        steps, G_N = v.relative(x)

        def pullback(z_bar, log_det_bar):
            of_z, of_l = z_bar[..., None], log_det_bar[..., None]
            root, u_bar = np.exp(steps / 2), z_bar - log_det_bar * v.shared(v.t).sum(-1)            # (19)
            x_bar = np.where(u_bar == 0, u_bar, u_bar / G_N / root / nearer_end(x) / root)          # (19) (27)
            c = (v.shared(np.ones_like(v.u))[..., None, :] * pairs(v.t)).sum(-1)    # (20)
            e = of_z + of_l * c                                                     # (20)
            loc_bar = v.shared(e)                                                   # (21)
            scale_bar = v.shared(v.u * e + of_l / v.s)                              # (22)
            (S, rest), of_density = v.anchored(x), of_l / v.G[..., None]
            D = v.squared(v.u, of_density * c + of_density * S / v.s)               # (24)
            E = v.squared(-v.u, of_density * rest / v.s - of_density * c)           # (25)
            below = v.u < 0
            below_k, below_i = below[..., :, None], below[..., None, :]
            alike = v.between(z_bar / v.G, v.M) + np.where(below_k, pairs(D), pairs(E))             # (24) (25)
            apart = v.between(u_bar / v.G, v.M) + of_density[..., None] * pairs(v.F)              # (23)
            weights_bar = -v.mean(np.where(below_k == below_i, alike, apart)) / v.W[..., None]      # (23)
            return x_bar, {"weights": weights_bar, "loc": loc_bar, "scale": scale_bar}

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
    """v_k - v_i on axes k, i, 0 for equals, overflowed or not."""
    v_k, v_i = v[..., :, None], v[..., None, :]
    return np.where(v_k == v_i, 0, v_k - v_i)


def nearer_end(x):
    """x or 1 - x, whichever is smaller."""
    return np.where(x <= 0.5, x, 1 - x)                                             # (27)


class Mixture:
    """The components at given distances z - m_k: the letters of the equations, k along the last axis."""

    def __init__(self, page, distances):
        self.w, self.s = page.weights, page.scale
        self.u = distances / self.s                                                 # (1)
        self.W = np.broadcast_to(self.w, self.u.shape).sum(-1)                      # (1)
        self.q = np.exp(-np.abs(self.u))
        self.S, self.rest = (np.exp(np.minimum(v, 0)) / (1 + self.q) for v in (self.u, -self.u))    # (2) (3)
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

    def parts(self, x):
        """(b, N, S(a_k) exp(-b)) of (27)."""
        e = np.minimum(np.where(x[..., None] <= 0.5, self.u, -self.u), 0)
        b = e.max(-1)
        parts = np.exp(e - b[..., None]) / (1 + self.q)
        return b, (self.w * parts).sum(-1) / self.W, parts                          # (27)

    def relative(self, x):
        """(M - b, G/N) of (27)."""
        b, N, _ = self.parts(x)
        return self.M - b, self.G / N

    def anchored(self, x):
        """(S(u_k), S(-u_k)), of which the one that y is made of has the digits of y instead of exp(b)."""
        low, (_, N, parts) = x[..., None] <= 0.5, self.parts(x)
        known = parts * (nearer_end(x) / N)[..., None]                              # (27)
        return np.where(low, known, self.S), np.where(low, self.rest, known)

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
        return np.where(bar == 0, 0, bar * root / (1 + self.q) * root)              # (26)

    def between(self, bar, top=None):
        """(S_k - S_i) bar on axes k, i; with top divided by exp(top)."""
        upper, lower = (f(self.u[..., :, None], self.u[..., None, :]) for f in (np.maximum, np.minimum))
        apart = np.where(upper == lower, 0, upper - lower)
        exponent = (np.minimum(upper, 0) + np.minimum(-lower, 0)) / 2
        Y = np.exp(exponent if top is None else exponent - top[..., None, None] / 2)    # (18) (26)
        Z = -np.expm1(-apart) / ((1 + self.q[..., :, None]) * (1 + self.q[..., None, :]))           # (18)
        signed = np.where(self.u[..., :, None] >= self.u[..., None, :], Z, -Z)
        factor = bar[..., None, None] * signed
        return np.where(factor == 0, 0, factor * Y * Y)                             # (18)

    def mean(self, differences):
        """sum_i w_i (v_k - v_i) / W."""
        return (self.w[..., None, :] * differences).sum(-1) / self.W[..., None]


class RootProblem:
    """The equations (8) and (9) for x (n,) and fields (n, K)."""

    def __init__(self, x, weights, loc, scale):
        self.x, self.weights, self.loc, self.scale = x, weights, loc, scale
        self.low, self.y = x <= 0.5, nearer_end(x)
        self.log_y = np.log(self.y)

    def H(self, u, i):
        """H of the problems number i, from their u (len(i), K)."""
        sign = np.where(self.low[i], 1, -1).astype(u.dtype)
        e = np.minimum(sign[:, None] * u, 0)
        top, weights = e.max(-1), self.weights[i]
        terms = weights * np.exp(e - top[:, None]) / (1 + np.exp(-np.abs(u)))       # (3)
        part, root = terms.sum(-1) / weights.sum(-1), np.exp(top / 2)
        far = top + np.log(part) - self.log_y[i]
        near = np.log(root * part * (root / self.y[i]))
        return sign * np.where(np.abs(far) < 1, near, far)                          # (8) (9)

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
        apart, L = self.from_nearest(j), np.log(self.x) - np.log1p(-self.x)
        lower, upper = ((self.scale * (L + side * (1 + np.abs(L)) / 1024)[:, None] - apart) for side in (-1, 1))        # (10)

        def function(d, i):
            return self.H((d[:, None] + apart[i]) / self.scale[i], i)               # (8) (9) (11)

        return j, increasing_root(function, lower.min(-1), upper.max(-1))
