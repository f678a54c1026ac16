r"""Cumulative distribution function of a mixture of normal distributions, `R -> (0, 1)`.

The map.  With `w = weights > 0`, `W = sum_k w_k`, `m = loc`, `s = scale > 0`, and the normal density `phi` and distribution
function `Phi`,
    x = sum_k w_k Phi(u_k) / W,   u_k = (z - m_k)/s_k                               (1)
    dx/dz = g = sum_k w_k f_k / W,   f_k = phi(u_k)/s_k                             (2)
    log|dx/dz| = log g                                                              (3)
`W` is 1 up to rounding; after division by it, `x` is exactly a distribution function.  The inverse map has no formula.  It is found
by bisection between the inverses of the components, because a mean lies between the least and the largest member:
    min_k (m_k + s_k y) <= z <= max_k (m_k + s_k y),   y = Phi^-1(x)                (4)
    log|dz/dx| = -log g   at the root                                               (5)

The reverse rule.  With component k's part `r_k` of the density, where `sum_k r_k = 1`, and the cotangent `l_bar` of (3),
    r_k = w_k f_k/(W g),   t_k = dlog f_k/dz = -u_k/s_k                             (6)
    z_bar = x_bar g + l_bar l',   l' = dlog g/dz = sum_k r_k t_k                    (7)
    m_k_bar = -x_bar g r_k - l_bar r_k t_k                                          (8)
    s_k_bar = -x_bar g r_k u_k - l_bar r_k (1/s_k + u_k t_k)                        (9)
    w_k_bar = x_bar (Phi(u_k) - x)/W + l_bar (f_k - g)/(g W)                        (10)
For the inverse map, whose log-det (5) has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar l')/g                                                    (11)
and the fields have the cotangents (8) to (10) with the signs of `x_bar` and `l_bar` reversed.      (12)

Source: the definition; NIST DLMF 7.1.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from ...core import Array, Bijector, bijector, case, interval, positive, real, simplex
from ...core.arrays import doubled, rounded
from ..elementwise.normal_cdf import mills_ratio
from .logistic_mixture_cdf import infinite
from .mixture import SCALE, SIZES, Arguments, RootProblem, flattened, loc_scale_bars, gaps, with_unit_weights
from .normal_tails import densities, exponent, lower_tails, mills_complement


class textbook:
    """(1) to (12) as they are printed, for one event."""

    def letters(z, weights, loc, scale):
        """W, u, f, g, r, t and l'."""
        W, u = np.sum(weights), (z - loc) / scale                                   # (1)
        f = np.exp(-u * u / 2) / np.sqrt(2 * np.pi) / scale                         # (2)
        g = np.sum(weights * f) / W                                                 # (2)
        r, t = weights * f / (W * g), -u / scale                                    # (6)
        return W, u, f, g, r, t, np.sum(r * t)                                      # (7)

    def forward(z, weights, loc, scale):
        return np.sum(weights * scipy.special.ndtr((z - loc) / scale)) / np.sum(weights)    # (1)

    def inverse(x, weights, loc, scale):
        ends = loc + scale * scipy.special.ndtri(x)                                 # (4)
        below, above = min(ends), max(ends)                                         # (4)
        z = (below + above) / 2
        while below < z < above:
            below, above = (z, above) if textbook.forward(z, weights, loc, scale) < x else (below, z)
            z = (below + above) / 2
        return z

    def slope(z, weights, loc, scale):
        return textbook.letters(z, weights, loc, scale)[3]                          # (2)

    def log_det(z, weights, loc, scale):
        return np.log(textbook.slope(z, weights, loc, scale))                       # (3)

    def inverse_log_det(x, weights, loc, scale):
        z = textbook.inverse(x, weights, loc, scale)
        return -textbook.log_det(z, weights, loc, scale)                            # (5)

    def vjp(z, weights, loc, scale, x_bar, l_bar):
        W, u, f, g, r, t, dl = textbook.letters(z, weights, loc, scale)
        Phi, x = scipy.special.ndtr(u), textbook.forward(z, weights, loc, scale)
        z_bar = x_bar * g + l_bar * dl                                              # (7)
        loc_bar = -x_bar * g * r - l_bar * r * t                                    # (8)
        scale_bar = -x_bar * g * r * u - l_bar * r * (1 / scale + u * t)            # (9)
        weights_bar = x_bar * (Phi - x) / W + l_bar * (f - g) / (g * W)             # (10)
        return z_bar, {"weights": weights_bar, "loc": loc_bar, "scale": scale_bar}

    def inverse_vjp(x, weights, loc, scale, z_bar, l_bar):
        z = textbook.inverse(x, weights, loc, scale)
        _, _, _, g, _, _, dl = textbook.letters(z, weights, loc, scale)
        x_bar = (z_bar - l_bar * dl) / g                                            # (11)
        return x_bar, textbook.vjp(z, weights, loc, scale, -x_bar, -l_bar)[1]       # (12)


