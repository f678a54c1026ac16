r"""Softplus on every entry of an event.

The map.  For every entry `a`,
    h = log(1 + exp a)                                                              (1)
    dh/da = 1/(1 + exp(-a))                                                         (2)

The reverse rule.  By (2),
    a_bar = h_bar/(1 + exp(-a))                                                     (3)
The cotangents of tangents, as `jvp` needs them, take the derivative of the slope `s = dh/da`:
    ds/da = s (1 - s)                                                               (4)

Source: Dugas et al., NIPS 2000.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner
from ..elementwise import Softplus

SOFTPLUS = Softplus().unchecked(np.float64)          # it has no fields, and keeps the dtype of its events


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def forward(a):
        return np.log(1 + np.exp(a))                                                # (1)

    def slope(a):
        return 1 / (1 + np.exp(-a))                                                 # (2)

    def curvature(a):
        s = textbook.slope(a)
        return s * (1 - s)                                                          # (4)

    def vjp(a, h_bar):
        return h_bar / (1 + np.exp(-a)), {}                                         # (3)


r"""In floating point.

In (1) and (2), an exponential overflows on one side, and on the other 1 plus an exponential rounds to 1.  The page `Softplus`
has the forms that keep the digits.

In (3), the slope may lose digits below the smallest normal number, or be 0, where its product with a cotangent does neither:
    a_bar = (h_bar m) m/(1 + t),   m = exp(min(a, 0)/2),   t = exp(-|a|)            (5)

In (4), `1 - s` loses all digits where `s` rounds to 1.  It is the slope at `-a`.      (6)
"""


@conditioner(source="Dugas et al., NIPS 2000", textbook=textbook)
class SoftplusActivation(Conditioner):
    """h = log(1 + exp a)."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        return SOFTPLUS.forward(a)                                                  # (1)

    def slope(self, a):
        return SOFTPLUS.slope(a)                                                    # (2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def curvature(self, a):
        return self.slope(a) * self.slope(-a)                                       # (4) (6)

    def vjp(self, a):
        def pullback(h_bar):
            m, t = exponentials(a)
            return h_bar * m * m / (1 + t), {}                                      # (3) (5)

        return self.forward(a), pullback

    def lipschitz(self):
        """|dh/da| <= 1."""
        return 1.0

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Left", "h is exp a: log(1 + exp a) without log1p returns 0", z=[-37.0, -700.0]),
        case("Subnormal", "the slope is below the smallest normal number, h_bar m^2 need not be", z=[-709.0, -745.0]),
        case("Beyond", "exp a overflows, h does not", z=[709.8, 2.0**1000, -2.0**1000]),
    )


def exponentials(a):
    """exp(min(a, 0)/2) and exp(-|a|)."""
    return np.exp(np.minimum(a, 0) / 2), np.exp(-np.abs(a))                         # (5)
