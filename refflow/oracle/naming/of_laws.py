"""In what way a black box breaks a law: known mistakes.

A mistake is a function that makes a wrong answer of what the law expects.  It is named only if it gives the box's answer, within
the bounds of the law and its own error, at every point where the law is broken, and at points where it holds.  Where none does,
nothing is said.  A name is a hint for the reader.  It never decides whether a law is broken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..asking.arrays import as_numpy
from .diagnosis import INVERSE_SCALES, LOG_SCALES, constants, counts_of, rounded_numbers

MOST = 16                               # points at which the law holds that are looked at
MOVE = 0.125                            # of an array of parameters, to see how the log-det moves with it
FITTED = 4                              # points, at least, that a number explains that was read from one of them
ENTRIES = 64                            # of an event, at most, of which it is asked which image reads which
ALLOWED, MOVED = 16, 2.0**6             # units of error; roundings by which an event is moved to see how its answer moves
CONSTANTS = {"1/2 log(2 pi)": np.log(2 * np.pi) / 2, "log(2 pi)": np.log(2 * np.pi), "log 2": np.log(2),
             "1/2 log 2": np.log(2) / 2, "log pi": np.log(np.pi), "1/2 log pi": np.log(np.pi) / 2}


@dataclass(frozen=True)
class Mistake:
    """What is said of it, and a function of a `Clue`: the answer with the mistake and its own error, both (points, entries)."""

    text: str
    answer: Callable


class Clue:
    """What was compared, (points, entries) given and expected: at all points that are wrong, and at some that are right."""

    def __init__(self, box, compared):
        wrong = compared.wrong.any(-1)
        chosen = np.concatenate((np.flatnonzero(wrong), some(np.flatnonzero(compared.usable & ~wrong))))
        self.box, self.z, self.size = box, compared.z[chosen], int(np.prod(box.event))
        self.given, self.expected, self.bound, self.wrong = (
            np.broadcast_to(part, compared.wrong.shape)[chosen] for part in
            (compared.given, compared.expected, compared.bound, compared.wrong))

    @classmethod
    def at(cls, box, z):
        """Events where nothing was compared."""
        clue = cls.__new__(cls)
        clue.box, clue.z, clue.size = box, z, int(np.prod(box.event))
        return clue

    def images(self, z=None):
        return self.box.held(self.box.image(self.z if z is None else z))

    @cached_property
    def own_jacobian(self):
        return self.jacobian(self.z)

    def jacobian(self, z):
        """(J, its error), (points, D, D), from central differences at three steps."""
        flat = z.reshape(len(z), -1)
        step = 4 * np.cbrt(self.box.unit) * np.maximum(np.abs(flat), 1)
        first, second, third = (self.differences(flat, step / k) for k in (1, 2, 4))
        found, before = (4 * third - second) / 3, (4 * second - first) / 3
        images = np.abs(self.images(z)).reshape(len(z), -1)
        rounding = ALLOWED * self.box.unit * (images[:, :, None] + np.abs(found) * np.abs(flat)[:, None, :]) / step[:, None, :]
        return found, np.abs(found - before) + rounding

    def differences(self, flat, step):
        move = np.eye(self.size) * step[:, None, :]
        both = [self.box.held((flat[:, None, :] + side * move).reshape(-1, *self.box.event)) for side in (1, -1)]
        images = [self.box.image(one).reshape(len(flat), self.size, -1) for one in both]
        width = np.diagonal((both[0] - both[1]).reshape(move.shape), axis1=1, axis2=2)
        return np.swapaxes((images[0] - images[1]) / width[..., None], 1, 2)

    def log_det_of_differences(self, z):
        """(log|det J|, its error), (points, 1)."""
        J, error = self.jacobian(z)
        return np.linalg.slogdet(J)[1][:, None], (np.abs(np.linalg.inv(J).mT) * error).sum((1, 2))[:, None]

    def log_slope_at(self, z):
        """(the log-det of forward, its error by rounding), (points, 1)."""
        here, *moved = (self.box.log_slope(self.box.held(z * (1 + side * MOVED * self.box.unit))) for side in (0, 1, -1))
        error = ALLOWED * (np.abs(moved[0] - moved[1]) / MOVED + self.box.unit * (np.abs(here) + self.size))
        return here[:, None], error[:, None]


def some(indices):
    """At most `MOST` of the indices, evenly spread: points lie in the order of their sizes."""
    return indices[np.unique(np.linspace(0, len(indices) - 1, min(len(indices), MOST)).astype(int))]


# -- the comparison ---------------------------------------------------------------------------------------------------

@np.errstate(all="ignore")
def named(law, box, found) -> str:
    """The mistake behind a failure in a few words, "" if it is none of the known ones."""
    compared = getattr(found, "compared", None)
    if compared is None:
        return ""
    clue = Clue(box, compared)
    return next((mistake.text for rule in RULES.get(law, ANY) for mistake in proposed(rule, clue) if gives(mistake, clue)),
                symptom(clue))


def proposed(rule, clue):
    """The mistakes that a rule has in mind; none where the box refuses what the rule asks."""
    with contextlib.suppress(Exception):
        yield from rule(clue)


def gives(mistake, clue):
    """Is the answer with the mistake the box's answer at every point, and clearly not the expected one at some?"""
    try:
        answer, error = mistake.answer(clue)
    except Exception:
        return False
    answer, error = (np.broadcast_to(part, clue.given.shape) for part in (answer, error))
    room = clue.bound + error
    return bool((np.abs(clue.given - answer) <= room).all() and (np.abs(clue.expected - answer) > 4 * room).any())


