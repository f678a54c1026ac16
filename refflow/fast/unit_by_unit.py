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
from ..maps.conditioners import AddedContext, Contextual, GatedContext, MaskedDense, ReLU, Residual, Sequential, SkipSum
from ..maps.conditioners.gated_context import sigma
from ..maps.elementwise.scale import SAFE
from .couplings import LARGEST, is_exponential, norm
from .splines import Splines, is_spline

EVENTS = 512                            # computed at a time, so that the units of a layer stay in the cache
FEW = 3                                 # rows that are multiplied faster one by one


# -- units in the order in which they become known --------------------------------------------------------------------

class Units:
    """The units of a layer for n events, in the order of `known`, the r of (1): `rows` (M, n), above which `with_one` has a row
    of ones.
    """

    def __init__(self, known, steps, n, dtype):
        self.known, self.order = known, np.argsort(known, kind="stable")
        self.place = np.argsort(self.order)
        ends = np.searchsorted(known[self.order], np.arange(steps + 1), "right").tolist()
        self.parts = [slice(start, end) for start, end in zip((0, *ends), ends)]
        self.with_one = np.empty((len(known) + 1, n), dtype)
        self.rows, self.with_one[0] = self.with_one[1:], 1
        self.rows[self.parts[-1]] = 0                                               # what no entry sees is not computed

    def compute(self, part, k):
        """Fill in the part of the rows that becomes known in step k."""

    def stand_over(self, other):
        """Stand in the rows of other units, in their order."""
        self.known, self.order, self.place, self.parts = other.known, other.order, other.place, other.parts
        self.with_one, self.rows = other.with_one, other.rows

    def step(self, k):
        part = self.parts[k]
        if part.start < part.stop:
            self.compute(part, k)

    def of(self, units):
        """The rows of these units, copied."""
        return self.rows[self.place[units]]

    def at(self, units, k):
        """The same of units that are known in step k."""
        return self.of(units)

    def in_range(self):
        """Are all partial sums finite?"""
        return True


def known_after(connects, known):
    """The r of the units of a layer, from the r of the units that they see."""
    return np.where(connects, known, 0).max(1, initial=0)                           # (1)


def known_entries(levels, D):
    known = np.empty(D, int)
    for k, level in enumerate(levels):
        known[level] = k + 1                                                        # (2)
    return known


class Product(Units):
    """The units of a masked dense layer, [b W] (1, a)."""

    def __init__(self, layer, before, steps, n=None):
        n = before.rows.shape[1] if n is None else n
        super().__init__(known_after(layer.connects, before.known), steps, n, before.rows.dtype)
        self.before, (M, N) = before, layer.connects.shape
        self.bW = np.empty((M, N + 1), before.rows.dtype)
        self.bW[:, 0], self.bW[:, 1:] = layer.b[self.order], layer.weights().take(self.order, 0).take(before.order, 1)

    def compute(self, part, k):
        known = self.before.parts[k].stop + 1
        if part.stop - part.start <= FEW:
            np.matmul(self.bW[part, None, :known], self.before.with_one[:known], out=self.rows[part, None])
        else:
            np.matmul(self.bW[part, :known], self.before.with_one[:known], out=self.rows[part])

    def in_range(self):
        return norm(self.bW) * norm(self.before.with_one) <= LARGEST[self.rows.dtype]


class Last(Product):
    """The last layer, a masked dense one: its units are read once, and not kept."""

    def __init__(self, layer, before, steps):
        super().__init__(layer, before, steps, 0)

    def at(self, units, k):
        known = self.before.parts[k].stop + 1
        return np.matmul(self.bW[self.place[units], :known], self.before.with_one[:known])


class Elementwise(Units):
    """An activation of units; with `overwrites` it overwrites them."""

    def __init__(self, layer, before, steps, overwrites=False):
        self.layer, self.before = layer, before
        if overwrites:
            self.stand_over(before)
        else:
            super().__init__(before.known, steps, *before.rows.shape[1:], before.rows.dtype)

    def compute(self, part, k):
        if type(self.layer) is ReLU:
            np.maximum(self.before.rows[part], 0, out=self.rows[part])
        else:
            self.rows[part] = self.layer.forward(self.before.rows[part])


class Sum(Units):
    """The sum of units of several layers."""

    def __init__(self, terms, steps):
        known = np.max([term.known for term in terms], 0)
        super().__init__(known, steps, *terms[0].rows.shape[1:], terms[0].rows.dtype)
        self.terms = terms

    def compute(self, part, k):
        self.rows[part] = sum(term.of(self.order[part]) for term in self.terms)


