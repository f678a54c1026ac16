r"""A vector whose entries lie in an interval, by a sigmoid.

    x_i = low + (high - low) sigmoid(h_i),   sigmoid(h) = exp(min(h, 0))/(1 + q),   q = exp(-|h|)       (1)
    h_bar_i = x_bar_i (high - low) q/(1 + q)^2                                      (2)
The exponents of (1) and (2) are kept apart where `low = 0`: the products with them keep their digits.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain, refusal
from ...core.rules import ABOVE_0, AT_LEAST_0, count
from ..elementwise.scale import scaled
from .parametrisation import Map, parametrisation


@parametrisation(source="Pyro, nflows")
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

    @staticmethod
    def definition(m, h, count, low, high):
        low, high = m.mpf(low), m.mpf(high)
        return {"entries": [low + (high - low) / (1 + m.exp(-h_i)) for h_i in h]}   # (1)

    def vjp(self, h):
        q = np.exp(-np.abs(h))                                                      # (1)
        gate, span = 1 / (1 + q), self.high - self.low

        def pullback(bars):
            return scaled(bars["entries"], (h.dtype.type(span), gate, gate), -np.abs(h)), {}    # (2)

        return {"entries": self.low + scaled(gate, h.dtype.type(span), np.minimum(h, 0))}, pullback     # (1)

    hard_cases = (
        case("Left", "x underflows, or rounds to low", z=[[-40.0, -800.0]], count=2),
        case("Right", "x rounds to high, its slope does not round to 0", z=[[40.0, 700.0]], count=2, low=0.025, high=0.975),
    )
    refused = (
        refusal("low must be < high", count=1, low=1.0, high=1.0),
    )
