"""Whose alarm is it?  The library's, if one of its numbers at the failing place is further from the truth than 16 units; else the law's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpmath import mp, mpf

from refflow.oracle.asking.arrays import LARGEST, NORMAL, UNITS
from refflow.oracle.boxes.black_box_points import ALLOWED

from . import truths_in_jax, truths_in_torch  # noqa: F401  (each adds its equations)
from .truths import EQUATIONS, Unknown, truth

WORDS = {"forward": "the image", "inverse": "the inverse", "log_det": "the log-det", "inverse_log_det": "the log-det of the inverse",
         "slope": "the slope"}
SHOWN = 18                              # digits of the truth


@dataclass(frozen=True)
class Judgement:
    """A number of the library, the truth, and how many units they are apart."""

    quantity: str
    event: object
    given: float
    true: object
    C: float

    def __str__(self):
        return (f"{WORDS[self.quantity]} at {self.event} is {self.given!r}, where {shown(self.true)} is true, "
                f"{f'{self.C:.3g} units' if np.isfinite(self.C) else 'infinitely'} away")


def shown(true):
    """Digits of the truth, with the exponent that no float may have."""
    with mp.workdps(SHOWN + 5):
        return mp.nstr(+true, SHOWN)


def judged(library, name, dtype, witness):
    """The first number that is further than 16 units from its truth, else the worst; None where there is no truth at all."""
    if witness is None or (library, name) not in EQUATIONS:
        return None
    worst = None
    for quantity, event, given in witness["numbers"]:
        for one in judgements(library, name, dtype, quantity, event, given, witness):
            worst = one if worst is None or one.C > worst.C else worst
            if worst.C > ALLOWED:
                return worst
    return worst


def judgements(library, name, dtype, quantity, event, given, witness):
    """One for each entry of an answer; none where there is no truth."""
    try:
        values, units = truth(library, name, quantity, event, *(witness[part] for part in ("parameters", "domain", "codomain")))
    except Unknown:
        return
    logs = quantity.endswith("log_det")
    for value, true, unit in zip(np.ravel(given).tolist(), values, units):
        if quantity == "slope" and len(values) == 1:
            value, logs = float(np.log(np.abs(value))), True
        yield Judgement(quantity, event, value, true, units_away(value, true, unit, dtype, logs))


def units_away(given, true, unit, dtype, logs):
    """|given - true| over the unit, less what flushing of an image to 0 explains."""
    if np.isnan(given):
        return np.inf
    if np.isinf(given):
        return 0.0 if abs(true) > LARGEST[dtype] and (true > 0) == (given > 0) else np.inf
    if not mp.isfinite(true):
        return np.inf
    off = max(abs(mpf(given) - true) - (0 if logs else NORMAL[dtype]), mpf(0))
    return float(min(off / (UNITS[dtype] * unit), mpf(10) ** 300)) if off else 0.0