r"""In floating point.

In (1) to (12), densities and tails underflow where their logarithms and quotients do not.  `mixture` says how the derivatives,
the root and the cotangents are computed from `u_k`, `a_k = 1/s_k`, `r_k` and the derivative `b_k` of `log g` by `u_k`, in
float64, for float32 too.                                                           (13)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases.

In (1), `x` may underflow, and `1 - x` has no digits near 1.  In the letters of `normal_tails`, with
`Phi(u_k) = p_k exp(L)`, `Phi(-u_k) = n_k exp(L_n)` and `phi(u_k) = F_k exp(N)`,
    x = P exp(L)/W,   P = sum_k w_k p_k,   1 - x = Q exp(L_n)/W,   Q = sum_k w_k n_k            (14)

In (2) and (3), `g` underflows where its logarithm does not:
    g = H exp(N)/W,   H = sum_k w_k a_k F_k                                         (15)
    log|dx/dz| = N + log(H/W)                                                       (16)

In (4), a rounded `z` loses the digits of `u_k`, and a mean near 1 the digits of its tail.  The root is found with the arguments
around `m_j`, from the logarithm of the smaller tail:
    u_k = a_k d + e_k,   e_k = (m_j - m_k)/s_k,   z = m_j + d                       (17)
    log x = L + log(P/W)   for x <= 1/2,   log(1 - x) = L_n + log(Q/W)   elsewhere  (18)

In (5) and (11), `exp(-u_k^2/2)` at the root carries `u_k^2` times the rounding of `u_k`.  Its quotient by a tail does not, and
the tail is known:
    g = x (H/P) exp(N - L)               for x <= 1/2                               (19)
      = (1 - x)(H/Q) exp(N - L_n)        elsewhere                                  (20)

In (7) to (9), the part of `u_k` in `log g` is
    b_k = -r_k u_k,   r_k = w_k a_k F_k/H                                           (21)

In (10), both differences cancel where one weight is nearly all of `W`; for a mixture of one component they are exactly 0.  So
`w_k_bar = x_bar X_k + l_bar Y_k` with
    X_k = sum_i w_i (Phi(u_k) - Phi(u_i))/W^2                                       (22)
    Y_k = sum_i w_i (a_k F_k - a_i F_i)/(H W)                                       (23)
The difference in (22) is the difference of the smaller tails if both arguments are on one side of 0 and beyond 1; otherwise, it is
the difference of
    Phi(u) - 1/2 = erf(u/sqrt 2)/2                                                  (24)

In (12), `l_bar l'` of (11) cancels with the terms of `-l_bar`:
    w_k_bar = -z_bar X_k/g + l_bar (l' X_k/g - Y_k) = -sum_i w_i d_ki/W^2           (25)
    d_ki = (z_bar (Phi(u_k) - Phi(u_i)) - l_bar (l' (Phi(u_k) - Phi(u_i)) - a_k phi(u_k) + a_i phi(u_i)))/g     (26)
In the tails `l'` is nearly `a_k phi(u_k)/Phi(u_k)`, and (26) cancels.  There, with `T_k = Phi(-|u_k|) = phi(u_k) M(|u_k|)`,
Mills' ratio `M` and its complement `eps`, and `c_k = t_k - l' = sum_i r_i (t_k - t_i)`, (26) is
    d_ki = (z_bar (Phi(u_k) - Phi(u_i)) + l_bar (E_k - E_i))/g,
    E_k = T_k (a_k eps(|u_k|)/M(|u_k|) + c_k)   for u_k < 0,
    E_k = T_k (a_k eps(|u_k|)/M(|u_k|) - c_k)   for u_k >= 0                        (27)
for `u_k` and `u_i` on one side of 0.  In both, `phi(u_k)/g = F_k W/H`.           (28)

At the ends of `(0, 1)`, images and log-dets are infinite, and `g` is 0.  With `c = 1` at `x = 0`, where `u_k` goes to -inf,
and `c = -1` at `x = 1`, only those components count that have the largest scale `s` and, among these, the least `c m_k`.  With
`r_k = w_k/sum w_i` over them, and `r_k = 0` for all others, the limits are
    z = -c inf,   log|dz/dx| = inf                                                  (29)
    x_bar = -c l_bar inf    for l_bar != 0,   z_bar inf    for l_bar = 0            (30)
    m_k_bar = r_k z_bar,   w_k_bar = 0                                              (31)
    s_k_bar = -c r_k z_bar inf    for z_bar != 0,   r_k l_bar/s    for z_bar = 0    (32)
where 0 inf is 0.
"""


