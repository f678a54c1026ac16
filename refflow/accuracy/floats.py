"""Errors over the floats: a page of numbers and its textbook in float32, in units of rounding, at events from 2^-30 to 2^30.

The truth is the page's answer in float64; the unit is, with u = 2^-24 and the smallest subnormal number,
    unit = u kappa + 2^-149                                                         (1)
Without its second term, answers that underflow would seem wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .kappa import kappa

EXPONENTS = np.arange(-30, 30, 0.5) + 0.185             # of the events: two in a binade, neither at its beginning
TINY, ROUNDOFF = 2.0**-149, 2.0**-24


@dataclass(frozen=True, eq=False)
class Stretch:
    """Events in float32, at 2^exponents from an end of a set or from 0; errors in units, infinite for an answer that is not a number."""

    end: float
    way: float
    exponents: np.ndarray
    events: np.ndarray
    textbook: np.ndarray = field(default_factory=lambda: np.zeros(0))
    page: np.ndarray = field(default_factory=lambda: np.zeros(0))


def errors(f, quantity) -> list[Stretch]:
    """The errors of "log_det" or "forward" of a bijector of numbers over its domain, from the left to the right.

    Events whose truth float32 does not hold are left out.
    """
    f, found = f.astype(np.float32), []
    for stretch in stretches(f.domain):
        truth, unit = truths(f, stretch.events)[quantity]
        held = np.abs(truth) <= np.finfo(np.float32).max
        answers = textbook_answers(f, stretch.events, quantity), getattr(f, quantity)(stretch.events)
        textbook, page = (in_units(answer, truth, unit)[held] for answer in answers)
        found.append(replace(stretch, exponents=stretch.exponents[held], events=stretch.events[held], textbook=textbook, page=page))
    return [stretch for stretch in found if len(stretch.events)]


def stretches(domain):
    """The events, without errors; between two ends, each end has those that are nearer to it."""
    found = []
    for end, way in sorted(domain.ends()):
        others = [abs(other - end) for other, back in domain.ends() if back == -way and (other - end) * way > 0]
        exponents = EXPONENTS[2**EXPONENTS < min(others, default=np.inf) / 2]
        events = np.float32(end + way * 2**exponents)
        inside = domain.members(events, 0) & (events != np.float32(end))
        found.append(Stretch(end, way, exponents[inside], events[inside]))
    return found


def truths(f, events) -> dict:
    """{quantity: (the answer in float64, (1))}."""
    exact, z = f.astype(np.float64), events.astype(np.float64)
    with np.errstate(all="ignore"):
        kappas = kappa(exact, z)
    return {quantity: (getattr(exact, quantity)(z), ROUNDOFF * kappas[quantity] + TINY) for quantity in kappas}     # (1)


def in_units(answer, truth, unit):
    with np.errstate(all="ignore"):
        error = np.abs(answer.astype(np.float64) - truth) / unit
    return np.where(np.isfinite(answer), error, np.inf)


def textbook_answers(f, events, quantity):
    """What the printed equation gives, event by event; NaN where it divides by 0.

    A constant of float64 in an equation, such as np.log(2), lifts what follows; the answer is rounded to float32 in the end.
    """
    formula, fields = getattr(f.textbook, quantity), {key: getattr(f, key) for key in f.declared}

    def answer(z):
        try:
            return formula(z, **fields)
        except ZeroDivisionError:
            return np.nan

    with np.errstate(all="ignore"):
        return np.array([answer(z) for z in events], np.float32)
