"""Defects of other libraries: the table is made from the records, every defect shows, and the command resumes."""

import json
from dataclasses import replace

import pytest

from refflow.oracle.boxes.black_box_laws import LAWS
from validation.defects import __main__ as command
from validation.defects import environments, pages
from validation.defects.all import DEFECTS
from validation.defects.asked import asked
from validation.defects.entry import OWN, SHIPPED
from validation.raw_parameters.environments import NotInstalled

QUANTITIES = {"forward", "log_det", "inverse", "inverse_log_det", "vjp.z_bar", "inverse_vjp.x_bar"}
RECORDED = [(one, pages.record_of(one)) for one in DEFECTS if pages.record_of(one)]
RUN = [(one, record) for one, record in RECORDED if not record.get("error")]


def test_the_table_is_made_from_the_records():
    assert pages.TABLE.read_text(encoding="utf-8") == pages.table(), "python -m validation.defects --recorded writes the table"


def test_there_are_enough_defects_of_enough_libraries():
    assert len(DEFECTS) >= 45 and len({one.library for one in DEFECTS if not one.port}) >= 9
    assert sum(bool(one.port) for one in DEFECTS) <= 8
    assert len({(one.library, one.name) for one in DEFECTS}) == len(DEFECTS)


def test_every_defect_says_where_it_is_told_and_what_should_fail():
    for one in DEFECTS:
        assert one.source == OWN or one.source.partition("#")[2].isdigit(), one.name
        assert set(one.says) <= set(LAWS) | QUANTITIES, one.name


def test_the_records_are_of_the_defects_and_small():
    names = {(one.library, one.name) for one in DEFECTS}
    for path in pages.RECORDED.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["schema"] == pages.SCHEMA and {(path.stem, name) for name in record["defects"]} <= names
    assert sum(path.stat().st_size for path in pages.RECORDED.glob("*.json")) < 5e5


@pytest.mark.parametrize("one, record", RUN, ids=[f"{one.library}, {one.name}" for one, _ in RUN])
def test_a_defect_shows(one, record):
    assert pages.reproduced(one, record)


def test_a_reproduction_that_prints_the_truth_is_no_defect():
    one = next(one for one in DEFECTS if one.library == "GPflow")
    assert not pages.reproduced(one, {"printed": [str(value) for value in pages.truths(one)]})
    assert pages.reproduced(one, {"printed": ["inf"]}) and pages.reproduced(one, {"printed": ["raised ValueError: no"]})


def test_verdicts():
    one = replace(DEFECTS[0], says=("log_det",))

    def verdict(*failed, seconds=1.0, **more):
        return pages.verdict(one, {"findings": [{"what": what} for what in failed], "seconds": seconds} | more)

    assert pages.verdict(one, None) == verdict(error="cannot be installed") == "not run"
    assert verdict("log_det", "forward") == "found" and verdict("log_det", seconds=21) == "too long"
    assert verdict("forward") == "found as something else" and verdict() == "not found"


BOX = """
from refflow.testing import BlackBox
import numpy as np
box = BlackBox(lambda z: (z * 2, np.full(len(z), np.log({claimed}))), lambda x: x / 2)
"""


def test_a_check_finds_a_planted_defect_and_passes_the_right_map():
    """In this interpreter: a box, an adapter, and what the code prints."""
    determinant = "log-det is the determinant of differences"
    found = asked("torch", "print(0.5)", BOX.format(claimed=3.0))
    assert found["printed"] == ["0.5"] and determinant in [one["what"] for one in found["findings"]]
    assert asked("torch", "", BOX.format(claimed=2.0))["findings"] == []
    assert asked("torch", "", "box = 1 / 0")["error"] == "ZeroDivisionError: division by zero"
    port = next(one for one in DEFECTS if one.library == "bayesflow")
    assert "inverse of forward" in [one["what"] for one in asked("bayesflow", port.code, port.check)["findings"]]


SLOW = """
import time
from refflow.testing import BlackBox

def forward(z):
    time.sleep(2 if len(z) > 100 else 0)
    return 2 * z

box = BlackBox(forward)
"""


def test_a_check_that_takes_too_long_says_what_was_asked():
    found = asked("torch", "", SLOW, seconds=0.25)
    assert not found["findings"] and "no answer within 0.25 seconds: forward of 1024 events" in found["error"]


def test_only_what_is_not_recorded_is_run(monkeypatch, tmp_path, capsys):
    ran = []
    monkeypatch.setattr(pages, "RECORDED", tmp_path)
    monkeypatch.setattr(pages, "write", lambda: None)
    monkeypatch.setattr(command, "run", lambda group, limit: [(ran.append(one.name) or one, {
        "printed": ["inf"], "findings": [{"what": one.says[0], "text": "", "diagnosis": "infinite"}],
        "seconds": 1.0}) for one in group])
    assert command.main(["--library", "GPflow"]) == command.main(["--library", "GPflow", "--json"]) == 0
    assert len(ran) == 1 and ": found: forward - infinite" in capsys.readouterr().out
    command.main(["--library", "GPflow", "--again"])
    assert len(ran) == 2
    assert command.main(["--library", "nobody"]) == 2


def test_what_cannot_be_run_is_told(monkeypatch):
    def refused(*args):
        raise NotInstalled("ERROR: No matching distribution found")

    monkeypatch.setattr(command, "made", refused)
    (one, record), = command.run(DEFECTS[:1], 1)
    assert record["error"] == "cannot be installed: ERROR: No matching distribution found"
    assert pages.verdict(one, record) == "not run"


LIBRARY = """#!/bin/sh
given=$(cat)
case "$given" in
    *ends*) echo 'Killed by itself' >&2; exit 3;;
    *hangs*) exec sleep 600;;
esac
echo '{"printed": ["1"]}'
"""


def test_a_process_that_ends_or_hangs_costs_one_defect(monkeypatch, tmp_path):
    """Another one goes on with the next."""
    python = tmp_path / "python"
    python.write_text(LIBRARY, encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(command, "made", lambda library, version: (python, None))
    group = [replace(DEFECTS[0], name=name, code=name) for name in ("ends", "hangs", "is asked")]
    records = {one.name: record for one, record in command.run(group, 1.5)}
    assert records["ends"]["error"] == "Killed by itself" and records["hangs"]["error"] == "no answer within 1.5 seconds"
    assert records["is asked"] == {"printed": ["1"]}


def test_a_library_has_a_folder_of_its_own_for_each_version():
    folders = {environments.folder_of("pyro", version) for version in ("0.5.1", "1.3.0")}
    assert len(folders) == 2 and environments.folder_of("torch", "2.13.0") is None
    assert {one.library for one in DEFECTS} <= set(environments.LIBRARIES)
    assert all(one.check.startswith(SHIPPED) or "box = " in one.check or "@adapter" in one.check for one in DEFECTS)
