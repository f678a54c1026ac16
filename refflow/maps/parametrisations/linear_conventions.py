"""Who parametrises triangular factors how: functions of D that return the map from numbers to fields of a `PLULinear`."""

from __future__ import annotations

import numpy as np

from ..elementwise import FlooredExpScale, SoftplusScale
from .entries import Entries
from .free import Free
from .per_part import PerPart
from .premultiplied import Premultiplied
from .triangle import Triangle

__all__ = ["TRIANGULAR"]


def lu_fields(lower, upper, diagonal, size):
    """lower, upper and scale, from the numbers of each in turn; the diagonal of U through a scale."""
    return PerPart(("lower", "upper", "scale"), (lower, upper, Entries(diagonal, size)))


def triangles(size):
    return Triangle(size), Triangle(size, upper=True)


def nflows(size, eps=1e-3):
    """The diagonal of U is softplus of its numbers, plus eps."""
    return lu_fields(*triangles(size), SoftplusScale(floor=eps), size)


def of_matrix(size, places):
    """Fields from one matrix; `places` says where in h the entries are, of the matrix or of its transpose."""
    order = np.concatenate([places[np.tril_indices(size, -1)], places[np.triu_indices(size, 1)], np.diag(places)])
    return Premultiplied(lu_fields(*triangles(size), Free(), size), np.eye(size * size)[order])


def packed(size):
    """One matrix, row by row: L below its diagonal, U on and above it."""
    return of_matrix(size, np.arange(size * size).reshape(size, size))


def zuko(size):
    """One matrix, row by row: L on and below its diagonal, U above it; the fields of its transpose, whose U has the diagonal."""
    return of_matrix(size, np.arange(size * size).reshape(size, size).T)


def torchflows(size, min_eigval=1e-3):
    """The numbers of U column by column; its diagonal is the exponential of its numbers, plus min_eigval."""
    lower, upper = triangles(size)
    place = np.zeros((size, size), int)
    place[np.tril_indices(size, -1)] = np.arange(upper.size)
    by_column = Premultiplied(upper, np.eye(upper.size)[place.T[np.triu_indices(size, 1)]])
    return lu_fields(lower, by_column, FlooredExpScale(min_eigval, rate=1.0, gain=1.0), size)


TRIANGULAR = {
    "nflows, normflows, SurVAE": nflows,
    "distrax, TFP, Pyro": packed,
    "zuko": zuko,
    "torchflows": torchflows,
}
