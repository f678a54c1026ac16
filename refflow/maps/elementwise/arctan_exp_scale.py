r"""The exponential of an arc tangent as a scale, `R -> (exp(-c pi/2), exp(c pi/2))`.

    log sigma = c arctan s,   c = clamp factor                                      (1)
    d(log sigma)/ds = c / (1 + s^2)                         for |s| <= 2^30         (2)
                    = c r^2,   r = 1/s                      for |s| >  2^30, rounded        (3)
    m = 1,   w = log sigma                                  for |s| <= 1
    m = exp(sign(s) c pi/2),   w = -c arctan(1/s)           for |s| >  1            (4)
if that `m` is far inside the floats, else (1) everywhere.

(4) keeps the constant `c pi/2` out of the exponent, where its rounding would matter although `sigma` hardly depends on `s`.
The product with the square of (3) is taken in two factors: it may be 0 where its product with a cotangent is not.
"""

from __future__ import annotations

from math import exp, pi

import numpy as np

from ...core import case, plain
from ...core.rules import ABOVE_0
from .scale import FAR, SAFE, Scale, scale


@scale(source="FrEIA")
class ArctanExpScale(Scale):
    """sigma = exp(clamp factor arctan s); the source's 0.636 is nearly 2/pi."""

    clamp: float = plain(2.0, ABOVE_0)
    factor: float = plain(0.636, ABOVE_0)

    @staticmethod
    def definition(m, s, clamp, factor):
        return m.exp(m.atan(s) * clamp * factor)                                    # (1)

    def evaluate(self, s):
        c = self.clamp * self.factor
        log_sigma = c * np.arctan(s)                                                # (1)
        if c * pi / 2 > SAFE[s.dtype]:
            return 1, log_sigma, log_sigma
        far = np.abs(s) > 1
        m = np.where(far, np.where(s > 0, exp(c * pi / 2), exp(-c * pi / 2)).astype(s.dtype), 1)        # (4)
        return m, np.where(far, -c * np.arctan(1 / s), log_sigma), log_sigma        # (4)

    def log_slope(self, s):
        far = np.abs(s) > FAR
        near, r = np.where(far, 0, s), np.where(far, 1 / s, 1)                      # (3)
        return (self.clamp * self.factor / (1 + near * near), r, r), np.zeros_like(s)       # (2)

    hard_cases = (
        case("Tiny", "log sigma is clamp factor s", z=[1e-20, 5e-324]),
        case("Switch", "(1) and (4) meet", z=[1.0, np.nextafter(1, 2), -1.0, np.nextafter(-1, -2)]),
        case("Far", "s^2 overflows, the slope vanishes", z=[2.0**600, -2.0**1000, 1e8]),
    )
