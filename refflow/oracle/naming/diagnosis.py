"""In what way an answer is wrong: known mistakes.

A mistake is a function that makes a wrong answer of the truth.  It is named only if it gives their answer, within the units that
are allowed, at every failing point at hand: the one that is shown, others of the same symptom, and points around the shown one.
Where none does, nothing is said.  A name is a hint for the reader.  It never decides whether something fails.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...accuracy.drawing import SIDES, set_of
from ...accuracy.formats import FORMATS
from ...accuracy.quantities import truth_name
from ...core import Chain
from ...core.declarations import Field
from ..points.measures import WORDS, counted, ratio, ratio_in_words
from ..points.page_points import LOG_DET, VALUE, VJP, run_time_truth
from .layers import in_order, page_of, step

LOG_DETS = tuple(LOG_DET.values())
VALUES = tuple(VALUE.values())
NAMES = {"log_det": "log|det dx/dz|", "inverse_log_det": "log|det dz/dx|"}
OTHER = {"log_det": "inverse_log_det", "inverse_log_det": "log_det"}
OTHER_SIDE = {"forward": "inverse", "inverse": "forward"}
SHAPED = {"negated": -1.0, "doubled": 2.0, "halved": 0.5}                       # of values of another shape
UNITS = 16                              # within which the sum of what is not summed is right
AROUND = (-1.0, 0.5, 2.0, 0.75, 1.5, 4.0, 0.0625)      # factors of the shown event: points that are asked besides
# Units of an error that is one of lost digits: at 16 roundings, the terms are 2^6 times as large as what is left of them.  A name needs
# the error to be a rounding of terms at every failing point; with any number from 1 to 2^14 here, tests/test_diagnosis.py says the same.
MANY = 2.0**10
STAGES, FEW_STAGES = 3, 12              # stages, at most, that make one mistake together; of a chain of so many
MULTIPLES = (1, 2, 3, 4, 6, 8, 12, 16, 1 / 2, 3 / 2)                            # of the logarithm of an integer
INTEGERS = (2, 3, 5, 6, 7, 10, 255, 256)
OTHERS = 2                              # points besides the shown one at which a number that was fitted to it must hold
NUMBERS = {                             # that stand in code, where float32 may have rounded them
    **{f"{k / 10:g}": k / 10 for k in range(1, 10) if k != 5}, **{f"{10.0**-k:g}": 10.0**-k for k in range(2, 7)},
    "1/3": 1 / 3, "2/3": 2 / 3, "1/6": 1 / 6, "log 2": np.log(2), "log 3": np.log(3), "log 10": np.log(10), "pi": np.pi,
    "2 pi": 2 * np.pi, "1/pi": 1 / np.pi, "log pi": np.log(np.pi), "log(2 pi)": np.log(2 * np.pi),
    "1/2 log(2 pi)": np.log(2 * np.pi) / 2, "1/2 log pi": np.log(np.pi) / 2, "1/2 log 2": np.log(2) / 2, "root 2": np.sqrt(2),
    "1/root 2": 1 / np.sqrt(2), "root(2 pi)": np.sqrt(2 * np.pi), "1/root(2 pi)": 1 / np.sqrt(2 * np.pi),
    "root(2/pi)": np.sqrt(2 / np.pi), "e": np.e}


def rounded_numbers():
    """(name, relative error, absolute error) of numbers that were rounded to float32."""
    for name, number in NUMBERS.items():
        error = float(np.float32(number)) - float(number)
        yield name, error / number, error


@dataclass(frozen=True)
class Mistake:
    """What is said of it, and the answer with the mistake at a `Clue`: a Truth, None where the mistake gives none.

    `everywhere`: it changes right answers too, and these are held to it; `fitted`: a number in it comes from the shown answer;
    `coarse`: it is one of lost digits, whose own unit is larger than the error.
    """

    text: str
    answer: Callable
    everywhere: bool = True
    fitted: bool = False
    coarse: bool = False


def shape_diagnosis(point, name, given, truth):
    """A wrong shape in words; `not summed over the event` if that is the reason; and what is wrong with the values besides."""
    text = f"wrong shape: {given.shape}, expected {truth.high.shape}"
    event_shape = np.shape(point.event)
    if name in LOG_DETS and given.shape == event_shape and given.size:
        axes = tuple(range(len(truth.high.shape), given.ndim))
        total = given.astype(np.float64).sum(axis=axes) if axes else given
        return "not summed over the event: " + text + values_in_words(point, total, truth, "its sum is") * bool(axes)
    if sorted(given.shape) == sorted(truth.high.shape) and given.ndim > 1:
        return "transposed: " + text
    try:
        fits = np.broadcast_shapes(given.shape, truth.high.shape) == truth.high.shape
    except ValueError:
        fits = False
    values = given.reshape(truth.high.shape) if given.size == truth.high.size else given if fits else None
    return text + ("; not broadcast over the batch" if fits else "") + (
        "" if values is None else values_in_words(point, values, truth, "its values are"))


@np.errstate(all="ignore")
def values_in_words(point, given, truth, what):
    """What is said of values that have another shape, once they are brought to the right one; "" where no number has a unit."""
    def is_right(factor):
        scaled = replace(truth, high=factor * truth.high, low=factor * truth.low, unit=abs(factor) * truth.unit)
        return bool(np.all(scaled.error(given, point.format) <= UNITS))

    if not given.size or not truth.known().all():
        return ""
    if is_right(1.0):
        return f"; {what} right"
    wrong = next((word for word, factor in SHAPED.items() if is_right(factor)), "")
    return f"; {what} wrong, too" + (f": {wrong}" if wrong else "")


@dataclass
class Clue:
    """One answer with the truth there, as flat float64 arrays; `answer` is the checked code at a point, None if it is not asked."""

    failure: object
    answer: object

    def __post_init__(self):
        self.point, self.name = self.failure.point, self.failure.quantity
        self.quantity, self.dtype, self.side = truth_name(self.name), self.point.dtype, self.point.side
        self.form, self.allowed = self.point.format, self.failure.allowed
        self.given, self.truth = self.failure.truth.compared(np.asarray(self.failure.given, np.float64))
        self.true = self.truth.high
        self.off = np.abs(self.given - self.true)
        C = self.truth.error(self.given, self.form)
        self.wrong = np.broadcast_to(C > self.allowed, self.true.shape) if self.true.size else np.zeros(0, bool)

    def told(self, high, low=0.0, unit=None):
        """A Truth in place of the truth, in the same units if no others are given."""
        high = np.broadcast_to(np.asarray(high, np.float64), self.true.shape)
        unit = self.truth.unit if unit is None else np.broadcast_to(unit, self.true.shape)
        return replace(self.truth, high=high, low=np.broadcast_to(low, high.shape), unit=unit)

    def scaled(self, factor):
        return self.told(factor * self.true, factor * self.truth.low, abs(factor) * self.truth.unit)

    def truth_at(self, quantity=None, **changes):
        """The truth of this quantity, or of another one, at a changed question; None if no more can be asked."""
        if self.answer is None:
            return None
        found = run_time_truth(self.point.changed(**changes), derivatives=True).get(quantity or self.quantity)
        if found is None:
            return None
        found = found.compared(np.zeros(found.high.shape))[1]
        return found if found.high.shape == self.true.shape else None

    @functools.cached_property
    def terms_of_stages(self):
        """[(number of a stage, its log-det, the letters of its positions, how many there are)] of a chain."""
        event, terms = np.asarray(self.point.event, np.float64), []
        for k, stage in in_order(self.point.f.unchecked(np.float64), self.side):
            letters, n = counts_of(event.shape).get("positions", ("", 1))
            event, term = step(stage, event, self.side)
            terms.append((k, term, letters, n))
        return terms

    def ask(self, event):
        """The clue of the same quantity at another event; None if there is none."""
        if self.answer is None:
            return None
        try:
            point = self.point.changed(event=event)
            truth = run_time_truth(point, derivatives=True).get(self.quantity)
            given = self.answer(point).found.get(self.name)
        except (ValueError, IndexError):
            return None
        if truth is None or not isinstance(given, np.ndarray) or given.shape != truth.high.shape:
            return None
        return Clue(replace(self.failure, point=point, given=given, truth=truth), self.answer)

    def around(self):
        """Clues at events around this one, further towards the end of its set, and on the other side of 0."""
        events = [self.point.event * self.dtype.type(factor) for factor in AROUND]
        where = set_of(self.point.f, self.side)
        for factor in (2.0, 4.0) if not where.rank else ():
            events.append(further(where, np.asarray(self.point.event, np.float64), factor).astype(self.dtype))
        asked = (self.ask(event) for event in events if not np.array_equal(event, self.point.event))
        return [clue for clue in asked if clue is not None and np.isfinite(clue.given).all() and clue.truth.known().all()
                and clue.truth.representable(self.form).all()]


def further(where, event, step):
    """Events nearer to the end of a scalar set near which they lie, or further out."""
    if np.isfinite(where.lower) and np.isfinite(where.upper):
        middle = (where.lower + where.upper) / 2
        return np.where(event < middle, where.lower + (event - where.lower) / step, where.upper - (where.upper - event) / step)
    if np.isfinite(where.lower):
        distance = event - where.lower
        return where.lower + np.where(distance < 1, distance / step, distance * step)
    return event * step


# -- the comparison ---------------------------------------------------------------------------------------------------

@np.errstate(all="ignore")
def diagnose(shown, others, answer) -> str:
    """What is said of the failure that is shown, and of the others of its symptom; "" where no mistake gives all of them."""
    clue = Clue(shown, answer)
    hand = [Clue(one, answer) for one in others if one is not shown and one.truth is not None and not one.message]
    hand, around = [clue, *hand], None
    for rule in RULES if np.isfinite(clue.given).all() else (flushed,):      # one infinity is like another
        for mistake in proposed(rule, clue):
            if not all(gives(mistake, one) for one in hand):
                continue
            around = clue.around() if around is None else around
            besides = [one for one in around if mistake.everywhere or one.wrong.any()]
            if all(gives(mistake, one) for one in besides) and known_from_enough(mistake, [*hand, *besides]):
                return mistake.text
    return symptom(clue)


def symptom(clue):
    """What is plain from an answer that is not a number, or 0; "" for another number."""
    if np.isnan(clue.given).any():
        return "NaN where the truth is finite"
    if np.isinf(clue.given[clue.wrong]).any():
        return "infinite where the truth is finite"
    zero = (clue.given == 0) & (clue.true != 0) & clue.wrong
    return f"0, where the truth is about {float(np.max(np.abs(clue.true[zero]))):.0e}" if zero.any() else ""


def proposed(rule, clue):
    """The mistakes that a rule has in mind; none where it asks for what the map refuses, such as an event outside its domain."""
    try:
        return list(rule(clue))
    except ValueError:
        return []


def gives(mistake, clue):
    """Is the answer at a clue the one with the mistake, within its units, and is that one wrong where theirs is?"""
    try:
        answer = mistake.answer(clue)
    except (ValueError, IndexError):
        return False
    if answer is None:
        return False
    C = answer.error(clue.given, clue.form)
    same = np.broadcast_to(clue.given == answer.high, clue.true.shape)
    same = same.all() if C.shape != same.shape else same
    if not (same | (C <= clue.allowed)).all():
        return False
    return mistake.coarse or not clue.wrong.any() or bool(np.any(clue.truth.error(answer.high, clue.form) > clue.allowed))


def known_from_enough(mistake, clues):
    """A number that was fitted to one answer explains it; it means something if it explains others, with other truths, too."""
    if not mistake.fitted:
        return True
    different = {tuple(np.ravel(clue.true)) for clue in clues if clue.wrong.any()}
    return len(different) > OTHERS


# -- mistakes of any quantity -----------------------------------------------------------------------------------------

def flushed(clue):
    """Numbers below the smallest normal one are taken for 0: of the result, or of the input, whose image may be infinite."""
    tiny, event = clue.form.normal, np.asarray(clue.point.event, np.float64)
    zero = (clue.given == 0) & (clue.true != 0) & clue.wrong
    if zero.any():
        size = float(np.max(np.abs(clue.true[zero])))
        yield Mistake(f"subnormals flushed: 0 where the truth is about {size:.0e}", flushed_results)
    if ((event != 0) & (np.abs(event) < tiny)).any():
        yield Mistake("subnormals flushed: the input is taken for 0", flushed_inputs)


def flushed_results(clue):
    return clue.told(np.where(np.abs(clue.true) < clue.form.normal, 0, clue.true))


def flushed_inputs(clue):
    """The truth at an event without subnormal entries; what is infinite at such entries is as at 0."""
    event = np.asarray(clue.point.event)
    lost = (event != 0) & (np.abs(event) < clue.form.normal)
    if not lost.any():
        return clue.truth
    if np.isinf(clue.given[clue.wrong]).all():
        return clue.told(np.where(clue.wrong, clue.given, clue.true))
    return clue.truth_at(event=np.where(lost, event.dtype.type(0), event))


def negated(clue):
    other = OTHER.get(clue.quantity)
    yield Mistake(f"negated: the log-det of the other direction, {NAMES[other]}" if other else "negated", lambda of: of.scaled(-1.0))


def wrong_factor(clue):
    yield Mistake("doubled", lambda of: of.scaled(2.0))
    yield Mistake("halved", lambda of: of.scaled(0.5))


def sign_lost(clue):
    if clue.quantity in VALUES:
        yield Mistake("the sign is lost", lambda of: of.told(np.abs(of.true)))


def asymptote(clue):
    """The event itself, although the map only tends to it."""
    def itself(of):
        event = np.asarray(of.point.event, np.float64)
        return of.told(np.where(of.wrong, event, of.true)) if event.shape == of.true.shape else None

    if clue.quantity in VALUES:
        yield Mistake("replaced by its asymptote: the input itself", itself, everywhere=False)


def transposed(clue):
    def jacobian(of):
        high, unit = (np.swapaxes(a, -1, -2) for a in (of.true, of.truth.unit))
        return of.told(high, unit=unit) if high.shape == of.true.shape else None

    if clue.quantity == "jacobian":
        yield Mistake("transposed matrix", jacobian)
    f = clue.point.f
    for key, declared in f.declared.items():
        if isinstance(declared, Field) and not declared.constant and len(declared.shape) == 2 and len(set(declared.shape)) == 1:
            yield Mistake(f"transposed matrix: right for the transpose of {key}", lambda of, key=key: of.truth_at(
                f=of.point.f.replace(**{key: np.swapaxes(getattr(of.point.f, key), -1, -2)})))


# -- of log-dets ------------------------------------------------------------------------------------------------------

def wrong_log_det(clue):
    """The other direction's log-det, taken at the event itself; or the right log-det at the image instead of the event."""
    def other(of):
        return of.truth_at(OTHER[of.quantity], side=OTHER_SIDE[of.side], image_bar=None, log_det_bar=None)

    def at_image(of):
        f = of.point.f
        image = (f.forward if of.side == "forward" else f.inverse)(of.point.event)
        return of.truth_at(event=image, image_bar=None, log_det_bar=None)

    if clue.quantity in OTHER and clue.answer is not None:
        yield Mistake(f"the other direction's log-det: {NAMES[OTHER[clue.quantity]]} at this input", other)
        yield Mistake("log-det at the image instead of at the event", at_image)


