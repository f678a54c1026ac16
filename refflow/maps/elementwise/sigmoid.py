r"""Logistic sigmoid, `R -> (0, 1)`.

    x = 1 / (1 + exp(-z))                                                           (1)
      = exp(min(z, 0)) / (1 + t),   t = exp(-|z|)                                   (2)
    z = log x - log(1 - x)                                                          (3)
    dx/dz = x (1 - x) = t / (1 + t)^2                                               (4)
    log|dx/dz| = -|z| - 2 L,   L = log(1 + t)                                       (5)
    log|dz/dx| = -log x - log(1 - x)                                                (6)

(2) and (5) never take exp of a positive number, so nothing overflows and `x` keeps its digits down to the smallest float; in
(4) `1 - x` would lose every digit once `x` rounds to 1.  The two terms of (5) have the same sign, and so do the two terms of
(6).  (3) does cancel near `x = 1/2`, harmlessly: `x dz/dx = 1 / (1 - x) >= 1`, so the rounding of `x` itself can move `z` by
more than the rounding of `log x` and `log(1 - x)`, each at most `log 2` there.

Reverse rule.  `d/dz` of (5) is `1 - 2 x = -tanh(z/2) = -sign(z) (1 - t) / (1 + t)`, which keeps its digits near `z = 0`, so
    z_bar = x_bar r^2 - log_det_bar sign(z) (1 - t) / (1 + t)                       (7)
    r^2 = dx/dz,   r = h / (1 + h^2),   h = exp(-|z|/2)                             (8)
and for the inverse map, from `dz/dx = 1 / (x (1 - x))` and `d/dx` of (6) = `(2 x - 1) / (x (1 - x))`,
    x_bar = (z_bar + (2 x - 1) log_det_bar) / (x (1 - x))                           (9)
(7) is computed as `(x_bar r) r`: `dx/dz` may lose digits below the smallest normal number where `x_bar dx/dz` does not.

Source: the definition of the logistic function.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval, real


@bijector(source="definition", domain=real, codomain=interval(0, 1), increasing=True)
class Sigmoid(Bijector):
    """x = 1 / (1 + exp(-z)), from R to (0, 1); its inverse is the logit."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z):
        return 1 / (1 + m.exp(-z))                                                  # (1)

    def forward(self, z):
        return np.exp(np.minimum(z, 0)) / (1 + np.exp(-np.abs(z)))                  # (2)

    def inverse(self, x):
        return np.log(x) - np.log1p(-x)                                             # (3)

    def log_det(self, z):
        a = np.abs(z)
        return -a - 2 * np.log1p(np.exp(-a))                                        # (5)

    def forward_and_log_det(self, z):
        a = np.abs(z)
        t = np.exp(-a)
        x = np.exp(np.minimum(z, 0)) / (1 + t)                                      # (2)
        return x, -a - 2 * np.log1p(t)                                              # (5)

    def slope(self, z):
        t = np.exp(-np.abs(z))
        return t / (1 + t) ** 2                                                     # (4)

    def inverse_and_log_det(self, x):
        log_x, log_rest = np.log(x), np.log1p(-x)
        return log_x - log_rest, -log_x - log_rest                                  # (3) (6)

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            a = np.abs(z)
            h = np.exp(-a / 2)
            r = h / (1 + h * h)                                                     # (8)
            bend = log_det_bar * np.copysign(np.expm1(-a), z) / (1 + h * h)
            return x_bar * r * r - bend, {}                                         # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return (z_bar + (2 * x - 1) * log_det_bar) / (x * (1 - x)), {}          # (9)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Tiny", "the gradient of the log-det is -z/2: 1 - 2 x returns 0", z=[1e-9, -1e-160, 5e-324]),
        case("Saturated", "x rounds to 1, slope and log-det keep their digits", z=[36.8, 40.0, 700.0]),
        case("Subnormal", "x is below the smallest normal number; exp(-z) overflows", z=[-708.5, -720.0, -744.0]),
        case("Beyond", "x is 0 or 1, the log-det is still -|z|", z=[2.0**1000, -2.0**1000]),
        case("Half", "z cancels to a few units of rounding", x=[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)]),
        case("Ends", "the first and the last floats between 0 and 1", x=[5e-324, 1e-310, np.nextafter(1, 0)]),
    )
