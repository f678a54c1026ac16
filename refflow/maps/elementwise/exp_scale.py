r"""The exponential as a scale, `R -> (0, inf)`.

The map.  With `s + offset = w + r`, where `w` is rounded,
    sigma = m exp(w),   log sigma = w,   m = 1 + r                                  (1)

The reverse rule.  The logarithm moves as `s` does:
    d(log sigma)/ds = 1                                                             (2)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import FINITE
from .scale import Scale, scale, shifted


@scale(source="TFP, normflows, bijx, SurVAE, glow-tts")
class ExpScale(Scale):
    """sigma = exp(s + offset)."""

    offset: float = plain(0.0, FINITE)

    @staticmethod
    def definition(m, s, offset):
        return m.exp(s + offset)                                                    # (1)

    def evaluate(self, s):
        w, r = shifted(s, self.offset)
        return 1 + r, w, w                                                          # (1)

    def log_slope(self, s):
        return 1, np.zeros_like(s)                                                  # (2)

    hard_cases = (
        case("Tiny", "log sigma is s + offset, which the logarithm of a rounded sigma is not", z=[1e-20, 5e-324]),
        case("Beyond", "sigma leaves the floats, log sigma does not", z=[720.0, -760.0, 2.0**1000]),
        case("Offset", "log sigma is 0", z=[-2.0, np.nextafter(-2, 0), 1.0], offset=2.0),
        case("Large", "the offset outweighs s: the rounding of the sum would be many units", z=[0.7, 1e-3, -3.0],
             offset=-67.1),
    )
