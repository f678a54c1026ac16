r"""Base densities.

z is an event of n entries, of any shape where the class has a field `shape`; b is the cotangent of log p, z_bar that of a
sample; sums and products run over the event's entries.

Standard normal:
    log p(z) = -1/2 sum z^2 - (n/2) log 2 pi                                        (1)
    z_bar = -b z                                                                    (2)

Location and scale, scale > 0, e drawn from the standard density:
    t = (z - loc) / scale,   a = b / scale                                          (3)
    z = loc + scale e,   loc_bar = z_bar,   scale_bar = z_bar e                     (4)
where t may overflow and its product with a small a need not: a t = a (z - loc) / scale.

Normal with a diagonal covariance:
    log p(z) = -1/2 sum t^2 - (n/2) log 2 pi - log prod scale                       (5)
    z_bar = -a t,   loc_bar = a t,   scale_bar = a t^2 - a                          (6)
prod scale is taken before its logarithm: a sum of logarithms loses the digits of the largest of them.

Logistic:
    log p(z) = -sum |t| + 2 log(1 + exp(-|t|)) - log prod scale                     (7)
    z_bar = -a h,   loc_bar = a h,   scale_bar = a t h - a,   h = tanh(t/2)         (8)
exp of nothing positive; both terms of the sum are >= 0.  The standard logistic has loc = 0 and scale = 1.

Uniform, on low < z < high:
    log p(z) = -log prod (high - low)                                               (9)
    z_bar = 0,   low_bar = b / (high - low),   high_bar = -low_bar                  (10)
    z = low + (high - low) e,   low_bar = (1 - e) z_bar,   high_bar = e z_bar       (11)
A sample that rounds to an end is rounded to the float beside it instead, inside the open interval.

Normal with the covariance L L^T, L = cholesky lower triangular with a positive diagonal:
    L t = z - loc                                                                   (12)
    log p(z) = -1/2 sum t^2 - (n/2) log 2 pi - log prod L_ii                        (13)
    L^T w = t                                                                       (14)
From d(1/2 sum t^2) = t^T dt and L dt = dz - dloc - dL t, so that t^T dt = w^T (dz - dloc - dL t),
    z_bar = -b w,   loc_bar = b w,   L_bar = b tril(w t^T) - b diag(1 / L_ii)       (15)
    z = loc + L e,   loc_bar = z_bar,   L_bar = tril(z_bar e^T)                     (16)
(12) and (14) are solved as scaled events (`words`), t = 2^E t', w = 2^F w', which overflow nowhere.     (17)

Mixture of K normals with diagonal covariances, weights w_k > 0 of sum 1, t_kd = (z_d - loc_kd) / scale_kd:
    p(z) = sum_k w_k prod_d N_kd,   N_kd = exp(-t_kd^2 / 2) / (scale_kd sqrt(2 pi))         (18)
    c_k = log w_k - log prod_d scale_kd,   q_k = 1/2 sum_d t_kd^2                   (19)
    m = argmin q,   s_k = (c_k - c_m) - (q_k - q_m)                                 (20)
    log p(z) = c_m - q_m - (D/2) log 2 pi + S,   S = log sum_k exp(s_k) = s* + log sum_k exp(s_k - s*),  s* = max s  (21)
    r_k = exp(s_k - S)                  the probability of component k given z      (22)
    a_kd = b r_k / scale_kd                                                         (23)
    z_bar_d = -sum_k a_kd t_kd,   loc_bar_kd = a_kd t_kd                            (24)
    scale_bar_kd = a_kd t_kd^2 - a_kd,   w_bar_k = b r_k / w_k                      (25)
With t = 2^E t', E >= 0 such that no t' overflows, q_k - q_m = 4^E (q'_k - q'_m) is finite or +inf, never inf - inf.   (26)
w_bar is the derivative of (18) in each weight alone, the others held fixed.

A sample of the mixture, z_d of component k drawn with probability w_k, is a discontinuous function of w.  It is
reparameterised through the conditional distribution functions (Figurnov, Mohamed & Mnih, arXiv:1805.08498, section 4), which
map z to independent uniform numbers u:
    u_d = F_d(z_d | z_1 .. z_{d-1}) = sum_k r_kd Phi(t_kd)                          (27)
    r_kd = w_k prod_{j<d} N_kj / sum_l w_l prod_{j<d} N_lj                          (28)
    p_d = dF_d/dz_d = sum_k r_kd N_kd,     r_{k,d+1} = r_kd N_kd / p_d              (29)
Held at fixed u, z(w, loc, scale) has dF_d = 0 in all of its arguments.  F_d depends on log(w_k prod_{j<d} N_kj) by the
derivative r_kd (Phi(t_kd) - u_d), and on loc_kd, scale_kd by -r_kd N_kd and -r_kd N_kd t_kd.  With
    g_kd = r_kd (Phi(t_kd) - u_d) / p_d                                             (30)
the dF_d = 0 read, p_d divided out and (29) inserted,
    dz_d = sum_k r_{k,d+1} (dloc_kd + t_kd dscale_kd)
           - sum_k g_kd (dw_k / w_k + sum_{j<d} t_kj (dloc_kj - dz_j) / scale_kj + (t_kj^2 - 1) dscale_kj / scale_kj)
For L = sum z_bar_d z_d they are eliminated from d = D down to 1.  V_d is the whole cotangent of z_d, and A_kd what reaches
component k from beyond d:
    A_kd = sum_{i>d} V_i g_ki                                                       (31)
    V_d = z_bar_d + sum_k A_kd t_kd / scale_kd                                      (32)
    loc_bar_kd = V_d r_{k,d+1} - A_kd t_kd / scale_kd                               (33)
    scale_bar_kd = V_d r_{k,d+1} t_kd - A_kd (t_kd^2 - 1) / scale_kd                (34)
    w_bar_k = -A_k0 / w_k                                                           (35)
With m the likeliest component, (28), u = sum_l r_l Phi_l gives
    Phi_k - u = (Phi_k - Phi_m) - sum_l r_l (Phi_l - Phi_m)                         (36)
which is exact where r_m is near 1 and u near Phi_m.  In the upper half, t_m > 0, Phi(t) - 1 = -Phi(-t) stands for Phi(t)
in (36), where Phi rounds to 1.  In the tails Phi and p_d are both exponentials of -t^2/2, whose quotient is not; with (29),
    Phi(t_kd) / p_d = (r_{k,d+1} / r_kd) scale_kd M(t_kd),   M(t) = Phi(t) sqrt(2 pi) exp(t^2/2)       for t <= 0    (37)
where M(t) = sqrt(pi/2) erfcx(-t / sqrt 2).
"""

