"""Threads: of the linear algebra library, which runs on one unless the user has said a number, and threads that share events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from refflow import maf, realnvp
from refflow.fast import threads, tuned
from refflow.fast.flows import WORK, TunedFlow, in_parts, work_of
from refflow.fast.likelihood import FEWEST as FEWEST_OF_A_GRADIENT, MOST_PARTS, LikelihoodGradient
from refflow.fast.threads import Pace, Setting, Threads, VARIABLES, available, chosen, library_threads, on_one_thread, told
from refflow.training import fit
from refflow.training.fit import Progress

NUMBERS = "[get() for get, _ in threads.libraries().values()]"
SETUP = f"""
import json
from refflow.fast import threads
def numbers():
    import scipy.linalg._fblas              # loaded as late as a page would
    return {NUMBERS}
"""
MANY = pytest.mark.skipif(threads.cores() < 2, reason="a library has two threads where there are two cores")


def said_by(code, without=(), **environment):
    """What a new Python prints as JSON, in an environment in which the user has set these variables and no others."""
    clear = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    hidden = "".join(f"import sys; sys.modules[{name!r}] = None\n" for name in without)
    done = subprocess.run([sys.executable, "-c", hidden + SETUP + code], env=clear | environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# -- the library ------------------------------------------------------------------------------------------------------

@MANY
@pytest.mark.parametrize("without", [(), ("threadpoolctl",)])
def test_a_command_runs_on_one_thread_unless_a_number_is_said(without):
    """NumPy's library and SciPy's; a number in the environment holds, whatever variable it stands in."""
    code = """
from refflow.cli import main, sample
sample.run, seen = lambda options: seen.append(numbers()) or 0, []
for options in ((), ("--threads", "2")):
    main(["sample", "flow.npz", *options])
    seen.append(numbers())
print(json.dumps(seen))
"""
    many = [threads.cores()] * 2
    assert said_by(code, without) == [[1, 1], many, [2, 2], many]
    assert said_by(code, without, **{VARIABLES[len(without)]: "2"}) == [[2, 2]] * 4


def test_commands_that_do_not_compute_load_no_linear_algebra_library_of_their_own():
    code = """
import sys
from refflow.cli import main
statuses = [main(words.split()) for words in ("list", "show Tanh", "textbook Tanh", "coverage", "finding")]
print(json.dumps([statuses, "scipy.linalg" in sys.modules]))
"""
    assert said_by(code) == [[0] * 5, False]


@MANY
def test_the_fit_of_the_library_runs_on_one_thread_and_puts_the_number_back():
    code = """
import numpy as np
from refflow import realnvp
from refflow.training import fit
seen, x = [numbers()], np.random.default_rng(0).standard_normal((40, 2))
flow = realnvp(np.random.default_rng(0), 2, (4,), 2)
fit(flow, x, steps=1, validation=0, callback=lambda *_: seen.append(numbers()))
seen.append(numbers())
try:
    fit(flow, x, steps=2, validation=0, callback=lambda *_: 1 / 0)
except ZeroDivisionError:
    seen.append(numbers())
print(json.dumps(seen))
"""
    many = [threads.cores()] * 2
    assert said_by(code) == [many, [1, 1], many, many]
    assert said_by(code, OMP_NUM_THREADS="2") == [[2, 2]] * 4


def test_the_tests_run_on_one_thread():
    assert told() or [get() for get, _ in threads.libraries().values()] == [1] * len(threads.libraries())


class Library:
    """A library whose number of threads is kept here."""

    def __init__(self, number):
        self.number = number

    def get(self):
        return self.number

    def set(self, number):
        self.number = number


@pytest.fixture
def unsaid(monkeypatch):
    """An environment in which the user has said no number."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def library(monkeypatch, unsaid):
    """One library with 8 threads in place of the process' own."""
    one = Library(8)
    monkeypatch.setattr(threads, "libraries", lambda: {"one": (one.get, one.set)})
    monkeypatch.setattr(Setting, "asked", [])
    monkeypatch.setattr(Setting, "found", {})
    return one


def test_calls_inside_each_other(library):
    with chosen(4):
        assert library.number == 4 and available() == 4
        with library_threads(1):
            assert library.number == 1
        with chosen():
            assert library.number == 4                          # the number that was said holds for what it calls
        assert library.number == 4
    assert library.number == 8 and available() == threads.cores()


