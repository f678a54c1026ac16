"""Many points asked at once: which of them a mutant answers otherwise than the page.

Points that differ in numbers alone are one batch of a value whose parameters have a batch axis.  Where a mutant's answers for
the batch are the page's own to the bit, it need not be compared with the truth.  What a method does for a single event alone
is met by single points: some of each group, all breaks, and all points of a group that a page cannot answer as a batch.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from refflow.core import tree
from refflow.core.declarations import Plain
from refflow.core.tree import flatten

from validation import certify
from validation.points.drawn import BREAK

from .mutations import UNREACHED

LARGEST = 4096                      # points in a batch: Jacobians take memory
SINGLES, SOLVED = 200, 50           # single points of all groups, not counting breaks; fewer if the inverse is a solver
UNANSWERED = (ArithmeticError, ValueError, LookupError, TypeError, RuntimeWarning)


class Sweep:
    """Groups of points, as batches and as single points."""

    def __init__(self, groups):
        self.groups = [group for group in groups if group]
        batches = [Batch(points) for group in self.groups for points in alike(group)]
        self.batches = [batch for batch in batches if batch.own is not None]
        alone = [point for batch in batches if batch.own is None for point in batch.points]
        solver = any(getattr(group[0].f, "solver", False) is True for group in self.groups)
        every = max(1, len(self) // (SOLVED if solver else SINGLES))
        some = [point for group in self.groups for i, point in enumerate(group) if i % every == 0 or point.reason == BREAK]
        chosen = {id(point): point for point in alone + some}.values()
        self.singles = [(point, bits(alone_answers(point))) for point in chosen]

    def __len__(self):
        return sum(map(len, self.groups))

    def points(self):
        """All points that are asked."""
        return [point for batch in self.batches for point in batch.points] + [point for point, _ in self.singles]

    def asked(self):
        """All questions: single points, points of batches, and batches."""
        return self.points() + [batch.point for batch in self.batches]

    def changed(self):
        """(point, answers) with other answers than the page's own: in each batch the most changed first, then the single ones.

        The answers are None where they are not the answers of a batch.
        """
        for batch in self.batches:
            yield from batch.changed()
        for point, own in self.singles:
            if bits(alone_answers(point)) != own:
                yield point, None

    def meets(self):
        """Does a method raise the probe's NameError at a point?"""
        return any(batch.meets() for batch in self.batches) or any(meets(point) for point, _ in self.singles)


class Batch:
    """Points that differ in numbers alone, and what the page says of them; `own` is None if it cannot answer them at once."""

    def __init__(self, points):
        self.points, self.own = points, None
        if len(points) > 1:
            self.point = together(points)
            self.own = self.answers()

    def answers(self):
        """{quantity: an answer for each point}; None where there is none, or where a warning is given."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                given = {name: np.asarray(answer) for name, answer in certify.claims(self.point).items()}
        except UNANSWERED:
            return None
        whole = all(answer.shape[:1] == (len(self.points),) for answer in given.values())
        return given if whole else None

    def changed(self):
        given = self.answers()
        if given is None or given.keys() != self.own.keys():
            return [(point, None) for point in self.points]
        change = np.max([difference(given[name], own) for name, own in self.own.items()], axis=0)
        return [(self.points[i], {name: answer[i] for name, answer in given.items()})
                for i in np.argsort(-change, kind="stable") if change[i] > 0]

    def meets(self):
        return meets(self.point)


def difference(given, own):
    """The largest relative difference at each point; 0 where all numbers are the same."""
    if given.shape != own.shape:
        return np.full(len(own), np.inf)
    given, own = (a.reshape(len(a), -1).astype(np.float64) for a in (given, own))
    same = (given == own) | np.isnan(given) & np.isnan(own)
    with np.errstate(all="ignore"):
        relative = np.abs(given - own) / np.abs(own)
    found = np.where(same, 0, np.where(np.isfinite(relative), relative, np.finfo(float).max))
    return found.max(-1, initial=0)


def together(points):
    """One question for many: the parameters, the event and the cotangents have a batch axis."""
    parameters = [dict(flatten(point.f.params())) for point in points]

    def exchange(path, field, array, _):
        return array if field.constant else np.stack([mine[path] for mine in parameters])

    def stacked(name):
        of_pair = name == "image_bar" and points[0].f.kind == "scale"           # cotangents of sigma and of log sigma
        given = [getattr(point, name) for point in points]
        return None if given[0] is None else np.stack(given, 1 if of_pair else 0)

    f = tree.mapped(points[0].f, exchange)
    return replace(points[0], f=f, **{name: stacked(name) for name in ("event", "image_bar", "log_det_bar")})


def alike(points):
    """The points in lists that can be asked together."""
    lists = {}
    for point in points:
        lists.setdefault(structure_of(point), []).append(point)
    return [mine[i:i + LARGEST] for mine in lists.values() for i in range(0, len(mine), LARGEST)]


def structure_of(point):
    """All that must be equal in points that are asked together."""
    bars = tuple(None if bar is None else np.shape(bar) for bar in (point.image_bar, point.log_det_bar))
    return structure(point.f), point.side, np.shape(point.event), bars


def structure(value):
    """Types, plain values, shapes and constants of a value and its components."""
    plain = tuple((key, repr(getattr(value, key))) for key, field in value.declared.items() if isinstance(field, Plain))
    own = tuple((key, array.shape, array.dtype.str, array.tobytes() if value.declared[key].constant else b"")
                for key, array in tree.arrays(value).items())
    return type(value), plain, own, tuple((path, structure(part)) for path, part in tree.components(value))


def alone_answers(point):
    """The answers at a point by itself; the name of the exception if there is one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return certify.claims(point) | ({"breaks": certify.said_breaks(point.f)} if point.reason == BREAK else {})
    except UNANSWERED as error:
        return {type(error).__name__: 0.0}


def bits(answers):
    """Answers to compare to the bit."""
    return [(name, np.shape(a), np.asarray(a).dtype.str, np.asarray(a).tobytes()) for name, a in answers.items()]


def meets(point):
    """Does a method, or what makes a value, raise the probe's NameError there?"""
    try:
        certify.claims(point)
        certify.breaks_of(point)
    except NameError as error:
        return UNREACHED in str(error)
    except Exception:                           # a method that cannot answer here does not meet it
        return False
    return False
