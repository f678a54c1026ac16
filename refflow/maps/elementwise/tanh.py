r"""Hyperbolic tangent, `R -> (-1, 1)`.

The map.  For every real `z`,
    x = tanh z                                                                      (1)
    z = artanh x                                                                    (2)
    dx/dz = 1 - x^2                                                                 (3)
    log|dx/dz| = -2 log cosh z                                                      (4)
    log|dz/dx| = -log(1 - x^2)                                                      (5)

The reverse rule.  The derivative of (4) is `-2 tanh z`, so with the cotangent `l_bar` of (4),
    z_bar = x_bar (1 - x^2) - 2 l_bar x                                             (6)
For the inverse map, `dz/dx = 1/(1 - x^2)`, and the derivative of (5) is `2 x/(1 - x^2)`.  With the cotangent `l_bar` of (5),
    x_bar = (z_bar + 2 l_bar x) / (1 - x^2)                                         (7)

Source: definition of the hyperbolic functions, NIST DLMF 4.28, 4.37, 4.40.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval, log_2, real


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return np.tanh(z)                                                           # (1)

    def inverse(x):
        return np.arctanh(x)                                                        # (2)

    def slope(z):
        return 1 - np.tanh(z) ** 2                                                  # (3)

    def log_det(z):
        return -2 * np.log(np.cosh(z))                                              # (4)

    def inverse_log_det(x):
        return -np.log(1 - x**2)                                                    # (5)

    def vjp(z, x_bar, l_bar):
        x = np.tanh(z)
        return x_bar * (1 - x**2) - 2 * l_bar * x, {}                               # (6)

    def inverse_vjp(x, z_bar, l_bar):
        return (z_bar + 2 * l_bar * x) / (1 - x**2), {}                             # (7)


r"""In floating point.

In (3), `1 - x^2` loses every digit once `x` rounds to 1, and `cosh z` in `1/cosh^2 z` overflows:
    dx/dz = 4 q / (1 + q)^2,   q = exp(-2|z|)                                       (8)

In (4), `cosh z` overflows for a large `z`, and rounds to 1 for a small one:
    log|dx/dz| = -log(1 + sinh^2 z)                     for |z| <= 1                (9)
               = 2 (log 2 - |z| - log(1 + q))           for |z| >  1                (10)
(9) and (10) are equal; each is used where it keeps its digits: (10) subtracts numbers near `log 2` when `z` is small, and (9)
overflows when `z` is large.

In (5), `1 - x^2` rounds to 1 for a small `x`, and has lost its digits where `|x|` is near 1.  The factors of `(1 - x)(1 + x)`
round harmlessly there:
    log|dz/dx| = -log1p(-x^2)                           for |x| <= 1/2              (11)
               = -log(1 - x) - log(1 + x)               for |x| >  1/2              (12)
(12) cancels to 0 for small `x`, where the answer is `x^2`.

In (6), `1 - x^2` is (8), which may lose digits below the smallest normal number where its product with `x_bar` does not:
    z_bar = (x_bar r) r - 2 l_bar x,   r = 2 p / (1 + p^2),   p = exp(-|z|)         (13)
where `r = 1/cosh z`.

In (7), `1 - x^2` loses its digits where `|x|` is near 1:
    x_bar = (z_bar + 2 l_bar x) / ((1 - x)(1 + x))                                  (14)
"""


@bijector(source="DLMF 4.28", domain=real, codomain=interval(-1, 1), increasing=True, textbook=textbook)
class Tanh(Bijector):
    """x = tanh z."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.tanh(z)                                                           # (1)

    def inverse(self, x):
        return np.arctanh(x)                                                        # (2)

    def log_det(self, z):
        a = np.abs(z)
        near = -np.log1p(np.sinh(np.minimum(a, 1)) ** 2)                            # (4) (9)
        far = 2 * (log_2(a) - a - np.log1p(np.exp(-2 * a)))                         # (4) (10)
        return np.where(a <= 1, near, far)

    def slope(self, z):
        q = np.exp(-2 * np.abs(z))
        return 4 * q / (1 + q) ** 2                                                 # (3) (8)

    def inverse_and_log_det(self, x):
        near = -np.log1p(-x * x)                                                    # (5) (11)
        far = -np.log1p(-x) - np.log1p(x)                                           # (5) (12)
        return self.inverse(x), np.where(np.abs(x) <= 0.5, near, far)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        x, log_det = self.forward_and_log_det(z)

        def pullback(x_bar, log_det_bar):
            p = np.exp(-np.abs(z))
            r = 2 * p / (1 + p * p)                                                 # (13)
            return x_bar * r * r - 2 * log_det_bar * x, {}                          # (6) (13)

        return (x, log_det), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return (z_bar + 2 * x * log_det_bar) / ((1 - x) * (1 + x)), {}          # (7) (14)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Tiny", "log-det is -z^2: any form that subtracts from log 2 returns 0", z=[1e-9, 1e-160, 5e-324]),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[19.1, 40.0, 350.0]),
        case("Subnormal", "the slope is below the smallest normal number, x_bar r^2 need not be", z=[355.0, -372.0, 380.0]),
        case("Switch", "(9) and (10) meet", z=[np.nextafter(1, 0), 1.0, np.nextafter(1, 2)]),
        case("Beyond", "cosh z overflows, the log-det is -2|z|", z=[711.0, 2.0**1000, -2.0**1000]),
        case("SwitchOfInverse", "(11) and (12) meet", x=[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)]),
        case("TinyImage", "log|dz/dx| is x^2: (12) returns 0", x=[1e-9, -1e-160, 5e-324]),
        case("NearOne", "the last floats inside", x=[np.nextafter(1, 0), np.nextafter(-1, 0)]),
    )