def core_of(clue):
    """The shape of one event."""
    shape = np.shape(clue.point.event)
    return shape[len(shape) - clue.point.f.event_ndim[SIDES[clue.side]]:]


def counts_of(shape):
    """{what is counted in an event of this shape: how many}, of the counts that log-dets are multiplied by."""
    positions, entries = int(np.prod(shape[1:])), int(np.prod(shape))
    named = {} if len(shape) < 2 else {"positions": ("H W" if len(shape) == 3 else "T", positions), "channels": ("C", shape[0])}
    named["entries"] = ("D" if len(shape) == 1 else "C H W" if len(shape) == 3 else "C T", entries)
    return {what: (letters, n) for what, (letters, n) in named.items() if n > 1}


def wrong_count(clue):
    """A log-det divided, or multiplied, by the number of positions, of entries, of channels; one term of it; a cotangent with one term
    of the log-det's.
    """
    shape = core_of(clue)
    counts = counts_of(shape)
    if "entries" not in counts:
        return
    if clue.quantity.startswith((VJP["forward"], VJP["inverse"])) and clue.point.log_det_bar is not None:
        yield Mistake("not summed over the event: the cotangent of one term", lambda of: of.truth_at(
            log_det_bar=of.point.log_det_bar / int(np.prod(core_of(of)))))
    if clue.quantity not in LOG_DETS:
        return
    for what, text in (("positions", "the number of positions is missing: {} times this is right"),
                       ("entries", "not summed over the event: the mean over its entries"),
                       ("channels", "the number of channels is missing: {} times this is right")):
        yield from counted_wrongly(counts, what, text, -1)
    for what in counts:
        yield from counted_wrongly(counts, what, f"the number of {what} is counted once too often: this is {{}} times the right one", 1)
    yield from without_positions(clue)
    for i in range(log_terms(clue).size):
        yield Mistake("not summed over the event: the term of one entry", lambda of, i=i: term_of(of, i))


