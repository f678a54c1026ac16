"""Conditional densities on the command line: --context of fit, --given of sample and plot."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os

import numpy as np
import pytest

from interruptions import at_step
from refflow import Flow, StandardNormal, realnvp
from refflow.cli.contexts import entries
from refflow.saving import about, load, save
from refflow.training.gaussians import log_probs

NAMES = ["a", "class", "b", "temperature"]
MODELS = ["bpf", "flow++", "gaussian", "iaf", "maf", "naf", "nsf", "nsf-ar", "realnvp", "sospf", "umnn"]


def rows(n=300, seed=0):
    """Columns a and b, bent functions of a class 0, 1, 2 and of a temperature of mean 300."""
    rng = np.random.default_rng(seed)
    c, t = rng.integers(0, 3, n).astype(float), 300 + 50 * rng.standard_normal(n)
    a = 2 * c + (t - 300) / 50 + 0.3 * rng.standard_normal(n)
    return np.stack([a, c, a**2 + 0.5 * rng.standard_normal(n), t], 1)


def write(name, x, header=None):
    with open(name, "w", newline="") as file:
        csv.writer(file).writerows([*([header] if header else []), *x.tolist()])
    return name


def table(text):
    return list(csv.reader(text.splitlines()))


@pytest.fixture
def fitted(run):
    """A flow of p(a, b | class, temperature), and its table."""
    write("data.csv", rows(), NAMES)
    assert run("fit", "data.csv", "--context", "class,temperature", "--model", "realnvp", "--hidden", 8, "--couplings", 2,
               "--steps", 30, "--out", "f.npz")[0] == 0
    return load("f.npz")


def standardised(c):
    """Contexts as the flow of `fitted` sees them."""
    x = rows()
    return (c - x[:, [1, 3]].mean(0)) / x[:, [1, 3]].std(0)


# -- fit and score ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_a_conditional_density(run, model):
    """The table's regression is where training begins, and where the Gaussian is; scores are log p(a, b | class, t)."""
    x = rows()
    write("data.csv", x, NAMES)
    few = ("--couplings", 2) if model in ("flow++", "nsf", "realnvp") else ("--layers", 2) if model != "gaussian" else ()
    status, out, err = run("fit", "data.csv", "--model", model, "--context", "class,temperature", "--out", "f.npz", "--steps",
                           60, "--json", "--validation", 0.2, "--learning-rate", 0.003, "--average", 0, *few)
    report, flow = json.loads(out), load("f.npz")
    assert status == 0 and not err and report["context"]["columns"] == [1, 3] and flow.event_shape == (2,)
    assert report["context"]["mean"] == pytest.approx(x[:, [1, 3]].mean(0)) and about("f.npz")["context"] == report["context"]
    X = np.column_stack([np.ones(300), x[:, [1, 3]]])
    train = np.setdiff1d(np.arange(300), np.random.default_rng(0).permutation(300)[:60])
    e = x[:, [0, 2]] - X @ np.linalg.lstsq(X[train], x[train][:, [0, 2]], rcond=None)[0]
    S = e[train].T @ e[train] / len(train)
    best = -np.linalg.slogdet(S)[1] / 2 - 1 - math.log(2 * math.pi)
    assert report["gaussian"]["train"]["nats"] == pytest.approx(best, rel=1e-9)
    assert report["after"]["validation"]["nats"] >= report["before"]["validation"]["nats"]
    if model != "gaussian":
        assert report["before"]["train"]["nats"] == pytest.approx(best, abs=0.15)            # up to shrunk correlations
    scores = json.loads(run("score", "f.npz", "data.csv", "--json")[1])
    each = flow.at(context=standardised(x[:, [1, 3]])).log_prob(x[:, [0, 2]])
    assert np.allclose(scores["log_prob"], each, rtol=1e-12)
    assert scores["bits_per_dim"] == pytest.approx(-each.mean() / 2 / math.log(2))


def test_what_fit_says(run):
    write("data.csv", rows(), NAMES)
    status, out, _ = run("fit", "data.csv", "--context", "class,temperature", "--out", "f.npz", "--steps", 5)
    assert status == 0 and out.startswith("data.csv: 2 columns given class, temperature, 270 rows to train, 30 held out\n")
    assert "the Gaussian: its mean is a linear function of class, temperature" in out
    write("plain.csv", rows())
    status, out, _ = run("fit", "plain.csv", "--context", "4, 2", "--out", "g.npz", "--steps", 5)
    assert status == 0 and "2 columns given column 4, column 2, " in out and about("g.npz")["context"]["columns"] == [3, 1]
    np.save("data.npy", rows())
    assert run("fit", "data.npy", "--context", "2,4", "--out", "h.npz", "--steps", 5)[0] == 0


