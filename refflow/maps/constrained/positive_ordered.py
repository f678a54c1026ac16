r"""Increasing vectors of positive numbers, `R^K -> 0 < x_1 < ... < x_K`.

The map.  The steps from 0 on are exponentials; with `x_0 = 0`,
    x_k = x_(k-1) + exp z_k        k = 1, ..., K                                    (1)
    z_k = log d_k,   d_k = x_k - x_(k-1)                                            (2)
    dx_k/dz_j = exp z_j  for j <= k,   all else 0                                   (3)
    log|det dx/dz| = z_1 + ... + z_K                                                (4)
    log|det dz/dx| = -log d_1 - ... - log d_K                                       (5)
Stan's positive_ordered is this map.  NumPyro's positive_ordered_vector is another map onto the same set: `Ordered`, and then `Exp` of
each entry.

The reverse rule.  With `T_j = x_bar_j + ... + x_bar_K` and the cotangent `l_bar` of (4),
    z_bar_j = T_j exp z_j + l_bar                                                   (6)
For the inverse map, with the cotangent `l_bar` of (5), and with `g_k = (z_bar_k - l_bar) / d_k, g_(K+1) = 0`,
    x_bar_k = g_k - g_(k+1)                                                         (7)

Source: Stan reference manual, "Positive ordered vector".
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, log_abs_product, real
from ...core.sets import positive_ordered
from ...core.sets.positive_ordered_vectors import steps_of
from .half_line import times_exp
from .ordered import less_next
from .stick_breaking import tail_sums


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        x = []
        for z_k in z:
            x.append((x[-1] if x else 0) + np.exp(z_k))                             # (1)
        return np.array(x)

    def steps(x):
        return x - np.array([0, *x[:-1]])                                           # (2)

    def inverse(x):
        return np.log(textbook.steps(x))                                            # (2)

    def jacobian(z):
        slopes = np.exp(z)
        return np.array([[slopes[j] if j <= k else 0 for j in range(len(z))] for k in range(len(z))])       # (3)

    def log_det(z):
        return np.sum(z)                                                            # (4)

    def inverse_log_det(x):
        return -np.sum(np.log(textbook.steps(x)))                                   # (5)

    def vjp(z, x_bar, l_bar):
        T = np.cumsum(x_bar[::-1])[::-1]
        return T * np.exp(z) + l_bar, {}                                            # (6)

    def inverse_vjp(x, z_bar, l_bar):
        g = (z_bar - l_bar) / textbook.steps(x)
        return g - np.array([*g[1:], 0]), {}                                        # (7)


r"""In floating point.

In (1), `x_k` is rounded to `x_(k-1)`, the boundary, where `exp z_k` is below the last digit of `x_(k-1)`.

In (5), a sum of logarithms may cancel, but the logarithm of a product does not:
    log|det dz/dx| = -log(d_1 ... d_K)                                              (8)

In (6), `exp z_j` may overflow, or lose digits below the smallest normal number, where `T_j exp z_j` does neither:
    T_j exp z_j = (T_j h) h,   h = exp(z_j/2)                                       (9)

In (7), where two neighbouring steps are subnormal, both quotients overflow before they are subtracted:
    g_k - g_(k+1) = c (g_k/c - g_(k+1)/c),   g_k/c = (z_bar_k - l_bar) / (c d_k),   c the square root of the largest power of 2     (10)
"""


@bijector(source="Stan reference manual, positive ordered vector", domain=real, codomain=positive_ordered, textbook=textbook)
class PositiveOrdered(Bijector):
    """x_k = x_(k-1) + exp z_k, x_0 = 0, from R^K to the increasing vectors of K positive entries."""

    event_ndim = (1, 1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.cumsum(np.exp(z), -1)                                             # (1)

    def inverse(self, x):
        return np.log(steps_of(x))                                                  # (2)

    def log_det(self, z):
        return z.sum(-1)                                                            # (4)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -log_abs_product(steps_of(x))                       # (5) (8)

    def jacobian(self, z):
        below = np.tri(z.shape[-1], dtype=bool)
        return np.where(below, np.exp(z)[..., None, :], 0)                          # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            return times_exp(tail_sums(x_bar), z) + log_det_bar[..., None], {}      # (6) (9)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return less_next(z_bar - log_det_bar[..., None], steps_of(x)), {}       # (7) (10)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Equal", "log-det is 0 although its terms are not", z=[[2.0, 1.0, -3.0]], x=[[2.0, 4.0, 4.25]]),
        case("Collapsed", "a step below the last digit of the sum: the image is on the boundary", z=[[1.0, -60.0, 0.0]]),
        case("Adjacent", "neighbouring floats", x=[[1.0, np.nextafter(1, 2), 3.0]]),
        case("Steps", "the steps span many orders of magnitude", x=[[2.0**-100, 2.0**-60, 1.0, 2.0**100]]),
        case("Smallest", "the first steps are subnormal", z=[[-740.0, -741.0]], x=[[5e-324, 1e-323, 1.0]]),
        case("Subnormal", "exp z is subnormal, its product with a cotangent is not", z=[[-745.0, -740.0]]),
        case("Beyond", "exp z overflows, log-det is the sum of z still", z=[[0.0, 2.0**1000]]),
        case("One", "one entry is its exponential", z=[[3.0]], x=[[3.0]]),
    )
