r"""Location and scale of the gated map of inverse autoregressive flows (Kingma et al., arXiv:1606.04934; "stable" in Pyro).

The map.  The gated map `x = sigma z + (1 - sigma) m` is `ScaledAffine` with the field `s` unchanged, and with
    sigma = sigmoid v = 1/(1 + exp(-v)),   v = s + offset                           (1)
    shift = (1 - sigma) m                                                           (2)

The reverse rule.  With `dsigma/ds = sigma (1 - sigma)` and the cotangents of both fields, for `h = (s, m)`,
    h_bar_s = s_bar - shift_bar m sigma (1 - sigma)                                 (3)
    h_bar_m = shift_bar (1 - sigma)                                                 (4)
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain, refusal
from ...core.rules import FINITE
from ..elementwise.examples import order
from ..elementwise.scale import logistic, scaled
from ..elementwise.sigmoid_scale import SigmoidScale
from .parametrisation import Map, checked_order, parametrisation


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def fields(h, offset, order):
        s, m = h[order.index("scale")], h[order.index("shift")]
        sigma = 1 / (1 + np.exp(-(s + offset)))                                     # (1)
        return {"s": s, "shift": (1 - sigma) * m}                                   # (2)

    def vjp(h, offset, order, s_bar, shift_bar):
        s, m = h[order.index("scale")], h[order.index("shift")]
        sigma = 1 / (1 + np.exp(-(s + offset)))                                     # (1)
        by_name = {"scale": s_bar - shift_bar * m * sigma * (1 - sigma),            # (3)
                   "shift": shift_bar * (1 - sigma)}                                # (4)
        return np.array([by_name[name] for name in order]), {}


class Gate:
    """sigmoid(s + offset), as definitions see a scale."""

    def __init__(self, offset):
        self.offset = offset

    def definition(self, m, s):
        return SigmoidScale.definition(m, s, self.offset, 0)                        # (1)


r"""In floating point.

In (1), a rounding of the exponent `v` is magnified by the exponential.  With `s + offset = v + r`, where `v` is rounded,
    exp(s + offset) = exp(r) exp(v) = (1 + r + r^2/2 + ...) exp(v)                  (5)

In (2) to (4), `1 - sigma` is 0 where `sigma` rounds to 1:
    1 - sigma = sigmoid(-v)                                                         (6)

In (2) to (4), an exponential may underflow where its product with `m` or with a cotangent does not.  Its exponent is kept
apart, with `g = 1/(1 + exp(-|v|))`:
    1 - sigma = g exp(min(-v, 0)),   sigma (1 - sigma) = g^2 exp(-|v|)              (7)
"""


@parametrisation(source="arXiv:1606.04934", textbook=textbook)
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

    # -- the map ------------------------------------------------------------------------------------------------------

    @staticmethod
    def definition(m, h, offset, order):
        s, mean = h[order.index("scale")], h[order.index("shift")]
        return {"s": s, "scale": Gate(offset), "shift": mean / (1 + m.exp(s + offset))}       # (1) (2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, h):
        s, m = (h[..., self.order.index(name)] for name in ("scale", "shift"))
        (opening, v, _), (gate, w, _) = logistic(s, self.offset), logistic(-s, -self.offset)        # (1) (5) (6)

        def pullback(bars):
            s_bar = bars["s"] - scaled(m, (bars["shift"], opening, gate), v + w)    # (3) (7)
            by_name = {"scale": s_bar, "shift": scaled(bars["shift"], gate, w)}     # (4) (7)
            return np.stack([by_name[name] for name in self.order], -1), {}

        return {"s": s, "shift": scaled(m, gate, w), "scale": self.scale}, pullback         # (2) (7)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Open", "1 - sigma is exp(-v), far below u", z=[[40.0, 3.0], [760.0, 2.0**1000]]),
        case("Closed", "1 - sigma rounds to 1, sigma (1 - sigma) is exp(v)", z=[[-40.0, 3.0], [-760.0, 1.0]]),
        case("Large", "the rounding of the sum would be many units", z=[[1e-3, 2.0], [-3.0, 1.0]], offset=43.1),
        case("ShiftFirst", "the other order", z=[[1.0, -2.0]], order=("shift", "scale")),
    )
    refused = (
        refusal("order must be", order=("shift", "shift")),
    )
