"""Which tests a run of the whole suite leaves out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import conftest
import pytest

pytest_plugins = ("pytester",)
HERE = Path(__file__).parent
SLOW, QUICK = "tests/test_x.py::test_slow[1]", "tests/test_x.py::test_quick"


def left(monkeypatch, args=("tests",), keyword="", record=False, slow=False):
    """The tests that run, of a slow one and a quick one, and how many are said to be left out."""
    monkeypatch.setattr(conftest, "recorded", lambda: {SLOW: 2.0})
    items, said = [SimpleNamespace(nodeid=name) for name in (SLOW, QUICK)], []
    config = SimpleNamespace(args=list(args), rootpath=HERE.parent, option=SimpleNamespace(keyword=keyword),
                             getoption={"record_seconds": record, "slow": slow}.get,
                             hook=SimpleNamespace(pytest_deselected=lambda items: said.extend(items)))
    conftest.pytest_collection_modifyitems(config, items)
    return [item.nodeid for item in items], len(said)


@pytest.mark.parametrize("given, run", [
    ({}, [QUICK]), ({"slow": True}, [SLOW]), ({"args": [str(HERE)]}, [QUICK]), ({"keyword": "x"}, [SLOW, QUICK]),
    ({"args": ["tests/test_x.py"]}, [SLOW, QUICK]), ({"args": ["tests/test_x.py"], "slow": True}, [SLOW]),
    ({"args": ["tests", "tests/test_x.py"]}, [SLOW, QUICK]), ({"record": True}, [SLOW, QUICK])])
def test_what_is_left_out(monkeypatch, given, run):
    assert left(monkeypatch, **given) == (run, 2 - len(run))


def test_every_recorded_test_exists():
    """A test that is renamed loses its record, and the default suite runs it: `python -m pytest --record-seconds` on its file."""
    texts = {path.name: path.read_text() for path in HERE.glob("test_*.py")}
    for name, seconds in conftest.recorded().items():
        file, function = re.fullmatch(r"tests/(\w+\.py)::(?:\w+::)?(\w+)(?:\[.*\])?", name, re.S).groups()
        assert re.search(rf"^ *def {function}\(", texts.get(file, ""), re.M), name
        assert seconds >= conftest.LEAST


def test_seconds_are_recorded(pytester):
    pytester.makeconftest((HERE / "conftest.py").read_text().replace('pytest_plugins = ("refflow.testing.plugin",)', "")
                          .replace("LEAST = 0.5", "LEAST = 0.05"))
    pytester.makepyfile(test_x=SOME_SLOW)
    found = pytester.runpytest_inprocess("--record-seconds", "-p", "no:cacheprovider")
    found.assert_outcomes(passed=3)
    found.stdout.fnmatch_lines(["* CPU seconds in 3 tests"])
    recorded = json.loads((pytester.path / "seconds.json").read_text())
    assert recorded == {"test_x.py::test_slow": 0.1, "test_x.py::test_with_a_slow_fixture": 0.1}


SOME_SLOW = """
import time

import pytest


@pytest.fixture
def made():
    end = time.process_time() + 0.06
    while time.process_time() < end:
        pass


def test_quick():
    pass


def test_slow():
    end = time.process_time() + 0.06
    while time.process_time() < end:
        pass


def test_with_a_slow_fixture(made):
    pass
"""
