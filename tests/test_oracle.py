"""The oracle: right code passes, each kind of wrong code is caught and named, missing quantities are skipped."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy

import refflow
from refflow.accuracy.drawing import Point
from refflow.accuracy.quantities import truth_name
from refflow.core import Bijector, bijector, real
from refflow.oracle import CannotRun, adapter, check
from refflow.oracle.asking.adapter import load
from refflow.oracle.points import golden
from refflow.oracle.points.page_points import Truth, drawn_points, is_derivative, names_of_derivatives, run_time_truth
from refflow.oracle.points.pages import bijectors
from refflow.report import plain

REGISTRY = bijectors()
GOLDEN = golden.DIRECTORY


def right(name):
    """A page presented as somebody else's complete code."""

    def mine(params, z):
        f = REGISTRY[name](**params)
        (x, log_det), pullback = f.vjp(z)
        return {"forward": x, "log_det": log_det, "jacobian": f.jacobian(z), "vjp": pullback, "inverse": f.inverse,
                "inverse_log_det": lambda x: f.inverse_and_log_det(x)[1],
                "inverse_vjp": lambda x, z_bar, log_det_bar: f.inverse_vjp(x)[1](z_bar, log_det_bar)}

    return mine


def planted(name, key, wrong, dtype="float64"):
    """The report on a page with one quantity replaced by `wrong(f, z)`; everything else is refflow's own."""

    def mine(params, z):
        f = REGISTRY[name](**params)
        found = {"forward": f.forward(z), "log_det": f.log_det(z)}
        found[key] = (lambda x: wrong(f, x)) if key.startswith("inverse") else wrong(f, z)
        return found

    return check(adapter(name, dtype=dtype)(mine))


# -- right code -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["Affine", "Tanh", "DenseLinear", "StickBreaking", "ActNorm"])
def test_right_code_passes_in_everything(name):
    report = check(adapter(name, broadcast=True)(right(name)))
    assert report.status == 0 and not report.failed and not report.skipped, report.table()
    quantities = {p.quantity for p in report.passed}
    assert {"forward", "log_det", "jacobian", "vjp.z_bar", "inverse", "inverse_log_det", "inverse_vjp.x_bar"} <= quantities
    assert {p.dtype for p in report.passed} == {"float32", "float64"}


def test_code_that_runs_the_other_way():
    def mine(params, x):
        return {"forward": np.log(x), "log_det": -np.log(x), "inverse": np.exp, "inverse_log_det": lambda z: z}

    report = check(adapter("Exp", direction="inverse")(mine))
    assert not report.failed
    assert {p.quantity for p in report.passed} == {"forward", "log_det", "inverse", "inverse_log_det"}


def test_the_direction_matters():
    report = check(adapter("Exp", dtype="float64")(lambda params, z: {"forward": np.log(np.abs(z)), "log_det": -z}))
    assert {f.quantity for f in report.failed} == {"forward", "log_det"}


@pytest.mark.parametrize("factor, failed", [(1.0, []), (1.001, ["inverse"])])
def test_an_inverse_given_as_values_belongs_to_its_own_image(factor, failed):
    def mine(params, z):
        x = np.tanh(z)
        return {"forward": x, "inverse": np.arctanh(x) * factor}

    report = check(adapter("Tanh", dtype="float64")(mine))
    assert [f.quantity for f in report.failed] == failed
    assert {f.quantity for f in report.failed + report.passed} == {"forward", "inverse"}


def test_a_composite_is_checked_with_its_own_parameters():
    f = refflow.Chain([refflow.Affine(shift=0.5, scale=0.75), refflow.Softplus()])

    def mine(params, z):
        p = params["stages"]["0"]
        y = p["scale"] * z + p["shift"]
        return {"forward": np.logaddexp(0, y).astype(z.dtype),
                "log_det": (np.log(p["scale"]) - np.logaddexp(0, -y)).astype(z.dtype)}

    report = check(adapter(f)(mine))
    assert {p.quantity for p in report.passed} == {"forward", "log_det"} and not report.failed
    assert report.passed[0].bijector == "Chain(Affine, Softplus)"


