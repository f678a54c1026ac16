r"""A softplus above a floor, shifted to be 1 at 0, as a scale, `R -> (floor, inf)`.

    sigma = floor + softplus v,   v = s + c,   c = log(exp(1 - floor) - 1)          (1)
    log sigma = log(1 + log(1 + p (exp(s) - 1))),   p = sigmoid c = 1 - exp(floor - 1),   for |s| <= 1      (2)
    d(log sigma)/ds = sigmoid(v) / sigma                                            (3)

(2) keeps the digits of a logarithm near 0; its inner logarithm is `softplus(s + c) - softplus(c)`, with
`softplus(c) = 1 - floor`.
"""

from __future__ import annotations

from math import exp, expm1, log

import numpy as np

from ...core import case, plain
from ...core.rules import BELOW_1
from .scale import Scale, scale


@scale(source="FlowJAX")
class CentredSoftplusScale(Scale):
    """sigma = floor + softplus(s + c) with c such that sigma is 1 at s = 0."""

    floor: float = plain(1e-2, BELOW_1)

    @staticmethod
    def definition(m, s, floor):
        return floor + m.log1p(m.exp(s + m.log(m.expm1(1 - m.mpf(floor)))))         # (1)

    def evaluate(self, s):
        v = s + log(expm1(1 - self.floor))
        sigma = self.floor + np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))        # (1)
        p = 1 - exp(self.floor - 1)
        near = np.log1p(np.log1p(p * np.expm1(np.minimum(s, 1))))                   # (2)
        return sigma, np.zeros_like(s), np.where(np.abs(s) <= 1, near, np.log(sigma))

    def log_slope(self, s):
        v = s + log(expm1(1 - self.floor))
        t = np.exp(-np.abs(v))
        return 1 / ((1 + t) * (self.floor + np.maximum(v, 0) + np.log1p(t))), np.minimum(v, 0)      # (3)

    hard_cases = (
        case("One", "log sigma is near 0: the logarithm of a rounded sigma returns 0", z=[1e-20, -1e-20, 5e-324]),
        case("Switch", "(2) ends at |s| = 1", z=[1.0, np.nextafter(1, 2), -1.0, np.nextafter(-1, -2)]),
        case("Floor", "sigma rounds to floor", z=[-40.0, -760.0]),
    )
