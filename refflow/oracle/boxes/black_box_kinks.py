"""The floats at a kink of a black box: where an inner value is exactly 0, a formula may have a case of its own.

A LeakyReLU, or |z|, behind other stages of a map has its kink where nobody would look for it, and a log-det that is wrong at the
kink alone is wrong at one float.  One entry of a moderate event is moved at a time.  An interval where the log-det bends is halved
to the last floats.  Where the slopes on both sides are the same, the log-det does not bend: the latents of images with an entry 0
are asked instead, which are the kink of a last stage.  Both are asked with the floats beside them.

Two mistakes are not found: behind a stage that mixes entries, the inner value need not be 0 at any of these floats; and a kink with
equal slopes on both sides is found only if its image is 0.
"""

from __future__ import annotations

import numpy as np

from .black_box_ends import bent_most
from .black_box_points import ALLOWED, BoxPoints, answers

GRID, FARTHEST = 256, 12.0              # numbers of an entry, and the largest of them
ENTRIES, KINKS = 3, 4                   # entries that are moved; places of each
FLOATS = np.arange(-3, 4)               # beside a place
LEAST = 2.0**-20                        # size of the entry: kinks at 0 are asked without being sought
STEPS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
FLAT = 2.0**-10                         # what a log-det moves by at most beside a kink; at a singular event it moves by more


def kink_events(box, p):
    """(events (n, *event), the entry of each along which it is at a kink)."""
    start, found = p.z[len(p.z) // 2].ravel(), []
    for entry in range(min(p.size, ENTRIES)):
        line = Along(box, start, entry)
        held = [line.at(number) for number in places(p, line)]
        x = box.image(line.at(start[[entry, entry]]))[:1]           # two, since one event alone may be refused
        if box.inverse is not None and x.size == p.size:
            held.append(latent_of_0(box, x, entry))
        held = np.concatenate(held).reshape(-1, p.size)
        floats = np.repeat(held, len(FLOATS), 0)
        floats[:, entry] += np.tile(FLOATS, len(held)) * p.ends.spacing(floats[:, entry])
        floats = box.held(floats)
        inside = np.isfinite(floats).all(-1) & ~p.ends.where_outside(floats).any(-1) & (np.abs(floats[:, entry]) > LEAST)
        found.append((floats[inside], np.full(inside.sum(), entry)))
    events, entries = map(np.concatenate, zip(*found))
    return events.reshape(-1, *box.event), entries


class Along:
    """Events that differ in one entry."""

    def __init__(self, box, start, entry):
        self.box, self.start, self.entry = box, start, entry

    def at(self, numbers):
        events = np.repeat(self.start[None], np.size(numbers), 0)
        events[:, self.entry] = np.ravel(numbers)
        return self.box.held(events.reshape(-1, *self.box.event))

    def log_slope(self, numbers):
        return answers(self.box.log_slope, self.at(numbers)).reshape(np.shape(numbers))


def places(p, line):
    """The places where the log-det bends most along a line."""
    edges = np.unique(line.box.held(p.ends.numbers_of_all_sizes(GRID, FARTHEST)))
    edges = edges[~p.ends.where_outside(edges)]
    second = np.abs(np.diff(line.log_slope(edges), 2))
    first = np.argsort(-np.where(np.isfinite(second), second, np.inf), kind="stable")[:KINKS]
    return bent_most(line.log_slope, edges[first], edges[first + 2], line.box.unit, line.box.held)[:2]


def latent_of_0(box, x, entry):
    """The latent of an image with an entry 0; none if the codomain has no 0."""
    x = x.copy()
    x.reshape(-1)[entry] = 0.0
    if box.codomain is not None and box.codomain.outside(np.zeros(1)).any():
        return np.zeros((0, *box.event))
    back = answers(box.origin, np.repeat(x, 2, 0))
    return back[:1] if back.shape == (2, *box.event) else np.zeros((0, *box.event))


def of_one_float(box, p):
    """The points at kinks whose log-dets alone are not finite, or None; around an image that has underflowed others are not either."""
    events, entries = kink_events(box, p)
    if not len(events):
        return None
    l = np.isfinite(beside(box, p, events, entries, p.ends.spacing(events.reshape(len(events), -1))))
    alone = l[:, 1] & ~l[:, 2] & l[:, 3]
    return BoxPoints(box, p.seed, events[alone]) if alone.any() else None


def beside(box, p, events, entries, step):
    """Log-dets (n, 5) at events, and up to two steps to either side along the entry of each."""
    flat, each = events.reshape(len(events), -1), np.arange(len(events))
    moved = np.repeat(flat[:, None], len(STEPS), 1)
    moved[each, :, entries] += STEPS * step[each, entries][:, None]
    return answers(box.log_slope, box.held(moved.reshape(-1, *box.event))).reshape(len(flat), len(STEPS))


def neither_side(box, p):
    """(an event at a kink whose log-det is that of neither side, the log-det, and that of each side); None if there is none."""
    events, entries = kink_events(box, p)
    if not len(events):
        return None
    l = beside(box, p, events, entries, 4 * p.E * p.u * np.maximum(np.abs(events.reshape(len(events), -1)), 1))
    here, left, right = l[:, 2], l[:, 1], l[:, 3]
    bend = np.abs(l[:, 0] - left) + np.abs(l[:, 4] - right)
    off = np.minimum(np.abs(here - left), np.abs(here - right))
    wrong = (bend < FLAT) & (off > ALLOWED * (p.u * (p.size + np.abs(here)) + bend)) & np.isfinite(here)
    if wrong.any():
        i = int(np.argmax(wrong))
        return events[i], float(here[i]), float(left[i]), float(right[i])
    return None
