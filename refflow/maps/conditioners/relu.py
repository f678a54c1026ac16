r"""The rectified linear unit on every entry of an event.

The map.  For every entry `a`,
    h = max(a, 0)                                                                   (1)
    dh/da = 1 for a > 0, else 0                 at a = 0 the subgradient 0          (2)

The reverse rule.  From (2),
    a_bar = h_bar dh/da                                                             (3)
and the cotangents of tangents take, beside the kink,
    ds/da = 0                                                                       (4)

Source: Nair & Hinton, ICML 2010.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner


@conditioner(source="Nair & Hinton, ICML 2010", smooth=False)
class ReLU(Conditioner):
    """h = max(a, 0), with gradient 0 at 0."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, a):
        return a if a > 0 else 0 * a                                                # (1)

    def forward(self, a):
        return np.maximum(a, 0)                                                     # (1)

    def slope(self, a):
        return (a > 0).astype(a.dtype)                                              # (2)

    def curvature(self, a):
        return np.zeros_like(a)                                                     # (4)

    def vjp(self, a):
        h = self.forward(a)

        def pullback(h_bar):
            return h_bar * (h > 0), {}      # h > 0 where a > 0: so a need not be kept  # (2) (3)

        return h, pullback

    def lipschitz(self):
        """|dh/da| <= 1."""
        return 1.0

    hard_cases = (
        case("Zero", "the kink: the gradient is 0", z=[0.0, -0.0]),
        case("Tiny", "the smallest numbers on both sides of the kink", z=[5e-324, -5e-324]),
    )
