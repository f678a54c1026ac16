r"""An exponential above a floor as a scale, `R -> (floor, inf)`.

The map.  With `v = rate s` and a gain `g`, by default `1 - floor`,
    sigma = floor + g exp(v)                                                        (1)

The reverse rule.  From the slope `g rate exp(v)` of (1),
    d(log sigma)/ds = g rate exp(v)/sigma                                           (2)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import ABOVE_0, BELOW_1, number, optional
from .scale import Scale, scale


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, floor, rate, gain):
        g = 1 - floor if gain is None else gain
        return floor + g * np.exp(rate * s)                                         # (1)

    def log(s, floor, rate, gain):
        return np.log(textbook.forward(s, floor, rate, gain))                       # (1)

    def vjp(s, floor, rate, gain, sigma_bar, l_bar):
        g, sigma = 1 - floor if gain is None else gain, textbook.forward(s, floor, rate, gain)
        return (sigma_bar * sigma + l_bar) * g * rate * np.exp(rate * s) / sigma, {}        # (2)


r"""In floating point.

In (1), `exp(v)` overflows for a large `v`, where its product with a small event does not.  The exponent is kept apart:
    sigma = m exp(w),   m = g + floor exp(-v),   w = v      for v > 0               (3)

In (1), a rounded `sigma` near 1 has few digits of its logarithm:
    log sigma = log1p((g + floor - 1) + g expm1(v))         where it is at most 1   (4)
"""


@scale(source="torchflows", textbook=textbook)
class FlooredExpScale(Scale):
    """sigma = floor + gain exp(rate s); the default gain is 1 - floor, so that sigma is 1 at s = 0."""

    floor: float = plain(1e-10, BELOW_1)
    rate: float = plain(0.5, ABOVE_0)
    gain: float = plain(None, optional(number(0)))

    @property
    def g(self):
        return 1 - self.floor if self.gain is None else self.gain

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        g, v = self.g, self.rate * s
        t, up = np.exp(-np.abs(v)), v > 0
        m = np.where(up, g + self.floor * t, self.floor + g * t)                    # (1) (3)
        w = np.maximum(v, 0)
        log_sigma, above_one = np.log(m) + w, 0 if self.gain is None else g - 1 + self.floor
        near = np.abs(log_sigma) <= 1
        beyond_one = np.where(near, above_one + g * np.expm1(np.where(near, v, 0)), 0)      # (4)
        return m, w, np.where(near, np.log1p(beyond_one), log_sigma)                # (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        m, _, _ = self.evaluate(s)
        return self.g * self.rate / m, np.minimum(self.rate * s, 0)                 # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Floor", "sigma rounds to floor", z=[-1e4, -2.0**1000]),
        case("One", "log sigma is near 0: the logarithm of a rounded sigma returns 0", z=[1e-20, -1e-20, 5e-324]),
        case("Switch", "(4) ends at |v| = 1", z=[2.0, np.nextafter(2, 3), -2.0, np.nextafter(-2, -3)]),
        case("Small", "a gain of 1e-6: sigma is 1 at v = 13.8", z=[-2.0, 0.5, 27.631, 30.0], gain=1e-6),
        case("High", "a floor of 0.1", z=[-30.0, 1.0, 3e3], floor=0.1),
        case("Above", "the exponential itself above a floor: 1 + floor at s = 0", z=[0.0, -1e-3, 1.0, -40.0], floor=1e-3,
             rate=1.0, gain=1.0),
    )
