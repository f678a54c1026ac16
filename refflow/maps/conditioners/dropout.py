r"""Dropout, on every entry of an event.

The map.  A mask keeps some entries, and the others become 0:
    h = a / (1 - rate)      where keep, else 0                                      (1)
    dh/da = 1 / (1 - rate)  where keep, else 0                                      (2)
The mask is a constant that the caller draws, e.g. `keep = rng.random(shape) >= rate`: there is no hidden randomness, and the
expectation of `h` over masks is `a`.  Without dropout the layer is left out.

The reverse rule.  From (2), entry by entry,
    a_bar = h_bar / (1 - rate)  where keep, else 0                                  (3)
and the cotangents of tangents take
    ds/da = 0                                                                       (4)

Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, JMLR 15 (2014), section 10.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, constant, plain
from ...core.rules import number
from ...core.words import each


@conditioner(source="Srivastava et al., JMLR 15 (2014)")
class Dropout(Conditioner):
    """h = keep a / (1 - rate); `keep` is boolean and broadcasts with a, 0 <= rate < 1 a plain number."""

    keep: Array = constant(dtype=bool)
    rate: float = plain(rule=number(0, 1, low_included=True))
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, a, keep, rate):
        return each(lambda a_i, keep_i: a_i / (1 - rate) if keep_i else 0 * a_i, a, keep)       # (1)

    def forward(self, a):
        return np.where(self.keep, a / (1 - self.rate), 0)                          # (1)

    def slope(self, a):
        return np.where(self.keep, np.full_like(a, 1 / (1 - self.rate)), 0)         # (2)

    def curvature(self, a):
        return np.zeros_like(a)                                                     # (4)

    def vjp(self, a):
        def pullback(h_bar):
            return np.where(self.keep, h_bar / (1 - self.rate), 0), {}              # (3)

        return self.forward(a), pullback

    def lipschitz(self):
        """|dh/da| <= 1/(1 - rate)."""
        return 1 / (1 - self.rate)

    hard_cases = (
        case("Kept", "a is scaled up", z=[1.5], keep=True, rate=0.5),
        case("Dropped", "a is not read", z=[1.5], keep=False, rate=0.1),
        case("Identity", "rate 0", z=[-2.5], keep=True, rate=0.0),
    )
