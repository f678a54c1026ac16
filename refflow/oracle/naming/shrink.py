"""From a point that fails to the simplest one nearby that still fails.

Simpler means, in this order: fewer entries, parameters at their defaults, cotangents 0 or 1, numbers nearer to 1 with
fewer digits.  Each step is kept only if the quantity still fails by at least the threshold.
"""

from __future__ import annotations

import numpy as np

from ...accuracy.drawing import SIDES, plainest_of
from ...core.declarations import Child, Field
from ...core.tree import flatten
from ..points.page_points import inputs_of, members

BUDGET = 100            # questions asked for one finding
INPUTS = 32             # so many cost as much as a question does without any
WORK = 512              # and so many products of an entry with an input
MANY = 8                # entries of an event, beyond which all are simplified at once before each is by itself
DIGITS = (1, 2, 3)
HALVINGS = 6            # of an exponent


def shrunk(failures, threshold, again, fixed=False):
    """The simplest failure reached from any of `failures`, all of one quantity, with C >= threshold.

    `again(point, failure, threshold)` asks for the same quantity at another point and returns its failure there, or None if it does
    not fail by the threshold.  With `fixed` the parameters stay as they are.
    """
    start = min(failures, key=lambda f: complexity(f.point))
    search = Search(start, threshold, again, fixed)
    for step in (search.simple_parameters, search.fewer_entries, search.simple_cotangents, search.plainest_event,
                 search.rounder_events, search.rounder_parameters):
        step()
    return search.best


def complexity(point):
    """The event's size, then the number of characters that one would have to type."""
    leaves = [point.event, *(leaf for _, leaf in flatten(point.f.params()))]
    return point.event.size, sum(len(repr(v)) for leaf in leaves for v in np.asarray(leaf).ravel().tolist())


