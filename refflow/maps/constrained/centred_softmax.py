r"""Softmax with a last entry of 0, `R^(K-1)` -> the simplex in `R^K`; its inverse is the additive log-ratio.

The map.  With `z_K = 0`, for `k = 1 .. K`,
    x_k = exp(z_k) / S,   S = sum_(j=1)^K exp(z_j)                                  (1)
    z_k = log(x_k / x_K)                        k < K                               (2)
    dx_i/dz_k = x_i ([i = k] - x_k)             k < K                               (3)
The coordinates of the simplex are `x_1 .. x_{K-1}`.  Their block of (3) has the determinant `x_1 ... x_K`:
    log|det dx/dz| = sum_k log x_k                                                  (4)
For the inverse map, as a function of all `K` entries, (2) inserted in (1) gives `x_k / r` with `r = sum_j x_j`, so that minus (4) is
    log|det dz/dx| = K log r - sum_k log x_k                                        (5)

The reverse rule.  From (3), for `k < K`, and with the cotangent `l_bar` of (4), whose derivative by `z_k` is `1 - K x_k`,
    z_k_bar = x_k (x_k_bar - sum_j x_j x_j_bar) + l_bar (1 - K x_k)                 (6)
For the inverse map, with the cotangent `l_bar` of (5), and with `z_K_bar = -z_1_bar - ... - z_{K-1}_bar`,
    x_k_bar = (z_k_bar - l_bar) / x_k + l_bar K / r                                 (7)

Source: Aitchison (1982), "The statistical analysis of compositional data".
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, real, simplex
from .stick_breaking import product_with_root


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        e = np.exp(np.append(z, 0))
        return e / np.sum(e)                                                        # (1)

    def inverse(x):
        return np.log(x[:-1] / x[-1])                                               # (2)

    def jacobian(z):
        x = textbook.forward(z)
        return (np.diag(x) - np.outer(x, x))[:, :-1]                                # (3)

    def log_det(z):
        return np.sum(np.log(textbook.forward(z)))                                  # (4)

    def inverse_log_det(x):
        return len(x) * np.log(np.sum(x)) - np.sum(np.log(x))                       # (5)

    def vjp(z, x_bar, l_bar):
        x = textbook.forward(z)
        return (x * (x_bar - np.sum(x * x_bar)) + l_bar * (1 - len(x) * x))[:-1], {}        # (6)

    def inverse_vjp(x, z_bar, l_bar):
        bars = np.append(z_bar, -np.sum(z_bar))
        return (bars - l_bar) / x + l_bar * len(x) / np.sum(x), {}                  # (7)


r"""In floating point.

In (1), an exponential may overflow.  With `m = max_j z_j` and `t_k = z_k - m <= 0`,
    x_k = exp(t_k) / (1 + q),   q the sum of exp(t_j) without its largest term      (8)

In (2), the quotient overflows if `x_K` is subnormal, but a quotient of roots does not:
    z_k = 2 log(sqrt(x_k) / sqrt(x_K))                                              (9)

In (3), `1 - x_k` has no digit left near the corner k, but the sum of the other entries keeps all its digits:
    1 - x_k = sum_(j != k) x_j                                                      (10)

In (4), `x_k` may underflow, and `log x_k` of an entry near 1 has no digit left.  All terms of
    log x_k = t_k - log(1 + q)                                                      (11)
are `<= 0`, and so are all terms of (4).

In (6), by (10), the first term is `x_k` times a sum without the entry `k`, and the second is a sum of differences of two entries:
    x_k_bar - sum_j x_j x_j_bar = sum_(j != k) (x_j x_k_bar - x_j x_j_bar)          (12)
    1 - K x_k = sum_j (x_j - x_k),   x_j - x_k = max(x_j, x_k) (1 - exp(-|z_j - z_k|)) sign(z_j - z_k)      (13)
A product of a cotangent `c` and `x_k` may be representable where `x_k` has underflowed; there
    c x_k = c exp(log(x_k) / 2) exp(log(x_k) / 2)                                   (14)

In (7), `1/x_k` of a subnormal `x_k` overflows before the terms are added.  (2) and (5) do not change when `x` is multiplied by a
number, so (7) is computed at
    y = c x,   x_bar = c y_bar,   c the square root of the largest power of 2       (15)
