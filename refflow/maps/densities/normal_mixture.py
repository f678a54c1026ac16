r"""Mixture of normal densities with diagonal covariances.

The map.  `z` is a vector of `D` entries.  With `K` components and `w = weights > 0` that sum to 1,
    N_kd = exp(-t_kd^2 / 2) / (scale_kd sqrt(2 pi)),   t_kd = (z_d - loc_kd) / scale_kd     (1)
    log p(z) = log sum_k w_k prod_d N_kd                                            (2)
A sample is drawn from component `k` with probability `w_k`.

The reverse rule.  With the cotangent `b` of `log p`,
    r_k = w_k prod_d N_kd / sum_l w_l prod_d N_ld           the probability of component k given z      (3)
    a_kd = b r_k / scale_kd                                                         (4)
    z_bar_d = -sum_k a_kd t_kd,   loc_bar_kd = a_kd t_kd                            (5)
    scale_bar_kd = a_kd t_kd^2 - a_kd,   w_bar_k = b r_k / w_k                      (6)
`w_bar` is the derivative of (2) in each weight alone, the others held fixed.

A sample as drawn jumps as a function of `w`.  So it is reparameterised, with the cotangent `z_bar`, through the conditional
distribution functions (Figurnov, Mohamed & Mnih, arXiv:1805.08498, section 4), which map `z` to independent uniform numbers `u`:
    u_d = F_d(z_d | z_1 .. z_{d-1}) = sum_k r_kd Phi(t_kd)                          (7)
    r_kd = w_k prod_{j<d} N_kj / sum_l w_l prod_{j<d} N_lj                          (8)
    p_d = dF_d/dz_d = sum_k r_kd N_kd,     r_{k,d+1} = r_kd N_kd / p_d              (9)
Held at fixed `u`, `z(w, loc, scale)` has `dF_d = 0` in all of its arguments.  `F_d` depends on `log(w_k prod_{j<d} N_kj)`
through the derivative `r_kd (Phi(t_kd) - u_d)`, and on `loc_kd`, `scale_kd` by `-r_kd N_kd` and `-r_kd N_kd t_kd`.  With
    g_kd = r_kd (Phi(t_kd) - u_d) / p_d                                             (10)
the equations `dF_d = 0` become, after division by `p_d` and with (9),
    dz_d = sum_k r_{k,d+1} (dloc_kd + t_kd dscale_kd)
           - sum_k g_kd (dw_k / w_k + sum_{j<d} t_kj (dloc_kj - dz_j) / scale_kj + (t_kj^2 - 1) dscale_kj / scale_kj)
For `L = sum z_bar_d z_d`, the `dz_d` are eliminated from `d = D` down to 1.  `V_d` is the whole cotangent of `z_d`, and `A_kd`
the cotangent that reaches component `k` from the entries beyond `d`:
    A_kd = sum_{i>d} V_i g_ki                                                       (11)
    V_d = z_bar_d + sum_k A_kd t_kd / scale_kd                                      (12)
    loc_bar_kd = V_d r_{k,d+1} - A_kd t_kd / scale_kd                               (13)
    scale_bar_kd = V_d r_{k,d+1} t_kd - A_kd (t_kd^2 - 1) / scale_kd                (14)
    w_bar_k = -A_k0 / w_k                                                           (15)
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import scipy

from ...core import Array, Density, case, density, positive, real, simplex
from ...core.arithmetic import log_abs_product, product_apart, times
from .entries import HALF_LOG_2_PI, drawn, times_quotient

ROOT_2, ROOT_HALF_PI = sqrt(2), sqrt(pi / 2)
FAR = 2000                          # beyond this, exp(-(q_k - q_m)/2) may leave the floats where h_k does not


class textbook:
    """(1) to (15) as they are printed, for one event."""

    def letters(z, weights, loc, scale):
        """t, N and w_k prod_d N_kd."""
        t = (z - loc) / scale                                                       # (1)
        N = np.exp(-t * t / 2) / (scale * np.sqrt(2 * np.pi))                       # (1)
        return t, N, weights * np.prod(N, -1)

    def log_prob(z, weights, loc, scale):
        return np.log(np.sum(textbook.letters(z, weights, loc, scale)[2]))          # (2)

    def log_prob_vjp(z, weights, loc, scale, b):
        t, _, joint = textbook.letters(z, weights, loc, scale)
        r = joint / np.sum(joint)                                                   # (3)
        a = b * r[:, None] / scale                                                  # (4)
        bars = {"weights": b * r / weights, "loc": a * t, "scale": a * t ** 2 - a}  # (5) (6)
        return -np.sum(a * t, 0), bars                                              # (5)

    def sample_vjp(z, weights, loc, scale, z_bar):
        t, N, _ = textbook.letters(z, weights, loc, scale)
        joint = np.stack([weights * np.prod(N[:, :d], -1) for d in range(len(z) + 1)], -1)
        r = joint / np.sum(joint, 0)                                                # (8)
        A, loc_bar, scale_bar = 0 * weights, 0 * loc, 0 * scale
        for d in reversed(range(len(z))):
            t_d, scale_d, Phi = t[:, d], scale[:, d], scipy.special.ndtr(t[:, d])
            V = z_bar[d] + np.sum(A * t_d / scale_d)                                # (12)
            loc_bar[:, d] = V * r[:, d + 1] - A * t_d / scale_d                     # (13)
            scale_bar[:, d] = V * r[:, d + 1] * t_d - A * (t_d ** 2 - 1) / scale_d  # (14)
            u, p = np.sum(r[:, d] * Phi), np.sum(r[:, d] * N[:, d])                 # (7) (9)
            A = A + V * r[:, d] * (Phi - u) / p                                     # (10) (11)
        return {"weights": -A / weights, "loc": loc_bar, "scale": scale_bar}        # (15)


r"""In floating point.