def symptom(clue):
    """What is plain from an answer that is not a number."""
    held = clue.given[clue.wrong]
    return "NaN" if np.isnan(held).any() else "infinite" if np.isinf(held).any() else ""


# -- any number -------------------------------------------------------------------------------------------------------

def scaled(factor):
    return lambda clue: (factor * clue.expected, abs(factor) * clue.bound)


def negated(clue):
    yield Mistake("negated", scaled(-1.0))


def wrong_factor(clue):
    yield Mistake("doubled", scaled(2.0))
    yield Mistake("halved", scaled(0.5))


def constant(clue):
    """A constant that is left out, or counted twice: of the event, or of each entry."""
    for name, value in CONSTANTS.items():
        for times in dict.fromkeys((1, clue.size)):
            for sign, word in ((1, "more"), (-1, "less")):
                text = f"{times} times {name}" if times > 1 else name
                yield Mistake(f"a constant term: {text} {word}",
                              lambda clue, by=sign * times * value: (clue.expected + by, clue.bound))


def log_of_an_integer(clue):
    """A simple number times the logarithm of an integer, as of a scale that is forgotten."""
    for name, value in constants(clue.size).items():
        for sign, word in ((1, "more"), (-1, "less")):
            yield Mistake(f"a constant term: {name} {word}", lambda clue, by=sign * value: (clue.expected + by, clue.bound))


def same_everywhere(clue):
    """Any other constant; of an image, it may be a term that is counted at one position in place of all."""
    off = constant_of(clue)
    if off is None or np.ptp(clue.expected) <= clue.bound.max():        # of one number, everything is a multiple
        return
    by, own = off
    letters, n = counts_of(clue.box.event).get("positions", ("", 1))
    term = (f", consistent with a log-det that is summed over channels and not multiplied by {letters} = {n}, of "
            f"{-by / (n - 1):.6g} at each position") if n > 1 else ""
    yield Mistake(f"a constant term: {by:+.6g} everywhere{term}", lambda clue: (clue.expected + by, clue.bound + own))


def constant_of(clue):
    """(given - expected where that is known best, its bound) of one number at each point; None of few points."""
    at = int(np.argmin(clue.bound[:, 0]))
    if clue.given.shape[1] != 1 or len(clue.given) < FITTED:
        return None
    return float((clue.given - clue.expected)[at, 0]), clue.bound[at]


