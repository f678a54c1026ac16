"""Sets whose members have the entries of members of another set, in another order and shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Moved:
    """Where the entries of an event stand in the events of `where`, whose shape is `before` of its own; the `blocks` of a set."""

    where: Any
    before: Any
    back: Any

    def __call__(self, shape):
        entries = self.back(np.arange(math.prod(shape)).reshape(shape))
        return [(self.where, entries.ravel(), tuple(self.before(shape)))]


def rearranged(where, how, axes, before, back, forth):
    """The set of events of `axes` axes that `back` takes to events of `where`, or to several of its members, and `forth` back.

    `how` says in words what happened to them, by which the set is known; `before(shape)` is the shape of an event of `where`.
    """
    def cut(shape):
        return shape[:len(shape) - axes], shape[len(shape) - axes:]

    def marks(name):
        def outside(values):
            lead, _ = cut(values.shape)
            marks = getattr(where, name)(back(values))
            return marks.any(tuple(range(len(lead), marks.ndim)))
        return outside

    def make(source, shape, dtype, low, high):
        lead, core = cut(shape)
        return forth(where.make(source, (*lead, *before(core)), dtype, low, high))

    def anchor(shape):
        lead, core = cut(shape)
        return forth(where.plainest((*lead, *before(core))))

    def equations(values):
        lead, _ = cut(values.shape)
        return tuple(part.reshape(*lead, -1) for part in where.equations(back(values)))

    return replace(where, name=f"{where!r}, {how}", rank=axes, entrywise=False, equations=equations if where.equations else None,
                   outside=marks("outside"), outside_closed=marks("outside_closed"), make=make, spare=lambda values: forth(where.room(back(values))),
                   anchor=anchor, biject_to=None, free=None, chart=None, tangents=None, log_ratio=None, exchangeable=False, parts=(),
                   blocks=Moved(where, before, back), axes=axes)


def put_back(where, how):
    """The set whose members were rearranged so, if that is how `where` was made; else None."""
    found = where.blocks.where if isinstance(where.blocks, Moved) else None
    return found if found is not None and where.name == f"{found!r}, {how}" else None
