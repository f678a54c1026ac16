r"""An exponential above a floor as a scale, `R -> (floor, inf)`.

    sigma = floor + (1 - floor) exp(v),   v = rate s                                (1)
          = (1 - floor + floor exp(-v)) exp(v)              for v > 0               (2)
    log sigma = log(1 + (1 - floor) (exp(v) - 1))           for |v| <= 1            (3)
    d(log sigma)/ds = (1 - floor) rate exp(v) / sigma                               (4)

(2) keeps the exponent `v` apart, `m = 1 - floor + floor exp(-v), w = v`.  (3) keeps the digits of a logarithm near 0.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import ABOVE_0, BELOW_1
from .scale import Scale, scale


@scale(source="torchflows")
class FlooredExpScale(Scale):
    """sigma = floor + (1 - floor) exp(rate s), 1 at s = 0."""

    floor: float = plain(1e-10, BELOW_1)
    rate: float = plain(0.5, ABOVE_0)

    @staticmethod
    def definition(m, s, floor, rate):
        return floor + (1 - m.mpf(floor)) * m.exp(rate * s)                         # (1)

    def evaluate(self, s):
        rest, v = 1 - self.floor, self.rate * s
        t, up = np.exp(-np.abs(v)), v > 0
        m = np.where(up, rest + self.floor * t, self.floor + rest * t)              # (1) (2)
        w = np.maximum(v, 0)
        near = np.log1p(rest * np.expm1(np.minimum(v, 1)))                          # (3)
        return m, w, np.where(np.abs(v) <= 1, near, np.log(m) + w)

    def log_slope(self, s):
        m, _, _ = self.evaluate(s)
        return (1 - self.floor) * self.rate / m, np.minimum(self.rate * s, 0)       # (4)

    hard_cases = (
        case("Floor", "sigma rounds to floor", z=[-1e4, -2.0**1000]),
        case("One", "log sigma is near 0: the logarithm of a rounded sigma returns 0", z=[1e-20, -1e-20, 5e-324]),
        case("Switch", "(3) ends at |v| = 1", z=[2.0, np.nextafter(2, 3), -2.0, np.nextafter(-2, -3)]),
        case("High", "a floor of 0.1", z=[-30.0, 1.0, 3e3], floor=0.1),
    )