def rounded(clue):
    """A number of the code was rounded to float32: a factor or a divisor, or a term that is added or subtracted."""
    for name, relative, absolute in rounded_numbers() if clue.box.precision == "float64" else ():
        for side in (1, -1):
            yield Mistake(f"a factor rounded to float32: {name}", lambda clue, by=side * relative: (
                np.where(clue.wrong, clue.expected * (1 + by), clue.expected), clue.bound))
            for times in dict.fromkeys((1, clue.size)):
                yield Mistake(f"a number rounded to float32: the term {name}", lambda clue, by=side * times * absolute: (
                    np.where(clue.wrong, clue.expected + by, clue.expected), clue.bound))


# -- log-dets ---------------------------------------------------------------------------------------------------------

def other_direction(clue):
    yield Mistake("negated: the log-det of the other direction", scaled(-1.0))


def wrong_count(clue):
    """A log-det without the number of positions or of channels, or with a count too many."""
    for what, (letters, n) in counts_of(clue.box.event).items():
        if what != "entries":
            yield Mistake(f"the number of {what} is missing: {letters} = {n} times this is right", scaled(1 / n))
        yield Mistake(f"the number of {what} is counted once too often: this is {letters} = {n} times the right one", scaled(float(n)))


def part_at_one_position(clue):
    """A part of the log-det is counted once, not at each position: what moves with the event, or a term that does not.

    The latter is known from parameters that move it, or from events of another shape, where the map takes them.
    """
    letters, n = counts_of(clue.box.event).get("positions", ("", 1))
    off = constant_of(clue)
    if n == 1 or off is None:
        return
    at = int(np.argmin(clue.bound[:, 0]))
    here, right = clue.given[at], clue.expected[at]
    missing = "the number of positions is missing in"
    if (np.abs(clue.given - clue.expected - off[0]) > 4 * (clue.bound + off[1])).any():
        yield Mistake(f"{missing} the part of the log-det that moves with the event: {letters} = {n} times its changes are right",
                      lambda clue: (here + (clue.expected - right) / n, 2 * clue.bound + off[1]))
        return

    def with_term(clue):
        return clue.expected + off[0], clue.bound + off[1]

    moving = " and ".join(f"parameter {k}, of shape {shape}" for k, shape in parameters_at_one_position(clue, n))
    if moving:
        yield Mistake(f"{missing} the term of {moving}: it is counted once, not {letters} = {n} times", with_term)
    for event in other_events(clue.box.event):
        found, error = off_at_event(clue, event)
        if abs(found * (n - 1) - off[0] * (int(np.prod(event[1:])) - 1)) <= n * (error + off[1][0]):
            term = f"a constant term of the log-det: {-off[0] / (n - 1):.6g}"
            yield Mistake(f"{missing} {term} is counted once, not {letters} = {n} times; "
                          f"in events of shape {event} it is counted once, too", with_term)


def parameters_at_one_position(clue, n):
    """(number, shape) of the arrays of parameters of a term t that is counted once, not n times.

    The log-det is off by -(n - 1) t.  If t is a sum of logarithms of m numbers that are proportional to the array, as log|det W|,
    it grows by m log c where the array is multiplied by c; if t is a sum of m entries, as of log-scales, by m c where c is added.
    """
    values = [as_numpy(array).copy() for array in clue.box.trained()]
    before, rounding = off_at(clue, clue.z[:1])
    moves = (lambda value: value * (1 + MOVE), np.log1p(MOVE)), (lambda value: value + MOVE, MOVE)
    for k, value in enumerate(values):
        for move, by in moves:
            with clue.box.moved([*values[:k], move(value), *values[k + 1:]]):
                after, error = off_at(clue, clue.z[:1])
            times = (before - after) / (by * (n - 1))
            m = round(times) if np.isfinite(times) else 0
            if 1 <= m <= clue.box.event[0] and abs(times - m) * by * (n - 1) <= rounding + error:
                yield k, value.shape
                break