def counted_wrongly(counts, what, text, power):
    if what in counts:
        letters, n = counts[what]
        yield Mistake(text.format(f"{letters} = {n}"),
                      lambda of: of.scaled(float(counts_of(core_of(of)).get(what, ("", 1))[1]) ** power))


def without_positions(clue):
    """A chain's log-det in which one or several stages, or all of some kinds, but not all, count one position alone."""
    if not isinstance(clue.point.f, Chain) or len(core_of(clue)) < 2 or len(core_of(clue)) != clue.point.event.ndim:
        return
    counted = {k: (letters, n) for k, _, letters, n in clue.terms_of_stages if n > 1}
    for chosen, where in some_stages(clue.point.f.stages, counted):
        several = len({counted[k] for k in chosen}) > 1
        letters, n = counted[chosen[0]]
        count = letters if several else f"{letters} = {n}"
        yield Mistake(f"the number of positions is missing in {where}: {count} times its log-det is right",
                      lambda of, chosen=chosen: of.told(of.true - sum(
                          term * (1 - 1 / n) for k, term, _, n in of.terms_of_stages if k in chosen), of.truth.low))


def some_stages(stages, numbers):
    """(numbers of stages, the same in words): one, several, and all of one or two kinds, where other kinds remain."""
    for count in range(1, min(len(numbers), STAGES if len(numbers) <= FEW_STAGES else 1) + 1):
        for chosen in itertools.combinations(numbers, count):
            yield chosen, " and ".join(f"stage {k}, {page_of(stages[k]).__name__}" for k in chosen)
    kinds = list(dict.fromkeys(page_of(stages[k]) for k in numbers))
    for count in (1, 2):
        for pages in itertools.combinations(kinds, count) if len(kinds) > count else ():
            yield (tuple(k for k in numbers if page_of(stages[k]) in pages),
                   " and ".join(f"every {page.__name__}" for page in pages))


