"""In what way an answer is wrong: known kinds, recognised from the answer, the truth and a few more questions.

A diagnosis is a hint for the reader.  It never decides whether something fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core.declarations import Field
from ..accuracy.drawing import SIDES, set_of
from ..accuracy.formats import FORMATS
from ..accuracy.quantities import truth_name
from .measures import WORDS, counted, ratio, ratio_in_words
from .points import LOG_DET, VALUE, run_time_truth

LOG_DETS = tuple(LOG_DET.values())
VALUES = tuple(VALUE.values())
NAMES = {"log_det": "log|det dx/dz|", "inverse_log_det": "log|det dz/dx|"}


def shape_diagnosis(point, name, given, truth):
    """A wrong shape in words; `not summed over the event` if that is the reason."""
    text = f"wrong shape: {given.shape}, expected {truth.high.shape}"
    event_shape = np.shape(point.event)
    if name in LOG_DETS and given.shape == event_shape and given.size:
        axes = tuple(range(len(truth.high.shape), given.ndim))
        total = given.astype(np.float64).sum(axis=axes) if axes else given
        agrees = np.allclose(total, truth.high, rtol=1e-4, atol=1e-6) if axes else False
        return "not summed over the event: " + text + ("; its sum is right" if agrees else "")
    if sorted(given.shape) == sorted(truth.high.shape) and given.ndim > 1:
        return "transposed: " + text
    try:
        fits = np.broadcast_shapes(given.shape, truth.high.shape) == truth.high.shape
    except ValueError:
        fits = False
    return text + ("; not broadcast over the batch" if fits else "")


@dataclass
class Clue:
    """One failure with everything that the rules look at, as flat float64 arrays."""

    failure: object
    answer: object          # the checked code's answer at a point; None if no more can be asked

    def __post_init__(self):
        self.point, self.name = self.failure.point, self.failure.quantity
        self.quantity, self.dtype, self.side = truth_name(self.name), self.point.dtype, self.point.side
        self.form = self.point.format
        self.given, self.truth = self.failure.truth.compared(np.asarray(self.failure.given, np.float64))
        self.true = self.truth.high
        self.unit = np.maximum(self.truth.unit, self.form.smallest)
        self.off = np.abs(self.given - self.true)
        C = self.truth.error(self.given, self.form)
        self.wrong = np.broadcast_to(C > self.failure.allowed, self.true.shape) if self.true.size else np.zeros(0, bool)

    def same(self, other):
        """Does `other` agree with the given value in all but a few digits, and clearly differ from the true one?"""
        other = np.broadcast_to(np.asarray(other, np.float64), self.true.shape)
        units = 64 if self.form.bits >= FORMATS["float32"].bits else 4      # 64 units of a narrow format would accept anything
        tolerance = np.maximum(units * self.unit, 1e-4 * np.abs(other))
        near = np.abs(self.given - other) <= tolerance
        apart = np.abs(self.true - other) > 4 * tolerance
        return bool(near.all() and apart.any())

    def ask(self, **changes):
        """(given, Truth) of the quantity at a changed point, or None."""
        if self.answer is None:
            return None
        try:
            point = self.point.changed(**changes)
            truth = run_time_truth(point, derivatives=True).get(self.quantity)
            given = self.answer(point).found.get(self.name)
        except (ValueError, IndexError):
            return None
        if truth is None or not isinstance(given, np.ndarray) or given.shape != truth.high.shape:
            return None
        return truth.compared(np.asarray(given, np.float64))

    def at(self, point, given, truth):
        """The clue of an answer to a changed question."""
        changes = {"point": point, "given": given, "truth": truth}
        return Clue(replace(self.failure, **changes), self.answer)

    def error_at(self, **changes):
        found = self.ask(**changes)
        return None if found is None else float(np.max(found[1].error(found[0], self.form), initial=0.0))

    def moved(self):
        """Events further towards the end of the range near which they lie."""
        event = np.asarray(self.point.event, np.float64)
        f = self.point.f
        where = (f.domain, f.codomain)[SIDES[self.side]]
        for step in (2.0, 4.0):
            if where.rank:
                if self.side == "inverse":
                    z = f.inverse(self.point.event)
                    yield f.forward(z * z.dtype.type(1 + step / 8))
                continue
            if np.isfinite(where.lower) and np.isfinite(where.upper):
                middle = (where.lower + where.upper) / 2
                further = np.where(event < middle, where.lower + (event - where.lower) / step,
                                   where.upper - (where.upper - event) / step)
            elif np.isfinite(where.lower):
                distance = event - where.lower
                further = where.lower + np.where(distance < 1, distance / step, distance * step)
            else:
                further = event * step
            yield further.astype(self.dtype)


# -- the kinds, in the order in which they are tried ------------------------------------------------------------------

def not_a_number(clue):
    if np.isnan(clue.given).any():
        return "NaN where the truth is finite"
    if np.isinf(clue.given[clue.wrong]).any():
        return "infinite where the truth is finite"
    return ""


OTHER = {"log_det": "inverse_log_det", "inverse_log_det": "log_det"}


def negated(clue):
    if not clue.same(-clue.true):
        return ""
    other = OTHER.get(clue.quantity)
    return f"negated: the log-det of the other direction, {NAMES[other]}" if other else "negated"


def wrong_log_det(clue):
    """The inverse's log-det, taken at the event itself; or the right log-det at the image instead of the event."""
    if clue.quantity not in OTHER:
        return ""
    f, event = clue.point.f.astype(np.float64), np.asarray(clue.point.event, np.float64)
    methods = {"log_det": f.log_det, "inverse_log_det": lambda x: f.inverse_and_log_det(x)[1]}
    image, other = (f.forward if clue.quantity == "log_det" else f.inverse), OTHER[clue.quantity]
    for evaluate, text in ((lambda: methods[other](event), f"the other direction's log-det: {NAMES[other]} at this input"),
                           (lambda: methods[clue.quantity](image(event)), "log-det at the image instead of at the event")):
        try:
            if clue.same(evaluate()):
                return text
        except ValueError:              # the event, or its image, is not in the other domain
            continue
    return ""


