r"""Scaling by the exponential of a parameter, `R -> R` (NICE: Dinh, Krueger & Bengio, arXiv:1410.8516, section 3.3).

    x = z exp(s)                                                                    (1)
    z = x exp(-s)                                                                   (2)
    dx/dz = exp(s)                                                                  (3)
    log|dx/dz| = s                                                                  (4)
The log-det is `s` itself, and products keep their digits where `exp(s)` leaves the floats: with `exp(s) = exp(e) h h` as in
`scale`.

Reverse rule, from (1) and (4):
    z_bar = x_bar exp(s)                                                            (5)
    s_bar = x_bar z exp(s) + log_det_bar                                            (6)
and for the inverse map, whose log-det is `-s`, from (2):
    x_bar = z_bar exp(-s)                                                           (7)
    s_bar = -z_bar x exp(-s) - log_det_bar                                          (8)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, real
from .scale import scaled


@bijector(source="arXiv:1410.8516", domain=real, codomain=real, increasing=True, constant_log_det=True)
class Homothety(Bijector):
    """x = z exp(s)."""

    s: Array = real(default=0.0)
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, s):
        return z * m.exp(s)                                                         # (1)

    def forward(self, z):
        return scaled(z, 1, self.s)                                                 # (1)

    def inverse(self, x):
        return scaled(x, 1, -self.s)                                                # (2)

    def log_det(self, z):
        return np.broadcast_to(self.s, z.shape)                                     # (4)

    def slope(self, z):
        return scaled(np.ones_like(z), 1, self.s)                                   # (3)

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            s_bar = scaled(z, x_bar, self.s) + log_det_bar                          # (6)
            return scaled(x_bar, 1, self.s), {"s": s_bar}                           # (5)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            s_bar = -scaled(x, z_bar, -self.s) - log_det_bar                        # (8)
            return scaled(z_bar, 1, -self.s), {"s": s_bar}                          # (7)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Unit", "the identity: log-det is 0", z=[0.0, 1.0], x=[0.0, 1.0], s=0.0),
        case("Small", "log-det is s: the logarithm of a rounded scale returns 0", z=[1.0], x=[1.0], s=1e-20),
        case("Beyond", "exp(s) overflows, its product with z does not", z=[5e-324, 0.0], x=[2.0**1000], s=720.0),
        case("Vanishing", "exp(s) underflows, its product with z does not", z=[2.0**1000], x=[5e-324, 0.0], s=-760.0),
    )
