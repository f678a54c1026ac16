r"""Cut points of ordered categories, from the simplex in `R^K` -> increasing vectors of `K - 1` entries: cut there, a logistic
distribution falls into parts of the probabilities `z_1 .. z_K`.

The map.  For `k = 1 .. K-1`,
    c_k = z_1 + ... + z_k,   d_k = z_{k+1} + ... + z_K                              (1)
    x_k = log(c_k / d_k)                                                            (2)
where `d_k = 1 - c_k`, so that (2) is the logit of `c_k`.  With the logistic distribution function `s_k` at `x_k`,
    z_k = t_k - t_{k-1},   t_0 = 0,   t_K = 1,   t_k = s_k = 1 / (1 + exp(-x_k))  for 0 < k < K     (3)
    dx_k/dz_j = 1 / c_k  for j <= k,   -1 / d_k  for j > k                          (4)
The coordinates of the simplex are `z_1 .. z_{K-1}`.  A step of `z_j` is taken from `z_K`, and moves `c_k` for `k >= j` up and `d_k`
down.  The Jacobian is triangular, with `1 / c_k + 1 / d_k` on its diagonal.  With `r = z_1 + ... + z_K`,
    log|det dx/dz| = sum_k log(r / (c_k d_k))                                       (5)
    log|det dz/dx| = sum_k (log s_k + log(1 - s_k))                                 (6)

The reverse rule.  From (4), and with the cotangent `l_bar` of (5),
    z_j_bar = sum_(k >= j) (x_k_bar - l_bar) / c_k - sum_(k < j) (x_k_bar + l_bar) / d_k + l_bar (K - 1) / r        (7)
For the inverse map, `ds/dx = s (1 - s)`, and with the cotangent `l_bar` of (6),
    x_k_bar = (z_k_bar - z_{k+1}_bar) s_k (1 - s_k) + l_bar (1 - 2 s_k)             (8)

Source: NumPyro, `SimplexToOrderedTransform`, with an anchor of 0; Betancourt (2019), "Ordinal regression".
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, increasing, simplex
from .stick_breaking import tail_sums


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def sums(z):
        return np.cumsum(z)[:-1], np.cumsum(z[::-1])[::-1][1:]                      # (1)

    def forward(z):
        c, d = textbook.sums(z)
        return np.log(c / d)                                                        # (2)

    def parts(x):
        return 1 / (1 + np.exp(-x))                                                 # (3)

    def inverse(x):
        s = np.array([0, *textbook.parts(x), 1])
        return s[1:] - s[:-1]                                                       # (3)

    def jacobian(z):
        (c, d), K = textbook.sums(z), len(z)
        return np.array([[1 / c[k] if j <= k else -1 / d[k] for j in range(K)] for k in range(K - 1)])      # (4)

    def log_det(z):
        c, d = textbook.sums(z)
        return np.sum(np.log(np.sum(z) / (c * d)))                                  # (5)

    def inverse_log_det(x):
        s = textbook.parts(x)
        return np.sum(np.log(s) + np.log(1 - s))                                    # (6)

    def vjp(z, x_bar, l_bar):
        (c, d), K = textbook.sums(z), len(z)
        up, down = (x_bar - l_bar) / c, (x_bar + l_bar) / d
        return np.array([np.sum(up[j:]) - np.sum(down[:j]) for j in range(K)]) + l_bar * (K - 1) / np.sum(z), {}       # (7)

    def inverse_vjp(x, z_bar, l_bar):
        s = textbook.parts(x)
        return (z_bar[:-1] - z_bar[1:]) * s * (1 - s) + l_bar * (1 - 2 * s), {}     # (8)


r"""In floating point.

In (2), the quotient overflows where `d_k` is small.  One of two logarithms is at most `log 2` in size.  Where they
nearly cancel, so is the other, and their roundings move the difference by less than a rounding of `c_k` does:
    x_k = log c_k - log d_k                                                         (9)

In (3), `exp(-x)` overflows where `s` is not 0, `1 - s` has no digit left for a large `x`, and neighbours `s_k` cancel:
    s_k = exp(min(x_k, 0)) / (1 + t_k),   1 - s_k = exp(min(-x_k, 0)) / (1 + t_k),   t_k = exp(-|x_k|)      (10)
    z_k = s_k (1 - s_{k-1}) (1 - exp(x_{k-1} - x_k))                                (11)

In (5), the product of `c_k` and `d_k` underflows:
    log|det dx/dz| = sum_k (log r - log c_k - log d_k)                              (12)

In (6), `s_k` or `1 - s_k` underflows:
    log s_k + log(1 - s_k) = -|x_k| - 2 log(1 + t_k)                                (13)

In (7), `1 / c_k` of a subnormal `c_k` overflows before the terms are added.  All terms of (7) are divided by `c` where `z` is
multiplied by `c`, so (7) is computed at
    y = c z,   z_bar = c y_bar,   c the square root of the largest power of 2       (14)

In (8), `s_k (1 - s_k)` underflows where its product with a cotangent does not, and `1 - 2 s_k` cancels near `x_k = 0`:
    s_k (1 - s_k) = r_k^2,   r_k = h / (1 + h^2),   h = exp(-|x_k|/2)               (15)
    1 - 2 s_k = -sign(x_k) (1 - exp(-|x_k|)) / (1 + t_k)                            (16)

