"""`refflow truth`: what a page's definition gives at one point, against equations written here anew for mpmath."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

import refflow
from refflow import Affine, Chain, DenseLinear, Inverse
from refflow.accuracy.drawing import SIDES
from refflow.cli import truth
from refflow.core import has_components
from refflow.core.declarations import Field
from refflow.maps.conditioners import Dense
from refflow.models import realnvp
from validation.certify import PAGES, allowed, sides
from validation.points.kinds import GENERATORS
from validation.points.drawn import Draw

WITHOUT = "import sys; sys.modules['flint'] = None\n"
KNOTS = {"input_knots": [-1.0, 0.25, 2.0], "output_knots": [-3.0, 0.5, 1.0], "slopes": [0.5, 2.0, 0.75]}


@pytest.fixture
def quantities(run):
    """quantities(*arguments) -> {name: row} of the report as JSON, which must be there."""
    def ask(*arguments):
        status, out, err = run("truth", *arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)["quantities"]

    return ask


def is_right(found, true, digits=50):
    """Are these decimals the numbers, to one unit in the last digit?"""
    with mp.workdps(2 * digits):
        return all(abs(mpf(one) - value) <= abs(value) * mpf(10) ** (1 - digits)
                   for one, value in zip(np.ravel(np.array(found, object)), np.ravel(np.array(true, object)), strict=True))


# -- numbers ----------------------------------------------------------------------------------------------------------

@mp.workdps(1000)
def test_tanh_far_out(quantities):
    """1 - x^2 needs 617 digits there."""
    found, x = quantities("Tanh", "--z", 711), mpmath.tanh(711)
    assert is_right(found["forward"]["truth"], x) and found["forward"]["truth"] == "1"
    assert is_right(found["jacobian"]["truth"], 1 - x**2) and found["jacobian"]["given"] == [[0.0]]
    assert is_right(found["log_det"]["truth"], mpmath.log(1 - x**2))
    assert found["log_det"]["truth"] == "-1420.6137056388801093811655357570836468638489997313"
    assert found["log_det"]["given"] == refflow.Tanh().log_det(711.0) and found["log_det"]["error"] < 1


@mp.workdps(120)
@pytest.mark.parametrize("z", [-200.0, -38.5, -1e-9, 3.0])
def test_a_normal_tail(quantities, z):
    found, t = quantities("normal-cdf", "--z", z, "--loc", 0.25, "--scale", "0x1.8p0"), (mpf(z) - 0.25) / 1.5
    assert is_right(found["forward"]["truth"], mpmath.erfc(-t / mpmath.sqrt(2)) / 2)
    assert is_right(found["log_det"]["truth"], -t**2 / 2 - mpmath.log(2 * mpmath.pi) / 2 - mpmath.log(1.5))


@mp.workdps(120)
def test_a_spline_and_its_inverse(quantities):
    """The bin from 0.25 to 2, by the rational-quadratic formula in t; and back, at a float beside the image."""
    fields = [f"--{key.replace('_', '-')}={json.dumps(value)}" for key, value in KNOTS.items()]

    def spline(z):
        w, h, t = mpf(1.75), mpf(0.5), (z - mpf(0.25)) / mpf(1.75)
        s = h / w
        below = s + (2 + mpf(0.75) - 2 * s) * t * (1 - t)
        return mpf(0.5) + h * (s * t**2 + 2 * t * (1 - t)) / below

    found = quantities("RationalQuadraticSpline", "--z", 1.1, *fields)
    assert is_right(found["forward"]["truth"], spline(mpf(1.1)))
    assert is_right(found["log_det"]["truth"], mpmath.log(mpmath.diff(spline, mpf(1.1))), 40)
    back = quantities("RationalQuadraticSpline", "--x", found["forward"]["given"], *fields)
    assert is_right([spline(mpf(back["inverse"]["truth"]))], [mpf(found["forward"]["given"])], 48)


@mp.workdps(120)
def test_a_matrix(quantities):
    W, z = [[1.0, 2.0], [0.1, 4.0]], [0.3, -7.0]
    found = quantities("DenseLinear", "--z", json.dumps(z), "--W", json.dumps(W))
    exact = mpmath.matrix(W)
    assert is_right(found["forward"]["truth"], list(exact * mpmath.matrix(z)))
    assert is_right(found["jacobian"]["truth"], [mpf(v) for row in W for v in row])
    assert is_right(found["log_det"]["truth"], mpmath.log(abs(mpmath.det(exact))))


@mp.workdps(120)
def test_pages_without_an_inverse(quantities):
    found = quantities("Diagonal-Normal", "--z", "[0.5, 3]", "--loc", "[0, 1]", "--scale", "[1, 0.1]")
    assert is_right(found["log_prob"]["truth"],
                    -mpf(0.5)**2 / 2 - (2 / mpf(0.1))**2 / 2 - mpmath.log(2 * mpmath.pi) - mpmath.log(mpf(0.1)))
    assert is_right(quantities("ExpScale", "--z", -700.25)["forward"]["truth"], mpmath.exp(mpf(-700.25)))
    assert is_right(quantities("SiLU", "--z", -50)["forward"]["truth"], -50 / (1 + mpmath.exp(50)))


@mp.workdps(120)
def test_units_of_error(quantities):
    """Of x = s + a z, kappa = |x| + |s| + 2 |a z|; the answer's distance from the truth in units of 2^-53 kappa."""
    found = quantities("Affine", "--z", -1e-9, "--shift", 0.1, "--scale", -3)["forward"]
    product, s = -3 * mpf(-1e-9), mpf(0.1)
    kappa = s + product + s + 2 * product
    error = abs(mpf(found["given"]) - s - product) / (kappa * mpf(2)**-53)
    assert 0.01 < error < 1 and found["error"] == pytest.approx(float(error), rel=1e-9)
    assert found["conditioning"] == pytest.approx(float(kappa / (s + product)), rel=1e-9)