In (2), all `N_kd` may underflow, or overflow, where `log p` does neither.  The likeliest component is taken out of the sum:
    c_k = log w_k - log prod_d scale_kd,   q_k = 1/2 sum_d t_kd^2                   (16)
    s_k = c_k - q_k,   m = argmax s                 the likeliest component         (17)
    log p(z) = c_m - q_m - (D/2) log 2 pi + log R,   R = sum_k h_k^2                (18)
    h_k^2 = exp(s_k - s_m) = (w_k / prod_d scale_kd) / (w_m / prod_d scale_md) exp(-(q_k - q_m))    (19)
(19) takes the quotient itself, with its exponent of 2 kept apart: the rounding of its logarithm would be an error of `r_k`.

In (3), `r_k` may lose digits below the smallest normal number, or be 0, where its product with `t_kd` does neither.  So (4) to
(6) take `h_k` twice:
    r_k = h_k^2 / R                                                                 (20)

In (1), `t` may overflow, and with it all `q_k`.  With `t = 2^E t', E >= 0` such that no `t'` overflows,
`q_k - q_m = 4^E (q'_k - q'_m)` is finite or `inf`, never `inf - inf`.                                          (21)

In (10), `Phi - u` cancels.  With `m` for the likeliest component under (8), `u = sum_l r_l Phi_l` gives
    Phi_k - u = (Phi_k - Phi_m) - sum_l r_l (Phi_l - Phi_m)                         (22)
which stays accurate where `r_m` is near 1 and `u` near `Phi_m`.  In the upper half, `t_m > 0, Phi(t) - 1 = -Phi(-t)` replaces
`Phi(t)` in (22), where `Phi` rounds to 1.  In the tails `Phi` and `p_d` are both exponentials of `-t^2/2`, but their
quotient is not; with (9),
    Phi(t_kd) / p_d = (r_{k,d+1} / r_kd) scale_kd M(t_kd),   M(t) = Phi(t) sqrt(2 pi) exp(t^2/2)       for t <= 0    (23)
where `M(t) = sqrt(pi/2) erfcx(-t / sqrt 2)`.  `r_kd` may be below the smallest number where `r_{k,d+1}` is not, so (10) is a
difference of the products
    r_kd Phi(t_kd) / p_d = exp(log r_kd - log p_d) Phi(t_kd)      for t > 0         (24)
