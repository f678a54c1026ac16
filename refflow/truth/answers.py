"""The truth at one event of a page with its parameters, beside the page's own answers there."""

from __future__ import annotations

import math

from ..accuracy.quantities import forward_quantities, inverse_quantities, truth_name
from .ends import INFINITE, is_end, truth_at_end
from .engine import TruthNotFound, decimal
from .measure import ADAPTERS, claims_of_kind, compared, problem, truth_at_x, truth_at_z, truth_of_kind


def answers_of(f, side, event) -> dict:
    """{quantity: array} of the methods of those names; `side` is "inverse" for an event x, else "forward"."""
    if f.kind in ADAPTERS:
        found = claims_of_kind(f, event)
    else:
        found = (forward_quantities if side == "forward" else inverse_quantities)(f, event)
    return {name: answer for name, answer in found.items() if name == truth_name(name)}


def truth_of(f, side, event) -> dict:
    """{quantity: its truth} without those that have none within reach; at an end of a set of numbers, the limits."""
    try:
        if f.kind in ADAPTERS:
            return truth_of_kind(f, event)
        if is_end(f, side, event):
            return truth_at_end(problem(f), f, side, event, (None, None))
        return (truth_at_z if side == "forward" else truth_at_x)(f, event)
    except TruthNotFound as partly:
        return partly.settled


def beside(f, side, event, answers, digits) -> dict:
    """{quantity: {"truth": decimals, flat, "error": C, "conditioning": kappa/|q|}} of the answers that have a truth."""
    truth, write = truth_of(f, side, event), limit if is_end(f, side, event) else decimals
    errors = compared({name: given for name, given in answers.items() if name in truth}, truth, event.dtype)
    return {name: {"truth": [write(q, digits) for q in truth[name].value], "error": C, "conditioning": ratio}
            for name, (C, ratio) in errors.items()}


def limit(q, digits):
    """The decimal of a limit: "inf" for an infinite one."""
    return decimals(q, digits) if abs(q) != INFINITE else "inf" if q > 0 else "-inf"


def decimals(q, digits):
    """A decimal of so many digits, or of fewer if fewer are proved; "0" for a number proved to be smaller than every float."""
    return decimal(q, max(1, min(digits, int(q.rel_accuracy_bits() * math.log10(2)))))