def test_a_name_with_a_comma(run):
    assert entries('"mass, kg", b') == ["mass, kg", "b"]
    write("data.csv", rows(), ["a", "mass, kg", "b", "t"])
    assert run("fit", "data.csv", "--context", '"mass, kg"', "--out", "f.npz", "--steps", 3)[0] == 0
    assert about("f.npz")["context"]["columns"] == [1]
    assert run("sample", "f.npz", "--given", '"mass, kg=2"')[0] == 0


def test_a_context_that_explains_makes_the_rows_more_likely(run):
    write("data.csv", rows(), NAMES)
    write("less.csv", rows()[:, [0, 2]], ["a", "b"])
    known = json.loads(run("fit", "data.csv", "--context", "class,temperature", "--out", "f.npz", "--steps", 200, "--json")[1])
    unknown = json.loads(run("fit", "less.csv", "--out", "g.npz", "--steps", 200, "--json")[1])
    assert known["after"]["validation"]["nats"] > unknown["after"]["validation"]["nats"] + 0.5


def test_integers_get_noise_but_not_those_of_the_context(run):
    x = np.column_stack([rows(), np.random.default_rng(1).binomial(8, 0.5, 300)])
    write("data.csv", x, [*NAMES, "n"])
    command = "fit", "data.csv", "--context", "class", "--steps", 3
    assert "column 5 ('n') holds integers" in run(*command, "--out", "f.npz")[2]
    assert run(*command, "--dequantise", "--out", "g.npz")[::2] == (0, "") and about("g.npz")["dequantised"] == [4]
    drawn = table(run("sample", "g.npz", "--given", "class=1", "--n", 20)[1])
    assert {row[1] for row in drawn[1:]} == {"1.0"} and all(row[4].lstrip("-").isdigit() for row in drawn[1:])


def test_an_interrupted_fit_is_resumed(run, monkeypatch):
    """With the same bits as without the interruption, and only with the same context."""
    from refflow.cli import fit as command
    write("data.csv", rows(), NAMES)
    arguments = "fit", "data.csv", "--model", "maf", "--hidden", 8, "--steps", 40, "--context"
    run(*arguments, "class", "--out", "whole.npz")
    with monkeypatch.context() as patch:
        patch.setattr(command.Checkpoints, "stepped", at_step(15, command.Checkpoints.stepped))
        assert run(*arguments, "class", "--out", "f.npz")[0] == 130
    status, _, err = run(*arguments, "temperature", "--out", "f.npz", "--resume")
    assert status == 2 and "--context is temperature, that of f.checkpoint.npz class" in err
    assert run(*arguments, "class", "--out", "f.npz", "--resume")[0] == 0
    assert load("f.npz").equals(load("whole.npz"))


# -- samples ----------------------------------------------------------------------------------------------------------

def test_samples_of_one_context(run, fitted):
    status, out, err = run("sample", "f.npz", "--given", "class=1, temperature=320", "--n", 500, "--seed", 3)
    head, *drawn = table(out)
    drawn = np.array(drawn, float)
    assert status == 0 and not err and head == NAMES and (drawn[:, [1, 3]] == [1, 320]).all()
    at = fitted.at(context=standardised(np.array([1.0, 320.0])))
    assert np.allclose(drawn[:, [0, 2]], at.sample(np.random.default_rng(3), 500), rtol=1e-12)
    run("sample", "f.npz", "--given", "class=1,temperature=320", "--n", 500, "--seed", 3, "--out", "s.csv")
    assert np.allclose(json.loads(run("score", "f.npz", "s.csv", "--json")[1])["log_prob"], at.log_prob(drawn[:, [0, 2]]), 1e-9)
    few = json.loads(run("sample", "f.npz", "--given", "class=1,temperature=320", "--n", 2, "--json")[1])
    assert few["given"] == "class=1,temperature=320" and np.shape(few["rows"]) == (2, 4)


def test_samples_of_a_table_of_contexts(run, fitted):
    """The names say which columns are which; of a table without names all are taken, in the order of --context."""
    write("named.csv", np.array([[300.0, 7, 2], [250.0, 8, 0]]), ["temperature", "other", "class"])
    write("plain.csv", np.array([[2.0, 300], [0.5, 250.5]]))
    drawn = np.array(table(run("sample", "f.npz", "--given", "named.csv", "--n", 3)[1])[1:], float)
    assert drawn[:, [1, 3]].tolist() == [[2, 300]] * 3 + [[0, 250]] * 3
    drawn = np.array(table(run("sample", "f.npz", "--given", "plain.csv", "--n", 3, "--temperature", 1e-9)[1])[1:], float)
    assert drawn[:, [1, 3]].tolist() == [[2, 300]] * 3 + [[0.5, 250.5]] * 3
    middle = [fitted.at(context=c).bijector.forward(np.zeros(2)) for c in standardised(drawn[:, [1, 3]])]
    assert np.allclose(drawn[:, [0, 2]], middle)
    assert run("sample", "f.npz", "--given", "data.csv")[1].count("\n") == 301   # a row for each row of the table
    assert run("sample", "f.npz", "--given", "named.csv", "--n", 0)[1] == ",".join(NAMES) + "\n"