def term_of(clue, i):
    terms = log_terms(clue)
    return clue.told(terms[i] if clue.side == "forward" else -terms[i]) if i < terms.size else None


def another_measure(clue):
    """A log-det that counts volumes on a set of lower dimension otherwise: off by the logarithm of the ratio of the measures."""
    f = clue.point.f
    other = "chart" if f.codomain.measure == "intrinsic" else "intrinsic"
    if ratio(f, other) is None or clue.quantity not in LOG_DETS:
        return
    to_own = other == "intrinsic"
    name = ratio_in_words(f.codomain, to_own == (clue.side == "forward"))
    yield Mistake(f"another volume convention: off by {name} = {np.ravel(log_ratio(clue, other))[0]:.6g}, {WORDS[to_own]}; "
                  f"declare measure={other!r}", lambda of: by_measure(of, other))


def constants(entries):
    """{name: value} of simple numbers times the logarithm of an integer, and of one for each entry of an event."""
    times = dict.fromkeys((*MULTIPLES, entries, entries / 2))
    return {f"{'' if k == 1 else f'{k:g} '}log {n}": k * np.log(n) for k in times for n in INTEGERS}


def off_by_a_constant(clue):
    """The same number more or less everywhere, such as the log-det of a scale that is forgotten."""
    if clue.quantity not in LOG_DETS or clue.given.size != 1:
        return
    by = float(np.ravel(clue.given - clue.true)[0])
    for name, value in constants(int(np.prod(core_of(clue)))).items():
        yield Mistake(f"a constant term: {name} {'more' if by > 0 else 'less'} than the truth",
                      lambda of, value=np.copysign(value, by): of.told(of.true + value, of.truth.low))
    yield Mistake(f"a constant term: {by:+.6g} everywhere", lambda of: of.told(
        of.true + by, of.truth.low, of.truth.unit + np.max(clue.truth.unit)), fitted=True)