def test_ends_are_limits(quantities):
    assert quantities("Exp", "--x", 0)["inverse"]["truth"] == "-inf"
    found = quantities("Exp", "--x", 0)["inverse_log_det"]
    assert (found["truth"], found["given"], found["error"]) == ("inf", "inf", 0)


def test_a_number_beyond_the_floats_is_not_a_limit(quantities):
    """2^4000, which stands for an infinite limit where there is one."""
    found = quantities("Power", "--z", "0x1p400", "--exponent", 10)["forward"]
    assert is_right(found["truth"], mpf(2)**4000) and (found["given"], found["error"]) == ("inf", 0)


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if not has_components(page)])
def test_every_page_without_components(quantities, name):
    """At its first hard case in float64: each field, event and side can be given, and the page's answers are as certified."""
    page = PAGES[name]
    for side in sides(page):
        point = next(iter(GENERATORS.get(page.kind, Draw)(page, "float64", side).hard_points()), None)
        if point is None:
            continue
        given = {key: getattr(point.f, key) for key in page.declared}
        given = {key: value for key, value in given.items() if value is not None or isinstance(page.declared[key], Field)}
        fields = [f"--{key}={text(value)}" for key, value in given.items()]
        found = quantities(name, f"--{'zx'[SIDES[side]]}={text(point.event)}", *fields)
        assert found and all(row["error"] <= allowed(point, key) for key, row in found.items() if "error" in row)


def text(value):
    """A field or an event as one types it."""
    if isinstance(value, str):
        return value
    return json.dumps(value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value)


# -- the report -------------------------------------------------------------------------------------------------------

