"""A check as a report: the HTML file and its pictures, the table for a README, the wrong stage of a chain, suggestions."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

import refflow
from refflow.accuracy.drawing import Point
from refflow.book import report_page
from refflow.book.picture import picture
from refflow.book.verdicts import typeset
from refflow.cli import main
from refflow.oracle import CannotRun, adapter, check
from refflow.oracle.asking.adapter import Answers, ask, load
from refflow.oracle.check import ALLOWED, Failure, Subject
from refflow.oracle.judging.asked import Asked
from refflow.oracle.judging.errors import FAILS, NOT_JUDGED, PASSES, errors_of, place_of
from refflow.oracle.judging.suggestions import suggestions
from refflow.oracle.judging.verdict import KINDS, Finding, Passed, Report, Skipped, Suggestion, at_the_worst_entry, finding_text, grouped, pasteable
from refflow.oracle.naming.equations import equations
from refflow.oracle.naming.layers import first_wrong
from refflow.oracle.naming.reproduction import reproduction
from refflow.oracle.points import golden
from refflow.oracle.points.page_points import run_time_truth
from refflow.report import magnitude, number
from validation.book import FLAGS, chromium

SVG = "{http://www.w3.org/2000/svg}"
XHTML = "{http://www.w3.org/1999/xhtml}"


def wrong_tanh(params, z):
    """A log-det that is wrong for z > 1."""
    return {"forward": np.tanh(z), "log_det": refflow.Tanh().log_det(z) * (1 + 1e-3 * (z > 1)), "inverse": np.arctanh}


def wrong_simplex(params, z):
    f = refflow.StickBreaking()
    (x, log_det), pullback = f.vjp(z)
    return {"forward": x, "log_det": log_det + np.log(z.shape[-1] + 1) / 2,
            "vjp": lambda x_bar, log_det_bar: (pullback(x_bar, log_det_bar)[0] * 1.01, {})}


@pytest.fixture(scope="module")
def report():
    tanh = adapter(refflow.Tanh(), dtype="float64", theirs="their <tanh> & more")(wrong_tanh)
    simplex = adapter(refflow.StickBreaking(), dtype="float32")(wrong_simplex)
    return check([tanh, simplex], keep_errors=True)


@pytest.fixture(scope="module")
def html(report):
    return report_page(report)


# -- counts -----------------------------------------------------------------------------------------------------------

def test_a_finding_says_at_how_many_points(report):
    found = next(f for f in report.failed if f.quantity == "log_det" and f.dtype == "float64")
    assert 0 < found.failing < found.points
    assert f"wrong at {found.failing} of {found.points} points" in report.table()


def test_what_is_not_a_number_counts_everywhere():
    """Also at a recorded point whose truth rounding may move far: NaN is wrong there too."""
    point = next(p for p in golden.points("NormalCDF", ("float64",)) if p.side == "forward")
    truth = replace(point.truth["forward"], first_order=False)
    subject = Subject("NormalCDF", "mine", "float64", None)
    for given in (np.float64(np.nan), truth.high * 2):
        known = {"forward": truth}
        subject.compare([replace(point, truth=known)], [Answers({"forward": np.asarray(given)})], [known], lambda *_: ALLOWED)
    assert subject.count == subject.failing == {"forward": 1}


def test_a_quantity_that_cannot_be_judged_anywhere_is_skipped(monkeypatch):
    def none(points, asked, most):
        return {name: ~marks for name, marks in asked.items()}, {name: marks & False for name, marks in asked.items()}

    monkeypatch.setattr(sys.modules["refflow.oracle.check"], "steady_among", none)
    report = check(adapter(VECTOR, dtype="float64")(lambda params, z: {"forward": z * 1.1}))
    assert not report.failed and not report.passed
    assert {s.reason for s in report.skipped if s.quantity == "forward"} == {
        "rounding the input moves the truth too far at every point"}


def test_the_parameters_of_a_given_map_stay_as_they_are():
    """An adapter may hold its own parameters and never look at `params`."""
    f = refflow.Affine(shift=0.5, scale=0.75)
    found, = check(adapter(f, dtype="float64")(lambda params, z: {"forward": f.forward(z) * (1 + 1e-9 * (z > 1))})).failed
    assert found.params == {"shift": 0.5, "scale": 0.75} and found.input > 1 and found.error < 1e9


# -- verdicts ---------------------------------------------------------------------------------------------------------

def a_finding(worst, quantity="forward", event=1.0, **more):
    return Finding("Tanh", "m.theirs", quantity, "float64", 9.0, 4.0, worst, 1.0, event, {}, 0.0, 1.0, "", "", **more)


def a_pass(error, quantity="forward", theirs="m.theirs"):
    return Passed("Tanh", theirs, quantity, "float64", error, 4.0, 10)


def test_the_status_of_a_report():
    reports = Report("m", "1"), Report("m", "1", [a_pass(1.0)]), Report("m", "1", [a_pass(1.0)], [a_finding(9.0)])
    assert [report.status for report in reports] == [2, 0, 1]


def test_the_worst_finding_comes_first():
    """By the largest error, where NaN counts as infinite; of equal ones first that whose numbers are nearer to 1."""
    found = [a_finding(9.0), a_finding(np.nan), a_finding(1e9), a_finding(1e9, event=1e-5), a_finding(np.inf, "log_det")]
    report = Report("m", "1", failed=[found[k] for k in (0, 3, 2, 1, 4)]).sort()
    assert report.failed == [found[k] for k in (1, 4, 2, 3, 0)]


def test_a_row_shows_the_largest_error_of_each_kind():
    passed = [a_pass(1.5), a_pass(0.25), a_pass(0.5, "log_det"), a_pass(3.0, "vjp.z"), a_pass(2.0, "vjp.shift")]
    skipped = [Skipped("Tanh", "m.theirs", "inverse", "float64", "none")]
    report = Report("m", "1", passed, [a_finding(1e3, "jacobian"), a_finding(5e3, "jacobian")], skipped)
    shown = {"forward": "1.5", "log_det": "0.5", "vjp": "3", "jacobian": "FAIL"}
    assert list(report.rows()) == [("units of error", "dtype", *KINDS),
                                   ("theirs", "float64", *(shown.get(kind, "-") for kind in KINDS))]
    assert report.markdown().splitlines()[4] == (
        "| m | 1 | `theirs` | float64 | 1.5 | 0.5 | **5e+03** | 3 | 2 findings |")


def test_a_declaration_that_explains_several_quantities_is_said_once():
    found = [a_finding(9.0), a_finding(8.0), a_finding(7.0, "log_det"), a_finding(6.0, "inverse")]
    said = [Suggestion("m.theirs", quantity, "float64", declaration, 1)
            for quantity, declaration in (("forward", "a"), ("log_det", "a"), ("inverse", "b"))]
    report = Report("m", "1", failed=found, suggestions=said)
    assert report.explained() == {
        "m.theirs float64: declared with a, these 3 findings would be allowed: forward, log_det": found[:3]}
    assert report.repeated() == found[1:3]
    assert [line for line in report.summary() if line.startswith("suggestion")] == [
        f"suggestion: {next(iter(report.explained()))}", f"suggestion: {said[2]}"]


def test_what_is_skipped_is_said_by_its_reason():
    skipped = [Skipped("Tanh", theirs, quantity, "float64", reason) for theirs, quantity, reason in (
        ("a", "inverse", "none"), ("b", "inverse", "none"), ("a", "jacobian", "none"), ("b", "jacobian", "none"),
        ("c", "jacobian", "none"), ("a", "vjp", "no gradient"))]
    assert list(grouped(skipped)) == [("inverse (a, b), jacobian (3 subjects)", "none"), ("vjp (a)", "no gradient")]


def test_numbers_that_can_be_pasted_are_the_shortest_of_their_dtype():
    third = np.array([1 / 3, 0.1])
    assert repr(pasteable({"a": third, "b": (third.astype(np.float32)[1],)})) == (
        "{'a': [0.3333333333333333, 0.1], 'b': [np.float32(0.1)]}")
    assert repr(pasteable(third.astype(np.float32).reshape(2, 1))) == "[[0.33333334], [0.1]]"
    assert pasteable(np.float32(0.1)) == 0.1 and pasteable(np.float64(0.1)) == 0.1
    assert pasteable(third.astype(np.float32).astype(np.float64)) == [0.3333333432674408, 0.10000000149011612]


def test_lists_of_float32_have_the_shape_of_the_array():
    for shape in ((), (3,), (2, 3), (2, 2, 3), (2, 0), (0,)):
        array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
        assert pasteable(array) == array.tolist()


# -- what is shown ----------------------------------------------------------------------------------------------------

def test_a_row_without_a_version_has_a_dash():
    report = Report("m", "", [a_pass(1.5)])
    assert report.markdown().splitlines()[4] == "| m | - | `theirs` | float64 | 1.5 | passes |"


FEW, LARGE = np.arange(24.0), np.arange(25.0)


@pytest.mark.parametrize("given, true", [
    (FEW + 1, FEW), (LARGE + 1, FEW), (LARGE + 1, LARGE.reshape(5, 5)), (LARGE.astype(str), LARGE), (LARGE, LARGE.astype(str)),
    ("Traceback", LARGE), (1.5, 2.0)], ids=["few", "longer", "other shape", "given words", "true words", "an error", "one number"])
def test_all_is_shown_of_few_entries_and_of_what_cannot_be_compared(given, true):
    found = replace(a_finding(9.0), given=given, true=true)
    shown = at_the_worst_entry(found)
    assert shown["given"] is given and shown["true"] is true


@pytest.mark.parametrize("dtype", [float, int])
def test_of_many_entries_the_worst_is_shown(dtype):
    true = np.arange(25).reshape(5, 5).astype(dtype)
    given = true + 1
    given[2, 3] += 5
    assert at_the_worst_entry(replace(a_finding(9.0), given=given, true=true)) == {
        "given": f"{dtype(19)!r} at entry (2, 3) of (5, 5)", "true": f"{dtype(13)!r} at entry (2, 3) of (5, 5)"}


@pytest.mark.parametrize("length", [400, 401])
def test_an_array_of_more_than_400_letters_is_shown_in_short(length):
    event = [1.0] * 79 + [float("1" * (length - 2 - 79 * len("1.0, ") - len(".0")))]
    assert len(str(event)) == length
    assert (str(event) in finding_text(a_finding(9.0, event=event))) == (length == 400)


@pytest.mark.parametrize("count", [6, 7])
def test_ranges_of_up_to_six_subjects_are_shown(count):
    one = Asked("Exp", "mine", "float64", "inverse", 0.0, np.inf, "(0, inf)")
    lines = list(Report("m", "1", asked=[replace(one, theirs=f"mine {k}") for k in range(count)]).summary())[1:]
    assert lines == ([f"asked, mine {k} float64: x nowhere" for k in range(6)] if count == 6 else
                     ["asked: the ranges of 7 subjects are in --json"])


# -- errors over the domain -------------------------------------------------------------------------------------------

def record(f, quantity="forward", event=0.5):
    side = "inverse" if quantity == "inverse" else "forward"
    subject = SimpleNamespace(bijector="f", theirs="mine", dtype="float64")
    return errors_of(subject, quantity, Point(f, side, np.asarray(event, np.float64)))


def test_the_memory_does_not_grow_with_the_points():
    errors = record(refflow.Tanh())
    for z in np.linspace(1, 2, 1000):
        errors.keep(place_of(errors, z), float(z), 16.0, PASSES, "")
    assert len(errors.points) <= 10 and max(p.error for p in errors.points) == 2


@pytest.mark.parametrize("f, quantity, events", [
    (refflow.Tanh(), "forward", [-1e300, -3.0, -1e-300, 0.0, 1e-300, 0.1, 1e300]),
    (refflow.Exp(), "inverse", [5e-324, 1e-9, 1.0, 1e300]),
    (refflow.Tanh(), "inverse", [-1 + 1e-16, -0.5, -1e-9, 0.0, 1e-9, 0.4, 0.6, 1 - 1e-16]),
    (refflow.Sigmoid(), "inverse", [1e-300, 0.25, 0.5, 0.75, 1 - 1e-16]),
])
def test_larger_events_are_drawn_further_right(f, quantity, events):
    errors = record(f, quantity)
    for z in events:
        errors.keep(place_of(errors, z), 20.0, 16.0, FAILS, str(z))
    drawn = {c.find(f"{SVG}title").text.split(": ")[1]: float(c.get("cx")) for c in circles(picture(errors, "z"), "fails")}
    at = [drawn[str(z)] for z in events]
    assert len(at) == len(events) and at == sorted(at) and len(set(at)) == len(at)


def circles(svg, kind):
    return [c for c in ElementTree.fromstring(svg).iter(f"{SVG}circle") if c.get("class") == kind]


def test_a_picture_tells_the_verdicts_apart():
    errors = record(refflow.Tanh())
    for z, error, verdict in ((0.5, 1.0, PASSES), (3.0, 99.0, FAILS), (9.0, np.inf, FAILS), (30.0, 99.0, NOT_JUDGED)):
        errors.keep(place_of(errors, z), error, 16.0, verdict, "a case")
    svg = picture(errors, "z")
    assert len(circles(svg, "fails")) == 2 and len(circles(svg, "unjudged")) == 1
    line = float(re.search(r'class="allowed" d="M\S+ ([\d.]+)H', svg)[1])
    infinite, wrong = sorted(float(c.get("cy")) for c in circles(svg, "fails"))
    passing = float(re.search(r'class="passes" d="M\d+ ([\d.]+)h0', svg)[1])
    assert infinite < wrong < line < passing
    assert "∞" in svg and "16 allowed" in svg and "a case" in svg


def test_vectors_are_drawn_by_their_largest_entry():
    errors = record(refflow.Independent(refflow.Tanh(), 1), event=[1.0, 2.0])
    assert place_of(errors, [0.5, -3.0]).size == 3.0 and "max|z|" in picture(errors, "z")


def test_errors_are_kept_only_when_they_are_asked_for():
    assert check(adapter(VECTOR, dtype="float64")(lambda params, z: {"forward": VECTOR.forward(z)})).errors == []


# -- the file ---------------------------------------------------------------------------------------------------------

def test_the_file_is_well_formed_and_needs_no_other(html):
    ElementTree.fromstring(html.replace("<!DOCTYPE html>\n", ""))
    addresses = set(re.findall(r'https?://[^"\s<]+', html))
    assert all(address.startswith("http://www.w3.org/") for address in addresses)
    assert not re.search(r'src=|@import|url\(|<link', html)


def test_the_file_holds_every_verdict(html, report):
    tree = ElementTree.fromstring(html.replace("<!DOCTYPE html>\n", ""))
    text = " ".join("".join(tree.itertext()).split())
    assert f"{len(report.passed)} checks pass, {len(report.failed)} fail, {len(report.skipped)} skipped" in text
    assert len(list(tree.iter(f"{SVG}svg"))) >= len(report.failed) + len(report.errors)
    for i, found in enumerate(report.failed):
        article, = (a for a in tree.iter(f"{XHTML}article") if a.get("id") == f"f{i}")
        shown = " ".join("".join(article.itertext()).split())
        for part in (found.quantity, found.diagnosis, found.case, f"{found.failing} of {found.points} point",
                     repr(found.given), f"{number(found.allowed)} are allowed"):
            assert " ".join(part.split()) in shown
    assert all(passed.quantity in text for passed in report.passed)


def test_the_equations_of_a_finding_are_set_as_mathematics(html):
    assert "Equations (4) (9) (10) of Tanh" in html
    article = html[html.index("Equations (4) (9) (10) of Tanh"):]
    assert "<math" in article[:article.index("<dl>")]


def test_equations_belong_to_the_method():
    pages = refflow.REGISTRY
    assert equations(pages["Tanh"], "log_det") == (4, 9, 10)
    assert equations(pages["Tanh"], "vjp.z_bar") == (6, 13)
    assert equations(pages["Affine"], "vjp.scale_bar") == (6,)
    assert equations(pages["Affine"], "log_det shape") == (4,)
    assert "".join(typeset("Tanh", (10,))).count('class="row"') >= 2       # the rows that (10) continues stand above it


def test_a_reproduction_prints_the_truth(report):
    ran = 0
    for found in report.failed:
        if found.given is None or found.quantity.endswith("shape"):
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(reproduction(found), names := {})
        assert np.allclose(names["given"], found.given, rtol=0)
        printed = np.array([float(v) for v in re.findall(r"[-+.\de]+", out.getvalue())])
        u = np.finfo(found.dtype).eps
        assert np.allclose(printed, np.ravel(found.true), rtol=8 * u, atol=0), (reproduction(found), found.true)
        ran += 1
    assert ran >= 3


def test_a_composite_is_reproduced_from_its_parameters():
    f = refflow.Chain([refflow.Affine(shift=0.5, scale=0.75), refflow.Softplus()])
    found = check(adapter(f, dtype="float64")(lambda params, z: {"forward": 2 * f.forward(z)})).failed[0]
    exec(reproduction(found), names := {})
    assert names["params"]["stages"]["0"]["scale"] == 0.75 and f.forward(names["z"]) == pytest.approx(names["true"])


@pytest.mark.skipif(chromium() is None, reason="no Chromium: `apt-get install chromium` opens the report in one")
def test_a_browser_opens_it_and_copies(html, tmp_path):
    """The copied text is what the button says it is; nothing is written to the console."""
    click = """<script>document.querySelector("button.copy").click();
    document.addEventListener("copy", () => { document.title = getSelection().toString(); });</script></body>"""
    (tmp_path / "report.html").write_text(html.replace("</body>", click))
    flags = [*FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
             "--virtual-time-budget=1000"]
    ran = subprocess.run([chromium(), *flags, (tmp_path / "report.html").as_uri()], capture_output=True, text=True, timeout=300,
                         env=os.environ | {"HOME": str(tmp_path)})
    assert ran.returncode == 0, ran.stderr
    assert ">copied</button>" in ran.stdout
    assert "CONSOLE" not in ran.stderr and "Uncaught" not in ran.stderr, ran.stderr


# -- the command ------------------------------------------------------------------------------------------------------

ADAPTERS = """
import refflow
from refflow.oracle import adapter

