r"""Softplus, `R -> (0, inf)`.

The map.  For every real `z`,
    x = log(1 + exp z)                                                              (1)
    z = log(exp(x) - 1)                                                             (2)
    dx/dz = 1 / (1 + exp(-z))                                                       (3)
    log|dx/dz| = -log(1 + exp(-z))                                                  (4)
    log|dz/dx| = -log(1 - exp(-x))                                                  (5)

The reverse rule.  The derivative of (4) is `1 - dx/dz = 1/(1 + exp z)`, so with the cotangent `l_bar` of (4),
    z_bar = x_bar / (1 + exp(-z)) + l_bar / (1 + exp z)                             (6)
For the inverse map, `dz/dx = 1/(1 - exp(-x))`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar - l_bar exp(-x)) / (1 - exp(-x))                                 (7)

Source: Dugas, Bengio, Belisle, Nadeau & Garcia, NIPS 2000; the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, positive, real


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return np.log(1 + np.exp(z))                                                # (1)

    def inverse(x):
        return np.log(np.exp(x) - 1)                                                # (2)

    def slope(z):
        return 1 / (1 + np.exp(-z))                                                 # (3)

    def log_det(z):
        return -np.log(1 + np.exp(-z))                                              # (4)

    def inverse_log_det(x):
        return -np.log(1 - np.exp(-x))                                              # (5)

    def vjp(z, x_bar, l_bar):
        return x_bar / (1 + np.exp(-z)) + l_bar / (1 + np.exp(z)), {}               # (6)

    def inverse_vjp(x, z_bar, l_bar):
        return (z_bar - l_bar * np.exp(-x)) / (1 - np.exp(-x)), {}                  # (7)


r"""In floating point.

In (1), (3) and (4), an exponential overflows on one side, and on the other 1 plus an exponential rounds to 1:
    x = max(z, 0) + L,   L = log1p(exp(-|z|))                                       (8)
    dx/dz = exp(min(z, 0)) / (1 + exp(-|z|))                                        (9)
    log|dx/dz| = min(z, 0) - L                                                      (10)
`z - x` equals (4), too, but cancels for a large `z`.

In (2), `exp(x) - 1` cancels for a small `x` and overflows for a large one:
    z = x + log(-expm1(-x))                                                         (11)
is `log x` for a small `x`, and `x` for a large one.  (11) cancels near `x = log 2`, harmlessly: `x dz/dx = x/(1 - exp(-x)) >= 1`,
so the rounding of `x` itself can move `z` by more than the rounding of the two terms, each about `log 2` there.

In (5), `1 - exp(-x)` rounds to 1 for a large `x`, and cancels for a small one.  One expression serves both:
    log|dz/dx| = L - min(z, 0)                   at z of (11)                       (12)
(12) does not lose digits to the rounding of `z`: its derivative in `z` is `-exp(-x)`, which is small wherever `|z|` is large and
(12) small.

In (6) and (7), a slope may lose digits below the smallest normal number where its product with a cotangent does not.  Products
with squares are computed as `(x_bar g) g`:
    z_bar = (x_bar g^2 + l_bar k^2) / (1 + exp(-|z|)),   g = exp(min(z, 0)/2),   k = exp(-max(z, 0)/2)          (13)
    x_bar = (z_bar - l_bar k^2) / (-expm1(-x)),   k = exp(-x/2)                     (14)
In (13), one of `g` and `k` is 1.
"""


@bijector(source="definition", domain=real, codomain=positive, increasing=True, textbook=textbook)
class Softplus(Bijector):
    """x = log(1 + exp z), from R to (0, inf)."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))                      # (1) (8)

    def inverse(self, x):
        return x + np.log(-np.expm1(-x))                                            # (2) (11)

    def log_det(self, z):
        return np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))                      # (4) (10)

    def forward_and_log_det(self, z):
        L = np.log1p(np.exp(-np.abs(z)))                                            # (8)
        return np.maximum(z, 0) + L, np.minimum(z, 0) - L                           # (1) (4) (8) (10)

    def slope(self, z):
        return np.exp(np.minimum(z, 0)) / (1 + np.exp(-np.abs(z)))                  # (3) (9)

    def inverse_and_log_det(self, x):
        z = self.inverse(x)
        return z, np.log1p(np.exp(-np.abs(z))) - np.minimum(z, 0)                   # (5) (12)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        x, log_det = self.forward_and_log_det(z)

        def pullback(x_bar, log_det_bar):
            g, k = np.exp(np.minimum(z, 0) / 2), np.exp(-np.maximum(z, 0) / 2)
            return (x_bar * g * g + log_det_bar * k * k) / (1 + np.exp(-np.abs(z))), {}    # (6) (13)

        return (x, log_det), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            k = np.exp(-x / 2)
            return (z_bar - log_det_bar * k * k) / -np.expm1(-x), {}                # (7) (14)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Tiny", "x is log 2 and z/2", z=[5e-324, -1e-160, 1e-17]),
        case("Left", "x is exp z: log(1 + exp z) without log1p returns 0", z=[-37.0, -50.0, -700.0]),
        case("Subnormal", "x is below the smallest normal number", z=[-709.0, -740.0, -745.0]),
        case("Right", "the log-det is -exp(-z): z - x returns 0", z=[37.0, 50.0, 700.0, 740.0]),
        case("Beyond", "exp z overflows, x does not", z=[709.8, 2.0**1000, -2.0**1000]),
        case("LogTwo", "z cancels to a few units of rounding",
             x=[0.693147180559945, 0.6931471805599453, 0.6931471805599454]),
        case("Small", "z is log x", x=[5e-324, 1e-310, 1e-17]),
        case("Large", "z rounds to x, log|dz/dx| is exp(-x)", x=[37.0, 40.0, 700.0, 740.0, 2.0**1000]),
    )