def wrong_factor(clue):
    return next((text for factor, text in ((2.0, "doubled"), (0.5, "halved")) if clue.same(factor * clue.true)), "")


def wrong_count(clue):
    """A log-det divided by the number of positions, or of entries."""
    rank = clue.point.f.event_ndim[SIDES[clue.side]]
    shape = np.shape(clue.point.event)[np.ndim(clue.point.event) - rank:]
    positions, entries = int(np.prod(shape[1:])), int(np.prod(shape))
    if clue.quantity not in LOG_DETS:
        missing = clue.true.size < entries and clue.same(clue.true / entries)
        return "not summed over the event: the cotangent of one term" if missing else ""
    if not shape:
        return ""
    if len(shape) > 1 and positions > 1 and clue.same(clue.true / positions):
        return f"the number of positions is missing: {'H W' if len(shape) == 3 else 'T'} = {positions} times this is right"
    if entries > 1 and clue.same(clue.true / entries):
        return "not summed over the event: the mean over its entries"
    if entries > 1 and any(clue.same(part) for part in single_terms(clue, rank)):
        return "not summed over the event: the term of one entry"
    return ""


def single_terms(clue, rank):
    """The diagonal terms log|J_ii| of a map that acts on each entry separately."""
    if clue.point.event.ndim != rank:
        return []
    J = jacobian_at_latent(clue)
    terms = np.log(np.abs(np.diagonal(J))) if J.shape[0] == J.shape[1] else np.zeros(0)
    return terms if clue.side == "forward" else -terms


def transposed(clue):
    if clue.quantity == "jacobian" and clue.true.shape[-1] == clue.true.shape[-2] and clue.same(np.swapaxes(clue.true, -1, -2)):
        return "transposed matrix"
    f = clue.point.f
    matrices = {k: np.swapaxes(getattr(f, k), -1, -2) for k, d in f.declared.items()
                if isinstance(d, Field) and not d.constant and len(d.shape) == 2 and d.shape[0] == d.shape[1]}
    for key, matrix in matrices.items():
        try:
            truth = run_time_truth(clue.point.changed(f=f.replace(**{key: matrix})), derivatives=True).get(clue.quantity)
        except ValueError:
            continue
        if truth is not None and clue.same(truth.high):
            return f"transposed matrix: right for the transpose of {key}"
    return ""


