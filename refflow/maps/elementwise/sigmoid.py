r"""Logistic sigmoid, `R -> (0, 1)`.

The map.  For every real `z`,
    x = 1 / (1 + exp(-z))                                                           (1)
    z = log x - log(1 - x)                                                          (2)
    dx/dz = x (1 - x)                                                               (3)
    log|dx/dz| = log x + log(1 - x)                                                 (4)
    log|dz/dx| = -log x - log(1 - x)                                                (5)

The reverse rule.  The derivative of (4) by `z` is `1 - 2 x`, so with the cotangent `l_bar` of (4),
    z_bar = x_bar x (1 - x) + l_bar (1 - 2 x)                                       (6)
For the inverse map, `dz/dx = 1/(x (1 - x))`, and the derivative of (5) is `(2 x - 1)/(x (1 - x))`.  With its cotangent `l_bar`,
    x_bar = (z_bar + (2 x - 1) l_bar) / (x (1 - x))                                 (7)

Source: the definition of the logistic function.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval, real


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return 1 / (1 + np.exp(-z))                                                 # (1)

    def inverse(x):
        return np.log(x) - np.log(1 - x)                                            # (2)

    def slope(z):
        x = textbook.forward(z)
        return x * (1 - x)                                                          # (3)

    def log_det(z):
        x = textbook.forward(z)
        return np.log(x) + np.log(1 - x)                                            # (4)

    def inverse_log_det(x):
        return -np.log(x) - np.log(1 - x)                                           # (5)

    def vjp(z, x_bar, l_bar):
        x = textbook.forward(z)
        return x_bar * x * (1 - x) + l_bar * (1 - 2 * x), {}                        # (6)

    def inverse_vjp(x, z_bar, l_bar):
        return (z_bar + (2 * x - 1) * l_bar) / (x * (1 - x)), {}                    # (7)


r"""In floating point.

In (1), `exp(-z)` overflows where `x` is not 0.  No exponential of a positive number is taken in
    x = exp(min(z, 0)) / (1 + t),   t = exp(-|z|)                                   (8)

In (2) and (5), `1 - x` rounds to 1 for a small `x`:
    log(1 - x) = log1p(-x)                                                          (9)
The terms of (5) have the same sign.  (2) cancels near `x = 1/2`, harmlessly: `x dz/dx = 1/(1 - x) >= 1`, so the rounding of `x`
itself can move `z` by more than the rounding of `log x` and `log(1 - x)`, each at most `log 2` there.

In (3) and (4), `1 - x` loses every digit once `x` rounds to 1:
    dx/dz = t / (1 + t)^2                                                           (10)
    log|dx/dz| = -|z| - 2 log1p(t)                                                  (11)
where both terms have the same sign.

In (6), `1 - 2 x` cancels near `z = 0`, and `dx/dz` may lose digits below the smallest normal number where `x_bar dx/dz` does not.
With `1 - 2 x = -sign(z) (1 - t)/(1 + t)`,
    z_bar = (x_bar r) r + l_bar sign(z) expm1(-|z|) / (1 + t)                       (12)
    r^2 = dx/dz,   r = h / (1 + h^2),   h = exp(-|z|/2)                             (13)
"""


@bijector(source="definition", domain=real, codomain=interval(0, 1), increasing=True, symmetric=True, textbook=textbook)
class Sigmoid(Bijector):
    """x = 1 / (1 + exp(-z)), from R to (0, 1); its inverse is the logit."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.exp(np.minimum(z, 0)) / (1 + np.exp(-np.abs(z)))                  # (1) (8)

    def inverse(self, x):
        return np.log(x) - np.log1p(-x)                                             # (2) (9)

    def log_det(self, z):
        a = np.abs(z)
        return -a - 2 * np.log1p(np.exp(-a))                                        # (4) (11)

    def forward_and_log_det(self, z):
        a = np.abs(z)
        t = np.exp(-a)
        x = np.exp(np.minimum(z, 0)) / (1 + t)                                      # (1) (8)
        return x, -a - 2 * np.log1p(t)                                              # (4) (11)

    def slope(self, z):
        t = np.exp(-np.abs(z))
        return t / (1 + t) ** 2                                                     # (3) (10)

    def inverse_and_log_det(self, x):
        log_x, log_rest = np.log(x), np.log1p(-x)                                   # (9)
        return log_x - log_rest, -log_x - log_rest                                  # (2) (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            a = np.abs(z)
            h = np.exp(-a / 2)
            r = h / (1 + h * h)                                                     # (13)
            bend = log_det_bar * np.copysign(np.expm1(-a), z) / (1 + h * h)         # (12)
            return x_bar * r * r - bend, {}                                         # (6) (12)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return (z_bar + (2 * x - 1) * log_det_bar) / (x * (1 - x)), {}          # (7)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Tiny", "the gradient of the log-det is -z/2: 1 - 2 x returns 0", z=[1e-9, -1e-160, 5e-324]),
        case("Saturated", "x rounds to 1, slope and log-det keep their digits", z=[36.8, 40.0, 700.0]),
        case("Subnormal", "x is below the smallest normal number; exp(-z) overflows", z=[-708.5, -720.0, -744.0]),
        case("Beyond", "x is 0 or 1, the log-det is still -|z|", z=[2.0**1000, -2.0**1000]),
        case("Half", "z cancels to a few units of rounding", x=[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)]),
        case("Ends", "the first and the last floats between 0 and 1", x=[5e-324, 1e-310, np.nextafter(1, 0)]),
    )