def log_ratio(clue, measure):
    f, x = clue.point.f, np.asarray(clue.point.event, np.float64)
    sign, x = (1, f.unchecked(np.float64).forward(x)) if clue.side == "forward" else (-1, x)
    return sign * ratio(f, measure).unchecked(np.float64).log_det(x)      # in float64, a float32 member may be outside


def by_measure(clue, measure):
    unit = run_time_truth(clue.point.changed(f=counted(clue.point.f, measure)))[clue.quantity].unit
    return clue.told(clue.true + log_ratio(clue, measure), clue.truth.low, unit)


def in_bits(clue):
    if clue.quantity in LOG_DETS:
        yield Mistake("another volume convention: log2|det|, which is right when it is multiplied by log 2",
                      lambda of: of.scaled(1 / np.log(2)))


def other_scale(clue):
    """The log-det of scales of another form."""
    if clue.answer is None or clue.quantity not in LOG_DETS or len(core_of(clue)) != clue.point.event.ndim:
        return
    for scale, inverse in INVERSE_SCALES.items():
        for other, log_scale in LOG_SCALES.items():
            if scale != other:
                yield Mistake(f"another volume convention: the log-det of a scale {other}, where the map has {scale}",
                              lambda of, inverse=inverse, log_scale=log_scale: of_scale(of, inverse, log_scale))


