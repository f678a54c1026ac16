r"""The reciprocal of the logistic sigmoid as a scale, `R -> (1, inf)`.

With `v = s + offset` and `t = exp(-|v|)`,
    sigma = 1 / sigmoid v = m exp(w),   m = 1 + t,   w = max(-v, 0)                 (1)
    log sigma = log(1 + t) + w                                                      (2)
    d(log sigma)/ds = -sigmoid(-v) = -exp(min(-v, 0)) / (1 + t)                     (3)
The offset is not an input, so a rounding of `v` is an error of its own; `t` is given back what `v` has lost:
    t = exp(-|v|) (1 - r sign(v)),   r = s - (v - offset)                           (4)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import FINITE
from .scale import Scale, decayed, scale


@scale(source="normflows")
class ReciprocalSigmoidScale(Scale):
    """sigma = 1 / sigmoid(s + offset), in (1, inf)."""

    offset: float = plain(2.0, FINITE)

    @staticmethod
    def definition(m, s, offset):
        return 1 + m.exp(-(s + offset))                                             # (1)

    def evaluate(self, s):
        v, t = decayed(s, self.offset)                                              # (4)
        w = np.maximum(-v, 0)
        return 1 + t, w, np.log1p(t) + w                                            # (1) (2)

    def log_slope(self, s):
        v = s + self.offset
        return -1 / (1 + np.exp(-np.abs(v))), np.minimum(-v, 0)                     # (3)

    hard_cases = (
        case("Tails", "sigma is 1 + exp(-v), or exp(-v)", z=[760.0, 40.0, -40.0, -760.0]),
        case("Near", "the offset outweighs s", z=[0.0013471926795318723]),
        case("Zero", "v is 0", z=[-2.0, np.nextafter(-2, 0)]),
    )
