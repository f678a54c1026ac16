"""The tests draw the same at every run, and explore from a seed that they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import conftest
import pytest
from hypothesis import settings

HERE = Path(__file__).parent
LOADED = """
import json, os
import conftest
from hypothesis import settings
print(json.dumps([settings.default.derandomize, settings.default.max_examples, os.environ.get("HYPOTHESIS_SEED")]))
"""


def loaded(**environment):
    """[are draws always the same?, how many, the seed of the environment] in a process of its own."""
    rest = {name: value for name, value in os.environ.items() if name not in ("HYPOTHESIS_PROFILE", "HYPOTHESIS_SEED", "CI")}
    done = subprocess.run([sys.executable, "-c", LOADED], env=rest | environment | {"PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"},
                          capture_output=True, text=True, check=True, cwd=HERE)
    return json.loads(done.stdout)


def test_the_default_draws_the_same_at_every_run():
    assert settings.get_profile("dev").derandomize and loaded() == [True, 10, None]


def test_exploring_has_a_random_seed_in_ci_too():
    """Hypothesis itself draws the same where CI is set."""
    same, draws, seed = loaded(HYPOTHESIS_PROFILE="explore", CI="true")
    assert (same, draws) == (False, 2) and 0 <= int(seed) < 2**32
    assert not settings.get_profile("nightly").derandomize


@pytest.mark.parametrize("given, wanted", [(None, "7"), ("5", "5")])
def test_exploring_draws_from_the_seed_and_prints_it(given, wanted, monkeypatch):
    written = []
    option = SimpleNamespace(hypothesis_seed=given)
    config = SimpleNamespace(option=option, getoption=lambda name: option.hypothesis_seed if "seed" in name else False)
    monkeypatch.setenv("HYPOTHESIS_SEED", "7")
    monkeypatch.setattr(conftest, "PROFILE", "explore")
    monkeypatch.setattr(conftest, "settings", SimpleNamespace(default=settings.get_profile("explore")))
    conftest.pytest_configure(config)
    conftest.pytest_terminal_summary(SimpleNamespace(stats={}, write_line=written.append), config)
    assert option.hypothesis_seed == wanted
    assert written[-1] == f"drawn from HYPOTHESIS_PROFILE=explore HYPOTHESIS_SEED={wanted}"


def test_the_default_prints_no_seed(monkeypatch):
    written = []
    monkeypatch.setattr(conftest, "settings", SimpleNamespace(default=settings.get_profile("dev")))
    conftest.pytest_terminal_summary(SimpleNamespace(stats={}, write_line=written.append), SimpleNamespace(getoption=lambda name: False))
    assert written == ["0 CPU seconds in 0 tests"]
