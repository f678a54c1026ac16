r"""One number for each field, through a scale of its own.

The map.  Field `i` is made of number `i` of h:
    fields_i = scale_i(h_i)                                                         (1)

The reverse rule.  From (1), field by field,
    h_bar_i = fields_bar_i dscale_i/dh_i                                            (2)
"""

from __future__ import annotations

import numpy as np

from ...core import Value, case, children, plain, refusal
from ..elementwise import CONVENTIONS, ExpScale, RescaledTanhExpScale, SoftplusScale
from ..elementwise.examples import convention
from ..elementwise.scale import elementwise
from .free import Free
from .parametrisation import Map, parametrisation


@parametrisation(source="definition")
class PerField(Map):
    """Entry i of h is the field `names[i]`: through its own scale, `scales[i]`, or unchanged if that is a `Free`."""

    names: tuple = plain()
    scales: tuple[Value, ...] = children()

    size = property(lambda self: len(self.names))

    def _validate(self):
        super()._validate()
        self._set("names", tuple(self.names))
        for scale in self.scales:
            elementwise("PerField", scale)
        if len(self.names) != len(self.scales):
            raise ValueError(f"PerField: {len(self.names)} names need as many scales, not {len(self.scales)}")

    @classmethod
    def examples(cls, source):
        """A convention, one with parameters of its own, and a free field."""
        first = source.choice((convention(source), SoftplusScale(floor=0.1)))
        return cls(("exponent", "scale", "shift"), (first, CONVENTIONS["RealNVP"], Free())), (3,)

    @staticmethod
    def definition(m, h, names, scales):
        return {name: scale.definition(m, h_i) for name, scale, h_i in zip(names, scales, h)}       # (1)

    def vjp(self, h):
        found = [scale.vjp(h[..., i]) for i, scale in enumerate(self.scales)]

        def pullback(bars):
            pulled = [back(bars[name], np.zeros_like(bars[name])) for name, (_, back) in zip(self.names, found)]
            return (np.stack([bar for bar, _ in pulled], -1),
                    {"scales": {str(i): own for i, (_, own) in enumerate(pulled)}})                 # (2)

        return {name: values[0] for name, (values, _) in zip(self.names, found)}, pullback       # (1)

    hard_cases = (
        case("Affine", "a scale beside a free shift", z=[[1.0, -2.0], [-40.0, 1e-20]], names=("scale", "shift"),
             scales=(ExpScale(), Free())),
    )
    refused = (
        refusal("1 names need as many scales, not 2", names=("shift",), scales=(Free(), Free())),
        refusal("scale must be elementwise", names=("scale",), scales=(RescaledTanhExpScale(None, None, [1.0]),)),
    )
