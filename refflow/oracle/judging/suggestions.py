"""Declarations under which findings would be allowed: each is tried, by checking once more, before it is suggested."""

from __future__ import annotations

from dataclasses import replace

from ...accuracy.formats import format_of
from ..points.measures import MEASURES, WITHOUT_MEASURE
from .verdict import Suggestion, leaves

OTHER_SIDE = {"forward": "inverse", "log_det": "inverse_log_det", "vjp": "inverse_vjp"}
OTHER_SIDE |= {inverse: forward for forward, inverse in OTHER_SIDE.items()}


def suggestions(adapter, dtype, findings, passing) -> list:
    """A Suggestion for each quantity whose findings would all be allowed under one more declaration.

    `passing(adapter)` measures a changed adapter and names the quantities that pass.  A quantity is explained if it is among
    them, under the name that it has under the declaration; a declaration that explains none is not mentioned.
    """
    counts, found = {}, []  # type: dict[str, int], list
    for finding in findings:
        counts[finding.quantity] = counts.get(finding.quantity, 0) + 1
    for changes in plausible(adapter, dtype, findings):
        passed, renamed = passing(replace(adapter, **changes)), other_name if "direction" in changes else str
        text = ", ".join(f"{key}={value!r}" for key, value in changes.items())
        found += [Suggestion(adapter.theirs, quantity, dtype, text, count) for quantity, count in counts.items()
                  if renamed(quantity) in passed and not ("measure" in changes and quantity in WITHOUT_MEASURE)]
    return found


def other_name(quantity):
    """The name of a quantity of theirs, if their forward is the page's other direction; "" if it has none there."""
    kind, dot, cotangent = quantity.partition(".")
    cotangent = {"z_bar": "x_bar", "x_bar": "z_bar"}.get(cotangent, cotangent)
    return OTHER_SIDE[kind] + dot + cotangent if kind in OTHER_SIDE else ""


def plausible(adapter, dtype, findings):
    """The declarations that are worth a second check."""
    if not adapter.flush_to_zero and any(found.failing < found.points and has_subnormals(found, dtype) for found in findings):
        yield {"flush_to_zero": True}
    if not adapter.accumulation and any("float32" in found.diagnosis for found in findings) and dtype == "float64":
        yield {"accumulation": "float32"}
    for measure in MEASURES:
        if any(f"declare measure={measure!r}" in found.diagnosis for found in findings):
            yield {"measure": measure}
    value = "forward" if adapter.direction == "forward" else "inverse"
    if any(found.quantity == value and 2 * found.failing > found.points for found in findings):
        yield {"direction": "inverse" if adapter.direction == "forward" else "forward"}


def has_subnormals(found, dtype):
    """Is a number of the finding's input, parameters or truth below the smallest normal one?"""
    shown = leaves([found.input, found.params, found.true])
    return any(isinstance(v, float) and 0 < abs(v) < format_of(dtype).normal for v in shown)
