r"""The exponential of a hyperbolic tangent as a scale, `R -> (exp(-clamp), exp(clamp))`.

The map.  With `v = rate s`,
    sigma = exp(clamp tanh v)                                                       (1)

The reverse rule.  The slope of `tanh v` is `1 - tanh^2 v`, so that
    d(log sigma)/ds = rate clamp (1 - tanh^2 v)                                     (2)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import ABOVE_0
from .scale import Scale, parted, scale, summed


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, clamp, rate):
        return np.exp(clamp * np.tanh(rate * s))                                    # (1)

    def log(s, clamp, rate):
        return clamp * np.tanh(rate * s)                                            # (1)

    def vjp(s, clamp, rate, sigma_bar, l_bar):
        slope = rate * clamp * (1 - np.tanh(rate * s) ** 2)                         # (2)
        return (sigma_bar * textbook.forward(s, clamp, rate) + l_bar) * slope, {}


r"""In floating point.

In (1), `clamp` magnifies the roundings of `v` and `tanh v`, even where `sigma` hardly depends on `s`.  With `t = exp(-2|v|)`,
    log sigma = clamp rate s                                for subnormal v         (3)
    m = 1,   w = log sigma                                  for |v| <= 1
    sign(v) clamp (1 - 2 t/(1 + t)) = w + r,   w rounded,   m = 1 + r      for |v| > 1         (4)

In (2), the difference loses every digit once `tanh v` rounds to 1:
    1 - tanh^2 v = n exp(q),   n = 4/(1 + exp(-2|v|))^2,   q = -2|v|                (5)
"""


@scale(source="FrEIA", textbook=textbook)
class TanhExpScale(Scale):
    """sigma = exp(clamp tanh(rate s)), in (exp(-clamp), exp(clamp))."""

    clamp: float = plain(2.0, ABOVE_0)
    rate: float = plain(1.0, ABOVE_0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        v, (clamp, rest) = self.rate * s, parted(self.clamp, s.dtype)
        far, t = np.abs(v) > 1, np.exp(-2 * np.abs(v))
        subnormal = np.abs(v) < np.finfo(v.dtype).smallest_normal                   # (3)
        log_sigma = np.where(subnormal, self.clamp * self.rate * s, self.clamp * np.tanh(v))    # (1) (3)
        w, r = summed(clamp, -clamp * (2 * t / (1 + t)))
        m = 1 + np.sign(v) * (r + rest)
        return np.where(far, m, 1), np.where(far, np.sign(v) * w, log_sigma), log_sigma         # (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        n, q = tanh_slope(self.rate * s)
        return self.rate * self.clamp * n, q                                        # (2) (5)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "log sigma is clamp s", z=[1e-20, 5e-324]),
        case("Subnormal", "v loses digits that log sigma keeps", z=[3e-321, -3e-42], clamp=80.0, rate=0.3),
        case("Beyond", "clamp and what saturation leaves of it are both beyond the floats", z=[1.8, -1.8, 1.4, 2.0**-9],
             clamp=4271.0),
        case("Saturated", "tanh rounds to 1, the slope does not round to 0: 1 - tanh^2 does", z=[19.1, -40.0, 350.0]),
        case("Half", "2 (sigmoid(s) - 1/2) is tanh(s/2)", z=[1.0, -3.0, 60.0], rate=0.5),
        case("Wide", "the rounding of tanh would be many units", z=[1.0, np.nextafter(1, 2), -2.0, 4.0, -20.0], clamp=87.1),
    )


def tanh_slope(v):
    """(n, q) of d(tanh v)/dv."""
    a = np.abs(v)
    return 4 / (1 + np.exp(-2 * a)) ** 2, -2 * a                                    # (5)
