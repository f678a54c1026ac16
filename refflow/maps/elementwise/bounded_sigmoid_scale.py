r"""The logistic sigmoid as a scale with any bound, `R -> (0, bound)`.

The map.  With `sigmoid s = 1/(1 + exp(-s))` and `b = bound > 0`,
    sigma = b sigmoid s                                                             (1)
For `b = 2`, `sigma` is 1 where `s` is 0, and `log sigma` lies between -inf and `log 2`.

The reverse rule.  The slope of `log sigmoid s` is
    d(log sigma)/ds = sigmoid(-s)                                                   (2)

Source: the scale of Jet's couplings, with `b = 2` (Kolesnikov, Pinto & Tschannen, arXiv:2412.15129).
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ...core import case, plain
from ...core.pairs import log, pair
from ...core.rules import ABOVE_0
from .scale import Scale, logistic, scale, shifted


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, bound):
        return bound / (1 + np.exp(-s))                                             # (1)

    def log(s, bound):
        return np.log(textbook.forward(s, bound))                                   # (1)

    def vjp(s, bound, sigma_bar, l_bar):
        slope = 1 / (1 + np.exp(s))                                                 # (2)
        return (sigma_bar * textbook.forward(s, bound) + l_bar) * slope, {}


r"""In floating point.

In (1), `exp(-s)` overflows where `log sigma` does not.  With `t = exp(-|s|)` and `sigmoid s = m exp(w), w = min(s, 0)`,
    log sigma = log b + (w - log1p(t))                                              (3)
The two terms of (3) cancel where `sigma` is near 1.  That needs `b > 1`, and `sigma` is 1 at `s_1 = -log(b - 1)`.  For
`1/2 <= sigma <= 2`,
    log sigma = log1p(-(b - 1) expm1(s_1 - s) sigmoid s)                            (4)
`s_1` is taken in two parts, since its rounding would be many units of a small `s`.
"""


@scale(source="arXiv:2412.15129", textbook=textbook)
class BoundedSigmoidScale(Scale):
    """sigma = bound sigmoid(s), in (0, bound)."""

    bound: float = plain(2.0, ABOVE_0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        m, w, _ = logistic(s, 0)
        return self.bound * m, w, self.log_sigma(s.astype(np.float64)).astype(s.dtype)      # (1)

    def log_sigma(self, s):
        m, w, t = logistic(s, 0)
        apart = math.log(self.bound) + (w - np.log1p(t))                            # (3)
        if self.bound <= 1:
            return apart
        v, r = shifted(-s, self.s_1)
        excess = -(self.bound - 1) * (np.expm1(v) + r * np.exp(v)) * m * np.exp(w)  # (4)
        return np.where((-0.5 <= excess) & (excess <= 1), np.log1p(excess), apart)   # (3) (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        m, w, _ = logistic(-s, 0)
        return m, w                                                                 # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    @functools.cached_property
    def s_1(self):
        return -log(pair(self.bound) - 1)                                           # (4)

    hard_cases = (
        case("Tails", "sigma is bound exp s, or bound (1 - exp(-s))", z=[-760.0, -40.0, 40.0, 760.0]),
        case("One", "log sigma is s/2: the logarithm of a rounded sigma returns 0", z=[1e-20, -1e-9, 0.0]),
        case("Switch", "(3) and (4) meet", z=[-1.0986122886681098, -1.09861228866811, -1.0986122886681096]),
        case("Low", "log sigma passes through 0 at log 2", z=[0.6931471805599453, 0.6931471805599452, 3.0, -3.0], bound=1.5),
        case("High", "log sigma passes through 0 at -log 7", z=[-1.9459101490553132, 1e-3, -3.0], bound=8.0),
        case("JustAbove", "s_1 is 36, and s is small", z=[36.04365338911715, 3.0, 20.0, -1.0], bound=1 + 2.0**-52),
        case("Below", "sigma is never near 1", z=[2.0, -2.0, 50.0], bound=0.75),
        case("Unit", "log bound is 0", z=[2.0, -2.0, 50.0], bound=1.0),
        case("Far", "log bound is 41", z=[-41.5888, -40.0, -42.5, 1e-3], bound=2.0**60),
    )
