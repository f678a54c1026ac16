"""The recorded raw parameters of other libraries give the same answers, except where it is known why not."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from refflow.maps.parametrisations import SPLINES
from validation.raw_parameters import __main__ as command
from validation.raw_parameters import comparison
from validation.raw_parameters.comparison import compared
from validation.raw_parameters.environments import CACHE, EXPORTERS, REQUIREMENTS, NotInstalled, python_of
from validation.raw_parameters.loading import models

# (library, model, quantity): why the library is off.
KNOWN = {
    ("nflows", "linear spline coupling", "sample"): "the inverse uses a last knot that its search for a bin has moved by 1e-6",
    ("nflows", "spline coupling", "gradient by parameters"): "terms cancel in the derivative of the log-det",
    ("flowjax_19", "spline coupling", "gradient by parameters"): "terms cancel in the derivative of the log-det",
    ("flowjax_19", "spline autoregressive", "sample"): "the inverse adds numbers of opposite sign",
    ("distrax", "spline coupling, circular", "gradient by parameters"): "terms cancel in the derivative of the log-det",
}
KNOWN |= {("zuko", "BPF", quantity): "beyond its bounds the identity is shifted by 1e-5"
          for quantity in ("log_prob", "gradient by x", "gradient by parameters")}
BISECTED = ("SOSPF", "BPF")                 # zuko's samples are right up to 1e-6
FEW = 3                                     # draws of signs, for time


def file_of(library):
    return command.RECORDED / f"{library}.npz"


def model_of(library, name):
    return next(m for m in models(file_of(library)) if m.name == name)


def test_every_library_is_recorded_and_the_records_are_small():
    assert sorted(path.stem for path in command.RECORDED.iterdir()) == sorted(REQUIREMENTS)
    assert sum(path.stat().st_size for path in command.RECORDED.iterdir()) < 2.5e5


@pytest.mark.parametrize("library", REQUIREMENTS)
def test_what_is_recorded(library, monkeypatch):
    monkeypatch.setattr(comparison, "DRAWS", FEW)
    for m, lines in command.lines_of(file_of(library)):
        sampled = m.name not in BISECTED
        assert ("sample" in m.answers) == sampled and len(lines) == 3 + sampled and m.versions
        for line in lines:
            known = (line.library, line.model, line.quantity) in KNOWN
            assert (line.error > 16) == line.finding == known, (line, command.finding(m, line))


def test_a_wrong_convention_is_found(monkeypatch):
    monkeypatch.setattr(comparison, "DRAWS", 1)
    right = SPLINES["zuko"]
    m = model_of("zuko", "NSF")
    for wrong in (lambda bins: right(bins, slope=1.01e-3), lambda bins: right(bins, bound=5.001)):
        monkeypatch.setitem(SPLINES, "zuko", wrong)
        lines = compared(m, command.loader("zuko"))
        assert all(line.finding for line in lines) and min(line.error for line in lines) > 1e6
        m.read.clear()


def test_a_wrong_gradient_is_found(monkeypatch):
    monkeypatch.setattr(comparison, "DRAWS", 1)
    m = model_of("numpyro", "two orders")
    name = next(iter(m.grad))
    m.grad[name] = np.where(np.abs(m.grad[name]) == np.abs(m.grad[name]).max(), m.grad[name] * (1 + 1e-9), m.grad[name])
    assert [line.quantity for line in compared(m, command.loader("numpyro")) if line.finding] == ["gradient by parameters"]


def test_every_raw_parameter_is_read_once():
    m = model_of("pyro", "affine coupling")
    name = next(iter(m.raw))
    m.parameter(name)
    with pytest.raises(ValueError, match=f"pyro affine coupling: {name} is read twice"):
        m.parameter(name)
    with pytest.raises(ValueError, match="raw parameters are not read: "):
        other = command.loader("numpyro")(model_of("numpyro", "two orders"))
        compared(model_of("distrax", "lower upper triangular"), lambda m: other)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, meta=np.frombuffer(json.dumps({"schema": "refflow/raw/0", "models": {}}).encode(), np.uint8))
    with pytest.raises(ValueError, match="schema 'refflow/raw/0', not 'refflow/raw/1'"):
        models(path)


def test_the_command(monkeypatch, capsys):
    monkeypatch.setattr(comparison, "DRAWS", 1)
    assert command.main(["numpyro", "--recorded"]) == 0
    assert "two orders" in capsys.readouterr().out
    assert command.main(["numpyro", "--recorded", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["quantity"] for line in lines} == {"log_prob", "sample", "gradient by x", "gradient by parameters"}
    assert not any(line["finding"] for line in lines)


def test_environments_stand_outside_the_project(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr("subprocess.run", lambda given, **options: commands.append(given) or SimpleNamespace(returncode=0))
    monkeypatch.setattr("pathlib.Path.touch", lambda path, **options: None)
    interpreter = python_of("zuko", tmp_path)
    assert interpreter.is_relative_to(tmp_path) and any("zuko==1.6.0" in given for given in commands)
    assert not CACHE.is_relative_to(EXPORTERS.parent)
    assert {path.stem for path in EXPORTERS.glob("export_*.py")} == {f"export_{name.split('_')[0]}" for name in REQUIREMENTS}


def test_what_pip_refuses_is_told(tmp_path, monkeypatch):
    reason = "ERROR: No matching distribution found for zuko==1.6.0"
    monkeypatch.setattr("subprocess.run", lambda given, **options: SimpleNamespace(
        returncode=int("pip" in given), stderr=f"WARNING: slow\n{reason}\n"))
    with pytest.raises(NotInstalled, match=reason):
        python_of("zuko", tmp_path, with_refflow=True)
