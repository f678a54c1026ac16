r"""The magnitude of a number as a scale; it has no value at 0.

The map.  For every `s` but 0,
    sigma = |s|                                                                     (1)

The reverse rule.  As `log|s|` has the slope
    d(log sigma)/ds = 1/s                                                           (2)
the cotangents of `sigma` and of its logarithm give
    s_bar = sigma_bar sign(s) + l_bar/s                                             (3)

Source: normflows, the parameter `alpha` of its radial flows.
"""

from __future__ import annotations

import numpy as np

from ...core import case, nonzero
from .scale import Scale, scale


@scale(source="normflows", domain=nonzero)
class AbsScale(Scale):
    """sigma = |s|; ValueError for s = 0."""

    @staticmethod
    def definition(m, s):
        return s if s > 0 else -s                                                   # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        return np.abs(s), np.zeros_like(s), np.log(np.abs(s))                       # (1)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        return 1 / s, np.zeros_like(s)                                              # (2)

    def vjp(self, s):
        def pullback(sigma_bar, log_sigma_bar):
            return sigma_bar * np.sign(s) + log_sigma_bar / s, {}                   # (3)

        return (np.abs(s), np.log(np.abs(s))), pullback                             # (1)

    hard_cases = (
        case("Negative", "the slope has the sign of s", z=[-2.0, -0.5]),
        case("One", "log sigma is near 0", z=[1.0, -1.0, np.nextafter(1, 2)]),
        case("Subnormal", "the slope of the logarithm overflows, the slope of sigma is 1", z=[5e-324, -1e-310]),
    )
