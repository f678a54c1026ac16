r"""Gaussianisation by a mixture, `R -> R`: the normal quantile of a mean of normal distribution functions.

The map.  With `a = rate > 0`, `c = bias`, and the normal density `phi` and distribution function `Phi`,
    x = Phi^-1(sum_k Phi(u_k) / K),   u_k = a_k z + c_k                             (1)
    dx/dz = g = sum_k omega_k a_k,   omega_k = phi(u_k)/(K phi(x))                  (2)
    log|dx/dz| = log g                                                              (3)
For the inverse map, a bisection finds the root `z`, which lies between the roots of the single components:
    min_k (x - c_k)/a_k <= z <= max_k (x - c_k)/a_k                                 (4)
    log|dz/dx| = -log g                                                             (5)

The reverse rule.  By `phi'(u) = -u phi(u)`, the derivative `b_k` of `log g` by `u_k` at constant rates is, with each component's
share `r_k` of `g`,
    r_k = omega_k a_k/g                                                             (6)
    b_k = x omega_k - r_k u_k                                                       (7)
and with the cotangent `l_bar` of (3), and `l'` for the derivative of (3) by `z`,
    z_bar = x_bar g + l_bar l',   l' = sum_k a_k b_k                                (8)
    c_k_bar = x_bar omega_k + l_bar b_k                                             (9)
    a_k_bar = c_k_bar z + l_bar r_k/a_k                                             (10)
For the inverse map, whose log-det has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar l')/g                                                    (11)
and the fields have the cotangents (9) and (10) with the signs of `x_bar` and `l_bar` reversed.     (12)

Source: Meng, Song, Song and Ermon, Gaussianization Flows, arXiv:2003.01941, with equal weights.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from ...core import Array, Bijector, bijector, case, increasing, positive, real
from ...core.arrays import doubled, rounded
from ..elementwise.normal_cdf import ROOT_TWO_PI, lower_tail, mills_ratio
from .mixture import SCALE, SIZES, Arguments, RootProblem, crossed, flattened
from .normal_tails import complement_difference, densities, lower_tails, mills_complement

ROOT_TWO = math.sqrt(2)
CENTRE = 0.67                                       # |x| up to which (16) is used
NEAR = 100                                          # t_k^2 - b^2 up to which (22) is used
FAR = 2.0**27                                       # c from which it is the first guess of (18)


class textbook:
    """(1) to (12) as they are printed, for one event."""

    def phi(u):
        """The normal density."""
        return np.exp(-u * u / 2) / np.sqrt(2 * np.pi)

    def letters(z, rate, bias):
        """g, omega, r and b."""
        K, u, x = len(rate), rate * z + bias, textbook.forward(z, rate, bias)       # (1)
        omega = textbook.phi(u) / (K * textbook.phi(x))                             # (2)
        g = np.sum(omega * rate)                                                    # (2)
        r = omega * rate / g                                                        # (6)
        return g, omega, r, x * omega - r * u                                       # (7)

    def forward(z, rate, bias):
        return scipy.special.ndtri(np.sum(scipy.special.ndtr(rate * z + bias)) / len(rate))         # (1)

    def inverse(x, rate, bias):
        below, above = min((x - bias) / rate), max((x - bias) / rate)               # (4)
        z = (below + above) / 2
        while below < z < above:
            below, above = (z, above) if textbook.forward(z, rate, bias) < x else (below, z)        # (1)
            z = (below + above) / 2
        return z

    def slope(z, rate, bias):
        return textbook.letters(z, rate, bias)[0]                                   # (2)

    def log_det(z, rate, bias):
        return np.log(textbook.slope(z, rate, bias))                                # (3)

    def inverse_log_det(x, rate, bias):
        return -textbook.log_det(textbook.inverse(x, rate, bias), rate, bias)       # (5)

    def vjp(z, rate, bias, x_bar, l_bar):
        g, omega, r, b = textbook.letters(z, rate, bias)
        bias_bar = x_bar * omega + l_bar * b                                        # (9)
        rate_bar = bias_bar * z + l_bar * r / rate                                  # (10)
        return x_bar * g + l_bar * np.sum(rate * b), {"rate": rate_bar, "bias": bias_bar}           # (8)

    def inverse_vjp(x, rate, bias, z_bar, l_bar):
        z = textbook.inverse(x, rate, bias)
        g, _, _, b = textbook.letters(z, rate, bias)
        x_bar = (z_bar - l_bar * np.sum(rate * b)) / g                              # (8) (11)
        return x_bar, textbook.vjp(z, rate, bias, -x_bar, -l_bar)[1]                # (12)


r"""In floating point.

