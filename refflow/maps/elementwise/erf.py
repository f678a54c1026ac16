r"""Error function, `R -> (-1, 1)`.

The map.  For every real `z`,
    x = erf z = (2/sqrt(pi)) int_0^z exp(-s^2) ds                                   (1)
    z = erf^-1(x)                                                                   (2)
    dx/dz = (2/sqrt(pi)) exp(-z^2)                                                  (3)
    log|dx/dz| = log(2/sqrt(pi)) - z^2                                              (4)
    log|dz/dx| = z^2 - log(2/sqrt(pi))                                              (5)

The reverse rule.  The derivative of (4) is `-2 z`, so with the cotangent `l_bar` of (4),
    z_bar = x_bar (2/sqrt(pi)) exp(-z^2) - 2 l_bar z                                (6)
For the inverse map, `dz/dx = (sqrt(pi)/2) exp(z^2)`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar + 2 l_bar z) (sqrt(pi)/2) exp(z^2)                               (7)

Source: NIST DLMF 7.2.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from ...core import Bijector, bijector, case, interval, real
from ...core.arithmetic import factors_of_exp, times

SLOPE_AT_0 = 2 / math.sqrt(math.pi)
LOG_SLOPE_AT_0 = math.log(4 / math.pi) / 2


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return scipy.special.erf(z)                                                 # (1)

    def inverse(x):
        return scipy.special.erfinv(x)                                              # (2)

    def slope(z):
        return 2 / np.pi**0.5 * np.exp(-(z**2))                                     # (3)

    def log_det(z):
        return np.log(2 / np.pi**0.5) - z**2                                        # (4)

    def inverse_log_det(x):
        return scipy.special.erfinv(x) ** 2 - np.log(2 / np.pi**0.5)                # (5)

    def vjp(z, x_bar, l_bar):
        return x_bar * 2 / np.pi**0.5 * np.exp(-(z**2)) - 2 * l_bar * z, {}         # (6)

    def inverse_vjp(x, z_bar, l_bar):
        z = scipy.special.erfinv(x)                                                 # (2)
        return (z_bar + 2 * l_bar * z) * np.pi**0.5 / 2 * np.exp(z**2), {}          # (7)


r"""In floating point.

In (3) and (6), `exp(-z^2)` may be subnormal, or 0, where its product with a large factor is not.  A product `(c h) i` keeps its
digits as long as it does not underflow:
    exp(-z^2) = h i,   h = i = exp(-z^2/2)               where exp(-z^2) is not a normal number     (8)
                       h = exp(-z^2),   i = 1            elsewhere

In (7), `z` may be subnormal where `2 l_bar z` is not:
    2 l_bar z = (2 l_bar x)/(2/sqrt(pi))                 where z is subnormal       (9)

In (7), `z` is infinite at the ends of (-1, 1): a cotangent 0 makes its term 0.                                 (10)
"""


@bijector(source="DLMF 7.2", domain=real, codomain=interval(-1, 1), increasing=True, textbook=textbook)
class Erf(Bijector):
    """x = erf z, from R to (-1, 1)."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return scipy.special.erf(z)                                                 # (1)

    def inverse(self, x):
        return scipy.special.erfinv(x)                                              # (2)

    def log_det(self, z):
        return LOG_SLOPE_AT_0 - z * z                                               # (4)

    def slope(self, z):
        h, i = factors_of_exp(-z * z)
        return SLOPE_AT_0 * h * i                                                   # (3) (8)

    def inverse_and_log_det(self, x):
        z = scipy.special.erfinv(x)                                                 # (2)
        return z, z * z - LOG_SLOPE_AT_0                                            # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            h, i = factors_of_exp(-z * z)
            return x_bar * SLOPE_AT_0 * h * i - 2 * log_det_bar * z, {}             # (6) (8)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        z = scipy.special.erfinv(x)                                                 # (2)

        def pullback(z_bar, log_det_bar):
            bend = np.where(np.abs(x) < 2 * np.finfo(x.dtype).tiny, 2 * log_det_bar * x / SLOPE_AT_0, times(2 * log_det_bar, z))  # (9)
            return times((z_bar + bend) / SLOPE_AT_0, np.exp(z * z)), {}            # (7) (10)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "x is z times the slope at 0", z=[5e-324, -1e-310, 1e-12, 1e-9]),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[5.9, -6.0, 20.0, 26.0]),
        case("Subnormal", "exp(-z^2) is below the smallest normal number, x_bar h h need not be", z=[26.6, -27.2, 27.6]),
        case("Beyond", "z^2 overflows", z=[1.4e154, -2.0**1000]),
        case("UnitSlope", "log-det passes through 0", z=[0.34753, -0.347538], x=[0.3769]),
        case("TinyImage", "z is x over the slope at 0", x=[5e-324, -1e-310, 1e-12, 1e-9]),
        case("NearOne", "the last floats inside", x=[np.nextafter(1, 0), np.nextafter(-1, 0), 0.9999]),
    )