At the ends, `c_k` or `d_k` may be a sum of zeros, whose logarithm is `-inf`.
"""


@bijector(source="NumPyro, SimplexToOrderedTransform", domain=simplex, codomain=increasing, textbook=textbook)
class SimplexToOrdered(Bijector):
    """x_k = logit(z_1 + ... + z_k) for k < K, from the simplex to increasing vectors.

    z is (*batch, K) with entries >= 0 that sum to 1, x is (*batch, K-1) and increasing, K >= 2.  The
    log-det is by the first K - 1 entries of z.  ValueError for z outside the simplex and for x that does not increase.
    """

    event_ndim = (1, 1)

    def output_shape(self, shape):
        if shape[0] < 2:
            raise ValueError("cut points need K >= 2 categories")
        return (shape[0] - 1,)

    def input_shape(self, shape):
        if shape[0] < 1:
            raise ValueError("there is at least one cut point")
        return (shape[0] + 1,)

    @staticmethod
    def inverse_definition(m, x):
        below, above = [1 / (1 + m.exp(-x_k)) for x_k in x], [1 / (1 + m.exp(x_k)) for x_k in x]
        between = [s * rest * (1 - m.exp(a - b)) for s, rest, a, b in zip(below[1:], above, x, x[1:])]
        return [below[0], *between, above[-1]]                                      # (3)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        c, d = sums(z)
        return np.log(c) - np.log(d)                                                # (2) (9)

    def inverse(self, x):
        below, above = both_parts(x)
        one = np.ones(x.shape[:-1] + (1,), x.dtype)
        steps = np.concatenate((one, -np.expm1(-np.diff(x)), one), -1)              # (11)
        return np.concatenate((below, one), -1) * np.concatenate((one, above), -1) * steps         # (3) (11)

    def log_det(self, z):
        c, d = sums(z)
        return (np.log(z.sum(-1, keepdims=True)) - np.log(c) - np.log(d)).sum(-1)   # (5) (12)

    def inverse_and_log_det(self, x):
        a = np.abs(x)
        return self.inverse(x), (-a - 2 * np.log1p(np.exp(-a))).sum(-1)             # (6) (13)

    def jacobian(self, z):
        c, d = sums(z)
        before = np.tri(z.shape[-1] - 1, z.shape[-1], dtype=bool)
        return np.where(before, 1 / c[..., None], -1 / d[..., None])                # (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        scale = np.ldexp(z.dtype.type(1), np.finfo(z.dtype).maxexp // 2)            # (14)
        y = scale * z                                                               # (14)
        c, d = sums(y)

        def pullback(x_bar, log_det_bar):
            l_bar, none = log_det_bar[..., None], np.zeros(z.shape[:-1] + (1,), z.dtype)
            later = np.concatenate((tail_sums((x_bar - l_bar) / c), none), -1)
            before = np.concatenate((none, np.cumsum((x_bar + l_bar) / d, -1)), -1)
            y_bar = later - before + l_bar * ((z.shape[-1] - 1) / y.sum(-1, keepdims=True))         # (7)
            return scale * y_bar, {}                                                # (14)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            a = np.abs(x)
            h = np.exp(-a / 2)
            r = h / (1 + h * h)                                                     # (15)
            bend = log_det_bar[..., None] * np.copysign(np.expm1(-a), x) / (1 + h * h)      # (16)
            return (z_bar[..., :-1] - z_bar[..., 1:]) * r * r - bend, {}            # (8) (15) (16)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Last", "the last part is far below u: 1 - c_k has no digit of it", z=[[0.5, 0.5, 2.0**-80], [1.0, 2.0**-80, 2.0**-100]],
             x=[[1.0, 60.0], [50.0, 60.0, 61.0]]),
        case("First", "a quotient of sums in (2) is far from 1", z=[[2.0**-140, 0.5, 0.5], [2.0**-149, 1.0]], x=[[-95.0, -90.0], [-700.0, 1.0]]),
        case("Half", "x_k is near 0: 1 - 2 s_k cancels", z=[[0.5, 0.5], [0.25, 0.25, 0.5]], x=[[-1e-9, 1e-20], [1e-160, 1.0]]),
        case("Adjacent", "neighbouring floats: s_k - s_{k-1} has no digit left", x=[[1.0, np.nextafter(1, 2)], [-3.0, np.nextafter(-3, 0)]]),
        case("Far", "both distribution functions in a difference round to 1, or underflow",
             x=[[40.0, 41.0], [-800.0, 800.0], [800.0, 801.0], [-(2.0**120), 2.0**120]]),
        case("UnderflowTimesCotangent", "s_k (1 - s_k) underflows, a cotangent times it does not", x=[[-105.0, 0.0], [-750.0, 749.0]]),
    )


def sums(z):
    """(c, d)."""
    return np.cumsum(z, -1)[..., :-1], tail_sums(z)[..., 1:]                        # (1)


def both_parts(x):
    """(s, 1 - s)."""
    d = 1 + np.exp(-np.abs(x))
    return np.exp(np.minimum(x, 0)) / d, np.exp(np.minimum(-x, 0)) / d              # (3) (10)
