r"""Cumulative distribution function of a mixture of logistic distributions, `R -> (0, 1)`.

The map.  With `w = weights > 0`, `W = sum_k w_k`, `m = loc`, `s = scale > 0` and the logistic function `S(u) = 1/(1 + exp(-u))`,
    x = sum_k w_k S_k / W,   S_k = S(u_k) = 1/(1 + exp(-u_k)),   u_k = (z - m_k)/s_k        (1)
    dx/dz = g = sum_k w_k f_k / W,   f_k = S_k (1 - S_k)/s_k                        (2)
    log|dx/dz| = log g                                                              (3)
`W` is 1 up to rounding; after division by it, `x` is exactly a distribution function.  The inverse map has no formula.  It is found
by bisection between the inverses of the components, because a mean lies between the least and the largest member:
    min_k (m_k + s_k L) <= z <= max_k (m_k + s_k L),   L = log(x/(1 - x))           (4)
    log|dz/dx| = -log g   at the root                                               (5)

The reverse rule.  With component k's part `r_k` of the density, where `sum_k r_k = 1`, and the cotangent `l_bar` of (3),
    r_k = w_k f_k/(W g),   t_k = dlog f_k/dz = (1 - 2 S_k)/s_k                      (6)
    z_bar = x_bar g + l_bar l',   l' = dlog g/dz = sum_k r_k t_k                    (7)
    m_k_bar = -x_bar g r_k - l_bar r_k t_k                                          (8)
    s_k_bar = -x_bar g r_k u_k - l_bar r_k (1/s_k + u_k t_k)                        (9)
    w_k_bar = x_bar (S_k - x)/W + l_bar (f_k - g)/(g W)                             (10)
For the inverse map, whose log-det (5) has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar l')/g                                                    (11)
and the fields have the cotangents (8) to (10) with the signs of `x_bar` and `l_bar` reversed.      (12)

Source: Ho, Chen, Srinivas, Duan and Abbeel, Flow++, arXiv:1902.00275, on improved coupling layers.
"""

from __future__ import annotations

import numpy as np

from ...core import (Array, Bijector, bijector, case, exact_product, exact_sum, interval, log_abs_product, positive, real,
                     simplex)
from ..elementwise.solve import increasing_root
from .mixture import flattened, with_unit_weights

SHIFT = 64


class textbook:
    """(1) to (12) as they are printed, for one event."""

    def letters(z, weights, loc, scale):
        """W, u, S, f, g, r, t and l'."""
        W, u = np.sum(weights), (z - loc) / scale                                   # (1)
        S = 1 / (1 + np.exp(-u))                                                    # (1)
        f = S * (1 - S) / scale                                                     # (2)
        g = np.sum(weights * f) / W                                                 # (2)
        r, t = weights * f / (W * g), (1 - 2 * S) / scale                           # (6)
        return W, u, S, f, g, r, t, np.sum(r * t)                                   # (7)

    def forward(z, weights, loc, scale):
        return np.sum(weights / (1 + np.exp(-(z - loc) / scale))) / np.sum(weights)         # (1)

    def inverse(x, weights, loc, scale):
        ends = loc + scale * np.log(x / (1 - x))                                    # (4)
        below, above = min(ends), max(ends)                                         # (4)
        z = (below + above) / 2
        while below < z < above:
            below, above = (z, above) if textbook.forward(z, weights, loc, scale) < x else (below, z)
            z = (below + above) / 2
        return z

    def slope(z, weights, loc, scale):
        return textbook.letters(z, weights, loc, scale)[4]                          # (2)

    def log_det(z, weights, loc, scale):
        return np.log(textbook.slope(z, weights, loc, scale))                       # (3)

    def inverse_log_det(x, weights, loc, scale):
        z = textbook.inverse(x, weights, loc, scale)
        return -textbook.log_det(z, weights, loc, scale)                            # (5)

    def vjp(z, weights, loc, scale, x_bar, l_bar):
        W, u, S, f, g, r, t, dl = textbook.letters(z, weights, loc, scale)
        x = textbook.forward(z, weights, loc, scale)
        z_bar = x_bar * g + l_bar * dl                                              # (7)
        loc_bar = -x_bar * g * r - l_bar * r * t                                    # (8)
        scale_bar = -x_bar * g * r * u - l_bar * r * (1 / scale + u * t)            # (9)
        weights_bar = x_bar * (S - x) / W + l_bar * (f - g) / (g * W)               # (10)
        return z_bar, {"weights": weights_bar, "loc": loc_bar, "scale": scale_bar}

    def inverse_vjp(x, weights, loc, scale, z_bar, l_bar):
        z = textbook.inverse(x, weights, loc, scale)
        _, _, _, _, g, _, _, dl = textbook.letters(z, weights, loc, scale)
        x_bar = (z_bar - l_bar * dl) / g                                            # (11)
        return x_bar, textbook.vjp(z, weights, loc, scale, -x_bar, -l_bar)[1]       # (12)


