r"""Every part of the domain of a black box: a log-det that is wrong in one bin of a spline, or in one branch, is right elsewhere.

A map of one number is asked on pieces that cover its domain, from one place where the log-det bends to the next.  On a piece
[a, b] with the quadrature I of exp(log-det) and the bound e of its error,
    off = (|f(b) - f(a)| - I)/(16 u (|f(a)| + |f(b)| + I (1 + max|l|)) + 10 e)      (1)
is more than 1 in size where the log-det is wrong, the images are noisier than a rounding, or the rule has missed something narrow.
A piece where that is so, or where e is large, is cut into quarters.  It is SUSPECT if all four are off in its direction:
a kink or a spike that the rule has missed lies in one quarter, or in two, and the other ones agree.  A suspect piece is then
compared with the units of its points; it is wrong if all its quarters are wrong.  Other intervals that are wrong are narrowed
to the quarter that is off most, again and again: they stay wrong if all quarters of one are off, or if the image jumps.

A map of several numbers is restricted to lines along one entry.  Where the entry moves one entry of the image alone, as in a
coupling or an elementwise map, the other rows of the Jacobian do not know it, and
    det J(t) = c dx_k/dt                                                            (2)
with a constant c, which is taken from a piece whose ratio of I and |f(b) - f(a)| is near the median.  The bound of this piece,
relative to I, is added to all other bounds, and so are the roundings of what the other entries add to the log-det.

A map of several numbers is also asked at points at which each entry takes as many values of all sizes, each once, in an order of its own.
With central differences at one small step h, the points at which
    |log|det D_h f| - l|                                                            (3)
is largest are suspect.  They are compared by the law of differences, with their own units and errors; such a point is wrong if
its neighbours at random distances are wrong with it, since no two of them are at the same kink.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .black_box import BlackBox
from .black_box_ends import EndPoints
from .black_box_points import ALLOWED, BoxPoints, answers
from .lawbook import Found
from .model_laws import DIFFERENCE, gauss

RANGE = 0.9                             # of the logarithms of numbers: nearer to its ends, slopes overflow or lose digits
QUARTERS = 4
LEVELS = 5                              # times that a piece is cut
UNSETTLED = 1e-4                        # relative errors of integrals from which a piece is cut
MOST = 24                               # pieces that are cut at a level, of each kind
SUSPECTS = 8                            # pieces that are compared with their units
NARROWINGS = 32                         # quarters of quarters, until the ends are neighbours
SHARE = 0.25                            # of what an interval is off by, in each of its quarters
LINES, TRIED = 3, 12                    # along entries of an event; entries that are tried
START = 3 * 7 + 1                       # a latent of moderate size, where a line begins
TYPICAL = 16                            # pieces whose ratio is near the median
DENSE = 512                             # points of a map of several numbers
FARTHEST = 12.0                         # entry of these on the line
ENTRIES = 2**16                         # of events of one table of differences
STEP = {"float64": 2.0**-18, "float32": 2.0**-10}           # h of (3)
SCREEN = {"float64": 1e-6, "float32": 1e-2}                 # (3) is then more than its own error, where numbers are moderate
COMPARED = 8                            # points that are compared by the law of differences
BESIDE, ASIDE = 4, 2.0**-9              # neighbours of a point, and the largest distance to them


# -- maps of one number -----------------------------------------------------------------------------------------------

class Integrals(NamedTuple):
    """Differences of images, integrals of slopes, how far they may be apart, and marks of the intervals that can be asked."""

    given: Any
    found: Any
    bound: Any
    usable: Any


def integrals(box, p, left, right, rough):
    """Of intervals, with the units of their nodes and ends; those with a larger relative error than `rough` are not usable."""
    nodes, integrated = gauss(left, right - left)
    q, ends = (type(p)(box, p.seed, box.held(at.reshape(-1, *box.event))) for at in (nodes, np.stack((left, right))))
    U, usable = q.of_log_det
    slope = np.exp(q.log_det).reshape(nodes.shape)
    found, e = integrated(slope)
    # a node is rounded, and the slope there is not the slope at the node
    moved = integrated(slope * (ALLOWED * U.reshape(nodes.shape)))[0]
    U_x, at_ends = (part.reshape(2, -1) for part in ends.of_x)
    bound = p.scale * ALLOWED * U_x.sum(0) + moved + 10 * e + (ALLOWED * p.u + p.slack) * found
    in_range = (np.abs(q.log_det) < RANGE * np.log(box.largest)).reshape(nodes.shape).all(-1)
    usable = usable.reshape(nodes.shape).all(-1) & at_ends.all(0) & (e <= rough * found) & in_range
    return Integrals(p.scale * np.abs(np.subtract(*ends.x.reshape(2, -1))), found, bound, usable)


def hold_integrals(box, p, left, right, of):
    """Found at the simplest interval where the difference of images is not the integral; how many were asked."""
    wrong = np.flatnonzero(of.usable & (np.abs(of.given - of.found) > of.bound))
    if len(wrong):
        first = wrong[np.argsort(-np.abs(of.given - of.found)[wrong] / of.bound[wrong], kind="stable")[:SUSPECTS]]
        usable = np.array(of.usable)
        usable[wrong] = False
        usable[first] = stays_wrong(box, p, left[first], right[first])
        of = of._replace(usable=usable)
    held = type(p)(box, p.seed, np.zeros((0, *box.event)))
    held.held_to("the difference of images of ends of an interval", of.given, of.found, of.bound[:, None], of.usable,
                 at=np.stack((left, right), -1), of="latents")
    return held.asked


def stays_wrong(box, p, left, right):
    """Marks of the intervals that a rule has not simply mistaken: all quarters of a part are off, or the images jump.

    The part is the quarter that is off most of the one before; what is narrower than the distance of nodes is soon met by them.
    """
    _, relative, _, first = off_and_unsettled(box, p, left, right)
    found, apart = np.zeros(len(left), bool), first
    for level in range(NARROWINGS):
        edges = box.held(left[:, None] + (right - left)[:, None] * np.arange(QUARTERS + 1) / QUARTERS)
        of_quarters = off_and_unsettled(box, p, edges[:, :-1].ravel(), edges[:, 1:].ravel())
        off, by, _, parts = (part.reshape(-1, QUARTERS) * np.sign(apart)[:, None] for part in of_quarters)
        if level < LEVELS:
            found |= ((off > SHARE) & (by > SHARE * np.abs(relative)[:, None])).all(-1)
        worst = np.arange(len(left)), np.abs(parts).argmax(-1)
        left, right = edges[worst], edges[worst[0], worst[1] + 1]
        relative, apart = by[worst] * np.sign(apart), parts[worst] * np.sign(apart)
    return found | (np.abs(apart) > SHARE * np.abs(first))


def piece_by_piece(box, p):
    """Found where images of the ends of a piece do not differ by the integral of the slope, on the whole and in every quarter."""
    edges = suspect_pieces(box, p)
    if not len(edges):
        return
    left, right = edges[:, :-1].ravel(), edges[:, 1:].ravel()
    of = integrals(box, p, left, right, DIFFERENCE)
    wrong = (of.usable & (np.abs(of.given - of.found) > of.bound)).reshape(-1, QUARTERS).all(-1)
    hold_integrals(box, p, left, right, of._replace(usable=np.repeat(wrong, QUARTERS)))


def suspect_pieces(box, p):
    """(n, 5): the edges of the quarters of pieces that are off with all of them, those first that are off most."""
    left, right = p.pieces()
    found, size, whole = [], [], off_and_unsettled(box, p, left, right)
    for _ in range(LEVELS):
        off, relative, error, _ = whole
        chosen = np.union1d(largest(np.abs(relative), np.abs(off) > 1), largest(error, error > UNSETTLED))
        if not len(chosen):
            break
        edges = box.held(left[chosen, None] + (right - left)[chosen, None] * np.arange(QUARTERS + 1) / QUARTERS)
        left, right = edges[:, :-1].ravel(), edges[:, 1:].ravel()
        whole = off_and_unsettled(box, p, left, right)
        suspect = (np.abs(off[chosen]) > 1) & (whole[0].reshape(-1, QUARTERS) * np.sign(off[chosen, None]) > 1).all(-1)
        found, size = [*found, edges[suspect]], [*size, np.abs(relative[chosen][suspect])]
        keep = np.repeat(~suspect, QUARTERS) & p.wide(left, right)
        left, right, *whole = (part[keep] for part in (left, right, *whole))
    return np.concatenate(found)[np.argsort(-np.concatenate(size))[:SUSPECTS]] if found else np.zeros((0, QUARTERS + 1))


def off_and_unsettled(box, p, left, right):
    """(off, the difference by the integral, the relative error of the integral, the difference) of pieces; 0 for what is not finite."""
    nodes, integrated = gauss(left, right - left)
    l = answers(box.log_slope, box.held(nodes.reshape(-1, *box.event))).reshape(nodes.shape)
    x = p.scale * p.images(np.stack((left, right))).reshape(2, -1)
    found, e = integrated(np.exp(l))
    apart = np.abs(np.subtract(*x)) - found
    bound = ALLOWED * p.u * (np.abs(x).sum(0) + found * (1 + np.abs(l).max(-1))) + 10 * e + p.slack * found         # (1)
    return [np.where(np.isfinite(part), part, 0) for part in (apart / bound, apart / found, e / found, apart)]


def largest(values, marks):
    """The places of the largest of the marked values, at most `MOST`."""
    places = np.flatnonzero(marks)
    return places[np.argsort(-values[places], kind="stable")[:MOST]]


# -- lines --------------------------------------------------------------------------------------------------------------

def along_lines(box, p):
    """How many lines are asked piece by piece; Found on one of them."""
    rng, asked = np.random.default_rng(p.seed), 0
    for entry in rng.permutation(p.size)[:TRIED]:
        start = BoxPoints(box, int(rng.integers(2**32))).z[START]
        line = Line(box, start, int(entry))
        if asked == LINES or not line.moves_one(p.numbers_of_all_sizes(DENSE, FARTHEST)):
            continue
        q = EndPoints(line.box, p.seed, start.ravel()[entry])           # of which the pieces alone are asked
        if not in_scale(line, q):
            continue
        asked += 1
        try:
            piece_by_piece(line.box, q)
        except Found as found:
            raise Found(f"along entry {line.index} of {start.tolist()}, {found}, by the scale of the other entries",
                        latents=line.events(np.ravel(found.latents))) from None
    return asked


def in_scale(line, p):
    """Give the line's points c of (2) and the error that it has; is there a piece that gives it?"""
    left, right = p.pieces()
    _, relative, error, _ = off_and_unsettled(line.box, p, left, right)
    usable = np.flatnonzero((relative != 0) & (relative > -1) & (error < UNSETTLED))
    if len(usable) < QUARTERS:
        return False
    usable = usable[np.argsort(np.abs(relative - np.median(relative[usable]))[usable], kind="stable")[:TYPICAL]]
    i = usable[np.argmax((right - left)[usable])]
    one = integrals(line.box, p, left[i:i + 1], right[i:i + 1], DIFFERENCE)
    if not one.usable[0] or not one.bound[0] < DIFFERENCE * one.found[0]:
        return False
    p.scale = float(one.found[0] / one.given[0])
    p.slack = float(one.bound[0] / one.found[0]) + ALLOWED * p.u * (2 * abs(line.level) + line.start.size)
    return True


