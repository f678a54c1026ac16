"""Points of a bijector that is given with its parameters: a page's instance, a chain, a coupling.

    moderate        single events and batches, also of a second shape
    every binade    of the dtype, from every end of the set of events: on one entry among moderate ones
    zeros           0 and -0, on one entry
    hard cases      the numbers in the hard cases of every page that it is made of, in the same way
    breaks          where two of its pieces meet, and the floats beside
    switches        neighbouring floats between which a comparison in its own code changes its result
    scale           where a network gives a coupling's scale the numbers of the scale's hard cases

A composition is asked so at each of its steps, whose events are moved back to the start through the steps before.  There they
are rounded, which makes of an event another one nearby.  Where the set of a step's events, or of its images, has an end, binades
are asked down to the distance at which roundings would leave the set; and a step has switches of both its sides, whose images
are moved back through the step itself.

Cotangents are asked at ordinary events alone, at which every step has an ordinary slope: where an event or a slope is subnormal,
so are factors of theirs, and have lost their digits.  Of a composition they are not asked near an end of a set between its steps
either, where the differences that give their kappa leave the set.
Between its parts an event is a rounded number too.  Where that is not an ordinary number, or where a rounding takes it out of
the next part's set, right code may fail, and the event is not asked.  Inside a coupling, or another map that holds networks, the
same is asked of its events, its images and exp(log-det), which tells the size of its scales.
"""

from __future__ import annotations

import numpy as np

from ...accuracy.drawing import SIDES, Point, binade, drawn_event, set_of, with_cotangents
from ...accuracy.formats import format_of
from ...accuracy.kappa import normwise, per_event, value_and_log_det
from ...accuracy.switches import comparisons, switches
from ...core import RandomSource, has_components, tree
from ...core.bijector import over_event
from ...core.compose import outside_marked, single_steps, unlifted
from ...core.sets import EXPONENTS
from ...maps.autoregressive import Autoregressive
from ...maps.coupling import Coupling
from ...maps.coupling.coupling import MaskedBijector
from .page_points import (
    COTANGENTS, COUNT, MODERATE, PARTS, ROOM, SPREADS, VJP, both_sides, composite_shapes, is_taken, smallest_shape, stage_members,
    with_gradients, zeros_of)

COMPOSITE = 2               # the spread of the entries of a moderate event
FEW = 4                     # events of another shape, and of a kind that is asked of the dearest map
ENTRIES = 4                 # of an event, on which each number stands in turn
MARGIN = 64                 # roundings that an event between two parts may be off
NEWTON = 4                  # steps
DIFFERENCES = 2.0**-16      # by which an event with cotangents keeps away from an end: kappa takes differences
LADDER = range(-20, 11)     # binades between whose numbers switches are sought
OF_PLACE, PAIRS = 2, 24     # pairs of floats beside switches: of one comparison, of one entry
BATCH, WORK = 2**20, 2**19  # numbers in a batch, and all that are computed for the binades of one side
DEAR = 2**18                # numbers for the binades of one side beyond which each stands on one entry in turn, not on several
OF_KIND = 2**15             # numbers that are computed for the events of another kind
BINADE = "a binade"
GRADIENTS = 4, 16           # events of a kind that are asked with cotangents too: of the dearest map, of the cheapest


def instance_points(f, dtype, event=None, broadcast=False):
    """Points of one bijector on both sides, the simple ones first; the same points each time.

    `event`: the one shape of z that is asked.  Without it, moderate events have several shapes, and hard ones the smallest.  With
    `broadcast`, events of fewer batch axes than its parameters have, or with an axis of one entry, are asked too.
    """
    f, source = f.astype(dtype), RandomSource(np.random.default_rng(7))
    shape, others = (smallest_shape(f), composite_shapes(f)) if event is None else (tuple(event), [])
    wide = () if has_components(type(f)) else SPREADS[np.dtype(dtype).name]
    for spread, lead in ((COMPOSITE, ()), *((spread, (COUNT,)) for spread in (COMPOSITE, *wide))):
        yield from moderate(f, source, shape, dtype, spread, lead, GRADIENTS[0])
    for other in others:
        if other != shape:
            yield from moderate(f, source, other, dtype, COMPOSITE, (FEW,), 1)
    ones = (1,) * len(f.parameter_batch)
    for lead in (ones, (2, *ones), ()) if broadcast and ones else ():
        z = drawn_event(source, f, "forward", lead + shape, dtype, COMPOSITE)
        yield Point(f, "forward", z, case="broadcast", reason=f"parameters {f.parameter_batch} broadcast with the events")
    for side in SIDES:
        yield from Hard(f, side, shape, np.dtype(dtype), source).points()