def test_the_table(run):
    status, out, err = run("truth", "tanh", "--z", 711, "--digits", 12)
    head, *lines = (re.split(r"\s{2,}", line) for line in out.splitlines())
    assert (status, err) == (0, "") and head == ["", "truth", "the page", "units of error"]
    assert [line[:3] for line in lines] == [["forward", "1", "1.0"], ["log_det", "-1420.61370564", "-1420.6137056388802"],
                                            ["jacobian", "1.08469271885e-617", "0.0"]]
    assert all(0 <= float(line[3]) < 1 for line in lines)
    status, out, _ = run("truth", "Softmax", "--z", "[1, 0.5, -1.5]", "--log-det")
    assert status == 0 and [line.split()[0] for line in out.splitlines()[1:]] == ["log_det"]
    _, out, _ = run("truth", "Softmax", "--z", "[1, 0.5, -1.5]")
    labels = [line.split("  ")[0] for line in out.splitlines()[1:]]
    slopes = [f"jacobian[{i}, {j}]" for i in range(3) for j in range(3)]
    assert labels == ["forward[0]", "forward[1]", "forward[2]", "log_det", *slopes]


def test_the_readme_shows_the_table(run):
    """All but the last column, whose rounding errors are the machine's."""
    document = (Path(refflow.__file__).parent / "cli" / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"refflow truth Tanh --z 711`\nprints both:\n\n```text\n(.*?)^```$", document, re.M | re.S)[1]
    _, out, _ = run("truth", "Tanh", "--z", 711)
    assert [line.split()[:3] for line in shown.splitlines()[1:]] == [line.split()[:3] for line in out.splitlines()[1:]] != []


def test_what_is_not_within_reach_is_said(run, monkeypatch):
    settled = refflow.truth.answers.truth_of
    monkeypatch.setattr("refflow.truth.answers.truth_of", lambda *of: {"forward": settled(*of)["forward"]})
    status, out, _ = run("truth", "Tanh", "--z", 1)
    assert status == 0 and "not within reach" not in out.splitlines()[1] and "log_det   not within reach" in out
    _, out, _ = run("truth", "Tanh", "--z", 1, "--json")
    assert set(json.loads(out)["quantities"]["log_det"]) == {"given"}
    status, out, err = run("truth", "Tanh", "--z", 1, "--log-det")
    assert (status, out) == (2, "") and "Tanh: no truth within reach at 1.0" in err


def test_no_more_digits_than_are_proved():
    from flint import arb
    from refflow.truth.answers import decimals
    third = arb(1) / 3
    assert decimals(third, 5) == "0.33333" and len(decimals(arb(third.mid(), 2.0**-40), 50)) <= len("0.") + 13
    assert decimals(arb(0, 1e-300), 50) == "0"


def test_what_was_asked_is_in_the_report(run):
    _, out, _ = run("truth", "affine", "--z", 0.1, "--scale", "1.5", "--dtype", "float32", "--json")
    report = json.loads(out)
    assert (report["schema"], report["page"], report["kind"]) == ("refflow/truth/1", "Affine", "bijector")
    assert report["side"] == "forward"
    assert report["parameters"] == {"shift": 0.0, "scale": 1.5} and report["event"] == float(np.float32(0.1))
    assert report["quantities"]["forward"]["truth"] == "0.1500000022351741790771484375"        # exactly 1.5 float32(0.1)


# -- files ------------------------------------------------------------------------------------------------------------

def test_values_from_files(quantities, tmp_path):
    np.save(tmp_path / "z.npy", np.array([0.3, -7.0]))
    (tmp_path / "W.json").write_text('[[1, 2], ["0x1p-3", 4]]')
    (tmp_path / "all.json").write_text('{"W": [[1, 2], [0.125, 4]]}')
    typed = quantities("DenseLinear", "--z", "[0.3, -7]", "--W", "[[1, 2], [0.125, 4]]")
    assert typed == quantities("DenseLinear", "--z", "z.npy", "--W", "W.json")
    assert typed == quantities("DenseLinear", "--z", "z.npy", "--parameters", "all.json")
    assert typed != quantities("DenseLinear", "--z", "z.npy", "--parameters", "all.json", "--shift", "[1, 1]")