@bijector(source="DLMF 7.1", domain=real, codomain=interval(0, 1), increasing=True, symmetric=True, solver=True, moderate=True,
          textbook=textbook)
class NormalMixtureCDF(Bijector):
    """x = sum_k weights_k Phi((z - loc_k)/scale_k), from R to (0, 1); the inverse uses a bracketing solver."""

    weights: Array = simplex("K")
    loc: Array = real("K")
    scale: Array = positive("K")
    event_ndim = (0, 0)
    terms = property(lambda self: self.weights.shape[-1])           # in its sums

    def cast(self, dtype):
        """Its fields in another precision."""
        return with_unit_weights(super().cast(dtype))

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.mixture(z).image().astype(z.dtype)

    def log_det(self, z):
        return self.mixture(z).log_slope().astype(z.dtype)

    def forward_and_log_det(self, z):
        v = self.mixture(z)
        return rounded((v.image(), v.log_slope()), z.dtype)

    def slope(self, z):
        return self.mixture(z).slope().astype(z.dtype)

    def inverse(self, x):
        return self.root(x)[0].astype(x.dtype)

    def inverse_and_log_det(self, x):
        z, _, inverse_log_det = self.root(x)
        return rounded((z, inverse_log_det), x.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.mixture(z)

        def pullback(x_bar, log_det_bar):
            z_bar, *bars = v.pulled_back(x_bar, log_det_bar)
            fields = {"weights": v.weights_bar(x_bar, log_det_bar)} | loc_scale_bars(v, *bars)
            return rounded((z_bar, fields), z.dtype)

        return rounded((v.image(), v.log_slope()), z.dtype), pullback

    def inverse_vjp(self, x):
        z, v, inverse_log_det = self.root(x)

        def pullback(z_bar, log_det_bar):
            x_bar, *bars = v.inverse_pulled_back(z_bar, log_det_bar)
            fields = {"weights": v.inverse_weights_bar(z_bar, log_det_bar)} | loc_scale_bars(v, *bars)
            return rounded(self.with_ends(x, x_bar, fields, z_bar, log_det_bar), x.dtype)

        return rounded((z, inverse_log_det), x.dtype), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def mixture(self, z):
        w, loc, scale, z = doubled(self.weights, self.loc, self.scale, z)           # (13)
        return NormalMixture(w, 1 / scale, (z[..., None] - loc) / scale)            # (1)

    def root(self, x):
        """(z, the mixture there, -log|dx/dz|)."""
        at_end = (x == 0) | (x == 1)
        inner = np.where(at_end, 0.5, x)
        flat, w, loc, scale = flattened(*doubled(inner, self.weights, self.loc, self.scale))    # (13)

        def offsets(j):
            return (np.take_along_axis(loc, j[:, None], -1) - loc) / scale          # (17)

        def excess(u, i):
            return NormalMixture(w[i], 1 / scale[i], u).excess(flat[i])

        j, d, u = RootProblem(scipy.special.ndtri(flat), 1 / scale, loc, offsets, excess).solved()  # (4) (17)
        z = (np.take_along_axis(loc, j[:, None], -1)[:, 0] + d).reshape(x.shape)    # (17)
        v = NormalMixture(*(v.reshape(x.shape + v.shape[-1:]) for v in (w, 1 / scale, u))).at_image(inner)
        z = np.where(at_end, np.where(x == 0, -np.inf, np.inf), z)                  # (29)
        return z, v, np.where(at_end, np.inf, -v.log_slope())                       # (29)

    def with_ends(self, x, x_bar, fields, z_bar, log_det_bar):
        """The cotangents, with their limits at the ends."""
        at_end, c = (x == 0) | (x == 1), np.where(x == 0, 1.0, -1.0)
        of_z, of_l, side = z_bar[..., None], log_det_bar[..., None], c[..., None]
        widest = self.scale == self.scale.max(-1, keepdims=True)
        order = np.where(widest, side * self.loc, np.inf)
        w = np.where(order == order.min(-1, keepdims=True), self.weights, 0)
        r = w / w.sum(-1, keepdims=True)
        ends = {"weights": np.zeros_like(r), "loc": r * of_z,                       # (31)
                "scale": np.where(r * of_z == 0, r * of_l / self.scale, infinite(-side * r * of_z))}    # (32)
        x_bar = np.where(at_end, infinite(np.where(log_det_bar == 0, z_bar, -c * log_det_bar)), x_bar)  # (30)
        return x_bar, {name: np.where(at_end[..., None], ends[name], bar) for name, bar in fields.items()}

    @classmethod
    def examples(cls, source):
        K = source.choice(SIZES)
        return cls(simplex.draw(source, (K,)), real.draw(source, (K,)), positive.draw(source, (K,))), ()

    hard_cases = (
        case("Ends", "z is infinite; of the widest components, the outermost ones count", z=[0.5], x=[0.0, 1.0],
             weights=[0.25, 0.25, 0.25, 0.25], loc=[0.5, -0.5, -0.5, 1.0], scale=[2.0, 2.0, 2.0, 1.0]),
        case("One", "a single normal: no cotangent reaches its weight, and the inverse's log-det does not see its loc",
             z=[1.0, -30.0, 1e6 + 1], x=[0.25, 1e-30, np.nextafter(1, 0)], weights=[1.0], loc=[1e6], scale=[1.0]),
        case("Equal", "two components that are one", z=[0.5, -3.0], x=[0.5, 0.9], weights=[0.5, 0.5], loc=[1.0, 1.0],
             scale=[2.0, 2.0]),
        case("Plateau", "between far components the density is tiny, and z ill conditioned", z=[0.5, 1.0], x=[0.25],
             weights=[0.5, 0.5], loc=[-8.0, 9.0], scale=[1.0, 1.0]),
        case("Tails", "x, 1 - x and the density underflow in turn: logarithms do not", z=[-37.0, 9.0, 38.0],
             x=[1e-300, 1e-30, np.nextafter(1, 0)], weights=[0.25, 0.75], loc=[-1.0, 1.0], scale=[1.0, 0.5]),
        case("Needle", "a narrow component on a wide one: a step inside a bracket of the wide one's width",
             z=[0.5, 0.5 + 1e-6], x=[0.5, 0.3, 0.7], weights=[0.5, 0.5], loc=[0.5, -3.0], scale=[1e-6, 1e3]),
        case("AtLoc", "d is 0", z=[0.0, 5e-324], x=[0.5, np.nextafter(0.5, 0)], weights=[1.0], loc=[0.0], scale=[3.0]),
    )


class NormalMixture(Arguments):
    """The letters at arguments u, with weights w and rates a, all (*batch, K); p, n and F are held times SCALE."""

    def __init__(self, w, a, u):
        self.w, self.a, self.u = np.broadcast_arrays(w, a, u)
        self.W = self.w.sum(-1)                                                     # (1)
        (c, self.p), (c_n, self.n) = lower_tails(u), lower_tails(-u)
        self.L, self.L_n = exponent(c), exponent(c_n)
        self.P, self.Q = ((self.w * v).sum(-1) / SCALE for v in (self.p, self.n))   # (14)
        self.M, self.F = densities(u)
        shares = self.w * self.a * self.F
        self.H = shares.sum(-1) / SCALE                                             # (15)
        self.G, self.r = self.H / self.W, shares / self.H[..., None]                # (15) (16)
        self.b = -self.r * self.u                                                   # (21)

    def image(self):
        return self.P * np.exp(self.L) / self.W                                     # (14)

    def excess(self, x):
        """A number with the sign of the image minus x."""
        lower = self.L + np.log(self.P / self.W) - np.log(x)                        # (18)
        return np.where(x <= 0.5, lower, np.log1p(-x) - self.L_n - np.log(self.Q / self.W))         # (18)

    def at_image(self, x):
        """The same with the slope (19) or (20) of a known image."""
        below = x <= 0.5
        self.M = self.M - np.where(below, self.L, self.L_n)                         # (19) (20)
        self.G = np.where(below, x / self.P, (1 - x) / self.Q) * self.H             # (19) (20)
        return self

    def steps(self):
        """Phi(u_k) - Phi(u_i) on axes k, i."""
        lower, upper = self.p / SCALE * np.exp(self.L)[..., None], self.n / SCALE * np.exp(self.L_n)[..., None]
        u_k, u_i = self.u[..., :, None], self.u[..., None, :]
        centre = gaps(scipy.special.erf(self.u / math.sqrt(2)) / 2)                 # (24)
        left, right = (u_k <= -1) & (u_i <= -1), (u_k >= 1) & (u_i >= 1)
        return np.where(left, gaps(lower), np.where(right, -gaps(upper), centre)) # (22)

    def of_i(self, terms):
        """sum_i w_i terms_ki / W^2."""
        return (self.w[..., None, :] * terms).sum(-1) / (self.W * self.W)[..., None]

    def weights_bar(self, x_bar, l_bar):
        X, scaled = self.of_i(self.steps()), self.a * self.F / SCALE * (self.W / self.H)[..., None]  # (22)
        return x_bar[..., None] * X + l_bar[..., None] * self.of_i(gaps(scaled))    # (10) (23)

    def inverse_weights_bar(self, z_bar, l_bar):
        t, alike = -self.u * self.a, (self.u[..., :, None] < 0) == (self.u[..., None, :] < 0)       # (6)
        density = self.F / SCALE * (self.W / self.H)[..., None]                             # (28)
        size, M = np.abs(self.u), mills_ratio(np.abs(self.u))
        c = (self.r[..., None, :] / SCALE * gaps(t)).sum(-1)
        E = density * (self.a * mills_complement(size) + np.where(self.u < 0, M * c, -M * c))       # (27)
        tails = gaps(np.where(self.u < 0, density * M, -density * M))
        steps = np.where(alike, tails, self.steps() / (np.exp(densities(self.u)[0]) * self.H / self.W)[..., None, None])
        apart = l_bar[..., None, None] * (gaps(self.a * density) - self.bend[..., None, None] * steps)          # (26)
        bent = np.where(alike, l_bar[..., None, None] * gaps(E), apart)             # (26) (27)
        return -self.of_i(z_bar[..., None, None] * steps + bent)                    # (25)
