r"""The exponential of a hyperbolic tangent as a scale, `R -> (exp(-clamp), exp(clamp))`.

    log sigma = w = clamp tanh v,   v = rate s,   m = 1                             (1)
    d(log sigma)/ds = rate clamp d(tanh v)/dv                                       (2)
    d(tanh v)/dv = sech^2 v = 4 exp(-2|v|) / (1 + exp(-2|v|))^2                     (3)

(3) keeps its exponent `-2|v|` apart: `1 - tanh^2 v` loses every digit once `tanh v` rounds to 1.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import ABOVE_0
from .scale import Scale, scale


@scale(source="FrEIA")
class TanhExpScale(Scale):
    """sigma = exp(clamp tanh(rate s)), in (exp(-clamp), exp(clamp))."""

    clamp: float = plain(2.0, ABOVE_0)
    rate: float = plain(1.0, ABOVE_0)

    @staticmethod
    def definition(m, s, clamp, rate):
        return m.exp(clamp * m.tanh(rate * s))                                      # (1)

    def evaluate(self, s):
        w = self.clamp * np.tanh(self.rate * s)                                     # (1)
        return 1, w, w

    def log_slope(self, s):
        n, q = tanh_slope(self.rate * s)
        return self.rate * self.clamp * n, q                                        # (2)

    hard_cases = (
        case("Tiny", "log sigma is clamp s", z=[1e-20, 5e-324]),
        case("Saturated", "tanh rounds to 1, the slope does not round to 0: 1 - tanh^2 does", z=[19.1, -40.0, 350.0]),
        case("Half", "2 (sigmoid(s) - 1/2) is tanh(s/2)", z=[1.0, -3.0, 60.0], rate=0.5),
    )


def tanh_slope(v):
    """(n, q) of d(tanh v)/dv."""
    a = np.abs(v)
    return 4 / (1 + np.exp(-2 * a)) ** 2, -2 * a                                    # (3)
