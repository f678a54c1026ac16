r"""SiLU, or swish, on every entry of an event.

With `t = exp(-|a|)` and `m = exp(min(a, 0)/2)`, both at most 1, and `sigma` the logistic sigmoid,
    h = a sigma(a) = a / (1 + t) for a > 0, a t / (1 + t) for a <= 0                (1)
    dh/da = (1 + t + a t) / (1 + t)^2       for a > 0                               (2)
          = t (1 + t + a) / (1 + t)^2       for a <= 0                              (3)
    a_bar = h_bar dh/da                                                             (4)

(2) is written in exponentials, since `1 - sigma(a)` loses every digit once `sigma(a)` rounds to 1.  (3) cancels only
near its zero, at -1.28.  Below `a = -12`, products with `t = m^2` are taken as `(a m) m` in (1) and `(h_bar m) m` in (3):
`t` may lose digits below the smallest normal number, or be 0, where the whole product does neither.

Source: Hendrycks & Gimpel, arXiv:1606.08415.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner
from .softplus_activation import exponentials

DEEP = -12                                      # exp(-12) is a normal number


@conditioner(source="arXiv:1606.08415")
class SiLU(Conditioner):
    """h = a / (1 + exp(-a)), also called swish."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, a):
        return a / (1 + m.exp(-a))                                                  # (1)

    def forward(self, a):
        m, t = exponentials(a)
        return np.where(a > 0, a, np.where(a < DEEP, a * m * m, a * t)) / (1 + t)   # (1)

    def slope(self, a):
        return self.vjp(a)[1](np.ones_like(a))[0]

    def vjp(self, a):
        def pullback(h_bar):
            m, t = exponentials(a)
            right, left = 1 + t + a * t, t * (1 + t + a)                            # (2) (3)
            deep = h_bar * m * (1 + t + a) * m                                      # (3)
            scaled = np.where(a < DEEP, deep, h_bar * np.where(a > 0, right, left))
            return scaled / (1 + t) ** 2, {}                                        # (4)

        return self.forward(a), pullback

    hard_cases = (
        case("Turning", "the slope passes through 0", z=[-1.2784645427610738, -1.2784645427610740]),
        case("Left", "exp a alone is subnormal or 0, h and the slope are not", z=[-709.0, -740.0, -746.0, -751.0]),
        case("Right", "h rounds to a, and the slope to 1", z=[37.0, 740.0]),
        case("Beyond", "exp(-a) overflows, or h is 0", z=[2.0**1000, -2.0**1000]),
    )
