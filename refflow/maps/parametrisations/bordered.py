r"""A vector between fixed numbers.

The map.  A map of h gives the inner entries `v`, and fixed numbers stand before and after them:
    entries = (before, v, after),   v = map(h)                                      (1)

The reverse rule.  Fixed numbers hand no cotangent on.  With the pullback `map*`,
    h_bar = map*(v_bar)                                                             (2)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, case, child, constant, refusal
from ..elementwise import CONVENTIONS, ExpScale
from .entries import Entries
from .matrix_entries import MatrixEntries
from .parametrisation import Map, parametrisation
from .softmax_knots import SoftmaxKnots
from .softplus_spline import SoftplusSpline


@parametrisation(source="zuko")
class Bordered(Map):
    """The vector that `map` makes of h, with the numbers of `before` and `after` around it.

    Raises ValueError if the map does not give one vector.
    """

    map: Map = child()
    before: Array = constant("A", dtype=np.float64)
    after: Array = constant("B", dtype=np.float64)

    size = property(lambda self: self.map.size)
    names = property(lambda self: self.map.names)
    cores = property(lambda self: ((len(self.before) + self.map.cores[0][0] + len(self.after),),))

    def _validate(self):
        super()._validate()
        if len(self.map.cores) != 1 or len(self.map.cores[0]) != 1:
            raise ValueError(f"Bordered: map must give one vector, not {self.map.names} of shapes {self.map.cores}")

    @classmethod
    def examples(cls, source):
        inner = source.choice((Entries(CONVENTIONS["RealNVP"], 2), SoftmaxKnots(2, -1.0, 1.0)))
        return cls(inner, np.array([-2.0]), np.array([2.0, 3.0])), (2,)

    @staticmethod
    def definition(m, h, map, before, after):
        ((name, v),) = map.definition(m, h).items()
        return {name: [*(m.mpf(number) for number in before), *v, *(m.mpf(number) for number in after)]}        # (1)

    def vjp(self, h):
        fields, map_pullback = self.map.vjp(h)
        ((name, v),) = fields.items()
        ends = [np.broadcast_to(fixed.astype(h.dtype), (*v.shape[:-1], len(fixed))) for fixed in (self.before, self.after)]

        def pullback(bars):
            inside = bars[name][..., len(self.before):len(self.before) + v.shape[-1]]
            h_bar, map_bar = map_pullback({name: inside})                           # (2)
            return h_bar, {"map": map_bar}

        return {name: np.concatenate((ends[0], v, ends[1]), -1)}, pullback          # (1)

    hard_cases = (
        case("Nothing", "no numbers around it", z=[[1.0]], map=Entries(ExpScale(), 1), before=np.zeros(0), after=np.zeros(0)),
    )
    refused = (
        refusal("Bordered: map must give one vector", map=SoftplusSpline(1), before=[0.0], after=[1.0]),
        refusal("Bordered: map must give one vector", map=MatrixEntries(1, 2), before=[0.0], after=[1.0]),
    )
