"""The errors of a quantity over its domain, kept for a picture.

Only the worst point is kept in each cell, an eighth of a binade, so that the memory does not grow with the points.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..accuracy.drawing import SIDES, set_of

CELLS = 8                                           # of a binade
FAILS, PASSES, NOT_JUDGED = "fails", "passes", "not judged"
LINE, RAY, INTERVAL, LENGTH = "line", "ray", "interval", "length"


@dataclass(frozen=True)
class Place:
    """Where on its axis an event lies: at a distance `size` from an end; `end` is -1 for the lower end, 1 for the upper one.

    On a line both ends are 0, seen from the negative and from the positive numbers; a vector has only a length.
    """

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
    """The worst points of one quantity in one dtype; `lower` and `upper` are the ends of the set of its events."""

    bijector: str
    theirs: str
    quantity: str
    dtype: str
    kind: str
    lower: float = -np.inf
    upper: float = np.inf
    cells: dict = field(default_factory=dict)

    @property
    def points(self):
        return list(self.cells.values())

    def keep(self, place, error, allowed, verdict, case):
        cell = place.end, round(CELLS * np.log2(place.size)) if place.size else None, verdict
        if cell not in self.cells or error > self.cells[cell].error:
            self.cells[cell] = Kept(place, error, allowed, verdict, case)


def errors_of(subject, name, point) -> Errors:
    """An empty record of one quantity, for events like the point's."""
    where = set_of(point.f, point.side)
    if point.f.event_ndim[SIDES[point.side]] or where.rank:
        return Errors(subject.bijector, subject.theirs, name, subject.dtype, LENGTH)
    finite = np.isfinite([where.lower, where.upper])
    kind = INTERVAL if finite.all() else RAY if finite.any() else LINE
    return Errors(subject.bijector, subject.theirs, name, subject.dtype, kind, where.lower, where.upper)


def place_of(errors, event) -> Place:
    """The place of the event's largest number."""
    flat = np.asarray(event, np.float64).ravel()
    value = float(flat[np.argmax(np.abs(flat))]) if flat.size else 0.0
    below, above = value - errors.lower, errors.upper - value
    if errors.kind == LENGTH:
        return Place(1, abs(value))
    if errors.kind == LINE:
        return Place(-1 if value < 0 else 1, abs(value))
    return Place(-1, max(below, 0.0)) if below <= above else Place(1, max(above, 0.0))