# -- quantities that are not measured ---------------------------------------------------------------------------------

def test_what_is_not_returned_is_skipped_by_name():
    report = check(adapter("Affine", dtype="float32")(lambda params, z: {"forward": params["scale"] * z + params["shift"]}))
    assert {p.quantity for p in report.passed} == {"forward"}
    assert {s.quantity for s in report.skipped} == {
        "log_det", "jacobian", "vjp.z_bar", "vjp.shift_bar", "vjp.scale_bar", "inverse", "inverse_log_det",
        "inverse_vjp.x_bar", "inverse_vjp.shift_bar", "inverse_vjp.scale_bar"}
    assert {s.reason for s in report.skipped} == {"not returned"}


def test_nothing_returned_is_not_a_pass():
    report = check(adapter("Tanh", dtype="float32")(lambda params, z: {}))
    assert report.status == 2 and not report.passed


def test_limits_are_kept():
    seen = []

    def mine(params, z):
        seen.append(float(params["exponent"]))
        return {"forward": z ** params["exponent"]}

    assert not check(adapter("Power", dtype="float64", params={"exponent": lambda a: a > 1})(mine)).failed
    assert seen and min(seen) > 1


def test_a_batch_of_parameters_is_asked_within_its_limits():
    """Rows outside the limits give way to one inside: such points had been dropped without a word."""
    seen = []

    def mine(params, z):
        seen.append(params["scale"])
        return {"forward": params["shift"] + z * params["scale"]}

    function = adapter("Affine", dtype="float64", broadcast=True, params={"scale": lambda s: s > 0})(mine)
    report = check(function)
    assert not report.failed and all((scale > 0).all() for scale in seen)
    assert any("points are outside the limits" in note for note in report.notes)
    declared, z = load(function).adapters[0], np.ones(3)
    limited = declared.limited(Point(refflow.Affine(shift=[1.0, 2.0, 3.0], scale=[-1.0, 4.0, 5.0]), "forward", z))
    assert limited.f.scale.tolist() == [4.0, 4.0, 5.0] and limited.f.shift.tolist() == [2.0, 2.0, 3.0]
    outside = Point(refflow.Affine(shift=[0.0, 3.0], scale=[-1.0, -4.0]), "forward", z[:2])
    limited = declared.limited(outside)
    assert limited.f.scale.tolist() == 1.0 and limited.f.shift.tolist() == [0.0, 3.0]
    assert replace(declared, params={"scale": lambda s: s > 10}).limited(outside) is None


WRONG_USE = [
    (lambda params, z: {"forwards": z}, {}, "an unknown key 'forwards'; did you mean 'forward'?"),
    (lambda params, z: None, {}, "returned NoneType, not a dictionary"),
    (lambda params, z: {"forward": params["exponet"]}, {}, "the adapter itself raised KeyError: 'exponet' (line "),
    (lambda params, z: {"inverse": lambda x: np.arctan_h(x)}, {}, "the adapter itself raised AttributeError"),
    (lambda params, z: {"forward": z}, {"params": {"exponent": lambda a: a > nobody}}, "its limit of exponent raised NameError"),
]


@pytest.mark.parametrize("mine, declared, words", WRONG_USE, ids=[words for *_, words in WRONG_USE])
def test_a_mistake_of_the_adapter_is_an_error_of_use(mine, declared, words):
    with pytest.raises(CannotRun) as refused:
        check(adapter("Power", dtype="float64", **declared)(mine))
    assert words in str(refused.value)


def test_an_exception_of_their_library_is_a_finding():
    report = check(adapter("Power", dtype="float64")(lambda params, z: {"forward": np.linalg.inv(np.zeros((2, 2)))}))
    assert report.failed[0].diagnosis == "raised LinAlgError: Singular matrix"