def test_calls_that_overlap_in_threads_leave_the_number_that_they_found(library):
    """The first to begin is not the last to end."""
    begun, end_first = threading.Event(), threading.Event()

    @on_one_thread
    def first():
        begun.set()
        end_first.wait(10)

    one = threading.Thread(target=first)
    one.start()
    begun.wait(10)
    with chosen():
        end_first.set()
        one.join()
        assert library.number == 1
    assert library.number == 8 and not Setting.asked and not Setting.found


def test_an_error_puts_the_number_back(library):
    with pytest.raises(ZeroDivisionError), chosen():
        1 / 0
    assert library.number == 8


def test_a_library_that_is_loaded_meanwhile_is_limited_by_the_next_call(library, monkeypatch):
    other = Library(6)
    with chosen():
        monkeypatch.setattr(threads, "libraries", lambda: {"one": (library.get, library.set), "other": (other.get, other.set)})
        with chosen():
            assert other.number == 1
    assert (library.number, other.number) == (8, 6)


@pytest.mark.parametrize("text, number", [("3", 3), ("1", 1), ("", None), ("0", None), ("many", None)])
def test_numbers_that_users_say(library, monkeypatch, text, number):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert told() == number and available() == (number or threads.cores())
    with chosen():
        assert library.number == (8 if number else 1)


# -- threads that share events ----------------------------------------------------------------------------------------

def test_threads_wait_for_each_other():
    """An error in one part is raised when no part computes any more."""
    ended = []

    def work(i):
        if i == 0:
            raise KeyError(i)
        threading.Event().wait(0.05)
        ended.append(i)

    with pytest.raises(KeyError):
        Threads(3).run(work, 3)
    assert sorted(ended) == [1, 2]
    assert Threads(3).run(lambda i: i * i, 3) == [0, 1, 4]


@pytest.mark.parametrize("seconds, choice", [({1: 1.0, 2: 0.6}, 2), ({1: 1.0, 2: 0.97}, 1), ({1: 1.0, 2: 3.0}, 1),
                                             ({1: 1.0, 2: 0.6, 4: 0.5}, 4), ({4: 9.0}, 4)])
def test_the_fastest_number_is_chosen(seconds, choice):
    pace, asked = Pace(list(seconds)), []
    for i in range(40):
        count = pace.next()
        asked.append(count)
        pace.took(count, seconds[count] + (10 if asked.count(count) == 1 else 0.01 * i))        # a first call makes its arrays
    assert pace.choice == choice and set(asked[-5:]) == {choice}
    assert all(asked.count(count) <= threads.WARM + threads.TRIED for count in seconds if count != choice)


def test_what_was_chosen_is_said():
    assert Pace([1, 2]).text() == "" and Pace([1]).text() == "1 thread"
    pace = Pace([1, 2])
    for _ in range(4):
        pace.took(1, 1.0)
        pace.took(2, 0.625)
    assert pace.text() == "2 threads, 0.62 of the time of 1"


def large(D=24):
    flow = realnvp(np.random.default_rng(0), D, (96, 96), 4)
    vector = flow.ravel()
    return flow.unravel(vector + 0.05 * np.random.default_rng(1).standard_normal(vector.size))


def test_training_does_not_depend_on_the_number_of_threads(monkeypatch, unsaid):
    """Batches that are worth several parts; the number of threads is said, or measured in the first steps."""
    flow, x = large(), np.random.default_rng(2).standard_normal((3000, 24))
    work = work_of(flow, (24,))
    assert 2 <= 2500 * work // WORK, "the batch is divided"

    def trained(**given):
        result = fit(flow, x, batch_size=2500, steps=3, validation=0, rng=np.random.default_rng(0), **given)
        return result.flow.ravel().tobytes()

    one = trained(gradient=LikelihoodGradient(threads=1))
    monkeypatch.setattr(threads, "cores", lambda: 4)
    assert trained() == one == trained(gradient=LikelihoodGradient(threads=3))
    assert trained(gradient=LikelihoodGradient(parts=1)) != one


def test_the_first_line_of_progress_says_the_number_of_threads(capsys, monkeypatch):
    flow, x = realnvp(np.random.default_rng(0), 2, (4,), 2), np.random.default_rng(0).standard_normal((40, 2))
    monkeypatch.setattr(Progress, "ELSEWHERE", 0.0)
    fit(flow, x, steps=4, validation=0, progress="{:.2f}".format)
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith("(1 thread)") and others and not any("thread" in line for line in others)


