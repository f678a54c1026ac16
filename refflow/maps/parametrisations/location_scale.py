r"""Location and scale: the fields of `ScaledAffine` and `ScaledShift`, unchanged.

The map.  Two numbers of h are the two fields:
    s = h_i,   shift = h_j,   (i, j) the order                                      (1)

The reverse rule.  Their cotangents go back to the same places:
    h_bar_i = s_bar,   h_bar_j = shift_bar                                          (2)
"""

from __future__ import annotations

import numpy as np

from ...core import case, child, plain, refusal
from ..elementwise.examples import order
from ..elementwise.exp_scale import ExpScale
from ..elementwise.scale import Scale
from .parametrisation import Map, checked_order, parametrisation


@parametrisation(source="definition")
class LocationScale(Map):
    """(s, shift) of `ScaledAffine` or `ScaledShift`, in the given order in h."""

    scale: Scale = child()
    order: tuple = plain(("scale", "shift"))
    size, names = 2, ("s", "shift")

    channels = property(lambda self: None if self.scale.gains is None else self.scale.gains.shape[-1])

    def _validate(self):
        super()._validate()
        self._set("order", checked_order("LocationScale", self.order))

    @classmethod
    def examples(cls, source):
        return cls(ExpScale(), **order(source)), (2,)

    @staticmethod
    def definition(m, h, scale, order):
        return {"s": h[order.index("scale")], "shift": h[order.index("shift")], "scale": scale}     # (1)

    def vjp(self, h):
        s, shift = (h[..., self.order.index(name)] for name in ("scale", "shift"))

        def pullback(bars):
            by_name = {"scale": bars["s"], "shift": bars["shift"]}
            return np.stack([by_name[name] for name in self.order], -1), {"scale": bars["scale"]}   # (2)

        return {"s": s, "shift": shift, "scale": self.scale}, pullback                          # (1)

    hard_cases = (
        case("ShiftFirst", "the other order", z=[[1.0, -2.0]], scale=ExpScale(), order=("shift", "scale")),
    )
    refused = (
        refusal("order must be", scale=ExpScale(), order=("scale",)),
    )
