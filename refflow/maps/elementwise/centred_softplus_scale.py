r"""A softplus above a floor, shifted to be 1 at 0, as a scale, `R -> (floor, inf)`.

    sigma = floor + softplus v,   v = s + c,   c = log(exp(1 - floor) - 1)          (1)
    log sigma = log(1 + log(1 + p (exp(s) - 1))),   p = sigmoid c = -(exp(floor - 1) - 1),   for |s| <= 1      (2)
              = log(1 + ((floor - 1) + softplus v))         elsewhere, for 1/2 <= sigma <= 4        (3)
    d(log sigma)/ds = sigmoid(v) / sigma                                            (4)

(2) and (3) keep the digits of a logarithm near 0; the inner logarithm is `softplus(s + c) - softplus(c)`, with
`softplus(c) = 1 - floor`.
"""

from __future__ import annotations

import functools
from math import expm1

import numpy as np

from ...core import case, plain
from ...core.pairs import exp, log, pair
from ...core.rules import BELOW_1
from .scale import Scale, logistic, scale


@scale(source="FlowJAX")
class CentredSoftplusScale(Scale):
    """sigma = floor + softplus(s + c) with c such that sigma is 1 at s = 0."""

    floor: float = plain(1e-2, BELOW_1)

    @staticmethod
    def definition(m, s, floor):
        return floor + m.log1p(m.exp(s + m.log(m.expm1(1 - m.mpf(floor)))))         # (1)

    def evaluate(self, s):
        soft, _, _ = self.parts(s)
        sigma = self.floor + soft                                                   # (1)
        near = np.log1p(-expm1(self.floor - 1) * np.expm1(np.minimum(s, 1)))        # (2)
        excess = np.where(np.abs(s) <= 1, near, np.float64(self.floor - 1) + soft)  # (2) (3)
        log_sigma = np.where((sigma >= 0.5) & (sigma <= 4), np.log1p(excess), np.log(sigma))
        return sigma, np.zeros_like(s), log_sigma.astype(s.dtype)

    @functools.cached_property
    def c(self):
        return log(exp(1 - pair(self.floor)) - 1)                                   # (1)

    def parts(self, s):
        """(softplus v, m, w) with sigmoid v = m exp(w)."""
        (m, w, t), (_, q, _) = logistic(s, self.c), logistic(-s, -self.c)
        return np.log1p(t) - q, m, w

    def log_slope(self, s):
        soft, m, w = self.parts(s)
        return m / (self.floor + soft), w                                           # (4)

    hard_cases = (
        case("One", "log sigma is near 0: the logarithm of a rounded sigma returns 0", z=[1e-20, -1e-20, 5e-324]),
        case("Switch", "(2) ends at |s| = 1", z=[1.0, np.nextafter(1, 2), -1.0, np.nextafter(-1, -2)]),
        case("Floor", "sigma rounds to floor", z=[-40.0, -760.0]),
        case("HighFloor", "p is small", z=[1e-20, -1.0, 3.0], floor=0.96),
        case("HighestFloor", "c outweighs s", z=[0.1, -1.5, 3.0], floor=1 - 1e-4),
    )
