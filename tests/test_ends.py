"""The truth at the finite ends of sets, where events may lie: a limit."""

import numpy as np
import pytest
from flint import arb

from refflow import Exp, NormalCDF, Power, Sigmoid, Softsign, WeibullCDF
from refflow.accuracy.drawing import Point
from refflow.truth.ends import INFINITE, is_end, limit_of, truth_at_end
from refflow.truth.engine import TruthNotFound
from refflow.truth.measure import problem
from validation import certify
from validation.points.drawn import Draw


def limits(f, side, event, *bars):
    found = truth_at_end(problem(f), f, side, np.float64(event), tuple(map(np.float64, bars)))
    return {name: float(quantity.value[0].mid()) for name, quantity in found.items()}


def infinite(value):
    return float(np.sign(value) * np.inf) if abs(value) > 1e308 else value


def test_known_limits():
    """x^(1/2) at 0; log x at 0; and the logit at 1, whose log-det's derivative is infinite, too."""
    root = limits(Power(0.5), "forward", 0, 1.0, 0.0)
    assert root["forward"] == 0 and infinite(root["jacobian"]) == np.inf and infinite(root["vjp.exponent_bar"]) == 0
    assert infinite(limits(Exp(), "inverse", 0, 1.0, 0.0)["inverse"]) == -np.inf
    logit = limits(Sigmoid(), "inverse", 1, 0.0, 1.0)
    assert infinite(logit["inverse"]) == infinite(logit["inverse_vjp.x_bar"]) == np.inf


def test_an_infinite_sum_of_two_terms_has_no_limit_here():
    """At x = 1, -y^0.037 outgrows 1.15 only where 1 - x < exp(-10^30): numbers up to 1 - 2^-1000 tell the other sign."""
    f = WeibullCDF(0.12021294981241226, 0.9642550349235535)
    with pytest.raises(TruthNotFound, match="inverse_vjp.x_bar") as partly:
        truth_at_end(problem(f), f, "inverse", np.float64(1), (np.float64(-0.62865), np.float64(1.15)))
    assert "inverse_vjp.x_bar" not in partly.value.settled and "inverse" in partly.value.settled


def test_a_finite_limit_has_its_unit():
    """z_bar of z^1 at 0 is x_bar; of the log-det with exponent 1 it is 0."""
    assert limits(Power(1.0), "forward", 0, 1.25, 0.0)["vjp.z_bar"] == 1.25
    assert limits(Power(1.0), "forward", 0, 0.0, 1.25)["vjp.z_bar"] == 0


@pytest.mark.parametrize("numbers, expected", [
    ((1, 4, 16), INFINITE), ((-1, -4, -16), -INFINITE), ((5, 2, -10), -INFINITE), ((9, 3, 1), 0), ((2, 2.25, 2.5), None),
    ((7, 3, 3), 3), ((1, 2, 3), None)])
def test_three_numbers_tell_a_limit_or_nothing(numbers, expected):
    found = limit_of(*map(arb, numbers))
    assert found is None if expected is None else found == expected


def test_ends_are_whole_numbers_of_closed_forms():
    assert is_end(Power(2.0), "forward", 0.0) and not is_end(Power(2.0), "forward", 1.0)
    assert not is_end(Sigmoid(), "forward", -np.inf)
    assert is_end(Sigmoid(), "inverse", np.float32(1)) and not is_end(Sigmoid(), "inverse", 0.5)


def points_at_ends(page, side="inverse"):
    draw = Draw(page, "float64", side)
    return [point for point in (*draw.hard_points(), *draw.limit_points()) if is_end(point.f, point.side, point.event)]


@pytest.mark.parametrize("page", [NormalCDF, Softsign, Power])
def test_certified_at_ends(page):
    found = points_at_ends(page)
    assert len(found) >= 9
    for point in found[:6]:
        assert all(C is None or C <= 4 for C, _ in certify.errors(point).values())


def test_a_planted_nan_at_an_end_is_found(monkeypatch):
    """x_bar of Softsign as it is written in (8): 0/0 at an end, where z_bar is 0."""
    def inverse_vjp(self, x):
        c = 1 - np.abs(x)
        return self.inverse_and_log_det(x), lambda z_bar, log_det_bar: ((z_bar / c + 2 * log_det_bar * np.sign(x)) / c, {})

    point = Point(Softsign(), "inverse", np.float64(1), np.float64(0), np.float64(1))
    assert certify.errors(point)["inverse_vjp.x_bar"][0] == 0
    planted = type("Softsign", (Softsign,), {"inverse_vjp": inverse_vjp})
    with np.errstate(all="ignore"):
        assert not certify.errors(point.changed(f=planted())).get("inverse_vjp.x_bar", (np.inf,))[0] <= 4
