"""Who parametrises splines how."""

from __future__ import annotations

from ..elementwise import SoftplusScale
from .knot_slopes import KnotSlopes
from .per_part import spline
from .softmax_knots import SoftmaxKnots

__all__ = ["nflows_spline"]


def nflows_spline(bins=10, bound=1.0, rate=1.0):
    """Of nflows and normflows: widths and heights of at least 1/1000 of 2 bound, slopes of at least 1/1000, 1 at the ends.

    `rate`: what widths and heights are multiplied by, 1/sqrt(hidden size) in nflows' networks that have one.
    """
    knots = SoftmaxKnots(bins, -bound, bound, floor=2 * bound * 1e-3, rate=rate)
    return spline(knots, knots, KnotSlopes(SoftplusScale(floor=1e-3), bins))