from __future__ import annotations

from math import log, pi, sqrt

import numpy as np
import scipy

from ..core.bijector import over_event
from ..core.density import Density, density
from ..core.declarations import Array, plain
from ..core.sets import cholesky_factor, interval, positive, real, simplex
from ..core.words import log_abs_product, scaled, solve_lower, solve_upper

HALF_LOG_2_PI = log(2 * pi) / 2
ROOT_2, ROOT_HALF_PI = sqrt(2), sqrt(pi / 2)


def over_entries(values, rank):
    """The sum over the last `rank` axes."""
    return values.sum(axis=tuple(range(-rank, 0)))


def size_of(shape):
    return int(np.prod(shape))


def log_product(values, batch, shape):
    """log prod of positive values over an event of `shape`, for each element of the parameters' batch."""
    return log_abs_product(np.broadcast_to(values, batch + shape).reshape(*batch, size_of(shape)))


def times_quotient(a, d, scale):
    """a t with t = d / scale, where t may overflow and a t need not; 0 where a is."""
    t = d / scale
    return np.where(np.isfinite(t), a * t, a * d / scale)                           # (3)


def times(a, t):
    """a t; 0 where a is, though t be infinite."""
    return np.where(a == 0, 0, a * t)


def drawn(standard, lead, shape, dtype):
    """Draws in float64 from a method of the Generator, in `dtype`."""
    return standard(size=lead + shape).astype(dtype)


def location_scale(page, standard, lead):
    """(z, pullback) of loc + scale e."""
    e = drawn(standard, lead, page.event_shape, page.scale.dtype)
    z = page.loc + page.scale * e                                                   # (4)
    return z, lambda z_bar: {"loc": z_bar, "scale": z_bar * e}                      # (4)


