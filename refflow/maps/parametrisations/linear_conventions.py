"""Who parametrises triangular factors how: functions of D that return the map from numbers to fields of a `PLULinear`."""

from __future__ import annotations

import numpy as np

from ..elementwise import SoftplusScale
from .entries import Entries
from .free import Free
from .per_part import PerPart
from .premultiplied import Premultiplied
from .triangle import Triangle

__all__ = ["TRIANGULAR"]


def lu_fields(size, diagonal):
    """lower, upper and scale, from the numbers of each in turn; the diagonal of U through a scale."""
    return PerPart(("lower", "upper", "scale"), (Triangle(size), Triangle(size, upper=True), Entries(diagonal, size)))


def nflows(size, eps=1e-3):
    """The diagonal of U is softplus of its numbers and eps."""
    return lu_fields(size, SoftplusScale(floor=eps))


def packed(size):
    """One matrix, row by row: L below its diagonal, U on and above it."""
    places = np.arange(size * size).reshape(size, size)
    order = np.concatenate([places[np.tril_indices(size, -1)], places[np.triu_indices(size, 1)], np.diag(places)])
    return Premultiplied(lu_fields(size, Free()), np.eye(size * size)[order])


TRIANGULAR = {
    "nflows, normflows, SurVAE": nflows,
    "distrax, TFP, Pyro": packed,
}