class Search:
    """A greedy walk: `best` is the simplest failure so far."""

    def __init__(self, start, threshold, again, fixed):
        self.best, self.threshold, self.again, self.fixed = start, threshold, again, fixed
        inputs = inputs_of(start.point)
        self.left = BUDGET / (1 + inputs / INPUTS + inputs * start.point.event.size / WORK)

    def try_point(self, **changes):
        """Does the changed question fail too?  If so, it becomes the best."""
        if self.left <= 0:
            return False
        self.left -= 1
        try:
            changed = self.best.point.changed(**changes)
            if not np.isfinite(changed.event).all() or not members(changed).all():
                return False
            found = self.again(changed, self.best, self.threshold)
        except (ValueError, IndexError):
            return False
        if found is None:
            return False
        self.best = found
        return True

    # -- parameters ----------------------------------------------------------------------------------------------------

    @property
    def own_fields(self):
        """The real fields of a page; a composite keeps its fields, and so does a map given with its parameters."""
        f = self.best.point.f
        if self.fixed or any(isinstance(d, Child) for d in f.declared.values()):
            return {}
        return {k: d for k, d in f.declared.items() if isinstance(d, Field) and not d.constant and getattr(f, k) is not None}

    def simple_parameters(self):
        simple = {k: self.simple(k, d) for k, d in self.own_fields.items()}
        if simple and not self.try_point(f=self.replaced(simple)):
            for key, value in simple.items():
                self.try_point(f=self.replaced({key: value}))

    def simple(self, key, declared):
        held = getattr(self.best.point.f, key)
        return plainest_of(declared, held.shape).astype(held.dtype)

    def replaced(self, fields):
        return self.best.point.f.replace(**fields)

    # -- dimensions ----------------------------------------------------------------------------------------------------

    def fewer_entries(self):
        """A short piece of a vector around its largest entry, if no field has entries for it; then one index removed
        after another along the event's axes, and the fields' axes that share their letter.
        """
        point = self.best.point
        if point.event.ndim == 1 and point.side == "forward" and not any(d.shape for d in self.own_fields.values()):
            self.piece(point.event, int(np.argmax(np.abs(point.event))))
        rank = point.f.event_ndim[SIDES[point.side]]
        letters = point.f.event_shape or ("D", "T", "W")[:rank]
        on_manifold = point.side == "inverse" and point.f.codomain.rank
        for axis in range(-rank, 0) if point.event.ndim == rank and not on_manifold else ():
            index = 0
            while index < self.best.point.event.shape[axis]:
                if not self.leave_out(index, axis, letters[axis] if len(letters) == rank else None):
                    index += 1

    def piece(self, event, largest):
        for size in range(1, min(len(event), 7)):
            for start in range(max(0, largest - size + 1), min(largest, len(event) - size) + 1):
                if self.try_event(self.best.point.f, event[start:start + size]):
                    return

    def try_event(self, f, event):
        """An event of another size, with cotangents of 1."""
        try:
            bars = {} if self.best.point.image_bar is None else self.unit_bars(f, event)
        except ValueError:
            return False                # the map has no event of that size
        return self.try_point(f=f, event=event, **bars)

    def leave_out(self, index, axis, letter):
        point = self.best.point
        if point.event.shape[axis] == 1:
            return False
        fields = {}
        for key, declared in self.own_fields.items():
            value = getattr(point.f, key)
            for back, symbol in enumerate(reversed(declared.shape), 1):
                value = np.delete(value, index, -back) if symbol == letter else value
            fields[key] = value
        try:
            f = point.f.replace(**fields) if fields else point.f
        except ValueError:
            return False
        return self.try_event(f, np.delete(point.event, index, axis))

    # -- cotangents ----------------------------------------------------------------------------------------------------

    def unit_bars(self, f, event, image=1, log_det=1):
        point = self.best.point
        side, rank = point.side, f.event_ndim[SIDES[point.side]]
        batch = np.shape(point.log_det_bar)
        shape = (f.output_shape if side == "forward" else f.input_shape)(event.shape[event.ndim - rank:])
        return {"image_bar": np.full(batch + tuple(shape), image, point.dtype),
                "log_det_bar": np.full(batch, log_det, point.dtype)}

    def simple_cotangents(self):
        point = self.best.point
        if point.image_bar is not None:
            for image, log_det in ((1, 1), (0, 1), (1, 0)):
                if self.try_point(**self.unit_bars(point.f, point.event, image, log_det)):
                    return

    # -- numbers -------------------------------------------------------------------------------------------------------

    def plainest_event(self):
        """Of many entries, the simplest event of the set, or its image."""
        point = self.best.point
        if point.event.size > MANY:
            shape = point.event.shape if point.side == "forward" else point.f.inverse(point.event).shape
            z = point.f.domain.plainest(shape).astype(point.dtype)
            self.try_point(event=z if point.side == "forward" else point.f.forward(z))

    def rounder_events(self):
        """Rounder events; on a manifold (a simplex, a factor), images of rounder latent events, which stay on it."""
        point = self.best.point
        if point.side == "inverse" and point.f.codomain.rank:
            self.rounder_latents(point.f.inverse(point.event))
            return
        for index in np.ndindex(self.best.point.event.shape):
            self.rounder(lambda v, index=index: self.try_point(event=with_entry(self.best.point.event, index, v)),
                         lambda index=index: self.best.point.event[index])

    def rounder_latents(self, z):
        state = {"z": z}

        def attempt(index, value):
            f, changed = self.best.point.f, with_entry(state["z"], index, value)
            inside = f.domain.members(changed, f.event_ndim[0]).all()           # a latent event may satisfy equations, too
            done = inside and self.try_point(event=f.forward(changed))
            state["z"] = changed if done else state["z"]
            return done

        for index in np.ndindex(z.shape):
            self.rounder(lambda v, index=index: attempt(index, v), lambda index=index: state["z"][index])

    def rounder_parameters(self):
        for key in self.own_fields:
            for index in np.ndindex(getattr(self.best.point.f, key).shape):
                self.rounder(lambda v, key=key, index=index: self.try_field(key, index, v),
                             lambda key=key, index=index: getattr(self.best.point.f, key)[index])

    def try_field(self, key, index, value):
        try:
            f = self.replaced({key: with_entry(getattr(self.best.point.f, key), index, value)})
        except ValueError:
            return False
        return self.try_point(f=f)

    def rounder(self, attempt, current):
        """One number: 0, 1 or -1; else nearer to 1 by bisection of its exponent; else with fewer digits."""
        value = float(current())
        if value in (0.0, 1.0) or not np.isfinite(value):
            return
        if any(attempt(simple) for simple in (0.0, 1.0, -1.0) if simple != value):
            return
        low, high, sign = 0.0, float(np.log2(abs(value))), np.sign(value)
        for _ in range(HALVINGS if abs(high) > 0.5 else 0):
            middle = (low + high) / 2
            low, high = (low, middle) if attempt(float(sign * np.exp2(middle))) else (middle, high)
        value = float(current())
        for digits in DIGITS:
            if any(attempt(rounded) for rounded in roundings(value, digits) if rounded != value):
                return


def roundings(value, digits):
    """The value with a few digits, also for its difference from 1."""
    step = f".{digits - 1}e"
    for candidate in (value, value * (1 + 0.5 * 10.0**(1 - digits)), value * (1 - 0.5 * 10.0**(1 - digits))):
        yield float(format(candidate, step))
    if 0.5 < abs(value) < 1:
        yield float(np.copysign(1 - float(format(1 - abs(value), step)), value))


def with_entry(array, index, value):
    changed = np.array(array)
    changed[index] = value
    return changed
