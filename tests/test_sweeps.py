"""Sweeps on any executor: every task once, the same result wherever it runs, and an interruption keeps what is done."""

from __future__ import annotations

import os
import pickle
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from importlib import import_module

import pytest

from refflow.cli import sweeps
from refflow.cli.sweeps import Sweep, each_of, refuse_unfit, run, sweep
from refflow.oracle import CannotRun, check
from refflow.oracle.asking.adapter import Sent, load
from validation import certify, exhaustive
from validation.points import recorded
from validation.certify import fingerprint
from validation.mutants.judging import in_fork
from validation.mutants.records import Record
from validation.records.unfinished import Unfinished

command = import_module("validation.mutants.__main__")

TWO_PAGES = """
import numpy as np
from refflow.oracle import adapter

@adapter("Exp", theirs="mine")
@adapter("Softplus", theirs="mine")
def mine(params, z):
    return {"forward": np.exp(z)}
"""


class Pickling(Executor):
    """An executor that does what one of other processes does to functions, arguments and results."""

    def submit(self, function, /, *arguments):
        future = Future()
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        future.set_result(pickle.loads(pickle.dumps(function(*arguments))))
        return future


@pytest.fixture
def adapters(tmp_path):
    path = tmp_path / "adapters.py"
    path.write_text(TWO_PAGES)
    return path


# -- tasks and results ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("executor, at_once", [(None, 1), (ThreadPoolExecutor(3), 4), (ThreadPoolExecutor(3), float("inf"))])
def test_every_task_has_its_result(executor, at_once):
    tasks = [(i, 2) for i in range(20)]
    assert dict(Sweep(executor, at_once).results(pow, each_of(tasks))) == {(i, 2): i * i for i in range(20)}


def test_tasks_begin_when_they_can():
    """Of two that may not run at the same time, the second waits; and no more are begun than are wanted."""
    state = {"next": 0, "running": 0, "most": 0}

    def following():
        if state["next"] == 5 or state["running"] == 2:
            return None
        state["next"], state["running"] = state["next"] + 1, state["running"] + 1
        state["most"] = max(state["most"], state["running"])
        return (state["next"],)

    seen = []
    for (number,), _ in Sweep(ThreadPoolExecutor(4), 9).results(abs, following):
        seen.append(number)
        state["running"] -= 1
    assert sorted(seen) == [1, 2, 3, 4, 5] and state["most"] == 2


def test_processes_are_interrupted_and_results_are_kept():
    start, seen = time.monotonic(), []
    with pytest.raises(KeyboardInterrupt), sweep(2) as one:
        for task, _ in one.results(time.sleep, each_of([(0,), (600,), (600,), (600,)])):
            seen.append(task)
            raise KeyboardInterrupt
    assert seen == [(0,)] and time.monotonic() - start < 60


@pytest.mark.parametrize("error, status", [(CannotRun("no"), 2), (KeyboardInterrupt(15), 143), (KeyboardInterrupt(), 130)])
def test_a_command_says_how_it_ended(error, status, monkeypatch, capsys):
    def failing():
        raise error

    monkeypatch.setattr(command, "main", failing)
    assert run("validation.mutants.__main__") == status
    assert capsys.readouterr().err.startswith("mutants: ")


@pytest.mark.parametrize("state, left", [((10, 0, 5), "time left unknown"), ((10, 1, 5), "about 40 s left"),
                                         ((100, 1, 7), "about 10 min left"), ((3600, 1, 4), "about 3 h left"),
                                         ((86_400, 1, 31), "about 30 days left")])
def test_the_time_left(state, left):
    assert sweeps.time_left(*state) == left


# -- the check --------------------------------------------------------------------------------------------------------

def test_a_report_is_the_same_on_any_executor(adapters):
    here = check(adapters, dtypes=["float32"])
    assert {(found.bijector, found.quantity) for found in here.failed} == {("Softplus", "forward")}
    assert [(passed.bijector, passed.quantity) for passed in here.passed] == [("Exp", "forward")]     # of the same name
    for executor in (Pickling(), ThreadPoolExecutor(2)):
        assert check(adapters, dtypes=["float32"], executor=executor).to_json() == here.to_json()
    own = check(page="Exp")
    assert check(page="Exp", executor=Pickling()).to_json() == own.to_json() and own.status == 0


def test_a_function_cannot_be_sent(adapters):
    function = load(adapters).adapters[0].function
    with pytest.raises(CannotRun, match="a file of adapters, or a library by its name"):
        check(function, dtypes=["float32"], executor=Pickling())


def test_the_file_is_read_once_for_each_check(adapters):
    sent, of_another_check = Sent(adapters, load(adapters)), Sent(adapters, load(adapters))
    first = pickle.loads(pickle.dumps(sent)).loaded
    adapters.write_text(TWO_PAGES + "version = 'another'")
    assert pickle.loads(pickle.dumps(sent)).loaded is first
    assert pickle.loads(pickle.dumps(of_another_check)).loaded.version == "another"


# -- the certificate --------------------------------------------------------------------------------------------------

@pytest.fixture
def counted(monkeypatch, tmp_path):
    """The certificate of pages whose rows are made up; the names of the tasks that were run."""
    seen = []

    def certified(page, dtype, side, longer, trace, costs):
        seen.append((page.__name__, dtype, side))
        return {"forward": {"C": len(page.__name__) / 8, "worst": [side, dtype]}}, 3

    monkeypatch.setattr(certify, "certified", certified)
    monkeypatch.setattr(certify, "Unfinished", lambda name, of: Unfinished(name, of, tmp_path))
    monkeypatch.setattr(certify, "identity", lambda: "this code")
    return seen