In (1) to (12), the mean rounds to 1 where all `u_k` are large, although its quantile is moderate, and it underflows far below 0.
`mixture` says how the derivatives, the root and the cotangents are computed from `u_k`, `omega_k` and `b_k`, in float64, for
float32 too.                                                                        (13)
The page is certified at events of `2^-4` to `2^4` with parameters of `2^-2` to `2^2`, and at the hard cases.

In (4), a rounded `z` loses the digits of `u_k` where `c_k` is large.  So the unknown is `d`, the distance from the zero of `u_j`:
    u_k = a_k d + e_k,   e_k = c_k - a_k c_j/a_j   for k != j,   e_j = 0            (14)
    z = d - c_j/a_j                                                                 (15)
and `u_k = 0` at `z = -c_k/a_k`.

In (1), a mean near 1 has lost the digits of its distance from 1, and one near 1/2 has few digits of its distance from 1/2.  By
`Phi(-u) = 1 - Phi(u)`, exchanging all signs gives the other tail.  From here on, `s` is 1 where the mean is at most 1/2, and -1
elsewhere, `v_k = s u_k`, `t_k = -v_k`, `b = |x|`, so that `x = -s b`, and
    x = sqrt(2) erfinv D,   D = sum_k (2 Phi(u_k) - 1)/K      for |D| < 1/2         (16)
    2 Phi(u) - 1 = erf(u/sqrt 2)              for |u| < 1
                 = sign(u) (1 - 2 Phi(-|u|))  elsewhere                             (17)
The sum over the components adds the signs first: if as many arguments lie far above 0 as far below, their signs cancel exactly, and
only tails are left.  Elsewhere, let `c`, without an index, be the least `t_k` if that is positive, else 0, and `L = -c^2/2`.  With
`Phi(v_k) = p_k exp(L)` and `P = sum_k p_k` of `normal_tails`, `b` is the root of `log Phi(-b) = L + log(P/K)`.  The library's
quantile of a logarithm is a first guess.  From `c = 2^27` on, where `b` is nearly `c` and `c^2` may overflow, `c` itself is.
One step of Newton's method follows.  With Mills' ratio `M(b)`,
    b <- b + M(b) ((c - b)(c + b)/2 + log(K M(b)/(sqrt(2 pi) P)))                   (18)

In (2), both densities underflow in the tails where their quotient does not.  In the centre (19) holds, and elsewhere (20), by
`phi(x) = Phi(-b)/M(b)`:
    omega_k = F_k exp(N) sqrt(2 pi) exp(b^2/2)/K                                    (19)
            = F_k exp(N - L) M(b)/P,   N = L for c > 0,   L = 0 for c = 0           (20)
where a small error of `b` changes `M(b)` little, but `exp(b^2/2)` much.

In (7), which is `b_k = s (r_k t_k - omega_k b)`, the terms cancel where one component makes up most of the tail, since `x` is
nearly `u_k` there.  With `pi_k = p_k/P` and `omega_k = pi_k M(b)/M(t_k)`, and `t M(t) = 1 - eps(t)` from `normal_tails`, (7) is
    b_k = s ((r_k - pi_k)(1 - eps(t_k)) + pi_k (eps(b) - eps(t_k)))/M(t_k)      for t_k > 0             (21)
where `r_k - pi_k = sum_i (r_k pi_i - r_i pi_k)`, and `eps(b) - eps(t_k)` is proportional to a difference that follows from (2):
    t_k^2 - b^2 = -2 log(K omega_k)                                                 (22)

In (1) and (2), rounding would separate `x` from the arguments where all of them are the same:
    x = u_1,   omega_k = 1/K                                                        (23)
