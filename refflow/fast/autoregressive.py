r"""Autoregressive maps, tuned: an inverse that computes every unit of the network once.

The page runs the whole network for each level of entries.  Here a unit is computed as soon as everything it sees is known:
    r_i = max_j r_j   over the units j that unit i sees, 0 if there are none        (1)
    r = n             of an entry of level n = 1, 2, ...                            (2)
In step k = 0, 1, ... the units with r = k are computed, layer by layer; the outputs for the entries of level k + 1 are then
known, and so are these entries.  The units of a layer stand in the order of r: the units of one step are consecutive rows, and
they see the first rows of the layer before.  All steps together cost one pass of the network, or less.

The map is the one of `maps.autoregressive`; a law checks that the two agree.  Where a number may leave the range in which plain
products of matrices hold, the page takes over.
"""

from __future__ import annotations

import math

import numpy as np

from ..core import tree
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import AddedContext, Contextual, GatedContext, MaskedDense, Residual, Sequential, SkipSum
from ..maps.conditioners.gated_context import Gate
from .couplings import LARGEST, TunedCoupling, is_dense, norm, own_numbers
from .splines import Splines, is_spline

EVENTS = 1024                           # computed at a time, so that the units of a layer stay in the cache


# -- the gradient -----------------------------------------------------------------------------------------------------

class TunedAutoregressive(TunedCoupling):
    """An affine autoregressive map of a flow as a step of `likelihood`: a coupling whose parts are both the whole event.

    Side 0 alone: side 1, which needs all levels, remains the page's.
    """

    whole = True

    @staticmethod
    def takes(stage, side):
        form = stage.affine_form
        return (side == 0 and form is not None and not form.shift_first and own_numbers(form)
                and is_dense(stage.net, MaskedDense))

    def __init__(self, stage, side, path, number, space):
        super().__init__(stage, side, path, number, space)
        self.inverse = tree.copied(stage, UnitByUnit).inverse

    def parts(self, stage):
        return slice(None), slice(None)

    def reversed(self, after, memory):
        before = self.inverse(after)
        return before, self.at(before, after, memory)


# -- units in the order in which they become known --------------------------------------------------------------------

class Units:
    """The units of a layer for n events, `rows` (M, n), in the order of `known`, the r of (1)."""

    def __init__(self, known, steps, n, dtype):
        self.known, self.order = known, np.argsort(known, kind="stable")
        self.place = np.argsort(self.order)
        self.ends = np.searchsorted(known[self.order], np.arange(steps + 1), "right")
        self.rows = np.zeros((len(known), n), dtype)

    def part(self, k):
        """The rows that become known in step k."""
        return slice(self.ends[k - 1] if k else 0, self.ends[k])

    def compute(self, k):
        """Fill in the rows of step k."""

    def of(self, units):
        """The rows of these units, copied."""
        return self.rows[self.place[units]]

    def in_range(self):
        """Are all partial sums finite?"""
        return True


class Product(Units):
    """The units of a masked dense layer."""

    def __init__(self, layer, before, steps):
        seen = np.where(layer.connects, before.known, 0)
        super().__init__(seen.max(1, initial=0), steps, before.rows.shape[1], before.rows.dtype)     # (1)
        self.before = before
        self.W, self.b = layer.weights()[self.order][:, before.order], layer.b[self.order, None]

    def compute(self, k):
        part, known = self.part(k), self.before.ends[k]
        h = np.matmul(self.W[part, :known], self.before.rows[:known], out=self.rows[part])
        h += self.b[part]

    def in_range(self):
        return norm(self.W) * norm(self.before.rows) + norm(self.b) <= LARGEST[self.rows.dtype]


class Elementwise(Units):
    """An activation of units."""

    def __init__(self, layer, before, steps):
        super().__init__(before.known, steps, before.rows.shape[1], before.rows.dtype)
        self.layer, self.before = layer, before

    def compute(self, k):
        part = self.part(k)
        self.rows[part] = self.layer.forward(self.before.rows[part])


class Sum(Units):
    """The sum of units of several layers."""

    def __init__(self, terms, steps):
        known = np.max([term.known for term in terms], 0)
        super().__init__(known, steps, *terms[0].rows.shape[1:], terms[0].rows.dtype)
        self.terms = terms

    def compute(self, k):
        part = self.part(k)
        self.rows[part] = sum(term.of(self.order[part]) for term in self.terms)


class Joined(Units):
    """Units and, after them, the entries of a context (C, n) or (C, 1), which are known from the beginning."""

    def __init__(self, before, context, steps):
        known = np.concatenate((before.known, np.zeros(len(context), int)))
        super().__init__(known, steps, *before.rows.shape[1:], before.rows.dtype)
        self.before, self.size = before, len(before.known)
        self.rows[self.place[self.size:]] = context

    def compute(self, k):
        units = self.order[self.part(k)]
        units = units[units < self.size]
        self.rows[self.place[units]] = self.before.of(units)