version, f = "3.1", refflow.Affine(shift=0.5, scale=0.75)

@adapter(f, dtype="float64")
def mine(params, z):
    return {"forward": f.forward(z) * (1 + 1e-9 * (z > 1))}
"""


def test_the_command_writes_the_file_once(tmp_path, capsys):
    source, out = tmp_path / "mine.py", tmp_path / "report.html"
    source.write_text(ADAPTERS)
    arguments = ["check", str(source), "--dtype", "float64", "--html", str(out)]
    assert main(arguments) == 1
    assert "mine.py" in out.read_text() and "3.1" in out.read_text()
    first = out.read_bytes()
    out.write_bytes(b"something else")
    assert main(arguments) == 2 and out.read_bytes() == b"something else"
    assert "--force writes over it" in capsys.readouterr().err
    assert main([*arguments, "--force", "--markdown"]) == 1 and out.read_bytes() == first
    table = capsys.readouterr().out
    assert "| library | version | map | dtype | forward | verdict |" in table
    assert re.search(r"\| mine.py \| 3\.1 \| `mine` \| float64 \| \*\*[\d.e+]+\*\* \| 1 finding \|", table), table
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".tmp", ".html")) == ["report.html"]


def test_two_forms_of_output_exclude_each_other():
    with pytest.raises(SystemExit) as refused:
        main(["check", "--json", "--markdown"])
    assert refused.value.code == 2


# -- chains -----------------------------------------------------------------------------------------------------------

CHAIN = refflow.Chain([refflow.Affine(shift=0.5, scale=0.75), refflow.Softplus(), refflow.Affine(shift=-1.0, scale=2.0)])


def chain(bug, stages=False):
    """The chain by hand, with one mistake."""
    def mine(params, z):
        first, last = params["stages"]["0"], params["stages"]["2"]
        y = first["scale"] * z + first["shift"]
        s = np.logaddexp(0, y) * (1 + 1e-6 * (bug == "an inaccurate stage"))
        terms = [np.log(first["scale"]) + 0 * z, -np.logaddexp(0, -(z if bug == "another input" else y)),
                 np.log(last["scale"]) + 0 * z]
        x = last["scale"] * (y if bug == "a missing stage" else s) + last["shift"]
        signs = {"a missing term": [0, 1, 1], "a wrong sign": [1, 1, -1], "a term twice": [1, 2, 1]}.get(bug, [1, 1, 1])
        log_det = sum(sign * term for sign, term in zip(signs, terms))
        found = {"forward": x, "log_det": log_det * (1.1 if bug == "a factor" else 1)}
        return found | ({"stages": list(zip((y, s, x), terms))} if stages else {})

    return mine


GUESSED = {
    "a missing term": "stage 0 of the chain, Affine: its log-det is left out",
    "a wrong sign": "stage 2 of the chain, Affine: its log-det has the wrong sign",
    "a term twice": "stage 1 of the chain, Softplus: its log-det is counted twice",
    "another input": "stage 1 of the chain, Softplus: its log-det is taken at the chain's input",
    "a missing stage": "stage 1 of the chain, Softplus: it is left out",
}


def located(bug, stages=False):
    """The layer that is named for a chain with a mistake, from the answers at three events; "" if none is."""
    declared = load(adapter(CHAIN, dtype="float64")(chain(bug, stages))).adapters[-1]
    failures = []
    for z in (-0.7, 0.3, 1.1):
        point = Point(CHAIN, "forward", np.float64(z))
        truths, answers = run_time_truth(point), ask(declared, point).found
        failures += [Failure(point, name, float(C), ALLOWED, answers[name], truths[name]) for name in ("forward", "log_det")
                     if (C := truths[name].error(answers[name], point.dtype)) > ALLOWED]
    failures = [failure for failure in failures if failure.quantity == failures[0].quantity]
    found = first_wrong(failures[0], failures, lambda point: ask(declared, point), ALLOWED)
    return "" if found is None else found.text


@pytest.mark.parametrize("bug", GUESSED)
def test_one_mistake_in_one_stage_is_found_from_the_answers_alone(bug):
    assert located(bug) == GUESSED[bug]


@pytest.mark.parametrize("bug", ["a factor", "an inaccurate stage"])
def test_what_no_single_mistake_explains_is_not_guessed(bug):
    assert located(bug) == ""


@pytest.mark.parametrize("bug, words", [
    ("an inaccurate stage", "stage 1 of the chain, Softplus: its image is off by "),
    ("another input", "stage 1 of the chain, Softplus: its log-det is off by "),
    ("a missing stage", "stage 2 of the chain, Affine: its image is off by "),
    ("a missing term", GUESSED["a missing term"]),
    ("a factor", "no stage: each is right at its own input, and what is returned is not the sum of the log-dets"),
])
def test_stages_say_which_is_wrong_first(bug, words):
    assert located(bug, stages=True).startswith(words)


def test_a_finding_names_the_layer_and_its_equations():
    report = check(adapter(CHAIN, dtype="float64")(chain("a missing term")))
    found = next(one for one in report.failed if one.given != 0)        # one of the points is where what is left is 0
    assert (found.layer, found.page, found.equations) == (GUESSED["a missing term"], "Affine", (4,))
    assert GUESSED["a missing term"] in report.table() and "drawn; equation (4) of Affine" in report.table()


def test_right_stages_are_no_finding():
    assert not check(adapter(CHAIN, dtype="float64")(chain("", stages=True))).failed


@pytest.mark.parametrize("page, stages, words", [
    ("Tanh", [0.0], "returned stages, but Tanh is not a Chain"),
    (CHAIN, 1.0, "stages must be a list"),
    (CHAIN, ["text"], "stages must be a list"),
])
def test_stages_of_another_form_are_an_error_of_use(page, stages, words):
    with pytest.raises(CannotRun, match=words):
        check(adapter(page, dtype="float64")(lambda params, z: {"forward": z, "stages": stages}))


# -- suggestions ------------------------------------------------------------------------------------------------------

def flushed(a):
    return np.where(np.abs(a) < np.finfo(a.dtype).tiny, 0, a)


VECTOR = refflow.Independent(refflow.Affine(shift=[0.0, 1.0, 2.0], scale=[0.3, 2.0, 7.0]), 1)


def summed_in_float32(params, z):
    inner = params["inner"]
    total = np.log(inner["scale"]).astype(np.float32).sum(dtype=np.float32).astype(np.float64)
    return {"forward": inner["scale"] * z + inner["shift"], "log_det": np.broadcast_to(total, z.shape[:-1])}


def logarithm(params, x):
    return {"forward": np.log(x)}


EXPONENTIAL = refflow.Exp()


@pytest.mark.parametrize("page, mine, said", [
    ("Exp", lambda params, z: {"forward": flushed(np.exp(z))}, "flush_to_zero=True, this finding would be allowed"),
    (EXPONENTIAL, logarithm, "direction='inverse', these 4 findings would be allowed"),
    (VECTOR, summed_in_float32, "accumulation='float32', this finding would be allowed"),
], ids=["flushed", "logarithm", "float32"])
def test_a_declaration_that_explains_everything_is_suggested(page, mine, said):
    report = check(adapter(page, dtype="float64")(mine))
    suggestion, = report.suggestions
    assert f"declared with {said}" in report.table()
    if page != "Exp":
        key, value = suggestion.declaration.split("=")
        assert not check(adapter(page, dtype="float64", **{key: value.strip("'")})(lambda params, z: mine(params, z))).failed


@pytest.mark.parametrize("page, mine", [
    (EXPONENTIAL, lambda params, x: {"forward": np.log(x) + 1e-6}),
    (VECTOR, lambda params, z: {"log_det": summed_in_float32(params, z)["log_det"] * (1 + 1e-3)}),
], ids=["logarithm", "float32"])
def test_a_declaration_that_explains_only_a_part_is_not_suggested(page, mine):
    report = check(adapter(page, dtype="float64")(mine))
    assert report.failed and report.suggestions == []


def test_a_declaration_is_suggested_only_for_what_then_passes():
    declared = load(adapter("Exp", dtype="float64")(lambda params, z: {})).adapters[-1]
    findings = [SimpleNamespace(quantity=q, input=-720.0, params={}, true=1e-312, diagnosis="", failing=1, points=9)
                for q in ("forward", "forward", "log_det")]
    tried = []

    def passing(adapter):
        tried.append(adapter.flush_to_zero)
        return ["forward"]

    found, = suggestions(declared, "float64", findings, passing)
    assert tried == [True] and (found.quantity, found.findings) == ("forward", 2)


def test_an_unknown_accumulation_is_refused():
    with pytest.raises(ValueError, match="accumulation must be one of float32, bfloat16, float16"):
        adapter("Tanh", accumulation="float8")


def test_flushed_subnormals_are_one_finding_and_one_suggestion():
    """Code without subnormal numbers is wrong in many quantities, for one reason."""
    def mine(params, z):
        x = flushed(np.exp(flushed(z)))
        return {"forward": x, "log_det": flushed(z), "inverse": lambda x: np.log(flushed(x)),
                "inverse_log_det": lambda x: -np.log(flushed(x))}

    report = check(adapter("Exp", dtype="float64")(mine))
    text = report.table()
    assert {one.quantity for one in report.failed} == {"forward", "log_det", "inverse", "inverse_log_det"}
    assert all("subnormals flushed" in one.diagnosis for one in report.failed), [one.diagnosis for one in report.failed]
    assert sum(line.startswith("FAIL  ") for line in text.splitlines()) == 1 and text.count("suggestion: ") == 1
    assert re.search(r"mine float64: declared with flush_to_zero=True, these \d findings would be allowed: \w+, \w+, \w+", text)
    assert not check(adapter("Exp", dtype="float64", flush_to_zero=True)(lambda params, z: mine(params, z))).failed


def test_a_stage_is_guessed_behind_a_simplex_of_another_dtype():
    """Entries whose sum is 1 in float32 are not a member of the simplex in float64, where the mistakes are tried."""
    f = refflow.Chain([refflow.Affine(shift=[0.5, -0.25, 1.0], scale=0.75), refflow.StickBreaking()])

    def mine(params, z):
        g = f.astype(z.dtype)
        return {"forward": g.forward(z), "inverse": g.inverse,
                "inverse_log_det": lambda x: g.stages[1].inverse_and_log_det(x)[1]}

    found, = check(adapter(f, dtype="float32")(mine)).failed
    assert found.layer == "stage 0 of the chain, Affine: its log-det is left out"


def test_a_power_of_ten_has_one_digit():
    assert [magnitude(error) for error in (2.34e15, 1200.0, 9.99e-5, np.inf)] == ["2e15", "1e3", "1e-04", "inf"]