r"""In floating point.

In (1), `exp(-u)` overflows where `S(u)` does not underflow:
    S(u) = exp(min(u, 0)) / (1 + q),   q = exp(-|u|)                                (13)

In (2), `1 - S_k` cancels where `u_k` is large:
    f_k = S(u_k) S(-u_k) / s_k = exp(-|u_k|) / (s_k (1 + q_k)^2)                    (14)

In (3), `g` underflows where its logarithm does not:
    log|dx/dz| = M + log G,   M = -min_k |u_k|,   F_k = f_k exp(-M),   G = sum_k w_k F_k / W                (15)
`G exp(M)` is `g` without its underflow.  Where `exp(M/2)` does not underflow either, the log-det is the logarithm of the
product, and where `M > -1` it is (3) itself: a rounding of `q_k` nearly cancels in `f_k = q_k / (s_k (1 + q_k)^2)`, but not in
`F_k`.  `u_k` may overflow although the exponents of `F_k` still differ; these are
    |u_k| + M = 2^64 (v_k - min_k v_k),   v_k = 2^-64 |z - m_k| / s_k               (16)

In (4), bisection cannot find `z` from a rounded `x W`: between far components `x W` is a sum of some weights to within
rounding, and `z` depends on the rest.  Therefore a part that is nearly a whole weight is written as that weight minus `w_k T_k`.
By `S(u) = 1 - S(-u)`, (1) is
    A - B = D,   T_k = S(-|u_k|),   A = sum_(m_k >= z) w_k T_k,   B = sum_(m_k < z) w_k T_k,
    D = x W - sum_(m_k < z) w_k                                                     (17)
Only `D` cancels here.  `D` is computed without rounding, with all weights scaled up so that no `x w_k` is subnormal.  If all locs
lie on one side of `z`, (17) is `A = x W` or `B = (1 - x) W`, and so keeps the digits in either tail as well.
`A - B - D = sum_k w_k S(u_k) - x W` rises with `z`, and so its sign, which is the sign of
    H(z) = log((A + max(-D, 0)) / (B + max(D, 0)))                                  (18)
changes only at the root.  A relative error in the quotient of (18) moves `z` no more than a relative error in `x`, since `A` and
`B` are at most `x W` there.  The interval (4) is widened by moving `L` by `(1 + |L|)/1024` to either side, so that the root
stays inside in spite of rounding, and `log(1 - x)` is `log1p(-x)`.

In (5) to (12), the digits of `u_k` are needed, which `z = m_k + s_k u_k` may have lost.  So the unknown is
    d = z - m_j,   u_k = (d + (m_j - m_k))/s_k                                      (19)
where `m_j` is the loc nearest to `z`: `d` and `m_j - m_k` are at most twice `z - m_k`, so all `u_k` keep their digits.  With
the locs in increasing order, `j` is found before `z`,
    j = number of i with H((m_i + m_(i+1))/2) < 0                                   (20)

In (6), `1 - 2 S_k` cancels at `u_k = 0`:
    t_k = -tanh(u_k/2)/s_k                                                          (21)

In (10), both differences cancel where one weight is nearly all of `W`; for a mixture of one component they are exactly 0:
    w_k_bar = x_bar sum_i w_i (S_k - S_i)/W^2 + l_bar sum_i w_i (F_k - F_i)/(G W^2)             (22)
where, for `u_k >= u_i`,
    S_k - S_i = S(u_k) S(-u_i) (1 - exp(u_i - u_k)) = Y^2 Z,
    Y = exp((min(u_k, 0) + min(-u_i, 0))/2),   Z = (1 - exp(u_i - u_k))/((1 + q_k)(1 + q_i))                (23)

In (12), `l_bar l'` of (11) cancels with the terms of `-l_bar`:
    e_k = z_bar + l_bar c_k,   c_k = sum_i r_i (t_k - t_i)                          (24)
    m_k_bar = r_k e_k                                                               (25)
    s_k_bar = r_k (u_k e_k + l_bar/s_k)                                             (26)
    w_k_bar = -sum_i w_i d_ki / W^2,   d_ki = ((z_bar - l_bar l')(S_k - S_i) + l_bar (f_k - f_i))/g             (27)
In the tails `f_k` is nearly S_k/s_k, and `l'` nearly `1/s_k`: (27) cancels.  For `m_k` and `m_i` on one side of `z`,
    d_ki = (z_bar (S_k - S_i) + l_bar (E_k - E_i))/g,
    E_k = T_k (T_k/s_k + c_k)   for m_k >= z,   E_k = T_k (T_k/s_k - c_k)   for m_k < z       (28)
does not cancel.

In (6) to (12), `r_k`, `g`, `T_k` and their quotients may leave the floats where their products with cotangents do not.  So each
is written as a square, up to a moderate factor, and the cotangent is multiplied between the two roots:
    r_k = y_k^2 R_k,   y_k = exp(-(|u_k| + M)/2),   g = h^2 G,   h = exp(M/2),   T_k = exp(-|u_k|/2)^2/(1 + q_k)    (29)

In (11) and (12), the error of `exp(-|u_k|)` is the rounding of `u_k` times `|u_k|`.  The derivative of `log T_k` by `log x` may
be as large as `x W/(w_k T_k)`, so kappa allows for that error, except for `m_k >= z` when `A` is of the order of `x W`.  There
the residual of (17), which would be 0 without rounding, corrects it: each `T_k` takes the share that its own rounding may have
caused.  `T_k`, `f_k`, and `S_k - S_i` where `u_k >= u_i`, are multiplied by
    a_k = 1 + (1 + |u_k|) (B + D - A) / sum_i w_i T_i (1 + |u_i|)                   (30)
if `A >= x W/1024`.  Otherwise `|u_k| <= log(W/A) < x W/A` for the component k with most of `A`, because `log(1/x) < 750`.

At the ends of `(0, 1)`, images and log-dets are infinite, and `g` is 0.  Near them only the components of the largest scale `s`
count.  With `c = 1` at `x = 0`, where `u_k` goes to -inf, and `c = -1` at `x = 1`, their shares and the limits are
    z = -c inf,   log|dz/dx| = inf                                                  (31)
    E_k = exp(-c m_k/s)    for s_k = s,   0    elsewhere,   r_k = w_k E_k/sum_i w_i E_i         (32)
    x_bar = (z_bar - c l_bar/s)/0,   m_k_bar = r_k z_bar                            (33)
    s_k_bar = -c r_k z_bar inf    for z_bar != 0,   r_k l_bar/s    for z_bar = 0    (34)
    w_k_bar = -c z_bar (s/W) sum_i w_i (E_k - E_i)/sum_i w_i E_i                    (35)
where 0 stays 0 when it is divided by 0 or multiplied by inf.
"""


