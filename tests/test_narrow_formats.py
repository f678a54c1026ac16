"""Code in float16 and bfloat16: held to the points that are exact there, and told what is not asked."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow.accuracy.formats import FORMATS
from refflow.cli import main
from refflow.oracle import CannotRun, adapter, check
from refflow.oracle.points import golden
from refflow.oracle.points.pages import bijectors

REGISTRY = bijectors()
SEEN: set = set()


def rounded(value, form):
    """The best answer of a format, in NumPy's arrays."""
    if isinstance(value, dict):
        return {key: rounded(inner, form) for key, inner in value.items()}
    return FORMATS[form].rounded(np.asarray(value, np.float64))


def best(name, form, wrong=None):
    """A page's float64 methods, rounded to a format; `wrong` changes the dictionary of answers.

    On sets of lower dimension they are not checked: the residual of a member in a narrow format is too large for float64.
    """
    def mine(params, z):
        SEEN.add((form, z.dtype.name, bool(FORMATS[form].holds(z))))
        f = REGISTRY[name](**{k: wide(v) for k, v in params.items()})
        f = f.unchecked(np.float64) if f.domain.thin or f.codomain.thin else f
        (x, log_det), pullback = f.vjp(wide(z))

        def vjp(x_bar, log_det_bar):
            z_bar, params_bar = pullback(wide(x_bar), wide(log_det_bar))
            return rounded(z_bar, form), rounded(params_bar, form)

        found = {"forward": rounded(x, form), "log_det": rounded(log_det, form), "vjp": vjp,
                 "jacobian": rounded(f.jacobian(wide(z)), form), "inverse": lambda x: rounded(f.inverse(wide(x)), form),
                 "inverse_log_det": lambda x: rounded(f.inverse_and_log_det(wide(x))[1], form)}
        return found | (wrong(found, z) if wrong else {})

    return check(adapter(name, dtype=form)(mine))


def wide(value):
    real = isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f"
    return value.astype(np.float64) if real else value


@pytest.mark.parametrize("form", golden.NARROW)
def test_the_best_answers_pass(form):
    """Half a unit of rounding, on every page that has points; quantities are skipped only for want of a first-order unit."""
    SEEN.clear()
    asked = [name for name in golden.recorded(golden.EXACT_DIRECTORY) if golden.exact_points(name, form)]
    for name in asked[::3]:
        report = best(name, form)
        assert not report.failed and len(report.passed) >= 4, report.table()
        assert max(one.error for one in report.passed) <= 1
        assert any("were asked, one event each; drawn points, batches" in note for note in report.notes)
    assert SEEN == {(form, {"bfloat16": "float32", "float16": "float16"}[form], True)} and len(asked) >= 40


MISTAKES = {
    "negated": (lambda found, z: {"log_det": -found["log_det"]}, "log_det", "negated"),
    "in few digits": (lambda found, z: {"forward": found["forward"] * (1 + 2.0**-3)}, "forward", ""),
    "NaN": (lambda found, z: {"log_det": np.where(z > 1, np.nan, found["log_det"])}, "log_det", "NaN where"),
    "a shape": (lambda found, z: {"log_det": np.zeros(3)}, "log_det shape", "wrong shape"),
    "it raises": (lambda found, z: {"inverse": lambda x: 1 // 0}, "inverse", "raised ZeroDivisionError")}


@pytest.mark.parametrize("form", golden.NARROW)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake, form):
    wrong, quantity, diagnosis = MISTAKES[mistake]
    report = best("Softplus", form, wrong)
    assert {one.quantity for one in report.failed} == {quantity} and diagnosis in report.failed[0].diagnosis
    assert all(FORMATS[form].holds(np.float64(one.input)) for one in report.failed)


def test_the_unit_is_that_of_the_format():
    """float16 answers of 11 bits are right in float16, off by thousands of units in float32; and bfloat16's in float16."""
    def in_float16(params, z):
        return {"forward": np.exp(z.astype(np.float16))}

    def in_bfloat16(params, z):
        return {"forward": rounded(np.exp(z.astype(np.float64)), "bfloat16") * (1 + 2.0**-6)}

    assert not check(adapter("Exp", dtype="float16")(in_float16)).failed
    assert check(adapter("Exp", dtype="float32")(in_float16)).failed
    assert not check(adapter("Exp", dtype="bfloat16")(in_bfloat16)).failed
    assert check(adapter("Exp", dtype="float16")(in_bfloat16)).failed


def test_tensors_of_bfloat16_come_back():
    torch = pytest.importorskip("torch")

    def mine(params, z):
        z = torch.as_tensor(z).bfloat16().requires_grad_()
        return {"forward": torch.nn.functional.softplus(z), "log_det": torch.nn.functional.logsigmoid(z)}

    report = check(adapter("Softplus", dtype="bfloat16")(mine))
    assert not report.failed and {one.quantity for one in report.passed} == {"forward", "log_det"}, report.table()


def test_an_inverse_given_as_values_is_not_asked():
    report = best("Softplus", "float16", lambda found, z: {"inverse": z})
    assert any(one.quantity == "inverse" and one.reason.startswith("an inverse given as values is not asked in float16")
               for one in report.skipped)


@pytest.mark.parametrize("page, options, message", [
    (refflow.Chain([refflow.Tanh()]), {"dtype": "float16"}, r"Chain\(Tanh\) has no points that are exact in float16"),
    ("Affine", {"dtype": "bfloat16", "parametrisation": "exp"}, "has no points that are exact in bfloat16"),
    ("Tanh", {"dtype": ("float32", "bfloat16")}, "both come in float32 arrays: declare a function for each"),
    ("Tanh", {"dtype": "bfloat17"}, "dtype must be one or several of bfloat16, float16, float32, float64, not 'bfloat17'"),
    ("Tanh", {"dtype": ()}, "dtype must be one or several of")])
def test_what_cannot_be_asked_is_refused(page, options, message):
    with pytest.raises(CannotRun, match=message):
        adapter(page, **options)


def test_the_command(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text('import numpy as np\nfrom refflow.oracle import adapter\n\n@adapter("Exp", dtype="float16")\n'
                    'def mine(params, z):\n    return {"forward": np.exp(z), "log_det": -z}\n')
    assert main(["check", str(path), "--dtype", "float16"]) == 1
    out, _ = capsys.readouterr()
    assert "only the" in out and "points that are exact in float16 were asked" in out and "negated" in out
    assert main(["check", "--page", "Exp", "--dtype", "bfloat16"]) == 2
    assert "refflow's own pages compute in float32 and float64, not in bfloat16" in capsys.readouterr().err