class WithContext(Units):
    """Units with the numbers of a context (M, n) or (M, 1), by an operation that takes both."""

    def __init__(self, operation, before, context, steps):
        super().__init__(before.known, steps, *before.rows.shape[1:], before.rows.dtype)
        self.operation, self.before, self.context = operation, before, context[self.order]

    def compute(self, k):
        part = self.part(k)
        self.rows[part] = self.operation(self.before.rows[part], self.context[part])


# -- networks as such layers ------------------------------------------------------------------------------------------

def is_taken(net):
    """Can a network be computed unit by unit?"""
    if type(net) is MaskedDense:
        return net.W.ndim == 2 and net.b.ndim == 1
    if type(net) in (Sequential, Residual, SkipSum, Contextual):
        return all(is_taken(component) for component in net.components())
    if type(net) in (AddedContext, GatedContext):
        return is_taken(net.inner) and net.net.parameter_batch == ()
    return net.event_ndim == (0, 0) and not net.declared                # an activation without parameters


def layers_of(net, before, steps, made):
    """The units that a network makes of the units `before` it; every layer on the way is appended to `made`."""
    def inner(component, units=before):
        return layers_of(component, units, steps, made)

    if type(net) is Sequential:
        for layer in net.layers:
            before = inner(layer, before)
        return before
    if type(net) is SkipSum:
        terms = [inner(net.skips[0])]
        for block, skip in zip(net.blocks, net.skips[1:]):
            before = inner(block, before)
            terms.append(inner(skip, before))
        units = Sum(terms, steps)
    elif type(net) is Residual:
        units = Sum([before, inner(net.inner)], steps)
    elif type(net) is Contextual:
        made.append(Joined(before, columns(net.context), steps))
        return inner(net.inner, made[-1])
    elif type(net) is AddedContext:
        units = WithContext(np.add, inner(net.inner), columns(net.net.forward(net.context)), steps)
    elif type(net) is GatedContext:
        units = WithContext(gated, inner(net.inner), columns(net.net.forward(net.context)), steps)
    else:
        units = (Product if type(net) is MaskedDense else Elementwise)(net, before, steps)
    made.append(units)
    return units


def columns(events):
    """Events (n, M), or one event, as columns."""
    return events.T if events.ndim > 1 else events[:, None]


def gated(y, v):
    return Gate(v).times(y)


# -- the inverse ------------------------------------------------------------------------------------------------------

class UnitByUnit(Autoregressive):
    """An autoregressive map whose inverse costs one pass of its network."""

    @staticmethod
    def takes(f):
        return is_taken(f.net) and f.family.parameter_batch == ()

    def map_at(self, h):
        if not is_spline(self.family):
            return super().map_at(h)
        splines = Splines(self.family, h, lambda h: self.family.at_values(h, 1))
        return splines, splines.fields_pullback

    def solved(self, x):
        if self.net.needs("context"):
            return super().solved(x)                                                # which says what is missing
        batch, D = x.shape[:-1], x.shape[-1]
        events, found = x.reshape(math.prod(batch), D), np.empty((2, math.prod(batch), D), x.dtype)
        nets = by_events(self.net, batch)
        for start in range(0, len(events), EVENTS):
            part = slice(start, start + EVENTS)
            found[:, part] = self.solved_part(events[part], nets(part))
        z, log_slopes = found.reshape(2, *x.shape)
        return z, log_slopes

    def solved_part(self, x, net):
        """(z, log-slopes) of some events; by the page where a partial sum may overflow."""
        steps, entries, layers = len(self.levels), self.entries(x), []
        outputs = layers_of(net, entries, steps, layers)
        z, log_slopes, rows = np.empty_like(x), np.empty_like(x), self.rows(x.shape[-1])
        for k, level in enumerate(self.levels):
            for units in layers:
                units.compute(k)
            h = np.moveaxis(outputs.of(rows[level]), -1, 0)
            z[:, level], log_slopes[:, level] = self.map_at(h)[0].inverse_and_log_det(x[:, level])
            entries.rows[entries.part(k + 1)] = z[:, level].T                       # (2)
        if not all(units.in_range() for units in layers):
            return Autoregressive.solved(tree.copied(self, Autoregressive, net=net), x)
        return z, log_slopes

    def entries(self, x):
        """The entries of events, none of which is known."""
        known = np.empty(x.shape[-1], int)
        for k, level in enumerate(self.levels):
            known[level] = k + 1                                                    # (2)
        return Units(known, len(self.levels), len(x), x.dtype)


def by_events(net, batch):
    """A function from a slice of the events of a batch, one after the other, to the network with their context."""
    contexts = net.held("context")
    if not contexts or contexts[0].ndim == 1:
        return lambda part: net
    context = np.broadcast_to(contexts[0], (*batch, contexts[0].shape[-1])).reshape(math.prod(batch), -1)
    return lambda part: tree.replaced(net, {}, context[part])
