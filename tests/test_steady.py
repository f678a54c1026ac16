"""The laws at many seeds: what fails at few draws is found and asked again, what is done is kept, and too many rejections are told."""

from __future__ import annotations

import functools
import json
import shlex
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from refflow import Tanh
from refflow.core import RandomSource
from refflow.core.registry import REGISTRY
from refflow.laws.law import LAWS, ONCE, Broken, law
from validation import questions, steady
from validation.questions import KINDS, Question
from validation.records.unfinished import Unfinished

FLAKY = 8                               # a planted law fails at one draw in so many


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """run(*arguments) -> (exit status, stdout, stderr), with a record of its own."""
    monkeypatch.setattr(steady, "Unfinished", lambda name, of: Unfinished(name, of, tmp_path))
    monkeypatch.setattr(steady, "codes", lambda asked: {(q.kind, q.name): "this code" for q in asked})

    def call(*arguments):
        status = steady.main([str(a) for a in arguments])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def planted(monkeypatch):
    """planted(name, law): another law, until the test ends."""
    def plant(name, function, **options):
        laws = dict(LAWS)
        law(name, laws, **options)(function)
        monkeypatch.setitem(LAWS, name, laws[name])

    yield plant
    ONCE.intersection_update(set(LAWS))


def seeds_in(text):
    """The seeds of the commands that were printed."""
    words = [shlex.split(line) for line in text.splitlines() if line.strip().startswith("python -m")]
    return [int(found[found.index("--first") + 1]) for found in words]


def flaky(f, p):
    """It fails at a few draws, by their last cotangent."""
    if float(p.log_det_bar[-1] * 1e6) % FLAKY < 1:
        raise Broken("by chance")


# -- what is asked ----------------------------------------------------------------------------------------------------

def test_every_page_with_laws_is_asked():
    asked = {(q.kind, q.name) for q in questions.questions()}
    for kind, of in (("page", questions.bijectors()), ("density", "density"), ("conditioner", "conditioner"),
                     ("parametrisation", "parametrisation")):
        names = of if kind == "page" else {name for name, page in REGISTRY.items() if page.kind == of}
        assert names and {(kind, name) for name in names} <= asked


@pytest.mark.parametrize("kind", questions.KINDS)
def test_a_seed_always_draws_the_same(kind):
    one = questions.questions(kind)[0]
    first, again = (one.ask(one.drawn(RandomSource(np.random.default_rng(3)))) for _ in range(2))
    assert first == again


def test_right_pages_hold(run):
    status, out, err = run("--page", "Tanh", "ReLU", "--runs", 3, "--first", 5)
    assert status == 0 and out == "3 runs of 6 questions from the seed 5: 0 laws are broken, 0 reject too many points\n"
    assert "3 of 3 runs are done" in err


def test_an_unknown_name_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--page", "Tahn")
    assert "there is no page, composition or network 'Tahn'" in capsys.readouterr().err


# -- what is found ----------------------------------------------------------------------------------------------------

def test_a_law_that_fails_at_few_draws_is_found_with_the_command_that_asks_it_again(run, planted):
    planted("flaky", flaky)
    status, out, _ = run("--page", "Tanh", "--runs", 40, "--first", 100)
    assert status == 1 and "page Tanh float64: flaky: Tanh: by chance" in out
    seeds = seeds_in(out)
    assert 0 < len(seeds) < 40                                          # of 80 draws
    status, again, _ = run("--page", "Tanh", "--first", seeds[0])
    assert status == 1 and "flaky: Tanh: by chance" in again
    quiet = min(set(range(100, 140)) - set(seeds))
    assert run("--page", "Tanh", "--first", quiet)[0] == 0


def test_a_draw_that_raises_is_found(run, monkeypatch):
    def draw(name, dtype, source):
        raise ZeroDivisionError("by chance")

    monkeypatch.setitem(questions.KINDS, "network", questions.Kind(questions.KINDS["network"].names, draw, None, None))
    status, out, _ = run("--page", "ReLU", "tanh", "--first", 0)
    assert status == 1 and "network tanh float32: the draw raised" in out and "ZeroDivisionError: by chance" in out


