"""refflow fit, sample, score, data: what they write and print, and how they fail."""

from __future__ import annotations

import csv
import gzip
import inspect
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refflow import models
from refflow.cli import dataset as cli_dataset, fit as cli_fit, rows as cli_rows
from refflow import Affine, Chain, Flow, Inverse, StandardNormal, Tanh
from refflow.cli.fit import divided
from refflow.cli.images import read_images
from refflow.maps.conditioners import Dense, dense_network
from refflow.maps.continuous import ContinuousFlow, DiscreteFlow
from refflow.maps.coupling import AffineCoupling, masks
from refflow.oracle import CannotRun
from refflow.cli.names import words
from refflow.models import BUILDERS
from refflow.models.defaults import defaults_of
from refflow.saving import about, load, save
from refflow.training import fit


def rows(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ np.array([[1.0, 0.0], [0.8, 0.3]]).T * [100.0, 0.01] + [1e4, -3.0]


def write(name, x, header=None):
    with open(name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([header] if header else [])
        writer.writerows([[repr(float(v)) for v in row] for row in x])
    return name


def read(text):
    return list(csv.reader(text.splitlines()))


@pytest.mark.parametrize("form", ["npz", "json"])
def test_fit_sample_score(run, form):
    x = rows()
    write("data.csv", x, ["height", "mass, kg"])
    status, out, err = run("fit", "data.csv", "--out", f"flow.{form}", "--steps", 500, "--learning-rate", 0.05, "--seed", 3)
    assert status == 0 and not err and "180 rows to train, 20 held out" in out and "a Gaussian" in out
    note = about(f"flow.{form}")
    assert note["columns"] == ["height", "mass, kg"] and note["model"] == "gaussian" and note["seed"] == 3

    status, out, err = run("score", f"flow.{form}", "data.csv", "--out", "-")
    table = read(out)
    assert status == 0 and table[0] == ["height", "mass, kg", "log_prob"] and len(table) == 201
    given = np.array([[float(v) for v in row] for row in table[1:]])
    assert np.array_equal(given[:, :2], x) and np.array_equal(given[:, 2], load(f"flow.{form}").log_prob(x))
    assert err == f"200 rows: {given[:, 2].mean():.4f} nats, {-given[:, 2].mean() / 2 / math.log(2):.4f} bits/dim\n"
    write("one.csv", x[:1])
    assert run("score", f"flow.{form}", "one.csv")[1].startswith(f"1 row: {given[0, 2]:.4f} nats")
    status, out, _ = run("score", f"flow.{form}", "data.csv")
    low, low_at = given[:, 2].min(), given[:, 2].argmin()
    assert status == 0 and out.startswith(err) and out.count("\n") == 2
    assert f"\nfrom {low:.4f} to {given[:, 2].max():.4f} nats, the median " in out
    assert f"the least likely: row {low_at + 2}, " in out
    S = np.cov(x.T, bias=True)                      # densities are in the data's own units
    best = -np.linalg.slogdet(S)[1] / 2 - 1 - math.log(2 * math.pi)
    assert best - 0.05 < given[:, 2].mean() <= best

    status, out, _ = run("sample", f"flow.{form}", "--n", 4000, "--seed", 1)
    table = read(out)
    drawn = np.array([[float(v) for v in row] for row in table[1:]])
    assert status == 0 and table[0] == ["height", "mass, kg"] and drawn.shape == (4000, 2)
    assert np.all(np.abs(drawn.mean(0) - x.mean(0)) < 0.3 * x.std(0))
    assert np.array_equal(drawn, load(f"flow.{form}").sample(np.random.default_rng(1), 4000))


def test_json_reports(run):
    np.save("data.npy", rows())
    status, out, err = run("fit", "data.npy", "--out", "f.npz", "--steps", 50, "--json")
    report = json.loads(out)
    assert status == 0 and not err and report["columns"] is None and report["step"] <= 50
    flow, x = load("f.npz"), rows()
    assert report["after"]["train"]["nats"] > report["before"]["train"]["nats"]
    for key in ("before", "after", "gaussian"):
        for found in report[key].values():
            assert found["bits_per_dim"] == pytest.approx(-found["nats"] / (2 * math.log(2)))
    assert report["gaussian"]["train"]["nats"] >= report["after"]["train"]["nats"]
    total = 180 * report["after"]["train"]["nats"] + 20 * report["after"]["validation"]["nats"]
    assert total == pytest.approx(flow.log_prob(x).sum())
    status, out, err = run("score", "f.npz", "data.npy", "--json")
    scores = json.loads(out)
    assert status == 0 and not err and scores["rows"] == 200 and scores["log_prob"] == flow.log_prob(x).tolist()
    status, out, _ = run("sample", "f.npz", "--n", 3, "--json")
    assert status == 0 and np.array_equal(json.loads(out)["rows"], flow.sample(np.random.default_rng(0), 3))


def test_outputs_to_files(run):
    write("data.csv", rows(30), ["a", "b"])
    assert run("fit", "data.csv", "--out", "f.npz", "--steps", 5, "--validation", 0)[0] == 0
    flow = load("f.npz")
    assert run("sample", "f.npz", "--n", 7, "--out", "s.npy")[:2] == (0, "")
    assert np.array_equal(np.load("s.npy"), flow.sample(np.random.default_rng(0), 7))
    assert run("sample", "f.npz", "--n", 0, "--out", "s.csv")[0] == 0
    with open("s.csv") as file:
        assert file.read() == "a,b\n"
    status, out, _ = run("score", "f.npz", "data.csv", "--out", "p.npy")
    assert status == 0 and "30 rows" in out and np.array_equal(np.load("p.npy"), flow.log_prob(rows(30)))
    assert sorted(os.listdir()) == ["data.csv", "f.npz", "p.npy", "s.csv", "s.npy"]


def test_the_same_seed_gives_the_same_file(run):
    write("data.csv", rows())
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("fit", "data.csv", "--out", f"{name}.npz", "--steps", 20, "--seed", seed)[0] == 0
    a, b, c = (load(f"{name}.npz") for name in "abc")
    assert a.equals(b) and not a.equals(c)


def test_nothing_is_overwritten_without_force(run):
    write("data.csv", rows(20))
    with open("f.npz", "w") as file:
        file.write("mine")
    status, out, err = run("fit", "data.csv", "--out", "f.npz", "--steps", 2)
    assert status == 2 and not out and err == "refflow: f.npz exists; --force writes over it\n"
    with open("f.npz") as file:
        assert file.read() == "mine"
    assert run("fit", "data.csv", "--out", "f.npz", "--steps", 2, "--force")[0] == 0
    for command in (("sample", "f.npz"), ("score", "f.npz", "data.csv")):
        assert run(*command, "--out", "data.csv")[0] == 2
        assert run(*command, "--out", "f.npz")[0] == 2


TABLES = {
    "text": ("a,b\n1,2\n3,x\n", "row 3, column 2 ('b'): 'x' is not a number"),
    "text, no names": ("1,2\n3,x\n", "row 2, column 2: 'x' is not a number"),
    "text in the first row": ("1,x\n3,4\n", "row 1, column 2: 'x' is not a number"),
    "text column": ("a,b\n1,red\n3,blue\n", "row 2, column 2 ('b'): 'red' is not a number"),
    "nan": ("a,b\n1,2\n3,nan\nnan,1\n", "row 3, column 2 ('b'): nan is not a finite number; 2 cells in all"),
    "infinite": ("1,2\n-inf,3\n", "row 2, column 1: -inf is not a finite number"),
    "empty cell": ("a,b\n1,2\n3,\n", "row 3, column 2 ('b'): an empty cell is not a number"),
    "overflow": ("1,2\n1e999,3\n", "row 2, column 1: inf"),
    "underscore": ("1,2\n1_0,3\n", "row 2, column 1: '1_0'"),
    "constant up to rounding": ("a,b\n1.5,0.3\n2.5,0.30000000000000004\n4,0.3\n",
                                "column 2 ('b') is up to rounding the constant 0.3"),
    "other separators": ("a;b\n1;2\n", "row 2, column 1 ('a;b'): '1;2' is not a number; values are separated by commas"),
    "after a cell of two lines": ('a,b\n1,"2\n"\n3,x\n', "row 4, column 2 ('b'): 'x' is not a number"),
    "in a cell of two lines": ('a,b\n1,"x\n"\n3,4\n', "row 2, column 2 ('b'): 'x' is not a number"),
    "constant": ("a,b\n1,7\n3,7\n", "column 2 ('b') is the constant 7"),
    "one row": ("a,b\n1,2\n", "it holds 1 row"),
    "names alone": ("a,b\n", "it holds no row of numbers"),
    "empty": ("", "it holds no row of numbers"),
    "blank lines": ("\n\n  \n", "it holds no row of numbers"),
    "uneven": ("1,2\n\n3\n", "row 3: its number of columns is 1, not 2"),
    "a quotation mark": ('a,b\n1,2\n"3,4\n5,6\n', "row 3: a quotation mark is not closed"),
    "text after one": ('"1"2,3\n', "row 1: ',' expected after '\"'"),
    "names too few": ("a\n1,2\n", "row 2: its number of columns is 2, not 1"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_cannot_be_used(run, name):
    text, words = TABLES[name]
    with open("data.csv", "w") as file:
        file.write(text)
    status, out, err = run("fit", "data.csv", "--out", "f.npz", "--steps", 2)
    assert status == 2 and not out and err.startswith("refflow: data.csv: ") and words in err and err.count("\n") == 1
    assert os.listdir() == ["data.csv"]


@pytest.mark.parametrize("array, words", [
    (np.array([[1.0, 2], [np.nan, 3]]), "row 2, column 1: nan"), (np.zeros((2, 2, 2)), "a table of numbers"),
    (np.array(["a", "b"]), "a table of numbers"), (np.array([1j, 2]), "a table of numbers"),
    (np.zeros((0, 2)), "it holds no row"), (np.array(3.0), "a table of numbers"),
    (np.array([{}], object), "not a complete .npy file of numbers"),
    (np.array([[1, 2], [1, 3]]), "column 1 is the constant 1")])
def test_arrays_that_cannot_be_used(run, array, words):
    np.save("data.npy", array, allow_pickle=True)
    status, _, err = run("fit", "data.npy", "--out", "f.npz", "--steps", 2)
    assert status == 2 and words in err


def archive():
    content = io.BytesIO()
    np.savez(content, rows())
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"no", b"PK\x03\x04 no archive", archive(), b"\x93NUMPY\x01\x00", archive()[:-30]],
                         ids=["empty", "text", "damaged", "archive", "cut", "cut archive"])
def test_npy_files_that_are_none(run, content):
    Path("data.npy").write_bytes(content)
    status, out, err = run("fit", "data.npy", "--out", "f.npz", "--steps", 2)
    assert (status, out, err) == (2, "", "refflow: data.npy: it is not a complete .npy file of numbers\n")
    with pytest.raises(CannotRun, match="data.npy: it is not a file of images: "):
        read_images("data.npy")


def test_files_that_cannot_be_used(run):
    assert "there is no file none.csv" in run("fit", "none.csv", "--out", "f.npz")[2]
    for name in ("data.csv", "data.npy"):
        with open(name, "wb") as file:
            file.write(b"\xff\xfe\x00\x80")
        status, _, err = run("fit", name, "--out", "f.npz")
        assert status == 2 and f"{name}: it is no" in err and "pickle" not in err
    os.mkdir("directory")
    assert run("fit", "directory", "--out", "f.npz")[0] == 2
    assert "no directory" in run("fit", "data.csv", "--out", "nowhere/f.npz")[2]
    assert "must end in .npz or .json" in run("fit", "data.csv", "--out", "f.pkl")[2]
    assert "did you mean gaussian?" in run("fit", write("d.csv", rows(9)), "--model", "gausian", "--out", "f.npz")[2]


@pytest.mark.parametrize("model, name, needs", [
    ("sylvester", "sylvester_vae", "needs rows of numbers in [0, 1]"), ("sylvester_vae", "sylvester_vae", "SylvesterVAE.loss_vjp"),
    ("vits", "stochastic_durations", "the duration of each symbol"), ("stochastic-durations", "stochastic_durations", "bound_vjp"),
    ("all_in_one", "all_in_one", "is one block"), ("AllInOneBlock", "all_in_one", "--model realnvp"),
    ("tarflow_block", "tarflow_block", "a part of tarflow")])
def test_models_that_are_not_trained_say_what_they_need(run, model, name, needs):
    """In place of a guess at another name."""
    status, out, err = run("fit", write("d.csv", rows(9)), "--model", model, "--out", "f.npz")
    assert status == 2 and not out and f"--model {name}: " in err and needs in err and "did you mean" not in err
    assert not os.path.exists("f.npz")


def test_every_model_of_python_is_trained_or_says_what_it_needs(run):
    """By its name there; and what refusals name is there."""
    for name in models.__all__:
        if name.islower() and name != "warmed_up":
            known = cli_fit.model_named(name)
            assert known in {*models.BUILDERS, *cli_rows.MODELS_OF_IMAGES, "glow_tts", *cli_fit.UNTRAINED, *cli_fit.PARTS}, name
    for name in (*cli_fit.UNTRAINED, *cli_fit.PARTS):
        assert name in models.__all__, name
    assert callable(models.SylvesterVAE.loss_vjp) and callable(models.StochasticDurations.bound_vjp)


def test_tables_that_can(run):
    texts = {"spaces": " 2 , 1\n 3 , 5\n4,4\n", "mark": "\ufeffa,b\n1,2\n3,5\n4,4\n",
             "quotes": '"a ""q""",b\n1,2\n3,5\n4,4\n',
             "windows": "a,b\r\n1,2\r\n3,5\r\n4,4\r\n", "blank lines": "a,b\n1,2\n\n3,5\n4,4\n\n\n",
             "single": "1\n2\n4\n", "header": "1.5,2\n3,5\n2,4\n"}
    for name, text in texts.items():
        with open("data.csv", "w", newline="") as file:
            file.write(text)
        status, _, err = run("fit", "data.csv", "--out", "f.npz", "--steps", 3, "--force")
        assert status == 0 and not err, name
    np.save("data.npy", np.array([1, 5, 7]))
    assert run("fit", "data.npy", "--out", "f.npz", "--steps", 3, "--force")[0] == 0


def dependent(n=60):
    x = np.random.default_rng(0).normal(size=(n, 3)) * [1, 1e3, 1e-3] + [0, 1e6, 5]
    return x


DEPENDENT = {
    "line": (lambda x: 2 * x[:, 0], "column 4 ('d') is a linear function of column 1 ('a')"),
    "copy": (lambda x: x[:, 1], "column 4 ('d') equals column 2 ('b')"),
    "sum": (lambda x: x[:, 0] - 3 * x[:, 2] + 7, "column 4 ('d') is a linear function of column 1 ('a') and column 3 ('c')"),
}


@pytest.mark.parametrize("model", ["gaussian", "realnvp"])
@pytest.mark.parametrize("name", DEPENDENT)
def test_columns_that_others_determine_are_refused(run, name, model):
    make, words = DEPENDENT[name]
    x = dependent()
    write("data.csv", np.column_stack([x, make(x)]), ["a", "b", "c", "d"])
    status, out, err = run("fit", "data.csv", "--model", model, "--out", "f.npz", "--steps", 2)
    assert status == 2 and not out and err == f"refflow: data.csv: {words}: the columns have no density; leave one out\n"
    np.savetxt("text.csv", np.loadtxt("data.csv", delimiter=",", skiprows=1), delimiter=",", header="a,b,c,d", comments="")
    assert words in run("fit", "text.csv", "--model", model, "--out", "f.npz", "--steps", 2)[2]


def test_columns_that_others_nearly_determine_are_named(run):
    x = dependent()
    write("data.csv", np.column_stack([x, x[:, 0] + 1e-8 * x[:, 1]]))
    status, out, err = run("fit", "data.csv", "--out", "f.npz", "--steps", 2)
    assert status == 2                              # of both, exactly
    write("data.csv", np.column_stack([x, x[:, 0] + 1e-7 * np.random.default_rng(1).normal(size=60)]))
    status, out, err = run("fit", "data.csv", "--out", "f.npz", "--steps", 2)
    why = "column 4 is nearly a linear function of column 1"
    assert status == 0 and err == f"refflow: data.csv: {why}: the likelihood of a density has no bound\n"
    assert "a Gaussian      -" in out and f"the Gaussian: there is none: {why}" in out


def test_independent_columns_of_any_offset_are_not_refused(run):
    for x in (rows(), rows() * [1, 1e-6] + [1e9, 0], np.random.default_rng(0).random((40, 12))):
        status, _, err = run("fit", write("data.csv", x), "--out", "f.npz", "--steps", 1, "--force")
        assert status == 0 and not err


def test_equal_columns_of_integers(run):
    n = np.random.default_rng(0).integers(0, 9, 50)
    write("data.csv", np.stack([n, n], 1))
    assert "column 2 equals column 1: the columns have no density; leave one out, or use --dequantise" in run(
        "fit", "data.csv", "--out", "f.npz")[2]
    assert run("fit", "data.csv", "--dequantise", "--out", "f.npz", "--steps", 2)[0] == 0


def test_columns_of_any_scale(run):
    x = rows(50) * [1e150, 1e-150]
    status, out, _ = run("fit", write("data.csv", x), "--out", "f.npz", "--steps", 20, "--json")
    assert status == 0 and math.isfinite(json.loads(out)["after"]["train"]["nats"])


def test_flows_that_do_not_fit_the_table(run):
    write("data.csv", rows(20), ["a", "b"])
    run("fit", "data.csv", "--out", "f.npz", "--steps", 2)
    assert "its number of columns is 3, that of the flow 2: a, b" in run("score", "f.npz", write("three.csv", np.zeros((2, 3))))[2]
    assert "ac.csv: column 2 is 'c', that of the flow 'b'" in run("score", "f.npz", write("ac.csv", rows(3), ["a", "c"]))[2]
    assert run("score", "f.npz", write("plain.csv", rows(1)))[0] == 0
    save(Flow(Tanh(), StandardNormal(())), "scalar.npz")
    assert "it holds no flow of rows" in run("sample", "scalar.npz")[2]
    save(Tanh(), "tanh.npz")
    assert "it holds no flow of events of known shape" in run("score", "tanh.npz", "data.csv")[2]
    assert "must end in" in run("sample", "data.csv")[2] and "no file" in run("sample", "none.npz")[2]
    os.rename("three.csv", "bad.npz")
    status, _, err = run("sample", "bad.npz")
    assert status == 2 and "load: bad.npz: it is not a .npz file" in err


def test_a_flow_that_needs_a_context(run):
    net = dense_network(np.random.default_rng(0), [1, 3, 2], context=2)
    flow = Flow(AffineCoupling(masks.halves(2), net), StandardNormal(2))
    save(flow, "f.npz")
    for arguments in (("sample", "f.npz"), ("score", "f.npz", write("data.csv", rows(5)))):
        status, out, err = run(*arguments)
        assert status == 2 and not out and "f.npz: its flow needs a context" in err
    save(flow.at(context=np.ones(2)), "f.npz")
    assert run("sample", "f.npz")[0] == run("score", "f.npz", "data.csv")[0] == 0


def test_samples_that_overflow(run):
    save(Flow(Affine(np.zeros(2), 1e308), Flow(Affine(0.0, 1e3), StandardNormal(2))), "f.npz", {"dequantised": [0]})
    status, out, _ = run("sample", "f.npz", "--n", 3)
    assert status == 0 and {v for row in read(out) for v in row} <= {"inf", "-inf"}
    assert set(json.loads(run("sample", "f.npz", "--json")[1])["rows"][0]) <= {"inf", "-inf"}


def test_rows_outside_the_support_score_minus_infinity(run):
    save(Flow(Tanh(), StandardNormal((2,))), "f.json")
    status, out, err = run("score", "f.json", write("data.csv", [[0.5, 0.5], [2.0, 0.5]]), "--out", "-")
    assert status == 0 and out.splitlines()[1].endswith(",-inf") and "-inf nats" in err
    assert json.loads(run("score", "f.json", "data.csv", "--json")[1])["log_prob"][1] == "-inf"
    assert "the least likely: row 2, 1\n1 row outside the support" in run("score", "f.json", "data.csv")[1]


def test_ctrl_c_leaves_the_best_flow_on_disk(run, monkeypatch):
    def stop(info, flow):
        if info["step"] == 30:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli_dataset, "fit", lambda *a, **k: fit(*a, **k | {"callback": stop}))
    write("data.csv", rows())
    status, out, err = run("fit", "data.csv", "--out", "f.npz", "--json")
    report = json.loads(out)
    assert status == 130 and "interrupted; f.npz holds the best flow so far" in err and report["stopped"] == "interrupted"
    assert 0 < report["step"] <= 30 and report["after"]["train"]["nats"] > report["before"]["train"]["nats"]
    assert load("f.npz").log_prob(rows()).mean() > report["before"]["train"]["nats"]

    def at_once(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_rows, "read_table", at_once)
    status, _, err = run("fit", "data.csv", "--out", "g.npz")
    assert status == 130 and "nothing was written" in err and not os.path.exists("g.npz")


def test_training_that_fails(run):
    write("data.csv", rows())
    status, out, err = run("fit", "data.csv", "--out", "f.npz", "--learning-rate", 1e300, "--json")
    assert status == 1 and "refflow: step 2: " in err and "f.npz holds the best flow so far" in err
    assert json.loads(out)["stopped"] == "failed" and np.isfinite(load("f.npz").log_prob(rows())).all()


# A shell starts background processes with interruptions ignored; this does not.
HEEDING = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); import refflow.cli; " \
          "sys.exit(refflow.cli.main(sys.argv[1:]))"