"""


@bijector(source="Aitchison (1982), additive log-ratio", domain=real, codomain=simplex, textbook=textbook)
class CentredSoftmax(Bijector):
    """x_k = exp(z_k) / sum_j exp(z_j) with z_K = 0.

    z is (*batch, K-1) and real, x is (*batch, K) with entries >= 0 that sum to 1, K >= 1
    (K = 1: an empty z and x = 1).  The log-det is by the first K - 1 entries.  ValueError for z that is not finite and for x
    outside the simplex.
    """

    event_ndim = (1, 1)

    def output_shape(self, shape):
        return (shape[0] + 1,)

    def input_shape(self, shape):
        if shape[0] < 1:
            raise ValueError("a point of the simplex needs K >= 1 entries")
        return (shape[0] - 1,)

    @staticmethod
    def definition(m, z):
        y = [*z, m.mpf(0)]
        return [1 / sum(m.exp(y_j - y_k) for y_j in y) for y_k in y]                # (1)

    @staticmethod
    def inverse_definition(m, x):
        return [m.log(x_k / x[-1]) for x_k in x[:-1]]                               # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return shares(with_zero(z))[0]                                              # (1) (8)

    def inverse(self, x):
        return 2 * np.log(np.sqrt(x[..., :-1]) / np.sqrt(x[..., -1:]))              # (2) (9)

    def log_det(self, z):
        return shares(with_zero(z))[1].sum(-1)                                      # (4) (11)

    def inverse_and_log_det(self, x):
        log_det = x.shape[-1] * np.log(x.sum(-1)) - np.log(x).sum(-1)               # (5)
        return self.inverse(x), log_det

    def jacobian(self, z):
        x, _ = shares(with_zero(z))
        J = -x[..., :, None] * x[..., None, :-1]                                    # (3)
        k = np.arange(z.shape[-1])
        J[..., k, k] = (x * sum_of_others(x))[..., :-1]                             # (3) (10)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        y = with_zero(z)
        x, log_x = shares(y)

        def pullback(x_bar, log_det_bar):
            apart = sum_of_others(x) * x_bar - sum_of_others(product_with_root(x_bar, x, log_x))        # (12) (14)
            z_bar = product_with_root(apart, x, log_x) + pulled_back_log_det(x, y, log_det_bar)
            return z_bar[..., :-1], {}                                              # (6)

        return (x, log_x.sum(-1)), pullback

    def inverse_vjp(self, x):
        K = x.shape[-1]
        c = np.ldexp(x.dtype.type(1), np.finfo(x.dtype).maxexp // 2)                # (15)
        y = c * x                                                                   # (15)

        def pullback(z_bar, log_det_bar):
            l_bar, bars = log_det_bar[..., None], np.concatenate((z_bar, -z_bar.sum(-1, keepdims=True)), -1)
            y_bar = (bars - l_bar) / y + l_bar * (K / y.sum(-1, keepdims=True))     # (7)
            return c * y_bar, {}                                                    # (15)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Centre", "z = 0 is the centre: dl/dz is exactly 0, 1 - K x is not", z=[[0.0, 0.0], [1e-9, -1e-160]]),
        case("Subnormal", "a difference of two entries is subnormal, l_bar times it is not", z=[[2.0**-1060], [2.0**-140]]),
        case("Corner", "x_k rounds to 1: 1 - x_k and log x_k have no digit left", z=[[48.0, -3.0], [-50.0, -60.0]]),
        case("Far", "exponentials overflow, the entries do not", z=[[800.0, 799.0], [700.0, -710.0]]),
        case("Alone", "the entry near 1 and the other one", z=[[2.0**120], [-(2.0**120)], [1e-9]]),
        case("UnderflowTimesCotangent", "x_k underflows, a cotangent times it does not", z=[[-95.0, 5.0], [-750.0, -720.0]]),
        case("SubnormalLast", "x_k / x_K overflows, its logarithm is about 740",
             x=[[1.0, 2.0**-149], [1.0, 2.0**-1074], [2.0**-149, 1.0]]),
    )


def with_zero(z):
    return np.concatenate((z, np.zeros(z.shape[:-1] + (1,), z.dtype)), -1)


def shares(y):
    """(x, log x), for all K entries of z."""
    t = y - y.max(-1, keepdims=True)
    largest = np.arange(y.shape[-1]) == y.argmax(-1)[..., None]
    q = np.where(largest, 0, np.exp(t)).sum(-1, keepdims=True)
    return np.exp(t) / (1 + q), t - np.log1p(q)                                     # (8) (11)


def sum_of_others(w):
    """sum_(j != k) w_j for each k."""
    none = np.zeros(w.shape[:-1] + (1,), w.dtype)
    before, after = np.cumsum(w[..., :-1], -1), np.cumsum(w[..., :0:-1], -1)[..., ::-1]
    return np.concatenate((none, before), -1) + np.concatenate((after, none), -1)


def pulled_back_log_det(x, y, log_det_bar):
    """l_bar (1 - K x_k); a difference of two entries may be subnormal where its product with l_bar is not."""
    apart = y[..., None, :] - y[..., :, None]
    larger = np.maximum(x[..., None, :], x[..., :, None])
    return (log_det_bar[..., None, None] * larger * np.copysign(np.expm1(-np.abs(apart)), apart)).sum(-1)     # (13)
