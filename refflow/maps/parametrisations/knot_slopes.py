r"""Slopes of a spline at its knots, each through a scale.

The map.  The slopes at the two end knots are fixed, free, or equal, as libraries have it:
    d_k = scale(h_i)            at inner knots, and at free ends, in their order    (1)
    d_0 = lower,   d_K = upper              at fixed ends                           (2)
    d_K = d_0                               on a circle                             (3)

The reverse rule.  A fixed slope hands nothing back.  On a circle, `d_0` stands at both ends, and its cotangents are added:
    h_i_bar = (d_k_bar + c_k d_K_bar) dscale_i/dh_i,   c_0 = 1 for (3), else c_k = 0            (4)
"""

from __future__ import annotations

import numpy as np

from ...core import case, child, plain, refusal
from ...core.rules import count
from ..elementwise import CONVENTIONS, ExpScale, RescaledTanhExpScale, SoftplusScale
from ..elementwise.examples import convention
from ..elementwise.scale import Scale, elementwise
from .parametrisation import Map, parametrisation

FREE, LOWER = "free", "lower"


@parametrisation(source="arXiv:1906.04032")
class KnotSlopes(Map):
    """`slopes` (K+1), K = `bins`, by a scale.

    `ends` are the slopes at the lower and the upper end: numbers, or "free" for an entry of h; "lower" for an upper end like
    the lower one, as on a circle.  Raises ValueError for other ends.
    """

    scale: Scale = child()
    bins: int = plain(rule=count())
    ends: tuple = plain((1.0, 1.0))
    names = ("slopes",)

    size = property(lambda self: self.bins - 1 + self.ends.count(FREE))
    cores = property(lambda self: ((self.bins + 1,),))

    def _validate(self):
        super()._validate()
        elementwise("KnotSlopes", self.scale)
        self._set("ends", tuple(self.ends))
        lower, upper = self.ends if len(self.ends) == 2 else (None, None)
        if not (allowed(lower, (FREE,)) and allowed(upper, (FREE, LOWER))):
            raise ValueError("KnotSlopes: ends must be two slopes > 0 and finite, or 'free'; the upper also 'lower', not "
                             f"{self.ends}")

    @classmethod
    def examples(cls, source):
        scale = source.choice((convention(source, 0), SoftplusScale(floor=1e-3), CONVENTIONS["RealNVP"]))
        ends = source.choice(((1.0, 1.0), (FREE, FREE), (FREE, LOWER), (0.999, FREE)))
        f = cls(scale, source.count(2, 3), ends)
        return f, (f.size,)

    @staticmethod
    def definition(m, h, scale, bins, ends):
        slopes = [scale.definition(m, h_i) for h_i in h]                            # (1)
        lower, upper = ends
        if lower != FREE:
            slopes = [m.mpf(lower), *slopes]                                        # (2)
        if upper == LOWER:
            slopes = [*slopes, slopes[0]]                                           # (3)
        elif upper != FREE:
            slopes = [*slopes, m.mpf(upper)]                                        # (2)
        return {"slopes": slopes}

    def vjp(self, h):
        (sigma, _), scale_pullback = self.scale.vjp(h)
        lower, upper = self.ends
        first, last = int(lower != FREE), self.bins + int(upper == FREE)
        slopes = np.empty(h.shape[:-1] + (self.bins + 1,), h.dtype)
        slopes[..., first:last] = sigma                                             # (1)
        if lower != FREE:
            slopes[..., 0] = lower                                                  # (2)
        if upper != FREE:
            slopes[..., -1] = slopes[..., 0] if upper == LOWER else upper           # (2) (3)

        def pullback(bars):
            bar = np.array(bars["slopes"])
            if upper == LOWER:
                bar[..., 0] += bar[..., -1]                                         # (4)
            h_bar, scale_bar = scale_pullback(bar[..., first:last], np.zeros_like(h))           # (4)
            return h_bar, {"scale": scale_bar}

        return {"slopes": slopes}, pullback

    hard_cases = (
        case("Fixed", "no slope is free", z=[[]], scale=ExpScale(), bins=1),
        case("Free", "both ends are free", z=[[1.0, -40.0, 700.0]], scale=SoftplusScale(floor=1e-3), bins=2, ends=(FREE, FREE)),
        case("Circle", "the last slope is the first", z=[[1.0, -2.0]], scale=ExpScale(), bins=2, ends=(FREE, LOWER)),
    )
    refused = (
        refusal("KnotSlopes: scale must be elementwise", scale=RescaledTanhExpScale(None, 0.0, [1.0]), bins=2),
        *(refusal("ends must be two slopes > 0", scale=ExpScale(), bins=2, ends=ends) for ends in (
            (0.0, 1.0), (1.0, -1.0), (np.inf, 1.0), (1.0, np.nan), (LOWER, 1.0), (1.0, "upper"), (FREE,))),
    )


def allowed(end, words):
    return end in words if isinstance(end, str) else end is not None and 0 < end < np.inf