def another_measure(clue):
    """A log-det that counts volumes on a set of lower dimension otherwise: off by the logarithm of the ratio of the measures."""
    f, x = clue.point.f, np.asarray(clue.point.event, np.float64)
    other = "chart" if f.codomain.measure == "intrinsic" else "intrinsic"
    step = ratio(f, other)
    if step is None or clue.quantity not in LOG_DETS:
        return ""
    sign, x = (1, f.astype(np.float64).forward(x)) if clue.side == "forward" else (-1, x)
    log_ratio = sign * step.unchecked(np.float64).log_det(x)          # in float64, a float32 member may be outside
    unit = run_time_truth(clue.point.changed(f=counted(f, other)))[clue.quantity].unit
    right = replace(clue.truth, high=clue.true + log_ratio, unit=unit)
    if not np.all(right.error(clue.given, clue.form) <= clue.failure.allowed):
        return ""
    to_own = other == "intrinsic"
    name = ratio_in_words(f.codomain, to_own == (sign > 0))
    return f"another volume convention: off by {name} = {np.ravel(log_ratio)[0]:.6g}, {WORDS[to_own]}; declare measure={other!r}"


def volume(clue):
    """A log-det by another convention: of another scale, in bits, or of the whole Jacobian."""
    rank = clue.point.f.event_ndim[SIDES[clue.side]]
    if clue.answer is None or clue.quantity not in LOG_DETS or clue.point.event.ndim != rank:
        return ""
    if np.any(np.abs(clue.given) < 1e-6):           # determinants near 1 are not told apart
        return ""
    if clue.same(clue.true / np.log(2)):
        return "another volume convention: log2|det|, which is right when it is multiplied by log 2"
    J, sign = jacobian_at_latent(clue), 1 if clue.side == "forward" else -1
    if J.shape[0] != J.shape[1] and clue.same(sign * np.linalg.slogdet(J.T @ J)[1] / 2):
        return "another volume convention: half log det J'J instead of log|det| of the chart"
    scales = np.diagonal(J)[np.any(J != np.eye(*J.shape), -1)] if J.shape[0] == J.shape[1] else np.zeros(0)
    for scale, inverse in INVERSE_SCALES.items():
        for other, log_scale in LOG_SCALES.items():
            if scales.size and scale != other and clue.same(sign * log_scale(inverse(scales)).sum()):
                return f"another volume convention: the log-det of a scale {other}, where the map has {scale}"
    return ""


def log_sigmoid(s):
    return -np.logaddexp(0, -s)


INVERSE_SCALES = {"exp(s)": np.log, "sigmoid(s)": lambda a: np.log(a) - np.log1p(-a),
                  "sigmoid(s + 2)": lambda a: np.log(a) - np.log1p(-a) - 2, "softplus(s)": lambda a: np.log(np.expm1(a))}
LOG_SCALES = {"exp(s)": lambda s: s, "sigmoid(s)": log_sigmoid, "sigmoid(s + 2)": lambda s: log_sigmoid(s + 2),
              "softplus(s)": lambda s: np.log(np.logaddexp(0, s))}


def jacobian_at_latent(clue):
    z = clue.point.event if clue.side == "forward" else clue.point.f.inverse(clue.point.event)
    return clue.point.f.astype(np.float64).jacobian(z.astype(np.float64))


EPSILONS = np.array([10.0**-k for k in range(1, 17)] + [2.0**-23, 2.0**-52])


def epsilon(clue):
    """The right answer for something that a small number was added to: found at this event, and again beside it."""
    if clue.answer is None or clue.quantity not in (*VALUES, *LOG_DETS) or not np.isfinite(clue.given).all():
        return ""
    for what, marks in with_epsilon(clue, EPSILONS):
        if np.sum(marks) == 1 and holds_beside(clue, what, EPSILONS[marks]):
            return f"an epsilon: right for {what.format(f'{EPSILONS[marks][0]:.3g}')}"
    return ""


def holds_beside(clue, what, eps):
    """Does the same explanation hold at events around this one, wherever the answer there is clearly wrong?"""
    held = []
    for factor in (1 / 2, 2, 3 / 4, 3 / 2):
        point = clue.point.changed(event=(clue.point.event * factor).astype(clue.dtype))
        found = clue.ask(event=point.event)
        moved = None if found is None else clue.at(point, *found)
        if moved is not None and np.any(moved.off > 64 * moved.unit):
            held += [marks.all() for other, marks in with_epsilon(moved, eps, what) if other == what]
            if not all(held):
                return False
    return bool(held)


