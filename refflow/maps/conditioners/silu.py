r"""SiLU, or swish, on every entry of an event.

The map.  With the logistic `sigma(a) = 1/(1 + exp(-a))`,
    h = a sigma(a)                                                                  (1)
    dh/da = sigma(a) (1 + a (1 - sigma(a)))                                         (2)

The reverse rule.  By (2),
    a_bar = h_bar dh/da                                                             (3)
The cotangents of tangents, as `jvp` needs them, take the derivative of the slope `s = dh/da`:
    ds/da = sigma(a) (1 - sigma(a)) (2 + a (1 - 2 sigma(a)))                        (4)

Source: Hendrycks & Gimpel, arXiv:1606.08415.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner
from .softplus_activation import exponentials

DEEP = -12                                      # exp(-12) is a normal number
STEEPEST = 1.0998393202                         # the largest slope, rounded up


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def forward(a):
        return a / (1 + np.exp(-a))                                                 # (1)

    def slope(a):
        sigma = 1 / (1 + np.exp(-a))
        return sigma * (1 + a * (1 - sigma))                                        # (2)

    def curvature(a):
        sigma = 1 / (1 + np.exp(-a))
        return sigma * (1 - sigma) * (2 + a * (1 - 2 * sigma))                      # (4)

    def vjp(a, h_bar):
        return h_bar * textbook.slope(a), {}                                        # (3)


r"""In floating point.

In (1), `exp(-a)` overflows where `h` need not be 0.  With `t = exp(-|a|)`,
    h = a/(1 + t) for a > 0,   a t/(1 + t) for a <= 0                               (5)

In (2), `1 - sigma(a)` loses every digit once `sigma(a)` rounds to 1:
    dh/da = (1 + t + a t)/(1 + t)^2       for a > 0                                 (6)
          = t (1 + t + a)/(1 + t)^2       for a <= 0                                (7)
(7) cancels only near its zero, at -1.28.

In (1) and (3), `t` may lose digits below the smallest normal number, or be 0, where the whole product does neither.  Below
`a = -12`, with `m = exp(min(a, 0)/2)`, so that `t = m^2`,
    h = (a m) m/(1 + t),   a_bar = ((h_bar m) (1 + t + a) m)/(1 + t)^2              (8)

In (4), both differences lose digits where `sigma(a)` rounds to 1 or to 1/2:
    sigma(a) (1 - sigma(a)) = t/(1 + t)^2,   1 - 2 sigma(a) = -tanh(a/2)            (9)
"""


@conditioner(source="arXiv:1606.08415", textbook=textbook)
class SiLU(Conditioner):
    """h = a / (1 + exp(-a)), also called swish."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        m, t = exponentials(a)
        return np.where(a > 0, a, np.where(a < DEEP, a * m * m, a * t)) / (1 + t)   # (5) (8)

    def slope(self, a):
        return self.vjp(a)[1](np.ones_like(a))[0]

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def curvature(self, a):
        _, t = exponentials(a)
        return t / (1 + t) ** 2 * (2 - a * np.tanh(a / 2))                          # (4) (9)

    def vjp(self, a):
        def pullback(h_bar):
            m, t = exponentials(a)
            right, left = 1 + t + a * t, t * (1 + t + a)                            # (6) (7)
            deep = h_bar * m * (1 + t + a) * m                                      # (8)
            scaled = np.where(a < DEEP, deep, h_bar * np.where(a > 0, right, left))
            return scaled / (1 + t) ** 2, {}                                        # (3)

        return self.forward(a), pullback

    def lipschitz(self):
        """The largest slope, at a = 2.3993572805, where the second derivative is 0, rounded up."""
        return STEEPEST

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Turning", "the slope passes through 0", z=[-1.2784645427610738, -1.2784645427610740]),
        case("Left", "exp a alone is subnormal or 0, h and the slope are not", z=[-709.0, -740.0, -746.0, -751.0]),
        case("Right", "h rounds to a, and the slope to 1", z=[37.0, 740.0]),
        case("Beyond", "exp(-a) overflows, or h is 0", z=[2.0**1000, -2.0**1000]),
    )