@bijector(source="arXiv:1902.00275", domain=real, codomain=interval(0, 1), increasing=True, symmetric=True, solver=True,
          textbook=textbook)
class LogisticMixtureCDF(Bijector):
    """x = sum_k weights_k sigmoid((z - loc_k)/scale_k), from R to (0, 1); the inverse uses a bracketing solver."""

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
        return self.image(Mixture(self, z[..., None] - self.loc))                   # (1)

    def image(self, v):
        """x."""
        return (v.w * v.S).sum(-1) / v.W                                            # (1)

    def log_det(self, z):
        return Mixture(self, z[..., None] - self.loc).log_density()                 # (3)

    def forward_and_log_det(self, z):
        v = Mixture(self, z[..., None] - self.loc)
        return self.image(v), v.log_density()                                       # (3)

    def slope(self, z):
        v = Mixture(self, z[..., None] - self.loc)
        return v.G * v.h * v.h                                                      # (2) (29)

    def inverse(self, x):
        return self.root(x)[0]

    def inverse_and_log_det(self, x):
        z, v, at_end = self.root(x)
        return z, self.inverse_log_det(v, at_end)

    def inverse_log_det(self, v, at_end):
        """log|dz/dx|."""
        return np.where(at_end, v.W.dtype.type(np.inf), -v.log_density())           # (5) (31)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = Mixture(self, z[..., None] - self.loc)

        def pullback(x_bar, l_bar):
            of_x, of_l = x_bar[..., None], l_bar[..., None]
            of_r, h = of_x * v.G[..., None] * v.h[..., None], v.h[..., None]        # (29)
            z_bar = x_bar * v.G * v.h * v.h + l_bar * v.shared(v.t).sum(-1)         # (7) (29)
            loc_bar = -v.shared(of_r) * h - v.shared(of_l * v.t)                    # (8) (29)
            scale_bar = -v.shared(of_r, True) * h - v.shared(of_l / v.s) - v.shared(of_l * v.t, True)       # (9) (29)
            of_F = (of_l / v.G[..., None])[..., None]
            weights_bar = (v.between(of_x[..., None]) + v.of_i * of_F * gaps(v.F)).sum(-1) / v.W[..., None]         # (10) (22)
            return z_bar, {"weights": weights_bar, "loc": loc_bar, "scale": scale_bar}

        return (self.image(v), v.log_density()), pullback

    def inverse_vjp(self, x):
        z, v, at_end = self.root(x)

        def pullback(z_bar, l_bar):
            of_z, of_l = z_bar[..., None], l_bar[..., None]
            slope_bar = z_bar - l_bar * v.shared(v.t).sum(-1)                       # (11)
            x_bar = np.where(slope_bar == 0, slope_bar, slope_bar / v.G / v.h / v.h)        # (11) (29)
            bend = v.bend(of_l)                                                     # (24)
            e = of_z + bend                                                         # (24)
            fields = {"weights": v.weights_12(of_z, of_l, slope_bar, bend),         # (12) (27) (28)
                      "loc": v.shared(e),                                           # (12) (25)
                      "scale": v.shared(v.u * e + of_l / v.s)}                      # (12) (26)
            return self.with_ends(x, at_end, x_bar, fields, z_bar, l_bar) if at_end.any() else (x_bar, fields)

        return (z, self.inverse_log_det(v, at_end)), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def root(self, x):
        """(z, the mixture at z, marks of the ends of the interval)."""
        K, dtype = self.loc.shape[-1], x.dtype
        at_end = (x == 0) | (x == 1)
        inner = np.where(at_end, dtype.type(0.5), x)
        problem = RootProblem(*flattened(inner, self.weights, self.loc, self.scale))
        j, d = problem.solved()
        z = (np.take_along_axis(problem.loc, j[:, None], -1)[:, 0] + d).reshape(x.shape)            # (19)
        z = np.where(at_end, np.where(x == 0, dtype.type(-np.inf), dtype.type(np.inf)), z)          # (31)
        distances = d[:, None] + problem.from_nearest(j)                            # (19)
        a = problem.factors(distances)
        return z, Mixture(self, distances.reshape(x.shape + (K,)), a.reshape(x.shape + (K,))), at_end

    def with_ends(self, x, at_end, x_bar, fields, z_bar, l_bar):
        """The cotangents, with their limits at the ends."""
        c, w, loc, s = np.where(x == 0, x.dtype.type(1), x.dtype.type(-1)), self.weights, self.loc, self.scale.max(-1)
        of_z, of_l, side, inf = z_bar[..., None], l_bar[..., None], c[..., None], x.dtype.type(np.inf)
        widest, s = self.scale == s[..., None], np.broadcast_to(s, x.shape)[..., None]
        first = np.where(widest, side * loc, inf).min(-1, keepdims=True)
        exponent = np.where(widest, (first - side * loc) / s, -inf)                 # (32)
        E, apart = np.exp(exponent), gaps(exponent)
        total = (w * E).sum(-1, keepdims=True)
        r = w * E / total                                                           # (32)
        step = np.expm1(-np.abs(apart))                                             # (35)
        steps = np.where(apart > 0, E[..., :, None] * -step, E[..., None, :] * step)        # (35)
        ends = {"weights": -side * of_z * s * (w[..., None, :] * steps).sum(-1) / (w.sum(-1, keepdims=True) * total),   # (35)
                "loc": r * of_z, "scale": np.where(r * of_z == 0, r * of_l / s, infinite(-side * r * of_z))}        # (33) (34)
        x_bar = np.where(at_end, infinite(z_bar - c * l_bar / s[..., 0]), x_bar)    # (33)
        return x_bar, {name: np.where(at_end[..., None], ends[name], bar) for name, bar in fields.items()}

    hard_cases = (
        case("Ends", "z is infinite; the widest components share what depends on loc and weights, wherever others are", z=[0.5],
             x=[0.0, 1.0], weights=[0.25, 0.25, 0.5], loc=[0.5, -0.5, -2000.0], scale=[2.0, 2.0, 1.0]),
        case("One", "a single logistic: no cotangent reaches its weight, and the inverse's log-det does not see its loc",
             z=[1.0, -30.0, 1e6 + 1], x=[0.25, 1e-300, np.nextafter(1, 0)], weights=[1.0], loc=[1e6], scale=[1.0]),
        case("Equal", "two components that are one", z=[0.5, -3.0], x=[0.5, 0.9], weights=[0.5, 0.5], loc=[1.0, 1.0],
             scale=[2.0, 2.0]),
        case("Plateau", "between far components the density is tiny, and z ill conditioned", z=[0.5, 1.0],
             x=[0.25, 0.5 - 2.0**-20, 0.5], weights=[0.5, 0.5], loc=[-40.0, 41.0], scale=[1.0, 1.0]),
        case("WeightOfOne", "x is a weight but for the rounding of W: z depends on D, which no rounded sum has", z=[0.0, -3e4],
             x=[np.nextafter(0.009239984676241875, 0), 0.009239984676241875, np.nextafter(0.009239984676241875, 1)],
             weights=[0.990748130641805, 1.1884681953233667e-05, 0.009239984676241875],
             loc=[0.0009682552772574127, 0.27990955114364624, -54977.7890625],
             scale=[0.0024490158539265394, 0.062841035425663, 0.0004883534274995327]),
        case("WeightsOfTwo", "x > 1/2 is a sum of two weights to within rounding", z=[0.0, 3e5],
             x=[0.7075367569923401, np.nextafter(0.7075367569923401, 1)],
             weights=[2.4524294985894812e-06, 0.2924632430076599, 0.7075343045628415],
             loc=[-1.360133865091484e-05, 965276.3125, 2.3565969467163086],
             scale=[0.0004552525351755321, 2476.381103515625, 6.275580381043255e-05]),
        case("TinyWeights", "the weights of three plateaus, whose differences are below the spacing of floats at 1", z=[0.0, 1e6],
             x=[4.886820921686415e-19, np.nextafter(4.886820921686415e-19, 0)],
             weights=[1.0, 4.886820921686415e-19, 1.1567654333759154e-28],
             loc=[1.9387990090810034e-05, -72653.91288529267, 2167401.347062815],
             scale=[4.448101378057948e-06, 5.6605442748330413e-11, 0.004544199410989403]),
        case("Tails", "x, 1 - x and the density underflow in turn: logarithms do not", z=[-700.0, 36.0, 745.0, 1e4],
             x=[1e-300, 1e-30, np.nextafter(1, 0)], weights=[0.25, 0.75], loc=[-1.0, 1.0], scale=[1.0, 0.5]),
        case("Needle", "a narrow component on a wide one: a step inside a bracket of the wide one's width",
             z=[0.5, 0.5 + 1e-6], x=[0.5, 0.3, 0.7], weights=[0.5, 0.5], loc=[0.5, -3.0], scale=[1e-6, 1e3]),
        case("LightWeight", "a weight beside which the others are lost", z=[0.0, 5.0], x=[0.5, 1e-20],
             weights=[1 - 2.0**-53, 2.0**-53], loc=[0.0, 5.0], scale=[1.0, 0.125]),
        case("Far", "u overflows; the widest component is still the one that counts", z=[2.0**1000, -2.0**1000],
             x=[0.2], weights=[0.5, 0.5], loc=[0.0, 1.0], scale=[2.0**-60, 2.0**-59]),
        case("NearLoc", "the log-det of one component beside its loc passes through 0", z=[-7.550193004135508e-06],
             weights=[1.0], loc=[-6.0439074331952725e-06], scale=[0.25]),
        case("FarBeyond", "u overflows, the cotangent of the scale does not", z=[3.5559718848205416e37, 2.0**1000],
             weights=[0.25, 0.75], loc=[0.0, 0.05], scale=[2.0**-9, 2.0**-6]),
        case("AtLoc", "d is 0", z=[0.0, 5e-324], x=[0.5, np.nextafter(0.5, 0)], weights=[1.0], loc=[0.0], scale=[3.0]),
    )


