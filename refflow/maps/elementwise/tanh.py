r"""Hyperbolic tangent, `R -> (-1, 1)`.

    x = tanh z                                                                      (1)
    z = artanh x                                                                    (2)
    dx/dz = 1 - x^2 = sech^2 z = 4 q / (1 + q)^2,   q = exp(-2|z|)                  (3)
    log|dx/dz| = -2 log cosh z
               = -log(1 + sinh^2 z)                     for |z| <= 1                (4)
               = 2 (log 2 - |z| - log(1 + q))           for |z| >  1                (5)

(3) is written in `q` because `1 - x^2` loses every digit once `x` rounds to 1, and `cosh z` overflows.  (4) and (5) are equal;
each is used where it does not cancel: (5) subtracts numbers near `log 2` when `z` is small, (4) overflows when `z` is large.

From the other side, with `1 - x^2 = (1 - x)(1 + x)`, whose factors round harmlessly near `|x| = 1`:
    log|dz/dx| = -log(1 - x^2)                          for |x| <= 1/2              (6)
               = -log(1 - x) - log(1 + x)               for |x| >  1/2              (7)
(7) cancels to 0 for small `x`, where the answer is `x^2`; (6) loses `1 - x^2` near 1.

Reverse rule.  `d/dz` of (5) is `-2 tanh z`, so
    z_bar = x_bar r^2 - 2 log_det_bar x                                             (8)
    r = sech z = 2 p / (1 + p^2),   p = exp(-|z|)                                   (9)
computed as `(x_bar r) r`: (3) may lose digits below the smallest normal number where `x_bar dx/dz` does not;
and for the inverse map, from `dz/dx = 1/(1 - x^2)` and `d/dx` of (6) = `2x/(1 - x^2)`,
    x_bar = (z_bar + 2 x log_det_bar) / ((1 - x)(1 + x))                            (10)

Source: definition of the hyperbolic functions, NIST DLMF 4.28, 4.37, 4.40.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval, log_2, real


@bijector(source="DLMF 4.28", domain=real, codomain=interval(-1, 1), increasing=True)
class Tanh(Bijector):
    """x = tanh z."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z):
        return m.tanh(z)                                                            # (1)

    def forward(self, z):
        return np.tanh(z)                                                           # (1)

    def inverse(self, x):
        return np.arctanh(x)                                                        # (2)

    def log_det(self, z):
        a = np.abs(z)
        near = -np.log1p(np.sinh(np.minimum(a, 1)) ** 2)                            # (4)
        far = 2 * (log_2(a) - a - np.log1p(np.exp(-2 * a)))                         # (5)
        return np.where(a <= 1, near, far)

    def slope(self, z):
        q = np.exp(-2 * np.abs(z))
        return 4 * q / (1 + q) ** 2                                                 # (3)

    def inverse_and_log_det(self, x):
        near = -np.log1p(-x * x)                                                    # (6)
        far = -np.log1p(-x) - np.log1p(x)                                           # (7)
        return self.inverse(x), np.where(np.abs(x) <= 0.5, near, far)

    def vjp(self, z):
        x, log_det = self.forward_and_log_det(z)

        def pullback(x_bar, log_det_bar):
            p = np.exp(-np.abs(z))
            r = 2 * p / (1 + p * p)                                                 # (9)
            return x_bar * r * r - 2 * log_det_bar * x, {}                          # (8)

        return (x, log_det), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return (z_bar + 2 * x * log_det_bar) / ((1 - x) * (1 + x)), {}          # (10)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Tiny", "log-det is -z^2: any form that subtracts from log 2 returns 0", z=[1e-9, 1e-160, 5e-324]),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[19.1, 40.0, 350.0]),
        case("Subnormal", "the slope is below the smallest normal number, x_bar r^2 need not be", z=[355.0, -372.0, 380.0]),
        case("Switch", "(4) and (5) meet", z=[np.nextafter(1, 0), 1.0, np.nextafter(1, 2)]),
        case("Beyond", "cosh z overflows, the log-det is -2|z|", z=[711.0, 2.0**1000, -2.0**1000]),
        case("SwitchOfInverse", "(6) and (7) meet", x=[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)]),
        case("TinyImage", "log|dz/dx| is x^2: (7) returns 0", x=[1e-9, -1e-160, 5e-324]),
        case("NearOne", "the last floats inside", x=[np.nextafter(1, 0), np.nextafter(-1, 0)]),
    )
