"""Who parametrises splines how: functions of the number of bins that return the map from a network's numbers to the fields.

In h stand the numbers of the widths, of the heights, and of the slopes at knots, in turn.
"""

from __future__ import annotations

from math import exp, expm1, log, log1p

import numpy as np

from ..elementwise import CentredSoftplusScale, SoftclipExpScale, SoftplusScale
from .density_knots import DensityKnots
from .interval_entries import IntervalEntries
from .knot_slopes import FREE, LOWER, KnotSlopes
from .per_part import PerPart
from .premultiplied import Premultiplied
from .softmax_knots import SoftmaxKnots
from .softplus_spline import SoftplusSpline

__all__ = ["CUBIC_SPLINES", "LINEAR_RATIONAL_SPLINES", "LINEAR_SPLINES", "QUADRATIC_SPLINES", "SMOOTH_SPLINES", "SPLINES",
           "spline_fields"]

ONE = (1.0, 1.0)
DISTRAX = {"unconstrained": (FREE, FREE), "lower_identity": (1.0, FREE), "upper_identity": (FREE, 1.0), "identity": ONE,
           "circular": (FREE, LOWER)}


def spline_fields(input_knots, output_knots, slopes, tails="identity"):
    """The fields of a spline with knots and slopes, from a map to each."""
    return PerPart(("input_knots", "output_knots", "slopes"), (input_knots, output_knots, slopes), (("tails", tails),))


def alike(knots, slopes, tails="identity"):
    """The same map to input and output knots."""
    return spline_fields(knots, knots, slopes, tails)


def nflows(bins=10, bound=1.0, hidden=None):
    """`hidden`: the width of the network, if nflows knows it; numbers of widths and heights are then divided by its root."""
    rate = 1.0 if hidden is None else hidden ** -0.5
    return alike(SoftmaxKnots(bins, -bound, bound, 2 * bound * 1e-3, rate), KnotSlopes(SoftplusScale(floor=1e-3), bins))


def vits(bins=10, bound=5.0, channels=192):
    """Numbers of widths and heights are divided by the root of the filter channels."""
    return nflows(bins, bound, channels)


def normflows(bins=8, bound=3.0, circular=False):
    """On a circle, the slope at the last knot is the slope at the first."""
    knots = SoftmaxKnots(bins, -bound, bound, 2 * bound * 1e-3)
    return alike(knots, KnotSlopes(SoftplusScale(floor=1e-3), bins, (FREE, LOWER) if circular else ONE))


def survae(bins=8):
    """On [0, 1], with slopes at its ends."""
    return alike(SoftmaxKnots(bins, 0.0, 1.0, 1e-3), KnotSlopes(SoftplusScale(floor=1e-3), bins, (FREE, FREE)), "none")


def pyro(bins=8, bound=3.0):
    """The slope at the end knots is 1 minus the floor of slopes: the map has kinks there."""
    knots = SoftmaxKnots(bins, -bound, bound, 2 * bound * 1e-3)
    return alike(knots, KnotSlopes(SoftplusScale(floor=1e-3), bins, (1 - 1e-3, 1 - 1e-3)))


def tfp(bins=8, low=-1.0, high=1.0):
    """TFP takes constrained numbers: these fields follow the recipe of its documentation."""
    return alike(SoftmaxKnots(bins, low, high, 1e-3), KnotSlopes(SoftplusScale(floor=1e-3), bins))


def distrax(bins=8, low=-1.0, high=1.0, boundary_slopes="unconstrained"):
    """h holds a number for the slope at each knot; at an end where the slope is fixed, it is not read."""
    ends = DISTRAX[boundary_slopes]
    f = alike(SoftmaxKnots(bins, low, high, 1e-4), KnotSlopes(CentredSoftplusScale(floor=1e-4), bins, ends), "linear")
    read = np.ones(3 * bins + 1, bool)
    read[2 * bins], read[-1] = ends[0] == FREE, ends[1] == FREE
    return f if read.all() else Premultiplied(f, np.eye(3 * bins + 1)[read])


def flowjax_17(knots=8, low=-1.0, high=1.0, softmax_adjust=1e-2):
    """`knots` numbers for one bin more: the first is halved, and its other half is the last.

    A network's numbers are added to initial ones, so that slopes are 1 at h = 0.  Slopes are free at the ends too, where the map
    has kinks.
    """
    floor = (high - low) * softmax_adjust / (knots * (1 + softmax_adjust))
    return alike(SoftmaxKnots(knots, low, high, floor, halved=True),
                 KnotSlopes(CentredSoftplusScale(floor=1e-3), knots + 1, (FREE, FREE)))


def flowjax_19(knots=8, low=-1.0, high=1.0, min_width=1e-3):
    """A number for each bin; slopes as in version 17."""
    return alike(SoftmaxKnots(knots + 1, low, high, min_width),
                 KnotSlopes(CentredSoftplusScale(floor=1e-3), knots + 1, (FREE, FREE)))


