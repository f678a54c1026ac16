r"""Exponential linear unit on every entry of an event.

The map.  For every entry `a`,
    h = a              for a > 0,   exp(a) - 1    for a <= 0                        (1)
    dh/da = 1          for a > 0,   exp(a)        for a <= 0                        (2)

The reverse rule.  By (2),
    a_bar = h_bar dh/da                                                             (3)
The cotangents of tangents, as `jvp` needs them, take the derivative of the slope `s = dh/da`:
    ds/da = 0        for a > 0,   exp(a)        for a <= 0                          (4)

Source: Clevert, Unterthiner & Hochreiter, arXiv:1511.07289, with alpha = 1.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def forward(a):
        return a if a > 0 else np.exp(a) - 1                                        # (1)

    def slope(a):
        return 1 + 0 * a if a > 0 else np.exp(a)                                    # (2)

    def curvature(a):
        return 0 * a if a > 0 else np.exp(a)                                        # (4)

    def vjp(a, h_bar):
        return h_bar * textbook.slope(a), {}                                        # (3)


r"""In floating point.

In (1), `exp(a) - 1` cancels for small `a`:
    h = expm1(a)    for a <= 0                                                      (5)

In (3), the slope may lose digits below the smallest normal number, or be 0, where its product with a cotangent does neither:
    a_bar = (h_bar m) m,   m = exp(min(a, 0)/2)                                     (6)
"""


@conditioner(source="arXiv:1511.07289", textbook=textbook)
class ELU(Conditioner):
    """h = a for a > 0, exp(a) - 1 for a <= 0."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        return np.where(a > 0, a, np.expm1(np.minimum(a, 0)))                       # (1) (5)

    def slope(self, a):
        return np.exp(np.minimum(a, 0))                                             # (2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def curvature(self, a):
        return self.slope(a) * (a <= 0)                                             # (4)

    def vjp(self, a):
        def pullback(h_bar):
            m = np.exp(np.minimum(a, 0) / 2)                                        # (6)
            return h_bar * m * m, {}                                                # (3) (6)

        return self.forward(a), pullback

    def lipschitz(self):
        """|dh/da| <= 1."""
        return 1.0

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Zero", "both forms are 0 there, with slope 1", z=[0.0, -0.0, 5e-324, -5e-324]),
        case("Tiny", "exp(a) - 1 cancels", z=[-1e-9, -1e-160]),
        case("Left", "h is -1, the slope is subnormal or 0, h_bar m^2 need not be", z=[-40.0, -709.0, -745.0]),
        case("Beyond", "exp a overflows, h does not", z=[2.0**1000, -2.0**1000]),
    )
