"""Which stage of a chain is wrong first.

An adapter of a Chain may return, as `stages`, its image after each stage, or (image, log-det of the stage).  Each stage is then
held against refflow's at its own input, the image that theirs returned before it.  Without `stages`, a stage is named only
if one mistake in it alone gives their numbers, to within rounding, at every failing point that was kept, and no other does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...accuracy.drawing import SIDES, Point, set_of
from ...accuracy.quantities import truth_name
from ...core import Chain, Independent
from ...report import number
from ..points.page_points import LOG_DET, VALUE, run_time_truth

WORDS = {"forward": "image", "inverse": "image", "log_det": "log-det", "inverse_log_det": "log-det"}
ENOUGH = 2                              # points at which a guess must hold


@dataclass(frozen=True)
class Layer:
    """The first wrong stage in words, and the page whose equations it states."""

    text: str
    page: type


def first_wrong(chosen, failures, answer, allowed):
    """The Layer of a chain's failure, or None."""
    f, quantity = chosen.point.f, truth_name(chosen.quantity)
    if not isinstance(f, Chain) or chosen.truth is None or chosen.message:
        return None
    if quantity not in (*VALUE.values(), *LOG_DET.values()):
        return None
    given = answer(chosen.point).stages
    guess = guessed(failures, quantity)
    return guess if given is None else compared(chosen, given, quantity, allowed, guess)


def in_order(f, side):
    """[(number, stage)] in the order in which they are applied."""
    stages = list(enumerate(f.stages))
    return stages if side == "forward" else stages[::-1]


def name_of(k, stage):
    return f"stage {k} of the chain, {page_of(stage).__name__}"


def page_of(stage):
    """The page of a stage, without the Independent that lifts it to the rank of the chain."""
    while isinstance(stage, Independent):
        stage = stage.inner
    return type(stage)


# -- with the images of the stages ------------------------------------------------------------------------------------

def compared(chosen, given, quantity, allowed, guess):
    """The first stage whose own answer is wrong at its own input; the guess where all answers that were given are right."""
    point = chosen.point
    event = np.asarray(point.event)
    order = in_order(point.f, point.side)
    if len(given) != len(order):
        return Layer(f"not known: {len(given)} stages were returned of a chain of {len(order)}", type(point.f))
    log_dets = []
    for (k, stage), answers in zip(order, given):
        question = Point(stage.astype(point.dtype), point.side, event.astype(point.dtype, copy=False))
        named = dict(zip((VALUE[point.side], LOG_DET[point.side]), answers))
        if not is_member(question):
            return Layer(f"not known: the input of {name_of(k, stage)}, {event}, is outside its domain", type(point.f))
        for name, value in named.items():
            if (text := wrong(question, name, value, allowed)):
                return Layer(f"{name_of(k, stage)}: its {WORDS[name]} {text}", page_of(stage))
        log_dets += list(answers[1:])
        event = answers[0]
    if guess is not None or quantity == LOG_DET[point.side] and len(log_dets) < len(order):
        return guess
    what = "is not the last image" if quantity == VALUE[point.side] else "is not the sum of the log-dets"
    return Layer(f"no stage: each is right at its own input, and what is returned {what}", type(point.f))


def is_member(question):
    event, rank = question.event, question.f.event_ndim[SIDES[question.side]]
    inside = event.ndim >= rank and np.all(set_of(question.f, question.side).members(event, rank))
    return bool(inside and np.isfinite(event).all())


def wrong(question, name, value, allowed):
    """How a stage's answer is wrong, or ""."""
    truth = run_time_truth(question)[name]
    if value.shape != truth.high.shape:
        return f"has shape {value.shape}, not {truth.high.shape}"
    C = float(np.max(truth.error(value, question.format), initial=0.0, where=truth.known()))
    if C <= allowed:
        return ""
    return f"is off by {number(C)} units at its input {np.asarray(question.event).tolist()}"


# -- without them -----------------------------------------------------------------------------------------------------

@np.errstate(all="ignore")
def guessed(failures, quantity):
    """The one mistake in one stage that explains all failures."""
    agreed = None
    for failure in failures[:8]:
        fits = {mistake for mistake, value in mistakes(failure.point, quantity) if explains(failure, value)}
        agreed = fits if agreed is None else agreed & fits
    if len(failures) < ENOUGH or not agreed or len(agreed) > 1:
        return None
    (text, page), = agreed
    return Layer(text, page)


def explains(failure, value):
    """Is `value` the given answer, to within rounding, and clearly not the truth?"""
    true, given, value = (np.asarray(a, np.float64) for a in (failure.truth.high, failure.given, value))
    if value.shape != given.shape:
        return False
    unit = np.maximum(failure.truth.unit, failure.point.format.smallest)
    with np.errstate(all="ignore"):
        return bool((np.abs(given - value) <= 64 * unit).all() and (np.abs(true - value) > 256 * unit).any())


def mistakes(point, quantity):
    """((text, page), the answer with that mistake) for each stage: its log-det, or the stage itself, left out or misused.

    In float64 without checks: a member of a set in float32, such as entries whose sum is 1, may be none in float64.
    """
    f, event = point.f.unchecked(np.float64), np.asarray(point.event, np.float64)
    order, of = in_order(f, point.side), applied if quantity in VALUE.values() else summed
    for at, (k, stage) in enumerate(order):
        for what, value in of(order, at, event, point.side):
            yield (f"{name_of(k, stage)}: {what}", page_of(stage)), value


def step(stage, event, side):
    return stage.forward_and_log_det(event) if side == "forward" else stage.inverse_and_log_det(event)


def attempted(call):
    """The result of a call, or NaN where an event is outside a stage's domain or has another number of axes."""
    try:
        with np.errstate(all="ignore"):
            return call()
    except (ValueError, IndexError):
        return np.nan


def applied(order, at, event, side):
    """The image without a stage, and with a stage run in the other direction."""
    other = {"forward": "inverse", "inverse": "forward"}[side]

    def through(use):
        value = event
        for i, (_, stage) in enumerate(order):
            if i != at or use is not None:
                value = step(stage, value, use if i == at else side)[0]
        return value

    yield "it is left out", attempted(lambda: through(None))
    yield "it runs in the other direction", attempted(lambda: through(other))


def summed(order, at, event, side):
    """The log-det with a stage's term left out, doubled, negated, or taken at another input."""
    terms, inputs = [], [event]
    for _, stage in order:
        image, term = step(stage, inputs[-1], side)
        terms.append(term)
        inputs.append(image)
    total, term, stage = sum(terms), terms[at], order[at][1]
    yield "its log-det is left out", total - term
    yield "its log-det is counted twice", total + term
    yield "its log-det has the wrong sign", total - 2 * term
    yield "its log-det is taken at its image", total - term + attempted(lambda: step(stage, inputs[at + 1], side)[1])
    if at:
        yield "its log-det is taken at the chain's input", total - term + attempted(lambda: step(stage, event, side)[1])
