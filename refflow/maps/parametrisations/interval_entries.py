r"""A vector whose entries lie in an interval, by a sigmoid.

The map.  Each entry of h gives one of `x`:
    x_i = low + (high - low) sigmoid(h_i),   sigmoid(h) = 1/(1 + exp(-h))           (1)

The reverse rule.  The slope of `sigmoid(h)` is `sigmoid(h) sigmoid(-h)`, so that
    h_bar_i = x_bar_i (high - low) sigmoid(h_i) sigmoid(-h_i)                       (2)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain, refusal
from ...core.rules import ABOVE_0, AT_LEAST_0, count
from ..elementwise.scale import scaled
from .parametrisation import Map, parametrisation


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def fields(h, count, low, high):
        return {"entries": low + (high - low) / (1 + np.exp(-h))}                   # (1)

    def vjp(h, count, low, high, entries_bar):
        return entries_bar * (high - low) / (1 + np.exp(-h)) / (1 + np.exp(h)), {}  # (2)


r"""In floating point.

In (1), `exp(-h)` may overflow where `x` is above `low`, and `exp(h)` may underflow where `(high - low) exp(h)` does not.  The
exponent is kept apart:
    sigmoid(h) = exp(min(h, 0))/(1 + q),   q = exp(-|h|)                            (3)

In (2), the slope may underflow where its product with a cotangent does not.  Its exponent is kept apart, too:
    sigmoid(h) sigmoid(-h) = exp(-|h|)/(1 + q)^2                                    (4)
"""


@parametrisation(source="Pyro, nflows", textbook=textbook)
class IntervalEntries(Map):
    """`entries` (count,) between low and high.  ValueError for low < 0 or high <= low."""

    count: int = plain(rule=count())
    low: float = plain(0.0, AT_LEAST_0)
    high: float = plain(1.0, ABOVE_0)
    names = ("entries",)

    size = property(lambda self: self.count)
    cores = property(lambda self: ((self.count,),))

    def _validate(self):
        super()._validate()
        if not self.low < self.high:
            raise ValueError(f"IntervalEntries: low must be < high; low = {self.low}, high = {self.high}")

    @classmethod
    def examples(cls, source):
        return cls(2, *source.choice(((0.0, 1.0), (0.025, 0.975), (0.0, 3.0)))), (2,)

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, h):
        q = np.exp(-np.abs(h))                                                      # (3)
        gate, span = 1 / (1 + q), self.high - self.low

        def pullback(bars):
            return scaled(bars["entries"], (h.dtype.type(span), gate, gate), -np.abs(h)), {}    # (2) (4)

        return {"entries": self.low + scaled(gate, h.dtype.type(span), np.minimum(h, 0))}, pullback     # (1) (3)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Left", "x underflows, or rounds to low", z=[[-40.0, -800.0]], count=2),
        case("Right", "x rounds to high, its slope does not round to 0", z=[[40.0, 700.0]], count=2, low=0.025, high=0.975),
    )
    refused = (
        refusal("low must be < high", count=1, low=1.0, high=1.0),
    )
