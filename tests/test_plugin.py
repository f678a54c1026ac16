"""The pytest plugin: planted mistakes become failing items of the right name, and the right twin is green."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import refflow
from refflow.cli import main
from refflow.oracle import CannotRun
from refflow.oracle.boxes import black_box_laws
from refflow.oracle.judging import suites
from refflow.oracle.judging.baseline import read, text_of
from refflow.testing import Known, SuiteWarning, law_tests, page_tests

pytest_plugins = ("pytester",)
PLUGIN = ("-p", "refflow.testing.plugin", "-p", "no:cacheprovider")


@pytest.fixture
def ran(pytester):
    """ran(text of a test file, *options) -> {name of a test: its report}; `item`: only this one."""
    def run(text, *options, name="test_mine", item=None):
        pytester.makepyfile(**{name: text})
        record = pytester.inline_run(*PLUGIN, "-p", "no:xdist", *options, f"{name}.py{item and f'::test_flow[{item}]' or ''}")
        return {report.nodeid.partition("::")[2]: report for report in record.getreports("pytest_runtest_logreport")
                if report.when == "call" or report.failed}

    return run


def failed(reports):
    return {name for name, report in reports.items() if report.failed}


@pytest.fixture
def session(pytester):
    """session(text of a test file, *options) -> (exit status, the lines on the terminal)."""
    def run(text, *options):
        pytester.makepyfile(test_mine=text)
        result = pytester.runpytest_inprocess(*PLUGIN, "-p", "no:xdist", *options)
        return result.ret, result.outlines

    return run


def outcomes(reports):
    """{outcome: how many}; an expected failure is "known"."""
    found = [("known" if hasattr(report, "wasxfail") else report.outcome) for report in reports.values()]
    return {outcome: found.count(outcome) for outcome in dict.fromkeys(found)}


# -- planted mistakes -------------------------------------------------------------------------------------------------

FLOWS = '''
import numpy as np
from refflow.testing import BlackBox, law_tests

def sigmoid(s):
    return 1 / (1 + np.exp(-s))

def coupling(mistake):
    weight, unused = np.array(0.7), np.array(0.25)

    def net(a):
        return np.tanh(weight * a), 0.3 * a

    def forward(z):
        a, b = z[..., :1], z[..., 1:]
        if mistake == "a batch form that crashes" and len(z) == 0:
            raise IndexError("an empty batch")
        s, t = net(a)
        scale = sigmoid(s + 2) if mistake == "exp for sigmoid" else np.exp(s)
        if mistake == "an input written to":
            z[..., 1:] += 1
        x_b = b * scale + t
        if mistake == "a float32 constant":
            x_b = x_b * (float(np.float32(0.1)) * 10)
        log_det = s if mistake == "a missing sum" else s.sum(-1)
        if mistake == "a parameter of the log-det alone":
            log_det = log_det + unused
        return np.concatenate([a, x_b], -1), log_det

    def inverse(x):
        a, b = x[..., :1], x[..., 1:]
        s, t = net(a)
        at = net(b)[0] if mistake == "the inverse's log-det at the wrong point" else s
        return np.concatenate([a, (b - t) / np.exp(s)], -1), -at.sum(-1)

    return BlackBox(forward, inverse, event=(2,), parameters=[weight, unused])

def root(mistake):
    epsilon = 1e-9 if mistake == "an epsilon under a root" else 0.0

    def forward(z):
        r = np.hypot(z, 1)
        x = np.where(z < 0, 1 / (r - z), z + r)
        return x, np.log(x) - np.log(np.hypot(z, np.sqrt(1 + epsilon)))

    def inverse(x):
        z = (x - 1 / x) / 2
        return abs(z) if mistake == "a single-branch root" else z, np.logaddexp(0, -2 * np.log(x)) - np.log(2)

    return BlackBox(forward, inverse)
'''
DETERMINANT, INVERSE = "log-det is the determinant of differences", "inverse log-det is minus log-det"
MISTAKES = {
    "exp for sigmoid": DETERMINANT, "the inverse's log-det at the wrong point": INVERSE, "a missing sum": "log-det shape",
    "a float32 constant": "inverse of forward", "an input written to": "inputs are not written to",
    "a parameter of the log-det alone": "every parameter reaches the image",
    "a batch form that crashes": "an empty batch is empty",
    "an epsilon under a root": DETERMINANT, "a single-branch root": "inverse of forward"}


def planted(mistake, laws=""):
    make = "root" if "root" in mistake or laws == "root" else "coupling"
    return FLOWS + f'''
@law_tests(lambda seed: {make}({mistake!r}), suite="2026.12", require={{"log_det", "inverse_log_det"}})
def test_flow(law):
    law()
'''


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_an_item_that_fails(ran, mistake):
    assert failed(ran(planted(mistake), item=MISTAKES[mistake])) == {f"test_flow[{MISTAKES[mistake]}]"}


@pytest.mark.parametrize("make", ["coupling", "root"])
def test_the_right_twin_is_green(ran, make):
    reports = ran(planted("", make))
    assert not failed(reports) and outcomes(reports)["passed"] >= 12


# -- black boxes ------------------------------------------------------------------------------------------------------

FILE = '''
import numpy as np
from refflow.testing import BlackBox, Known, law_tests

LOG_DET = {log_det}

def flow(seed):
    return BlackBox(lambda z: (2 * z, np.full(len(z), LOG_DET)), lambda x: (x / 2, np.full(len(x), -np.log(2.0))))

@law_tests(flow, {options})
def test_flow(law):
    law()
'''
RIGHT, WRONG = "np.log(2.0)", "0.7"


FUSED, INTEGRAL = "fused is separate", "images differ by the integral of the slope"


def needing(what):
    return {name for name, needs in black_box_laws.NEEDS.items() if what in needs}


@pytest.mark.parametrize("log_det, options, broken", [
    (RIGHT, 'require="inverse"', set()), (WRONG, "", {DETERMINANT, INVERSE, INTEGRAL}),
    (RIGHT, 'require="pullback"', needing("pullback")), (RIGHT, 'require={"sample", "log_det"}', needing("sample")),
    (RIGHT, f'require={{"{FUSED}"}}', {FUSED}),
    (WRONG, f'expected={{"{DETERMINANT}": Known("theirs#1")}}', {INVERSE, INTEGRAL}),
    (RIGHT, f'expected={{"{DETERMINANT}": Known("theirs#1")}}', {DETERMINANT}),
    (RIGHT, f'expected={{"{FUSED}": Known("theirs#1")}}', {FUSED})])
def test_items_of_laws(ran, log_det, options, broken):
    reports = ran(FILE.format(log_det=log_det, options=options))
    assert failed(reports) == {f"test_flow[{name}]" for name in broken} and len(reports) == len(black_box_laws.LAWS)
    assert outcomes(reports).get("known", 0) == (log_det == WRONG and "Known" in options)
    assert outcomes(reports)["passed"] >= 10


def test_ids_are_the_names_of_laws(ran):
    assert set(ran(FILE.format(log_det=RIGHT, options=""), "-k", "mass")) == {"test_flow[mass is one]"}


@pytest.mark.parametrize("given, message", [
    ({"require": {"jacobi"}}, "require names 'jacobi'"), ({"expected": {"no law": Known("x")}}, "expected names 'no law'"),
    ({"box": 3}, "box must be a BlackBox or a function of a seed"),
    ({"suite": "2031.01"}, r"suite must be one of 2026.12, not '2031.01'; a newer refflow may know it"),
    ({"suite": "2026.11"}, "suite must be one of 2026.12, not '2026.11'$")])
def test_law_tests_refuses(given, message):
    with pytest.raises(ValueError, match=message):
        law_tests(**{"box": lambda seed: None} | given)


def test_known_refuses_other_keys():
    with pytest.raises(ValueError, match="witness has the key 'event', which is not one of events, seed, parameters"):
        Known("theirs#1", witness={"event": [0.0]})


@pytest.mark.parametrize("decorate, name", [(lambda e: law_tests(box, expected=e), "deterministic"),
                                            (lambda e: page_tests("Exp", expected=e)(lambda params, z: {}), "log_det-float64")])
@pytest.mark.parametrize("known, message", [
    ("theirs#1", "must be a Known(where, witness), not 'theirs#1'"),
    (Known("theirs#1", witness={"events": [[0.0]], "input": 0.0}), "witness has the key ")])
def test_expectations_are_of_one_kind(decorate, name, known, message):
    with pytest.raises(CannotRun, match=re.escape(f"expected[{name!r}]") + ".*" + re.escape(message)):
        decorate({name: known})


# what breaks, how the failing item is made right again
WITNESSED = {
    "a point": ("lambda z: (2 * z + 1e-3 * (z > 0.5), np.full(len(z), np.log(2.0)))", "inverse of forward"),
    "two events": ("lambda z: (2 * z + 1e-9 * z.mean(), np.full(len(z), np.log(2.0)))", "batch is the stack of singles"),
    "no event": ("lambda z: (2 * z, np.full(len(z) or 1, np.log(2.0)))", "an empty batch is empty"),
    "parameters": ("lambda z: (2 * z + 1e-3 * (z > CHANCE), np.full(len(z), np.log(2.0)))", "inverse of forward")}
ONE = '''
import itertools
import numpy as np
from refflow.testing import BlackBox, Known, law_tests
made = itertools.count(1)

def flow(seed):
    CHANCE = np.array(0.25 * (next(made) % 3))
    return BlackBox({forward}, lambda x: (x / 2, np.full(len(x), -np.log(2.0))){parameters})

@law_tests(flow, {expected})
def test_flow(law):
    law()
'''


@pytest.mark.parametrize("kind", WITNESSED)
def test_a_failure_prints_its_witness_which_is_replayed(ran, kind):
    forward, law = WITNESSED[kind]
    parameters = ", parameters=[CHANCE]" if kind == "parameters" else ""
    reports = ran(ONE.format(forward=forward, parameters=parameters, expected=""), name="test_first")
    text = reports[f"test_flow[{law}]"].longreprtext
    line = re.search(r"^expected=.*$", text, re.M)[0]
    witness = eval(line.removeprefix("expected="), {"Known": Known})[law].witness
    assert len(witness.get("events", ())) == {"a point": 1, "two events": 2, "no event": 0, "parameters": 1}[kind]
    assert ("parameters" in witness) == (kind == "parameters")
    pasted = ran(ONE.format(forward=forward, parameters=parameters, expected=line), name="test_pasted", item=law)
    assert outcomes(pasted) == {"known": 1}
    right = "lambda z: (2 * z, np.full(len(z), np.log(2.0)))"
    mended = ran(ONE.format(forward=right, parameters=parameters, expected=line), name="test_mended", item=law)
    assert "no longer fails (where it is reported): remove it" in mended[f"test_flow[{law}]"].longreprtext


def test_a_witness_without_events_of_its_own_parameters_is_refused(ran):
    options = 'expected={"deterministic": Known("theirs#1", witness={"parameters": [[1.0, 2.0]]})}'
    reports = ran(FILE.format(log_det=RIGHT, options=options), "-k", "deterministic")
    assert "error of use: the witness has parameters of shapes [(2,)], the box has []" in \
        reports["test_flow[deterministic]"].longreprtext


def test_a_new_law_warns_for_one_suite(ran, monkeypatch):
    """In a file that names an older suite; in a file that names none, it fails."""
    monkeypatch.setattr(suites, "SUITES", ("2026.12", "2027.03"))
    monkeypatch.setitem(black_box_laws.SINCE, DETERMINANT, "2027.03")
    found = {}
    for name, suite in (("test_older", 'suite="2026.12"'), ("test_newest", ""), ("test_named", 'suite="2027.03"')):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            reports = ran(FILE.format(log_det=WRONG, options=suite), "-k", "differences", "-p", "no:warnings", name=name)
        found[name] = outcomes(reports), [w.category for w in seen if issubclass(w.category, SuiteWarning)]
    assert found == {"test_older": ({"passed": 1}, [SuiteWarning]), "test_newest": ({"failed": 1}, []),
                     "test_named": ({"failed": 1}, [])}
    monkeypatch.setattr(suites, "SUITES", ("2026.12", "2027.03", "2027.06"))
    later = ran(FILE.format(log_det=WRONG, options='suite="2026.12"'), "-k", "differences", name="test_later")
    assert outcomes(later) == {"failed": 1}


def test_options_draw_other_boxes(ran):
    """Box 3 is wrong alone."""
    text = FILE.format(log_det=RIGHT, options="").replace("LOG_DET)), lambda x", "LOG_DET + (seed == 3))), lambda x")
    counts = [outcomes(ran(text, "-k", "differences", *options, name=f"test_{i}")) for i, options in enumerate(
        [(), ("--refflow-seed", "3"), ("--refflow-examples", "3"), ("--refflow-examples", "4")])]
    assert [("failed" in count) for count in counts] == [False, True, False, True]


@pytest.mark.parametrize("make, message", [
    ("lambda seed: 3", "a BlackBox is needed, or a function of a seed that returns one, not 3"),
    ("lambda seed: missing", "the function that makes the box raised, for seed 0, NameError: name 'missing' is not defined "
     "(line"),
    ("lambda seed: BlackBox(lambda z: z @ 3)", "forward of a batch of two plain events, of shape (2,), raised ValueError"),
    ("lambda seed: BlackBox(lambda z: z.sum())", "has shape (): batch axes come first")])
def test_errors_of_use(ran, make, message):
    reports = ran(f"from refflow.testing import *\n@law_tests({make})\ndef test_flow(law): law()\n", "-k", "finite")
    text = reports["test_flow[finite]"].longreprtext
    assert text.startswith("error of use: ") and message in text and "\n" not in text
    with pytest.raises(CannotRun, match=re.escape(message.replace("(line", ""))):
        refflow.check(eval(make, vars(refflow.testing) | {"BlackBox": refflow.testing.BlackBox}))


# -- what would pass without a question -------------------------------------------------------------------------------

def test_a_test_that_never_asks_fails(ran):
    reports = ran(FILE.format(log_det=RIGHT, options="").replace("    law()\n", "    pass\n"), "-k", "finite")
    assert "never calls its argument: nothing was asked" in reports["test_flow[finite]"].longreprtext


@pytest.mark.parametrize("name", ["flow_laws", "check_flow"])
def test_a_decorated_function_that_is_not_collected_is_an_error(pytester, name):
    pytester.makepyfile(FILE.format(log_det=RIGHT, options="").replace("test_flow", name))
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{name} is decorated with law_tests or page_tests*call it test_{name}*"])


def test_no_items_is_an_error(monkeypatch):
    monkeypatch.setattr("refflow.oracle.items.law_items.LAWS", {})
    with pytest.raises(ValueError, match="there is no law to ask"):
        law_tests(lambda seed: None)(test_no_items_is_an_error)


# -- pages ------------------------------------------------------------------------------------------------------------

PAGE = '''
import numpy as np
from refflow.testing import Known, page_tests

@page_tests("Exp", dtype="float32", {options})
def test_exp(params, z):
    {lines}
    return {{"forward": np.exp(z), "log_det": {log_det}, "inverse": {inverse}}}
'''


def page_file(options="", lines="pass", log_det="z", inverse="np.log"):
    return PAGE.format(options=options, lines=lines, log_det=log_det, inverse=inverse)


def test_items_of_a_page(ran):
    reports = ran(page_file('suite="2026.12", require={"log_det", "inverse"}'))
    assert outcomes(reports) == {"passed": 3, "skipped": 4}
    assert {name for name, report in reports.items() if report.passed} == {
        f"test_exp[{quantity}-float32]" for quantity in ("forward", "log_det", "inverse")}
    assert "not returned" in reports["test_exp[jacobian-float32]"].longreprtext
    properties = dict(reports["test_exp[log_det-float32]"].user_properties)
    assert properties["quantity"] == "log_det-float32" and float(properties["C"]) < 1 and properties["allowed"] == "16"


@pytest.mark.parametrize("given, item, message", [
    ({"log_det": "-z"}, "log_det", "diagnosis     negated: the log-det of the other direction"),
    ({"log_det": "np.where(z > 1, np.nan, -z)"}, "log_det", "NaN where the truth is finite"),
    ({"log_det": "z.sum()"}, "log_det", "wrong shape"),
    ({"lines": "raise ValueError('here')"}, "forward", "raised ValueError: here"),
    ({"options": 'require="vjp"'}, "vjp.z_bar", "vjp.z_bar-float32 is required and was not measured: not returned"),
    ({"lines": "return {'forwards': z}"}, "forward", "error of use: test_exp: the adapter returned an unknown key 'forwards'"),
    ({"lines": "missing"}, "forward", "error of use: test_exp: the adapter itself raised NameError: name 'missing'")])
def test_a_finding_is_a_failing_item(ran, given, item, message):
    reports = ran(page_file(**given))
    text = reports[f"test_exp[{item}-float32]"].longreprtext
    assert message in text and text.count("FAIL ") == (0 if "error of use" in message or "required" in message else
                                                       2 if "NaN" in message else 1)


@pytest.mark.parametrize("page, options, message", [
    ("Exq", {}, "there is no page 'Exq'; did you mean Exp"), ("Exp", {"suite": "2027.01"}, "page_tests: suite must be one of"),
    ("Exp", {"expected": {"log_det": Known("theirs#1")}}, "expected names 'log_det', which is not one of forward-float32"),
    ("Exp", {"require": "vjb"}, "require names 'vjb', which is not one of forward, log_det, jacobian, vjp, inverse"),
    ("Exp", {"parametrisation": "zuko"}, "Exp has no table of parametrisations; RationalQuadraticSpline"),
    ("RationalQuadraticSpline", {"parametrisation": "zuka"}, "no parametrisation 'zuka'; did you mean 'zuko'?"),
    ("Affine", {"parametrisation": "exp", "broadcast": True}, "parametrisation is for a page by name, without")])
def test_page_tests_refuses(page, options, message):
    with pytest.raises(ValueError, match=message):
        page_tests(page, **options)(lambda params, z: {})


# what is expected, the mistake; what is left where it is mended
PAGES_KNOWN = {
    "a number": ("log_det", {"log_det": "z * (1 + (z > 2))"}),
    "an exception": ("forward", {"lines": "if z.max() > 3: raise ValueError"}),
    "a shape": ("log_det", {"log_det": "z.sum()"}), "values of the image": ("inverse", {"inverse": "1.01 * z"})}


@pytest.mark.parametrize("kind", PAGES_KNOWN)
def test_a_finding_prints_its_witness_which_is_replayed(ran, kind):
    """An inverse given as values has none: it is asked in full."""
    quantity, wrong = PAGES_KNOWN[kind]
    item = f"test_exp[{quantity}-float32]"
    text = ran(page_file(**wrong), "-k", quantity, name="test_first")[item].longreprtext
    line = re.search(r"^expected=.*$", text, re.M)[0]
    known = eval(line.removeprefix("expected="), {"Known": Known})[f"{quantity}-float32"]
    assert (known.witness is None) == (kind == "values of the image")
    report = ran(page_file(line, **wrong), "-k", quantity, name="test_pasted")[item]
    assert report.wasxfail.startswith("where it is reported: ") and ("input" in report.wasxfail) == (known.witness is None)
    mended = ran(page_file(line), "-k", quantity, name="test_mended")[item]
    assert mended.failed and "(where it is reported): remove it from `expected`" in mended.longreprtext


def test_an_expected_failure_of_a_page_that_is_not_returned_fails(ran):
    found = ran(page_file('expected={"vjp.z_bar-float32": Known("theirs#1")}'))["test_exp[vjp.z_bar-float32]"]
    assert "vjp.z_bar-float32 is expected to fail and was not measured: not returned" in found.longreprtext


def test_the_witness_at_raw_parameters_and_of_a_composite(ran):
    """Parameters are part of a witness, unless the declaration has them."""
    for page, known in (('"Affine", parametrisation="exp"', "'params': {'h': ["),
                        ("refflow.Chain([refflow.Exp()])", "witness={'input': ")):
        text = PAGE.replace('"Exp"', page).replace("import numpy", "import refflow, numpy").format(
            options="", lines="pass", log_det="z * np.nan", inverse="np.log")
        shown = ran(text, "-k", "log_det-float32 and not inverse", name="test_shown")["test_exp[log_det-float32]"].longreprtext
        line = re.search(r"^expected=.*$", shown, re.M)[0]
        assert known in line and ("params" in line) == ("params" in known)
        assert ran(text.replace('dtype="float32", ', f'dtype="float32", {line}'), "-k", "log_det-float32 and not inverse",
                   name="test_again")["test_exp[log_det-float32]"].wasxfail


@pytest.mark.parametrize("witness, message", [
    ({"params": {}}, "KeyError: 'input'"), ({"input": 1.0, "params": {"scale": 1.0}}, "KeyError: 'scale'"),
    ({"input": "one"}, "ValueError"), ({"input": 1.0, "cotangents": {"x_bar": 1.0}}, "KeyError: 'log_det_bar'")])
def test_a_witness_that_cannot_be_asked_is_an_error_of_use(session, witness, message):
    text = page_file(f'expected={{"log_det-float32": Known("theirs#1", witness={witness})}}')
    status, lines = session(text, "-k", "log_det")
    assert status == 2 and any("the witness of log_det-float32 cannot be asked of Exp: " + message in line for line in lines)


# -- errors of use are not findings -----------------------------------------------------------------------------------

COLLECTED = {                   # a file, and the line that is told
    "an unknown page": (page_file().replace('"Exp"', '"Exq"'), "there is no page 'Exq'; did you mean Exp"),
    "a dtype": (page_file().replace('dtype="float32"', 'dtype="float31"'), "dtype must be one or several of"),
    "a quantity": (page_file('require="vjb"'), "require names 'vjb'"),
    "a suite": (FILE.format(log_det=RIGHT, options='suite="2031.01"'), "suite must be one of 2026.12, not '2031.01'"),
    "a law": (FILE.format(log_det=RIGHT, options='require="inverze"'), "require names 'inverze'"),
    "a box": ("from refflow.testing import BlackBox\nbox = BlackBox(abs, dtype='int8')\n", "BlackBox: dtype must be one of")}
ASKED = {
    "a misspelt key": (page_file(lines="return {'forwards': z}"), "unknown key 'forwards'; did you mean 'forward'?"),
    "a typo in the adapter": (page_file(lines="missing"), "NameError: name 'missing' is not defined (line 6)"),
    "a typo in the box": (FILE.format(log_det=RIGHT, options="").replace("(2 * z,", "(2 * missing,"), "NameError: name 'missing' is not defined"),
    "nothing asked": (FILE.format(log_det=RIGHT, options="").replace("    law()\n", "    pass\n"), "never calls its argument")}


@pytest.mark.parametrize("kind", [*COLLECTED, *ASKED])
def test_an_error_of_use_is_told_in_one_line_and_the_exit_status_is_2(session, kind):
    text, message = (COLLECTED | ASKED)[kind]
    status, lines = session(text)
    told = [line for line in lines if message in line and not line.startswith(("ERROR", "test_mine.py::"))]
    assert status == 2 and len(told) == 1 and told[0].startswith("error of use: "), lines
    assert not any("Traceback" in line or line.startswith((">", "E   ")) or "FAILED" in line for line in lines)
    assert (kind in COLLECTED) == any("ERROR collecting" in line for line in lines)


def test_findings_alone_have_exit_status_1_and_both_have_2(session):
    wrong = page_file(log_det="-z")
    misused = wrong.replace("def test_exp", "def test_other").replace("pass", "missing")
    assert session(wrong)[0] == 1
    status, lines = session(wrong + misused.partition("page_tests\n")[2])
    assert status == 2 and any("1 failed" in line and "1 error" in line for line in lines)
    assert "test_mine.py::test_other: 0 quantities ran, 7 not asked: error of use" in lines


# -- baselines --------------------------------------------------------------------------------------------------------

def baseline(pytester, capsys, *more):
    status = main(["baseline", str(pytester.path / "test_mine.py"), "--out", str(pytester.path / "refflow.toml"), *more])
    return status, *capsys.readouterr()


def test_a_baseline_holds_errors_where_they_are(ran, pytester, capsys):
    """The same error is expected, half as much again is a failure, and a right quantity is named."""
    wrong = "z * np.float32(1 + {} * 2.0**-18)"

    def tried(factor):
        reports = ran(page_file('baseline="refflow.toml"', log_det=wrong.format(factor)))
        return reports["test_exp[log_det-float32]"]

    assert "there is no baseline refflow.toml beside" in tried(1).longreprtext
    status, out, _ = baseline(pytester, capsys)
    assert status == 0 and "3 errors of 1 function, the largest 32.5 units" in out
    held = read(pytester.path / "refflow.toml")
    assert set(held) == {("test_mine", "test_exp")} and held["test_mine", "test_exp"]["log_det", "float32"] == 32.5
    assert tried(1).wasxfail == "the error is 32.5 units, and the baseline records 32.5"
    assert "has grown to 64.4 units, more than half again as much as the baseline records, 32.5" in tried(2).longreprtext
    assert dict(tried(0).user_properties)["hint"].endswith("units, and was 32.5: `refflow baseline` records it anew")


HEAD = 'schema = "refflow/baseline/1"\n'


@pytest.mark.parametrize("text, message", [
    ("schema = 3", "has schema 3; this version of refflow reads 'refflow/baseline/1'"), ("[", "is not a baseline"),
    ("[test_mine]", "has schema None"), (HEAD + "other = 1", "other must be a table, not 1"),
    (HEAD + "[test_mine]\ntest_exp = 1", "test_mine.test_exp must be a table, not 1"),
    (HEAD + "[test_mine.test_exp]\nfloat32 = 1", "test_mine.test_exp.float32 must be a table"),
    (HEAD + "[test_mine.test_exp.float32]\nlog_det = true", "log_det must be a number >= 0, not True"),
    (HEAD + "[test_mine.test_exp.float32]\nlog_det = nan", "log_det must be a number >= 0, not nan")])
def test_what_is_not_a_baseline_is_refused(tmp_path, text, message):
    (tmp_path / "refflow.toml").write_text(text)
    with pytest.raises(CannotRun, match=re.escape(message)):
        read(tmp_path / "refflow.toml")


@pytest.mark.parametrize("where, message", [
    ("float32]\nlog_dett = 1.0", "test_mine.test_exp has no quantity 'log_dett' in float32"),
    ("float16]\nlog_det = 1.0", "test_mine.test_exp has no quantity 'log_det' in float16")])
def test_a_baseline_of_other_quantities_is_refused(ran, pytester, where, message):
    (pytester.path / "refflow.toml").write_text(f"{HEAD}[test_mine.test_exp.{where}")
    found = ran(page_file('baseline="refflow.toml"'))["test_exp[forward-float32]"].longreprtext
    assert found.startswith("error of use: ") and message in found


def test_a_baseline_is_read_as_it_is_written(tmp_path):
    errors = {("a b", "test_x.<locals>.f"): {("vjp.z_bar", "float64"): 1.25e6, ("log_det", "float32"): np.inf}}
    (tmp_path / "b.toml").write_text(text_of(errors))
    assert read(tmp_path / "b.toml") == errors


def test_a_baseline_needs_something_to_record(pytester, capsys):
    pytester.makepyfile(test_mine=FILE.format(log_det=RIGHT, options=""))
    status, _, err = baseline(pytester, capsys)
    assert status == 2 and "declares no adapter" in err and not (pytester.path / "refflow.toml").exists()
    status, _, err = baseline(pytester, capsys, "--out", "nowhere/refflow.toml")
    assert status == 2 and "--out nowhere/refflow.toml: the directory does not exist" in err

# -- the session ------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]
README = (ROOT / "refflow" / "oracle" / "README.md").read_text(encoding="utf-8")
EXAMPLE = next(code for code in re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S) if "law_tests(" in code)


def test_the_readmes_file_is_green_with_counts_under_xdist(pytester, monkeypatch):
    """In a fresh project, in processes of its own; the summary says what was asked."""
    pytest.importorskip("xdist", reason="pip install pytest-xdist")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(test_mine=EXAMPLE)
    chosen = "mass or finite or deterministic or log_det-float32"
    result = pytester.runpytest_subprocess(*PLUGIN, "-n", "2", "--junitxml", "found.xml", "-k", chosen)
    found = result.parseoutcomes()
    assert set(found) == {"passed", "skipped"} and found["passed"] == 3
    shown = README.split("says what was asked:\n\n```text\n")[1].split("```")[0].splitlines()
    assert re.sub(r"\d+", "1", shown[1]).startswith("test_mine.py::test_softplus: 1 quantities ran, 1 skipped: ")
    result.stdout.fnmatch_lines([re.sub(r"\d+|skipped: .*", "*", shown[0]), "test_mine.py::test_softplus: 1 quantity ran, 1 *"])
    xml = (pytester.path / "found.xml").read_text()
    assert '<property name="C"' in xml and '<property name="allowed" value="16"' in xml


def test_the_marker_chooses(ran):
    reports = ran(FILE.format(log_det=RIGHT, options="") + "\ndef test_other(): pass\n", "-m", "refflow and not slow",
                  "-k", "mass or other")
    assert set(reports) == {"test_flow[mass is one]"}


@pytest.mark.parametrize("option", ["--refflow-examples=0", "--refflow-seed=-1"])
def test_options_are_refused(pytester, option):
    result = pytester.runpytest_inprocess(*PLUGIN, option)
    assert result.ret == 4 and "must be at least" in "\n".join(result.errlines)


def test_the_plugin_costs_nothing_where_it_is_not_used():
    """It is imported in every project of an environment that has refflow."""
    code = "import sys, pytest, refflow.testing.plugin; print({'numpy', 'scipy', 'refflow.oracle.items.item'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# -- without pytest ---------------------------------------------------------------------------------------------------

def box(seed, log_det=np.log(2.0)):
    return refflow.testing.BlackBox(lambda z: (2 * z, np.full(len(z), log_det)))


def test_check_dispatches():
    right, wrong = refflow.check(box), refflow.check(box(0, 0.7))
    assert (right.status, wrong.status) == (0, 1) and {one.law for one in wrong.failed} == {DETERMINANT, INTEGRAL}
    assert re.match(r"\d+ laws ran, \d+ skipped: .*\(no `inverse` is given\)", right.counts()) and "2 broken" in wrong.counts()
    assert f"\n\n{right.counts()}\nasked: " in str(right)
    report = refflow.check(lambda params, z: {"forward": np.exp(z)}, page="Exp", dtypes=("float32",))
    assert report.status == 0 and [one.quantity for one in report.passed] == ["forward"]
    assert refflow.check(page="Exp", dtypes=("float32",)).target == "refflow"


@pytest.mark.parametrize("given, message", [
    ({"target": "Exp", "direction": "inverse"}, "the option 'direction' is for a function"),
    ({"target": box, "params": {}}, "the option 'params' is for a function"),
    ({"target": lambda params, z: {}, "page": "Exq"}, "there is no page 'Exq'; did you mean Exp"),
    ({"target": "no_such_file.py"}, "there is no file no_such_file.py")])
def test_check_refuses(given, message):
    with pytest.raises(ValueError, match=message):
        refflow.check(**given)