def test_entries_that_are_always_zero_are_not_inputs():
    """A library may return anything for the cotangents of entries above a diagonal."""
    def mine(params, z):
        f = refflow.PLULinear(**params)
        (x, _), pullback = f.vjp(z)

        def vjp(x_bar, log_det_bar):
            z_bar, bars = pullback(x_bar, log_det_bar)
            return z_bar, bars | {"lower": bars["lower"] + np.triu(np.ones_like(bars["lower"]))}

        return {"forward": x, "vjp": vjp}

    report = check(adapter("PLULinear", dtype="float64")(mine))
    assert not report.failed and "vjp.lower_bar" in {p.quantity for p in report.passed}


def test_hardware_without_subnormal_numbers_may_say_so():
    def flushed(a):
        return np.where(np.abs(a) < np.finfo(a.dtype).tiny, 0, a)

    def report(**declared):
        return check(adapter("Exp", dtype="float64", **declared)(lambda params, z: {"forward": flushed(np.exp(z))}))

    assert report().failed
    assert not report(flush_to_zero=True).failed


# -- wrong code -------------------------------------------------------------------------------------------------------

def float32_constant(f, z):
    t = (z - f.loc) / f.scale
    return -t * t / 2 - np.log(f.scale) - np.float64(np.float32(0.9189385332046727))


def clipped_sigmoid(f, z):
    limits = np.finfo(z.dtype)
    return np.clip(f.forward(z), limits.tiny, 1 - limits.eps)


def without_positions(f, z):
    return f.log_det(z) / np.prod(z.shape[z.ndim - f.rank + 1:])


WRONG = {
    "negated": ("Softplus", "log_det", lambda f, z: -f.log_det(z)),
    "doubled": ("Softplus", "log_det", lambda f, z: 2 * f.log_det(z)),
    "halved": ("Affine", "forward", lambda f, z: f.forward(z) / 2),
    "the log-det of the other direction": ("Exp", "inverse_log_det", lambda f, x: np.log(x)),
    "the other direction's log-det": ("Power", "log_det", lambda f, z: f.inverse_and_log_det(z)[1]),
    "at the image": ("Tanh", "log_det", lambda f, z: f.log_det(f.forward(z))),
    "not summed over the event: the mean": ("StickBreaking", "log_det", lambda f, z: f.log_det(z) / z.shape[-1]),
    "number of positions is missing: T": ("ActNorm", "log_det", without_positions),
    "transposed matrix: right for the transpose of W": (
        "DenseLinear", "forward", lambda f, z: np.matvec(np.swapaxes(f.W, -1, -2), z) + f.shift),
    "transposed matrix": ("DenseLinear", "jacobian", lambda f, z: np.swapaxes(f.jacobian(z), -1, -2)),
    "float32 constant": ("NormalCDF", "log_det", float32_constant),
    "computed in float32": ("Sigmoid", "log_det", lambda f, z: f.log_det(np.clip(z, -1e38, 1e38).astype(np.float32))),
    "clipped tail": ("Sigmoid", "forward", clipped_sigmoid),
    "0, where the truth is about": ("Softplus", "log_det", lambda f, z: np.where(z > 30, 0, f.log_det(z))),
    "saturated": ("Sigmoid", "forward", lambda f, z: np.where(z > 5, 1.0, f.forward(z))),
    "asymptote": ("Softplus", "forward", lambda f, z: np.where(z > 20, z, f.forward(z))),
    "NaN": ("Sigmoid", "forward", lambda f, z: np.exp(z) / (1 + np.exp(z))),
    "": ("Tanh", "log_det", lambda f, z: 2 * (np.log(2) - z - np.logaddexp(0, -2 * z))),
}


@functools.cache
def wrong_report(kind):
    return planted(*WRONG[kind])


