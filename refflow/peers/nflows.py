"""nflows 0.14, as adapters: `refflow check nflows`.

Its forward and inverse return (image, log_det) of a batch of rows.  They are called what nflows calls them: Tanh's forward is
tanh.  Splines are asked at their raw numbers, see `shared.numbers`.

A documented choice, not a defect: the inverse of `Sigmoid` clamps at its argument eps.  Left out: batch norm and ActNorm, whose
scales are made of raw numbers; the LU, QR, SVD and Householder linear maps, whose parameters are not a page's.
"""

from __future__ import annotations

import numpy as np
import torch
from nflows import transforms as t

import refflow
from refflow.maps.parametrisations import CUBIC_SPLINES, LINEAR_SPLINES, SPLINES

from .shared import pinned
from .shared.numbers import raw, splines
from .shared.torch import declaring, holding, rows_of, second_entry

version = pinned("nflows", "0.14")
declare = declaring("nflows.transforms.")
BINS, BOUND = 5, 3.0


def scalar(module):
    return rows_of(module)


def vector(module):
    return rows_of(module, 1)


declare("Tanh", "Tanh", lambda p: scalar(t.Tanh()))
declare("Sigmoid", "Sigmoid [temperature=1]", lambda p: scalar(t.Sigmoid()))
declare("LeakyReLU", "LeakyReLU", lambda p: scalar(t.LeakyReLU(float(p["negative_slope"]))), fixed=["negative_slope"])
declare("Affine", "PointwiseAffineTransform", lambda p: scalar(t.PointwiseAffineTransform(p["shift"], p["scale"])),
        params={"scale": lambda scale: scale > 0})
declare("Permutation", "Permutation", lambda p: vector(t.Permutation(torch.from_numpy(p["order"]))))



# -- splines ----------------------------------------------------------------------------------------------------------

def spline_of(module, names, counts):
    """The second entry through a spline module whose numbers are cut from the raw ones."""

    def build(p):
        parts = torch.split(raw(p), counts)
        made = holding(module(), **{name: part[None] for name, part in zip(names, parts)})
        return second_entry(made.forward), second_entry(made.inverse)

    return build


NAMES = ["unnormalized_widths", "unnormalized_heights", "unnormalized_derivatives"]
ENDS = ["unnorm_derivatives_left", "unnorm_derivatives_right"]
SETTINGS = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
KINDS = {
    "RationalQuadratic": (SPLINES, NAMES, [BINS, BINS, BINS - 1]),
    "Linear": (LINEAR_SPLINES, ["unnormalized_pdf"], [BINS]),
    "Cubic": (CUBIC_SPLINES, [*NAMES[:2], *ENDS], [BINS, BINS, 1, 1]),
}
for kind, (conventions, names, counts) in KINDS.items():
    for like, coupling in splines(getattr(refflow, f"{kind}Spline"), conventions["nflows"](BINS, BOUND)):
        declare(coupling, f"Piecewise{kind}CDF [{like} numbers]", spline_of(
            lambda kind=kind: getattr(t, f"Piecewise{kind}CDF")([1], **SETTINGS), names, counts))

def zeros():
    """The heights at the five knots that raw numbers 0 of four bins give, and the page's spline with them.

    nflows makes the end heights from the inner ones, and then divides all by the area.
    """
    inner = np.log(2) + 1e-3
    end = inner * 5 / 7
    slopes = np.array([end, inner, inner, inner, end]) / (0.25 * end + 0.75 * inner)
    slopes = 1e-3 + (1 - 1e-3) * slopes
    return refflow.QuadraticSpline(input_knots=[-1.0, -0.5, 0.0, 0.5, 1.0], slopes=slopes, start=-1.0)


def equal_bins(p):
    module = t.PiecewiseQuadraticCDF([1], num_bins=4, tails="linear")
    numbers = p["stages"]["0"]["start"].new_zeros(1, 4)
    return scalar(holding(module, unnormalized_widths=numbers, unnormalized_heights=numbers[:, :3]))


declare(refflow.Chain([zeros()]), "PiecewiseQuadraticCDF [numbers 0]", equal_bins, gradients=False)


# -- linear -----------------------------------------------------------------------------------------------------------

def naive(p):
    module = t.linear.NaiveLinear(len(p["shift"]))
    return vector(holding(module, _weight=p["W"], bias=p["shift"]))


declare("DenseLinear", "NaiveLinear", naive)