class Joined(Units):
    """Units and, after them, the entries of a context (C, n) or (C, 1), which are known from the beginning."""

    def __init__(self, before, context, steps):
        known = np.concatenate((before.known, np.zeros(len(context), int)))
        super().__init__(known, steps, *before.rows.shape[1:], before.rows.dtype)
        self.before, self.size = before, len(before.known)
        self.rows[self.place[self.size:]] = context

    def compute(self, part, k):
        units = self.order[part]
        units = units[units < self.size]
        self.rows[self.place[units]] = self.before.of(units)


class WithContext(Units):
    """Units with the numbers of a context (M, n) or (M, 1), by an operation that takes both."""

    def __init__(self, operation, before, context, steps):
        super().__init__(before.known, steps, *before.rows.shape[1:], before.rows.dtype)
        self.operation, self.before, self.context = operation, before, context[self.order]

    def compute(self, part, k):
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
        return in_turn(net.layers, before, steps, made)
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


def in_turn(layers, before, steps, made):
    """The same of several layers; an activation after a masked layer overwrites its units."""
    for layer, previous in zip(layers, (None, *layers)):
        if type(previous) is MaskedDense and layer.event_ndim == (0, 0):
            before = Elementwise(layer, before, steps, True)
            made.append(before)
        else:
            before = layers_of(layer, before, steps, made)
    return before


def outputs_of(net, before, steps, made):
    """The same of a whole network, whose last layer is computed where it is read."""
    if type(net) is Contextual:
        made.append(Joined(before, columns(net.context), steps))
        return outputs_of(net.inner, made[-1], steps, made)
    if type(net) is Sequential and type(net.layers[-1]) is MaskedDense:
        return Last(net.layers[-1], in_turn(net.layers[:-1], before, steps, made), steps)
    return layers_of(net, before, steps, made)


def columns(events):
    """Events (n, M), or one event, as columns."""
    return events.T if events.ndim > 1 else events[:, None]


def gated(y, v):
    return y * sigma(v)


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
        columns, nets = x.reshape(math.prod(batch), D).T, by_events(self.net, batch)
        parts = [slice(start, start + EVENTS) for start in range(0, max(1, columns.shape[1]), EVENTS)]
        found = [self.solved_part(columns[:, part], nets(part)) for part in parts]
        z, log_slopes = found[0] if len(parts) == 1 else (np.concatenate(both, 1) for both in zip(*found))
        return z.T.reshape(x.shape), log_slopes.T.reshape(x.shape)

    def solved_part(self, x, net):
        """(z, log-slopes) of some events, which are columns; by the page where a sum may overflow on its way, or a scale."""
        steps, entries, layers = len(self.levels), self.entries(x), []
        outputs = outputs_of(net, entries, steps, layers)
        form = self.affine_form
        solve = (exponential if form is not None and is_exponential(form.scale) else self.by_family)
        rows, log_slopes, x_rows = self.rows(len(x)), np.empty_like(entries.rows), x[entries.order]
        for k, level in enumerate(self.levels):
            for units in layers:
                units.step(k)
            part, h = entries.parts[k + 1], outputs.at(rows[level].T, k)
            entries.rows[part], log_slopes[part] = solve(h, x_rows[part], form)     # (2)
        if not all(units.in_range() for units in (*layers, outputs)) or solve is exponential and not safe(log_slopes):
            z, log_slopes = Autoregressive.solved(tree.copied(self, Autoregressive, net=net), x.T)
            return z.T, log_slopes.T
        return entries.rows[entries.place], log_slopes[entries.place]

    def by_family(self, h, x, form):
        """Entries (m, n) and their log-slopes from outputs (P, m, n), by the page of the family."""
        z, log_slopes = self.map_at(h.T)[0].inverse_and_log_det(x.T)
        return z.T, log_slopes.T

    def entries(self, x):
        """The entries of events, which are not known yet."""
        return Units(known_entries(self.levels, len(x)), len(self.levels), x.shape[1], x.dtype)


def exponential(h, x, form):
    """The same for x = exp(s) z + t, or x = exp(s) (z + t)."""
    w, t = -h[form.s], h[form.t]
    return x * np.exp(w) - t if form.shift_first else (x - t) * np.exp(w), w


def safe(log_slopes):
    """Are all scales exp(s) so far inside the floats that plain products keep their digits?"""
    return max(log_slopes.max(initial=0), -log_slopes.min(initial=0)) <= SAFE[log_slopes.dtype]


def by_events(net, batch):
    """A function from a slice of the events of a batch, one after the other, to the network with their context."""
    contexts = net.held("context")
    if not contexts or contexts[0].ndim == 1:
        return lambda part: net
    context = np.broadcast_to(contexts[0], (*batch, contexts[0].shape[-1])).reshape(math.prod(batch), -1)
    return lambda part: tree.replaced(net, {}, context[part])