@pytest.mark.parametrize("kind", WRONG)
def test_each_kind_of_wrong_is_caught_and_named(kind):
    key, report = WRONG[kind][1], wrong_report(kind)
    assert report.status == 1
    assert {f.quantity for f in report.failed} == {key}, report.table()
    found = next((f for f in report.failed if kind in f.diagnosis), None)
    assert found is not None, report.table()
    assert found.error > found.allowed and found.worst >= found.error


@pytest.mark.parametrize("units, findings", [(14, 0), (18, 1)])
def test_sixteen_units_are_allowed(units, findings):
    """An error of so many units u kappa, where kappa = q (1 + |z|), is measured as at most two more, for it is rounded to float32."""
    def mine(params, z):
        exact = np.exp(z.astype(np.float64))
        return {"forward": (exact * (1 + units * 2.0**-24 * (1 + np.abs(z)))).astype(np.float32)}

    report = check(adapter("Exp", dtype="float32")(mine))
    assert len(report.failed) == findings and units < (*report.failed, *report.passed)[0].error < units + 2


@bijector(domain=real, codomain=real, register=False)
class Sinh(Bijector):
    """x = sinh z, whose inverse as log(x + sqrt(x^2 + 1)), here without the loss near 0, cancels for x < 0."""

    def forward(self, z):
        return np.sinh(z)

    def inverse(self, x):
        return np.arcsinh(x)

    def log_det(self, z):
        return np.log(np.cosh(z))

    def slope(self, z):
        return np.cosh(z)

    def vjp(self, z):
        return self.forward_and_log_det(z), lambda x_bar, l_bar: (x_bar * np.cosh(z) + l_bar * np.tanh(z), {})


SCALE_1 = {"scale": lambda scale: scale == 1}
BROADCAST = {                   # a page or a map, its limits, and a log-det of the shape of z alone, or of z and one field
    "a shift alone": ("Affine", SCALE_1, lambda p, z, x: np.zeros(z.shape)),
    "a map with a shift of three rows": (refflow.Affine(shift=[0.5, -1.0, 2.0]), {}, lambda p, z, x: np.zeros(z.shape)),
    "z and scale": ("Affine", {}, lambda p, z, x: np.log(np.abs(p["scale"])) * np.ones(z.shape)),
    "shift and scale": ("Affine", {}, lambda p, z, x: np.log(np.abs(p["scale"] + 0 * p["shift"]))),
    "a sum over an axis of the rows": ("Affine", {}, lambda p, z, x: np.log(np.abs(p["scale"])).mean() * np.ones(x.shape)),
}


@pytest.mark.parametrize("kind", BROADCAST)
def test_fields_of_other_shapes_are_broadcast(kind):
    page, limits, log_det = BROADCAST[kind]

    def wrong(p, z):
        x = p["scale"] * z + p["shift"]
        return {"forward": x, "log_det": log_det(p, z, x)}

    def right(p, z):
        x = p["scale"] * z + p["shift"]
        return {"forward": x, "log_det": np.log(np.abs(p["scale"])) * np.ones(x.shape)}

    failed = check(adapter(page, broadcast=True, params=limits)(wrong)).failed
    assert {found.quantity.split()[0] for found in failed} == {"log_det"}
    report = check(adapter(page, broadcast=True, params=limits)(right))
    assert not report.failed and {passed.quantity for passed in report.passed} == {"forward", "log_det"}


@pytest.mark.parametrize("name", ["CircularShift", "LinearSpline"])
def test_a_page_whose_ends_are_fields_is_asked_with_rows_of_them(name):
    """Its sets have ends of their own for each row."""
    assert not check(adapter(name, broadcast=True, dtype="float32")(right(name))).failed


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("key", ["forward", "inverse"])
def test_both_zeros_are_asked(key, sign):
    """The map may be wrong at one number alone, where no golden point lies."""
    def mine(params, z):
        f = refflow.SinhArcsinh(**params).astype(z.dtype)
        wrong = {key: lambda z: np.where((z == 0) & (np.copysign(1, z) == sign), 1.0, getattr(f, key)(z))}
        return {key: wrong[key](z) if key == "forward" else wrong[key]}

    assert {found.quantity for found in check(adapter("SinhArcsinh")(mine)).failed} == {key}


