r"""The logistic sigmoid as a scale, `R -> (floor, 1 + floor)`.

The map.  With `v = s + offset` and `sigmoid v = 1/(1 + exp(-v))`,
    sigma = floor + sigmoid v                                                       (1)

The reverse rule.  The slope of `sigmoid v` is `sigmoid(v) sigmoid(-v)`, so that
    d(log sigma)/ds = sigmoid(v) sigmoid(-v)/sigma                                  (2)
"""

from __future__ import annotations

import functools

import numpy as np

from ...core import case, plain
from ...core.pairs import exp, pair
from ...core.rules import AT_LEAST_0, FINITE
from .scale import Scale, logistic, scale


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, offset, floor):
        return floor + 1 / (1 + np.exp(-(s + offset)))                              # (1)

    def log(s, offset, floor):
        return np.log(textbook.forward(s, offset, floor))                           # (1)

    def vjp(s, offset, floor, sigma_bar, l_bar):
        sigma, v = textbook.forward(s, offset, floor), s + offset
        slope = 1 / (1 + np.exp(-v)) / (1 + np.exp(v)) / sigma                      # (2)
        return (sigma_bar * sigma + l_bar) * slope, {}


r"""In floating point.

In (1), `exp(-v)` overflows, and a rounded `sigma` near 1 has few digits of its logarithm.  With `t = exp(-|v|)` and
`sigmoid v = m exp(w), w = min(v, 0)`,
    log sigma = min(v, 0) - log1p(t)                        for floor = 0           (3)
              = log1p(floor - sigmoid(-v))                  for floor > 0, v >= 0
              = log1p((floor - 1) + sigmoid v)              for floor > 0, v < 0, sigma >= 1/2      (4)
              = log1p(c + r),   c = floor - sigmoid(-offset),   for floor > 0, |s| <= 1/2, sigma >= 1/2     (5)
    r = sigmoid v - sigmoid(offset) = expm1(s) sigmoid(offset) sigmoid(-v)          (6)
`c` is rounded once, from a pair of floats.

In (2), `sigmoid v` and `sigma` are the same without a floor, and both may underflow:
    d(log sigma)/ds = sigmoid(-v)                           for floor = 0           (7)
"""


@scale(source="TFP, openai/glow, FlowTorch, nflows, normflows, glow-tts", textbook=textbook)
class SigmoidScale(Scale):
    """sigma = floor + sigmoid(s + offset), in (floor, 1 + floor)."""

    offset: float = plain(2.0, FINITE)
    floor: float = plain(0.0, AT_LEAST_0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        m, w, t = logistic(s, self.offset)
        if self.floor == 0:
            return m, w, w - np.log1p(t)                                            # (1) (3)
        sigmoid, floor = m * np.exp(w), np.float64(self.floor)
        sigma = self.floor + sigmoid                                                # (1)
        excess = np.where(w == 0, floor - t / (1 + t), (floor - 1) + sigmoid)       # (4)
        c, slope = self.at_0
        rise = np.expm1(s) * slope * np.where(w == 0, t, 1) / (1 + t)               # (6)
        excess = np.where(np.abs(s) <= 0.5, c + rise, excess)                       # (5)
        log_sigma = np.where(sigma >= 0.5, np.log1p(excess), np.log(sigma))         # (4) (5)
        return sigma, np.zeros_like(s), log_sigma.astype(s.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        (m, w, _), (beyond, q, _) = logistic(s, self.offset), logistic(-s, -self.offset)
        if self.floor == 0:
            return beyond, q                                                        # (7)
        return m * beyond / (self.floor + m * np.exp(w)), w + q                     # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    @functools.cached_property
    def at_0(self):
        """(c, sigmoid(offset))."""
        beyond = 1 / (1 + exp(pair(self.offset)))
        return float((self.floor - beyond).high), float((1 - beyond).high)          # (5) (6)

    hard_cases = (
        case("Tails", "sigma is exp v, or 1 - exp(-v)", z=[-760.0, -40.0, 40.0, 760.0]),
        case("Centred", "without offset", z=[0.0, 1e-20, -30.0, 37.0], offset=0.0),
        case("Floor", "log sigma passes through 0 where sigmoid v is 1 - floor",
             z=[4.906754778648554, -40.0, 40.0], floor=1e-3),
        case("LowFloor", "the floor of 1e-6", z=[11.815509, -40.0, 20.0], floor=1e-6),
        case("Large", "the rounding of the sum would be many units", z=[1e-3, 0.7, -3.0], offset=-43.1),
        case("Cancelling", "floor and sigmoid(-offset) are nearly equal", z=[1e-10, 0.5, np.nextafter(0.5, 1), -0.5, -0.6],
             floor=0.119),
        case("FloorOne", "sigma rounds to 1", z=[0.3, 2.0, -2.0], offset=-60.1, floor=1.0),
        case("LowOffset", "sigma is nearly 1, and so is floor", z=[0.1, -0.3, 0.5], offset=-3.0, floor=0.95),
        case("HighFloor", "log sigma passes through 0 where sigmoid v is small", z=[-7.0, -6.6, 2.0], floor=0.99),
    )
