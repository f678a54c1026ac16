r"""The exponential of a softly clipped number as a scale, `R -> (low, 1/low)`.

The map.  With `b = -log low` and `a = |s|/b`,
    sigma = exp(s/(1 + a))                                                          (1)

The reverse rule.  The exponent has the slope `1/(1 + a) - a/(1 + a)^2`:
    d(log sigma)/ds = 1/(1 + a)^2                                                   (2)
"""

from __future__ import annotations

from math import log

import numpy as np

from ...core import case, plain
from ...core.rules import BELOW_1
from .scale import FAR, Scale, scale


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, low):
        return np.exp(textbook.log(s, low))                                         # (1)

    def log(s, low):
        return s / (1 + abs(s) / -np.log(low))                                      # (1)

    def vjp(s, low, sigma_bar, l_bar):
        slope = 1 / (1 + abs(s) / -np.log(low)) ** 2                                # (2)
        return (sigma_bar * textbook.forward(s, low) + l_bar) * slope, {}


r"""In floating point.

In (1), the exponent of a large `|s|` is near the constant `b` or `-b`.  `sigma` hardly depends on `s` there, so the unit of error
does not cover the rounding of the exponent:
    m = 1,   w = s/(1 + a)                                  for a <= 1
    m = low^(-sign s),   w = -sign(s) b/(1 + a)             for a > 1               (3)

In (2), the square may be 0 where its product with a cotangent is not.  The square is kept in two factors:
    d(log sigma)/ds = r r,   r = 1/(1 + a)                  for a > 2^30            (4)
"""


@scale(source="zuko", textbook=textbook)
class SoftclipExpScale(Scale):
    """sigma = exp(s / (1 + |s / log low|)), in (low, 1/low)."""

    low: float = plain(1e-3, BELOW_1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        b = -log(self.low)
        a = np.abs(s) / b
        log_sigma = s / (1 + a)                                                     # (1)
        far, side = a > 1, np.sign(s)
        m = np.where(far, np.where(s > 0, 1 / self.low, self.low).astype(s.dtype), 1)
        return m, np.where(far, -side * (b / (1 + a)), log_sigma), log_sigma        # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        a = np.abs(s) / -log(self.low)
        far = a > FAR
        near, r = np.where(far, 0, a), np.where(far, 1 / (1 + a), 1)                      # (4)
        return (1 / (1 + near) ** 2, r, r), np.zeros_like(s)                        # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Switch", "the two rows of (3) meet at |s| = -log low", z=[6.90775527898213, 6.907755278982137, 6.907755278982138]),
        case("Saturated", "sigma rounds to low or 1/low", z=[2.0**60, -2.0**60, 2.0**1000]),
        case("Tiny", "log sigma is s", z=[1e-20, 5e-324]),
    )
