"""Which points the certificate asks, and the mistakes that only they can see."""

from __future__ import annotations

import inspect
import sys

import numpy as np
import pytest
from scipy.optimize import elementwise

from refflow.accuracy.drawing import with_opposite_scales
from refflow.core import RandomSource, positive
from refflow.maps.splines import linear_rational_spline
from validation import certify
from validation.certify import PAGES, allowed, errors, sides
from validation.kinds import GENERATORS
from validation.points import LOOSE, OPPOSITE, SWITCH, SWITCH_IMAGE, Draw, beside, points
from validation.solvers import EXACT, solver_of
from validation.switches import between, switches


def draw(name, dtype="float64", side="forward"):
    page = PAGES[name]
    return GENERATORS.get(page.kind, Draw)(page, dtype, side)


def exceeded(asked):
    """The quantities whose errors exceed their allowances at some of the points."""
    return {name for point in asked for name, (C, _) in errors(point).items() if C is not None and C > allowed(point, name)}


def planted(monkeypatch, owner, name, text, bug):
    """A function of a module, or of a page, in which another text stands."""
    function = inspect.unwrap(vars(owner)[name])
    source = inspect.cleandoc("\n" + inspect.getsource(function))
    assert text in source
    module, found = sys.modules[function.__module__], {}
    exec(compile(source.replace(text, bug), module.__file__, "exec"), vars(module), found)      # noqa: S102
    monkeypatch.setattr(owner, name, found[name])


# -- opposite scales --------------------------------------------------------------------------------------------------

def sum_of_logarithms(values):
    return np.log(np.abs(values)).sum(-1)


@pytest.mark.parametrize("name", ["PLULinear", "ActNorm", "BatchNorm", "GlowActNorm", "DiagonalNormal",
                                  "FullNormal"])
def test_a_sum_of_logarithms_is_seen_where_it_cancels(name, monkeypatch):
    module = sys.modules[PAGES[name].__module__]
    module = module if hasattr(module, "log_abs_product") else sys.modules["refflow.maps.densities.entries"]
    asked = [point for point in points(PAGES[name], "float64", "forward") if point.reason == OPPOSITE or point.case == "Opposite"]
    assert asked and not exceeded(asked)
    monkeypatch.setattr(module, "log_abs_product", sum_of_logarithms)
    assert exceeded(asked) & {"log_det", "log_prob"}


def test_opposite_scales_have_the_product_1_and_keep_their_signs():
    f = PAGES["PLULinear"]([0, 1, 2, 3], np.zeros((4, 4)), np.zeros((4, 4)), [1.0, -1.0, 1.0, 1.0])
    scaled = with_opposite_scales(f, RandomSource(np.random.default_rng(0)), 60).scale
    assert np.abs(scaled.prod() + 1) < 1e-15 and scaled[1] < 0 and np.abs(np.log2(np.abs(scaled))).max() > 8
    assert positive.scalable


# -- switches ---------------------------------------------------------------------------------------------------------

def beside_switches(name, side):
    return [point for point in draw(name, "float64", side).switch_points()]


@pytest.mark.parametrize("function, text, bug, side", [
    ("image_below_middle", "near = np.abs(found) <= 2.0**-10 * (left + right)", "near = np.abs(found) <= 0", "inverse"),
    ("below_middle", "near = np.abs(found) <= NEAR * np.finfo(z.dtype).eps * (np.abs(z_0) + np.abs(z_1))",
     "near = np.abs(found) <= 0", "forward")])
def test_a_middle_that_is_rounded_is_seen(function, text, bug, side, monkeypatch):
    asked = beside_switches("LinearRationalSpline", side)
    assert not exceeded(asked)
    planted(monkeypatch, linear_rational_spline, function, text, bug)
    assert exceeded(asked)


