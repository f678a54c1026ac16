r"""Softplus on every entry of an event.

With `t = exp(-|a|)` and `m = exp(min(a, 0)/2)`, both at most 1, and `sigma` the logistic sigmoid,
    h = log(1 + exp a)                                                              (1)
    dh/da = sigma(a) = m^2 / (1 + t)                                                (2)
    a_bar = h_bar dh/da = (h_bar m) m / (1 + t)                                     (3)

The product with the square in (3) is taken in this order: `m^2` may lose digits below the smallest normal number, or be 0,
where the whole product does neither.

Source: Dugas et al., NIPS 2000.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner
from ..elementwise import Softplus

SOFTPLUS = Softplus().unchecked(np.float64)          # it has no fields, and keeps the dtype of its events


@conditioner(source="Dugas et al., NIPS 2000")
class SoftplusActivation(Conditioner):
    """h = log(1 + exp a)."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, a):
        return m.log1p(m.exp(a))                                                    # (1)

    def forward(self, a):
        return SOFTPLUS.forward(a)                                                  # (1)

    def slope(self, a):
        return SOFTPLUS.slope(a)                                                    # (2)

    def vjp(self, a):
        def pullback(h_bar):
            m, t = exponentials(a)
            return h_bar * m * m / (1 + t), {}                                      # (2) (3)

        return self.forward(a), pullback

    hard_cases = (
        case("Left", "h is exp a: log(1 + exp a) without log1p returns 0", z=[-37.0, -700.0]),
        case("Subnormal", "the slope is below the smallest normal number, h_bar m^2 need not be", z=[-709.0, -745.0]),
        case("Beyond", "exp a overflows, h does not", z=[709.8, 2.0**1000, -2.0**1000]),
    )


def exponentials(a):
    """exp(min(a, 0)/2) and exp(-|a|)."""
    return np.exp(np.minimum(a, 0) / 2), np.exp(-np.abs(a))
