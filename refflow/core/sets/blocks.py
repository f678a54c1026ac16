"""Sets made of sets: events in blocks, events in another shape; and which set holds which."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .numbers import real
from .rearranged import Moved


def contains(outer, inner):
    """Is every member of the set `inner` a member of `outer`?  Intervals are compared; others must be the same set."""
    if outer is inner or outer is real:
        return True
    if outer.parts or inner.parts:
        pairs = [(o, i) for o in outer.parts or (outer,) for i in inner.parts or (inner,)]      # blocks may be of any size
        return all(o is real or o.rank == 0 and contains(o, i) for o, i in pairs)
    if outer.thin:
        return outer.name == inner.name                         # it may have been made twice, or be measured otherwise
    return outer.alike and outer.rank == inner.rank == 0 and outer.lower <= inner.lower and inner.upper <= outer.upper


def product(parts, sizes, axis=-1, axes=1):
    """Events of `axes` axes in blocks along one of them, block i a member of `parts[i]`, or members, along its other axes.

    `sizes(shape)` are the lengths of the blocks of an event of `shape`.
    """
    def split(values, shape):
        return np.split(values, np.cumsum(sizes(shape))[:-1], axis)

    def core(values):
        return values.shape[values.ndim - axes:]

    def marks(name):
        def outside(values):
            found = []
            for part, block in zip(parts, split(values, core(values))):
                mark = getattr(part, name)(block)
                found.append(np.broadcast_to(mark.reshape(mark.shape + (1,) * (block.ndim - mark.ndim)), block.shape))
            return np.concatenate(found, axis)
        return outside

    def make(source, shape, dtype, low, high):
        blocks = split(np.empty(shape), shape[len(shape) - axes:])
        return np.concatenate([part.make(source, block.shape, dtype, low, high) for part, block in zip(parts, blocks)], axis)

    def room(values):
        return np.concatenate([part.room(block) for part, block in zip(parts, split(values, core(values)))], axis)

    def anchor(shape):
        return np.concatenate([part.plainest(block.shape) for part, block in zip(parts, split(np.empty(shape), shape))], axis)

    def blocks(shape):
        entries = split(np.arange(math.prod(shape)).reshape(shape), shape)
        return [(part, block.ravel(), block.shape) for part, block in zip(parts, entries)]

    measures = {part.measure for part in parts if part.thin}
    return replace(parts[0], name=f"blocks ({', '.join(map(repr, parts))})", rule=" / ".join(dict.fromkeys(p.rule for p in parts)),
                   rank=0, outside=marks("outside"), outside_closed=marks("outside_closed"), make=make, entrywise=True,
                   lower=-np.inf, upper=np.inf, alike=False, spare=room, anchor=anchor, biject_to=None, free=None, chart=None, tangents=None,
                   equations=None, log_ratio=None, exchangeable=False, narrow=any(p.narrow for p in parts), thin=any(p.thin for p in parts),
                   measure="chart" if not measures else "blockwise" if len(measures) > 1 else measures.pop(),
                   parts=tuple(parts), blocks=blocks, axes=axes)


def reshaped(where, before, after):
    """The set of events of the shape `after` that are events of `where`, or several members of it, in the shape `before`."""
    moved = isinstance(where.blocks, Moved)                                     # its entries change places, and not only shape
    if where.blocks and not where.parts and not moved and len(before) == where.axes:                # it was reshaped before
        (where, _, before), = where.blocks(before)
    if tuple(before) == tuple(after):
        return where

    def marks(name):
        def outside(values):
            lead = values.shape[:values.ndim - len(after)]
            marks = getattr(where, name)(values.reshape(*lead, *before))
            return marks.any(tuple(range(len(lead), marks.ndim)))
        return outside

    def make(source, shape, dtype, low, high):
        lead = shape[:len(shape) - len(after)]
        return where.make(source, (*lead, *before), dtype, low, high).reshape(shape)

    def room(values):
        return where.room(values.reshape(*values.shape[:values.ndim - len(after)], *before)).reshape(values.shape)

    def anchor(shape):
        return where.plainest((*shape[:len(shape) - len(after)], *before)).reshape(shape)

    def equations(values):
        lead = values.shape[:values.ndim - len(after)]
        return tuple(part.reshape(*lead, -1) for part in where.equations(values.reshape(*lead, *before)))

    return replace(where, name=f"{where!r} of shape {tuple(before)} as {tuple(after)}", rank=len(after), entrywise=False,
                   outside=marks("outside"), outside_closed=marks("outside_closed"), make=make, spare=room, anchor=anchor,
                   biject_to=None, free=None, chart=None, tangents=None, log_ratio=None, exchangeable=False, parts=(),
                   equations=equations if where.equations else None, axes=len(after),
                   blocks=lambda shape: [(where, np.arange(math.prod(before)), before)])