def test_a_law_that_rejects_too_many_points_is_found(run, planted):
    planted("rejecting", lambda f, p: (2, 3) if isinstance(f, Tanh) else (1, 20))
    status, out, _ = run("--page", "Tanh", "Exp", "--runs", 30, "--first", 7)
    assert status == 1 and "0 laws are broken, 2 reject too many points" in out
    assert "page Tanh float32: rejecting: 67% of the points of 30 draws were rejected, and" in out and "page Exp" not in out
    assert "--page Tanh --first 7 --runs 30" in out


def test_laws_of_the_page_alone_are_asked_at_the_first_seed(run, planted):
    asked = []
    planted("once", lambda f, p: asked.append(f) and None, once=True)
    run("--page", "Tanh", "--runs", 3, "--first", 1)
    assert len(asked) == 2 and "once" in ONCE


def test_json(run, planted):
    planted("flaky", flaky)
    status, out, _ = run("--page", "Tanh", "--runs", 20, "--first", 100, "--json")
    found = json.loads(out)
    assert status == 1 and found["schema"] == steady.SCHEMA and found["runs"] == 20 and found["broken"] and not found["rejecting"]


# -- interruptions ----------------------------------------------------------------------------------------------------

def test_an_interrupted_run_goes_on_from_its_seed(run, monkeypatch, tmp_path, capsys):
    """The record says what is done, and what was found there."""
    few = [Question("page", name, "float64") for name in ("Tanh", "Exp")]
    monkeypatch.setattr(steady, "questions", lambda names: few)
    asked, ask = [], steady.task

    def interrupted(*one):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(one)
        return {"broken": ["a law: by chance"], "counts": {}} if one[:2] == ("page", "Tanh") else ask(*one)

    monkeypatch.setattr(steady, "task", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("--runs", 2, "--first", 41)
    asked.clear()
    capsys.readouterr()
    status, out, _ = run("--runs", 2)
    assert len(asked) == 1 and asked[0][1:5] == ("Exp", "float64", "42", "value")
    assert status == 1 and "2 runs of 2 questions from the seed 41: 2 laws are broken" in out and seeds_in(out) == [41, 42]
    assert not list(tmp_path.iterdir())                                 # a finished sweep leaves no record


def test_results_hang_on_the_code_that_they_come_from(monkeypatch):
    code_of, reached_text, asked = functools.cache(steady.code_of), steady.reached_text, questions.questions()
    monkeypatch.setattr(steady, "code_of", code_of)
    before = steady.codes(asked)

    def void(changed):
        """What is asked again where a module has changed."""
        monkeypatch.setattr(steady, "code_of", lambda path: code_of(path) + "!" * (path.stem == changed))
        monkeypatch.setattr(steady, "reached_text", lambda path, names: reached_text(path, names) + "!" * (Path(path).stem == changed))
        return {one for one, code in steady.codes(asked).items() if code != before[one]}

    for changed, kinds in (("conditioner_laws", {"conditioner", "network"}), ("density_laws", {"density"}),
                           ("parametrisation_laws", {"parametrisation"}), ("bijector_laws", set(KINDS))):
        assert void(changed) == {one for one in before if one[0] in kinds}
    assert void("erf") & {("page", "Erf"), ("page", "Exp")} == {("page", "Erf")}
    assert {kind for kind, _ in void("erf")} >= {"composite", "network"}


def test_tasks_run_in_other_processes():
    """A task is plain data, and its function stands in a module."""
    found = import_module("validation.steady").task("page", "Tanh", "float64", "3", "value", "of this code")
    assert json.loads(json.dumps(found)) == {"broken": [], "counts": {name: list(pair) for name, pair in found["counts"].items()}}
