r"""Gaussianisation by a mixture, `R -> R`: the normal quantile of a mean of normal distribution functions.

With rates `a_k > 0` and biases `c_k`,
    x = Phi^-1(sum_k Phi(u_k) / K),   u_k = a_k z + c_k                             (1)
`mixture` says how cotangents follow from `u_k_bar`, and how the root is found.  The arguments around the zero of `u_j` are
    u_k = a_k d + e_k,   e_k = c_k - a_k c_j/a_j   for k != j,   e_j = 0            (2)
    z = d - c_j/a_j                                                                 (3)
and `u_k = 0` at `z = -c_k/a_k`.

By `Phi(-u) = 1 - Phi(u)`, exchanging all signs gives the other tail: below, `s` is 1 where the mean is at most 1/2, and -1
elsewhere, `v_k = s u_k`, `t_k = -v_k`, `b = |x|`, so that `x = -s b`, and
    x = sqrt(2) erfinv D,   D = sum_k (2 Phi(u_k) - 1)/K      for |D| < 1/2         (4)
    2 Phi(u) - 1 = erf(u/sqrt 2)              for |u| < 1
                 = sign(u) (1 - 2 Phi(-|u|))  elsewhere                             (5)
where in the sum over the components the signs are added first: as many arguments far above 0 as far below leave only tails.
Elsewhere, with `Phi(v_k) = p_k exp(L)` and `P = sum_k p_k` of `normal_tails`, `b` is the root of `log Phi(-b) = L + log(P/K)`.
The library's quantile of a logarithm is a first guess, for one step of Newton's method.  With Mills' ratio `M(b)`, and with `c`
the least `t_k` if that is positive, else 0, so that `L = -c^2/2`:
    b <- b + M(b) ((c - b)(c + b)/2 + log(K M(b)/(sqrt(2 pi) P)))                   (6)

The derivative of `x` with respect to `u_k` is, in the centre and, by `phi(x) = Phi(-b)/M(b)`, elsewhere,
    omega_k = phi(u_k)/(K phi(x)) = F_k exp(N) sqrt(2 pi) exp(b^2/2)/K              (7)
            = F_k exp(N - L) M(b)/P                                                 (8)
where a small error of `b` changes `M(b)` little, but `exp(b^2/2)` much.  The derivative of the log-det is
    b_k = s (r_k t_k - omega_k b)                                                   (9)
Its terms cancel where one component makes up most of the tail, since `x` is nearly `u_k` there.  With
`r_k = omega_k a_k/g`, `pi_k = p_k/P` and `omega_k = pi_k M(b)/M(t_k)`, and `t M(t) = 1 - eps(t)` from `normal_tails`, it is
    b_k = s ((r_k - pi_k)(1 - eps(t_k)) + pi_k (eps(b) - eps(t_k)))/M(t_k)      for t_k > 0             (10)
where `r_k - pi_k = sum_i (r_k pi_i - r_i pi_k)`, and `eps(b) - eps(t_k)` is proportional to a difference which, by (7), also is
    t_k^2 - b^2 = -2 log(K omega_k)                                                 (11)
If all arguments are the same, `x` is one of them:
    x = u_1,   omega_k = 1/K                                                        (12)

Reverse rule, from (1), with the cotangents `u_k_bar` and the derivative `r_k/a_k` of `mixture`:
    c_k_bar = u_k_bar                                                               (13)
    a_k_bar = u_k_bar z + l_bar r_k/a_k                                             (14)
The inverse map has the same rule with its own `u_k_bar` and `-l_bar`, because its log-det is `-l`.

Certified where events are moderate, `2^-4` to `2^4`, and parameters `2^-2` to `2^2`, and at the hard cases.

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
CENTRE = 0.67                                       # |x| up to which (4) is used
NEAR = 100                                          # t_k^2 - b^2 up to which (11) is used


@bijector(source="arXiv:2003.01941", domain=real, codomain=real, increasing=True, solver=True, moderate=True)
class Gaussianization(Bijector):
    """x = Phi^-1(mean_k Phi(rate_k z + bias_k)); the inverse uses a bracketing solver."""

    rate: Array = positive("K")
    bias: Array = real("K")
    event_ndim = (0, 0)
    terms = property(lambda self: self.rate.shape[-1])              # in its sums

    @staticmethod
    def definition(m, z, rate, bias):
        mean = 0
        for a, c in zip(rate, bias):
            mean = mean + m.ncdf(a * z + c)                                         # (1)
        return m.sqrt(m.mpf(2)) * m.erfinv(2 * mean / len(rate) - 1)                # (1)

    # -- forward ------------------------------------------------------------------------------------------------------

    def mixture(self, z):
        a, c, z = doubled(self.rate, self.bias, z)
        return ProbitOfMean(a, a * z[..., None] + c)                                # (1)

    def forward(self, z):
        return self.mixture(z).x.astype(z.dtype)

    def log_det(self, z):
        return self.mixture(z).log_slope().astype(z.dtype)

    def forward_and_log_det(self, z):
        v = self.mixture(z)
        return rounded((v.x, v.log_slope()), z.dtype)

    def slope(self, z):
        return self.mixture(z).slope().astype(z.dtype)

    # -- inverse ------------------------------------------------------------------------------------------------------

    def root(self, x):
        """(z, the mixture there)."""
        flat, a, c = flattened(*doubled(x, self.rate, self.bias))

        def offsets(j):
            a_j, c_j = (np.take_along_axis(v, j[:, None], -1) for v in (a, c))
            return np.where(np.arange(c.shape[-1]) == j[:, None], 0, c - a * c_j / a_j)         # (2)

        def excess(u, i):
            return above(u, flat[i])

        j, d, u = RootProblem(flat, a, -c / a, offsets, excess).solved()
        zero = np.take_along_axis(-c / a, j[:, None], -1)[:, 0]
        return (d + zero).reshape(x.shape), ProbitOfMean(*(v.reshape(x.shape + v.shape[-1:]) for v in (a, u)))        # (3)

    def inverse(self, x):
        return self.root(x)[0].astype(x.dtype)

    def inverse_and_log_det(self, x):
        z, v = self.root(x)
        return rounded((z, -v.log_slope()), x.dtype)

    # -- reverse ------------------------------------------------------------------------------------------------------

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
        return {"rate": (u_bar * z[..., None] + a_bar) / SCALE, "bias": u_bar / SCALE}                # (13) (14)

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
        D = excess_of_upper(u) / K                                                  # (4)
        self.tail, self.s = np.abs(D) >= 0.5, np.where(D <= 0, 1, -1).astype(D.dtype)
        equal, v = (u == u[..., :1]).all(-1), self.s[..., None] * u
        L, self.p = lower_tails(v)
        self.P = self.p.sum(-1) / SCALE
        centre = ROOT_TWO * np.abs(scipy.special.erfinv(D))                         # (4)
        b = np.where(self.tail, self.distance(L, np.maximum(-v, 0).min(-1)), centre)
        self.b_x = np.where(equal, np.abs(u[..., 0]), b)                            # (12)
        self.x = np.where(equal, u[..., 0], -self.s * b)                            # (12)
        N, F = densities(u)
        level = np.where(self.tail, mills_ratio(b) / self.P, ROOT_TWO_PI * np.exp(b * b / 2) / K)   # (7) (8)
        self.M = np.where(equal, 0, N - np.where(self.tail, L, 0))                  # (8) (12)
        self.omega = np.where(equal[..., None], SCALE / K, F * level[..., None])        # (7) (8) (12)
        shares = self.a * self.omega
        self.G = shares.sum(-1) / SCALE
        self.r = shares / self.G[..., None]

    def distance(self, L, c):
        """b in a tail."""
        tail = np.where(self.tail, self.P / self.K, 0.125)
        L, c = np.where(self.tail, L, 0), np.where(self.tail, c, 0)
        b = -scipy.special.ndtri_exp(L + np.log(tail))
        M = mills_ratio(b)
        return b + M * ((c - b) / 2 * (c + b) + np.log(M / (ROOT_TWO_PI * tail)))   # (6)

    def add_derivatives(self):
        """The derivatives of the log-det with respect to u."""
        t, b, s = -self.s[..., None] * self.u, self.b_x[..., None], self.s[..., None]
        omega, pi = self.omega * np.exp(self.M)[..., None], self.p / self.P[..., None]
        apart = self.r * t - omega * b                                              # (9)
        t = np.maximum(t, 0)
        squares = (t - b) * (t + b)
        logs = -2 * (self.M[..., None] + np.log(self.K / SCALE * self.omega))
        squares = np.where(np.abs(squares) < NEAR, logs, squares)                   # (11)
        joint = crossed(self.r, pi) / SCALE * (1 - mills_complement(t)) + pi * complement_difference(b, t, squares)
        self.b = s * np.where(self.tail[..., None] & (t > 0), joint / mills_ratio(t), apart)        # (9) (10)
        return self


def above(u, x):
    """A number of the sign of x(u) - x: without a quantile, by (4) or by the logarithm of the smaller tail."""
    K, s = u.shape[-1], np.where(x <= 0, 1, -1)
    near = np.abs(x) < CENTRE
    L, p = lower_tails(s[:, None] * u)
    b = np.where(near, 1, np.abs(x))
    tail = s * (L + np.log(p.sum(-1) / SCALE / K) + b * (b / 2) - np.log(mills_ratio(b) / ROOT_TWO_PI))
    return np.where(near, excess_of_upper(u) / K - scipy.special.erf(x / ROOT_TWO), tail)


def excess_of_upper(u):
    """sum_k (2 Phi(u_k) - 1)."""
    near, t = np.abs(u) < 1, np.maximum(np.abs(u), 1)
    whole = np.where(near, 0, np.sign(u))
    centre = np.where(near, scipy.special.erf(u / ROOT_TWO), -2 * whole * lower_tail(-t))       # (5)
    return whole.sum(-1) + centre.sum(-1)                                           # (5)