class Line:
    """The restriction of a map to one entry of an event; `level` is taken from its log-det."""

    def __init__(self, whole, start, entry):
        self.whole, self.start, self.entry, self.moved = whole, start, entry, None
        self.index = tuple(int(k) for k in np.unravel_index(entry, start.shape))
        self.level = float(whole.log_slope(np.stack((start, start)))[0])        # a map may refuse one event alone

    def events(self, t):
        events = np.repeat(self.start.reshape(1, -1), len(t), 0)
        events[:, self.entry] = t
        return events.reshape(-1, *self.start.shape)

    def moves_one(self, t):
        """Does the entry move one entry of the image, beyond roundings?"""
        x = answers(self.whole.image, self.whole.held(self.events(t))).reshape(len(t), -1)
        x = x[np.isfinite(x).all(-1)]
        moved = np.flatnonzero(np.ptp(x, 0) > 2 * ALLOWED * self.whole.unit * np.abs(x).max(0)) if len(x) > QUARTERS else ()
        self.moved = moved[0] if len(moved) == 1 else None
        return self.moved is not None and x.shape[1] == self.start.size and np.isfinite(self.level)

    @cached_property
    def box(self):
        whole = self.whole
        return BlackBox(self.values, event=(), dtype=whole.dtype, backend="numpy", parameters=whole.parameters,
                        trainable=whole.trainable, domain=whole.domain, flush_to_zero=whole.flush_to_zero,
                        accumulation=whole.accumulation)

    def values(self, t, *passed):
        whole = replace(self.whole, parameters=passed[0]) if passed else self.whole
        x, log_det = whole.values(self.events(t))
        return x.reshape(len(t), -1)[:, self.moved].astype(self.dtype), (log_det - self.level).astype(self.dtype)

    @cached_property
    def dtype(self):
        return np.dtype(self.whole.precision)


