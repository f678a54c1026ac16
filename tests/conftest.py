"""Hypothesis profiles, `dev` (the default), `ci` (derandomised), `nightly` (deep), and the command line as a fixture.

HYPOTHESIS_PROFILE picks a profile; CI=true means `ci`.
"""

from __future__ import annotations

import importlib
import math
import os

import pytest
from hypothesis import HealthCheck, settings

from refflow.cli import main

pytest_plugins = ("refflow.testing.plugin",)        # an installed refflow has it as an entry point
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile("dev", max_examples=10, deadline=None, suppress_health_check=SLOW)
settings.register_profile("ci", max_examples=10, deadline=None, suppress_health_check=SLOW, derandomize=True)
settings.register_profile("nightly", max_examples=1000, deadline=None, suppress_health_check=SLOW, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "dev"))


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """run(*arguments) -> (exit status, stdout, stderr) of the command line, in a new directory."""
    monkeypatch.chdir(tmp_path)
    progress = importlib.import_module("refflow.training.fit").Progress
    monkeypatch.setattr(progress, "ELSEWHERE", math.inf)            # progress lines, which a slow machine would print

    def call(*arguments):
        status = main([str(a) for a in arguments])
        return status, *capsys.readouterr()

    return call
