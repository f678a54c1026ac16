r"""Increasing vectors, `R^K -> x_1 < x_2 < ... < x_K`.

The map.  The steps are exponentials,
    x_1 = z_1,   x_k = x_(k-1) + exp z_k        k = 2, ..., K                       (1)
    z_1 = x_1,   z_k = log d_k,   d_k = x_k - x_(k-1)                               (2)
    dx_k/dz_1 = 1,   dx_k/dz_j = exp z_j  for 2 <= j <= k,   all else 0             (3)
    log|det dx/dz| = z_2 + ... + z_K                                                (4)
    log|det dz/dx| = -log d_2 - ... - log d_K                                       (5)

The reverse rule.  With `T_j = x_bar_j + ... + x_bar_K` and the cotangent `l_bar` of (4),
    z_bar_1 = T_1,   z_bar_j = T_j exp z_j + l_bar                                  (6)
For the inverse map, with the cotangent `l_bar` of (5), and with `g_k = (z_bar_k - l_bar) / d_k, g_(K+1) = 0`,
    x_bar_1 = z_bar_1 - g_2,   x_bar_k = g_k - g_(k+1)                              (7)

Source: Stan reference manual, "Ordered vector".
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, increasing, log_abs_product, real
from .half_line import times_exp
from .stick_breaking import tail_sums


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        x = [z[0]]
        for z_k in z[1:]:
            x.append(x[-1] + np.exp(z_k))                                           # (1)
        return np.array(x)

    def inverse(x):
        return np.array([x[0], *np.log(x[1:] - x[:-1])])                            # (2)

    def jacobian(z):
        slopes = [1, *np.exp(z[1:])]
        return np.array([[slopes[j] if j <= k else 0 for j in range(len(z))] for k in range(len(z))])       # (3)

    def log_det(z):
        return np.sum(z[1:])                                                        # (4)

    def inverse_log_det(x):
        return -np.sum(np.log(x[1:] - x[:-1]))                                      # (5)

    def vjp(z, x_bar, l_bar):
        T = np.cumsum(x_bar[::-1])[::-1]
        return np.array([T[0], *(T[1:] * np.exp(z[1:]) + l_bar)]), {}               # (6)

    def inverse_vjp(x, z_bar, l_bar):
        own = [z_bar[0], *((z_bar[1:] - l_bar) / (x[1:] - x[:-1]))]
        return np.array([g - later for g, later in zip(own, [*own[1:], 0])]), {}    # (7)


r"""In floating point.

In (1), `x_k` is rounded to `x_(k-1)`, the boundary, where `exp z_k` is below the last digit of `x_(k-1)`.

In (5), a sum of logarithms may cancel, but the logarithm of a product does not:
    log|det dz/dx| = -log(d_2 ... d_K)                                              (8)

In (6), `exp z_j` may overflow, or lose digits below the smallest normal number, where `T_j exp z_j` does neither:
    T_j exp z_j = (T_j h) h,   h = exp(z_j/2)                                       (9)

In (7), where two neighbouring steps are subnormal, both quotients overflow before they are subtracted:
    g_k - g_(k+1) = c (g_k/c - g_(k+1)/c),   g_k/c = (z_bar_k - l_bar) / (c d_k),   c the square root of the largest power of 2     (10)
"""


@bijector(source="Stan reference manual, ordered vector", domain=real, codomain=increasing, textbook=textbook)
class Ordered(Bijector):
    """x_1 = z_1, x_k = x_(k-1) + exp z_k, from R^K to the increasing vectors of K entries."""

    event_ndim = (1, 1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.cumsum(self.steps(z), -1)                                         # (1)

    def inverse(self, x):
        return np.concatenate((x[..., :1], np.log(np.diff(x))), -1)                 # (2)

    def log_det(self, z):
        return z[..., 1:].sum(-1)                                                   # (4)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -log_abs_product(np.diff(x))                        # (5) (8)

    def jacobian(self, z):
        slopes = np.concatenate((np.ones_like(z[..., :1]), np.exp(z[..., 1:])), -1)
        below = np.tri(z.shape[-1], dtype=bool)
        return np.where(below, slopes[..., None, :], 0)                             # (3)

    def steps(self, z):
        return np.concatenate((z[..., :1], np.exp(z[..., 1:])), -1)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            T = tail_sums(x_bar)
            rest = times_exp(T[..., 1:], z[..., 1:]) + log_det_bar[..., None]
            return np.concatenate((T[..., :1], rest), -1), {}                       # (6) (9)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        d = np.concatenate((np.ones_like(x[..., :1]), np.diff(x)), -1)

        def pullback(z_bar, log_det_bar):
            bars = np.concatenate((z_bar[..., :1], z_bar[..., 1:] - log_det_bar[..., None]), -1)
            return less_next(bars, d), {}                                           # (7) (10)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Equal", "log-det is 0 although its terms are not", z=[[1.0, 3.0, -3.0]], x=[[0.0, 4.0, 4.25]]),
        case("Collapsed", "a step below the last digit of the sum: the image is on the boundary", z=[[1.0, -60.0, 0.0]]),
        case("Adjacent", "neighbouring floats", x=[[1.0, np.nextafter(1, 2), 3.0]]),
        case("Steps", "the steps span many orders of magnitude", x=[[-2.0**100, 0.0, 2.0**-100, 1.0]]),
        case("Smallest", "two steps are subnormal: (10)", x=[[0.0, 5e-324, 1e-323]]),
        case("Subnormal", "exp z is subnormal, its product with a cotangent is not", z=[[0.0, -740.0]]),
        case("Beyond", "exp z overflows, log-det is z_2 still", z=[[0.0, 2.0**1000]]),
        case("One", "one entry is itself", z=[[3.0]], x=[[3.0]]),
    )


def less_next(bars, d):
    """g_k - g_(k+1), g = bars / d, and g_K."""
    c = np.ldexp(d.dtype.type(1), np.finfo(d.dtype).maxexp // 2)                    # (10)
    g = bars / d
    both = np.isinf(g[..., :-1]) & np.isinf(g[..., 1:])
    apart = np.where(both, c * -np.diff(bars / (c * d)), -np.diff(g))               # (10)
    return np.concatenate((apart, g[..., -1:]), -1)