# -- maps of several numbers ------------------------------------------------------------------------------------------

def suspect_points(box, p):
    """Points, each followed by its neighbours, at which differences at one step are furthest from the log-det; None if there are none."""
    z = dense_points(box, p)
    l = answers(box.log_slope, z)
    if np.shape(l) != (len(z),):
        return None
    apart = np.abs(log_det_at_one_step(box, p, z) - l)                                                      # (3)
    apart = np.where(np.isfinite(apart), apart, 0)
    first = np.argsort(-apart, kind="stable")[:COMPARED]
    first = first[apart[first] > SCREEN[box.precision]]
    if not len(first):
        return None
    rng = np.random.default_rng(p.seed)
    moves = ASIDE * rng.uniform(-1, 1, (len(first), 1 + BESIDE, *box.event))
    moves[:, 0] = 0
    at = z[first][:, None]
    q = BoxPoints(box, p.seed, box.held(at + moves * np.minimum(np.maximum(np.abs(at), 1), p.room_at(at))))
    q.least = 0
    return q


def with_neighbours(wrong):
    """Marks of the points that are wrong with all their neighbours, where each is followed by them."""
    found = np.zeros(len(wrong), bool)
    found[::1 + BESIDE] = wrong.reshape(-1, 1 + BESIDE).all(-1)
    return found


def dense_points(box, p):
    """Points at which every entry takes each of as many numbers once."""
    D = p.size
    numbers = p.numbers_of_all_sizes(max(min(DENSE, ENTRIES // (2 * D * D)), 1), FARTHEST)
    return box.held(np.stack([p.rng.permutation(numbers) for _ in range(D)], -1).reshape(-1, *box.event))


def log_det_at_one_step(box, p, z):
    """log|det| of central differences."""
    D, flat = p.size, z.reshape(len(z), -1)
    reach = np.minimum(np.maximum(np.abs(flat), 1), p.room_at(z).reshape(flat.shape))
    move = np.eye(D)[:, None] * STEP[box.precision] * reach
    plus, minus = (box.held(flat + side * move) for side in (1, -1))
    values = answers(box.image, np.concatenate((plus, minus)).reshape(-1, *box.event)).reshape(2, D, len(z), -1)
    width = (plus - minus)[np.arange(D), :, np.arange(D)]
    slopes = np.moveaxis((values[0] - values[1]) / width[..., None], 0, -1)
    known = np.isfinite(slopes).all((-2, -1))
    return np.where(known, np.linalg.slogdet(np.where(known[:, None, None], slopes, np.eye(D)))[1], np.nan)
