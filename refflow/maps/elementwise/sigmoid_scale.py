r"""The logistic sigmoid as a scale, `R -> (floor, 1 + floor)`.

With `v = s + offset, t = exp(-|v|)` and `sigmoid v = exp(min(v, 0)) / (1 + t)`,
    sigma = floor + sigmoid v                                                       (1)
    log sigma = min(v, 0) - log(1 + t)                      for floor = 0           (2)
              = log(1 + (floor - sigmoid(-v)))              for floor > 0, v > 0    (3)
    d(log sigma)/ds = sigmoid(-v)                           for floor = 0           (4)
                    = sigmoid(v) sigmoid(-v) / sigma = t / ((1 + t)^2 sigma)        otherwise       (5)

The offset is not an input, so a rounding of `v` is an error of its own; `t` is given back what `v` has lost:
    t = exp(-|v|) (1 - r sign(v)),   r = s - (v - offset)                           (6)

For `floor = 0, m = 1 / (1 + t)` and `w = min(v, 0)`.  (3) keeps the digits of a logarithm near 0.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import AT_LEAST_0, FINITE
from .scale import Scale, decayed, scale


@scale(source="TFP, openai/glow, FlowTorch, nflows, normflows, glow-tts")
class SigmoidScale(Scale):
    """sigma = floor + sigmoid(s + offset), in (floor, 1 + floor)."""

    offset: float = plain(2.0, FINITE)
    floor: float = plain(0.0, AT_LEAST_0)

    @staticmethod
    def definition(m, s, offset, floor):
        return floor + 1 / (1 + m.exp(-(s + offset)))                               # (1)

    def evaluate(self, s):
        v, t = decayed(s, self.offset)                                              # (6)
        w = np.minimum(v, 0)
        if self.floor == 0:
            return 1 / (1 + t), w, w - np.log1p(t)                                  # (1) (2)
        sigma = self.floor + np.exp(w) / (1 + t)                                    # (1)
        above = np.log1p(self.floor - t / (1 + t))                                  # (3)
        return sigma, np.zeros_like(s), np.where(v > 0, above, np.log(sigma))

    def log_slope(self, s):
        v = s + self.offset
        t = np.exp(-np.abs(v))
        if self.floor == 0:
            return 1 / (1 + t), np.minimum(-v, 0)                                   # (4)
        return 1 / ((1 + t) ** 2 * (self.floor + sigmoid(v))), -np.abs(v)           # (5)

    hard_cases = (
        case("Tails", "sigma is exp v, or 1 - exp(-v)", z=[-760.0, -40.0, 40.0, 760.0]),
        case("Centred", "without offset", z=[0.0, 1e-20, -30.0, 37.0], offset=0.0),
        case("Floor", "log sigma passes through 0 where sigmoid v is 1 - floor",
             z=[4.906754778648554, -40.0, 40.0], floor=1e-3),
        case("LowFloor", "the floor of 1e-6", z=[11.815509, -40.0, 20.0], floor=1e-6),
    )


def sigmoid(v):
    t = np.exp(-np.abs(v))
    return np.exp(np.minimum(v, 0)) / (1 + t)
