r"""Softmax, from the plane of the vectors that sum to 0 -> the simplex in `R^K`; its inverse is the centred log-ratio.

The map.  For `k = 1 .. K`, with `z_1 + ... + z_K = 0`,
    x_k = exp(z_k) / S,   S = sum_j exp(z_j)                                        (1)
    z_k = log x_k - (log x_1 + ... + log x_K) / K                                   (2)
    dx_i/dz_k = x_i ([i = k] - x_k)                                                 (3)
The derivatives of `x_1 .. x_{K-1}` by `w_k = z_k - z_K`, `k < K`, have the determinant `x_1 ... x_K`, as in an additive log-ratio.  On
the plane, `w_k = z_k + z_1 + ... + z_{K-1}`, whose derivatives by `z_1 .. z_{K-1}` have the determinant `K`.  The plane's own volume,
which measures `z`, is the root of `K` times the volume of these coordinates:
    log|det dx/dz| = sum_k log x_k + 1/2 log K                                      (4)
For the inverse map, as a function of all `K` entries, (2) inserted in (1) gives `x_k / r` with `r = sum_j x_j`, so that minus (4) is
    log|det dz/dx| = K log r - sum_k log x_k - 1/2 log K                            (5)
`Chain([ZeroSum(), Softmax()])` is the isometric log-ratio, from free vectors to the simplex, with the same log-det.

The reverse rule.  From (3), and with the cotangent `l_bar` of (4), whose derivative by `z_k` is `1 - K x_k`,
    z_k_bar = x_k (x_k_bar - sum_j x_j x_j_bar) + l_bar (1 - K x_k)                 (6)
For the inverse map, with the cotangent `l_bar` of (5), and with the mean `a` of all `z_j_bar`,
    x_k_bar = (z_k_bar - a - l_bar) / x_k + l_bar K / r                             (7)

Source: Aitchison (1982), "The statistical analysis of compositional data".
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, log_2, simplex
from ...core.sets import zero_sum
from .centred_softmax import pulled_back_log_det, shares, sum_of_others
from .stick_breaking import product_with_root


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        e = np.exp(z)
        return e / np.sum(e)                                                        # (1)

    def inverse(x):
        return np.log(x) - np.sum(np.log(x)) / len(x)                               # (2)

    def jacobian(z):
        x = textbook.forward(z)
        return np.diag(x) - np.outer(x, x)                                          # (3)

    def log_det(z):
        return np.sum(np.log(textbook.forward(z))) + np.log(len(z)) / 2             # (4)

    def inverse_log_det(x):
        return len(x) * np.log(np.sum(x)) - np.sum(np.log(x)) - np.log(len(x)) / 2  # (5)

    def vjp(z, x_bar, l_bar):
        x = textbook.forward(z)
        return x * (x_bar - np.sum(x * x_bar)) + l_bar * (1 - len(x) * x), {}       # (6)

    def inverse_vjp(x, z_bar, l_bar):
        a = np.sum(z_bar) / len(x)
        return (z_bar - a - l_bar) / x + l_bar * len(x) / np.sum(x), {}             # (7)


r"""In floating point.

In (1), an exponential may overflow.  With `m = max_j z_j` and `t_k = z_k - m <= 0`,
    x_k = exp(t_k) / (1 + q),   q the sum of exp(t_j) without its largest term      (8)

In (2), a logarithm and the mean of all may be far larger than their difference.  With `x_k = f_k 2^(e_k)` and `1/2 <= f_k < 1`, the
difference of the exponents is exact, and the logarithms left are small:
    z_k = log f_k - (log f_1 + ... + log f_K) / K + (K e_k - e_1 - ... - e_K) log(2) / K                    (9)
These are rounded, and their sum `s` is not 0.  Each entry gives up a share of `s` in proportion to its size, so that no entry moves by
more than its own rounding:
    z_k - s |z_k| / (|z_1| + ... + |z_K|)                                           (10)

In (3), `1 - x_k` has no digit left near the corner k, but the sum of the other entries keeps all its digits:
    1 - x_k = sum_(j != k) x_j                                                      (11)

In (4), `x_k` may underflow, and `log x_k` of an entry near 1 has no digit left.  All terms of
    log x_k = t_k - log(1 + q)                                                      (12)
are `<= 0`.

In (6), both terms cancel near a corner, and the second near the centre.  They are sums of differences of two entries:
    1 - K x_k = sum_j (x_j - x_k),   x_j - x_k = max(x_j, x_k) (1 - exp(-|z_j - z_k|)) sign(z_j - z_k)      (13)
    x_k_bar - sum_j x_j x_j_bar = sum_j x_j (x_k_bar - x_j_bar)                     (14)
A product of a cotangent `c` and `x_k` may be representable where `x_k` has underflowed; there
    c x_k = c exp(log(x_k) / 2) exp(log(x_k) / 2)                                   (15)

In (7), `1/x_k` of a subnormal `x_k` overflows before the terms are added.  (2) and (5) do not change when `x` is multiplied by a
number, so (7) is computed at
    y = c x,   x_bar = c y_bar,   c the square root of the largest power of 2       (16)