def test_two_symptoms_of_a_quantity_are_two_findings():
    def wrong(f, z):
        return np.where(np.abs(z) > 8, -np.inf, np.where(np.abs(z) < 1e-3, 0, f.log_det(z)))

    report = planted("Tanh", "log_det", wrong)
    assert {f.quantity for f in report.failed} == {"log_det"}
    assert [f.diagnosis.split(",")[0] for f in report.failed] == ["infinite where the truth is finite", "0"]


def test_a_missing_sum_is_not_called_halved():
    f = refflow.Independent(refflow.Affine(shift=0.5, scale=-1.5), 1)

    def mine(params, z):
        inner = refflow.Affine(**params["inner"])
        (x, log_det), pullback = inner.vjp(z)

        def vjp(x_bar, log_det_bar):
            z_bar, bars = pullback(x_bar, np.full(z.shape, log_det_bar / z.size))
            return z_bar, {"inner": bars}

        return {"forward": x, "log_det": log_det.sum(-1), "vjp": vjp}

    report = check(adapter(f, dtype="float64")(mine))
    assert [(one.quantity, one.diagnosis) for one in report.failed] == [
        ("vjp.inner.scale_bar", "not summed over the event: the cotangent of one term")]


def test_a_page_is_not_diagnosed_against_itself(monkeypatch):
    """refflow's own pages are compared only with golden truth."""
    def asked(*args, **given):
        raise AssertionError("the page was asked for the truth of itself")

    for module, name in (("check", "run_time_truths"), ("naming.diagnosis", "run_time_truth"), ("judging.steadiness", "run_time_truth")):
        monkeypatch.setattr(sys.modules[f"refflow.oracle.{module}"], name, asked)
    monkeypatch.setattr(refflow.Tanh, "log_det", lambda self, z: 2 * (np.log(2) - z - np.logaddexp(0, -2 * z)))
    report = check(page="Tanh")
    assert report.failed and {truth_name(found.quantity) for found in report.failed} == {"log_det"}
    assert any(found.diagnosis for found in report.failed)


def test_a_mistake_that_is_not_known_is_not_named():
    """A logarithm of a single branch loses digits on one side, which no function of the truth says."""
    def mine(params, z):
        return {"forward": np.sinh(z), "inverse": lambda x: np.log1p(x + x * (x / (1 + np.hypot(1, x))))}

    found = check(adapter(Sinh(), dtype="float64")(mine)).failed
    assert {f.quantity for f in found} == {"inverse"}
    assert any(f.input < 0 for f in found) and not any("branch" in f.diagnosis for f in found)


def test_the_input_shown_is_the_simplest_that_fails():
    found = wrong_report("asymptote").failed[0]
    assert found.params == {} and found.input == 21.0
    found = planted("Affine", "log_det", lambda f, z: f.log_det(z) + (np.abs(f.scale) > 8)).failed[0]
    assert found.params["shift"] == 0.0 and 8 < abs(found.params["scale"]) <= 10 and found.input in (0.0, 0.25, 1.0)


def test_the_input_shown_reproduces_the_error():
    found = json.loads(wrong_report("").to_json())["failed"][0]
    z = np.asarray(found["input"])
    assert refflow.Tanh(**found["params"]).log_det(z) == pytest.approx(found["true"], rel=1e-15)
    assert WRONG[""][2](None, z) == found["given"] != found["true"]


def test_float32_inputs_are_shown_with_the_digits_of_float32():
    found = planted("Power", "forward", lambda f, z: f.forward(z) * np.float32(1.01), "float32").failed[0]
    assert float(np.float32(found.input)) == found.input or len(repr(found.input)) <= 13


