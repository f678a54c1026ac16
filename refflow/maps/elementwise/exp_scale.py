r"""The exponential as a scale, R -> (0, inf).

    log sigma = w = s + offset,   m = 1                                             (1)
    d(log sigma)/ds = 1                                                             (2)
"""

from __future__ import annotations

import numpy as np

from ...core import plain
from .scale import FINITE, Scale, scale


@scale
class ExpScale(Scale):
    """sigma = exp(s + offset)."""

    offset: float = plain(0.0)
    rules = (("offset", FINITE),)

    @staticmethod
    def definition(m, s, offset):
        return m.exp(s + offset)                                                    # (1)

    def evaluate(self, s):
        w = s + self.offset                                                         # (1)
        return 1, w, w

    def log_slope(self, s):
        return 1, np.zeros_like(s)                                                  # (2)
