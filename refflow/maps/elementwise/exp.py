r"""Exponential, `R -> (0, inf)`.

The map.  For every real `z`,
    x = exp z                                                                       (1)
    z = log x                                                                       (2)
    dx/dz = exp z                                                                   (3)
    log|dx/dz| = z                                                                  (4)
    log|dz/dx| = -log x                                                             (5)

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    z_bar = x_bar exp z + l_bar                                                     (6)
For the inverse map, `dz/dx = 1/x`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar - l_bar) / x                                                     (7)

Source: NIST DLMF 4.2.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, positive, real


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return np.exp(z)                                                            # (1)

    def inverse(x):
        return np.log(x)                                                            # (2)

    def slope(z):
        return np.exp(z)                                                            # (3)

    def log_det(z):
        return z                                                                    # (4)

    def inverse_log_det(x):
        return -np.log(x)                                                           # (5)

    def vjp(z, x_bar, l_bar):
        return x_bar * np.exp(z) + l_bar, {}                                        # (6)

    def inverse_vjp(x, z_bar, l_bar):
        return (z_bar - l_bar) / x, {}                                              # (7)


r"""In floating point.

In (6), `exp z` itself may overflow, or lose digits below the smallest normal number, where `x_bar exp z` does neither:
    z_bar = (x_bar h) h + l_bar,   h = exp(z/2)                                     (8)
A cotangent 0 stays 0 whatever `h` is: `0 inf` would be NaN.
"""


@bijector(source="DLMF 4.2", domain=real, codomain=positive, increasing=True, textbook=textbook)
class Exp(Bijector):
    """x = exp z, from R to (0, inf)."""

    event_ndim = (0, 0)

    @staticmethod
    def inverse_definition(m, x):
        return m.log(x)                                                             # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.exp(z)                                                            # (1)

    def inverse(self, x):
        return np.log(x)                                                            # (2)

    def log_det(self, z):
        return np.array(z)                                                          # (4)

    def slope(self, z):
        return np.exp(z)                                                            # (3)

    def inverse_and_log_det(self, x):
        z = np.log(x)                                                               # (2)
        return z, -z                                                                # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            h = np.exp(z / 2)                                                       # (8)
            return np.where(x_bar == 0, 0, x_bar * h * h) + log_det_bar, {}         # (6) (8)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return (z_bar - log_det_bar) / x, {}                                    # (7)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Tiny", "x rounds to 1: nothing of z is left in it", z=[5e-324, -1e-160, 1e-17]),
        case("Subnormal", "x is below the smallest normal number, x_bar exp z need not be", z=[-709.0, -740.0, -745.0]),
        case("Overflow", "the last z whose x is finite, and the next ones", z=[709.78, 709.79, 740.0]),
        case("Beyond", "exp z overflows or vanishes: the log-det is still z", z=[2.0**1000, -2.0**1000]),
        case("NearOne", "log x is x - 1, one unit of rounding", x=[np.nextafter(1, 0), 1.0, np.nextafter(1, 2)]),
        case("SmallestImage", "log of a subnormal number, slope of the inverse near overflow", x=[5e-324, 1e-310]),
    )