@pytest.mark.parametrize("name, wrong, quantity, words", [
    ("ActNorm", lambda f, z: f.log_det(z)[..., None] * np.ones(z.shape[-1]), "log_det shape", "wrong shape"),
    ("ActNorm", lambda f, z: np.broadcast_to(np.log(np.abs(f.scale)), z.shape) if f.rank == 1 else f.log_det(z),
     "log_det shape", "not summed over the event"),
    ("Tanh", lambda f, z: f.log_det(z).sum(), "log_det shape", "wrong shape"),
    ("Affine", lambda f, z: f.log_det(z).ravel()[0], "log_det shape", "not broadcast over the batch"),
])
def test_a_wrong_shape_is_a_failure_of_its_own(name, wrong, quantity, words):
    report = planted(name, "log_det", wrong)
    assert quantity in [f.quantity for f in report.failed]
    assert any(words in f.diagnosis for f in report.failed)
    assert "log_det" not in {p.quantity for p in report.passed} | {s.quantity for s in report.skipped}


def test_an_exception_is_a_failure_with_its_message():
    def mine(params, z):
        if params["exponent"] < 0:
            raise NotImplementedError("only increasing maps")
        return {"forward": z ** params["exponent"]}

    report = check(adapter("Power", dtype="float64")(mine))
    assert report.status == 1 and report.failed[0].quantity == "forward"
    assert report.failed[0].diagnosis == "raised NotImplementedError: only increasing maps"
    assert report.failed[0].params["exponent"] < 0


def test_nonsense_is_a_failure():
    report = check(adapter("Tanh", dtype="float64")(lambda params, z: {"forward": "text"}))
    assert report.status == 1 and "dtype <U4" in report.failed[0].diagnosis


def test_wrong_gradients_are_caught():
    def mine(params, z):
        f = refflow.Affine(**params)
        (x, log_det), pullback = f.vjp(z)

        def vjp(x_bar, log_det_bar):
            z_bar, params_bar = pullback(x_bar, log_det_bar)
            return z_bar, params_bar | {"scale": params_bar["scale"] - log_det_bar.sum() / f.scale}

        return {"forward": x, "log_det": log_det, "vjp": vjp}

    report = check(adapter("Affine")(mine))
    assert {(f.quantity, f.dtype) for f in report.failed} == {("vjp.scale_bar", "float32"), ("vjp.scale_bar", "float64")}
    assert set(report.failed[0].cotangents) == {"x_bar", "log_det_bar"}


def test_findings_come_worst_first():
    def mine(params, z):
        return {"forward": np.tanh(z) * 1.001, "log_det": np.where(np.abs(z) > 2, np.nan, refflow.Tanh().log_det(z))}

    report = check(adapter("Tanh", dtype="float64")(mine))
    assert [f.quantity for f in report.failed] == ["log_det", "forward"]


# -- reports ----------------------------------------------------------------------------------------------------------

def test_json_round_trip():
    report = wrong_report("NaN")
    stored = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert {"target", "version", "passed", "failed", "skipped"} <= set(stored)
    found = stored["failed"][0]
    assert {"bijector", "theirs", "quantity", "dtype", "error", "allowed", "conditioning", "input", "params", "given",
            "true", "case", "diagnosis"} <= set(found)
    assert found["error"] == "inf" and found["given"] == "nan"
    assert plain([float("inf"), -float("inf"), {"a": float("nan")}]) == ["inf", "-inf", {"a": "nan"}]


# -- golden points ----------------------------------------------------------------------------------------------------

def test_every_bijector_has_golden_points():
    """That they pass is in the README's own text, which `validation.readme` makes again."""
    assert {name for name in REGISTRY if golden.stored(name)} == set(REGISTRY)


def naive_power(self, z):
    return np.log(np.abs(self.exponent * z ** (self.exponent - 1)))