def test_ctrl_c_and_the_bar_on_a_terminal(tmp_path):
    """A real process on a terminal, interrupted while it trains."""
    pty = pytest.importorskip("pty")
    x = rows()
    write(tmp_path / "data.csv", x)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-W", "error", "-c", HEEDING, "fit", "data.csv", "--model", "realnvp", "--out", "f.npz",
               "--steps", "1000000", "--patience", "0"]
    with (open(ours, "rb", buffering=0) as terminal,
          subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs,
                           env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}) as process):
        try:
            os.close(theirs)
            seen, end = b"", time.monotonic() + 120
            while b"/1000000  train" not in seen and time.monotonic() < end:
                seen += terminal.read(1000)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=120)
        finally:
            process.kill()
        try:
            while more := terminal.read(1000):
                seen += more
        except OSError:                     # the terminal is closed
            pass
    assert b"[....................] " in seen and b"interrupted; f.npz holds the best flow so far" in seen, seen
    assert process.returncode == 130 and b"a Gaussian" in out and os.listdir(tmp_path) != ["data.csv"]
    assert np.isfinite(load(tmp_path / "f.npz").log_prob(x)).all() and about(tmp_path / "f.npz")["stopped"] == "interrupted"
    assert sorted(os.listdir(tmp_path)) == ["data.csv", "f.checkpoint.npz", "f.npz"]