def moderate(f, source, shape, dtype, spread, lead, gradients):
    z = drawn_event(source, f, "forward", f.parameter_batch + shape, dtype, spread, lead)
    return with_gradients(both_sides(f, z, len(lead)), source, gradients)


class Hard:
    """The hard events of f on one side; `shape` is the shape of an event z.

    Events are arrays (N, *parameter batch, *event), float64 until they are rounded at the start.
    """

    def __init__(self, f, side, shape, dtype, source):
        self.f, self.side, self.dtype, self.source = f, side, dtype, source
        self.steps, self.exact = (steps_of(f.unchecked(d), side) for d in (dtype, np.float64))
        self.shapes = [tuple(shape if side == "forward" else f.output_shape(shape))]
        for step, way in self.steps:
            self.shapes.append(tuple((step.input_shape if way else step.output_shape)(self.shapes[-1])))

    def points(self):
        """One point for each kind of events, in batches that are not too large."""
        size, lanes, inputs = self.sizes()
        work = size * inputs
        few, many = GRADIENTS
        count = int(np.clip(BATCH // (64 * size * (size + lanes)), few, many))
        roundings = MARGIN * format_of(self.dtype).unit
        for case, events, found in self.kinds(work):
            events = evenly(events, max(FEW, OF_KIND // work)) if case != BINADE else events
            events = events[self.asked(events) & (not found or self.has_room(events, roundings))]
            step = max(1, BATCH // (size * (1 + lanes)))
            for first in range(0, len(events), step):
                yield Point(self.f, self.side, events[first:first + step], case=case, lead=1)
            events = events[self.ordinary(events) & self.ordinary_slopes(events)]
            events = events[self.has_room(events, DIFFERENCES)] if len(self.steps) > 1 else events
            for event in evenly(events, count):
                yield with_cotangents(Point(self.f, self.side, event, case=case), self.source, COTANGENTS)

    @np.errstate(all="ignore")
    def sizes(self):
        """The numbers of an event's entries, of the roundings within the map that kappa counts one by one, and of all that it counts."""
        f, of_z = self.f.astype(np.float64), self.shapes[-SIDES[self.side]]
        event = f.domain.plainest(f.parameter_batch + of_z).astype(np.float64)
        if not is_taken(f, event, "forward"):
            event = stage_members(f, drawn(f.domain, RandomSource(np.random.default_rng(7)), (COUNT, *event.shape)), 1)[0]
        event = f.forward(event) if self.side == "inverse" else event       # the codomain may be larger than the image
        view, event = per_event(f, event, SIDES[self.side])
        image, _ = value_and_log_det(view, event, VJP[self.side], normwise(self.f))
        inputs = {name: held.shape[-1] for name, held in image.inputs.items()}
        return max(1, event.size), inputs.get("between", 0), max(1, sum(inputs.values()))

    def kinds(self, work):
        """(case, events, were they found from the map, and may be near an end?) of each kind, at the start."""
        low, high = EXPONENTS[self.dtype]
        where, entries = set_of(self.f, self.side), int(np.prod(self.f.parameter_batch + self.shapes[0]))
        count = (high - low) * max(1, len(where.ends()))
        dear = work * count * min(entries, ENTRIES) > DEAR
        solved = any(step.solver for step, _ in self.steps)
        step = work * count * (1 if dear else min(entries, ENTRIES)) // WORK
        every = MODERATE if solved else range(low, high, max(1, step))                      # far away it may find no root
        yield BINADE, self.moved_back(0, self.at_binades(0, set_of_way(*self.exact[0]), every, 1, dear)), False
        zeros = zeros_of(where) if where.alike and not where.rank else []
        yield "zero", self.moved_back(0, self.on_entries(0, where, zeros)), False
        for k, (step, way) in enumerate(self.exact):
            of = f" of stage {k}" if len(self.exact) > 1 else ""
            for case, events in self.kinds_of_stage(k, unlifted(step), set_of_way(step, way)):
                yield case + of, self.moved_back(k, events), False
            for junction, here, image in ((k, way, ""), (k + 1, 1 - way, "the image of ")):
                yield f"{image}a switch{of}", self.moved_back(junction, self.at_switches(junction, k, here)), True
                yield f"{image}an end of its set{of}", self.moved_back(junction, self.at_ends(junction, k, here)), True

    def kinds_of_stage(self, k, inner, where):
        """(case, events) of each kind that stage k has, with its own events."""
        yield "a moderate binade", self.at_binades(k, where, MODERATE, PARTS)
        yield "a number of a hard case", self.on_entries(k, where, hard_numbers(inner))
        yield "a break", self.at_breaks(k)
        if isinstance(inner, MaskedBijector):
            yield "a hard case of its scale", self.at_scale(k)

    # -- numbers on entries --------------------------------------------------------------------------------------------

    def on_entries(self, k, where, numbers, dear=False):
        """Moderate members of a set with the shape of stage k's events, and each number on one entry, in turn on some of them.

        Where that is `dear`, each number stands on one entry alone, the next one on the next.  None of a set of whole vectors.
        """
        shape = self.f.parameter_batch + self.shapes[k]
        size = int(np.prod(shape))
        turns = min(size, 1 if dear else ENTRIES) if not where.rank else 0
        count = len(numbers) * turns
        events = drawn(where, self.source, (count, *shape))
        if dear and size:
            entry = np.arange(count) % size
        else:
            entry = np.repeat(np.arange(turns), len(numbers)) if turns == size else self.source.choices((count,), max(size, 1))
        events.reshape(count, size)[np.arange(count), entry] = np.tile(numbers, turns)
        return events

    def at_binades(self, k, where, exponents, parts, dear=False):
        """Members of a set with the shape of stage k's events, a number of each in one of these binades, from every end of the set.

        Of a set whose entries have ends of their own, all entries are in the binade; of a set of whole vectors there are none.
        """
        if where.alike or where.rank:
            numbers = [n for e in exponents if not where.rank for n in binade(where, self.source, np.float64, e, parts)]
            return self.on_entries(k, where, numbers, dear)
        shape = (parts, *self.f.parameter_batch, *self.shapes[k])
        return np.concatenate([where.draw(self.source, shape, np.float64, (e, e + 1)) for e in exponents])

    def at_ends(self, junction, k, way):
        """Numbers in the binades below the moderate ones, if the set of one side of step k has an end that is a number.

        A solver is left out: it need not find a root there.
        """
        step, where = self.exact[k][0], set_of_way(self.exact[k][0], way)
        if step.solver or not np.isfinite([where.lower, where.upper]).any():
            return self.none(junction)
        return self.at_binades(junction, where, range(-format_of(self.dtype).bits, MODERATE[0]), 1)

    def none(self, k):
        """No events, with the shape of stage k's."""
        return np.zeros((0, *self.f.parameter_batch, *self.shapes[k]))

    @np.errstate(all="ignore")
    def at_switches(self, junction, k, way):
        """Events beside switches of one side of step k, whose events have the shape of the events of stage `junction`.

        A solver is left out: its comparisons are steps of a search.
        """
        step, where = self.steps[k][0], set_of_way(self.exact[k][0], way)
        shape = (1, *self.f.parameter_batch, *self.shapes[junction])
        size = int(np.prod(shape))
        if where.rank or not where.alike or not size or way and step.solver:
            return self.none(junction)
        numbers = [n for e in LADDER for n in binade(where, self.source, np.float64, e)]
        found = [self.none(junction)]
        for entry in self.source.orders((size,))[:ENTRIES if junction == k else 1]:
            line = Line(drawn(where, self.source, shape), entry)
            pairs = switches(lambda ladder, line=line: comparisons(
                lambda events: ask_all(step, way, events), self.rounded(junction, line.at(ladder))), [np.unique(numbers)], self.source)
            found.append(line.at(np.ravel([pair for held in pairs.values() for pair in held[:OF_PLACE]][:PAIRS])))
        return np.concatenate(found)

    @np.errstate(all="ignore")
    def at_breaks(self, k):
        """Events of stage k one of whose entries is a break, unless that is 0, or a float beside it."""
        step, way = self.exact[k]
        z = drawn(step.domain, self.source, (1, *self.f.parameter_batch, *self.shapes[k + way]))
        breaks = breaks_of(unlifted(step), z)
        breaks = np.broadcast_to(breaks, (*z.shape, breaks.shape[-1])).reshape(z.size, -1)[:ENTRIES]
        entry, number = np.nonzero(np.isfinite(breaks))
        if not len(entry):
            return np.zeros((0, *self.f.parameter_batch, *self.shapes[k]))
        events = np.repeat(z.reshape(1, -1), len(entry), 0)
        events[np.arange(len(entry)), entry] = breaks[entry, number]
        events = step.forward(events.reshape(-1, *z.shape[1:])) if way else events
        return self.with_neighbours(events.reshape(len(entry), -1), entry).reshape(-1, *z.shape[1:])

    def with_neighbours(self, events, entry):
        """Events, flat, where the entry is not 0, which no rounding moves; and with the floats on either side of it."""
        each, found = np.arange(len(events)), [events[events[np.arange(len(events)), entry] != 0]]
        for end in (-np.inf, np.inf):
            moved = events.copy()
            moved[each, entry] = np.nextafter(moved[each, entry].astype(self.dtype), self.dtype.type(end))
            found.append(moved)
        return np.concatenate(found)

    @np.errstate(all="ignore")
    def at_scale(self, k):
        """Events of stage k, a coupling, where its network gives the first entry's scale each of the scale's hard numbers.

        From a moderate event, by Newton's method along the slope of that output: exact after one step of an affine network.
        """
        step, way = self.exact[k]
        f, shape = unlifted(step), self.f.parameter_batch + self.shapes[k]
        form = f.affine_form
        numbers = [] if form is None or form.s is None or f.split.sizes[1] == 0 else hard_numbers(form.scale)
        events = drawn(set_of_way(step, way), self.source, (len(numbers), *shape))
        if not len(numbers):
            return events
        a, b = f.parts(events)
        for _ in range(NEWTON):
            s = f.flat(f.pieces(f.net.forward(a))[form.s])[..., 0]
            slope = f.output_slopes(events, a)[form.s][..., 0, :]
            miss = np.reshape(numbers, (-1, *(1,) * (s.ndim - 1))) - s
            a = a + (slope * (miss / (slope * slope).sum(-1))[..., None]).reshape(a.shape)
        return f.merged(a, b, events.shape)

    # -- along the steps -----------------------------------------------------------------------------------------------

    @np.errstate(all="ignore")
    def moved_back(self, k, events):
        """Events of stage k as events of the start, rounded, without the events that the start does not reach."""
        def reached(events):
            events, marks = self.starts(k, events)
            return events[marks]

        return by_parts(reached, events, self.none(0).astype(self.dtype))

    def starts(self, k, events):
        """(events of stage k as events of the start, rounded; is each reached by an event of the start?)."""
        marks = np.full(len(events), True)
        with outside_marked() as nested:
            for step, way in reversed(self.exact[:k]):
                events, inside = completed(step, 1 - way, events)
                marks &= inside
                events = (step.forward if way else step.inverse)(events)
        return events.astype(self.dtype), marks & every(nested, len(events))

    def rounded(self, k, events):
        """Events of stage k as the steps before it give them, from the start."""
        events, _ = self.starts(k, events)
        with outside_marked():
            for step, way in self.steps[:k]:
                events, _ = completed(step, way, events)
                events = (step.inverse if way else step.forward)(events)
        return events

    @np.errstate(all="ignore")
    def asked(self, events):
        """Marks of the events whose numbers between the parts of f are ordinary, and stay in their sets if they are rounded."""
        return by_parts(self.asked_together, events, np.array([False]))

    def asked_together(self, events):
        marks = np.full(len(events), True)
        with outside_marked() as nested:
            for k, (step, way) in enumerate(self.steps):
                events, inside = completed(step, way, events)
                marks &= inside & (self.stays(step, way, events) if k else True)
                image, log_det = (step.inverse_and_log_det if way else step.forward_and_log_det)(events)
                if has_components(type(unlifted(step))):
                    marks &= self.ordinary(events) & self.ordinary(image) & self.of_ordinary_size(log_det)
                events = image
        return marks & every(nested, len(events))

    @np.errstate(over="ignore")
    def has_room(self, events, by):
        """Marks of events that are asked even if they are moved, relatively, at the start."""
        return self.asked(events * (1 - by)) & self.asked(events * (1 + by))

    def stays(self, step, way, events):
        """Marks of ordinary events that roundings do not take out of the set of a step."""
        by = MARGIN * format_of(self.dtype).unit
        moved = [events] if set_of_way(step, way).rank else [events * (1 - by), events * (1 + by)]
        return self.ordinary(events) & every([~set_of_way(step, way).outside(one) for one in moved], len(events))

    @np.errstate(all="ignore")
    def ordinary_slopes(self, events):
        """Marks of the events at which every step's log-det is of an ordinary size."""
        marks = np.full(len(events), True)
        with outside_marked():
            for step, way in self.steps:
                events, _ = completed(step, way, events)
                events, log_det = (step.inverse_and_log_det if way else step.forward_and_log_det)(events)
                marks &= self.of_ordinary_size(log_det)
        return marks

    @np.errstate(over="ignore")
    def ordinary(self, events):
        """Marks of events whose numbers are 0 or far from the ends of the dtype's range."""
        largest, size = format_of(self.dtype).largest / ROOM, np.abs(events)
        return every([(size == 0) | (size <= largest) & (size * largest >= 1)], len(events))

    def of_ordinary_size(self, log_det):
        """Marks of log-dets of an ordinary size of the map's slope, which is not 0 either."""
        return every([np.abs(log_det) <= np.log(format_of(self.dtype).largest / ROOM)], len(log_det))


class Line:
    """Events that differ in one entry."""

    def __init__(self, event, entry):
        self.event, self.entry = event, entry

    def at(self, numbers):
        events = np.repeat(self.event, len(numbers), 0)
        events.reshape(len(numbers), self.event.size)[:, self.entry] = numbers
        return events


def evenly(events, count):
    """At most `count` of the events, evenly spread."""
    return events[np.linspace(0, len(events) - 1, min(count, len(events))).astype(int)]


def ask_all(step, way, events):
    """Ask one side of a map for its values, its log-dets and its cotangents; of a map with networks all at once."""
    if not has_components(type(unlifted(step))):
        (step.inverse if way else step.forward)(events)
    (image, log_det), pullback = (step.inverse_vjp if way else step.vjp)(events)
    pullback(np.ones_like(image), np.ones_like(log_det))
    if not way and step.event_ndim == (0, 0):
        step.jacobian(events)


def by_parts(function, events, refused):
    """The values of a function of events; `refused` is the value of an event at which a solver gives up."""
    try:
        return function(events)
    except ArithmeticError:
        if len(events) < 2:
            return refused
        return np.concatenate([by_parts(function, part, refused) for part in np.array_split(events, 2)])


def steps_of(f, side):
    """[(step, its side)] of a map, in the order in which an event of a side meets them."""
    return [(step, way) for _, step, way in single_steps(f, SIDES[side])]


def set_of_way(step, way):
    return step.codomain if way else step.domain


def drawn(where, source, shape):
    """Moderate members of a set."""
    return where.draw(source, shape, np.float64, COMPOSITE)


def completed(step, way, events):
    """(events with a member in place of those outside, marks of the others)."""
    where, rank = set_of_way(step, way), step.event_ndim[way]
    inside = where.members(events, rank)
    return where.completed(events, over_event(inside, rank)), every([inside], len(events))


def every(marks, count):
    """One mark for each of `count` events: do all marks hold there?"""
    return np.logical_and.reduce([np.full(count, True), *(np.all(one, tuple(range(1, np.ndim(one)))) for one in marks)])


def hard_numbers(f):
    """The numbers in the hard cases of all pages that f is made of, each once."""
    pages = {page for _, owner in tree.walk(f) for page in (type(owner), getattr(owner, "bijector", type(owner)))}
    events = [event for page in pages for case in getattr(page, "hard_cases", ()) for event in (*case.z, *case.x)]
    return np.unique(np.concatenate([np.ravel(event) for event in events] or [[]]).astype(np.float64))


def breaks_of(f, z):
    """The breaks of the maps of z's entries along a last axis, NaN where an entry has none."""
    if isinstance(f, Autoregressive):
        return f.map_at(f.by_entry(f.net.forward(z)))[0].breaks()
    if not isinstance(f, Coupling):
        return f.breaks()
    a, b = f.parts(z)
    breaks = f.map_at(f.net.forward(a))[0].breaks()
    breaks = np.broadcast_to(breaks, (*b.shape, breaks.shape[-1]))
    without = np.full(a.shape, np.nan)
    whole = [f.merged(without, breaks[..., i], z.shape) for i in range(breaks.shape[-1])]
    return np.stack(whole, -1) if whole else np.zeros((*z.shape, 0))