@density
class StandardNormal(Density):
    """The standard normal density N(0, I) of events of `shape`, () for scalars, an int D for vectors."""

    shape: tuple = plain(())

    def log_prob_vjp(self, z):
        n = size_of(self.shape)
        log_prob = -over_entries(z * (z / 2), self.rank) - n * HALF_LOG_2_PI        # (1)
        return log_prob, lambda b: (-over_event(b, self.rank) * z, {})              # (2)

    def sample_vjp(self, rng, lead):
        return drawn(rng.standard_normal, lead, self.shape, self.dtype), lambda z_bar: {}


@density
class StandardLogistic(Density):
    """The standard logistic density of events of `shape`, () for scalars, an int D for vectors: nothing is trained."""

    shape: tuple = plain(())

    def log_prob_vjp(self, z):
        far = np.abs(z)
        log_prob = -over_entries(far + 2 * np.log1p(np.exp(-far)), self.rank)       # (7)
        return log_prob, lambda b: (-over_event(b, self.rank) * np.tanh(z / 2), {})     # (8)

    def sample_vjp(self, rng, lead):
        return drawn(rng.logistic, lead, self.shape, self.dtype), lambda z_bar: {}


@density
class DiagonalNormal(Density):
    """The normal density with independent entries z = loc + scale e.

    loc and scale > 0 broadcast with (*batch, *shape); without `shape` events are vectors of their last axis.
    """

    loc: Array = real()
    scale: Array = positive()
    shape: tuple = plain(None)

    def log_prob_vjp(self, z):
        t = (z - self.loc) / self.scale                                             # (3)
        squares = over_entries(t * (t / 2), self.rank)
        constant = size_of(self.shape) * HALF_LOG_2_PI
        log_prob = -squares - constant - log_product(self.scale, self.parameter_batch, self.shape)      # (5)

        def pullback(b):
            a = over_event(b, self.rank) / self.scale                               # (3)
            a_t = times_quotient(a, z - self.loc, self.scale)
            return -a_t, {"loc": a_t, "scale": times(a_t, t) - a}                   # (6)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        return location_scale(self, rng.standard_normal, lead)


@density
class Logistic(Density):
    """The logistic density with independent entries z = loc + scale log(u / (1 - u)), u uniform on (0, 1).

    loc and scale > 0 broadcast with (*batch, *shape); without `shape` events are vectors of their last axis.
    """

    loc: Array = real()
    scale: Array = positive()
    shape: tuple = plain(None)

    def log_prob_vjp(self, z):
        t = (z - self.loc) / self.scale                                             # (3)
        far = np.abs(t)
        terms = over_entries(far + 2 * np.log1p(np.exp(-far)), self.rank)
        log_prob = -terms - log_product(self.scale, self.parameter_batch, self.shape)       # (7)

        def pullback(b):
            a, h = over_event(b, self.rank) / self.scale, np.tanh(t / 2)
            a_t = times_quotient(a, z - self.loc, self.scale)
            return -a * h, {"loc": a * h, "scale": times(a_t, h) - a}               # (8)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        return location_scale(self, rng.logistic, lead)


@density
class Uniform(Density):
    """The uniform density on low < z < high, entry by entry; -inf at the ends and beyond.

    low and high broadcast with (*batch, *shape); without `shape` events are vectors of their last axis.  ValueError where
    no float lies between low and high, or their difference overflows.
    """

    low: Array = real()
    high: Array = real()
    shape: tuple = plain(None)

    @property
    def support(self):
        return interval(self.low.min(initial=np.inf), self.high.max(initial=-np.inf))

    def _validate(self):
        super()._validate()
        low, high = np.broadcast_arrays(self.low, self.high)
        with np.errstate(over="ignore"):
            wrong = ~((np.nextafter(low, high) < high) & (low < high) & np.isfinite(high - low))
        if wrong.any():
            i = tuple(int(k) for k in np.argwhere(wrong)[0])
            raise ValueError(f"Uniform: high must exceed low by a finite difference, with a float between; "
                             f"low = {low[i]} and high = {high[i]} at index {i}")

    def inside(self, z):
        return ((z > self.low) & (z < self.high)).all(axis=tuple(range(-self.rank, 0)))

    def log_prob_vjp(self, z):
        width = self.high - self.low
        log_prob = -log_product(width, self.parameter_batch, self.shape)            # (9)

        def pullback(b):
            low_bar = over_event(b, self.rank) / width                              # (10)
            return np.zeros_like(z), {"low": low_bar, "high": -low_bar}             # (10)

        return np.broadcast_to(log_prob, z.shape[:z.ndim - self.rank]), pullback

    def sample_vjp(self, rng, lead):
        e = drawn(rng.random, lead, self.shape, self.low.dtype)
        z = self.low + (self.high - self.low) * e                                   # (11)
        first, last = np.nextafter(self.low, self.high), np.nextafter(self.high, self.low)
        return np.minimum(np.maximum(z, first), last), lambda z_bar: {"low": (1 - e) * z_bar, "high": e * z_bar}    # (11)


