r"""The vector that another map makes, as an array.

The map.  The numbers of `x = map(h)` fill the array row by row:
    A_ij... = x_n,   n = the place of (i, j, ...) in row-major order                (1)

The reverse rule.  The page moves entries and changes none of them, and cotangents move back.  With the pullback `map*`,
    x_bar_n = A_bar_ij...,   h_bar = map*(x_bar)                                    (2)
"""

from __future__ import annotations

import math

from ...core import case, child, plain, refusal
from ..elementwise import CONVENTIONS, SoftplusScale
from .entries import Entries
from .free import Free
from .parametrisation import Map, parametrisation


@parametrisation(source="definition")
class Reshaped(Map):
    """`array` of a shape, row by row: the numbers of the vector that `map` makes.

    Raises ValueError if the map gives more than one field, or if its vector does not have as many numbers as the shape.
    """

    map: Map = child()
    shape: tuple = plain()
    names = ("array",)

    size = property(lambda self: self.map.size)
    cores = property(lambda self: (self.shape,))

    def _validate(self):
        super()._validate()
        self._set("shape", tuple(self.shape))
        if self.map.cores != ((math.prod(self.shape),),):
            raise ValueError(f"Reshaped: map must give one vector of {math.prod(self.shape)} numbers, for shape {self.shape}; "
                             f"its fields have shapes {self.map.cores}")

    @classmethod
    def examples(cls, source):
        shape = source.choice(((2, 1), (1, 2), (2, 2)))
        scale = source.choice((SoftplusScale(floor=1e-3), CONVENTIONS["RealNVP"], Free()))
        f = cls(Entries(scale, math.prod(shape)), shape)
        return f, (f.size,)

    @staticmethod
    def definition(m, h, map, shape):
        (values,) = map.definition(m, h).values()
        for n in reversed(shape[1:]):
            values = [values[i:i + n] for i in range(0, len(values), n)]            # (1)
        return {"array": values}

    def vjp(self, h):
        fields, map_pullback = self.map.vjp(h)
        name, batch = self.map.names[0], h.shape[:-1]

        def pullback(bars):
            h_bar, map_bar = map_pullback({name: bars["array"].reshape(*batch, -1)})            # (2)
            return h_bar, {"map": map_bar}

        return {"array": fields[name].reshape(*batch, *self.shape)}, pullback       # (1)

    hard_cases = (
        case("Rows", "row by row, not column by column", z=[[1.0, 2.0, -40.0, 4.0, -5.0, 0.0]],
             map=Entries(SoftplusScale(floor=1e-3), 6), shape=(2, 3)),
        case("Cube", "three axes", z=[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]], map=Entries(Free(), 8), shape=(2, 2, 2)),
    )
    refused = (
        refusal("map must give one vector of 2 numbers", map=Entries(Free(), 3), shape=(2, 1)),
    )