@mp.workdps(120)
def test_a_value_with_components_from_a_file(quantities, tmp_path):
    f = refflow.AffineCoupling([True, False], Dense(W=[[1.5], [0.5]], b=[0.25, -1.0]))
    refflow.save(f, tmp_path / "coupling.npz")
    refflow.save(refflow.Flow(f, refflow.StandardNormal((2,))), tmp_path / "flow.npz")
    found = quantities("coupling.npz", "--z", "[-0.1, 3]")
    a, b = mpf(-0.1), mpf(3)
    assert is_right(found["forward"]["truth"], [a, b * mpmath.exp(1.5 * a + 0.25) + a / 2 - 1])
    assert is_right(found["log_det"]["truth"], 1.5 * a + 0.25) and found == quantities("flow.npz", "--z", "[-0.1, 3]")


# -- flows, as fit writes them ----------------------------------------------------------------------------------------

@pytest.fixture
def flow(tmp_path):
    """Couplings read from the other side, then a matrix, as of `refflow fit`; its file is flow.npz."""
    coupling = refflow.AffineCoupling([True, False], Dense(W=[[1.5], [0.5]], b=[0.25, -1.0]))
    found = refflow.Flow(Chain([Inverse(Chain([coupling, coupling])), DenseLinear([[1.0, 2.0], [0.125, 4.0]])]), refflow.StandardNormal(2))
    refflow.save(found, tmp_path / "flow.npz")
    return found


def true_log_prob(x):
    """Of that flow, by hand."""
    z, total = list(mpmath.inverse(mpmath.matrix([[1, 2], [mpf(0.125), 4]])) * mpmath.matrix(x)), -mpmath.log(mpf(3.75))
    for _ in range(2):
        z, total = [z[0], z[1] * mpmath.exp(1.5 * z[0] + 0.25) + z[0] / 2 - 1], total + 1.5 * z[0] + 0.25
    return total - (z[0]**2 + z[1]**2) / 2 - mpmath.log(2 * mpmath.pi)


@mp.workdps(120)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_log_density_of_a_flow(run, flow, tmp_path, dtype):
    """In each row; the printed error is the distance from the truth, and each stage is asked at the float that it gets."""
    rows = np.array([[0.3, -7.0], [1.5, 0.1]])
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="a,b", comments="")
    status, out, err = run("truth", "flow.npz", "--x", "rows.csv", "--dtype", dtype, "--json")
    assert (status, err) == (0, "")
    for x, row in zip(rows.astype(dtype), json.loads(out)["rows"], strict=True):
        found, true = row["log_prob"], true_log_prob([mpf(float(v)) for v in x])
        assert is_right(found["truth"], true) and found["given"] == flow.astype(dtype).log_prob(x)
        kappa = found["conditioning"] * abs(found["given"])
        unit = mpf(float(np.finfo(dtype).eps)) / 2
        assert found["error"] == pytest.approx(float(abs(mpf(found["given"]) - true) / (unit * mpf(kappa)))) and found["error"] < 4
        assert [(stage["page"], stage["side"]) for stage in row["stages"]] == [
            ("DenseLinear", "inverse"), ("AffineCoupling", "forward"), ("AffineCoupling", "forward")]
        assert is_right(row["stages"][0]["truth"], -mpmath.log(mpf(3.75))) and all(stage["error"] < 4 for stage in row["stages"])


def test_the_unit_of_a_flow_counts_what_its_log_density_depends_on(run, flow):
    """At least the event, by differences."""
    from refflow.truth.stages import in_floats
    x, h = np.array([0.3, -7.0]), 1e-6
    slopes = [abs(flow.log_prob(x * (1 + h * e)) - flow.log_prob(x * (1 - h * e))) / (2 * h) for e in np.eye(2)]
    assert in_floats(flow, x)[2] > abs(flow.log_prob(x)) + sum(slopes)