@density
class FullNormal(Density):
    """The normal density N(loc, L L^T) of vectors, L = cholesky lower triangular with a positive diagonal.

    loc (*batch, D), cholesky (*batch, D, D), z (*batch, D).
    """

    loc: Array = real("D")
    cholesky: Array = cholesky_factor("D", "D")

    def log_prob_vjp(self, z):
        L = self.cholesky
        diagonal = np.diagonal(L, axis1=-2, axis2=-1)
        t, E = solve_lower(L, z - self.loc)                                         # (12) (17)
        squares = scaled((t * t).sum(-1, keepdims=True) / 2, 2 * E)[..., 0]         # (17)
        log_prob = -squares - z.shape[-1] * HALF_LOG_2_PI - log_abs_product(diagonal)       # (13)

        def pullback(b):
            b = b[..., None]
            w, F = solve_upper(L.mT, t, E)                                          # (14) (17)
            b_w = b * w
            loc_bar = scaled(b_w, F)                                                # (15) (17)
            outer = np.tril(b_w[..., :, None] * t[..., None, :])
            L_bar = np.ldexp(outer, np.expand_dims(E + F, -1))                      # (15) (17)
            i = np.arange(z.shape[-1])
            L_bar[..., i, i] -= b / diagonal                                        # (15)
            return -loc_bar, {"loc": loc_bar, "cholesky": L_bar}                    # (15)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        e = drawn(rng.standard_normal, lead, self.event_shape, self.loc.dtype)
        z = self.loc + np.matvec(self.cholesky, e)                                  # (16)
        return z, lambda z_bar: {"loc": z_bar, "cholesky": np.tril(z_bar[..., :, None] * e[..., None, :])}          # (16)


