r"""The exponential of an exponential as a scale, `R -> (low, inf)`.

    log sigma = b (exp(v) - 1),   v = rate s,   b = -log low                        (1)
    d(log sigma)/ds = b rate exp(v)                                                 (2)
    m = 1,   w = log sigma                                  for exp(v) >= 1/2
    m = low + low (exp(b exp v) - 1),   w = 0               for exp(v) < 1/2        (3)
    log sigma = b rate s                                    for subnormal v         (4)

(3) keeps the large constant `b` out of the exponent, where its rounding would matter although `sigma` no longer depends on
`s`, and the exponential, whose rounding would matter too, out of what is near `low`.  In (4) `b` would magnify the rounding of
`v`.
"""

from __future__ import annotations

from math import log

import numpy as np

from ...core import case, plain
from ...core.rules import ABOVE_0, BELOW_1
from .scale import Scale, scale


@scale(source="torchflows")
class DoubleExpScale(Scale):
    """sigma = low^(1 - exp(rate s)), in (low, inf)."""

    low: float = plain(1e-3, BELOW_1)
    rate: float = plain(0.01, ABOVE_0)

    @staticmethod
    def definition(m, s, low, rate):
        return m.exp(-m.log(low) * m.expm1(rate * s))                               # (1)

    def evaluate(self, s):
        b, v, low = -log(self.low), self.rate * s, s.dtype.type(self.low)
        far = v < -log(2)
        subnormal = np.abs(v) < np.finfo(v.dtype).smallest_normal
        log_sigma = np.where(subnormal, b * self.rate * s, b * np.expm1(v))         # (1) (4)
        near_low = low + low * np.expm1(b * np.exp(np.minimum(v, -log(2))))         # (3)
        return np.where(far, near_low, s.dtype.type(1)), np.where(far, 0, log_sigma), log_sigma     # (3)

    def log_slope(self, s):
        return -log(self.low) * self.rate, self.rate * s                            # (2)

    hard_cases = (
        case("Floor", "sigma rounds to low", z=[-1e4, -2.0**1000]),
        case("Switch", "(1) and (3) meet at v = -log 2", z=[-69.31471805599452, -69.31471805599453, -69.31471805599455]),
        case("Subnormal", "v loses digits that log sigma keeps", z=[3e-321, -3e-42], low=1e-30, rate=0.01),
        case("Beyond", "sigma overflows, log sigma does not", z=[500.0, 7e4]),
    )
