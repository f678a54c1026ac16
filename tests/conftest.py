"""Hypothesis profiles, slow tests, and the command line as a fixture.

HYPOTHESIS_PROFILE picks a profile:

    dev         the default: ten draws a test, always the same ones
    explore     two draws a test from a random seed, which is printed at the end; HYPOTHESIS_SEED=N draws them again
    nightly     so with a thousand draws (`python -m validation.steady` draws at many seeds, and goes on where it stopped)

    python -m pytest                        all tests but the slow ones: those recorded in seconds.json with half a CPU second or more
    python -m pytest --slow                 the slow ones
    python -m pytest tests/test_laws.py     all tests of a file, or of -k: what is named is never left out
    python -m pytest --record-seconds ...   writes the CPU seconds of the tests that ran to seconds.json

A test's seconds include the making of its fixtures, also of one that other tests share: whichever of them runs first makes it.  A test that
is not recorded, because it is new, is not slow; the summary counts tests that should be recorded.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from refflow.cli import main
from refflow.fast import threads

pytest_plugins = ("refflow.testing.plugin",)        # an installed refflow has it as an entry point
pytest.register_assert_rewrite("flows", "authors_files", "tallies")             # so that what fails there is shown
THREADS = contextlib.ExitStack()
THREADS.enter_context(threads.chosen())             # in each worker, to its end
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "dev")
settings.register_profile("dev", max_examples=10, deadline=None, suppress_health_check=SLOW, derandomize=True)
settings.register_profile("explore", max_examples=2, deadline=None, suppress_health_check=SLOW, derandomize=False)
settings.register_profile("nightly", max_examples=1000, deadline=None, suppress_health_check=SLOW, derandomize=False, print_blob=True)
settings.load_profile(PROFILE)
if not settings.default.derandomize:            # the processes of xdist inherit the seed
    os.environ.setdefault("HYPOTHESIS_SEED", str(random.randrange(2**32)))


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """run(*arguments) -> (exit status, stdout, stderr) of the command line, in a new directory."""
    monkeypatch.chdir(tmp_path)
    progress = importlib.import_module("refflow.training.fit").Progress
    for seconds in ("ELSEWHERE", "LONG"):                           # progress lines, which a slow machine would print
        monkeypatch.setattr(progress, seconds, math.inf)

    def call(*arguments):
        status = main([str(a) for a in arguments])
        return status, *capsys.readouterr()

    return call


# -- seeds ------------------------------------------------------------------------------------------------------------

@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Hypothesis draws from the seed of the environment, unless --hypothesis-seed is given."""
    if not settings.default.derandomize and config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = os.environ["HYPOTHESIS_SEED"]


# -- slow tests -------------------------------------------------------------------------------------------------------

SECONDS = Path(__file__).with_name("seconds.json")
LEAST = 0.5                             # CPU seconds of a slow test
OF_FIXTURES: dict = {}                  # the CPU seconds in which each was made


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests, which a run of the whole suite leaves out")
    parser.addoption("--record-seconds", action="store_true", help="record which tests are slow in tests/seconds.json")


def recorded():
    return json.loads(SECONDS.read_text()) if SECONDS.exists() else {}


def is_whole(config):
    """Is the whole suite asked for, rather than what files or -k name?"""
    return not config.option.keyword and [config.rootpath / given for given in config.args] == [Path(__file__).parent]


def pytest_collection_modifyitems(config, items):
    if config.getoption("record_seconds") or not (is_whole(config) or config.getoption("slow")):
        return
    slow, wanted = recorded(), config.getoption("slow")
    left_out = [item for item in items if (item.nodeid in slow) != wanted]
    items[:] = [item for item in items if (item.nodeid in slow) == wanted]
    config.hook.pytest_deselected(items=left_out)


def cpu_seconds():
    """The CPU seconds of this process and of the processes that it has waited for."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    started = cpu_seconds()
    try:
        return (yield)
    finally:
        OF_FIXTURES[fixturedef] = cpu_seconds() - started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test's CPU seconds are its fixtures' too."""
    started = cpu_seconds()
    try:
        return (yield)
    finally:
        used = [defs[-1] for defs in item._fixtureinfo.name2fixturedefs.values()]
        took = cpu_seconds() - started + sum(OF_FIXTURES.get(one, 0.0) for one in used)
        item.user_properties.append(("CPU seconds", round(took, 3)))


def pytest_terminal_summary(terminalreporter, config):
    """The CPU seconds of all tests; with --record-seconds the slow ones are written, others that did not run stay."""
    reports = [report for found in terminalreporter.stats.values() for report in found if getattr(report, "when", "") == "call"]
    seconds = {report.nodeid: dict(report.user_properties).get("CPU seconds", 0.0) for report in reports}
    terminalreporter.write_line(f"{sum(seconds.values()):.0f} CPU seconds in {len(seconds)} tests")
    if not settings.default.derandomize:
        terminalreporter.write_line(f"drawn from HYPOTHESIS_PROFILE={PROFILE} HYPOTHESIS_SEED={config.getoption('--hypothesis-seed')}")
    slow = {name: round(took, 1) for name, took in seconds.items() if took >= LEAST}
    if new := slow.keys() - recorded().keys():
        terminalreporter.write_line(f"{len(new)} of them are slow and not in {SECONDS.name}, with {sum(slow[one] for one in new):.0f} CPU "
                                    "seconds: --record-seconds records them; above all "
                                    + ", ".join(f"{one} {slow[one]:.0f}" for one in sorted(new, key=slow.__getitem__)[:-4:-1]))
    if config.getoption("record_seconds"):
        slow |= {name: was for name, was in recorded().items() if name not in seconds}
        SECONDS.write_text(json.dumps(slow, indent=0, sort_keys=True) + "\n")