@pytest.mark.parametrize("name, side, numbers", [
    ("Tanh", "forward", {-1.0, 1.0}), ("Tanh", "inverse", {-0.5, 0.5}), ("OpenInterval", "forward", {-1.0, 1.0}),
    ("AlphaSigmoid", "forward", {-1.25, -1.0, 1.0, 1.25}), ("ArctanExpScale", "forward", {-1.0, 1.0, 2.0**30})])
def test_a_threshold_of_the_code_is_met_with_the_floats_beside_it(name, side, numbers):
    asked = {float(point.event) for point in beside_switches(name, side) if point.reason == SWITCH}
    for number in numbers:
        assert set(map(float, beside(np.float64(number), np.float64(number)))) <= asked


def test_the_image_of_a_switch_is_met_with_the_floats_beside_it():
    asked = {float(point.event) for point in beside_switches("Tanh", "inverse") if point.reason == SWITCH_IMAGE}
    assert {np.nextafter(np.tanh(1.0), end) for end in (0, 1)} <= asked and len(asked) >= 6


def test_every_comparison_with_a_threshold_is_found():
    """Of one function, with thresholds that no ladder holds, and two of them between two of its numbers."""
    thresholds = [-3.7e5, -1.1e-7, 0.3, 0.31, 2.0, 9e11]
    ladder = np.ldexp(1.0, np.arange(-30, 60, 3))
    from validation.switches import Recording
    made = {}

    def answer(numbers):
        for t in thresholds:
            made["recording"].seen(str(t), numbers <= t)

    from validation import switches as module
    with pytest.MonkeyPatch.context() as patch:
        class There(Recording):
            def __init__(self):
                super().__init__()
                made["recording"] = self
        patch.setattr(module, "Recording", There)
        found = switches(answer, np.concatenate((-ladder[::-1], ladder)), RandomSource(np.random.default_rng(0)))
    assert found == {str(t): [(t, np.nextafter(t, np.inf))] for t in thresholds}


def test_code_is_as_before_after_a_search():
    functions = [PAGES["Tanh"].log_det, linear_rational_spline.below_middle]
    before = [inspect.unwrap(f).__code__ for f in functions]
    beside_switches("Tanh", "forward")
    assert [inspect.unwrap(f).__code__ for f in functions] == before
    assert not [name for name in vars(linear_rational_spline) if name.startswith("__seen")]


def test_floats_between():
    found = between(np.float32(-2e-45), np.float32(1e-45))
    assert found.dtype == np.float32 and (np.diff(found) > 0).all() and 0 in found and len(found) == 3 or len(found) == 4
    assert len(between(np.float64(-1.0), np.float64(1e300))) == 33


# -- solvers ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["SumOfSquares", "BernsteinPolynomial"])
def test_a_solver_that_is_content_too_early_is_seen(name, monkeypatch):
    asked = [point for point in points(PAGES[name], "float64", "inverse") if point.reason == LOOSE or point.case == "Loose"]
    assert asked and not exceeded(asked)
    with solver_of(1e-7):
        assert exceeded(asked)


def test_points_do_not_depend_on_how_the_page_solves():
    asked = [point.event.tolist() for point in draw("SumOfSquares", side="inverse").solver_points()]
    with solver_of(1e-3):
        assert [point.event.tolist() for point in draw("SumOfSquares", side="inverse").solver_points()] == asked
    assert elementwise.find_root.__module__.startswith("scipy") and EXACT > 2.0**-52


# -- every page -------------------------------------------------------------------------------------------------------

def test_pages_of_all_kinds_have_points_at_their_switches():
    for name in ("Softplus", "SiLU", "RationalQuadraticSpline", "WeibullCDF", "StickBreaking", "ReLU", "SoftplusScale",
                 "VolumePreservingCoupling", "RelativeAttention", "SoftmaxKnots"):
        assert beside_switches(name, "forward"), name
    assert all(certify.points(PAGES[name], "float32", sides(PAGES[name])[-1]) for name in ("Tanh", "DiagonalNormal"))
