r"""Cumulative distribution function of a mixture of normal distributions, `R -> (0, 1)`.

With weights `w_k > 0, W = sum_k w_k`, loc `m_k`, scale `s_k > 0`,
    x = sum_k w_k Phi(u_k) / W,   u_k = (z - m_k)/s_k                               (1)
`W` is 1 up to rounding; after division by it, `x` is exactly a distribution function.  In the letters of `normal_tails`, with
`a_k = 1/s_k`, `Phi(u_k) = p_k exp(L)`, `Phi(-u_k) = n_k exp(L_n)` and `phi(u_k) = F_k exp(N)`,
    x = P exp(L)/W,   P = sum_k w_k p_k,   1 - x = Q exp(L_n)/W,   Q = sum_k w_k n_k            (2)
    dx/dz = g = H exp(N)/W,   H = sum_k w_k a_k F_k                                 (3)
    log|dx/dz| = N + log(H/W)                                                       (4)
`mixture` says how cotangents follow from `u_k_bar` and how the root is found, with the arguments around `m_j`
    u_k = a_k d + e_k,   e_k = (m_j - m_k)/s_k,   z = m_j + d                       (5)
from the logarithm of the smaller tail,
    log x = L + log(P/W)   for x <= 1/2,   log(1 - x) = L_n + log(Q/W)   elsewhere  (6)
At the root, `exp(-u_k^2/2)` has `u_k^2` times the rounding of `u_k`, but its quotient by a tail, which is known, has not:
    g = x (H/P) exp(N - L)               for x <= 1/2                               (7)
      = (1 - x)(H/Q) exp(N - L_n)        elsewhere                                  (8)

Reverse rule.  With `r_k = w_k a_k F_k/H` and
    t_k = dlog phi(u_k)/dz = -u_k/s_k                                               (9)
the derivative of the log-det with respect to `u_k` is
    b_k = -r_k u_k                                                                  (10)
and the derivatives of `x` and of the log-det with respect to `w_k` are
    X_k = sum_i w_i (Phi(u_k) - Phi(u_i))/W^2                                       (11)
    Y_k = sum_i w_i (a_k F_k - a_i F_i)/(H W)                                       (12)
The difference in (11) is that of the smaller tails if both arguments are on one side of 0 and beyond 1, else of
    Phi(u) - 1/2 = erf(u/sqrt 2)/2                                                  (13)
    w_k_bar = x_bar X_k + l_bar Y_k                                                 (14)
with `l_bar = log_det_bar`, and for the inverse map
    w_k_bar = -z_bar X_k/g + l_bar (l' X_k/g - Y_k) = -sum_i w_i d_ki/W^2           (15)
    d_ki = (z_bar (Phi(u_k) - Phi(u_i)) - l_bar (l' (Phi(u_k) - Phi(u_i)) - a_k phi(u_k) + a_i phi(u_i)))/g     (16)
In the tails `l'` is nearly `a_k phi(u_k)/Phi(u_k)`, and (16) cancels.  There, with `T_k = Phi(-|u_k|) = phi(u_k) M(|u_k|)`,
Mills' ratio `M` and its complement `eps`, and `c_k = t_k - l' = sum_i r_i (t_k - t_i)`, it is
    d_ki = (z_bar (Phi(u_k) - Phi(u_i)) + l_bar (E_k - E_i))/g,
    E_k = T_k (a_k eps(|u_k|)/M(|u_k|) + c_k)   for u_k < 0,
    E_k = T_k (a_k eps(|u_k|)/M(|u_k|) - c_k)   for u_k >= 0                        (17)
for `u_k` and `u_i` on one side of 0.  In both, `phi(u_k)/g = F_k W/H`.           (18)

The ends of `(0, 1)` have infinite images and log-dets, and `g` is 0 there.  With `c = 1` at `x = 0`, where `u_k` goes to -inf,
and `c = -1` at `x = 1`, only the components count that have the largest scale `s` and, of these, the least `c m_k`.  With
`r_k = w_k/sum w_i` over them, and `r_k = 0` for all others, the limits are
    z = -c inf,   log|dz/dx| = inf                                                  (19)
    x_bar = -c l_bar inf    for l_bar != 0,   z_bar inf    for l_bar = 0            (20)
    m_k_bar = r_k z_bar,   w_k_bar = 0                                              (21)
    s_k_bar = -c r_k z_bar inf    for z_bar != 0,   r_k l_bar/s    for z_bar = 0    (22)
where 0 inf is 0.

Certified where events and parameters are moderate, `2^-4` to `2^4`, and at the hard cases.

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
from .mixture import SCALE, SIZES, Arguments, RootProblem, flattened, loc_scale_bars, pairs, with_unit_weights
from .normal_tails import densities, lower_tails, mills_complement


@bijector(source="DLMF 7.1", domain=real, codomain=interval(0, 1), increasing=True, solver=True, moderate=True)
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

    @staticmethod
    def definition(m, z, weights, loc, scale):
        x = 0
        for w, m_k, s in zip(weights, loc, scale):
            x = x + w * m.ncdf((z - m_k) / s)                                       # (1)
        return x / sum(weights)                                                     # (1)

    # -- forward ------------------------------------------------------------------------------------------------------

    def mixture(self, z):
        w, loc, scale, z = doubled(self.weights, self.loc, self.scale, z)
        return NormalMixture(w, 1 / scale, (z[..., None] - loc) / scale)            # (1)

    def forward(self, z):
        return self.mixture(z).image().astype(z.dtype)

    def log_det(self, z):
        return self.mixture(z).log_slope().astype(z.dtype)

    def forward_and_log_det(self, z):
        v = self.mixture(z)
        return rounded((v.image(), v.log_slope()), z.dtype)

    def slope(self, z):
        return self.mixture(z).slope().astype(z.dtype)

    # -- inverse ------------------------------------------------------------------------------------------------------

    def root(self, x):
        """(z, the mixture there, -log|dx/dz|)."""
        at_end = (x == 0) | (x == 1)
        inner = np.where(at_end, 0.5, x)
        flat, w, loc, scale = flattened(*doubled(inner, self.weights, self.loc, self.scale))

        def offsets(j):
            return (np.take_along_axis(loc, j[:, None], -1) - loc) / scale          # (5)

        def excess(u, i):
            return NormalMixture(w[i], 1 / scale[i], u).excess(flat[i])

        j, d, u = RootProblem(scipy.special.ndtri(flat), 1 / scale, loc, offsets, excess).solved()
        z = (np.take_along_axis(loc, j[:, None], -1)[:, 0] + d).reshape(x.shape)    # (5)
        v = NormalMixture(*(v.reshape(x.shape + v.shape[-1:]) for v in (w, 1 / scale, u))).at_image(inner)
        z = np.where(at_end, np.where(x == 0, -np.inf, np.inf), z)                  # (19)
        return z, v, np.where(at_end, np.inf, -v.log_slope())                       # (19)

    def inverse(self, x):
        return self.root(x)[0].astype(x.dtype)

    def inverse_and_log_det(self, x):
        z, _, inverse_log_det = self.root(x)
        return rounded((z, inverse_log_det), x.dtype)

    # -- reverse ------------------------------------------------------------------------------------------------------

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

    def with_ends(self, x, x_bar, fields, z_bar, log_det_bar):
        """The cotangents, with their limits at the ends."""
        at_end, c = (x == 0) | (x == 1), np.where(x == 0, 1.0, -1.0)
        of_z, of_l, side = z_bar[..., None], log_det_bar[..., None], c[..., None]
        widest = self.scale == self.scale.max(-1, keepdims=True)
        order = np.where(widest, side * self.loc, np.inf)
        w = np.where(order == order.min(-1, keepdims=True), self.weights, 0)
        r = w / w.sum(-1, keepdims=True)
        ends = {"weights": np.zeros_like(r), "loc": r * of_z,                       # (21)
                "scale": np.where(r * of_z == 0, r * of_l / self.scale, infinite(-side * r * of_z))}    # (22)
        x_bar = np.where(at_end, infinite(np.where(log_det_bar == 0, z_bar, -c * log_det_bar)), x_bar)  # (20)
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
        (self.L, self.p), (self.L_n, self.n) = lower_tails(u), lower_tails(-u)
        self.P, self.Q = ((self.w * v).sum(-1) / SCALE for v in (self.p, self.n))   # (2)
        self.M, self.F = densities(u)
        shares = self.w * self.a * self.F
        self.H = shares.sum(-1) / SCALE                                             # (3)
        self.G, self.r = self.H / self.W, shares / self.H[..., None]                # (3) (4)
        self.b = -self.r * self.u                                                   # (10)

    def image(self):
        return self.P * np.exp(self.L) / self.W                                     # (2)

    def excess(self, x):
        """A number of the sign of the image minus x."""
        lower = self.L + np.log(self.P / self.W) - np.log(x)                        # (6)
        return np.where(x <= 0.5, lower, np.log1p(-x) - self.L_n - np.log(self.Q / self.W))         # (6)

    def at_image(self, x):
        """The same with the slope (7) or (8) of a known image."""
        below = x <= 0.5
        self.M = self.M - np.where(below, self.L, self.L_n)                         # (7) (8)
        self.G = np.where(below, x / self.P, (1 - x) / self.Q) * self.H             # (7) (8)
        return self

    def steps(self):
        """Phi(u_k) - Phi(u_i) on axes k, i."""
        lower, upper = self.p / SCALE * np.exp(self.L)[..., None], self.n / SCALE * np.exp(self.L_n)[..., None]
        u_k, u_i = self.u[..., :, None], self.u[..., None, :]
        centre = pairs(scipy.special.erf(self.u / math.sqrt(2)) / 2)                # (13)
        left, right = (u_k <= -1) & (u_i <= -1), (u_k >= 1) & (u_i >= 1)
        return np.where(left, pairs(lower), np.where(right, -pairs(upper), centre)) # (11)

    def of_i(self, terms):
        """sum_i w_i terms_ki / W^2."""
        return (self.w[..., None, :] * terms).sum(-1) / (self.W * self.W)[..., None]

    def weights_bar(self, x_bar, l_bar):
        X, scaled = self.of_i(self.steps()), self.a * self.F / SCALE * (self.W / self.H)[..., None]
        return x_bar[..., None] * X + l_bar[..., None] * self.of_i(pairs(scaled))   # (12) (14)

    def inverse_weights_bar(self, z_bar, l_bar):
        t, alike = -self.u * self.a, (self.u[..., :, None] < 0) == (self.u[..., None, :] < 0)       # (9)
        density = self.F / SCALE * (self.W / self.H)[..., None]                             # (18)
        size, M = np.abs(self.u), mills_ratio(np.abs(self.u))
        c = (self.r[..., None, :] / SCALE * pairs(t)).sum(-1)
        E = density * (self.a * mills_complement(size) + np.where(self.u < 0, M * c, -M * c))       # (17)
        tails = pairs(np.where(self.u < 0, density * M, -density * M))
        steps = np.where(alike, tails, self.steps() / (np.exp(densities(self.u)[0]) * self.H / self.W)[..., None, None])
        apart = l_bar[..., None, None] * (pairs(self.a * density) - self.bend[..., None, None] * steps)         # (16)
        bent = np.where(alike, l_bar[..., None, None] * pairs(E), apart)            # (16) (17)
        return -self.of_i(z_bar[..., None, None] * steps + bent)                    # (15)