"""


@bijector(source="arXiv:2003.01941", domain=real, codomain=real, increasing=True, solver=True, moderate=True, textbook=textbook)
class Gaussianization(Bijector):
    """x = Phi^-1(mean_k Phi(rate_k z + bias_k)); the inverse uses a bracketing solver."""

    rate: Array = positive("K")
    bias: Array = real("K")
    event_ndim = (0, 0)
    terms = property(lambda self: self.rate.shape[-1])              # in its sums

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.mixture(z).x.astype(z.dtype)

    def log_det(self, z):
        return self.mixture(z).log_slope().astype(z.dtype)

    def forward_and_log_det(self, z):
        v = self.mixture(z)
        return rounded((v.x, v.log_slope()), z.dtype)

    def slope(self, z):
        return self.mixture(z).slope().astype(z.dtype)

    def inverse(self, x):
        return self.root(x)[0].astype(x.dtype)

    def inverse_and_log_det(self, x):
        z, v = self.root(x)
        return rounded((z, -v.log_slope()), x.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.mixture(z).add_derivatives()

        def pullback(x_bar, log_det_bar):
            z_bar, *bars = v.pulled_back(x_bar, log_det_bar)
            return rounded((z_bar, self.bars(z, *bars)), z.dtype)

        return rounded((v.x, v.log_slope()), z.dtype), pullback

    def inverse_vjp(self, x):
        z, v = self.root(x)
        v.add_derivatives()

        def pullback(z_bar, log_det_bar):
            x_bar, *bars = v.inverse_pulled_back(z_bar, log_det_bar)
            return rounded((x_bar, self.bars(z, *bars)), x.dtype)

        return rounded((z, -v.log_slope()), x.dtype), pullback

    def bars(self, z, u_bar, a_bar):
        """The cotangents of the fields."""
        return {"rate": (u_bar * z[..., None] + a_bar) / SCALE, "bias": u_bar / SCALE}                # (9) (10)

    # -- in floating point --------------------------------------------------------------------------------------------

    def mixture(self, z):
        a, c, z = doubled(self.rate, self.bias, z)                                  # (13)
        return ProbitOfMean(a, a * z[..., None] + c)                                # (1)

    def root(self, x):
        """(z, the mixture there)."""
        flat, a, c = flattened(*doubled(x, self.rate, self.bias))                   # (13)

        def offsets(j):
            a_j, c_j = (np.take_along_axis(v, j[:, None], -1) for v in (a, c))
            return np.where(np.arange(c.shape[-1]) == j[:, None], 0, c - a * c_j / a_j)         # (14)

        def excess(u, i):
            return above(u, flat[i])

        j, d, u = RootProblem(flat, a, -c / a, offsets, excess).solved()            # (4) (14)
        zero = np.take_along_axis(-c / a, j[:, None], -1)[:, 0]
        return (d + zero).reshape(x.shape), ProbitOfMean(*(v.reshape(x.shape + v.shape[-1:]) for v in (a, u)))        # (15)

    @classmethod
    def examples(cls, source):
        K = source.choice(SIZES)
        return cls(positive.draw(source, (K,), spread=2), increasing.draw(source, (K,), spread=2)), ()

    hard_cases = (
        case("One", "a single component is affine: the log-det is constant", z=[1.0, -30.0, 1e-12], x=[1e-12, 30.0], rate=[2.0],
             bias=[0.0]),
        case("FarZero", "z has lost the digits of u", z=[-1e12, 3.0], x=[0.25, -1.0], rate=[1.0, 2.0], bias=[1e12, 0.0]),
        case("Equal", "two components that are one", z=[0.5, -3.0], x=[0.5, 0.9], rate=[2.0, 2.0], bias=[1.0, 1.0]),
        case("Tails", "either mean underflows, its quantile does not", z=[-60.0, 60.0, -7.0], x=[-45.0, 7.0],
             rate=[1.0, 2.0], bias=[-1.0, 1.0]),
        case("Dominated", "far out, x is nearly one argument, and the derivatives of the log-det vanish", z=[-20.0], x=[25.0],
             rate=[1.0, 1.5], bias=[-3.0, 0.5]),
        case("Plateau", "between far components x is nearly the quantile of 1/2", z=[0.5, 3.0], x=[-0.25, 0.3], rate=[1.0, 2.0],
             bias=[9.0, -12.0]),
        case("Zero", "x passes through 0, where 1/2 minus the mean cancels", z=[0.0, 1e-12, -1e-9], x=[1e-12, -1e-9],
             rate=[1.0, 1.0], bias=[-1.0, 1.0]),
    )


class ProbitOfMean(Arguments):
    """x and its derivatives at arguments u with rates a, all (*batch, K); omega and p are held times SCALE."""

    def __init__(self, a, u):
        self.a, self.u = np.broadcast_arrays(a, u)
        self.K = K = self.u.shape[-1]
        D = excess_of_upper(u) / K                                                  # (16)
        self.tail, self.s = np.abs(D) >= 0.5, np.where(D <= 0, 1, -1).astype(D.dtype)
        equal, v = (u == u[..., :1]).all(-1), self.s[..., None] * u
        c, self.p = lower_tails(v)
        self.P = self.p.sum(-1) / SCALE
        centre = ROOT_TWO * np.abs(scipy.special.erfinv(D))                         # (16)
        b = np.where(self.tail, self.distance(c), centre)
        self.b_x = np.where(equal, np.abs(u[..., 0]), b)                            # (23)
        self.x = np.where(equal, u[..., 0], -self.s * b)                            # (23)
        N, F = densities(u)
        level = np.where(self.tail, mills_ratio(b) / self.P, ROOT_TWO_PI * np.exp(b * b / 2) / K)   # (19) (20)
        self.M = np.where(equal | self.tail & (c > 0), 0, N)                        # (20) (23)
        self.omega = np.where(equal[..., None], SCALE / K, F * level[..., None])        # (19) (20) (23)
        shares = self.a * self.omega
        self.G = shares.sum(-1) / SCALE
        self.r = shares / self.G[..., None]

    def distance(self, c):
        """b in a tail."""
        tail, c = np.where(self.tail, self.P / self.K, 0.125), np.where(self.tail, c, 0)
        near = np.where(c < FAR, c, 0)
        b = np.where(c < FAR, -scipy.special.ndtri_exp(np.log(tail) - near * (near / 2)), c)
        M = mills_ratio(b)
        return b + M * ((c - b) * (c / 2 + b / 2) + np.log(M / (ROOT_TWO_PI * tail)))   # (18)

    def add_derivatives(self):
        """The derivatives of the log-det with respect to u."""
        t, b, s = -self.s[..., None] * self.u, self.b_x[..., None], self.s[..., None]
        omega, pi = self.omega * np.exp(self.M)[..., None], self.p / self.P[..., None]
        apart = self.r * t - omega * b                                              # (7)
        t = np.maximum(t, 0)
        squares = np.where(pi > 0, 2 * (t - b) * (t / 2 + b / 2), 0)
        logs = -2 * (self.M[..., None] + np.log(self.K / SCALE * self.omega))
        squares = np.where((pi > 0) & (np.abs(squares) < NEAR), logs, squares)      # (22)
        joint = crossed(self.r, pi) / SCALE * (1 - mills_complement(t)) + pi * complement_difference(b, t, squares)
        self.b = s * np.where(self.tail[..., None] & (t > 0), joint / mills_ratio(t), apart)        # (7) (21)
        return self


def above(u, x):
    """A number with the sign of x(u) - x: without a quantile, by (16) or by the logarithm of the smaller tail."""
    K, s = u.shape[-1], np.where(x <= 0, 1, -1)
    near = np.abs(x) < CENTRE
    c, p = lower_tails(s[:, None] * u)
    b = np.where(near, 1, np.abs(x))
    tail = s * ((b - c) * (b / 2 + c / 2) + np.log(p.sum(-1) / SCALE / K) - np.log(mills_ratio(b) / ROOT_TWO_PI))
    return np.where(near, excess_of_upper(u) / K - scipy.special.erf(x / ROOT_TWO), tail)


def excess_of_upper(u):
    """sum_k (2 Phi(u_k) - 1)."""
    near, t = np.abs(u) < 1, np.maximum(np.abs(u), 1)
    whole = np.where(near, 0, np.sign(u))
    centre = np.where(near, scipy.special.erf(u / ROOT_TWO), -2 * whole * lower_tail(-t))       # (17)
    return whole.sum(-1) + centre.sum(-1)                                           # (17)
