r"""The exponential of an arc tangent as a scale, `R -> (exp(-c pi/2), exp(c pi/2))`.

The map.  With `c = clamp factor`,
    sigma = exp(c arctan s)                                                         (1)
`c <= 32`, so that `sigma` is inside the floats of either dtype.

The reverse rule.  From the slope of the arc tangent,
    d(log sigma)/ds = c/(1 + s^2)                                                   (2)
"""

from __future__ import annotations

from math import exp

import numpy as np

from ...core import case, plain, refusal
from ...core.pairs import Pair
from ...core.rules import ABOVE_0
from .scale import FAR, Scale, scale

HALF_PI = Pair(np.float64(1.5707963267948966), np.float64(6.123233995736766e-17))
LARGEST = 32                                        # c


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, clamp, factor):
        return np.exp(textbook.log(s, clamp, factor))                               # (1)

    def log(s, clamp, factor):
        return clamp * factor * np.arctan(s)                                        # (1)

    def vjp(s, clamp, factor, sigma_bar, l_bar):
        slope = clamp * factor / (1 + s ** 2)                                       # (2)
        return (sigma_bar * textbook.forward(s, clamp, factor) + l_bar) * slope, {}


r"""In floating point.

In (1), the exponent of a large `s` is near the constant `c pi/2`.  `sigma` hardly depends on `s` there, and the unit of error
does not cover the rounding of the exponent.  The constant is a sum of two floats, and `exp(high + low) = exp(high) (1 + low)`:
    m = 1,   w = c arctan s                                 for |s| <= 1
    m = exp(sign(s) c pi/2),   w = -c arctan(1/s)           for |s| >  1            (3)

In (2), `s^2` overflows, and the quotient may be 0 where its product with a cotangent is not.  It is kept as a product:
    d(log sigma)/ds = c r r,   r = 1/s                      for |s| >  2^30, rounded        (4)
"""


@scale(source="FrEIA", textbook=textbook)
class ArctanExpScale(Scale):
    """sigma = exp(clamp factor arctan s); the source's 0.636 is nearly 2/pi.  ValueError unless clamp factor <= 32."""

    clamp: float = plain(2.0, ABOVE_0)
    factor: float = plain(0.636, ABOVE_0)

    def _validate(self):
        super()._validate()
        if not self.clamp * self.factor <= LARGEST:
            raise ValueError(f"ArctanExpScale: clamp factor must be <= {LARGEST}; clamp = {self.clamp}, factor = {self.factor}")

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        c, limit = self.clamp * self.factor, HALF_PI * self.clamp * self.factor
        far, log_sigma = np.abs(s) > 1, c * np.arctan(s)                            # (1)
        ends = exp(limit.high) * (1 + limit.low), exp(-limit.high) * (1 - limit.low)
        m = np.where(far, np.where(s > 0, *ends).astype(s.dtype), 1)                # (3)
        return m, np.where(far, -c * np.arctan(1 / s), log_sigma), log_sigma        # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        far = np.abs(s) > FAR
        near, r = np.where(far, 0, s), np.where(far, 1 / s, 1)                      # (4)
        return (self.clamp * self.factor / (1 + near * near), r, r), np.zeros_like(s)       # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "log sigma is clamp factor s", z=[1e-20, 5e-324]),
        case("Switch", "the two rows of (3) meet", z=[1.0, np.nextafter(1, 2), -1.0, np.nextafter(-1, -2)]),
        case("Far", "s^2 overflows, the slope vanishes", z=[2.0**600, -2.0**1000, 1e8]),
        case("Wide", "the rounding of c pi/2 would be many units", z=[0.99, 1.01, -40.0, 1e8, -2.0**1000], clamp=31.0,
             factor=1.03),
        case("Widest", "clamp factor is the largest that is accepted", z=[0.5, -3.0], clamp=64.0, factor=0.5),
    )
    refused = (
        refusal("clamp factor must be <= 32", clamp=1000.0),
        refusal("clamp factor must be <= 32", clamp=17.0, factor=2.0),
    )
