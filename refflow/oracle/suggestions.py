"""Declarations under which findings would be allowed: each is tried, by checking once more, before it is suggested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .verdict import Report, Suggestion, leaves

OTHER_SIDE = {"forward": "inverse", "log_det": "inverse_log_det", "vjp": "inverse_vjp"}
OTHER_SIDE |= {inverse: forward for forward, inverse in OTHER_SIDE.items()}


def suggestions(adapter, dtype, findings, judge) -> list:
    """A Suggestion for each quantity whose findings would all be allowed under one more declaration.

    `judge(adapter, report)` checks an adapter in the dtype.  A quantity is explained if it is measured again, under the name
    that it has under the declaration, and passes; a declaration that explains none is not mentioned.
    """
    counts, found = {}, []
    for finding in findings:
        counts[finding.quantity] = counts.get(finding.quantity, 0) + 1
    for changes in plausible(adapter, dtype, findings):
        report = Report(adapter.theirs, "")
        judge(replace(adapter, **changes), report)
        renamed = other_name if "direction" in changes else str
        passed, failed = {p.quantity for p in report.passed}, {f.quantity for f in report.failed}
        text = ", ".join(f"{key}={value!r}" for key, value in changes.items())
        found += [Suggestion(adapter.theirs, quantity, dtype, text, count) for quantity, count in counts.items()
                  if renamed(quantity) in passed - failed]
    return found


def other_name(quantity):
    """The name of a quantity of theirs, if their forward is the page's other direction; "" if it has none there."""
    kind, dot, cotangent = quantity.partition(".")
    cotangent = {"z_bar": "x_bar", "x_bar": "z_bar"}.get(cotangent, cotangent)
    return OTHER_SIDE[kind] + dot + cotangent if kind in OTHER_SIDE else ""


def plausible(adapter, dtype, findings):
    """The declarations that are worth a second check."""
    if not adapter.flush_to_zero and any(has_subnormals(found, dtype) for found in findings):
        yield {"flush_to_zero": True}
    if not adapter.accumulation and dtype == "float64" and any(in_float32(found) for found in findings):
        yield {"accumulation": "float32"}
    if any(found.quantity == ("forward" if adapter.direction == "forward" else "inverse") for found in findings):
        yield {"direction": "inverse" if adapter.direction == "forward" else "forward"}


def numbers(*values):
    return [abs(v) for v in leaves(list(values)) if isinstance(v, (int, float)) and not isinstance(v, bool)]


def has_subnormals(found, dtype):
    return any(0 < v < np.finfo(dtype).tiny for v in numbers(found.input, found.params, found.true))


def in_float32(found):
    """Does the answer have the digits of float32 and no more?"""
    given = numbers(found.given)
    return bool(given) and all(float(np.float32(v)) == v or not np.isfinite(v) for v in given) and any(given)
