r"""The hyperbolic tangent on every entry of an event.

The map.  For every entry `a`,
    h = tanh a                                                                      (1)
    dh/da = 1 - tanh^2 a                                                            (2)

The reverse rule.  By (2),
    a_bar = h_bar (1 - tanh^2 a)                                                    (3)
The cotangents of tangents, as `jvp` needs them, take the derivative of the slope `s = dh/da`:
    ds/da = -2 (1 - tanh^2 a) tanh a                                                (4)
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def forward(a):
        return np.tanh(a)                                                           # (1)

    def slope(a):
        return 1 - np.tanh(a) ** 2                                                  # (2)

    def curvature(a):
        return -2 * (1 - np.tanh(a) ** 2) * np.tanh(a)                              # (4)

    def vjp(a, h_bar):
        return h_bar * (1 - np.tanh(a) ** 2), {}                                    # (3)


r"""In floating point.

In (2), the difference loses every digit once `tanh a` rounds to 1:
    1 - tanh^2 a = r^2,   r = sech a = 2 p/(1 + p^2),   p = exp(-|a|)               (5)

In (3), `r^2` may lose digits below the smallest normal number, or be 0, where its product with a cotangent does neither:
    a_bar = (h_bar r) r                                                             (6)
"""


@conditioner(source="DLMF 4.28", textbook=textbook)
class TanhActivation(Conditioner):
    """h = tanh a."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        return np.tanh(a)                                                           # (1)

    def slope(self, a):
        r = sech(a)
        return r * r                                                                # (2) (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def curvature(self, a):
        r = sech(a)
        return -2 * r * r * np.tanh(a)                                              # (4) (5)

    def vjp(self, a):
        def pullback(h_bar):
            r = sech(a)
            return h_bar * r * r, {}                                                # (3) (6)

        return self.forward(a), pullback

    def lipschitz(self):
        """|dh/da| = 1 - tanh^2 a <= 1."""
        return 1.0

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "h is a", z=[1e-9, 5e-324]),
        case("Saturated", "h rounds to 1, the slope does not round to 0: 1 - h^2 does", z=[19.1, -40.0, 350.0]),
        case("Subnormal", "the slope is below the smallest normal number, h_bar r^2 need not be", z=[355.0, -372.0]),
    )


def sech(a):
    p = np.exp(-np.abs(a))
    return 2 * p / (1 + p * p)                                                      # (5)
