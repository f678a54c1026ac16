r"""The exponential of an exponential as a scale, `R -> (low, inf)`.

The map.  With `v = rate s` and `b = -log low`,
    sigma = exp(b (exp(v) - 1))                                                     (1)

The reverse rule.  The logarithm of (1) is `b (exp(v) - 1)`, so that
    d(log sigma)/ds = b rate exp(v)                                                 (2)
"""

from __future__ import annotations

from math import log

import numpy as np

from ...core import case, plain
from ...core.rules import ABOVE_0, BELOW_1
from .scale import Scale, scale


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, low, rate):
        return np.exp(textbook.log(s, low, rate))                                   # (1)

    def log(s, low, rate):
        return -np.log(low) * (np.exp(rate * s) - 1)                                # (1)

    def vjp(s, low, rate, sigma_bar, l_bar):
        slope = -np.log(low) * rate * np.exp(rate * s)                              # (2)
        return (sigma_bar * textbook.forward(s, low, rate) + l_bar) * slope, {}


r"""In floating point.

In (1), `exp(v) - 1` cancels for a small `v`, and for a subnormal `v` the factor `b` magnifies the rounding of `v`:
    log sigma = b expm1(v)                                                          (3)
              = b rate s                                    for subnormal v         (4)

In (1), the exponent is near the large constant `-b` where `sigma` is near `low`.  `sigma` hardly depends on `s` there, and the
unit of error does not cover the roundings of the exponent and of the exponential:
    m = 1,   w = log sigma                                  for exp(v) >= 1/2
    m = low + low expm1(b exp v),   w = 0                   for exp(v) < 1/2        (5)
"""


@scale(source="torchflows", textbook=textbook)
class DoubleExpScale(Scale):
    """sigma = low^(1 - exp(rate s)), in (low, inf)."""

    low: float = plain(1e-3, BELOW_1)
    rate: float = plain(0.01, ABOVE_0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        b, v, low = -log(self.low), self.rate * s, s.dtype.type(self.low)
        far = v < -log(2)
        subnormal = np.abs(v) < np.finfo(v.dtype).smallest_normal                   # (4)
        log_sigma = np.where(subnormal, b * self.rate * s, b * np.expm1(v))         # (3) (4)
        near_low = low + low * np.expm1(b * np.exp(np.minimum(v, -log(2))))         # (5)
        return np.where(far, near_low, s.dtype.type(1)), np.where(far, 0, log_sigma), log_sigma     # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        return -log(self.low) * self.rate, self.rate * s                            # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Floor", "sigma rounds to low", z=[-1e4, -2.0**1000]),
        case("Switch", "the two rows of (5) meet at v = -log 2", z=[-69.31471805599452, -69.31471805599453, -69.31471805599455]),
        case("Subnormal", "v loses digits that log sigma keeps", z=[3e-321, -3e-42], low=1e-30, rate=0.01),
        case("Beyond", "sigma overflows, log sigma does not", z=[500.0, 7e4]),
    )