def off_at(clue, z):
    """(log-det - log|det| of differences, its error) at one event."""
    right, error = clue.log_det_of_differences(z)
    return float(clue.box.log_slope(z)[0] - right[0, 0]), float(error[0, 0])


def other_events(event):
    """Smaller shapes of events with as many channels and another number of positions, all above 1."""
    halves = [(event[0], *event[1:axis], event[axis] // 2, *event[axis + 1:]) for axis in range(1, len(event))]
    return [shape for shape, size in zip(halves, event[1:]) if size % 2 == 0 and int(np.prod(shape[1:])) > 1]


def off_at_event(clue, event):
    """The same at the simplest event of another shape; an exception where the map refuses it."""
    box = replace(clue.box, event=event)
    z = box.held(box.plain(1))
    return off_at(Clue.at(box, z), z)


def one_entry(clue):
    """The mean, or one term, of a sum over the event."""
    if clue.size < 2:
        return
    yield Mistake("not summed over the event: the mean over its entries", scaled(1 / clue.size))
    for i in range(clue.size):
        yield Mistake("not summed over the event: the term of one entry", lambda clue, i=i: log_diagonal(clue, i))


def log_diagonal(clue, i):
    J, error = (part[:, i, i, None] for part in clue.own_jacobian)
    return np.log(np.abs(J)), error / np.abs(J)


def without_some(clue):
    """The sum over a triangular Jacobian's diagonal without the entries of one place along an axis, such as the last token."""
    for axis, count in enumerate(clue.box.event if len(clue.box.event) > 1 else ()):
        for place in range(count):
            at = ", ".join(str(place) if k == axis else ":" for k in range(len(clue.box.event)))
            yield Mistake(f"the terms of the entries [{at}] are left out", lambda clue, axis=axis, place=place: without(clue, axis, place))


def without(clue, axis, place):
    J, error = (np.diagonal(part, axis1=1, axis2=2).reshape(-1, *clue.box.event).take(place, 1 + axis).reshape(len(clue.z), -1)
                for part in clue.own_jacobian)
    left_out = np.log(np.abs(J)).sum(-1, keepdims=True)
    return clue.expected - left_out, clue.bound + (error / np.abs(J)).sum(-1, keepdims=True)


def in_bits(clue):
    yield Mistake("log2|det|, which is right when it is multiplied by log 2", scaled(1 / np.log(2)))


def other_scale(clue):
    """A coupling or an elementwise map: the scale has one form in the image, and another one in the log-det."""
    J, error = (np.diagonal(part, axis1=1, axis2=2) for part in clue.own_jacobian)
    moves = (np.abs(J - 1) > error).any(0)
    J, error = J[:, moves], error[:, moves]
    for scale, inverse in INVERSE_SCALES.items():
        for other, log_scale in LOG_SCALES.items():
            if scale != other and J.size:
                yield Mistake(f"the log-det of a scale {other}, where the map has {scale}",
                              lambda clue, inverse=inverse, log_scale=log_scale: of_scale(J, error, inverse, log_scale))


def of_scale(scales, error, inverse, log_scale):
    here, above, below = (log_scale(inverse(scales + side * error)) for side in (0, 1, -1))
    return here.sum(-1, keepdims=True), np.abs(above - below).sum(-1, keepdims=True)


def at_the_image(clue):
    yield Mistake("taken at the image instead of at the latent", lambda clue: clue.log_det_of_differences(clue.images()))


def of_the_inverse(rule):
    """A rule that takes the log-det of forward for the right one, if it is the determinant of differences."""
    def checked(clue):
        right, error = clue.log_det_of_differences(clue.z)
        if (np.abs(right - clue.expected) <= error + clue.bound).all():
            yield from rule(clue)

    return checked


def with_the_image(clue):
    """The forward log-det as a function of x."""
    yield Mistake("taken at the image instead of at the latent", lambda clue: clue.log_slope_at(clue.images()))


def other_entries(clue):
    """The inverse's log-det moves, wherever it is wrong, with an entry with which the log-det of forward never does."""
    wrong = clue.z[clue.wrong.any(-1)]

    def moves(function, every):
        """Marks of the entries with which a value moves, at every point or at some."""
        here = function(wrong)
        marks = [function(clue.box.held(wrong + step.reshape(clue.box.event))) != here for step in np.eye(clue.size) * 0.25]
        return np.array([(one.all() if every else one.any()) for one in marks])

    wrongly = moves(lambda z: clue.box.answer_back(clue.images(z))[1], True) & ~moves(clue.box.log_slope, False)
    if wrongly.any() and clue.size > 1:
        at = tuple(int(k) for k in np.unravel_index(int(np.argmax(wrongly)), clue.box.event))
        yield Mistake(f"taken at the wrong point: it moves with entry {at} of the latent, on which the log-det of forward does not "
                      "depend", lambda clue: (clue.given, 0))


# -- round trips ------------------------------------------------------------------------------------------------------

def sign_lost(clue):
    """The size without the sign, in the entries that are wrong somewhere."""
    signs = np.unique(np.sign(clue.given[clue.wrong]))
    if len(signs) == 1:
        yield Mistake("the sign is lost", lambda clue: (
            np.where(clue.wrong.any(0), signs[0] * np.abs(clue.expected), clue.expected), 0))


def read_by_forward_alone(clue):
    """An entry of the image reads an entry of the latent that the inverse, which would have to undo it, does not know there.

    The inverse of a matrix is 0 wherever no product of its entries leads.  So forward may read no more than the inverse does, directly
    or by way of other entries, as an inverse does that finds one token after the other.
    """
    if clue.size > ENTRIES:
        return
    wrong = clue.z[clue.wrong.any(-1)][:MOST]
    forward, back = reads(clue, clue.images, wrong), reads(clue, clue.box.origin, clue.images(wrong))
    for _ in range(clue.size.bit_length()):
        back = back | back @ back
    found = np.argwhere(forward & ~back & ~np.eye(clue.size, dtype=bool)) if forward.shape == back.shape else ()
    if len(found):
        farthest = found[np.argmax(np.abs(found[:, 0] - found[:, 1]))]
        i, j = (tuple(int(k) for k in np.unravel_index(place, clue.box.event)) for place in farthest)
        yield Mistake(f"entry {i} of the image reads entry {j} of the latent, which the inverse does not undo",
                      lambda clue: (clue.given, 0))


def reads(clue, function, at):
    """(D, D): does entry i of an image move with entry j of an event, at some of the events?"""
    here = function(at).reshape(len(at), -1)
    moved = [function(clue.box.held(at + step.reshape(clue.box.event))).reshape(len(at), -1) for step in np.eye(clue.size) * 0.25]
    return np.stack([(one != here).any(0) for one in moved], -1)


ANY = (constant, rounded)
LOG_DET = (other_direction, wrong_factor, wrong_count, one_entry, without_some, in_bits, other_scale, at_the_image,
           part_at_one_position, constant, log_of_an_integer, rounded, same_everywhere)
INVERSE_LOG_DET = tuple(map(of_the_inverse, (other_direction, wrong_factor, with_the_image, other_entries, constant)))
ROUND_TRIP = (sign_lost, rounded, read_by_forward_alone)
GRADIENT = (negated, wrong_factor)
RULES = {"log-det is the determinant of differences": LOG_DET, "log-det is the determinant of the gradient": LOG_DET,
         "inverse log-det is minus log-det": INVERSE_LOG_DET, "inverse of forward": ROUND_TRIP, "forward of inverse": ROUND_TRIP,
         "pullback is the gradient": GRADIENT}
