r"""Exponential minus 1, `R -> (-1, inf)`; its inverse is log1p.

The map.  For every real `z`,
    x = exp(z) - 1                                                                  (1)
    z = log(1 + x)                                                                  (2)
    dx/dz = exp z                                                                   (3)
    log|dx/dz| = z                                                                  (4)
    log|dz/dx| = -log(1 + x)                                                        (5)

The reverse rule.  From (3) and (4), with the cotangent `l_bar` of (4),
    z_bar = x_bar exp z + l_bar                                                     (6)
For the inverse map, `dz/dx = 1/(1 + x)`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar - l_bar) / (1 + x)                                               (7)

Source: NIST DLMF 4.2, 4.5.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval, real
from ...core.arithmetic import quotient, times


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return np.exp(z) - 1                                                        # (1)

    def inverse(x):
        return np.log(1 + x)                                                        # (2)

    def slope(z):
        return np.exp(z)                                                            # (3)

    def log_det(z):
        return z                                                                    # (4)

    def inverse_log_det(x):
        return -np.log(1 + x)                                                       # (5)

    def vjp(z, x_bar, l_bar):
        return x_bar * np.exp(z) + l_bar, {}                                        # (6)

    def inverse_vjp(x, z_bar, l_bar):
        return (z_bar - l_bar) / (1 + x), {}                                        # (7)


r"""In floating point.

In (1), `exp(z) - 1` cancels for a small `z`, as do (2) and (5) for a small `x`, where `1 + x` rounds to 1.  The functions `expm1`
and `log1p` keep the digits there:
    x = expm1(z),   z = log1p(x)                                                    (8)

In (6), `exp z` itself may overflow, or lose digits below the smallest normal number, where `x_bar exp z` does neither:
    z_bar = (x_bar h) h + l_bar,   h = exp(z/2)                                     (9)

In (7), `1 + x` is 0 at the end `x = -1`, which an event may be; equal cotangents cancel there to 0.            (10)
"""


@bijector(source="DLMF 4.2", domain=real, codomain=interval(-1, np.inf), increasing=True, textbook=textbook)
class Expm1(Bijector):
    """x = exp(z) - 1, from R to (-1, inf); its inverse is log(1 + x)."""

    event_ndim = (0, 0)

    @staticmethod
    def inverse_definition(m, x):
        return m.log(1 + x)                                                          # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.expm1(z)                                                          # (1) (8)

    def inverse(self, x):
        return np.log1p(x)                                                          # (2) (8)

    def log_det(self, z):
        return np.array(z)                                                          # (4)

    def slope(self, z):
        return np.exp(z)                                                            # (3)

    def inverse_and_log_det(self, x):
        z = np.log1p(x)                                                             # (2) (8)
        return z, -z                                                                # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            h = np.exp(z / 2)                                                       # (9)
            return times(x_bar, h, h) + log_det_bar, {}                             # (6) (9)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return quotient(z_bar - log_det_bar, 1 + x), {}                         # (7) (10)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "x is z: exp(z) - 1 returns 0", z=[5e-324, -1e-160, 1e-17, 1e-12]),
        case("Saturated", "x rounds to -1, the slope does not round to 0", z=[-37.0, -50.0, -700.0]),
        case("Subnormal", "exp z is below the smallest normal number, x_bar exp z need not be", z=[-709.0, -740.0, -745.0]),
        case("Overflow", "the last z whose x is finite, and the next ones", z=[709.78, 709.79, 740.0]),
        case("Beyond", "exp z overflows or vanishes: the log-det is still z", z=[2.0**1000, -2.0**1000]),
        case("TinyImage", "z is x: log(1 + x) returns 0", x=[5e-324, -1e-310, 1e-17]),
        case("NearEnd", "the first floats above -1", x=[np.nextafter(-1, 0), -0.9999999]),
        case("FarImage", "the largest events", x=[2.0**53, 2.0**1000]),
    )