def test_an_interrupted_certificate_goes_on(counted, monkeypatch, tmp_path):
    names, add = ["Exp", "Tanh"], Unfinished.add
    whole = certify.certificate_of(names, 1, None)
    assert len(counted) == len(set(counted)) == 8 and not list(tmp_path.iterdir())

    def interrupted(self, task, result):
        add(self, task, result)
        if len(self.results) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        certify.certificate_of(names, 1, None)
    monkeypatch.setattr(Unfinished, "add", add)
    del counted[:]
    assert certify.certificate_of(names, 1, None) == whole and len(counted) == 5


def test_a_certificate_does_not_depend_on_the_order_of_results(counted):
    names = ["Exp", "Softplus", "Tanh"]

    class Backwards:
        def results(self, function, following):
            return [(task, function(*task)) for task in reversed(list(iter(following, None)))]

    documents = []
    for one in (Sweep(), Backwards()):
        results = {}
        documents.append(certify.as_json(certify.certificate(names, one, results, results.__setitem__)))
    assert documents[0] == documents[1]


def test_a_certificate_is_of_one_machine(counted, monkeypatch):
    monkeypatch.setattr(certify, "task", lambda *key, longer: certify.Done({}, 1, {}, {}, 0.0, fingerprint() | {"machine": "another"}))
    with pytest.raises(CannotRun, match="Exp float64 forward was computed on another: .*'machine': 'another'"):
        certify.certificate_of(["Exp"], 1, None)


def test_unfinished_results(tmp_path):
    kept = Unfinished("x", {"code": 1}, tmp_path)
    kept.add(("a", "b"), [1.5, {"C": "inf"}])
    kept.add(("c", "d"), (2,))
    assert kept.results == {("a", "b"): [1.5, {"C": "inf"}], ("c", "d"): [2]}
    kept.path.write_text(kept.path.read_text() + '[["e", "f"], [3')                 # a killed run
    again = Unfinished("x", {"code": 1}, tmp_path)
    again.add(("g", "h"), [4])
    assert list(Unfinished("x", {"code": 1}, tmp_path).results) == [("a", "b"), ("c", "d"), ("g", "h")]
    assert Unfinished("x", {"code": 2}, tmp_path).results == {}
    assert Unfinished("x", {"code": 1}, tmp_path).results == {}                     # a run of other code has begun meanwhile


def test_a_change_of_code_has_another_identity(tmp_path):
    for name, text in (("a.py", "x = 1"), ("b.py", "")):
        (tmp_path / name).write_text(text)
    before = sweeps.digest(tmp_path)
    assert before == sweeps.digest(tmp_path)
    (tmp_path / "a.py").write_text("x = 2")
    assert sweeps.digest(tmp_path) != before


# -- all float32 events, mutants --------------------------------------------------------------------------------------

def test_interrupted_passes_are_recorded(tmp_path, monkeypatch):
    for module in (exhaustive, recorded):
        monkeypatch.setattr(module, "EXHAUSTIVE", tmp_path / "exhaustive.json")

    def measured(name, index, side, number):
        if number == 2:
            raise KeyboardInterrupt
        return {"forward": [(0.5, 1.0, None)]}, 7, 0.1

    monkeypatch.setattr(exhaustive, "measured", measured)
    with pytest.raises(KeyboardInterrupt):
        exhaustive.run(["Softsign"], 60.0, Sweep(), lambda *state: None)
    sides = recorded.exhaustive()["Softsign"][0]
    assert sides["forward"]["passes"] + sides["inverse"]["passes"] in (3, 4)


def test_verdicts_of_another_process_are_merged(tmp_path):
    there, here = Record("Exp", tmp_path / "there"), Record("Exp", tmp_path / "here")
    there.add(there.unjudged()[0], {"verdict": "killed", "by": "golden", "why": ""})
    here.merge(pickle.loads(pickle.dumps(there.found())))
    assert Record("Exp", tmp_path / "here").verdicts == there.verdicts
    with pytest.raises(RuntimeError, match="another version of its code"):
        here.merge(({"page": "Exp"}, {}, {}))


# -- a cluster --------------------------------------------------------------------------------------------------------

class Client:
    """What `refuse_unfit` asks a client of distributed."""

    def __init__(self, threads, found):
        self.threads, self.found = threads, found

    def nthreads(self):
        return self.threads

    def run(self, function, on_error):
        return {worker: self.found for worker in self.threads}


@pytest.mark.parametrize("threads, found, message", [
    ({}, None, "has no workers"), ({"a": 2}, None, "a has 2 threads; start it with: dask worker tcp://x --nthreads 1"),
    ({"a": 1}, "0", "a has not this version of refflow$"),
    ({"a": 1}, ModuleNotFoundError("No module named 'refflow'"), "version of refflow: ModuleNotFoundError: No module")])
def test_unfit_workers_are_refused(threads, found, message):
    with pytest.raises(CannotRun, match=message):
        refuse_unfit(Client(threads, found), "tcp://x")


def test_what_to_install_for_a_cluster(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(CannotRun, match=r'install it with: python -m pip install "refflow\[cluster\]"'), sweep(1, "tcp://x"):
        pass


@pytest.mark.filterwarnings("ignore")
def test_a_cluster(adapters, tmp_path):
    """A real scheduler and two workers: processes, whose tasks may fork."""
    distributed = pytest.importorskip("distributed", reason=sweeps.INSTALL)
    with (distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as workers,
          sweep(1, workers.scheduler_address) as one):
        forks = [pid for _, pid in one.results(in_fork, each_of([(os.getpid, 60)] * 3))]
        assert len(set(forks)) == 3
        report = check(adapters, dtypes=["float32"], executor=one.executor)
        assert report.to_json() == check(adapters, dtypes=["float32"]).to_json()