def of_scale(clue, inverse, log_scale):
    J, sign = jacobian_at_latent(clue), 1 if clue.side == "forward" else -1
    if J.shape[0] != J.shape[1]:
        return None
    scales = np.diagonal(J)[np.any(J != np.eye(*J.shape), -1)]
    moved = [log_scale(inverse(scales * (1 + step))) for step in (0, 2.0**-30, -2.0**-30)]
    unit = clue.form.unit * (np.abs(moved[0]) + 2.0**29 * np.abs(moved[1] - moved[2])).sum()
    return clue.told(sign * moved[0].sum(), unit=np.maximum(clue.truth.unit, unit)) if scales.size else None


def log_sigmoid(s):
    return -np.logaddexp(0, -s)


INVERSE_SCALES = {"exp(s)": np.log, "sigmoid(s)": lambda a: np.log(a) - np.log1p(-a),
                  "sigmoid(s + 2)": lambda a: np.log(a) - np.log1p(-a) - 2, "softplus(s)": lambda a: np.log(np.expm1(a))}
LOG_SCALES = {"exp(s)": lambda s: s, "sigmoid(s)": log_sigmoid, "sigmoid(s + 2)": lambda s: log_sigmoid(s + 2),
              "softplus(s)": lambda s: np.log(np.logaddexp(0, s))}


def jacobian_at_latent(clue):
    z = clue.point.event if clue.side == "forward" else clue.point.f.inverse(clue.point.event)
    return clue.point.f.astype(np.float64).jacobian(z.astype(np.float64))


def log_terms(clue):
    """log|J_ii| in the forward direction, of a map that acts on each entry separately; none for others."""
    if clue.answer is None or len(core_of(clue)) != clue.point.event.ndim:
        return np.zeros(0)
    J = jacobian_at_latent(clue)
    if J.shape[0] != J.shape[1] or np.any(J != np.diag(np.diagonal(J))):
        return np.zeros(0)
    return np.log(np.abs(np.diagonal(J)))


# -- numbers that were added ------------------------------------------------------------------------------------------

EPSILONS = np.array([10.0**-k for k in range(1, 17)] + [2.0**-23, 2.0**-52])


def epsilon(clue):
    """The right answer for something that a small number was added to."""
    if clue.answer is None or clue.quantity not in (*VALUES, *LOG_DETS) or not np.isfinite(clue.given).all():
        return
    for what in with_epsilon(clue):
        near = epsilons_near(clue, what)
        for eps in near if len(near) == 1 else ():
            yield Mistake(f"an epsilon: right for {what.format(f'{eps:.3g}')}", lambda of, what=what, eps=eps: added(of, what, eps),
                          fitted=True)