def with_epsilon(clue, epsilons, only=None):
    """(what, marks): for which epsilons does an answer with it explain the error?  `only` is the one that is needed.

    It stands under a root, inside a logarithm, beside the input or beside a positive field.
    """
    f, event, terms = clue.point.f.astype(np.float64), np.asarray(clue.point.event, np.float64), log_terms(clue)
    eps, signed = beside(epsilons, event), np.where(event < 0, -1.0, 1.0)
    if clue.quantity in LOG_DETS and terms.size:
        for way, where in ((1, "d"), (-1, "1/d")):
            sign = way if clue.side == "forward" else -way
            added = sign * np.log(np.exp(way * terms) + epsilons[:, None]).sum(-1)
            yield f"log({where} + {{}}) in place of log({where}), d the derivative", explained(clue, added)
    if clue.quantity in VALUES:
        yield "sqrt(q^2 + {}) in place of the result q", explained(clue, np.sqrt(clue.true**2 + beside(epsilons, clue.true)))
    changes = {"{} added to the input's size": {"event": event + signed * eps},
               "{} added to the input's square, under a root": {"event": signed * np.sqrt(event * event + eps)}}
    for key in positive_fields(f):
        value = getattr(f, key)
        eps = beside(epsilons, value)
        changes |= {f"{{}} added to {key}": {"f": f.replace(**{key: value + eps})},
                    f"{{}} added to {key}^2, under a root": {"f": f.replace(**{key: np.sqrt(value * value + eps)})}}
    for what, change in changes.items():
        if only in (None, what):
            yield what, asked_beside(clue, epsilons, {"f": f, "event": event} | change)


def beside(epsilons, array):
    """The epsilons along an axis in front of the array's."""
    return epsilons.reshape(-1, *(1,) * array.ndim)


def asked_beside(clue, epsilons, change):
    """The marks for the truth of the quantity at other events or with another field."""
    try:
        truth = run_time_truth(clue.point.changed(**change)).get(clue.quantity)
    except ValueError:                  # outside the domain
        return np.zeros(epsilons.shape, bool)
    return explained(clue, truth.high)


def explained(clue, answers):
    """Which of the answers (n, ...) explain the error: are 100 times nearer to the given value than the truth is?"""
    if answers.shape[1:] != clue.true.shape:
        return np.zeros(len(answers), bool)
    near = np.abs(clue.given - answers) <= clue.off / 100 + 16 * clue.unit
    axes = tuple(range(1, answers.ndim))
    return (near & np.isfinite(answers)).all(axes) & bool(np.any(clue.off > 64 * clue.unit))


def positive_fields(f):
    """The fields of a page without parameter batch that are positive numbers."""
    return [k for k, d in f.declared.items() if isinstance(d, Field) and not d.constant and d.set.rank == 0
            and d.set.lower == 0 and getattr(f, k) is not None] if not f.parameter_batch else []


def log_terms(clue):
    """log|J_ii| in the forward direction, of a map that acts on each entry separately; none for others."""
    rank = clue.point.f.event_ndim[SIDES[clue.side]]
    if clue.point.event.ndim != rank:
        return np.zeros(0)
    J = jacobian_at_latent(clue)
    if J.shape[0] != J.shape[1] or np.any(J != np.diag(np.diagonal(J))):
        return np.zeros(0)
    return np.log(np.abs(np.diagonal(J)))


def flushed(clue):
    """0 where the answer, or the input, is below the smallest normal number, and nowhere else; or infinite, as at an input 0."""
    tiny, zero = clue.form.normal, (clue.given == 0) & (clue.true != 0)
    event = np.abs(np.asarray(clue.point.event, np.float64))
    lost = (event < tiny) & (event > 0)
    if lost.any() and np.isinf(clue.given[clue.wrong]).all():
        near = clue.error_at(event=np.where(lost, np.copysign(tiny, clue.point.event), clue.point.event).astype(clue.dtype))
        return "" if near is None or near > clue.failure.allowed else "subnormals flushed: the input is taken for 0"
    below = (np.abs(clue.true) < tiny) | bool(lost.any())
    if not (clue.wrong & zero).any() or not below[clue.wrong].all():
        return ""
    for factor in (1 / (2 * clue.form.unit), 15 / 16, 3 / 4):
        found = clue.ask(event=(clue.point.event * factor).astype(clue.dtype))
        if found is not None and np.any((found[0] == 0) & (np.abs(found[1].high) > tiny)):
            return ""
    return f"subnormals flushed: 0 where the truth is about {float(np.max(np.abs(clue.true[zero & clue.wrong]))):.0e}"