def test_the_table_of_a_flow(run, flow):
    status, out, err = run("truth", "flow.npz", "--x", "[0.3, -7]", "--digits", 12)
    head, *lines = (re.split(r"\s{2,}", line) for line in out.splitlines())
    assert (status, err) == (0, "") and head == ["", "truth", "the flow", "units of error"]
    assert [line[0] for line in lines] == ["log_prob", "log_det of DenseLinear^-1, stages.1",
                                           "log_det of AffineCoupling, stages.0.inner.stages.0",
                                           "log_det of AffineCoupling, stages.0.inner.stages.1"]


@pytest.mark.parametrize("bijector, said", [
    (Affine([1.0, 2.0]), "Affine at bijector is a map of numbers; a page defines the map of one"),
    (Chain([Affine([1.0, 2.0]), DenseLinear(np.eye(2))]), "is a map of numbers; a page defines the map of one")])
def test_a_flow_without_an_equation_is_refused(run, tmp_path, bijector, said):
    refflow.save(refflow.Flow(bijector, refflow.StandardNormal(2)), tmp_path / "flow.npz")
    status, out, err = run("truth", "flow.npz", "--x", "[0.5, 1]")
    assert (status, out) == (2, "") and err.startswith("refflow: flow.npz: ") and said in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments, said", [
    (("--x", "[1, 2, 3]"), "takes events of shape (2,), not (3,)"), (("--x", "none.csv"), "there is no file none.csv"),
    (("--x", "[1, 2]", "--log-det"), "the log-dets of its stages are always printed"), (("--x", "[1, NaN]"), "must be finite"),
    (("--x", "one"), "--x must be a number")])
def test_what_is_refused_of_a_flow(run, flow, arguments, said):
    status, out, err = run("truth", "flow.npz", *arguments)
    assert (status, out) == (2, "") and said in err and len(err.splitlines()) == 1


# -- what is refused --------------------------------------------------------------------------------------------------

REFUSED = {
    ("Tanj", "--z", "1"): "there is no page 'Tanj'; did you mean Tanh", ("Logit", "--z", "1"): "it is `Inverse` of `Sigmoid`",
    ("glow", "--z", "1"): "glow is not a page: it is a model", ("none.npz", "--z", "1"): "there is no file none.npz",
    ("Coupling", "--z", "1"): "has components: save one with refflow.save",
    ("ReLU", "--x", "1"): "--x: ReLU is a conditioner, which has no inverse",
    ("ReLU", "--z", "1", "--log-det"): "--log-det: ReLU is a conditioner, which has none",
    ("Exp", "--x", "-1"): "Exp: x must be finite and > 0; x = -1.0",
    ("Exp", "--z", "inf"): "--z must be finite in float64, not inf",
    ("Exp", "--z", "1e300", "--dtype", "float32"): "--z must be finite in float32, not 1e300",
    ("Exp", "--z", "[1, 2]"): "--z: Exp takes a number, not an array of shape (2,)",
    ("Softmax", "--z", "1"): "--z: Softmax takes a vector, not an array of shape ()",
    ("Exp", "--z", "one"): "--z must be a number, nested lists", ("Exp", "--z", "[1, [2]]"): "not '[1, [2]]'",
    ("Exp", "--z", "z.npy"): "--z: there is no file z.npy", ("Exp", "--z", "bad.json"): "--z: bad.json cannot be read",
    ("Affine", "--z", "1", "--scale", "0"): "Affine: scale must be finite and not 0; scale = 0.0",
    ("Affine", "--z", "1", "--scale", "[1, 2]"): "the parameters must belong to one event; they are a batch, (2,)",
    ("Affine", "--z", "1", "--scale", "two"): "--scale must be a number, nested lists",
    ("Affine", "--z", "1", "--parameters", "shifts.json"): "Affine has no parameter 'shifts'; it has shift, scale",
    ("Affine", "--z", "1", "--scale", "1e300", "--dtype", "float32"): "Affine: scale must be finite and not 0; scale = inf",
    ("DenseLinear", "--z", "[1]"): "DenseLinear needs --W",
    ("two.npz", "--z", "1", "--parameters", "shifts.json"): "leave out shifts",
}