def epsilons_near(clue, what):
    """The numbers that give the answer."""
    with np.errstate(all="ignore"):
        tried = [(eps, added(clue, what, eps)) for eps in EPSILONS]
    return [eps for eps, answer in tried if answer is not None and np.all(answer.error(clue.given, clue.form) <= clue.allowed)
            and np.any(clue.truth.error(answer.high, clue.form) > clue.allowed)]


def added(clue, what, eps):
    """The answer with a number added, None where it cannot be."""
    try:
        return with_epsilon(clue)[what](eps)
    except (KeyError, ValueError):
        return None


def with_epsilon(clue):
    """{the place of the number: the answer as a function of it}: under a root, in a logarithm, beside the input or a positive field."""
    f, event = clue.point.f, np.asarray(clue.point.event, np.float64)
    signed, found = np.where(event < 0, -1.0, 1.0), {}
    if clue.quantity in LOG_DETS and (terms := log_terms(clue)).size:
        for way, where in ((1, "d"), (-1, "1/d")):
            sign = way if clue.side == "forward" else -way
            found[f"log({where} + {{}}) in place of log({where}), d the derivative"] = lambda eps, way=way, sign=sign: clue.told(
                sign * np.log(np.exp(way * terms) + eps).sum(-1))
    if clue.quantity in VALUES:
        found["sqrt(q^2 + {}) in place of the result q"] = lambda eps: clue.told(np.sqrt(clue.true**2 + eps))

    def at(**changes):
        return clue.truth_at(**{"f": f.astype(np.float64), "image_bar": None, "log_det_bar": None, "event": event} | changes)

    found["{} added to the input's size"] = lambda eps: at(event=event + signed * eps)
    found["{} added to the input's square, under a root"] = lambda eps: at(event=signed * np.sqrt(event * event + eps))
    for key in positive_fields(f):
        value = np.asarray(getattr(f, key), np.float64)
        found[f"{{}} added to {key}"] = lambda eps, key=key, value=value: at(f=f.astype(np.float64).replace(**{key: value + eps}))
        found[f"{{}} added to {key}^2, under a root"] = lambda eps, key=key, value=value: at(
            f=f.astype(np.float64).replace(**{key: np.sqrt(value * value + eps)}))
    return found


def positive_fields(f):
    """The fields of a page without parameter batch that are positive numbers."""
    return [k for k, d in f.declared.items() if isinstance(d, Field) and not d.constant and d.set.rank == 0
            and d.set.lower == 0 and getattr(f, k) is not None] if not f.parameter_batch else []


# -- clipped, and rounded to fewer digits -----------------------------------------------------------------------------

def clipped(clue):
    """The truth, cut off: at bounds of the format, or at the number that stands there, from which on it is the same."""
    held, true = clue.given[clue.wrong], clue.true[clue.wrong]
    if not held.size or not np.isfinite(held[0]) or np.any(held != held[0]) or held[0] == 0 and clue.quantity not in VALUES:
        return
    value, above = float(held[0]), bool(np.all(true > held[0]))
    if not above and not np.all(true < held[0]):
        return
    bounds = bounds_of(clue.form)
    name = next((name for name, bound in bounds.items() if is_near(value, bound, clue.form)), "")
    if name and clue.quantity in VALUES:
        for other in (-np.inf, np.inf, *bounds.values()):
            low, high = (other, value) if above else (value, other)
            if low < high:
                yield Mistake(f"clipped tail: {name}", lambda of, low=low, high=high: of.told(np.clip(of.true, low, high)))
    cut = np.minimum if above else np.maximum
    ends = (clue.point.f.codomain, clue.point.f.domain)[SIDES[clue.side]]
    if clue.quantity in VALUES and not ends.rank and value in (ends.lower, ends.upper):
        yield Mistake(f"saturated: {value:g} from here on, where the truth is not", lambda of: of.told(
            np.where(of.wrong, value, of.true)), everywhere=False, fitted=True)
    yield Mistake(f"clipped tail: {name or format(value, '.6g')} from here on, where the truth goes on",
                  lambda of: of.told(cut(of.true, value)), everywhere=False, fitted=True)


