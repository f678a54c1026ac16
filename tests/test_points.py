"""Which points the certificate asks, and the mistakes that only they can see."""

from __future__ import annotations

import ast
import inspect
import re
import sys

import numpy as np
import pytest

from refflow import Chain, Exp, Independent, Inverse, LinearRationalSpline
from refflow.accuracy.drawing import Point, with_opposite_scales
from refflow.accuracy.switches import between
from refflow.core import RandomSource, positive, real
from refflow.maps.autoregressive import block_autoregressive
from refflow.maps.conditioners import BlockDense
from refflow.maps.elementwise import solve
from refflow.maps.splines import linear_rational_spline
from validation import certify
from validation.certify import PAGES, allowed, errors, sides
from validation.points.kinds import GENERATORS
from validation.points.drawn import OPPOSITE, SWITCH, SWITCH_IMAGE, Draw, beside
from validation.points.solvers import solver_of
from validation.points.switches import modules_of, switches


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
    drawn = draw(name)
    asked = [point for point in drawn.hard_points() if point.case == "Opposite"] or list(drawn.opposite_points())
    assert asked and not exceeded(asked)
    monkeypatch.setattr(module, "log_abs_product", sum_of_logarithms)
    assert exceeded(asked) & {"log_det", "log_prob"}


@pytest.mark.parametrize("name", ["PLULinear", "DenseLinear", "ActNorm", "BatchNorm", "GroupedLinear", "FullNormal",
                                  "NormalMixture"])
def test_pages_with_scales_meet_opposite_ones(name):
    asked = [point for point in draw(name).opposite_points() if point.reason == OPPOSITE]
    assert len(asked) >= 8 and (name == "GroupedLinear" or {point.event.shape[0] for point in asked} == {4, 8})


def test_opposite_scales_nearly_cancel_and_keep_their_signs():
    f = PAGES["PLULinear"]([0, 1, 2, 3], np.zeros((4, 4)), np.zeros((4, 4)), [1.0, -1.0, 1.0, 1.0])
    scaled = with_opposite_scales(f, RandomSource(np.random.default_rng(0)), 60).scale
    assert 1 / 4 <= -scaled.prod() <= 1 and scaled[1] < 0 and (np.abs(np.log2(np.abs(scaled))) >= 45).all()
    assert positive.scalable and not real.scalable


# -- switches ---------------------------------------------------------------------------------------------------------

def beside_switches(name, side):
    return [point for point in draw(name, "float64", side).switch_points()]


def test_a_middle_that_is_rounded_is_seen(monkeypatch):
    """In one of eleven splines rounding takes a float for one on the other side of a middle; in one of four hundred it shows."""
    asked = [point for point in draw("LinearRationalSpline", side="inverse").hard_points() if point.case == "RoundedMiddle"]
    assert not exceeded(asked)
    planted(monkeypatch, linear_rational_spline, "image_below_middle", "near = np.abs(found) <= 2.0**-10 * (left + right)",
            "near = np.abs(found) <= 0")
    assert "inverse_vjp.slopes_bar" in exceeded(asked)


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


class Counted:
    """A page's method, as far as a search asks it: comparisons with thresholds."""

    def __init__(self, thresholds):
        self.thresholds = thresholds

    def __enter__(self):
        return self

    def __exit__(self, *of):
        pass

    def __call__(self, numbers):
        self.results = {str(t): [(numbers <= t)[:, None]] for t in self.thresholds}


def test_thresholds_between_the_numbers_of_a_ladder_are_found(monkeypatch):
    """Two of them between the same two numbers."""
    asked = Counted([-3.7e5, -1.1e-7, 0.3, 0.31, 2.0, 9e11])
    monkeypatch.setattr("validation.points.switches.recording", lambda modules: asked)
    ladder = np.ldexp(1.0, np.arange(-30, 60, 3))
    found = switches(asked, [-ladder[::-1], ladder], RandomSource(np.random.default_rng(0)))
    assert found == {str(t): [(t, np.nextafter(t, np.inf))] for t in asked.thresholds}


def test_switches_are_sought_in_the_code_of_components_and_of_what_it_imports():
    spline = LinearRationalSpline([-1.0, 0, 1], [-1.0, 0, 1], [1.0, 1, 1], [0.5, 0.5])
    found = set(modules_of(Chain((Independent(Exp(), 1), Independent(Inverse(spline), 1)))))
    assert {f"refflow.maps.{name}" for name in ("elementwise.exp", "splines.linear_rational_spline", "splines.bins")} <= found


def test_code_is_as_before_after_a_search():
    functions = [PAGES["Tanh"].log_det, linear_rational_spline.below_middle]
    before = [inspect.unwrap(f).__code__ for f in functions]
    beside_switches("Tanh", "forward")
    assert [inspect.unwrap(f).__code__ for f in functions] == before
    assert not [name for name in vars(linear_rational_spline) if name.startswith("__seen")]


def test_floats_between():
    found = between(np.float32(-2e-45), np.float32(1e-45))
    assert found.dtype == np.float32 and found.tolist() == [n * float(np.finfo(np.float32).smallest_subnormal) for n in (-1, 0, 1)]
    assert len(between(np.float64(-1.0), np.float64(1e300))) == 33