@pytest.mark.parametrize("f, said", [
    (Inverse(realnvp(np.random.default_rng(0), 2, (2,), 2).bijector.inner), "it holds Inverse(Chain), and no page defines this inverse"),
    (Chain([Affine([1.0, 2.0]), DenseLinear(np.eye(2))]), "Affine is a map of numbers and has the parameters of several")])
def test_a_value_without_an_equation_is_refused(run, tmp_path, f, said):
    """As what fit writes, which reads its couplings from the other side, in the units of a table."""
    refflow.save(refflow.Flow(f, refflow.StandardNormal(2)), tmp_path / "fitted.npz")
    status, out, err = run("truth", "fitted.npz", "--z", "[0.5, 1]")
    assert (status, out) == (2, "") and f"refflow: fitted.npz: {said}" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_what_is_refused(run, tmp_path, arguments):
    (tmp_path / "bad.json").write_text("[1")
    (tmp_path / "shifts.json").write_text('{"shifts": 1}')
    status, out, err = run("truth", *arguments)
    assert (status, out) == (2, "") and err.startswith("refflow: ") and REFUSED[arguments] in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments, said", [
    (("Affine", "--z", "1", "--skale", "2"), "unrecognized arguments: --skale 2"),
    (("Tanh",), "one of the arguments --z --x is required"),
    (("Tanh", "--z", "1", "--x", "0"), "not allowed with"), (("Tanh", "--z", "1", "--digits", "51"), "count of digits, 1 to 50")])
def test_usage(run, capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        run("truth", *arguments)
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_help_lists_the_parameters_of_the_page(run, capsys):
    with pytest.raises(SystemExit):
        run("truth", "RationalQuadraticSpline", "--help")
    shown = capsys.readouterr().out
    assert "parameters of RationalQuadraticSpline" in shown and "--input-knots VALUE" in shown
    with pytest.raises(SystemExit):
        run("--help")
    assert re.search(r"^ +truth +what a page's definition gives", capsys.readouterr().out, re.M)


def test_negative_numbers_are_no_options():
    assert truth.joined(["--z", "-1e-9", "--x=-1", "-inf", "--low", "-inf", "--shift", "[-1]", "-h"]) == [
        "--z=-1e-9", "--x=-1", "-inf", "--low=-inf", "--shift", "[-1]", "-h"]


def test_numbers_are_read():
    """Decimals, hex floats and nested lists of them; a word stays a word, though hex digits make it."""
    assert truth.read('[1, ["0x1p-3", "-inf"]]') == [1, [0.125, -np.inf]] and truth.read("-0x1.8p0") == -1.5
    assert truth.read("add") == "add" and truth.read("1e-9") == 1e-9 and truth.read("true") is True


# -- without the extra ------------------------------------------------------------------------------------------------

def test_without_flint():
    """The command says in one line what is missing, and so does whoever imports the engine; all else works without."""
    code = WITHOUT + "import refflow.cli\nsys.exit(refflow.cli.main(['truth', 'Tanh', '--z', '711']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'refflow: refflow.truth needs python-flint: pip install "refflow[validation]"\n'
    modules = sorted(path.stem for path in (Path(refflow.__file__).parent / "truth").glob("*.py"))
    code = WITHOUT + ("import importlib, refflow\nfor name in sys.argv[1:]:\n try:\n  importlib.import_module(name)\n"
                      " except ImportError as error:\n  print(error)")
    done = subprocess.run([sys.executable, "-c", code, *(f"refflow.truth.{name}" for name in modules)], capture_output=True,
                          text=True, check=True)
    assert done.stdout.splitlines() == ['refflow.truth needs python-flint: pip install "refflow[validation]"'] * len(modules)
