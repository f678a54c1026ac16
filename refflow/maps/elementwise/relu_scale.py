r"""A rectified number above a floor as a scale, `R -> [floor, inf)`.

The map.  For every real `s`,
    sigma = max(s, 0) + floor                                                       (1)

The reverse rule.  Below 0 the scale is constant, and a gradient does not move `s`:
    d(log sigma)/ds = 1/sigma for s > 0, else 0                                     (2)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import ABOVE_0
from .scale import Scale, scale


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, floor):
        return max(s, 0) + floor                                                    # (1)

    def log(s, floor):
        return np.log(textbook.forward(s, floor))                                   # (1)

    def vjp(s, floor, sigma_bar, l_bar):
        sigma = textbook.forward(s, floor)
        return (sigma_bar * sigma + l_bar) * (1 / sigma if s > 0 else 0), {}        # (2)


r"""In floating point.

In (1), a rounded `sigma` near 1 has few digits of its logarithm:
    log sigma = log1p(max(s, 0) + (floor - 1))              for 1/2 <= sigma <= 2   (3)
"""


@scale(source="Pyro", textbook=textbook)
class ReLUScale(Scale):
    """sigma = max(s, 0) + floor; constant, with gradient 0, for s <= 0."""

    floor: float = plain(1e-6, ABOVE_0)

    @staticmethod
    def definition(m, s, floor):
        return s + floor if s > 0 else s * 0 + floor                                # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        above = np.maximum(s, 0)
        m, near = above + self.floor, np.log1p(above + np.float64(self.floor - 1))  # (1) (3)
        log_sigma = np.where((m >= 0.5) & (m <= 2), near, np.log(m))
        return m, np.zeros_like(s), log_sigma.astype(s.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        return (s > 0) / (np.maximum(s, 0) + self.floor), np.zeros_like(s)          # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Below", "sigma is the floor", z=[-1.0, -2.0**1000, 0.0]),
        case("One", "log sigma is near 0", z=[1 - 1e-6, 1.0, 1 - 2e-6]),
        case("Floor", "a floor that is larger than the number", z=[5e-324, 1e-20, 0.1], floor=0.5),
        case("High", "log sigma is near 0 for every s near 0", z=[-1.0, 1e-3, 1e-9], floor=1.01),
    )
