"""The errors of a quantity over its domain, kept for a picture.

Only the worst point is kept in each cell, an eighth of a binade, so that the memory does not grow with the points.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...accuracy.drawing import SIDES, set_of

CELLS = 8                                           # of a binade
FAILS, PASSES, NOT_JUDGED = "fails", "passes", "not judged"
LENGTH = (0.0, np.inf)                              # of vectors, by their largest entry


@dataclass(frozen=True)
class Place:
    """Where an event lies: in which stretch of its axis, and how far from its nearer end, the lower (-1) or the upper (1)."""

    stretch: int
    end: int
    size: float


@dataclass(frozen=True)
class Kept:
    """One point: its place, C there and what is allowed, the verdict on it, and its case."""

    place: Place
    error: float
    allowed: float
    verdict: str
    case: str


@dataclass
class Errors:
    """The worst points of one quantity in one dtype.

    `stretches` are the intervals into which the ends of the set of events, and 0, divide it; vectors have one stretch, of their
    largest entry's size.
    """

    bijector: str
    theirs: str
    quantity: str
    dtype: str
    stretches: tuple
    vectors: bool = False
    cells: dict = field(default_factory=dict)

    @property
    def points(self):
        return list(self.cells.values())

    def keep(self, place, error, allowed, verdict, case):
        cell = place.stretch, place.end, round(CELLS * np.log2(place.size)) if place.size else None, verdict
        if cell not in self.cells or error > self.cells[cell].error:
            self.cells[cell] = Kept(place, error, allowed, verdict, case)


def errors_of(subject, name, point) -> Errors:
    """An empty record of one quantity, for events like the point's."""
    where = set_of(point.f, point.side)
    vectors = bool(point.f.event_ndim[SIDES[point.side]] or where.rank)
    stretches = (LENGTH,) if vectors else stretches_of(where)
    return Errors(subject.bijector, subject.theirs, name, subject.dtype, stretches, vectors)


def stretches_of(where):
    """The intervals between the ends of a set, and 0 if it lies between them."""
    ends = [where.lower, *([0.0] if where.lower < 0 < where.upper else []), where.upper]
    return tuple(zip(ends, ends[1:]))


def place_of(errors, event) -> Place:
    """The place of the event's largest number."""
    flat = np.asarray(event, np.float64).ravel()
    value = float(flat[np.argmax(np.abs(flat))]) if flat.size else 0.0
    value = abs(value) if errors.vectors else value
    stretch = next((i for i, (_, upper) in enumerate(errors.stretches) if value < upper), len(errors.stretches) - 1)
    lower, upper = errors.stretches[stretch]
    below, above = max(value - lower, 0.0), max(upper - value, 0.0)
    return Place(stretch, -1, below) if below <= above else Place(stretch, 1, above)
