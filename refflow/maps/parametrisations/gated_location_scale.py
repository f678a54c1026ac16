r"""Location and scale of the gated map of inverse autoregressive flows (Kingma et al., arXiv:1606.04934; "stable" in Pyro).

With `v = s + offset`, `x = sigma z + (1 - sigma) m` is `ScaledAffine` with the fields `s` and
    shift = m (1 - sigma),   sigma = sigmoid v                                      (1)
    1 - sigma = sigmoid(-v)                                                         (2)
Reverse rule, from the cotangents of these fields to the cotangents of `h = (s, m)`, with `dsigma/ds = sigma (1 - sigma)`:
    h_bar_s = s_bar - shift_bar m sigma (1 - sigma),   h_bar_m = shift_bar (1 - sigma)      (3)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain, refusal
from ...core.rules import FINITE
from ..elementwise.examples import order
from ..elementwise.scale import logistic, scaled
from ..elementwise.sigmoid_scale import SigmoidScale
from .parametrisation import Map, checked_order, parametrisation


class Gate:
    """sigmoid(s + offset), as definitions see a scale."""

    def __init__(self, offset):
        self.offset = offset

    def definition(self, m, s):
        return SigmoidScale.definition(m, s, self.offset, 0)                        # (1)


@parametrisation(source="arXiv:1606.04934")
class GatedLocationScale(Map):
    """s and shift = (1 - sigmoid(s + offset)) m of `ScaledAffine`.

    In h, s stands where `order` has "scale", m where it has "shift".
    """

    offset: float = plain(2.0, FINITE)
    order: tuple = plain(("scale", "shift"))
    size, names = 2, ("s", "shift")

    def _validate(self):
        super()._validate()
        self._set("order", checked_order("GatedLocationScale", self.order))
        self._set("scale", SigmoidScale(self.offset))

    @classmethod
    def examples(cls, source):
        return cls(source.choice((2.0, 0.0, -1.5)), **order(source)), (2,)

    @staticmethod
    def definition(m, h, offset, order):
        s, mean = h[order.index("scale")], h[order.index("shift")]
        return {"s": s, "scale": Gate(offset), "shift": mean / (1 + m.exp(s + offset))}       # (1)

    def vjp(self, h):
        s, m = (h[..., self.order.index(name)] for name in ("scale", "shift"))
        (opening, v, _), (gate, w, _) = logistic(s, self.offset), logistic(-s, -self.offset)        # (1) (2)

        def pullback(bars):
            s_bar = bars["s"] - scaled(m, (bars["shift"], opening, gate), v + w)    # (3)
            by_name = {"scale": s_bar, "shift": scaled(bars["shift"], gate, w)}     # (3)
            return np.stack([by_name[name] for name in self.order], -1), {}

        return {"s": s, "shift": scaled(m, gate, w), "scale": self.scale}, pullback         # (1)

    hard_cases = (
        case("Open", "1 - sigma is exp(-v), far below u", z=[[40.0, 3.0], [760.0, 2.0**1000]]),
        case("Closed", "1 - sigma rounds to 1, sigma (1 - sigma) is exp(v)", z=[[-40.0, 3.0], [-760.0, 1.0]]),
        case("Large", "the rounding of the sum would be many units", z=[[1e-3, 2.0], [-3.0, 1.0]], offset=43.1),
        case("ShiftFirst", "the other order", z=[[1.0, -2.0]], order=("shift", "scale")),
    )
    refused = (
        refusal("order must be", order=("shift", "shift")),
    )
