"""Densities given by a formula on the command line: --energy of fit, and what sample, score and plot do with the result."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from refflow import Flow, StandardNormal
from refflow.cli import fit as command
from refflow.energies import ENERGIES
from refflow.models import planar, radial
from refflow.saving import about, load

NORMAL = """
import math
import numpy as np

D = 3
MEAN, STD = np.array([1.0, -1.0, 0.5]), np.array([0.5, 2.0, 1.0])
log_integral = {log_integral}

def log_density(x):
    return -((x - MEAN)**2/STD**2).sum(-1)/2

def gradient(x):
    {line}
    return -(x - MEAN)/STD**2
"""
LOG_INTEGRAL = 1.5 * math.log(2 * math.pi)                          # log prod of STD is 0


def write(name="density.py", log_integral=LOG_INTEGRAL, line="pass"):
    with open(name, "w") as file:
        file.write(NORMAL.format(log_integral=log_integral, line=line))
    return name


def test_a_gaussian_finds_a_normal_density(run):
    """Its divergence falls to 0; what is saved is a flow of rows, with what it was fitted to."""
    status, out, err = run("fit", "--energy", write(), "--steps", 600, "--learning-rate", 0.03, "--out", "f.npz", "--json")
    report, flow = json.loads(out), load("f.npz")
    assert status == 0 and not err and report["energy"] == "density.py" and report["data"] is None and report["parts"] == {}
    assert report["before"]["gap"] > 1 and abs(report["after"]["gap"]) < 1e-3 > report["after"]["error"]
    assert report["after"]["nats"] == pytest.approx(report["after"]["gap"] - LOG_INTEGRAL)
    x = flow.sample(np.random.default_rng(0), 20000)
    assert np.abs(x.mean(0) - [1, -1, 0.5]).max() < 0.06 and np.abs(x.std(0) / [0.5, 2, 1] - 1).max() < 0.03
    note = about("f.npz")
    assert note["energy"] == "density.py" and len(note["history"]["train"]) == 61 and "rows" not in note
    assert run("sample", "f.npz", "--n", 3)[1].count("\n") == 3
    assert run("sample", "f.npz", "--n", 5, "--out", "x.csv")[0] == 0 and run("score", "f.npz", "x.csv")[0] == 0


def test_a_scale_that_is_wrong_is_seen(run):
    """The gap is the divergence: with another integral it is not 0."""
    report = json.loads(run("fit", "--energy", write(log_integral=LOG_INTEGRAL + 0.1), "--steps", 300, "--learning-rate", 0.03,
                            "--out", "f.npz", "--json")[1])
    assert report["after"]["gap"] == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("model", ["planar", "radial", "realnvp", "iaf"])
def test_models_learn_an_energy(run, model):
    few = ("--couplings", 2) if model == "realnvp" else ("--layers", 2)
    hidden = ("--hidden", 8) if model in ("realnvp", "iaf") else ()
    status, out, err = run("fit", "--energy", "U1", "--model", model, *few, *hidden, "--steps", 60, "--batch-size", 64, "--average",
                           0, "--learning-rate", 0.02, "--anneal", 20, "--out", "f.json")
    rows = [line.split() for line in out.splitlines()]
    assert status == 0 and not err and out.startswith("u1: a density of 2 numbers, up to a constant\nnats ")
    assert rows[3][:2] == ["gap,", "KL(q,"] and float(rows[3][3]) > float(rows[3][6]) + 0.5
    assert rows[-1][0] == "f.json:" and about("f.json")["anneal"] == 20


def test_a_density_without_its_integral_has_no_gap(run):
    _, out, _ = run("fit", "--energy", write(log_integral=None), "--steps", 5, "--out", "f.npz")
    assert "E[log q - log p]" in out and "gap" not in out


# -- interruptions ----------------------------------------------------------------------------------------------------

def interrupted(run, monkeypatch, at, *arguments):
    """A fit that Ctrl-C stops in step `at`."""
    given, calls = ENERGIES["u2"].gradient, []

    def gradient(z):
        calls.append(z)
        if len(calls) == at + 1:                                    # the check of the gradient asks once more
            raise KeyboardInterrupt
        return given(z)

    with monkeypatch.context() as patched:
        patched.setattr(ENERGIES["u2"], "gradient", staticmethod(gradient))
        return run(*arguments)


def test_it_is_resumed(run, monkeypatch):
    """The bits are the same as without an interruption; another density is refused."""
    arguments = ("fit", "--energy", "u2", "--model", "planar", "--layers", 2, "--steps", 40, "--batch-size", 32, "--anneal", 30)
    assert run(*arguments, "--out", "whole.npz")[0] == 0
    status, _, err = interrupted(run, monkeypatch, 25, *arguments, "--out", "f.npz")
    assert status == 130 and "--resume continues from step 24" in err and load("f.npz").event_shape == (2,)
    status, _, err = run(*arguments, "--out", "f.npz", "--resume", "--energy", "u3")
    assert status == 2 and "--resume: u3 does not hold the data of f.checkpoint.npz" in err
    status, _, err = run(*arguments, "--out", "f.npz", "--resume", "--anneal", 31)
    assert status == 2 and "--anneal is 31, that of f.checkpoint.npz 30" in err
    assert run(*arguments, "--out", "f.npz", "--resume")[0] == 0
    assert load("f.npz").equals(load("whole.npz")) and about("f.npz")["history"] == about("whole.npz")["history"]


def test_a_file_that_has_changed_is_not_resumed(run, monkeypatch):
    arguments = ("fit", "--energy", write(), "--steps", 30, "--out", "f.npz", "--checkpoint-every", 1e-9)
    with monkeypatch.context() as patched:
        patched.setattr(command, "save", lambda *given, **more: (_ for _ in ()).throw(OSError(5, "killed")))
        assert run(*arguments)[0] == 2
    write(line="x = x*1.0")
    status, _, err = run(*arguments, "--resume")
    assert status == 2 and "--resume: density.py does not hold the data" in err


# -- refusals ---------------------------------------------------------------------------------------------------------

REFUSED = {
    ("--energy", "u9"): "there is no energy 'u9'; there are u1, u2, u3, u4; write a density of your own into a Python file",
    ("--energy", "nothing.py"): "there is no file nothing.py",
    (): "a flow is fitted to DATA or to --energy",
    ("data.csv", "--energy", "u1"): "give one of the two",
    ("--energy", "u1", "--context", "a"): "--context is for rows, and --energy is a density",
    ("--energy", "u1", "--test", "0.1"): "--test is for rows, and --energy is a density",
    ("--energy", "u1", "--model", "glow"): "--model glow is for images, and --energy is a density",
    ("--energy", "u1", "--model", "circular-nsf"): "--model circular-nsf is for rows",
    ("--energy", "u1", "--model", "flow_matching"): "--model flow-matching: it matches velocities of paths that end in data, and --energy",
    ("--energy", "u1", "--model", "planer"): "there is no model 'planer'; did you mean planar?",
    ("--energy", "u1", "--model", "planar", "--couplings", "3"): "the model planar has no --couplings",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_refusals(run, arguments):
    status, out, err = run("fit", *arguments, "--out", "f.npz")
    assert status == 2 and not out and REFUSED[arguments] in err


FILES = {
    "no D": ("def log_density(x): pass", "D must be the number of entries of x, an int >= 1, not None"),
    "no gradient": ("D = 2\ndef log_density(x): pass", "it declares no function gradient(x)"),
    "an infinite integral": (NORMAL.format(log_integral="math.inf", line="pass"), "log_integral must be a finite number, not inf"),
    "a mistake of Python": ("D = = 2", "cannot be imported: SyntaxError"),
    "a gradient that raises": (NORMAL.format(log_integral=0, line="x.nothing"), "gradient raises AttributeError: 'numpy.ndarray' object"),
    "its line": (NORMAL.format(log_integral=0, line="x.nothing"), "(line 13)"),
    "a wrong gradient": (NORMAL.format(log_integral=0, line="return (x - MEAN)*[-4, -1/4, 1]"), "its entry [2] is"),
    "a wrong shape": (NORMAL.format(log_integral=0, line="return x[:, :2]"), "gradient returned shape (256, 2), not (256, 3)"),
    "a jump": (NORMAL.format(log_integral=0, line="pass").replace("/2\n", "/2 - (x[:, 0] > 0)\n"),
               "log_density must be differentiable; it jumps by 1 at x = ["),
    "nothing at the first draw": (NORMAL.format(log_integral=0, line="pass").replace("/2\n", "/2 + np.where(x[:, 0] > 9, 0, -np.inf)\n"),
                                  "training begins at samples of a standard normal density of 3 entries, where log_density and"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be_used(run, name):
    text, words = FILES[name]
    with open("mine.py", "w") as file:
        file.write(text)
    status, out, err = run("fit", "--energy", "mine.py", "--out", "f.npz")
    assert status == 2 and not out and err.startswith("refflow: mine.py") and words in err


def test_the_guide(run):
    """Its file and its commands, with few steps."""
    guide = (Path(__file__).parents[1] / "refflow" / "cli" / "README.md").read_text(encoding="utf-8").split("given by a formula\n")[1]
    Path("density.py").write_text(re.search(r"```python\n(.*?)```", guide, re.S)[1])
    commands = re.search(r"```text\n(.*?)```", guide, re.S)[1].replace("python -m refflow ", "").splitlines()
    if importlib.util.find_spec("matplotlib") is None:
        commands.pop()
    for line in commands:
        few = ("--steps", 3) if line.startswith("fit") else ()
        assert run(*line.split(), *few)[0] == 0, line
    assert Path("bent.csv").read_text().count("\n") == 1000


def test_show(run):
    for name in ("u1", "U4"):
        text = run("show", name)[1]
        assert "-log(exp(" in text and f"exp(-U_{name[1]}(z))/Z" in text


# -- the models -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", [planar, radial])
def test_models_start_near_the_identity(model):
    flow = model(np.random.default_rng(0), 3, 5)
    z = np.random.default_rng(1).standard_normal((200, 3))
    assert isinstance(flow, Flow) and isinstance(flow.base, StandardNormal) and len(flow.bijector.stages) == 6
    assert np.abs(flow.bijector.forward(z) - z).max() < 0.2 and np.abs(flow.bijector.log_det(z)).max() < 1e-12
    assert model(np.random.default_rng(0), 3, 2, np.float32).dtype == np.float32
    for sizes, words in (((0, 3), "size must be an int >= 1"), ((2, 0), "layers must be an int >= 1")):
        with pytest.raises(ValueError, match=f"{model.__name__}: {words}"):
            model(np.random.default_rng(0), *sizes)


def test_pictures(run):
    """The density of a fit, and its training curve."""
    pytest.importorskip("matplotlib")
    assert run("fit", "--energy", "u2", "--steps", 20, "--out", "f.npz")[0] == 0
    for what in ("density", "history", "transport"):
        assert run("plot", "f.npz", "--what", what, "--out", f"{what}.png")[0] == 0