@pytest.mark.parametrize("given, words", [
    (None, "its flow is conditioned on class, temperature; give a context, such as --given class=1.08,temperature=298"),
    ("class=1", "--given: temperature is missing; the flow is conditioned on class, temperature"),
    ("class=1,tempreature=2", "the flow has no context 'tempreature'; did you mean temperature?"),
    ("class=1,class=1,temperature=2", "--given: class comes twice"),
    ("class=1,temperature=warm", "--given: temperature='warm' is not a number"),
    ("class=,temperature=1", "--given: class='' is not a number"),
    ("class=1,temperature=inf", "--given: temperature=inf is not a finite number"),
    ("class=1,temperature", "--given: the flow has no context ''"),
    ("none.csv", "--given: there is no file none.csv; a context is written as class="),
    ("data.csv.txt", "data.csv.txt: it has no column 'temperature', on which the flow is conditioned"),
    ("three.csv", "three.csv: it has 3 columns, not one for each of class, temperature"),
    ("words.csv", "words.csv: row 3, column 1 ('class'): 'x' is not a number"),
])
def test_contexts_that_cannot_be_given(run, fitted, given, words):
    write("data.csv.txt", rows()[:, :3], NAMES[:3])
    write("three.csv", rows()[:, :3])
    with open("words.csv", "w") as file:
        file.write("class,temperature\n1,300\nx,300\n")
    status, out, err = run("sample", "f.npz", *([] if given is None else ["--given", given]))
    assert status == 2 and not out and words in err and err.count("\n") == 1


def test_flows_without_a_context(run):
    write("data.csv", rows(40)[:, :1])
    run("fit", "data.csv", "--out", "f.npz", "--steps", 2)
    drawing = importlib.util.find_spec("matplotlib") is not None
    plot = [("plot", "f.npz", "--what", "density", "--out", "p.png")] if drawing else []
    for command in (("sample", "f.npz"), *plot):
        assert "f.npz: its flow has no context; leave out --given" in run(*command, "--given", "a=1")[2]
    save(realnvp(np.random.default_rng(0), 2, (3,), 1, context=1), "g.npz")
    status, _, err = run("sample", "g.npz", "--given", "a=1")
    assert status == 2 and "g.npz: its flow needs a context, but the file does not name the columns of the context" in err
    assert "the file does not name" in run("score", "g.npz", "data.csv")[2]


@pytest.mark.parametrize("note", [
    {"context": {"columns": [0], "mean": [0.0], "std": [1.0, 2.0]}}, {"context": 3}, {"context": {"columns": [0]}},
    {"context": {"columns": ["a"], "mean": [0.0], "std": [1.0]}},
    {"columns": ["a"], "context": {"columns": [5], "mean": [0.0], "std": [1.0]}}])
def test_notes_that_tell_nothing(run, note):
    save(realnvp(np.random.default_rng(0), 2, (3,), 1, context=1), "g.npz", note)
    assert "the file does not name the columns" in run("sample", "g.npz", "--given", "a=1")[2]


# -- what fit refuses -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("context, words", [
    ("clas", "--context: data.csv has no column 'clas'; did you mean class?"), ("2", "data.csv has no column '2'"),
    ("class,class", "--context: column 2 ('class') comes twice"), ("", "--context names no column"),
    ("a,b,class,temperature", "--context: no column is left whose density could be learned")])
def test_contexts_that_a_table_has_not(run, context, words):
    write("data.csv", rows(30), NAMES)
    status, out, err = run("fit", "data.csv", "--context", context, "--out", "f.npz")
    assert status == 2 and not out and words in err and not os.path.exists("f.npz")


def test_tables_without_names(run):
    write("data.csv", rows(30))
    for context in ("a", "0", "5", "-1"):
        err = run("fit", "data.csv", f"--context={context}", "--out", "f.npz")[2]
        assert f"data.csv has no names; its columns are 1 .. 4, and {context!r} is not one of them" in err


