r"""A part of h for each field, through a map of its own.

The map.  The parts of h stand one after the other, in the order of the fields:
    h = (h_1, h_2, ...),   fields_i = map_i(h_i)                                    (1)

The reverse rule.  Each part gets its cotangent from its own map, with the pullback `map_i*`:
    h_i_bar = map_i*(fields_i_bar)                                                  (2)
"""

from __future__ import annotations

import numpy as np

from ...core import case, children, plain, refusal
from ..elementwise import CONVENTIONS, ExpScale, SoftplusScale
from .knot_slopes import KnotSlopes
from .parametrisation import Map, parametrisation
from .softmax_knots import SoftmaxKnots


@parametrisation(source="definition")
class PerPart(Map):
    """Field `names[i]` is what `maps[i]` makes of the i-th part of h, which has as many numbers as the map's size.

    Each map gives one field.  `constants`: pairs of a name and a plain value, fields that do not depend on h.
    """

    names: tuple = plain()
    maps: tuple[Map, ...] = children()
    constants: tuple = plain(())

    size = property(lambda self: sum(part.size for part in self.maps))
    cores = property(lambda self: tuple(part.cores[0] for part in self.maps))

    def _validate(self):
        super()._validate()
        self._set("names", tuple(self.names))
        self._set("constants", tuple(map(tuple, self.constants)))
        if len(self.names) != len(self.maps):
            raise ValueError(f"PerPart: {len(self.names)} names need as many maps, not {len(self.maps)}")
        for i, part in enumerate(self.maps):
            if len(part.names) != 1:
                raise ValueError(f"PerPart: each map must give one field; maps[{i}] gives {part.names}")

    @classmethod
    def examples(cls, source):
        """A spline of two bins."""
        scale = source.choice((SoftplusScale(floor=1e-3), CONVENTIONS["RealNVP"]))
        maps = SoftmaxKnots(2), SoftmaxKnots(2, 0.0, 2.0, 2e-3), KnotSlopes(scale, 2)
        f = cls(("input_knots", "output_knots", "slopes"), maps)
        return f, (f.size,)

    @staticmethod
    def definition(m, h, names, maps, constants):
        fields, start = dict(constants), 0
        for name, part in zip(names, maps):
            (fields[name],) = part.definition(m, h[start:start + part.size]).values()           # (1)
            start += part.size
        return fields

    def vjp(self, h):
        parts = np.split(h, np.cumsum([part.size for part in self.maps])[:-1], -1)
        found = [part.vjp(h_i) for part, h_i in zip(self.maps, parts)]

        def pullback(bars):
            pulled = [back({part.names[0]: bars[name]}) for name, part, (_, back) in zip(self.names, self.maps, found)]
            return (np.concatenate([bar for bar, _ in pulled], -1),
                    {"maps": {str(i): own for i, (_, own) in enumerate(pulled)}})   # (2)

        fields = {name: values[part.names[0]] for name, part, (values, _) in zip(self.names, self.maps, found)}         # (1)
        return dict(self.constants) | fields, pullback

    hard_cases = (
        case("Spline", "a rational-quadratic spline of one bin: its ends are fixed", z=[[1.0, -2.0]],
             names=("input_knots", "output_knots", "slopes"),
             maps=(SoftmaxKnots(1), SoftmaxKnots(1), KnotSlopes(ExpScale(), 1))),
    )
    refused = (
        refusal("1 names need as many maps, not 2", names=("a",), maps=(SoftmaxKnots(2), SoftmaxKnots(2))),
    )

