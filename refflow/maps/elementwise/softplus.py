r"""Softplus, `R -> (0, inf)`.

    x = log(1 + exp z)                                                              (1)
      = max(z, 0) + L,   L = log(1 + exp(-|z|))                                     (2)
    z = log(exp(x) - 1) = x + log(1 - exp(-x))                                      (3)
    dx/dz = 1 / (1 + exp(-z)) = exp(min(z, 0)) / (1 + exp(-|z|))                    (4)
    log|dx/dz| = min(z, 0) - L                                                      (5)
    log|dz/dx| = L - min(z, 0)                   at z of (3)                        (6)

(2) and (5) never take exp of a positive number; `z - x` would be (5) too, but cancels for large `z`.

(3) is exact for small `x`, where it is `log x`, and for large `x`, where it is `x`.  It cancels near `x = log 2`, harmlessly:
`x dz/dx = x / (1 - exp(-x)) >= 1`, so the rounding of `x` itself can move `z` by more than the rounding of the two terms, each
about `log 2` there.  Nor does (6) lose digits to the rounding of `z`: its derivative in `z` is `-exp(-x)`, which is small
wherever `|z|` is large and (6) small.  It needs no branch, unlike `-log(1 - exp(-x))`.

Reverse rule.  `dx/dz` is (4), and `d/dz` of (5) is `1 - dx/dz = exp(-max(z, 0)) / (1 + exp(-|z|))`, so
    z_bar = (x_bar g^2 + log_det_bar k^2) / (1 + exp(-|z|)),   g = exp(min(z, 0)/2),   k = exp(-max(z, 0)/2)        (7)
where one of `g` and `k` is 1; and for the inverse map, from `dz/dx = 1 / (1 - exp(-x))` and
`log|dz/dx| = -log(1 - exp(-x))`,
    x_bar = (z_bar - log_det_bar k^2) / (1 - exp(-x)),   k = exp(-x/2)              (8)
The products with squares are computed as `(x_bar g) g`: `g^2` may lose digits below the smallest normal number where
`x_bar g^2` does not.

Source: Dugas, Bengio, Belisle, Nadeau & Garcia, NIPS 2000; the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, positive, real


@bijector(source="definition", domain=real, codomain=positive, increasing=True)
class Softplus(Bijector):
    """x = log(1 + exp z), from R to (0, inf)."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z):
        return m.log1p(m.exp(z))                                                    # (1)

    def forward(self, z):
        return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))                      # (2)

    def inverse(self, x):
        return x + np.log(-np.expm1(-x))                                            # (3)

    def log_det(self, z):
        return np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))                      # (5)

    def forward_and_log_det(self, z):
        L = np.log1p(np.exp(-np.abs(z)))
        return np.maximum(z, 0) + L, np.minimum(z, 0) - L                           # (2) (5)

    def slope(self, z):
        return np.exp(np.minimum(z, 0)) / (1 + np.exp(-np.abs(z)))                  # (4)

    def inverse_and_log_det(self, x):
        z = self.inverse(x)
        return z, np.log1p(np.exp(-np.abs(z))) - np.minimum(z, 0)                   # (6)

    def vjp(self, z):
        x, log_det = self.forward_and_log_det(z)

        def pullback(x_bar, log_det_bar):
            g, k = np.exp(np.minimum(z, 0) / 2), np.exp(-np.maximum(z, 0) / 2)
            return (x_bar * g * g + log_det_bar * k * k) / (1 + np.exp(-np.abs(z))), {}     # (7)

        return (x, log_det), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            k = np.exp(-x / 2)
            return (z_bar - log_det_bar * k * k) / -np.expm1(-x), {}                # (8)

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