"""


@density(source="definition; samples: arXiv:1805.08498", textbook=textbook)
class NormalMixture(Density):
    """The mixture sum_k weights_k N(loc_k, diag(scale_k^2)) of K normal densities of vectors.

    weights (*batch, K) on the simplex, loc and scale > 0 (*batch, K, D), z (*batch, D).  In the gradient of log_prob each
    weight is free, without the constraint on their sum; samples are differentiable in all parameters.
    """

    weights: Array = simplex("K")
    loc: Array = real("K", "D")
    scale: Array = positive("K", "D")

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_prob_vjp(self, z):
        d = z[..., None, :] - self.loc
        t = d / self.scale
        s, q, E = self.log_shares(d)
        m = s.argmax(-1)[..., None]                                                 # (17)
        c = np.log(self.weights) - log_abs_product(self.scale)                      # (16)
        c_m, q_m = (np.take_along_axis(np.broadcast_to(v, s.shape), m, -1) for v in (c, q))
        h = self.roots(m, s, np.ldexp(q - q_m, 2 * E))                              # (19) (21)
        R = (h * h).sum(-1, keepdims=True)                                          # (18)
        constant = z.shape[-1] * HALF_LOG_2_PI
        log_prob = (c_m - np.ldexp(q_m, 2 * E) - constant + np.log(R))[..., 0]      # (18) (21)

        def pullback(b):
            b_h, twice = (b[..., None] / R * h)[..., None], h[..., None]            # (20)
            a = b_h / self.scale                                                    # the last factor h comes below  # (4)
            a_t = times_quotient(a, d, self.scale)
            loc_bar = times(twice, a_t)                                             # (5) (20)
            scale_bar = times(twice, times(a_t, t)) - a * twice                     # (6) (20)
            weights_bar = b_h[..., 0] * h / self.weights                            # (6) (20)
            return -loc_bar.sum(-2), {"weights": weights_bar, "loc": loc_bar, "scale": scale_bar}       # (5)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        z = self.drawn(rng, lead)
        return z, self.implicit(z)

    def implicit(self, z):
        """The pullback of a sample z: z_bar to the parameters' cotangents."""
        t = (z[..., None, :] - self.loc) / self.scale
        log_r, log_p = self.conditionals(t)
        r, g = np.exp(log_r), centred(t, log_r, log_p, self.scale)

        def pullback(z_bar):
            after = np.zeros_like(t[..., 0])
            loc_bar, scale_bar = np.empty_like(t), np.empty_like(t)
            for d in reversed(range(z.shape[-1])):
                t_d, scale = t[..., d], self.scale[..., d]
                V = (z_bar[..., d] + (after * t_d / scale).sum(-1))[..., None]      # (12)
                own = V * r[..., d + 1]
                loc_bar[..., d] = own - after * t_d / scale                         # (13)
                scale_bar[..., d] = own * t_d - after * (t_d * t_d - 1) / scale     # (14)
                after = after + V * g[..., d]                                       # (11)
            return {"weights": -after / self.weights, "loc": loc_bar, "scale": scale_bar}           # (15)

        return pullback

    def drawn(self, rng, lead):
        """z = loc_k + scale_k e with k drawn by the weights."""
        u, e = rng.random(size=lead), drawn(rng.standard_normal, lead, self.event_shape, self.loc.dtype)
        ends = np.cumsum(self.weights.astype(np.float64), -1)
        k = (u[..., None] >= ends[..., :-1]).sum(-1)[..., None, None]
        loc, scale = (np.broadcast_to(field, (*lead, *field.shape[-2:])) for field in (self.loc, self.scale))
        loc, scale = (np.take_along_axis(field, k, -2)[..., 0, :] for field in (loc, scale))
        return loc + scale * e

    # -- in floating point --------------------------------------------------------------------------------------------

    def log_shares(self, d):
        """(s_k up to a constant, q'_k, E): they show the likeliest component even where all q_k overflow."""
        t, E = scaled_quotient(d, self.scale)                                       # (21)
        q = (t * t).sum(-1) / 2                                                     # (16)
        c = np.log(self.weights) - log_abs_product(self.scale)                      # (16)
        return c - np.ldexp(q - q.min(-1, keepdims=True), 2 * E), q, E              # (17) (21)

    def roots(self, m, s, dq):
        """h_k of (19), for dq = q_k - q_m."""
        (w, i), (product, j) = np.frexp(self.weights), product_apart(self.scale)    # (19)
        M, e = (np.broadcast_to(v, s.shape) for v in (w / product, i - j))
        M, e = M / np.take_along_axis(M, m, -1), e - np.take_along_axis(e, m, -1)
        h = np.sqrt(np.ldexp(M, e % 2)) * np.ldexp(np.exp(-dq / 2), e // 2)         # (19)
        return np.where(np.abs(e) > FAR, np.exp((s - np.take_along_axis(s, m, -1)) / 2), h)

    def conditionals(self, t):
        """(log r_kd for d = 1 .. D+1, log p_d) along the last axis."""
        log_N = -t * t / 2 - np.log(self.scale)                                     # (1)
        start = np.broadcast_to(np.log(self.weights), log_N.shape[:-1])[..., None]
        s = np.cumsum(np.concatenate((start, log_N), -1), -1)                       # (8)
        S = log_sum_exp(s, -2)
        return s - S, (S[..., 1:] - S[..., :-1])[..., 0, :] - HALF_LOG_2_PI         # (8) (9)

    hard_cases = (
        case("Alone", "one component", z=[[0.5, -1.0]], weights=[1.0], loc=[[0.0, 1.0]], scale=[[0.5, 2.0]]),
        case("Equal", "both components are equally likely",
             z=[[0.0]], weights=[0.5, 0.5], loc=[[1.0], [-1.0]], scale=[[1.0], [1.0]]),
        case("Far", "every density of a component underflows",
             z=[[100.0]], weights=[0.25, 0.75], loc=[[1.0], [-1.0]], scale=[[1.0], [1.0]]),
        case("Unlikely", "a weight whose component is all there is at z",
             z=[[3.0]], weights=[2.0**-30, 1 - 2.0**-30], loc=[[3.0], [-3.0]], scale=[[0.25], [0.25]]),
        case("Narrow", "densities of 2^60 and 2^-60",
             z=[[0.0]], weights=[0.5, 0.5], loc=[[0.0], [1.0]], scale=[[2.0**-60], [2.0**60]]),
    )


def centred(t, log_r, log_p, scale):
    """g_kd of (10)."""
    r, r_next = np.exp(log_r[..., :-1]), np.exp(log_r[..., 1:])
    m = r.argmax(-2)[..., None, :]
    upper = np.take_along_axis(t, m, -2) > 0
    s = np.where(upper, -t, t)
    tail = r_next * scale * ROOT_HALF_PI * scipy.special.erfcx(np.maximum(-s, 0) / ROOT_2)     # (23)
    share = np.where(s > 0, scipy.special.ndtr(s) * np.exp(log_r[..., :-1] - log_p[..., None, :]), tail)    # (24)
    share = np.where(upper, -share, share)
    of_m = np.take_along_axis(share, m, -2) / np.take_along_axis(r, m, -2)
    share = np.where(np.arange(r.shape[-2])[:, None] == m, 0, share - r * of_m)
    return share - r * share.sum(-2, keepdims=True)                                 # (7) (10) (22)


def scaled_quotient(d, scale):
    """(t', E) with d / scale = 2^E t', |t'| <= 1 where E > 0: one E >= 0 (*batch, 1) per event, for (K, D) quotients."""
    (m, i), (n, j) = np.frexp(d), np.frexp(scale)                                   # (21)
    power = np.where(m == 0, 0, i - j + 1)
    E = power.max((-2, -1), initial=0)[..., None]
    return np.ldexp(m / n / 2, power - E[..., None]), E                             # (21)


def log_sum_exp(s, axis=-1):
    """log sum exp(s) along an axis, which is kept; no exponential exceeds 1."""
    largest = s.max(axis, keepdims=True)
    return largest + np.log(np.exp(s - largest).sum(axis, keepdims=True))           # (18)