def infinite(v):
    """An infinity of the sign of v; 0 where v is 0."""
    return np.where(v == 0, v, np.copysign(v.dtype.type(np.inf), v))


def gaps(v):
    """v_k - v_i on axes k, i; 0 if they are equal, even if both have overflowed."""
    v_k, v_i = v[..., :, None], v[..., None, :]
    return np.where(v_k == v_i, 0, v_k - v_i)


class Mixture:
    """The components at given distances z - m_k: the letters of the equations, k along the last axis.

    `a` holds the factors (30), which are 1 if z itself is given.
    """

    def __init__(self, page, distances, a=1):
        self.w, self.s, self.a, self.d, self.below = page.weights, page.scale, a, distances, distances > 0
        self.u = distances / self.s                                                 # (1)
        self.W = np.broadcast_to(self.w, self.u.shape).sum(-1)                      # (1)
        self.q = np.exp(-np.abs(self.u))                                            # (13)
        small = -np.abs(np.ldexp(distances, -SHIFT) / self.s)                       # (16)
        nearest = small.max(-1, keepdims=True)
        self.M = np.ldexp(nearest[..., 0], SHIFT)                                   # (15)
        self.y = np.exp(np.ldexp(small - nearest, SHIFT - 1))                       # (16) (29)
        self.F = a * self.y * self.y / self.s / (1 + self.q) ** 2                   # (14) (15) (30)
        total = (self.w * self.F).sum(-1)
        self.G, self.h = total / self.W, np.exp(self.M / 2)                         # (15) (29)
        self.R = a * self.w / self.s / (1 + self.q) ** 2 / total[..., None]         # (29) (30)

    def log_density(self):
        normal, near = self.h >= np.finfo(self.h.dtype).tiny, self.M > -1           # (15)
        h = np.where(normal, self.h, 1)
        inner = np.where(normal, log_abs_product(np.stack((h, self.G, h), -1)), self.M + np.log(self.G))            # (15)
        g = (self.a * self.w * self.q / (self.s * (1 + self.q) * (1 + self.q))).sum(-1) / self.W                    # (2) (14)
        return np.where(near, np.log(np.where(near, g, 1)), inner)                  # (3) (15)

    @property
    def S(self):
        return np.exp(np.minimum(self.u, 0)) / (1 + self.q)                         # (13)

    @property
    def t(self):
        return -np.tanh(self.u / 2) / self.s                                        # (21)

    @property
    def of_i(self):
        """w_i/W on axes k, i."""
        return (self.w / self.W[..., None])[..., None, :]

    def tail(self, bar):
        """T_k bar."""
        root = np.exp(-np.abs(self.u) / 2)                                          # (29)
        return self.a * bar * root / (1 + self.q) * root                            # (29) (30)

    def shared(self, bar, by_u=False):
        """r_k bar, or r_k bar u_k, which may be finite even if u_k has overflowed."""
        root = bar * self.y * self.R                                                # (29)
        if by_u:
            product = np.where(np.isfinite(self.u), root * self.u, root / self.s * self.d)
            root = np.where(root == 0, root, product)
        return root * self.y                                                        # (29)

    def bend(self, of_l):
        """l_bar c_k."""
        root = self.y[..., None, :]
        return (of_l[..., None] * gaps(self.t) * root * self.R[..., None, :] * root).sum(-1)        # (24) (29)

    def weights_12(self, of_z, of_l, slope_bar, bend):
        """x_bar (S_k - x)/W + l_bar (f_k - g)/(g W) for -x_bar, -l_bar."""
        of_f, bend = of_l / self.G[..., None], bend / self.G[..., None]
        of_T = self.tail(of_f / self.s) + np.where(self.below, -bend, bend)         # (28)
        E = self.a * self.y * of_T / (1 + self.q) * self.y                          # (28) (29) (30)
        alike = self.below[..., :, None] == self.below[..., None, :]
        of_S = np.where(alike, of_z[..., None] * self.larger(self.a), slope_bar[..., None, None])           # (27) (28)
        of_E = np.where(alike, gaps(E), of_f[..., None] * gaps(self.F))             # (27) (28)
        of_S = of_S / self.G[..., None, None]
        return -(self.between(of_S, self.M) + self.of_i * of_E).sum(-1) / self.W[..., None]         # (27)

    def larger(self, v):
        """v_k or v_i on axes k, i, whichever has the larger u."""
        return np.where(self.u[..., :, None] >= self.u[..., None, :], v[..., :, None], v[..., None, :])

    def between(self, bar, top=None):
        """(S_k - S_i) bar w_i/W on axes k, i; with top divided by exp(top)."""
        upper, lower = (f(self.u[..., :, None], self.u[..., None, :]) for f in (np.maximum, np.minimum))
        apart = np.where(upper == lower, 0, upper - lower)
        exponent = (np.minimum(upper, 0) + np.minimum(-lower, 0)) / 2
        Y = np.exp(exponent if top is None else exponent - top[..., None, None] / 2)    # (23) (29)
        Z = -np.expm1(-apart) / ((1 + self.q[..., :, None]) * (1 + self.q[..., None, :]))           # (23)
        signed = np.where(self.u[..., :, None] >= self.u[..., None, :], Z, -Z)
        factor = bar * self.of_i * signed
        return np.where(factor == 0, 0, factor * Y * Y)                             # (23)