@pytest.mark.parametrize("model", [lambda rng: realnvp(rng, 5, (16,), 4), lambda rng: maf(rng, 5, (16,), 2)])
def test_a_tuned_flow_has_the_densities_and_samples_of_its_page(model, monkeypatch, unsaid):
    """In several parts, by several threads; the page's own numbers up to roundings, the same ones for any number of threads."""
    flow = model(np.random.default_rng(0))
    monkeypatch.setattr("refflow.fast.flows.WORK", 7 * work_of(flow, (5,)))
    monkeypatch.setattr("refflow.fast.flows.MOST", 10**6)
    monkeypatch.setattr("refflow.fast.flows.FEWEST_SAMPLES", 10)
    x, found, counts, run = np.random.default_rng(1).standard_normal((90, 5)), [], [], Threads.run
    monkeypatch.setattr(Threads, "run", lambda self, work, count: counts.append(count) or run(self, work, count))
    for cores in (1, 3):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        found.append((tuned(flow).log_prob(x), tuned(flow).sample(np.random.default_rng(2), 90)))
    assert counts == [1, 1, 3, 3] and all(np.array_equal(*both) for both in zip(*found))
    np.testing.assert_allclose(found[0][0], flow.log_prob(x), rtol=1e-12)
    np.testing.assert_allclose(found[0][1], flow.sample(np.random.default_rng(2), 90), rtol=1e-12)
    assert type(tuned(flow)) is TunedFlow


def test_a_tuned_flow_takes_single_events_batches_contexts_and_temperatures():
    flow = realnvp(np.random.default_rng(0), 3, (8,), 2, context=2)
    context, x = np.random.default_rng(1).standard_normal((7, 2)), np.random.default_rng(2).standard_normal((7, 3))
    given = flow.at(context=context)
    assert np.array_equal(tuned(given).log_prob(x), given.log_prob(x))
    plain = realnvp(np.random.default_rng(0), 3, (8,), 2)
    for event in (x[0], x.reshape(7, 1, 3), x[:0]):
        np.testing.assert_allclose(tuned(plain).log_prob(event), plain.log_prob(event), rtol=1e-13)
    for flow, how in ((plain, {"temperature": 0.5}), (flow, {"context": context[0]}), (plain, {})):
        one, other = (f.sample(np.random.default_rng(0), 6, **how) for f in (tuned(flow), flow))
        np.testing.assert_allclose(one, other, rtol=1e-13)
    assert tuned(plain).sample(np.random.default_rng(0), 0).shape == (0, 3)


def test_bad_events_of_a_tuned_flow_are_refused_by_their_own_index():
    x = np.zeros((9000, 3))
    x[8000, 1] = np.nan
    with pytest.raises(ValueError, match=r"x\[8000, 1\] = nan"):
        tuned(realnvp(np.random.default_rng(0), 3, (8,), 2)).log_prob(x)


def test_parts_follow_from_sizes_alone(monkeypatch):
    """Each has work for a thread; there are four or more, at most sixteen, and in a gradient at most MOST_PARTS."""
    flow, sizes = large(), []
    for n in (0, 1, 1000):
        found = in_parts(lambda x: sizes.append(len(x)) or x[:, 0], flow, np.zeros((n, 24)))
        assert len(found) == n
    assert sizes == [0, 1, 1000], "four parts would be less work than four threads are worth"
    monkeypatch.setattr("refflow.fast.flows.WORK", 100 * work_of(flow, (24,)))
    for n, found in ((399, [399]), (400, [100] * 4), (450, [50, *[100] * 4]), (1650, [*[104] * 15, 90])):
        sizes.clear()
        in_parts(lambda x: sizes.append(len(x)) or x[:, 0], flow, np.zeros((n, 24)))
        assert sorted(sizes) == sorted(found)
    monkeypatch.undo()
    gradient = LikelihoodGradient()
    gradient.checked_events(flow, np.zeros((2, 24)))
    worth = -(-WORK // work_of(flow, (24,)))                        # events of a part
    asked = 1, FEWEST_OF_A_GRADIENT, 2 * worth - 2, 2 * worth, 3 * worth, 4 * worth, 10**6
    assert [gradient.parts_of(np.zeros((n, 24))) for n in asked] == [1, 1, 1, 2, 2, 4, MOST_PARTS]
    assert LikelihoodGradient(parts=5).parts_of(np.zeros((3, 24))) == 3