def bijx(bins=8):
    """On [0, 1], the identity beyond; slopes are 1 at h = 0."""
    rate = log(2) / (1 - 1e-3)
    return alike(SoftmaxKnots(bins, 0.0, 1.0, 1e-3), KnotSlopes(SoftplusScale(floor=1e-3, gain=1 / rate, rate=rate), bins))


def zuko(bins=8, bound=5.0, slope=1e-3):
    """Softly clipped numbers; no floor."""
    return alike(SoftmaxKnots(bins, -bound, bound, clip=slope), KnotSlopes(SoftclipExpScale(slope), bins))


def torchflows(bins=8, bound=50.0):
    """Heights start from the widths; numbers of heights and slopes are divided by 1000."""
    knots, c = SoftmaxKnots(bins, -bound, bound, 2 * bound * 1e-3), log(expm1(1 - 1e-5))
    end = 1e-5 + log1p(exp(c + c / 1000))
    f = alike(knots, KnotSlopes(CentredSoftplusScale(floor=1e-5), bins, (end, end)))
    matrix = np.diag([1.0] * bins + [1e-3] * (2 * bins - 1))
    matrix[bins:2 * bins, :bins] = np.eye(bins)
    return Premultiplied(f, matrix)


def freia(bins=10, low=-3.0, high=3.0, floor=0.1):
    """Bins of a softplus, first knots that move, linear tails; h begins with the shifts of the first knots."""
    return SoftplusSpline(bins, low, high - low, floor)


def pyro_linear(bins=8, bound=3.0):
    """The fields of a `LinearRationalSpline`, by order "linear", the usual one; the numbers of the middles come last."""
    knots = SoftmaxKnots(bins, -bound, bound, 2 * bound * 1e-3)
    slopes = KnotSlopes(SoftplusScale(floor=1e-3), bins, (1 - 1e-3, 1 - 1e-3))
    return PerPart(("input_knots", "output_knots", "slopes", "middles"),
                   (knots, knots, slopes, IntervalEntries(bins, 0.025, 1 - 0.025)), (("tails", "identity"),))


def nflows_linear(bins=10, bound=1.0):
    """The fields of a `LinearSpline`: equal bins, and heights without a floor."""
    equal = Premultiplied(SoftmaxKnots(bins, -bound, bound), np.zeros((bins, 0)))
    return PerPart(("input_knots", "output_knots"), (equal, SoftmaxKnots(bins, -bound, bound)), (("tails", "identity"),))


def nflows_cubic(bins=10, bound=1.0, hidden=None):
    """The fields of a `CubicSpline`; the numbers of the two end slopes come last."""
    knots = SoftmaxKnots(bins, -bound, bound, 2 * bound * 1e-3, 1.0 if hidden is None else hidden ** -0.5)
    return PerPart(("input_knots", "output_knots", "end_slopes"), (knots, knots, IntervalEntries(2, 0.0, 3.0)),
                   (("tails", "identity"),))


def nflows_quadratic(bins=10, bound=1.0, hidden=None):
    """The fields of a `QuadraticSpline`; `hidden` as for `nflows`, for heights too."""
    return DensityKnots(bins, -bound, bound, lift=1e-3, rate=1.0 if hidden is None else hidden ** -0.5)


def survae_quadratic(bins=8):
    """On [0, 1], with a height at each of its ends."""
    return DensityKnots(bins, 0.0, 1.0, form="exp", tails="none")


def jammy_flows(high=1.0, low=0.0):
    """The fields of a `SmoothSpline` on [low, high]; the numbers of the two end slopes come last."""
    knots = SoftmaxKnots(2, low, high, (high - low) * 1e-3)
    return PerPart(("input_knots", "output_knots", "end_slopes"),
                   (knots, knots, KnotSlopes(SoftplusScale(floor=1e-3), 1, (FREE, FREE))), (("tails", "none"),))


LINEAR_RATIONAL_SPLINES = {"Pyro, FlowTorch": pyro_linear}
LINEAR_SPLINES = {"nflows": nflows_linear}
QUADRATIC_SPLINES = {"nflows": nflows_quadratic, "SurVAE": survae_quadratic}
CUBIC_SPLINES = {"nflows": nflows_cubic}
SMOOTH_SPLINES = {"jammy_flows": jammy_flows}
SPLINES = {
    "nflows": nflows,                                           # with linear tails
    "VITS": vits,
    "normflows": normflows,
    "SurVAE": survae,
    "Pyro, FlowTorch": pyro,                                    # of order "quadratic"
    "TFP": tfp,
    "distrax": distrax,
    "FlowJAX 17": flowjax_17,
    "FlowJAX 19": flowjax_19,
    "bijx": bijx,
    "zuko": zuko,
    "torchflows": torchflows,
    "FrEIA": freia,
}