@pytest.mark.parametrize("name, dtype", [("SoftplusScale", "float32"), ("AddedContext", "float64")])
def test_a_kink_that_rounding_moves_past_an_event_is_not_an_error(name, dtype):
    """There kappa is not of the first order, of a scale or of a network as of a bijector."""
    assert not exceeded(draw(name, dtype).switch_points())


# -- solvers ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["SumOfSquares", "BernsteinPolynomial"])
def test_a_solver_that_is_content_too_early_is_seen(name, monkeypatch):
    drawn = draw(name, side="inverse")
    asked = [point for point in drawn.hard_points() if point.case == "Plateau"] or list(drawn.solver_points())
    assert asked and not exceeded(asked)
    with solver_of(1e-7):
        assert exceeded(asked)


@pytest.mark.parametrize("name, case, text, bug", [
    ("BernsteinPolynomial", "Plateau", "v = v - (v * combined(terms, v, 1 - v) - level) / rise", "v = v + 0.0"),
    ("SumOfSquares", "Root", "return Letters(a, d, newton_step(v.z, (v.z * v.mean_slope() - (pair(x) - t)) / v.g))", "return v")])
def test_newtons_step_is_needed(name, case, text, bug, monkeypatch):
    asked = [point for point in draw(name, side="inverse").hard_points() if point.case == case]
    assert asked and not exceeded(asked)
    planted(monkeypatch, PAGES[name], "root", text, bug)
    assert exceeded(asked)


def test_points_do_not_depend_on_the_width_that_a_page_asks_for(monkeypatch):
    asked = [point.event.tolist() for point in draw("SumOfSquares", side="inverse").solver_points()]
    planted(monkeypatch, solve, "increasing_root", "np.nextafter(limits.eps, lower.dtype.type(1))", "1e-7")
    found = draw("SumOfSquares", side="inverse").solver_points()
    assert asked and [point.event.tolist() for point in found] == asked


# -- later rows -------------------------------------------------------------------------------------------------------

def test_rows_after_the_next_one_are_met(monkeypatch):
    """Of a block autoregressive map whose first entry reaches the last one beside the second; its examples have two entries."""
    f = block_autoregressive.BlockAutoregressive((
        BlockDense([[[1.5]], [[0.75]], [[1.25]]], [[0.0] * 3, [0.5, 0.0, 0.0], [-1.0, 0.75, 0.0]], [0.25, -0.5, 0.125]),
        BlockDense([[[0.75]], [[1.25]], [[1.5]]], [[0.0] * 3, [-0.5, 0.0, 0.0], [1.0, -0.25, 0.0]], [0.5, 0.0, -0.25])), 0.25)
    asked = [Point(f, "inverse", np.array([0.75, -0.5, 1.5]), np.array([1.0, -0.5, 0.25]), np.array(0.5), "", "")]
    assert not exceeded(asked)
    planted(monkeypatch, block_autoregressive.EntryPullback, "__init__", "slice((d + 1) * A, None)",
            "slice((d + 1) * A, (d + 2) * A)")
    assert "inverse_vjp.x_bar" in exceeded(asked)


# -- every page -------------------------------------------------------------------------------------------------------

def test_pages_of_all_kinds_have_points_at_their_switches():
    for name in ("Softplus", "SiLU", "RationalQuadraticSpline", "WeibullCDF", "StickBreaking", "ReLU", "SoftplusScale",
                 "RelativeAttention", "SoftmaxKnots", "DeepSigmoid"):
        assert beside_switches(name, "forward"), name
    assert all(certify.points(PAGES[name], "float32", sides(PAGES[name])[-1]) for name in ("Tanh", "DiagonalNormal"))


# -- the values of plain fields -------------------------------------------------------------------------------------------

ELSEWHERE = {"ClampedExpScale": {"straight_through"},           # is a surrogate of the gradient
             "BatchNorm": {"statistics", "unbiased"}}           # change what training keeps, not the map


def choices(rule):
    """The values that a rule allows, if they are a few."""
    if rule.text == "be True or False":
        return {False, True}
    words, numbers = re.fullmatch(r"be one of (\(.*\))", rule.text), re.fullmatch(r"be ([\d, ]+) or (\d+)", rule.text)
    return set(ast.literal_eval(words[1])) if words else set(map(int, re.findall(r"\d+", rule.text))) if numbers else set()


def never_asked(page):
    """{field: values} that stand in no hard case of a page, and that its examples do not draw."""
    plain = {name: choices(field.rule) for name, field in page.declared.items() if getattr(field, "rule", None)}
    drawn = [page.examples(RandomSource(np.random.default_rng(seed)))[0] for seed in range(20)] if page.examples else []
    asked = {name: {page.declared[name].default, *(of.params.get(name) for of in page.hard_cases),
                    *(getattr(f, name) for f in drawn)} for name in plain}
    return {name: values - asked[name] for name, values in plain.items() if values - asked[name]}


@pytest.mark.parametrize("name", PAGES)
def test_every_value_of_a_plain_field_is_asked(name):
    """A field that chooses among a few words, numbers or answers has each of them at a point of the certificate."""
    assert set(never_asked(PAGES[name])) == ELSEWHERE.get(name, set())


def test_a_value_that_is_not_asked_is_found(monkeypatch):
    page = PAGES["IntrinsicVolume"]
    monkeypatch.setattr(page, "hard_cases", tuple(of for of in page.hard_cases if of.params.get("where") != "zero_sum"))
    assert never_asked(page) == {"where": {"zero_sum"}}
