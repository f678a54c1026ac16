r"""The exponential of a softly clipped number as a scale, `R -> (low, 1/low)`.

    log sigma = s / (1 + a),   a = |s|/b,   b = -log low                            (1)
    d(log sigma)/ds = 1 / (1 + a)^2                         for a <= 2^30           (2)
                    = r^2,   r = 1 / (1 + a)                for a >  2^30           (3)
    m = 1,   w = log sigma                                  for a <= 1
    m = low^(-sign s),   w = -sign(s) b / (1 + a)           for a > 1               (4)

(4) keeps the large constant `b` out of the exponent, where its rounding would matter although `sigma` no longer depends on
`s`.  The product with the square of (3) is taken in two factors: it may be 0 where its product with a cotangent is not.
"""

from __future__ import annotations

from math import log

import numpy as np

from ...core import case, plain
from ...core.rules import BELOW_1
from .scale import FAR, Scale, scale


@scale(source="zuko")
class SoftclipExpScale(Scale):
    """sigma = exp(s / (1 + |s / log low|)), in (low, 1/low)."""

    low: float = plain(1e-3, BELOW_1)

    @staticmethod
    def definition(m, s, low):
        return m.exp(s / (1 + abs(s / m.log(low))))                                 # (1)

    def evaluate(self, s):
        b = -log(self.low)
        a = np.abs(s) / b
        log_sigma = s / (1 + a)                                                     # (1)
        far, side = a > 1, np.sign(s)
        m = np.where(far, np.where(s > 0, 1 / self.low, self.low).astype(s.dtype), 1)
        return m, np.where(far, -side * (b / (1 + a)), log_sigma), log_sigma        # (4)

    def log_slope(self, s):
        a = np.abs(s) / -log(self.low)
        far = a > FAR
        near, r = np.where(far, 0, a), np.where(far, 1 / (1 + a), 1)                      # (3)
        return (1 / (1 + near) ** 2, r, r), np.zeros_like(s)                        # (2)

    hard_cases = (
        case("Switch", "(1) and (4) meet at |s| = -log low", z=[6.90775527898213, 6.907755278982137, 6.907755278982138]),
        case("Saturated", "sigma rounds to low or 1/low", z=[2.0**60, -2.0**60, 2.0**1000]),
        case("Tiny", "log sigma is s", z=[1e-20, 5e-324]),
    )
