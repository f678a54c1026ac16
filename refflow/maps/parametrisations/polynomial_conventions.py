"""Who parametrises polynomials how: functions of their sizes that return the map from a network's numbers to the fields."""

from __future__ import annotations

from math import log

import numpy as np

from ..elementwise import SoftplusScale
from .bordered import Bordered
from .increasing_entries import IncreasingEntries
from .free import Free
from .matrix_entries import MatrixEntries
from .per_field import PerField
from .per_part import PerPart
from .premultiplied import Premultiplied
from .softmax_knots import SoftmaxKnots

__all__ = ["BERNSTEIN_POLYNOMIALS", "SUMS_OF_SQUARES"]


def free(field):
    return PerField((field,), (Free(),))


def zuko_squares(polynomials=3, degree=4, bound=10.0, slope=1e-3):
    """The mean of squares of 1 + p(z/bound); the number of the shift comes last."""
    shape, powers = (polynomials, degree + 1), np.arange(degree + 1)
    rates, ones = np.broadcast_to(bound ** -powers, shape), np.broadcast_to(powers == 0, shape)
    root = polynomials ** -0.5
    coefficients = Premultiplied(MatrixEntries(*shape), np.diag(root * rates.ravel()), root * ones.ravel())
    fixed = Premultiplied(free("slope_floor"), np.zeros((1, 0)), [slope])
    return PerPart(("coefficients", "shift", "slope_floor"), (coefficients, free("shift"), fixed))


def zuko_bernstein(degree=16, bound=5.0):
    """`degree - 1` numbers: the first and the last step stand twice, so that the second derivative is 0 at the ends.

    zuko takes the tangents 1e-6 of the interval inside its ends; there they are the same, except for rounding.
    """
    matrix = np.eye(degree - 1)[[0, 1, *range(1, degree - 1), degree - 2]]
    offset = np.where(np.arange(degree + 1) == 0, -log(2) * (degree - 1) / 2, 0)
    coefficients = Premultiplied(IncreasingEntries(SoftplusScale(), degree + 1), matrix, offset)
    return PerPart(("coefficients",), (coefficients,), (("bound", bound), ("tails", "linear")))


def zuko_bounded(degree=20, bound=5.0):
    """`degree - 4` numbers: two equal steps at either end join the identity with slope 1 and second derivative 0."""
    step = 2 * bound / degree
    inside = bound - 2 * step
    coefficients = Bordered(SoftmaxKnots(degree - 4, -inside, inside), [-bound, step - bound], [bound - step, bound])
    return PerPart(("coefficients",), (coefficients,), (("bound", bound), ("tails", "linear")))


SUMS_OF_SQUARES = {"zuko": zuko_squares}
BERNSTEIN_POLYNOMIALS = {"zuko BernsteinTransform": zuko_bernstein, "zuko BPF": zuko_bounded}
