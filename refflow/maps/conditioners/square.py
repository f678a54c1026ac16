r"""The square of every entry of an event.

The map.  For every entry `a`,
    h = a^2                                                                         (1)
    dh/da = 2 a                                                                     (2)

The reverse rule.  By (2),
    a_bar = h_bar dh/da                                                             (3)
The cotangents of tangents, as `jvp` needs them, take the derivative of the slope `s = dh/da`:
    ds/da = 2                                                                       (4)
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner


@conditioner(source="definition")
class Square(Conditioner):
    """h = a^2."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, a):
        return a * a                                                                # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        return a * a                                                                # (1)

    def slope(self, a):
        return 2 * a                                                                # (2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def curvature(self, a):
        return np.full_like(a, 2)                                                   # (4)

    def vjp(self, a):
        return a * a, lambda h_bar: (h_bar * a * 2, {})                             # (1) (2) (3)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Zero", "h and its slope are 0", z=[0.0, -0.0]),
        case("Ends", "h is the smallest normal number, or near the largest one", z=[2.0**-511, -2.0**511]),
    )
