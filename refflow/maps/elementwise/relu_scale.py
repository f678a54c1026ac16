r"""A rectified number above a floor as a scale, `R -> [floor, inf)`.

    sigma = max(s, 0) + floor                                                       (1)
    log sigma = log(1 + (max(s, 0) + (floor - 1)))          for 1/2 <= sigma <= 2   (2)
    d(log sigma)/ds = 1/sigma for s > 0, else 0                                     (3)

Below 0 the scale is constant: a gradient does not move such a number.  (2) keeps the digits of a logarithm near 0.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import ABOVE_0
from .scale import Scale, scale


@scale(source="Pyro")
class ReLUScale(Scale):
    """sigma = max(s, 0) + floor; constant, with gradient 0, for s <= 0."""

    floor: float = plain(1e-6, ABOVE_0)

    @staticmethod
    def definition(m, s, floor):
        return s + floor if s > 0 else s * 0 + floor                                # (1)

    def evaluate(self, s):
        above = np.maximum(s, 0)
        m, near = above + self.floor, np.log1p(above + np.float64(self.floor - 1))  # (1) (2)
        log_sigma = np.where((m >= 0.5) & (m <= 2), near, np.log(m))
        return m, np.zeros_like(s), log_sigma.astype(s.dtype)

    def log_slope(self, s):
        return (s > 0) / (np.maximum(s, 0) + self.floor), np.zeros_like(s)          # (3)

    hard_cases = (
        case("Below", "sigma is the floor", z=[-1.0, -2.0**1000, 0.0]),
        case("One", "log sigma is near 0", z=[1 - 1e-6, 1.0, 1 - 2e-6]),
        case("Floor", "a floor that is larger than the number", z=[5e-324, 1e-20, 0.1], floor=0.5),
        case("High", "log sigma is near 0 for every s near 0", z=[-1.0, 1e-3, 1e-9], floor=1.01),
    )
