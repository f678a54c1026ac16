"""torchflows 1.2.1, as adapters: `refflow check torchflows`.

Its transformers take the event and raw parameters h; they are asked at their raw numbers, see `shared.numbers`.
"""

from __future__ import annotations

import refflow
from torchflows.bijections.finite.autoregressive.transformers.linear.affine import Affine, SafeAffine
from torchflows.bijections.finite.autoregressive.transformers.spline.rational_quadratic import RationalQuadratic

from refflow.maps.elementwise import CONVENTIONS, ScaledAffine
from refflow.maps.parametrisations import SPLINES, LocationScale

from .shared import pinned
from .shared.numbers import raw, splines
from .shared.torch import declaring, second_entry

version = pinned("torchflows", "1.2.1")
declare = declaring("torchflows.bijections.finite.autoregressive.transformers.")
BINS = 5


def transformer_of(module):
    def build(p):
        h = raw(p)

        def of(call):
            return second_entry(lambda rows: call(rows, h.expand(*rows.shape, -1)))

        return of(module.forward), of(module.inverse)

    return build


for like, coupling in splines(refflow.RationalQuadraticSpline, SPLINES["torchflows"](BINS, 3.0)):
    declare(coupling, f"RationalQuadratic [{like} numbers]", transformer_of(RationalQuadratic((1,), boundary=3.0, n_bins=BINS)))
for name, module in {"torchflows": Affine, "torchflows SafeAffine": SafeAffine}.items():
    for like, coupling in splines(ScaledAffine, LocationScale(CONVENTIONS[name])):
        declare(coupling, f"{module.__name__} [{like} numbers]", transformer_of(module((1,))))
