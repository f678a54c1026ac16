r"""Scaling by the exponential of a parameter, `R -> R` (NICE: Dinh, Krueger & Bengio, arXiv:1410.8516, section 3.3).

The map.  The log-det is the parameter `s` itself:
    x = z exp(s)                                                                    (1)
    z = x exp(-s)                                                                   (2)
    dx/dz = exp(s)                                                                  (3)
    log|dx/dz| = s                                                                  (4)

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    z_bar = x_bar exp(s)                                                            (5)
    s_bar = x_bar z exp(s) + l_bar                                                  (6)
For the inverse map, from (2), with the cotangent `l_bar` of its log-det `-s`,
    x_bar = z_bar exp(-s)                                                           (7)
    s_bar = -z_bar x exp(-s) - l_bar                                                (8)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, real
from .scale import scaled


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def forward(z, s):
        return z * np.exp(s)                                                        # (1)

    def inverse(x, s):
        return x * np.exp(-s)                                                       # (2)

    def slope(z, s):
        return np.exp(s)                                                            # (3)

    def log_det(z, s):
        return s                                                                    # (4)

    def inverse_log_det(x, s):
        return -s                                                                   # (4)

    def vjp(z, s, x_bar, l_bar):
        return x_bar * np.exp(s), {"s": x_bar * z * np.exp(s) + l_bar}              # (5) (6)

    def inverse_vjp(x, s, z_bar, l_bar):
        return z_bar * np.exp(-s), {"s": -z_bar * x * np.exp(-s) - l_bar}           # (7) (8)


r"""In floating point.

In (1) to (8), `exp(s)` may leave the floats where its product does not.  With an `E` for which `exp(E)` is
safely inside the floats, as in `scale`,
    z exp(s) = z exp(e) h h,   e = max(-E, min(s, E)),   h = exp((s - e)/2)         (9)
where the exponents of 2 are added apart from the mantissas.  The product is 0 if `z` is 0, even if `h` is infinite.
"""


@bijector(source="arXiv:1410.8516", domain=real, codomain=real, increasing=True, constant_log_det=True, textbook=textbook)
class Homothety(Bijector):
    """x = z exp(s)."""

    s: Array = real(default=0.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return scaled(z, 1, self.s)                                                 # (1) (9)

    def inverse(self, x):
        return scaled(x, 1, -self.s)                                                # (2) (9)

    def log_det(self, z):
        return np.broadcast_to(self.s, z.shape)                                     # (4)

    def slope(self, z):
        return scaled(np.ones_like(z), 1, self.s)                                   # (3) (9)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            s_bar = scaled(z, x_bar, self.s) + log_det_bar                          # (6) (9)
            return scaled(x_bar, 1, self.s), {"s": s_bar}                           # (5) (9)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            s_bar = -scaled(x, z_bar, -self.s) - log_det_bar                        # (8) (9)
            return scaled(z_bar, 1, -self.s), {"s": s_bar}                          # (7) (9)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Unit", "the identity: log-det is 0", z=[0.0, 1.0], x=[0.0, 1.0], s=0.0),
        case("Small", "log-det is s: the logarithm of a rounded scale returns 0", z=[1.0], x=[1.0], s=1e-20),
        case("Beyond", "exp(s) overflows, its product with z does not", z=[5e-324, 0.0], x=[2.0**1000], s=720.0),
        case("Vanishing", "exp(s) underflows, its product with z does not", z=[2.0**1000], x=[5e-324, 0.0], s=-760.0),
    )