def accumulated(clue):
    """A float64 sum that is a float32 number, of terms that are not."""
    if clue.dtype != np.float64 or clue.answer is None or clue.quantity not in LOG_DETS or clue.point.event.size < 2:
        return ""
    if not any(has_wide_image(clue, clue.point.event * 1.1 + shift) for shift in (0, 0.1)):
        return ""
    terms = log_terms(clue)
    size = np.abs(terms).sum() if terms.size else np.abs(clue.true)
    narrow = np.all(clue.given.astype(np.float32) == clue.given) and np.all(clue.given != 0)
    near = np.all(clue.off <= clue.point.event.size * np.finfo(np.float32).eps * size)
    return "float32 accumulation: the sum is a float32 number, the image is not" if narrow and near else ""


def has_wide_image(clue, event):
    """Has the image of an event, which is no longer a number of few digits, more digits than float32 holds?"""
    where, rank = set_of(clue.point.f, clue.side), clue.point.f.event_ndim[SIDES[clue.side]]
    if not np.all(where.members(event, rank)):
        return False
    image = clue.answer(clue.point.changed(event=event)).found.get(VALUE[clue.side])
    return isinstance(image, np.ndarray) and bool(np.any(image.astype(np.float32) != image))


def single_precision(clue):
    """float64 answers with the digits of float32: a constant, or the whole computation."""
    if clue.dtype != np.float64 or np.all(clue.given == 0) or clipped(clue):
        return ""
    narrow = clue.given.astype(np.float32) == clue.given
    if narrow.all() and np.any(clue.given != 0) and all(2e-9 < r < 2e-7 for r in relative_errors(clue, (1, 1 / 16, 16))):
        return "computed in float32"
    here, *others = relative_errors(clue, (1, 1 / 4, 4))
    if 1e-10 < here < 3e-7 and all(here / 2 < r < here * 2 for r in others):
        return f"float32 constant: the relative error is {here:.0e} at every scale"
    here, *others = absolute_errors(clue, (1, 1 / 4, 1 / 2))
    if 1e-10 < here < 3e-7 and all(here / 2 < e < here * 2 for e in others):
        return f"float32 constant: the error is {here:.0e} at every scale"
    return ""


def absolute_errors(clue, factors):
    """The largest error at each multiple of the event; nan if it cannot be asked."""
    found = [clue.ask(event=clue.point.event * clue.dtype.type(factor)) for factor in factors]
    return [np.nan if f is None else float(np.max(np.abs(f[0] - f[1].high), initial=0.0)) for f in found]


def relative_errors(clue, factors):
    found = [clue.ask(event=clue.point.event * clue.dtype.type(factor)) for factor in factors]
    return [np.nan if f is None else float(np.max(np.abs(f[0] / f[1].high - 1), initial=0.0)) for f in found]


def asymptote(clue):
    """The event itself, although the map only tends to it."""
    event = np.asarray(clue.point.event, np.float64)
    if clue.quantity in VALUES and event.shape == clue.given.shape and (clue.given == event)[clue.wrong].all():
        return "replaced by its asymptote: the input itself"
    return ""


def clipped(clue):
    """The same answer further out, although the truth changes."""
    if not clue.wrong.any():
        return ""
    held = clue.given[clue.wrong]
    if clue.quantity in VALUES and all(bound_name(v, clue.form) for v in held):
        return f"clipped tail: {bound_name(held[0], clue.form)}"
    for event in clue.moved():
        found = clue.ask(event=event)
        if found is None or found[0].shape != clue.given.shape:
            return ""
        given, truth = found
        moves = np.abs(truth.high - clue.true)[clue.wrong] > 16 * clue.unit[clue.wrong]     # two truths may differ by a unit
        if not ((given[clue.wrong] == held) & moves).all():
            return ""
        break
    else:
        return ""
    value = held[0]
    if value == 0 and clue.quantity not in VALUES:
        return ""
    if clue.quantity in VALUES:
        where = (clue.point.f.codomain, clue.point.f.domain)[SIDES[clue.side]]
        if value in (where.lower, where.upper):
            return f"saturated: {value:g} from here on, where the truth is not"
    return f"clipped tail: {bound_name(value, clue.form) or format(value, '.6g')} from here on, where the truth goes on"


