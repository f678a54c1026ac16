"""Where rounding the inputs moves a quantity too far for kappa to judge a wrong number."""

from types import SimpleNamespace

import numpy as np
import pytest

from refflow import Affine, BoxCox, Chain, Exp, Independent, Inverse, WeibullCDF
from refflow.accuracy.drawing import Point
from refflow.oracle.judging import steadiness
from refflow.oracle.judging.steadiness import is_steady, steady, unmoved

STEEP, STEEP_AT = WeibullCDF(concentration=2.0**-60, scale=1.0), 0.6321205588285577
FAR = np.array([0.1, STEEP_AT, 0.9])        # half an ulp of x moves the inverse by orders of magnitude at the second
ONE = np.array(1.0)
SHIFTED = Affine(shift=-3.75)
NEXT = np.nextafter(3.75, 4)                # a rounding error takes it below 3.75, where the stages after `SHIFTED` have no value


def alone(f, side, events, name="inverse", **bars):
    return [is_steady(Point(f, side, event, **bars), name) for event in events]


def test_where_rounding_moves_the_answer_far_it_is_not_steady():
    assert not is_steady(Point(STEEP, "inverse", np.float64(STEEP_AT)), "inverse")
    assert is_steady(Point(WeibullCDF(concentration=2.0, scale=1.0), "inverse", np.float64(STEEP_AT)), "inverse")


def test_entries_of_an_axis_are_judged_as_they_are_alone():
    found = steady([Point(STEEP, "inverse", FAR, lead=1)], {"inverse": np.full(3, True)})["inverse"]
    assert found.tolist() == alone(STEEP, "inverse", FAR)
    assert found.any() and not found.all()


@pytest.mark.parametrize("name", ["inverse", "inverse_vjp.x_bar", "inverse_vjp.concentration_bar"])
@pytest.mark.parametrize("events", [FAR, FAR[:2]], ids=["three", "two"])
def test_points_that_are_alike_are_judged_as_they_are_alone(events, name):
    points = [Point(STEEP, "inverse", event, ONE, ONE) for event in events]
    by_itself = alone(STEEP, "inverse", events, name, image_bar=ONE, log_det_bar=ONE)
    assert steady(points, {name: np.full(len(events), True)})[name].tolist() == by_itself
    assert set(by_itself) == {True, False}


def test_quantities_are_asked_where_each_of_them_is_looked_at():
    """What is not looked at is said to be steady."""
    x = np.array([0.1, STEEP_AT, STEEP_AT])
    asked = {"inverse": np.array([True, True, False]), "inverse_log_det": np.array([False, False, True]), "other": np.full(3, False)}
    found = steady([Point(STEEP, "inverse", x, lead=1)], asked)
    assert found["inverse"].tolist() == [is_steady(Point(STEEP, "inverse", x[0]), "inverse"), False, True]
    assert found["inverse_log_det"].tolist() == [True, True, is_steady(Point(STEEP, "inverse", x[2]), "inverse_log_det")]
    assert found["other"].all()


def test_an_event_is_steady_if_all_its_entries_are():
    f, events = Independent(STEEP, 1), np.array([[0.1, 0.1], [0.1, STEEP_AT]])
    assert steady([Point(f, "inverse", events, lead=1)], {"inverse": np.full(2, True)})["inverse"].tolist() == [
        is_steady(Point(STEEP, "inverse", np.float64(0.1)), "inverse"), False]


@pytest.mark.parametrize("bars", [{}, {"image_bar": ONE, "log_det_bar": ONE}], ids=["an axis", "points"])
def test_an_event_that_leaves_the_set_of_a_stage_is_judged_apart(bars, monkeypatch):
    f, parted, exact = Chain([SHIFTED, Inverse(Exp())]), [], steadiness.halves
    monkeypatch.setattr(steadiness, "halves", lambda point: parted.append(point) or exact(point))
    z = np.array([4.25, 5.0, NEXT, 6.0, 7.0])
    points = [Point(f, "forward", event, **bars) for event in z] if bars else [Point(f, "forward", z, lead=1)]
    names = ["forward", "vjp.z_bar"] if bars else ["forward", "log_det"]
    found = steady(points, {name: np.full(5, True) for name in names})
    for name in names:
        assert found[name].tolist() == alone(f, "forward", z, name, **bars) == [True, True, False, True, True]
    assert parted and len(parted) < 5


def test_one_of_two_events_that_leaves_the_set_of_a_stage_is_judged_apart():
    f, z = Chain([SHIFTED, Inverse(Exp())]), np.array([NEXT, 5.0])
    assert steady([Point(f, "forward", z, lead=1)], {"forward": np.full(2, True)})["forward"].tolist() == [False, True]


def test_an_event_is_not_steady_for_another_one_that_leaves_the_set_of_a_stage():
    """Below the second event, kappa changes by a seventh, and above it by a ninth; there the first one has no value."""
    f, z = Chain([SHIFTED, Inverse(Exp())]), 3.75 + np.spacing(3.75) * np.array([1.0, 16.0, 18.0])
    for events in (z[[0, 1]], z[[1, 0]], z):
        found = steady([Point(f, "forward", events, lead=1)], {"forward": np.full(len(events), True)})["forward"]
        assert found.tolist() == alone(f, "forward", events, "forward") == list(events == z[2])


@pytest.mark.parametrize("value, kappa, marks", [(2.25, 1.0, True), (2.3125, 1.0, False), (0.0, 1.125, True), (0.0, 1.1875, True),
                                                 (0.5, 1.125, True), (0.5, 1.1875, False), (0.5, 0.8125, False)])
def test_how_far_an_answer_and_its_kappa_may_move(value, kappa, marks):
    """By two units and an eighth of them, and by an eighth of a unit; an answer that stays where it is has not moved."""
    here, near = SimpleNamespace(high=np.float64(8.0), unit=np.float64(1.0)), SimpleNamespace(high=8.0 + value, unit=kappa)
    assert unmoved(here, near) == marks


def test_a_neighbour_that_leaves_the_set_of_a_stage_does_not_count():
    """(z^2 - 1)/2 is steady next to 0, and has no value below."""
    assert is_steady(Point(Chain([SHIFTED, BoxCox(2.0)]), "forward", NEXT), "forward")


def test_an_event_outside_the_set_of_a_stage_is_not_steady():
    f = Chain([SHIFTED, Inverse(Exp())])
    assert not is_steady(Point(f, "forward", np.float64(3.0)), "forward")
    assert steady([Point(f, "forward", np.array([3.0, 5.0]), lead=1)], {"forward": np.full(2, True)})["forward"].tolist() == [False, True]