def test_contexts_that_say_nothing_or_everything(run):
    """A constant context; a column that is a function of the context; contexts that are functions of each other are none."""
    x = rows(60)
    command = "--steps", 2, "--out", "f.npz", "--context"
    write("data.csv", np.column_stack([x, np.ones(60), 2 * x[:, 3], x[:, 1] + x[:, 3]]), [*NAMES, "one", "double", "sum"])
    assert "column 5 ('one') is the constant 1, on which nothing can depend" in run("fit", "data.csv", *command, "one")[2]
    write("data.csv", np.column_stack([x, 2 * x[:, 3]]), [*NAMES, "double"])
    err = run("fit", "data.csv", *command, "class,temperature")[2]
    assert "column 5 ('double') is a linear function of column 4 ('temperature'): the columns have no density" in err
    write("data.csv", np.column_stack([x, x[:, 1] + 2 * x[:, 3]]), [*NAMES, "sum"])
    assert run("fit", "data.csv", *command, "class,temperature,sum")[::2] == (0, "")


def test_models_and_data_that_take_no_context(run):
    write("data.csv", rows(30), NAMES)
    err = run("fit", "data.csv", "--model", "nice", "--context", "class", "--out", "f.npz")[2]
    assert f"the model nice has no --context; models with it are {', '.join(MODELS)}" in err
    np.save("images.npy", np.random.default_rng(0).integers(0, 5, (9, 1, 4, 4)))
    err = run("fit", "images.npy", "--model", "glow", "--context", "a", "--out", "f.npz")[2]
    assert "--context: the model glow of images has no such option" in err
    os.mkdir("wavs")
    assert "--context is for tables" in run("fit", "wavs", "--model", "glow_tts", "--context", "a", "--out", "f.npz")[2]


def test_log_probs_in_parts(monkeypatch):
    """The same however the rows are divided."""
    import refflow.core.arrays as arrays
    rng = np.random.default_rng(0)
    flow, x, c = realnvp(rng, 2, (3,), 2, context=3), rng.standard_normal((50, 2)), rng.standard_normal((50, 3))
    whole = log_probs(flow, x, c)
    monkeypatch.setattr(arrays, "AT_ONCE", 20)
    assert np.allclose(log_probs(flow, x, c), whole, rtol=1e-13) and len(whole) == 50
    assert np.array_equal(log_probs(Flow(flow.at(context=c[0]).bijector, StandardNormal(2)), x),
                          log_probs(flow, x, np.broadcast_to(c[0], (50, 3))))


# -- pictures ---------------------------------------------------------------------------------------------------------

def test_pictures_of_one_context(run, fitted, monkeypatch):
    plot = pytest.importorskip("refflow.plot", reason="matplotlib is not installed", exc_type=ImportError)
    seen = {}
    drawn = plot.density

    def density(flow, y, **settings):
        seen.update(flow=flow, y=y, names=settings["names"])
        return drawn(flow, y, **settings)

    monkeypatch.setattr(plot, "density", density)
    given = "--given", "class=1,temperature=320"
    assert run("plot", "f.npz", "--what", "density", "--out", "p.png", *given)[0] == 0 and os.path.getsize("p.png") > 1000
    assert seen["names"] == ["a", "b"] and seen["y"] is None and not seen["flow"].needs("context")
    x = np.array([0.5, 1.0])
    at = fitted.at(context=standardised(np.array([1.0, 320.0])))
    assert np.allclose(seen["flow"].log_prob(x), at.log_prob(x), rtol=1e-12)
    assert run("plot", "f.npz", "--what", "transport", "--out", "t.png", *given)[0] == 0
    assert run("plot", "f.npz", "--what", "history", "--out", "h.png")[0] == 0
    own = "--given", f"class={rows()[4, 1]:g},temperature={float(rows()[4, 3])!r}"
    assert run("plot", "f.npz", "data.csv", "--what", "density", "--out", "q.png", *own)[0] == 0
    assert seen["y"].tolist() == [rows()[4, [0, 2]].tolist()]
    assert "no row has the context class=1,temperature=320" in run("plot", "f.npz", "data.csv", "--what", "density", "--out",
                                                                   "r.png", *given)[2]
    assert "give a context, such as --given class=" in run("plot", "f.npz", "--what", "density", "--out", "r.png")[2]
    assert "a picture shows one context, and data.csv holds 300" in run("plot", "f.npz", "--what", "density", "--out", "r.png",
                                                                        "--given", "data.csv")[2]
    assert not os.path.exists("r.png")


# -- classes ----------------------------------------------------------------------------------------------------------

def test_data_with_classes(run):
    pytest.importorskip("sklearn")
    assert "178 rows of 14 columns" in run("data", "wine", "--labels", "--out", "wines.csv")[1]
    with open("wines.csv") as file:
        head, *lines = csv.reader(file)
    assert head[-1] == "class" and [line[-1] for line in lines] == ["0"] * 59 + ["1"] * 71 + ["2"] * 48
    assert np.shape(json.loads(run("data", "wine", "--labels", "--json")[1])["rows"]) == (178, 14)