def naive_normal(self, x):
    """dz/dx as sqrt(2 pi) exp(t^2/2) in the tails too, where this has t^2 times the error of t."""
    (z, log_det), _ = RIGHT_NORMAL(self, x)
    t, scale = (z - self.loc) / self.scale, self.scale

    @np.errstate(all="ignore")
    def pullback(z_bar, log_det_bar):
        reciprocal = np.sqrt(2 * np.pi) * np.exp(t * t / 2)
        return (z_bar * scale + log_det_bar * t) * reciprocal, {"loc": z_bar, "scale": z_bar * t + log_det_bar / scale}

    return (z, log_det), pullback


RIGHT_NORMAL = refflow.NormalCDF.inverse_vjp
ALONE = [("Sigmoid", "inverse", lambda self, x: -np.log(1 / x - 1), "inverse"),
         ("Sigmoid", "forward", lambda self, z: 1 / (1 + np.exp(-z)), "forward"),
         ("Softplus", "forward", lambda self, z: np.where(z > 20, z, np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))), "forward"),
         ("Power", "log_det", naive_power, "log_det"),
         ("NormalCDF", "inverse_vjp", naive_normal, "inverse_vjp.x_bar")]


@pytest.mark.parametrize("name, method, wrong, quantity", ALONE, ids=[f"{name}.{method}" for name, method, *_ in ALONE])
def test_golden_points_see_a_method_that_is_wrong_alone(name, method, wrong, quantity, monkeypatch):
    def planted(self, event):
        with np.errstate(all="ignore"):
            return wrong(self, np.asarray(event))

    assert not check(page=name).failed
    monkeypatch.setattr(refflow.REGISTRY[name], method, planted)
    assert quantity in {truth_name(found.quantity) for found in check(page=name).failed}


def test_golden_points_are_exact():
    points = golden.points("Tanh", ("float64",))
    assert points and all(p.dtype == np.float64 for p in points)
    truth = points[0].truth["forward"]
    assert np.all(np.abs(truth.low) <= np.spacing(np.abs(truth.high)) / 2)


@pytest.mark.parametrize("change, words", [
    (lambda stored: stored | {"schema": "refflow/golden/2"}, "schema 'refflow/golden/2'"),
    (lambda stored: [], "schema None"),
    (lambda stored: stored | {"bijector": "Exp"}, "'Exp'"),
])
def test_golden_points_of_an_unknown_schema_are_refused(tmp_path, change, words):
    stored = json.loads((GOLDEN / "Tanh.json").read_text())
    (tmp_path / "Tanh.json").write_text(json.dumps(change(stored)))
    with pytest.raises(CannotRun, match=words.replace("(", r"\(")):
        golden.points("Tanh", directory=tmp_path)


@pytest.mark.parametrize("name", ["Affine", "DenseLinear", "StickBreaking", "RationalQuadraticSpline", "CorrelationCholesky"])
def test_the_names_of_derivatives_are_known_without_them(name):
    both_sides = {}
    for point in drawn_points(refflow.REGISTRY[name], np.float64):
        both_sides |= {(point.side, point.image_bar is None): point}
    assert len(both_sides) == 4
    for point in both_sides.values():
        values, all_names = run_time_truth(point), set(run_time_truth(point, derivatives=True))
        assert all_names - set(values) == names_of_derivatives(point) == set(filter(is_derivative, all_names))