def bound_name(value, form):
    """The name of a number at which people clip, or ""."""
    eps, tiny = 2 * form.unit, form.normal
    bounds = {"eps": eps, "1 - eps": 1 - eps, "eps - 1": eps - 1, "1 - eps/2": 1 - eps / 2,
              "the smallest normal number": tiny, "log(the smallest normal number)": np.log(tiny),
              "log(eps)": np.log(eps), "-log(eps)": -np.log(eps)}
    for name, bound in bounds.items():
        ulps = 4 if abs(bound) > 1 else 0.25            # logarithms may be rounded; the other bounds are exact
        if abs(value - bound) <= ulps * eps * abs(bound):
            return name
    return ""


def cancelled(clue):
    zero = (clue.given == 0) & (clue.true != 0) & clue.wrong
    if not zero.any():
        return ""
    largest = float(np.max(np.abs(clue.true[zero])))
    kind = "0" if clue.quantity in VALUES else "cancelled to zero"
    return f"{kind}, where the truth is about {largest:.0e}"


def single_branch(clue):
    """Accurate at the mirrored input: a root or logarithm with one branch for both signs."""
    where = (clue.point.f.domain, clue.point.f.codomain)[SIDES[clue.side]]
    if where.rank or clue.quantity not in (*VALUES, *LOG_DETS) or where.lower != -where.upper:
        return ""
    mirrored = clue.error_at(event=-clue.point.event)
    if mirrored is None or mirrored > clue.failure.allowed or not digits_lost(clue):
        return ""
    kind = "single-branch root or logarithm" if clue.side == "inverse" else "digits lost to cancellation on one side"
    return f"{kind}: it is accurate at the mirrored input"


def digits_lost(clue):
    """Is the answer roughly right?"""
    return bool(np.all(clue.off <= 0.5 * np.abs(clue.true) + 64 * clue.unit))


def cancellation(clue):
    relative = float(np.max((clue.off / np.maximum(np.abs(clue.true), np.finfo(np.float64).tiny))[clue.wrong], initial=0.0))
    if not 0 < relative < 0.1:
        return ""
    return f"digits lost to cancellation or to an approximation: the relative error is {relative:.0e}"


def no_digit(clue):
    """The answer in units of the truth, if it is none of the known kinds."""
    wrong = clue.wrong & (clue.true != 0)
    if not wrong.any():
        return "not 0, where the truth is" if (clue.wrong & (clue.true == 0)).any() else ""
    worst = np.argmax(np.where(wrong, clue.off / np.where(wrong, np.abs(clue.true), 1), 0))
    ratio = float(clue.given.flat[worst] / clue.true.flat[worst])
    return f"no digit is right: {ratio:.3g} times the truth"


RULES = (flushed, not_a_number, another_measure, wrong_count, negated, wrong_log_det, wrong_factor, volume, transposed, asymptote,
         epsilon, clipped, cancelled, accumulated, single_precision, single_branch, cancellation)


@np.errstate(all="ignore")
def diagnose(shown, others, answer) -> str:
    """The kind of a failure, in a few words.

    A simple point may fit several kinds: of these, the first that most of the other failures fit too.
    """
    fits = [(rule, text) for rule in RULES if (text := fit(rule, Clue(shown, answer)))]
    if len(fits) < 2 or fits[0][0] is not_a_number:
        return fits[0][1] if fits else no_digit(Clue(shown, answer))
    clues = [Clue(f, answer) for f in others if f.truth is not None and f is not shown and not f.message]
    return max(fits, key=lambda found: sum(bool(fit(found[0], clue)) for clue in clues))[1]


def fit(rule, clue):
    """The text of a rule; "" too where it asked for something that the map refuses, such as an event outside its domain."""
    try:
        return rule(clue)
    except ValueError:
        return ""
