r"""The hyperbolic tangent on every entry of an event.

    h = tanh a                                                                      (1)
    dh/da = r^2,   r = sech a = 2 p / (1 + p^2),   p = exp(-|a|)                    (2)
    a_bar = h_bar dh/da = (h_bar r) r                                               (3)

(2) is written in exponentials, since `1 - tanh^2 a` loses every digit once `tanh a` rounds to 1.  The product with the
square in (3) is taken in this order: `r^2` may lose digits below the smallest normal number, or be 0, where the whole
product does neither.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner


@conditioner(source="DLMF 4.28")
class TanhActivation(Conditioner):
    """h = tanh a."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, a):
        return m.tanh(a)                                                            # (1)

    def forward(self, a):
        return np.tanh(a)                                                           # (1)

    def slope(self, a):
        r = sech(a)
        return r * r                                                                # (2)

    def vjp(self, a):
        def pullback(h_bar):
            r = sech(a)
            return h_bar * r * r, {}                                                # (2) (3)

        return self.forward(a), pullback

    hard_cases = (
        case("Tiny", "h is a", z=[1e-9, 5e-324]),
        case("Saturated", "h rounds to 1, the slope does not round to 0: 1 - h^2 does", z=[19.1, -40.0, 350.0]),
        case("Subnormal", "the slope is below the smallest normal number, h_bar r^2 need not be", z=[355.0, -372.0]),
    )


def sech(a):
    p = np.exp(-np.abs(a))
    return 2 * p / (1 + p * p)                                                      # (2)
