r"""The reciprocal of the logistic sigmoid as a scale, `R -> (1, inf)`.

With `v = s + offset, t = exp(-|v|)` and `sigmoid v = m exp(w), w = min(v, 0)`,
    sigma = 1 / sigmoid v = exp(-w) / m                                             (1)
    log sigma = log(1 + t) - w                                                      (2)
    d(log sigma)/ds = -sigmoid(-v)                                                  (3)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import FINITE
from .scale import Scale, logistic, scale


@scale(source="normflows")
class ReciprocalSigmoidScale(Scale):
    """sigma = 1 / sigmoid(s + offset), in (1, inf)."""

    offset: float = plain(2.0, FINITE)

    @staticmethod
    def definition(m, s, offset):
        return 1 + m.exp(-(s + offset))                                             # (1)

    def evaluate(self, s):
        m, w, t = logistic(s, self.offset)
        return 1 / m, -w, np.log1p(t) - w                                           # (1) (2)

    def log_slope(self, s):
        m, w, _ = logistic(-s, -self.offset)
        return -m, w                                                                # (3)

    hard_cases = (
        case("Tails", "sigma is 1 + exp(-v), or exp(-v)", z=[760.0, 40.0, -40.0, -760.0]),
        case("Near", "the offset outweighs s", z=[0.0013471926795318723]),
        case("Zero", "v is 0", z=[-2.0, np.nextafter(-2, 0)]),
        case("Large", "the rounding of the sum would be many units", z=[1e-3, 0.7, -3.0, -50.0], offset=43.1),
    )