At the ends, an entry `x_k = 0` has `z_k = -inf`, and every other `z_j` is `inf`.
"""


@bijector(source="Aitchison (1982), centred log-ratio", domain=zero_sum, codomain=simplex, textbook=textbook)
class Softmax(Bijector):
    """x_k = exp(z_k) / sum_j exp(z_j), for z that sums to 0.

    z is (*batch, K) with entries that sum to 0, x is (*batch, K) with entries >= 0 that sum to 1, K >= 1.  The log-det measures z by the
    own volume of its plane, x by its first K - 1 entries.  ValueError for z and x that are not in these sets.
    """

    event_ndim = (1, 1)

    def output_shape(self, shape):
        if shape[0] < 1:
            raise ValueError("a point of the simplex needs K >= 1 entries")
        return shape

    input_shape = output_shape

    @staticmethod
    def definition(m, z):
        return [1 / sum(m.exp(z_j - z_k) for z_j in z) for z_k in z]                # (1)

    @staticmethod
    def inverse_definition(m, x):
        logs = [m.log(x_k) for x_k in x]
        return [log_x - sum(logs) / len(x) for log_x in logs]                       # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return shares(z)[0]                                                         # (1) (8)

    def inverse(self, x):
        K, (f, e) = x.shape[-1], np.frexp(x)                                        # (9)
        log_f, exponents = np.log(f), K * e - e.sum(-1, keepdims=True)
        z = log_f - log_f.mean(-1, keepdims=True) + exponents.astype(x.dtype) * log_2(x) / K        # (2) (9)
        return in_plane(np.where(x > 0, z, -np.inf))                                # (10)

    def log_det(self, z):
        return shares(z)[1].sum(-1) + half_log(z)                                   # (4) (12)

    def inverse_and_log_det(self, x):
        log_det = x.shape[-1] * np.log(x.sum(-1)) - np.log(x).sum(-1) - half_log(x)         # (5)
        return self.inverse(x), log_det

    def jacobian(self, z):
        x, _ = shares(z)
        J = -x[..., :, None] * x[..., None, :]                                      # (3)
        k = np.arange(z.shape[-1])
        J[..., k, k] = x * sum_of_others(x)                                         # (3) (11)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        x, log_x = shares(z)

        def pullback(x_bar, log_det_bar):
            steps = x_bar[..., :, None] - x_bar[..., None, :]
            apart = product_with_root(steps, x[..., None, :], log_x[..., None, :]).sum(-1)          # (14) (15)
            return product_with_root(apart, x, log_x) + pulled_back_log_det(x, z, log_det_bar), {}           # (6) (13) (15)

        return (x, log_x.sum(-1) + half_log(z)), pullback

    def inverse_vjp(self, x):
        K = x.shape[-1]
        c = np.ldexp(x.dtype.type(1), np.finfo(x.dtype).maxexp // 2)                # (16)
        y = c * x                                                                   # (16)

        def pullback(z_bar, log_det_bar):
            l_bar, a = log_det_bar[..., None], z_bar.mean(-1, keepdims=True)
            y_bar = (z_bar - a - l_bar) / y + l_bar * (K / y.sum(-1, keepdims=True))        # (7)
            return c * y_bar, {}                                                    # (16)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Centre", "z = 0 is the centre: dl/dz is exactly 0, 1 - K x is not", z=[[0.0, 0.0, 0.0], [1e-9, -1e-9, 0.0]],
             x=[[0.25, 0.25, 0.25, 0.25], [np.nextafter(0.5, 0), 0.5]]),
        case("Thirds", "all entries are equal but for roundings, which no entry of z may keep", x=[[1 / 3, 1 / 3, np.nextafter(1 / 3, 1)]]),
        case("Corner", "x_k rounds to 1: 1 - x_k and log x_k have no digit left", z=[[48.0, -3.0, -45.0], [-50.0, -60.0, 110.0]]),
        case("Far", "exponentials overflow, the entries do not", z=[[800.0, 799.0, -1599.0], [2.0**120, -(2.0**120), 0.0]]),
        case("UnderflowTimesCotangent", "x_k underflows, a cotangent times it does not",
             z=[[-95.0, 5.0, 90.0], [-750.0, 0.0, 750.0], [48.0, -48.0], [370.0, -370.0]]),
        case("Middle", "z_2 is near 0: log x_2 and the mean of the logarithms are not",
             x=[[1.0, 2.0**-60, 2.0**-120], [1.0, 1.5 * 2.0**-60, 2.0**-120], [1.0, 2.0**-500, 1.25 * 2.0**-1000]]),
        case("Subnormal", "1/x_k overflows", x=[[1.0, 2.0**-149], [1.0, 2.0**-1074], [2.0**-149, 1.0]]),
    )


def half_log(x):
    """1/2 log K."""
    return np.log(x.dtype.type(x.shape[-1])) / 2


def in_plane(z):
    """z without what rounding left of its sum (10); infinite entries stay."""
    size = np.abs(z).sum(-1, keepdims=True)
    share = np.where((size > 0) & (size < np.inf), z.sum(-1, keepdims=True) / size, 0)
    return z - np.where(share == 0, 0, share * np.abs(z))                           # (10)
