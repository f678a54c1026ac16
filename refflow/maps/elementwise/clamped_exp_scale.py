r"""The exponential of a clamped number as a scale, `R -> [exp low, exp high]`.

The map.  With the clamped number `min(max(s, low), high) = w + r`, where `w` is rounded,
    sigma = m exp(w),   log sigma = w,   m = 1 + r                                  (1)

The reverse rule.  Beyond the clamp the scale is constant:
    d(log sigma)/ds = 1 between low and high, and beyond them 0                     (2)
or 1 beyond them too, if the gradient is declared to pass straight through the clamp.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain, refusal
from ...core.rules import FINITE, FLAG
from .scale import Scale, scale


@scale(source="TFP, Pyro, NumPyro")
class ClampedExpScale(Scale):
    """sigma = exp(min(max(s, low), high)).

    `straight_through`: the gradient of s ignores the clamp; beyond the clamp it is not the derivative.
    """

    low: float = plain(-5.0, FINITE)
    high: float = plain(3.0, FINITE)
    straight_through: bool = plain(False, FLAG)

    def _validate(self):
        super()._validate()
        if not self.low < self.high:
            raise ValueError(f"ClampedExpScale: low must be < high; low = {self.low}, high = {self.high}")

    @staticmethod
    def definition(m, s, low, high, straight_through):
        if s < low:
            return m.exp(m.mpf(low))                                                # (1)
        if s > high:
            return m.exp(m.mpf(high))                                               # (1)
        return m.exp(s)                                                             # (1)

    def evaluate(self, s):
        clamped = np.clip(s, np.float64(self.low), np.float64(self.high))
        w = clamped.astype(s.dtype)
        return 1 + (clamped - w).astype(s.dtype), w, w                              # (1)

    def log_slope(self, s):
        inside = (s >= np.float64(self.low)) & (s <= np.float64(self.high)) | self.straight_through
        return inside.astype(s.dtype), np.zeros_like(s)                             # (2)

    hard_cases = (
        case("Clamped", "the slope is 0 beyond both ends", z=[-5.5, 3.5, 2.0**1000, -2.0**1000]),
        case("Ends", "at an end the slope is 1, beyond it 0",
             z=[np.nextafter(-5, 0), np.nextafter(-5, -6), np.nextafter(3, 0), np.nextafter(3, 4)]),
        case("Tight", "sigma is nearly 1 for every s", z=[1e-3, -1e-3, 1.0], low=-2.0**-20, high=2.0**-20),
        case("Far", "ends of many digits: their rounding would be many units", z=[-40.0, 1.0, 40.0], low=-19.1, high=19.1),
    )
    refused = (
        refusal("low must be < high", low=1.0, high=1.0),
    )
