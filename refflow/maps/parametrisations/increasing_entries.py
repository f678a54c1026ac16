r"""An increasing vector: its first entry, and the steps between its entries through one scale.

The map.  A scale is positive, so that each step goes up:
    x_0 = h_0,   x_i = x_(i - 1) + scale(h_i)                                       (1)

The reverse rule.  Step `i` moves the entry `x_i` and all entries after it:
    h_bar_0 = sum_j x_bar_j,   h_bar_i = dscale_i/dh_i sum_(j >= i) x_bar_j         (2)
"""

from __future__ import annotations

import numpy as np

from ...core import Value, case, child, plain, refusal
from ...core.rules import count
from ..elementwise import CONVENTIONS, ExpScale, RescaledTanhExpScale, SoftplusScale
from ..elementwise.scale import elementwise
from .parametrisation import Map, parametrisation


@parametrisation(source="zuko")
class IncreasingEntries(Map):
    """`entries` (count,), increasing: h_0 and, after it, the numbers h_i through the scale, added up."""

    scale: Value = child()
    count: int = plain(rule=count(2))
    names = ("entries",)

    size = property(lambda self: self.count)
    cores = property(lambda self: ((self.count,),))

    def _validate(self):
        super()._validate()
        elementwise("IncreasingEntries", self.scale)

    @classmethod
    def examples(cls, source):
        f = cls(source.choice((SoftplusScale(floor=1e-3), CONVENTIONS["RealNVP"], ExpScale())), source.count(2, 4))
        return f, (f.count,)

    @staticmethod
    def definition(m, h, scale, count):
        entries = h[:1]                                                             # (1)
        for h_i in h[1:]:
            entries = [*entries, entries[-1] + scale.definition(m, h_i)]            # (1)
        return {"entries": entries}

    def vjp(self, h):
        (steps, _), scale_pullback = self.scale.vjp(h[..., 1:])
        entries = np.cumsum(np.concatenate((h[..., :1], steps), -1), -1)            # (1)

        def pullback(bars):
            sums = np.cumsum(bars["entries"][..., ::-1], -1)[..., ::-1]             # (2)
            h_bar, scale_bar = scale_pullback(sums[..., 1:], np.zeros_like(steps))  # (2)
            return np.concatenate((sums[..., :1], h_bar), -1), {"scale": scale_bar}

        return {"entries": entries}, pullback

    hard_cases = (
        case("Cancelling", "the first step leads to an entry near 0", z=[[-1.0, 2.0**-30], [-2.0, np.log(2)]], scale=ExpScale(),
             count=2),
        case("Far", "steps of very different sizes", z=[[1.0, -20.0, 5.0]], scale=SoftplusScale(floor=1e-3), count=3),
    )
    refused = (
        refusal("scale must be elementwise", scale=RescaledTanhExpScale(None, None, [1.0, 2.0]), count=2),
    )