def test_an_interruption_after_the_file_is_written(run, monkeypatch):
    def at_once(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_rows, "compared", at_once)
    status, _, err = run("fit", write("data.csv", rows(20)), "--out", "f.npz", "--steps", 2)
    assert status == 130 and err == "refflow: interrupted; f.npz is written\n" and load("f.npz")


def bent(n, seed=0):
    """A curved density, far from a Gaussian."""
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=(2, n))
    return np.stack([1000 * u, 0.01 * (u**2 + 0.3 * v) + 5], 1)


def test_a_model_beats_the_gaussian(run):
    write("data.csv", bent(1000))
    status, out, err = run("fit", "data.csv", "--model", "realnvp", "--hidden", 32, "--couplings", 4, "--out", "f.npz",
                           "--steps", 600, "--test", 0.2, "--json")
    report = json.loads(out)
    assert status == 0 and not err and report["parts"] == {"train": 700, "validation": 100, "test": 200}
    for part in ("train", "validation", "test"):
        gain = report["gain"][part]
        assert gain["nats"] == pytest.approx(report["after"][part]["nats"] - report["gaussian"][part]["nats"])
        assert gain["nats"] > 0.5 > 3 * gain["error"] > 0
    z = np.random.default_rng(1).normal(size=(10, 2))
    flow = load("f.npz")
    assert np.allclose(flow.log_prob(z), [float(flow.log_prob(row)) for row in z])