@density
class NormalMixture(Density):
    """The mixture sum_k weights_k N(loc_k, diag(scale_k^2)) of K normal densities of vectors.

    weights (*batch, K) on the simplex, loc and scale > 0 (*batch, K, D), z (*batch, D).  The gradient of log_prob in weights
    is that of each weight alone; samples are differentiable in all parameters.
    """

    weights: Array = simplex("K")
    loc: Array = real("K", "D")
    scale: Array = positive("K", "D")

    def log_prob_vjp(self, z):
        d = z[..., None, :] - self.loc
        t, E = scaled_quotient(d, self.scale)                                       # (26)
        c = np.log(self.weights) - log_abs_product(self.scale)                      # (19)
        q = (t * t).sum(-1) / 2                                                     # (19)
        m = q.argmin(-1)[..., None]                                                 # (20)
        c_m, q_m = np.take_along_axis(np.broadcast_to(c, q.shape), m, -1), np.take_along_axis(q, m, -1)
        s = (c - c_m) - np.ldexp(q - q_m, 2 * E)                                    # (20) (26)
        S = log_sum_exp(s)                                                          # (21)
        constant = z.shape[-1] * HALF_LOG_2_PI
        log_prob = (c_m - np.ldexp(q_m, 2 * E) - constant + S)[..., 0]              # (21)
        r = np.exp(s - S)                                                           # (22)

        def pullback(b):
            b_r = b[..., None] * r
            a = b_r[..., None] / self.scale                                         # (23)
            a_t = a * t                                                             # in units of 2^E
            z_bar = -np.ldexp(a_t.sum(-2), E)                                       # (24)
            loc_bar = np.ldexp(a_t, E[..., None])                                   # (24)
            scale_bar = np.ldexp(times(loc_bar, t), E[..., None]) - a               # (25)
            return z_bar, {"weights": b_r / self.weights, "loc": loc_bar, "scale": scale_bar}       # (25)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        z = self.drawn(rng, lead)
        return z, self.implicit(z)

    def implicit(self, z):
        """The pullback of a sample z: z_bar to the parameters' cotangents."""
        t = (z[..., None, :] - self.loc) / self.scale
        r, log_p = self.conditionals(t)
        g = centred(t, r, log_p, self.scale)

        def pullback(z_bar):
            after = np.zeros(z.shape[:-1] + (self.weights.shape[-1],), z.dtype)
            loc_bar, scale_bar = np.empty_like(t), np.empty_like(t)
            for d in reversed(range(z.shape[-1])):
                t_d, scale = t[..., d], self.scale[..., d]
                V = (z_bar[..., d] + (after * t_d / scale).sum(-1))[..., None]      # (32)
                own = V * r[..., d + 1]
                loc_bar[..., d] = own - after * t_d / scale                         # (33)
                scale_bar[..., d] = own * t_d - after * (t_d * t_d - 1) / scale     # (34)
                after = after + V * g[..., d]                                       # (31)
            return {"weights": -after / self.weights, "loc": loc_bar, "scale": scale_bar}           # (35)

        return pullback

    def drawn(self, rng, lead):
        """z = loc_k + scale_k e with k drawn by the weights."""
        u, e = rng.random(size=lead), drawn(rng.standard_normal, lead, self.event_shape, self.loc.dtype)
        ends = np.cumsum(self.weights.astype(np.float64), -1)
        k = (u[..., None] * ends[..., -1:] >= ends[..., :-1]).sum(-1)[..., None, None]
        loc, scale = (np.broadcast_to(field, (*lead, *field.shape[-2:])) for field in (self.loc, self.scale))
        loc, scale = (np.take_along_axis(field, k, -2)[..., 0, :] for field in (loc, scale))
        return loc + scale * e

    def conditionals(self, t):
        """(r_kd for d = 1 .. D+1, log p_d) along the last axis."""
        log_N = -t * t / 2 - np.log(self.scale)                                     # (18)
        start = np.broadcast_to(np.log(self.weights), log_N.shape[:-1])[..., None]
        s = np.cumsum(np.concatenate((start, log_N), -1), -1)                       # (28)
        S = log_sum_exp(s, -2)
        return np.exp(s - S), (S[..., 1:] - S[..., :-1])[..., 0, :] - HALF_LOG_2_PI         # (28) (29)


def centred(t, r, log_p, scale):
    """g_kd of (30)."""
    r, r_next = r[..., :-1], r[..., 1:]
    m = r.argmax(-2)[..., None, :]
    upper = np.take_along_axis(t, m, -2) > 0
    s = np.where(upper, -t, t)
    mills = ROOT_HALF_PI * scipy.special.erfcx(np.maximum(-s, 0) / ROOT_2)
    tail = np.where(r > 0, r_next / r, 0) * scale * mills                           # (37)
    ratio = np.where(s > 0, scipy.special.ndtr(s) * np.exp(-log_p)[..., None, :], tail)   # (27)
    ratio = np.where(upper, -ratio, ratio)
    ratio = ratio - np.take_along_axis(ratio, m, -2)
    return r * (ratio - (r * ratio).sum(-2, keepdims=True))                         # (30) (36)


def scaled_quotient(d, scale):
    """(t', E) with d / scale = 2^E t', |t'| <= 1 where E > 0: one E >= 0 (*batch, 1) for each event, of (K, D) quotients."""
    (m, i), (n, j) = np.frexp(d), np.frexp(scale)
    power = np.where(m == 0, 0, i - j + 1)
    E = power.max((-2, -1), initial=0)[..., None]
    return np.ldexp(m / n / 2, power - E[..., None]), E


def log_sum_exp(s, axis=-1):
    """log sum exp(s) along an axis, which is kept; no exponential exceeds 1."""
    largest = s.max(axis, keepdims=True)
    return largest + np.log(np.exp(s - largest).sum(axis, keepdims=True))           # (21)
