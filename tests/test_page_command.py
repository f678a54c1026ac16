"""`python -m validation.page`: what it finds first, what it says, and that nothing of a failing page is written."""

from __future__ import annotations

import importlib
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from refflow import REGISTRY
from refflow.core import Bijector, bijector, case, positive, real
from refflow.laws.pages import lacks
from refflow.oracle.judging.verdict import Passed, Report
from validation import certify, page as command
from validation.certify import certified, failures
from validation.of_page import names_of
from validation.page import STEPS, Failed, Step, run, taken, verdict
from validation.points.drawn import Draw

from test_parts import careful, misplaced, text_of, uncited, unturned

GUIDE = Path(certify.__file__).parent.parent / ".github" / "CONTRIBUTING.md"


@bijector(source="definition", domain=real, codomain=positive, register=False)
class Draft(Bijector):
    """x = exp(z), as a first draft writes it: 0 times infinity, and the generic pullback of the inverse."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z):
        return m.exp(z)

    def forward(self, z):
        return np.exp(z)

    def inverse(self, x):
        return np.log(x)

    def log_det(self, z):
        return z + 0

    def slope(self, z):
        return np.exp(z)

    def vjp(self, z):
        x = np.exp(z)
        return (x, z + 0), lambda x_bar, log_det_bar: (x_bar * x + log_det_bar, {})

    hard_cases = (case("Beyond", "exp z overflows", z=[800.0], x=[1e-310]),)


@pytest.fixture
def draft(monkeypatch):
    monkeypatch.setitem(certify.PAGES, "Draft", Draft)
    return "Draft"


@pytest.fixture(scope="module")
def of_the_guide(tmp_path_factory):
    """The page that the guide shows, as a module."""
    folder = tmp_path_factory.mktemp("guide")
    source = re.search(r'^```python\n(r""".*?)^```$', GUIDE.read_text(encoding="utf-8"), re.M | re.S)[1]
    (folder / "page_of_the_guide.py").write_text(textwrap.dedent(source), encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield importlib.import_module("page_of_the_guide").Odds
    sys.path.remove(str(folder))


# -- the guide's page -------------------------------------------------------------------------------------------------

def test_the_page_of_the_guide_is_complete_and_in_three_parts(of_the_guide):
    text = text_of(of_the_guide)
    assert lacks(of_the_guide) + misplaced(text) + unturned(text) + uncited(text) + careful(text) == []


@pytest.mark.parametrize("dtype", certify.DTYPES)
@pytest.mark.parametrize("side", certify.SIDES)
def test_the_page_of_the_guide_passes_the_certificate(of_the_guide, side, dtype, monkeypatch):
    """At its hard cases and every seventh of the other points; the search starts from the worst of them."""
    every = certify.points(of_the_guide, dtype, side)
    asked = [point for i, point in enumerate(every) if point.case or i % 7 == 0]
    monkeypatch.setattr(certify, "points", lambda *of: asked)
    rows, _ = certified(of_the_guide, dtype, side)
    assert failures({"fingerprint": {}, "pages": {"Odds": {q: {dtype: row} for q, row in rows.items()}}}, []) == []


# -- what a draft hears -----------------------------------------------------------------------------------------------

def test_the_hard_cases_find_0_times_infinity_in_seconds_and_say_what_is_true(draft):
    with pytest.raises(Failed) as found:
        STEPS["hard cases"](draft, 1)
    text = str(found.value)
    assert "float64 vjp.z_bar: C = inf" in text and "measure(Draft(), z=800.0" in text
    assert "Beyond, exp z overflows: given nan, true " in text and "What the certificate asks" in text


def test_an_exception_is_told(draft):
    (point,) = [p for p in Draw(Draft, "float64", "inverse").limit_points()][:1]
    (quantity,) = certify.errors(point)
    assert quantity == "LinAlgError" and certify.explained(point, quantity) == "raises LinAlgError: Singular matrix"


def test_a_failing_row_says_what_is_given_and_true(monkeypatch):
    monkeypatch.setattr(certify, "points", lambda *of: list(Draw(Draft, "float64", "forward").hard_points()))
    monkeypatch.setattr(certify, "climb", lambda *of: None)
    rows, _ = certified(Draft, "float64", "forward")
    found = failures({"fingerprint": {}, "pages": {"Draft": {q: {"float64": row} for q, row in rows.items()}}}, [])
    assert any("given nan, true " in text for text in found)


def test_a_refused_hard_case_is_told_by_its_name(monkeypatch):
    monkeypatch.setattr(Draft, "hard_cases", (case("Odd", "a field that is refused", z=[1.0], scale=-1.0),))
    draw = Draw(Draft, "float32", "forward")
    monkeypatch.setattr(draw, "given", lambda params, D: certify.PAGES["Affine"](0.0, 0.0))
    with pytest.raises(ValueError, match="^hard case 'Odd' of Draft in float32: Affine: scale must be "):
        list(draw.hard_points())


def test_a_parameter_that_float32_cannot_hold_is_left_out_before_it_is_rounded():
    draw = Draw(certify.PAGES["Affine"], "float32", "forward")
    assert draw.given({"scale": 1e-60, "shift": 0.0}, 1) is None and draw.given({"scale": 2.0, "shift": 0.0}, 1) is not None


def test_failing_rows_of_a_page_are_not_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(certify, "certificate_of", lambda *of: {"pages": {}, "points": {}, "fingerprint": {}})
    monkeypatch.setattr(certify, "CERTIFICATE", tmp_path / "certificate.json")
    assert certify.main(["--page", "Tanh", "--write", "--json"]) == 1 and not list(tmp_path.iterdir())
    assert "nothing is written" in capsys.readouterr().err


# -- the command ------------------------------------------------------------------------------------------------------

def broken(name, workers):
    raise Failed("a mistake")


def raising(name, workers):
    raise ZeroDivisionError("of the page")


def test_it_stops_at_the_first_failure_unless_told():
    told, steps = [], {"a": lambda *of: "2 points", "b": broken, "c": raising}
    assert [step.status for step in run("Draft", steps, 1, False, told.append)] == ["pass", "FAIL", "not asked"]
    assert [step.name for step in told] == ["a", "b"] and told[0].text == "2 points"
    found = run("Draft", steps, 1, True, told.append)
    assert [step.status for step in found] == ["pass", "FAIL", "FAIL"] and found[2].text == "ZeroDivisionError: of the page"
    assert verdict("Draft", found, 1.0) == "Draft fails: b, c"


def test_nothing_is_generated_from_a_page_that_fails():
    steps = {"laws": broken} | {name: STEPS[name] for name in ("golden points", "tables", "tests")}
    found = run("Draft", steps, 1, True, lambda step: None)
    assert [step.status for step in found] == ["FAIL", "not asked", "not asked", "not asked"]


def test_the_verdict_says_what_to_do_next():
    assert verdict("Draft", [Step("laws", "pass", "", 1.0)], 2.0).endswith("python -m validation.mutants Draft")


def test_an_unknown_page_is_an_error_of_use(monkeypatch, capsys):
    monkeypatch.setattr(command, "names", lambda *of: None)
    with pytest.raises(SystemExit) as ended:
        command.main(["Nothing"])
    assert ended.value.code == 2 and "no page is called 'Nothing'" in capsys.readouterr().err


def test_the_tests_of_one_page_are_found():
    """By its name, and by its module's."""
    assert command.tests_of("Softsign", ("ends", "pages")).startswith("2 passed")
    assert names_of("Softsign") == {"Softsign", "maps.elementwise.softsign", "refflow/maps/elementwise/softsign.py"}


@pytest.mark.parametrize("page, error, expected", [("Softsign", 3.7, True), ("Softsign", 3.6, False), ("SinhArcsinh", 1.0, True)])
def test_the_readme_is_written_anew_where_the_page_has_the_largest_error(page, error, expected):
    report = Report("refflow", "0.1.0", passed=[Passed(page, "refflow", "forward", "float64", error, 4.0, 9)])
    assert command.leads(report, "largest error that passes: 3.66 of 4 units (SinhArcsinh log_det, float64)") == expected


def test_what_the_readme_counts_of_a_page():
    assert {key for _, key in command.counted("Softsign")} > {"forward", "inverse", "vjp.z_bar"}
    assert command.counted("Draft") == set()
    standing = "refflow 0.1.0: 1046 checks pass, 0 fail\nnote: 51 of 141 pages have golden points"
    assert command.recounted(standing, 14, 52) == \
        f"refflow 0.1.0: 1060 checks pass, 0 fail\nnote: 52 of {len(REGISTRY)} pages have golden points"


def test_a_failing_test_says_all_that_it_found(monkeypatch, tmp_path):
    """What is given and what is true stand at the end of a long line, which pytest's summary cuts off."""
    (tmp_path / "test_long.py").write_text(textwrap.dedent("""
        import pytest

        @pytest.mark.parametrize("name", ["Softsign", "Tanh"])
        def test_of(name):
            raise AssertionError("inverse of forward: " + 300 * "x" + " given 2.0, true 1.0")
    """), encoding="utf-8")
    monkeypatch.setattr(command, "test_file", lambda name: tmp_path / f"test_{name}.py")
    with pytest.raises(Failed, match=r"test_of\[Softsign\]\n.* given 2.0, true 1.0$") as found:
        command.tests_of("Softsign", ("long",))
    assert "Tanh" not in str(found.value)


def test_a_comparison_is_told_whole(monkeypatch, tmp_path):
    """Of two lists, pytest shows an item in short, and that there are more."""
    missing = [f"equation ({n}) is cited by no line of the textbook or the definition" for n in range(1, 9)]
    (tmp_path / "test_form.py").write_text("import pytest\n\n@pytest.mark.parametrize('name', ['Softsign'])\ndef test_of(name):\n"
                                           f"    assert {missing} == []\n", encoding="utf-8")
    monkeypatch.setattr(command, "test_file", lambda name: tmp_path / f"test_{name}.py")
    with pytest.raises(Failed) as found:
        command.tests_of("Softsign", ("form",))
    assert all(one in str(found.value) for one in missing)


def test_a_page_that_does_not_load_says_where(monkeypatch, capsys):
    line = command.MAPS / "elementwise" / "softsign.py"

    def broken(name, workers):
        exec(compile("\n\nscale = positive(3)", str(line), "exec"), {"positive": lambda given: 1 / 0})

    monkeypatch.setattr(command, "names", broken)
    assert command.main(["Softsign"]) == 1
    out = capsys.readouterr().out
    assert "ZeroDivisionError: division by zero\n    refflow/maps/elementwise/softsign.py, line 3: " in out


def test_a_misprinted_equation_fails_with_the_line_that_contradicts_it(monkeypatch):
    from validation import equations
    read = equations.source_of
    monkeypatch.setattr(equations, "source_of", lambda page: read(page).replace("dx/dz = r^2,", "dx/dz = r^3,"))
    found = taken("equations", STEPS["equations"], "Softsign", 1)
    assert found.status == "FAIL" and found.text.startswith("Softsign (3), printed `dx/dz = r^3`: ") and "`slope`, line " in found.text


def test_the_printed_equations_of_a_page_pass_first():
    assert list(STEPS).index("equations") < list(STEPS).index("form")
    assert taken("equations", STEPS["equations"], "Softsign", 1).text == "8 of 8 executed"


# -- what is not asked anew -------------------------------------------------------------------------------------------

def test_what_stands_is_not_asked_anew(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(command, "PASSED", tmp_path / "unfinished" / "laws.json")
    monkeypatch.setattr(command, "names", lambda *of: None)
    monkeypatch.setattr(command, "STEPS", {step: lambda name, workers, step=step: asked.append(step) for step in STEPS})
    monkeypatch.setattr(command.reached, "changed", lambda names: [])
    monkeypatch.setattr(command, "golden_points_stand", lambda name: True)
    for given, expected in ((["Softsign"], ["completeness", "equations", "form", "laws"]),
                            (["Softsign"], ["completeness", "equations", "form"]),
                            (["Softsign", "--again"], [step for step in STEPS if step != "names"])):
        asked.clear()
        assert command.main(given) == 0 and asked == expected
    monkeypatch.setattr(command.reached, "changed", lambda names: names)
    assert command.standing("Softsign") == {"golden points"}
    monkeypatch.setattr(command.reached, "changed", lambda names: [])
    monkeypatch.setattr(command.reached, "code_of", lambda path: "another")
    assert command.standing("Softsign") == {"hard cases", "certificate", "golden points", "tables", "tests"}
