r"""A vector, each of whose entries is a number through one scale.

The map.  The same scale is applied to every number of h:
    x_i = scale(h_i)                                                                (1)

The reverse rule.  From (1), entry by entry,
    h_bar_i = x_bar_i dscale_i/dh_i                                                 (2)
"""

from __future__ import annotations

import numpy as np

from ...core import Value, case, child, plain, refusal
from ...core.rules import count
from ..elementwise import CONVENTIONS, ExpScale, RescaledTanhExpScale, SoftplusScale
from ..elementwise.scale import elementwise
from .free import Free
from .parametrisation import Map, parametrisation


@parametrisation(source="definition")
class Entries(Map):
    """`entries` (count,): each number of h through the scale, or unchanged if that is a `Free`."""

    scale: Value = child()
    count: int = plain(rule=count())
    names = ("entries",)

    size = property(lambda self: self.count)
    cores = property(lambda self: ((self.count,),))

    def _validate(self):
        super()._validate()
        elementwise("Entries", self.scale)

    @classmethod
    def examples(cls, source):
        scale = source.choice((SoftplusScale(floor=1e-3), CONVENTIONS["RealNVP"], Free()))
        return cls(scale, 2), (2,)

    @staticmethod
    def definition(m, h, scale, count):
        return {"entries": [scale.definition(m, h_i) for h_i in h]}                 # (1)

    def vjp(self, h):
        (entries, _), scale_pullback = self.scale.vjp(h)                            # (1)

        def pullback(bars):
            h_bar, scale_bar = scale_pullback(bars["entries"], np.zeros_like(h))    # (2)
            return h_bar, {"scale": scale_bar}

        return {"entries": entries}, pullback

    hard_cases = (
        case("Left", "exp h underflows, the entry is the floor", z=[[-40.0, -800.0]], scale=SoftplusScale(floor=1e-3), count=2),
        case("One", "a single number", z=[[0.0]], scale=ExpScale(), count=1),
    )
    refused = (
        refusal("Entries: scale must be elementwise", scale=RescaledTanhExpScale(None, 0.0, [1.0]), count=1),
    )
