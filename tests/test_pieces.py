"""Piecewise pages are asked where their pieces meet, and all through their bins: mistakes at single points are found."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow.accuracy.quantities import distinct, forward_quantities, inverse_quantities
from refflow.oracle import adapter, check
from refflow.oracle.asking.adapter import Answers
from refflow.oracle.check import Subject, allowed, certified
from refflow.oracle.points import pieces
from refflow.oracle.points.pages import bijectors

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
RQS = refflow.RationalQuadraticSpline
PIECEWISE = [name for name, page in bijectors().items() if page.event_ndim == (0, 0) and "breaks" in vars(page) and name != "MonotoneNetwork"]
INDIRECT = {"UnconstrainedMonotonic", "CircularShift"}      # knots that are quotients; a jump of the image


def own(point, event=None):
    """What the page answers at a point, or with derivatives at another event."""
    quantities = forward_quantities if point.side == "forward" else inverse_quantities
    return Answers(distinct(quantities(point.f, point.event if event is None else event, point.image_bar, point.log_det_bar)))


def measured(name, dtype, answer):
    """{quantity: symptoms} of what fails at the points of a page's pieces."""
    subject = Subject(name, "theirs", dtype.name, answer)
    for point in pieces.piecewise_points(bijectors()[name], dtype):
        subject.compare([point], [answer(point)], subject.truths([point]), lambda q, p: allowed(certified(), name, q, p))
    assert subject.count
    return {quantity: set(found) for quantity, found in subject.failures.items()}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", PIECEWISE)
def test_the_page_is_right_everywhere(name, dtype):
    assert measured(name, dtype, own) == {}


def from_other_side(way):
    """Derivatives at a break as they are a rounding below or above it, or their mean: another library's choice."""
    def answer(point):
        if point.image_bar is None:
            return own(point)
        below, above = (own(point, np.nextafter(point.event, point.dtype.type(end))).found for end in (-np.inf, np.inf))
        taken = {"below": below, "above": above, "mean": {name: (below[name] + above[name]) / 2 for name in below}}[way]
        return Answers(own(point).found | {name: bar for name, bar in taken.items() if "vjp" in name})

    return answer


@pytest.mark.parametrize("way", ["below", "above", "mean"])
@pytest.mark.parametrize("name", ["RationalQuadraticSpline", "LinearSpline", "QuadraticSpline", "CubicSpline", "LeakyReLU", "LeakyTanh"])
def test_either_side_is_right(name, way):
    for dtype in (F32, F64):
        assert measured(name, dtype, from_other_side(way)) == {}


WRONG = {"NaN": lambda bar: bar * np.nan, "0": lambda bar: bar * 0, "both sides added": lambda bar: bar * 2}


@pytest.mark.parametrize("name, how", [(name, how) for name in PIECEWISE for how in WRONG if name not in INDIRECT
                                       and (name, how) != ("LeakyReLU", "both sides added")])     # there every slope up to 1 is right
def test_cotangents_wrong_only_at_a_break_are_found(name, how):
    def planted(point):
        found = own(point).found
        at_break = point.image_bar is not None and np.isin(point.event, pieces.breaks_on(point.f, point.side).astype(point.dtype))
        return Answers({q: WRONG[how](bar) if at_break and q.endswith((".z_bar", ".x_bar")) else bar for q, bar in found.items()})

    for dtype in (F32, F64):
        assert {"vjp.z_bar", "inverse_vjp.x_bar"} <= set(measured(name, dtype, planted))


# -- rare points of narrow bins ---------------------------------------------------------------------------------------

def textbook_inverse(params, root):
    """The quadratic equation of the paper, and its root, for numbers inside the knots."""
    z, x, d = params["input_knots"], params["output_knots"], params["slopes"]

    def inverse(event):
        k = np.clip(np.searchsorted(x, event, side="right") - 1, 0, len(x) - 2)
        w, h, y = np.diff(z)[k], np.diff(x)[k], event - x[k]
        s, d_0, d_1 = h / w, d[k], d[k + 1]
        a, b, c = y * (d_0 + d_1 - 2 * s) + h * (s - d_0), h * d_0 - y * (d_0 + d_1 - 2 * s), -s * y
        found = w * (2 * c / (-b - root(b * b - 4 * a * c))) + z[k]
        return np.where((event >= x[0]) & (event <= x[-1]), found, RQS(**params).inverse(event)).astype(event.dtype)

    return inverse


def test_a_negative_discriminant_is_met(monkeypatch):
    """In at least 19 draws of 20; a discriminant that is kept from it gives numbers."""
    source_of, met = pieces.source_of, 0
    for seed in range(20):
        monkeypatch.setattr(pieces, "source_of", lambda name, seed=seed: source_of(f"{name} {seed}"))
        points = [point for point in pieces.drawing(RQS, F32) if point.lead and point.side == "inverse"]
        fields = [{key: getattr(point.f, key) for key in RQS.declared} for point in points]
        with np.errstate(all="ignore"):
            met += any(np.isnan(textbook_inverse(of, np.sqrt)(point.event)).any() for of, point in zip(fields, points))
            kept = [textbook_inverse(of, lambda number: np.sqrt(np.maximum(number, 0)))(point.event) for of, point in zip(fields, points)]
        assert not np.isnan(np.concatenate(kept)).any()
    assert met >= 19


def test_a_negative_discriminant_is_found():
    report = check(adapter("RationalQuadraticSpline", dtype="float32")(lambda params, z: {"inverse": textbook_inverse(params, np.sqrt)}))
    assert any(found.quantity == "inverse" and np.isnan(found.given).any() for found in report.failed)
