"""Where kappa can judge a wrong number: where a quantity and its kappa change little if all inputs move by a rounding error.

kappa is first-order: elsewhere it does not tell how far rounding moves the quantity.  A quantity that passes through 0 may lose
all its digits without kappa being wrong.
"""

from __future__ import annotations

import numpy as np

from ...accuracy.drawing import moved
from ..points.instances import evenly
from ..points.page_points import is_derivative, members, run_time_truth, stacked


def steady(points, asked) -> dict:
    """{quantity: marks of the entries at which it is steady}: entries of one point's leading axis, or points that are alike.

    `asked` marks the entries that are looked at; the others are said to be steady.
    """
    found = {name: np.full(marks.shape, True) for name, marks in asked.items()}
    names = [name for name, marks in asked.items() if marks.any()]
    if names:
        entries = np.flatnonzero(np.any([asked[name] for name in names], axis=0))
        for name, marks in zip(names, steady_together(part_of(points, entries), names)):
            found[name][entries] = marks | ~asked[name][entries]
    return found


def steady_among(points, asked, most):
    """Two dictionaries {quantity: marks} of the entries marked in `asked`: which are steady, and which are not examined.

    Of a quantity, `most[quantity]` entries are looked at, and more of them until one is steady; if that is 0, none.
    """
    steadied, over = {name: ~marks for name, marks in asked.items()}, {name: marks.copy() for name, marks in asked.items()}
    left = {name: marks for name, marks in asked.items() if most[name]}
    count = max(most.values(), default=0)
    while any(marks.any() for marks in left.values()):
        entries = np.any(list(left.values()), axis=0)
        chosen = np.isin(np.arange(len(entries)), evenly(np.flatnonzero(entries), count))
        for name, marks in steady(points, {name: marks & chosen for name, marks in left.items()}).items():
            steadied[name] |= left[name] & chosen & marks
            over[name] &= ~chosen
        left = {name: marks & ~chosen for name, marks in left.items() if not (steadied[name] & asked[name]).any()}
        count *= 2
    return steadied, over


def is_steady(point, name):
    """The same, of one quantity at a point without a leading axis."""
    return bool(steady([point], {name: np.array([True])})[name])


def part_of(points, entries):
    """One question for some entries: of a leading axis, or of several points."""
    if points[0].lead:
        return points[0].changed(event=points[0].event[entries])
    return stacked([points[i] for i in entries]) if len(points) > 1 else points[0]


def steady_together(point, names):
    """Marks of the entries of a point, for each of the named quantities."""
    try:
        return marks_beside(point, names)
    except ValueError:                              # an entry leaves the set of a stage
        if count_of(point) > 1:
            return np.concatenate([steady_together(half, names) for half in halves(point)], -1)
        return np.full((len(names), 1), False)


def marks_beside(point, names):
    derivatives, count = any(map(is_derivative, names)), count_of(point)
    here, still = run_time_truth(point, derivatives), np.full((len(names), count), True)
    for near in moved(point):
        inside = by_entry(members(near), count)
        there = truth_beside(near, derivatives, count) if inside.any() else None
        if there is not None:
            still &= ~inside | [by_entry(unmoved(here[name], there[name]), count) for name in names]
    return still


def truth_beside(near, derivatives, count):
    """The truth of a moved point; None if it is one event that has left the set of a stage."""
    try:
        return run_time_truth(near, derivatives)
    except ValueError:
        if count > 1:
            raise
        return None


def count_of(point):
    return len(point.event) if point.lead else 1


def by_entry(marks, count):
    """Do the marks hold in all of each entry?"""
    return np.asarray(marks).reshape(count, -1).all(-1)


def halves(point):
    parts = [None if held is None else np.array_split(held, 2) for held in (point.event, point.image_bar, point.log_det_bar)]
    for i in range(2):
        event, image_bar, log_det_bar = (None if part is None else part[i] for part in parts)
        yield point.changed(event=event, image_bar=image_bar, log_det_bar=log_det_bar)


def unmoved(here, near):
    """Marks: have a quantity and its kappa changed by less than an eighth?"""
    with np.errstate(all="ignore"):
        same_value = np.abs(near.high - here.high) * 8 <= here.unit * 2 * 9
        same_kappa = np.abs(near.unit - here.unit) * 8 <= here.unit
        return same_value & same_kappa | np.isnan(here.unit) | (near.high == here.high)