def bounds_of(form):
    """Numbers at which people clip."""
    eps, tiny = 2 * form.unit, form.normal
    return {"eps": eps, "1 - eps": 1 - eps, "eps - 1": eps - 1, "1 - eps/2": 1 - eps / 2, "the smallest normal number": tiny,
            "log(the smallest normal number)": np.log(tiny), "log(eps)": np.log(eps), "-log(eps)": -np.log(eps)}


def is_near(value, bound, form):
    ulps = 4 if abs(bound) > 1 else 0.25            # logarithms may be rounded; the other bounds are exact
    return abs(value - bound) <= ulps * 2 * form.unit * abs(bound)


def accumulated(clue):
    """A float64 sum that is a float32 number, of terms that are not."""
    if clue.dtype != np.float64 or clue.answer is None or clue.quantity not in LOG_DETS or int(np.prod(core_of(clue))) < 2:
        return
    if not any(has_wide_image(clue, clue.point.event * 1.1 + shift) for shift in (0, 0.1)):
        return

    def summed(of):
        terms = log_terms(of)
        size = np.abs(terms).sum() if terms.size else np.abs(of.true)
        narrow = np.all(of.given.astype(np.float32) == of.given) and np.all(of.given != 0)
        return of.told(of.true, unit=of.point.event.size * FORMATS["float32"].unit * size / UNITS) if narrow else None

    yield Mistake("float32 accumulation: the sum is a float32 number, the image is not", summed, coarse=True)


def cancelled(clue):
    """The log-det of terms of about 1 or more, which cancel: absolutely it is right, to a rounding of theirs."""
    if clue.quantity not in LOG_DETS or clue.failure.error < MANY or symptom(clue):
        return

    def rounded(of):
        event = np.asarray(of.point.event, np.float64)
        return of.told(of.true, unit=np.maximum(of.truth.unit, of.form.unit * (event.size + np.abs(event).sum())))

    yield Mistake("digits lost to cancellation: the error is a rounding of terms of about 1", rounded, coarse=True)


def has_wide_image(clue, event):
    """Has the image of a short event, one of few digits, more digits than float32 holds?"""
    where, rank = set_of(clue.point.f, clue.side), clue.point.f.event_ndim[SIDES[clue.side]]
    if not np.all(where.members(event, rank)):
        return False
    image = clue.answer(clue.point.changed(event=event)).found.get(VALUE[clue.side])
    return isinstance(image, np.ndarray) and bool(np.any(image.astype(np.float32) != image))


def single_precision(clue):
    """float64 answers with the digits of float32: all of them, or a factor or a term in them."""
    if clue.dtype != np.float64 or clue.answer is None or np.all(clue.given == 0):
        return

    def narrow(of):
        size, form = np.abs(np.asarray(of.point.event)), FORMATS["float32"]
        if np.any(size > form.largest) or np.any((size < form.normal) & (size != 0)):
            return of.told(of.given)                # float32 does not hold the event: anything may come
        unit = np.maximum(of.truth.unit * (form.unit / of.form.unit), form.smallest)
        return of.told(of.true, unit=unit) if np.all(of.given.astype(np.float32) == of.given) else None

    yield Mistake("computed in float32", narrow, coarse=True)
    for name, relative, absolute in rounded_numbers():
        for side in (1, -1):                        # a factor or a divisor; added or subtracted
            yield Mistake(f"float32 constant: the factor {name} was rounded to float32",
                          lambda of, by=side * relative: of.told(of.true * (1 + by), of.truth.low))
            for times in dict.fromkeys((1, int(np.prod(core_of(clue))))):
                yield Mistake(f"float32 constant: the term {name} was rounded to float32",
                              lambda of, by=side * times * absolute: of.told(of.true + by, of.truth.low))


RULES = (flushed, another_measure, wrong_count, negated, wrong_log_det, wrong_factor, in_bits, other_scale, transposed, asymptote,
         epsilon, clipped, sign_lost, accumulated, single_precision, cancelled,
         off_by_a_constant)
