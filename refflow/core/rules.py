"""Rules of plain fields: what such a field must be, in words, what it is kept as, and what breaks it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

__all__ = ["Rule", "count", "hold", "number", "one_of", "optional"]


@dataclass(frozen=True)
class Rule:
    """`text` goes on after "eps must"; `broken` are values next to the ones that hold, for the laws."""

    text: str
    holds: Callable[[Any], bool]
    kept: Callable[[Any], Any]
    broken: tuple

    def checked(self, owner, name, given):
        """The field as it is kept.  ValueError with the owner's class, the field, the rule and what was given."""
        if not self.holds(given):
            raise ValueError(f"{owner}: {name} must {self.text}, not {given!r}")
        return self.kept(given)


def refuse_beyond(owner, name, given, dtype):
    """Refuse a constant, or one in a tuple, that becomes infinite or 0 in the dtype of what is computed with it."""
    if isinstance(given, tuple):
        for part in given:
            refuse_beyond(owner, name, part, dtype)
    elif isinstance(given, float) and given and math.isfinite(given):
        with np.errstate(all="ignore"):
            kept = dtype.type(given)
        if kept == 0 or not np.isfinite(kept):
            raise ValueError(f"{owner}: {name} must be a number that {dtype} holds, not {given!r}, which is {kept} there")


def hold(value, **rules):
    """Refuse a value one of whose attributes breaks its rule."""
    for name, rule in rules.items():
        rule.checked(type(value).__name__, name, getattr(value, name))


def is_number(given, kinds="iuf"):
    """Is it a single number?  A truth value is not."""
    return np.ndim(given) == 0 and np.asarray(given).dtype.kind in kinds


def number(low=-math.inf, high=math.inf, low_included=False, high_included=False) -> Rule:
    """A number from `low` to `high`, kept as a float."""
    above = (lambda v: low <= v) if low_included else (lambda v: low < v)
    below = (lambda v: v <= high) if high_included else (lambda v: v < high)
    outside = [math.nan, "1", True] + [end for end, included in ((low, low_included), (high, high_included)) if not included]
    outside += [end + step for end, step in ((low, -1.0), (high, 1.0)) if math.isfinite(end)]
    return Rule(f"be {range_text(low, high, low_included, high_included)}",
                lambda v: is_number(v) and above(v) and below(v), float, tuple(outside))


def range_text(low, high, low_included, high_included):
    sign = ">=" if low_included else ">"
    if math.isfinite(high):
        return f"in {'[' if low_included else '('}{low:g}, {high:g}{']' if high_included else ')'}"
    if math.isfinite(low):
        return f"{'' if high_included else 'finite and '}{sign} {low:g}"
    return "finite"


def count(least=1) -> Rule:
    """An integer from `least` on, kept as an int."""
    return Rule(f"be an int >= {least}", lambda v: is_number(v, "iu") and v >= least, int, (least - 1, least + 0.5, True, "1"))


def one_of(*choices) -> Rule:
    """One of some words or integers."""
    def holds(given):
        return (isinstance(given, str) or is_number(given, "iu")) and given in choices

    def kept(given):
        return choices[choices.index(given)]

    if isinstance(choices[0], str):
        text, beyond = f"one of {choices}", ()  # type: str, tuple
    else:
        text, beyond = f"{', '.join(map(str, choices[:-1]))} or {choices[-1]}", (min(choices) - 1, max(choices) + 1)
    return Rule(f"be {text}", holds, kept, ("nothing", None, True, *beyond))


def optional(rule) -> Rule:
    """The same, or None."""
    return Rule(f"{rule.text}, or None", lambda v: v is None or rule.holds(v), lambda v: v if v is None else rule.kept(v),
                rule.broken)


FINITE = number()
ABOVE_0 = number(0)
AT_LEAST_0 = number(0, low_included=True)
BELOW_1 = number(0, 1)
NOT_0 = Rule("be finite and not 0", lambda v: is_number(v) and 0 < abs(v) < math.inf, float, (0, math.nan, math.inf, "1", True))
FLAG = Rule("be True or False", lambda v: isinstance(v, (bool, np.bool_)), bool, (None, "yes", 2))
