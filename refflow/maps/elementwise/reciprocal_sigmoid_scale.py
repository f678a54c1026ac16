r"""The reciprocal of the logistic sigmoid as a scale, `R -> (1, inf)`.

The map.  With `v = s + offset` and `sigmoid v = 1/(1 + exp(-v))`,
    sigma = 1/sigmoid v                                                             (1)

The reverse rule.  The slope of `log(sigmoid v)` is `sigmoid(-v)`, so that
    d(log sigma)/ds = -sigmoid(-v)                                                  (2)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import FINITE
from .scale import Scale, logistic, scale


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, offset):
        return 1 + np.exp(-(s + offset))                                            # (1)

    def log(s, offset):
        return np.log(textbook.forward(s, offset))                                  # (1)

    def vjp(s, offset, sigma_bar, l_bar):
        slope = -1 / (1 + np.exp(s + offset))                                       # (2)
        return (sigma_bar * textbook.forward(s, offset) + l_bar) * slope, {}


r"""In floating point.

In (1), `exp(-v)` overflows where `log sigma` does not, and `1 + exp(-v)` rounds to 1 where its logarithm is not 0.  With
`t = exp(-|v|)`, `sigmoid v = m exp(w)` and `w = min(v, 0)`,
    sigma = exp(-w)/m,   log sigma = log1p(t) - w                                   (3)
"""


@scale(source="normflows", textbook=textbook)
class ReciprocalSigmoidScale(Scale):
    """sigma = 1 / sigmoid(s + offset), in (1, inf)."""

    offset: float = plain(2.0, FINITE)

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        m, w, t = logistic(s, self.offset)
        return 1 / m, -w, np.log1p(t) - w                                           # (1) (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        m, w, _ = logistic(-s, -self.offset)
        return -m, w                                                                # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tails", "sigma is 1 + exp(-v), or exp(-v)", z=[760.0, 40.0, -40.0, -760.0]),
        case("Near", "the offset outweighs s", z=[0.0013471926795318723]),
        case("Zero", "v is 0", z=[-2.0, np.nextafter(-2, 0)]),
        case("Large", "the rounding of the sum would be many units", z=[1e-3, 0.7, -3.0, -50.0], offset=43.1),
    )
