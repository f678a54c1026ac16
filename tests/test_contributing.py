"""What .github says: commands and files that exist, steps that are the command's, forms that are whole, no invented host."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from refflow.cli import COMMANDS, parser
from refflow.core.version import VERSION
from refflow.maps import CHAPTERS
from validation import page
from validation.peers.findings import KINDS

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
CONTRIBUTING = (GITHUB / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAPS = (ROOT / "refflow" / "maps" / "README.md").read_text(encoding="utf-8")
CHANGES = (ROOT / "refflow" / "CHANGES.md").read_text(encoding="utf-8")
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
PLACEHOLDERS = ("YOUR", "LIBRARY", "CHAPTER", "your_", "your-")


def is_placeholder(name):
    return any(word in name for word in PLACEHOLDERS)


# -- the guide --------------------------------------------------------------------------------------------------------

def named_files(text):
    """The paths in backticks, with a folder, that name a file or folder of the repository."""
    found = re.findall(r"`([\w./-]+/[\w./-]*)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    return [name for name in found if not is_placeholder(name) and not name.startswith("--")]


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.md")), ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(path):
    named = named_files(path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "refflow" / "maps" / name).exists()] == []


def test_a_file_that_is_not_there_is_found():
    assert named_files("see `refflow/nothing.py`, `YOURS/page.py` and `Chain`") == ["refflow/nothing.py"]


def test_every_module_that_is_run_is_there():
    for name in set(re.findall(r"python -m (validation[\w.]*)", CONTRIBUTING)):
        assert import_module(name)


def test_every_command_of_refflow_is_there():
    known = parser()._subparsers._group_actions[0].choices
    named = set(re.findall(r"python -m refflow (\w+)", CONTRIBUTING))
    assert named <= set(known) and len(known) == len(COMMANDS)


def test_the_steps_are_those_of_the_command():
    told = [step for row in re.findall(r"^   \| ([\w ,]+) \| .* \| [\d.]+ \|$", CONTRIBUTING, re.M) for step in row.split(", ")]
    assert told == list(page.STEPS)


def test_the_kinds_of_findings_are_named():
    assert all(f'"{kind}"' in CONTRIBUTING for kind in KINDS)


def test_the_chapters_are_listed_in_reading_order():
    table = MAPS.partition("## Chapters")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.M)) == CHAPTERS


# -- forms and workflow -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_and_names_no_host(path):
    text = path.read_text(encoding="utf-8")
    ids = re.findall(r"^    id: (\w+)$", text, re.M)
    assert all(re.search(rf"^{key}: ", text, re.M) for key in ("name", "description", "labels")) and "\nbody:\n" in text
    assert len(ids) == len(set(ids)) == text.count("  - type: ") == text.count("    attributes:\n") >= 4
    assert text.count("required: true") >= 2 and "://" not in text


def test_there_is_a_form_for_each_thing_that_is_sent():
    names = {re.search(r"^name: (.*)$", path.read_text(encoding="utf-8"), re.M)[1] for path in FORMS}
    assert names == {"A wrong number", "A defect of a library", "A page"}
    assert all(f'"{name}"' in CONTRIBUTING for name in names - {"A page"})


def test_the_workflow_runs_what_is_here():
    text = (GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8")
    run = [word for line in re.findall(r"^      - run: (.*)$", text, re.M) for word in line.split() if word.startswith(".ci/")]
    assert run == [".ci/lint", ".ci/run"] and all((ROOT / script).stat().st_mode & 0o100 for script in run)
    assert 'python-version: "3.11"' in text and "taskset --cpu-list 0,1 .ci/run" in text and "://" not in text


# -- changes ----------------------------------------------------------------------------------------------------------

def test_the_changes_end_with_this_version():
    newest, = re.findall(r"^## (\S+)$", CHANGES, re.M)[:1]
    assert newest == VERSION and len(CHANGES.splitlines()) <= 40
    said = {word for line in CHANGES.splitlines() for word in re.findall(r"`(\w+)`", line)}
    assert {command.__name__.rpartition(".")[2].removesuffix("_pages") for command in COMMANDS} <= said


def test_the_changes_count_no_pages_and_no_checks():
    assert not re.search(r"\b\d+ (?:pages|checks|bijectors|densities|networks|models|libraries|laws)\b", CHANGES)
