r"""A softplus above a floor, shifted to be 1 at 0, as a scale, `R -> (floor, inf)`.

The map.  With `softplus v = log(1 + exp v)`,
    sigma = floor + softplus v,   v = s + c,   c = log(exp(1 - floor) - 1)          (1)

The reverse rule.  The slope of `softplus v` is `sigmoid v = 1/(1 + exp(-v))`, so that
    d(log sigma)/ds = sigmoid(v)/sigma                                              (2)
"""

from __future__ import annotations

import functools
from math import expm1

import numpy as np

from ...core import case, plain
from ...core.pairs import exp, log, pair
from ...core.rules import BELOW_1
from .scale import Scale, logistic, scale


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, floor):
        return floor + np.log(1 + np.exp(s + np.log(np.exp(1 - floor) - 1)))        # (1)

    def log(s, floor):
        return np.log(textbook.forward(s, floor))                                   # (1)

    def vjp(s, floor, sigma_bar, l_bar):
        sigma, v = textbook.forward(s, floor), s + np.log(np.exp(1 - floor) - 1)
        slope = 1 / (1 + np.exp(-v)) / sigma                                        # (2)
        return (sigma_bar * sigma + l_bar) * slope, {}


r"""In floating point.

In (1), `exp v` overflows for a large `v`, and `1 + exp v` rounds to 1 for a small one:
    softplus v = log1p(exp(-|v|)) + max(v, 0)                                       (3)

In (1), a rounded `sigma` near 1 has few digits of its logarithm:
    log sigma = log1p(log1p(p (exp(s) - 1))),   p = sigmoid c = -expm1(floor - 1),   for |s| <= 1      (4)
              = log1p((floor - 1) + softplus v)             elsewhere, for 1/2 <= sigma <= 4        (5)
The inner logarithm of (4) is `softplus(s + c) - softplus(c)`, with `softplus(c) = 1 - floor`.
"""


@scale(source="FlowJAX", textbook=textbook)
class CentredSoftplusScale(Scale):
    """sigma = floor + softplus(s + c) with c such that sigma is 1 at s = 0."""

    floor: float = plain(1e-2, BELOW_1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        soft, _, _ = self.parts(s)
        sigma = self.floor + soft                                                   # (1)
        near = np.log1p(-expm1(self.floor - 1) * np.expm1(np.minimum(s, 1)))        # (4)
        excess = np.where(np.abs(s) <= 1, near, np.float64(self.floor - 1) + soft)  # (4) (5)
        log_sigma = np.where((sigma >= 0.5) & (sigma <= 4), np.log1p(excess), np.log(sigma))       # (4) (5)
        return sigma, np.zeros_like(s), log_sigma.astype(s.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        soft, m, w = self.parts(s)
        return m / (self.floor + soft), w                                           # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    @functools.cached_property
    def c(self):
        return log(exp(1 - pair(self.floor)) - 1)                                   # (1)

    def parts(self, s):
        """(softplus v, m, w) with sigmoid v = m exp(w)."""
        (m, w, t), (_, q, _) = logistic(s, self.c), logistic(-s, -self.c)
        return np.log1p(t) - q, m, w                                                # (3)

    hard_cases = (
        case("One", "log sigma is near 0: the logarithm of a rounded sigma returns 0", z=[1e-20, -1e-20, 5e-324]),
        case("Switch", "(4) ends at |s| = 1", z=[1.0, np.nextafter(1, 2), -1.0, np.nextafter(-1, -2)]),
        case("Floor", "sigma rounds to floor", z=[-40.0, -760.0]),
        case("HighFloor", "p is small", z=[1e-20, -1.0, 3.0], floor=0.96),
        case("HighestFloor", "c outweighs s", z=[0.1, -1.5, 3.0], floor=1 - 1e-4),
    )