def test_no_row_is_in_two_parts():
    values, options = np.arange(50), SimpleNamespace(test=0.2, validation=0.1, held_out=None)
    parts = divided(options, None, values, np.random.default_rng(0))
    assert {name: len(part) for name, part in parts.items()} == {"train": 35, "validation": 5, "test": 10}
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), values)


NOISE = 0.1


def half_circles(n):
    """(2, n, 2): the upper one around (0, 0), the lower one around (1, 1/2), as scikit-learn's two moons."""
    t = np.linspace(0, np.pi, n)
    return np.stack([np.stack([np.cos(t), np.sin(t)], 1), np.stack([1 - np.cos(t), 0.5 - np.sin(t)], 1)])


def two_moons(n, rng):
    x = half_circles(n // 2).reshape(-1, 2)
    return x + NOISE * rng.normal(size=x.shape)


def squared_distances(x, n=400):
    """(2, N, n): distances to the points of both half circles."""
    return ((half_circles(n)[:, None] - x[:, None]) ** 2).sum(-1)


def test_a_first_try_on_two_moons(run):
    """400 rows and only the model's name given: the fit is near the true density, with half of the mass on either moon."""
    write("moons.csv", two_moons(400, np.random.default_rng(100)), ["x", "y"])
    status, _, err = run("fit", "moons.csv", "--model", "realnvp", "--out", "moons.npz")
    assert status == 0 and not err
    flow, fresh = load("moons.npz"), two_moons(4000, np.random.default_rng(1))
    exponent = -squared_distances(fresh) / (2 * NOISE**2)
    best = np.log(np.exp(exponent).mean((0, 2))) - math.log(2 * math.pi * NOISE**2)
    gaussian = -np.linalg.slogdet(np.cov(fresh.T))[1] / 2 - 1 - math.log(2 * math.pi)
    assert best.mean() == pytest.approx(-1.0, abs=0.05) and gaussian < -1.9
    assert flow.log_prob(fresh).mean() > best.mean() - 0.3
    distance = squared_distances(flow.sample(np.random.default_rng(2), 4000)).min(2) ** 0.5
    on_upper, far = (distance[0] < distance[1]).mean(), (distance.min(0) > 4 * NOISE).mean()
    assert abs(on_upper - 0.5) < 0.05 and far < 0.03


def test_training_starts_at_the_best_gaussian(run):
    """Without held-out rows it has the largest likelihood; with them the shrinkage may only help."""
    x = rows()
    write("data.csv", x)
    run("fit", "data.csv", "--model", "realnvp", "--out", "f.npz", "--steps", 0, "--validation", 0)
    S = np.cov(x.T, bias=True)
    best = -np.linalg.slogdet(S)[1] / 2 - 1 - math.log(2 * math.pi)
    assert load("f.npz").log_prob(x).mean() == pytest.approx(best, abs=1e-9)
    few = np.random.default_rng(3).normal(size=(16, 8))
    report = json.loads(run("fit", write("few.csv", few), "--model", "realnvp", "--out", "g.npz", "--steps", 0, "--json",
                            "--validation", 0.3)[1])
    assert report["before"]["validation"]["nats"] > report["gaussian"]["validation"]["nats"] + 1


def test_more_columns_than_rows(run):
    x = np.random.default_rng(0).normal(size=(6, 9))
    status, out, err = run("fit", write("data.csv", x), "--model", "realnvp", "--out", "f.npz", "--steps", 5)
    assert status == 0 and "a Gaussian      -" in out
    assert err == "refflow: data.csv: 6 rows of 9 columns lie in a plane: the likelihood of a density has no bound\n"
    assert "the Gaussian: there is none: 5 rows of 9 columns lie in a plane" in out


YEARS = "2019,2020,2021\n1.5,2,3\n2,5,1.5\n4,4,2\n0,1,7\n"


def test_a_header_of_numbers(run):
    with open("data.csv", "w") as file:
        file.write(YEARS)
    command = ("fit", "data.csv", "--steps", 2, "--force", "--out")
    status, out, err = run(*command, "f.npz")
    assert status == 0 and about("f.npz")["columns"] is None and about("f.npz")["rows"] == 5
    assert err == ("refflow: data.csv: the first row, 2019,2020,2021, is read as numbers; --header reads it as names, "
                   "--no-header as numbers without this note\n")
    assert run(*command, "f.npz", "--no-header")[::2] == (0, "") and about("f.npz")["columns"] is None
    assert run(*command, "g.npz", "--header")[::2] == (0, "")
    assert about("g.npz")["columns"] == ["2019", "2020", "2021"] and about("g.npz")["rows"] == 4
    assert run("score", "g.npz", "data.csv", "--json")[0] == 0                  # a flow knows the names of its columns
    assert json.loads(run("score", "g.npz", "data.csv", "--json")[1])["rows"] == 4
    assert json.loads(run("score", "f.npz", "data.csv", "--json", "--no-header")[1])["rows"] == 5
    assert json.loads(run("score", "f.npz", "data.csv", "--json", "--header")[1])["rows"] == 4
    with open("words.csv", "w") as file:
        file.write("a,b,c\n" + YEARS.split("\n", 1)[1])
    assert "row 1, column 1: 'a' is not a number" in run("fit", "words.csv", "--no-header", "--out", "h.npz")[2]
    np.save("data.npy", rows())
    words = "data.npy: --header and --no-header are for tables in text"
    assert words in run("fit", "data.npy", "--header", "--out", "h.npz")[2]


@pytest.mark.parametrize("text, noted", [
    ("0,1,2\n1,5,4\n9,8,9\n3,3,4\n2,9,1\n", True), ("2,1,0\n1,5,4\n9,8,9\n3,3,4\n2,9,1\n", False),
    ("1\n5\n2\n3\n1\n", False), ("1.5,2\n3,5\n2,4\n", False)])
def test_which_first_rows_are_doubtful(run, text, noted):
    with open("data.csv", "w") as file:
        file.write(text)
    assert ("--header reads it as names" in run("fit", "data.csv", "--out", "f.npz", "--steps", 1)[2]) == noted


@pytest.mark.parametrize("text, names", [
    ("2019,2020,2021\n1.5,2.5,0.25\n2,1.5,3\n0.5,2,1.5\n1,4,0\n3,2.5,0.5\n", ["2019", "2020", "2021"]),
    ("2019\n1.5\n2.5\n2\n4\n", ["2019"]), ("2019,2020\n1.5,2\n2.5,1\n0.5,7\n1.25,4\n", None)])
def test_years_above_fractions_are_names(run, text, names):
    with open("data.csv", "w") as file:
        file.write(text)
    err = run("fit", "data.csv", "--out", "f.npz", "--steps", 1)[2]
    assert about("f.npz")["columns"] == names
    assert ("is read as names, since the numbers below have fractions" in err) == (names is not None)
    run("fit", "data.csv", "--out", "g.npz", "--steps", 1, "--no-header")
    assert about("g.npz")["columns"] is None


def test_the_last_step_is_the_best(run):
    write("data.csv", rows())
    hint = "the last is the best: more --steps may find a better one"
    assert hint in run("fit", "data.csv", "--out", "f.npz", "--steps", 10, "--learning-rate", 0.001)[1]
    assert hint not in run("fit", "data.csv", "--out", "g.npz", "--steps", 400, "--learning-rate", 0.05, "--patience", 3)[1]
    assert hint not in run("fit", "data.csv", "--out", "h.npz", "--steps", 10, "--validation", 0)[1]


def test_the_start_is_the_best(run):
    """Of a normal density it is as it should be: it starts at the maximum."""
    write("data.csv", rows(40))
    hint = "training has found nothing better than its start: a smaller --learning-rate, "
    for model, said in (("nsf", True), ("gaussian", False)):
        out = run("fit", "data.csv", "--model", model, "--out", f"{model}.npz", "--steps", 5, "--learning-rate", 100)[1]
        assert about(f"{model}.npz")["step"] == 0 and (hint in out) == said


def test_compressed_tables(run):
    write("data.csv", rows(30), ["a", "b"])
    with open("data.csv", "rb") as plain, gzip.open("data.csv.gz", "wb") as packed:
        packed.write(plain.read())
    run("fit", "data.csv", "--out", "f.npz", "--steps", 2)
    assert run("fit", "data.csv.gz", "--out", "g.npz", "--steps", 2)[0] == 0 and load("f.npz").equals(load("g.npz"))
    assert run("sample", "f.npz", "--n", 9, "--out", "s.csv.gz")[0] == 0
    assert run("score", "f.npz", "s.csv.gz", "--out", "t.csv.gz")[0] == 0
    for name, last in (("s.csv.gz", "b"), ("t.csv.gz", "log_prob")):
        with gzip.open(name, "rt") as file:
            table = list(csv.reader(file))
        assert len(table) == 10 and table[0][-1] == last
    assert run("sample", "f.npz", "--n", 9)[1] == gzip.decompress(Path("s.csv.gz").read_bytes()).decode()
    Path("data.csv.gz").write_bytes(Path("data.csv.gz").read_bytes()[:-9])
    assert "data.csv.gz: it is not text of comma-separated values" in run("fit", "data.csv.gz", "--out", "h.npz")[2]


@pytest.mark.parametrize("name", ["x.csv.bz2", "x.zip", "x.npy.gz", "x.npz", "x.xlsx", "x.png", "x.xyz", "x.tsv.gz"])
def test_names_that_promise_another_form_are_refused(run, name):
    write("data.csv", rows(30))
    run("fit", "data.csv", "--out", "f.npz", "--steps", 2)
    for command in (("sample", "f.npz"), ("score", "f.npz", "data.csv"), ("data", "wine")):
        status, out, err = run(*command, "--out", name)
        assert status == 2 and not out and "a table is written as .npy, or as text: .csv, .txt" in err, command
    assert not Path(name).exists()


def test_models_and_their_options(run):
    write("one.csv", rows()[:, :1])
    for model in ("realnvp", "nice"):
        status, out, err = run("fit", "one.csv", "--model", model, "--out", "f.npz")
        assert status == 2 and not out and f"no model can be made for 1 column: {model}: size must be" in err
        assert "--model gaussian" in err and err.count("\n") == 1
    assert run("fit", "one.csv", "--out", "f.npz", "--steps", 2)[0] == 0
    write("data.csv", rows())
    sizes = "--hidden", "8,6", "--couplings", 3
    assert run("fit", "data.csv", "--model", "realnvp", *sizes, "--out", "r.npz", "--steps", 2)[0] == 0
    couplings = load("r.npz").bijector.stages[0].inner.stages
    shapes = [layer.W.shape for layer in couplings[0].net.layers if hasattr(layer, "W")]
    assert len(couplings) == 3 and shapes == [(8, 1), (6, 8), (2, 6)]
    assert about("r.npz")["sizes"] == {"hidden": [8, 6], "couplings": 3}
    assert run("fit", "data.csv", "--model", "nice", "--hidden", "8,8", "--out", "n.npz", "--steps", 2)[0] == 0
    assert "the same width, not (8, 6)" in run("fit", "data.csv", "--model", "nice", "--hidden", "8,6", "--out", "x.npz")[2]
    assert "the model gaussian has no --couplings" in run("fit", "data.csv", "--couplings", 3, "--out", "x.npz")[2]
    assert not os.path.exists("x.npz")
    for n, width in ((40, 8), (200, 22), (2000, 64)):              # few rows make narrow layers
        run("fit", write("data.csv", rows(n)), "--model", "realnvp", "--out", "s.npz", "--steps", 0, "--force")
        assert about("s.npz")["sizes"] == {"hidden": [width, width], "couplings": 8}
    for D, couplings in ((3, 5), (4, 4), (9, 4)):                   # few columns make many couplings
        x = np.random.default_rng(0).normal(size=(40, D))
        run("fit", write("data.csv", x), "--model", "realnvp", "--out", "s.npz", "--steps", 0, "--force")
        assert about("s.npz")["sizes"]["couplings"] == couplings


def test_columns_of_integers(run):
    """A flow's density of v + u, averaged over u, is the probability of the integers v."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.binomial(8, 0.5, 400), rng.normal(size=400)], 1)
    write("data.csv", x, ["n", "y"])
    status, _, err = run("fit", "data.csv", "--out", "f.npz", "--steps", 2)
    assert status == 0 and err.startswith("refflow: data.csv: column 1 ('n') holds integers, whose density has no bound")
    status, out, err = run("fit", "data.csv", "--dequantise", "--out", "g.npz", "--steps", 300, "--learning-rate", 0.05)
    assert status == 0 and not err and "\n1 column of integers, with noise" in out and about("g.npz")["dequantised"] == [0]
    draws = read(run("sample", "g.npz", "--n", 300)[1])[1:]
    assert all(n == str(int(n)) and "." in y for n, y in draws) and 3 < np.mean([int(n) for n, _ in draws]) < 5
    run("sample", "g.npz", "--n", 300, "--seed", 5, "--out", "s.npy")
    exact = load("g.npz").sample(np.random.default_rng(5), 300)
    assert np.array_equal(np.load("s.npy"), np.where([True, False], np.floor(exact), exact))
    scores = [[float(row[2]) for row in read(run("score", "g.npz", "data.csv", "--out", "-", "--seed", seed)[1])[1:]]
              for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]
    u = np.random.default_rng(1).random((400, 1))
    assert scores[2] == load("g.npz").log_prob(x + u * [1, 0]).tolist()
    entropy = -sum(math.comb(8, k) / 256 * math.log(math.comb(8, k) / 256) for k in range(9))
    assert -np.mean(scores[0]) > entropy + 0.5 * math.log(2 * math.pi * math.e) - 0.15     # no code is shorter than that
    assert "row 2, column 1 ('n'): 0.5 is not an integer" in run("score", "g.npz", write("h.csv", [[0.5, 1]], ["n", "y"]))[2]
    write("r.csv", rows())
    assert "--dequantise: no column holds integers" in run("fit", "r.csv", "--dequantise", "--out", "x.npz")[2]


def test_the_history_is_kept(run):
    write("data.csv", rows())
    run("fit", "data.csv", "--out", "f.npz", "--steps", 35, "--batch-size", 90, "--seed", 4)
    history = about("f.npz")["history"]
    assert history["step"] == [0, 10, 20, 30, 35] and {len(column) for column in history.values()} == {5}
    assert history["validation"][-1] < history["validation"][0] and history["train"][-1] < history["train"][0]
    run("fit", "data.csv", "--out", "g.json", "--steps", 35, "--validation", 0)
    history = about("g.json")["history"]
    assert history["step"] == [0, 10, 20, 30] and history["validation"] is None
    assert len(history["train"]) == 4 and history["train"][3] < history["train"][0]
    run("fit", "data.csv", "--out", "h.json", "--steps", 0, "--validation", 0)
    assert about("h.json")["history"] == {"step": [0], "train": [None], "validation": None}


def test_patience_ends_training(run):
    write("data.csv", rows(60))
    report = json.loads(run("fit", "data.csv", "--model", "realnvp", "--out", "f.npz", "--patience", 2, "--json")[1])
    assert report["stopped"] == "patience" and report["step"] <= report["stopped_at"] < 2000


def test_a_flat_curve_ends_training(run):
    """Two evaluations in which the loss held out has fallen by no more than 0.001 nats for each number."""
    write("data.csv", rows(60))
    run("fit", "data.csv", "--model", "realnvp", "--out", "f.npz", "--patience", 2)
    losses, mark, since, D = about("f.npz")["history"]["validation"], np.inf, 0, len(rows(1)[0])
    for i, loss in enumerate(losses):
        mark, since = (loss, 0) if loss < mark - 1e-3 * D else (mark, since + 1)
        assert (since == 2) == (i == len(losses) - 1)


@pytest.mark.parametrize("arguments", [("--steps", "-1"), ("--batch-size", "0"), ("--learning-rate", "0"),
                                       ("--validation", "1"), ("--seed", "x"), ("--learning-rate", "nan"),
                                       ("--hidden", "8,x"), ("--hidden", "0"), ("--hidden", ""), ("--couplings", "0"),
                                       ("--test", "-0.1"), ("--average", "1"), ("--patience", "-1")])
def test_bad_options(run, arguments, capsys):
    with pytest.raises(SystemExit) as found:
        run("fit", "data.csv", "--out", "f.npz", *arguments)
    assert found.value.code == 2 and "invalid" in capsys.readouterr().err


@pytest.mark.parametrize("backwards", [True, False])
def test_samples_of_a_flow_in_time_by_a_chosen_scheme(run, backwards):
    """They are the steps of the scheme from noise to samples, and the error said is the difference from twice as many."""
    net = dense_network(np.random.default_rng(3), (3, 8, 2), "tanh", zero_last=False)
    inner, units = DiscreteFlow(net, "dopri5", 6, *((1.0, 0.0) if backwards else (0.0, 1.0))), Affine(shift=[1.0, 2.0], scale=2.0)
    save(Flow(Chain([Inverse(inner) if backwards else inner, units]), StandardNormal(2)), "flow.npz")
    z = np.random.default_rng(4).standard_normal((5, 2))

    def by(scheme, steps):
        return units.forward(DiscreteFlow(net, scheme, steps).forward(z))

    for options, scheme, steps in ((("--scheme", "euler", "--steps", 3), "euler", 3), (("--scheme", "midpoint"), "midpoint", 6),
                                   (("--steps", 2), "dopri5", 2)):
        status, out, err = run("sample", "flow.npz", "--n", 5, "--seed", 4, "--json", *options)
        error = np.abs(by(scheme, steps) - by(scheme, 2 * steps)).max()
        report = json.loads(out)
        assert status == 0 and f"more than {error:.2g} from its value by twice as many steps" in err
        assert report["scheme_error"] == pytest.approx(error, rel=1e-6)
        np.testing.assert_allclose(report["rows"], by(scheme, steps), rtol=1e-12)
    _, out, err = run("sample", "flow.npz", "--n", 5, "--seed", 4, "--json")
    assert not err and "scheme" not in out
    np.testing.assert_allclose(json.loads(out)["rows"], load("flow.npz").bijector.forward(z), rtol=1e-12)


@pytest.mark.parametrize("backwards", [True, False])
def test_the_exact_flow_of_a_file(run, backwards):
    net = dense_network(np.random.default_rng(3), (3, 8, 2), "tanh", zero_last=False)
    inner, units = DiscreteFlow(net, "euler", 3, *((1.0, 0.0) if backwards else (0.0, 1.0))), Affine(shift=[1.0, 2.0], scale=2.0)
    save(Flow(Chain([Inverse(inner) if backwards else inner, units]), StandardNormal(2)), "flow.npz")
    exact, z = Flow(Chain([ContinuousFlow(net), units]), StandardNormal(2)), np.random.default_rng(4).standard_normal((5, 2))
    _, out, err = run("sample", "flow.npz", "--n", 5, "--seed", 4, "--json", "--scheme", "exact")
    assert not err and json.loads(out)["scheme"] == "exact"
    np.testing.assert_allclose(json.loads(out)["rows"], exact.bijector.forward(z), rtol=1e-12)
    np.savetxt("rows.csv", exact.bijector.forward(z), delimiter=",")
    for options, flow in (((), load("flow.npz")), (("--scheme", "exact"), exact)):
        _, out, _ = run("score", "flow.npz", "rows.csv", "--json", *options)
        np.testing.assert_allclose(json.loads(out)["log_prob"], flow.log_prob(np.loadtxt("rows.csv", delimiter=",")), rtol=1e-12)
    assert np.abs(exact.log_prob(units.forward(z)) - load("flow.npz").log_prob(units.forward(z))).max() > 1e-3
    status, _, err = run("sample", "flow.npz", "--scheme", "exact", "--steps", 3)
    assert status == 2 and "--steps is for a scheme; --scheme exact takes as many as it needs" in err


def test_a_scheme_whose_steps_overflow_is_refused(run):
    save(Flow(DiscreteFlow(Dense([[1e200, 0, 0], [0, 1e200, 0]]), "rk4", 2), StandardNormal(2)), "flow.npz")
    status, out, err = run("sample", "flow.npz", "--scheme", "euler")
    assert status == 2 and not out and "--scheme euler: its steps, or twice as many, leave the range of float64; more --steps" in err
    save(Flow(DiscreteFlow(Dense([[-1e6, 0]]), "rk4", 2), StandardNormal(1)), "fast.npz")
    status, out, err = run("sample", "fast.npz", "--scheme", "exact")
    assert status == 2 and not out and "the velocity is too fast" in err and "Traceback" not in err


@pytest.mark.parametrize("option", [("--scheme", "rk4"), ("--steps", 3), ("--scheme", "exact")])
def test_a_scheme_is_for_one_flow_in_time(run, option):
    step = DiscreteFlow(dense_network(np.random.default_rng(3), (3, 4, 2), "tanh"), "rk4", 1)
    for stages, found in (([Affine(shift=[1.0, 2.0])], "no flow in time"), ([step, step], "2 flows in time")):
        save(Flow(Chain(stages), StandardNormal(2)), "flow.npz", replace=True)
        status, out, err = run("sample", "flow.npz", *option)
        assert status == 2 and not out and f"{option[0]} is for a flow in time" in err and f"flow.npz holds {found}" in err


def test_help_and_a_pipe_that_closes(tmp_path):
    done = subprocess.run([sys.executable, "-m", "refflow", "fit", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--learning-rate" in done.stdout
    save(Flow(Tanh(), StandardNormal((2,))), tmp_path / "f.npz")
    command = f"{sys.executable} -W error -m refflow sample {tmp_path / 'f.npz'} --n 20000 | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.count("\n") == 1 and not done.stderr


def test_the_sizes_of_models_stand_in_one_table(run):
    """What `refflow fit` takes, what its guide says, and what `show` compares with Python's defaults."""
    guide = (Path(__file__).parents[1] / "refflow" / "cli" / "README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in guide.splitlines() if line.startswith("| `") and line.count(" | ") == 2 and "`--" in line]
    said = {name: dict(re.findall(r"`--(\w+) ([\d,]+)`", row[2])) for row in rows for name in re.findall(r"`([\w+-]+)`", row[0])}
    said["iaf"]["layers"] = re.search(r"of `iaf` (\d)", guide)[1]
    for model in ("tarflow", "starflow", "jet"):
        sentence = re.search(rf"`{model}` is a flow of .*?\.", guide, re.DOTALL)[0]
        assert dict(re.findall(r"`--(\w+) (\d+)`", sentence)) == {key: words(size) for key, size in defaults_of(model).items()}
    for model, found in said.items():
        taken = {key: p.default for key, p in inspect.signature(BUILDERS[model]).parameters.items() if key in found}
        assert taken == defaults_of(model) and found == {key: words(value) for key, value in taken.items()}, model
    assert len(said) == len(BUILDERS) - 2                               # gaussian has no sizes, circular-nsf is told of elsewhere
    assert defaults_of("circular-nsf") == {"hidden": (64, 64), "couplings": 4, "bins": 8}
    assert defaults_of("glow") == {"levels": 3, "depth": 4, "hidden": 32}
    assert defaults_of("image_realnvp") == {"levels": 2, "depth": 1, "hidden": 16}
    assert defaults_of("glow_tts") == {"hidden": 64, "depth": 4, "layers": 2}
    for model, row in (("glow", "--depth      4        steps      32"), ("glow_tts", "--hidden     64       channels   192")):
        assert row in run("show", model)[1]
