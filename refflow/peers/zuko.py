"""zuko 1.6.0, as adapters: `refflow check zuko`.

Its transforms are torch's, with call_and_ladj(x) -> (y, log|det dy/dx|); they are called what zuko calls them.  Splines and
affine maps are asked at their raw numbers, see `shared.numbers`.

Documented choices, not defects: the inverse of `GaussianizationTransform` is a bisection on [-10, 10] to 1e-6, and its mean is
drawn towards 0 by 1e-6; only its forward is asked, at moderate numbers.

Left out: LULinearTransform, which has its free diagonal in L where `PLULinear` has it in U; Bernstein and sum-of-squares
polynomials, whose inverse is a bisection.
"""

from __future__ import annotations

import torch
from zuko import transforms as t

import refflow
from refflow.maps.elementwise import CONVENTIONS, ScaledAffine
from refflow.maps.parametrisations import SPLINES, LocationScale

from .shared import pinned, summed
from .shared.numbers import raw, splines
from .shared.torch import declaring, second_entry

version = pinned("zuko", "1.6.0")
declare = declaring("zuko.transforms.")
BINS = 5


def directions(transform):
    return transform.call_and_ladj, transform.inv.call_and_ladj


def spline(p):
    parts = torch.split(raw(p), [BINS, BINS, BINS - 1])
    return [second_entry(summed(call)) for call in directions(t.MonotonicRQSTransform(*parts))]


def circular_shift(p):
    """Half a turn of [-B, B]."""
    return directions(t.CircularShiftTransform(p["stages"]["0"]["ends"][1].item()))


declare("Softsign", "SoftclipTransform [bound=1]", lambda p: directions(t.SoftclipTransform(1.0)))
declare(refflow.Chain([refflow.CircularShift(ends=[-3.0, 3.0], turns=0.5)]), "CircularShiftTransform", circular_shift,
        gradients=False)
declare("Permutation", "PermutationTransform", lambda p: directions(t.PermutationTransform(torch.from_numpy(p["order"]))))
for like, coupling in splines(refflow.RationalQuadraticSpline, SPLINES["zuko"](BINS)):
    declare(coupling, f"MonotonicRQSTransform [{like} numbers]", spline)


def affine(p):
    scale, shift = raw(p)
    return [second_entry(summed(call)) for call in directions(t.MonotonicAffineTransform(shift, scale))]


def gaussianization(p):
    """rate = exp(scale), and scale is 0: other rates are exponentials only up to a rounding."""
    inner = p["stages"]["0"]
    return t.GaussianizationTransform(inner["bias"], torch.zeros_like(inner["bias"])).call_and_ladj, None


for like, coupling in splines(ScaledAffine, LocationScale(CONVENTIONS["zuko"])):
    declare(coupling, f"MonotonicAffineTransform [{like} numbers]", affine)
declare(refflow.Chain([refflow.Gaussianization(rate=[1.0, 1.0, 1.0], bias=[0.5, -1.0, 0.25])]), "GaussianizationTransform",
        gaussianization, gradients=False)