class RootProblem:
    """The equation (17) for x (n,) and fields (n, K)."""

    def __init__(self, x, weights, loc, scale):
        limits = np.finfo(x.dtype)                                                  # (17)
        self.x, self.loc, self.scale = x, loc, scale
        self.weights = np.ldexp(weights, limits.maxexp - limits.nmant - 1)          # (17)
        self.order = np.argsort(loc, -1)
        self.D = self.differences()

    def differences(self):
        """D (n, K + 1) by the number of locs below z."""
        K = self.loc.shape[-1]
        products = [part[:, None] for w in self.weights.T for part in exact_product(self.x, w)]    # (17)
        ordered = np.take_along_axis(self.weights, self.order, -1)
        passed = [np.where(np.arange(K + 1) > i, -ordered[:, i, None], 0) for i in range(K)]
        return exact_sum(products + passed)                                         # (17)

    def terms(self, distances, i):
        """w_k T_k of the problems numbered i, D and x W, all divided by the largest exp(-|u_k|)."""
        exponent = -np.abs(distances / self.scale[i])
        top = exponent.max(-1, keepdims=True)
        relative = np.exp(np.where(exponent == top, 0, exponent - top))
        root, D, xW = np.exp(top[:, 0] / 2), self.D[i, (distances > 0).sum(-1)], self.D[i, 0]
        return self.weights[i] * relative / (1 + np.exp(exponent)), np.where(D == 0, D, D / root / root), xW / root / root

    def sides(self, wT, distances):
        """A and B."""
        return (np.where(side, wT, 0).sum(-1) for side in (distances <= 0, distances > 0))          # (17)

    def H(self, distances, i):
        """H of the problems numbered i, from their distances z - m_k (len(i), K)."""
        wT, D, _ = self.terms(distances, i)
        A, B = self.sides(wT, distances)
        return np.log((A + np.maximum(-D, 0)) / (B + np.maximum(D, 0)))             # (18)

    def factors(self, distances):
        """a_k, from the distances at the root."""
        wT, D, xW = self.terms(distances, np.arange(self.x.size))
        A, B = self.sides(wT, distances)
        rounding = 1 + np.abs(distances / self.scale)
        share = (B + D - A) / (wT * rounding).sum(-1)                               # (30)
        rounded = (distances <= 0) & (wT > 0) & (A >= xW / 1024)[:, None]
        return np.where(rounded, 1 + rounding * share[:, None], 1)                  # (30)

    def nearest(self):
        """j of (20)."""
        everything = np.arange(self.x.size)
        ordered = np.take_along_axis(self.loc, self.order, -1)
        passed = np.zeros(self.x.size, int)
        for middle in ((ordered[:, 1:] + ordered[:, :-1]) / 2).T:
            passed += self.H(middle[:, None] - self.loc, everything) < 0            # (20)
        return np.take_along_axis(self.order, passed[:, None], -1)[:, 0]

    def from_nearest(self, j):
        """m_j - m_k."""
        return np.take_along_axis(self.loc, j[:, None], -1) - self.loc              # (19)

    def solved(self):
        """(j, d)."""
        j = self.nearest()
        apart, L = self.from_nearest(j), np.log(self.x) - np.log1p(-self.x)         # (4) (18)
        lower, upper = ((self.scale * (L + side * (1 + np.abs(L)) / 1024)[:, None] - apart) for side in (-1, 1))        # (4)

        def function(d, i):
            return self.H(d[:, None] + apart[i], i)                                 # (18) (19)

        return j, increasing_root(function, lower.min(-1), upper.max(-1))