def test_the_unit_of_error():
    u = 2.0**-53
    truth = Truth(np.array([1.0, 0.0]), np.array([u / 4, 0.0]), np.array([u, 0.0]), np.ones(2))
    C = truth.error([1.0 + 2 * u, 5e-324], np.float64)
    assert C[0] == pytest.approx(1.75) and C[1] == 1
    assert np.isinf(truth.error([np.nan, np.inf], np.float64)).all()
    assert Truth(*(np.array(v) for v in (np.inf, 0.0, np.inf, 1.0))).error(np.inf, np.float64) == 0
    largest = float(np.finfo(np.float32).max)                       # of an infinity it is half a unit away
    truth = np.array([largest, largest / 2, -largest, np.inf])
    at_the_end = Truth(truth, np.zeros(4), np.full(4, largest * 2.0**-24), np.ones(4))
    assert at_the_end.error(np.full(4, np.inf), np.float32) == pytest.approx([0.5, np.inf, np.inf, 0])
    assert Truth(*(np.array(v) for v in (np.inf, 0.0, np.nan, 1.0))).error(np.inf, np.float64) == 0
    undetermined = Truth(np.array([1.0]), np.zeros(1), np.array([8.0 * largest]), np.ones(1))
    assert undetermined.error([-np.inf], np.float32) == pytest.approx(1 / 8)
    lengths = Truth(np.array([3.0, 4.0]), np.zeros(2), np.full(2, 5 * u), np.ones(2), 0, True)
    assert lengths.error([3 + 3 * u, 4 + 4 * u], np.float64) == pytest.approx(1, rel=0.5)


# -- declaring and loading --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("declare, words", [
    (lambda: adapter("Tahn"), "did you mean Tanh"),
    (lambda: adapter("Tanh", dtype="complex64"), "dtype must be one or several of bfloat16, float16, float32, float64"),
    (lambda: adapter("Tanh", direction="backwards"), "direction"),
    (lambda: adapter("Affine", params={"slope": bool}), "no field 'slope'"),
])
def test_wrong_declarations_are_refused(declare, words):
    with pytest.raises(ValueError, match=words):
        declare()


def test_a_function_without_an_adapter_cannot_be_checked():
    with pytest.raises(CannotRun, match="declares no adapter"):
        check(np.tanh)


def test_torch_on_a_small_subset():
    pytest.importorskip("torch")
    report = check("torch", page="Tanh", dtypes=["float64"])
    failed = {f.quantity: f for f in report.failed}
    assert {"log_det", "inverse_log_det"} <= set(failed) and "forward" not in failed
    assert failed["log_det"].theirs == "torch.distributions.transforms.TanhTransform"
    z = failed["log_det"].input
    assert abs(failed["log_det"].true + 2 * scipy.special.log1p(np.sinh(z) ** 2) / 2) < 1e-6 * abs(failed["log_det"].true)
    assert "inverse" in {p.quantity for p in report.passed}


def test_torch_sigmoid_log_det():
    """A softplus that becomes the identity beyond 20."""
    pytest.importorskip("torch")
    found = [f for f in check("torch", page="Sigmoid", dtypes=["float64"]).failed if f.quantity == "log_det"]
    assert found and 20 < abs(found[0].input) < 37 and found[0].worst > 1e5


# -- refflow's own pages ----------------------------------------------------------------------------------------------

def test_a_wrong_page_of_refflow_is_found_at_its_simplest_point(monkeypatch):
    """Points are asked in batches; a failure is one event's."""
    log_det = refflow.Tanh.log_det
    monkeypatch.setattr(refflow.Tanh, "log_det", lambda self, z: np.where(np.abs(z) < 0.5, 2, 1) * log_det(self, z))
    found, = check(page="Tanh", dtypes=["float64"]).failed
    assert found.quantity == "log_det" and found.diagnosis == "doubled" and 0 < found.failing < found.points
    assert found.input == 1e-9 and found.given == -2e-18 and found.true == -1e-18


def test_answers_of_a_batch_belong_to_their_points(monkeypatch):
    """That points have the right answers in a batch, `refflow check` says of every page; here they change places."""
    own = sys.modules["refflow.oracle.check"]
    assert not check(page="CubicSpline").failed
    monkeypatch.setattr(own, "answers_in_batch", lambda points, answers=own.answers_in_batch: answers(points)[::-1])
    assert {one.quantity for one in check(page="CubicSpline").failed} >= {"forward", "log_det", "vjp.z_bar", "inverse"}
