"""The table of the maps of other libraries: every answer runs, every public map has a row, what is asked is what was recorded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from refflow import cli, coverage
from refflow.core import Bijector
from refflow.coverage import letters
from refflow.coverage.row import row
from validation.coverage import __main__ as made
from validation.peers.findings import FINDINGS
from validation.peers.remedies import REMEDIES

ANSWERED = [row for row in coverage.ROWS if row.answer]
OTHERS = ("Stochastic duration predictor", "Condition embedding")       # a model and a network


@pytest.mark.parametrize("one", ANSWERED, ids=lambda one: one.map)
def test_the_code_of_an_answer_makes_a_bijector(one):
    found = eval(one.answer, dict(vars(letters)))
    assert isinstance(found, Bijector) or one.map in OTHERS


def test_a_row_has_an_answer_or_a_reason():
    for one in coverage.ROWS:
        assert bool(one.answer) + bool(one.missing) + bool(one.outside) == 1, one.map
    names = [one.map for one in coverage.ROWS]
    assert len(set(names)) == len(names)


def test_every_public_map_has_a_row(monkeypatch):
    """Of each library at the version that is asked; a library's new map would be found."""
    held = coverage.held("public.json")
    assert set(made.WHERE) == set(held)
    assert not {library: found for library in held if (found := coverage.without_a_row(library))}
    planted = {"torch": {"version": "0", "names": [*held["torch"]["names"], "MadeUpTransform"]}}
    monkeypatch.setattr(coverage, "held", lambda file: planted)
    assert coverage.without_a_row("torch") == ["MadeUpTransform"]


def test_what_a_release_is_said_to_lack_it_lacks():
    """By its public names at that version, and by what was asked; a map that comes with a release would be found."""
    said = [(one, library) for one in coverage.ROWS for library in one.theirs if coverage.absent(one, library)]
    assert said and not [found for found in said if held_by_the_release(*found)]
    planted = row("Affine", "", "Affine()", torch="AffineTransform (not in 2.13)")
    assert coverage.absent(planted, "torch") == "not in 2.13" and held_by_the_release(planted, "torch") == ["AffineTransform"]
    assert coverage.absent(replace(planted, theirs={"torch": "AffineTransform, ExpTransform (not in 2.13)"}), "torch") is None


def held_by_the_release(row, library):
    """The names of a map that are public in the library."""
    public = coverage.held("public.json").get(library, {"names": []})["names"]
    return [head for name in coverage.names(row, library) if (head := coverage.head(name)) in public or coverage.asked(row, library)]


def test_the_files_are_those_that_the_records_make():
    for name, value in (("asked.json", made.asked()), ("findings.json", made.findings())):
        assert (made.DATA / name).read_text(encoding="utf-8") == made.json_text(value) + "\n"
    assert made.TABLE.read_text(encoding="utf-8") == made.table()


def test_an_adapter_belongs_to_the_row_of_its_class():
    affine = row("Affine", "", "Affine()", torch="AffineTransform(loc=0), torch.distributions.ExpTransform")
    assert [coverage.head(name) for name in coverage.names(affine, "torch")] == ["AffineTransform", "ExpTransform"]
    assert coverage.head("biject_to(interval) [ends]") == "biject_to(interval)"
    assert set(coverage.asked(affine, "torch")) >= {"AffineTransform", "AffineTransform [event_dim=1]", "ExpTransform"}
    assert coverage.asked(replace(affine, theirs={"torch": "MadeUpTransform"}), "torch") == {}


def test_the_command_shows_answers_errors_and_reasons(capsys):
    assert cli.main(["coverage", "torch"]) == 0
    shown = capsys.readouterr().out
    assert "TanhTransform" in shown and "Tanh()" in shown and "8e30" in shown
    assert "SoftmaxTransform" in shown.partition("Outside the contract:")[2] and "Missing:" not in shown
    assert cli.main(["coverage", "torch", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert next(one for one in found if one["map"] == "Tanh")["asked"]["TanhTransform"]["float64"] == "8e30"


def test_the_command_counts_libraries(capsys):
    assert cli.main(["coverage", "--json"]) == 0
    found = {one["library"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["torch"]["answered"] + found["torch"]["missing"] + found["torch"]["outside"] == found["torch"]["maps"]
    assert cli.main(["coverage"]) == 0
    assert capsys.readouterr().out.startswith("library")


def test_an_unknown_library_is_refused_with_the_names(capsys):
    assert cli.main(["coverage", "toch"]) == 2
    assert "no library 'toch'; there are" in capsys.readouterr().err


def test_a_library_without_adapters_says_so(capsys):
    assert cli.main(["coverage", "survae"]) == 0
    assert "SurVAE has no adapters" in capsys.readouterr().out


def test_a_finding_is_an_issue_that_can_be_sent(capsys):
    assert cli.main(["finding", "nflows: Tanh"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# Tanh's log-det is -inf from 19.1 on\n") and "With nflows 0.14,\n\n```python\nimport torch" in shown
    assert "| printed | true |\n| --- | --- |\n| -24.6137074" in shown and "| -inf | -38.6137" in shown
    assert "`log dx/dz = log(1 - tanh(z)^2)`, computed with 50 digits" in shown and "Suggestion: log|dx/dz| = -2 log cosh z." in shown


def test_a_finding_is_named_by_a_part_of_its_name(capsys):
    assert cli.main(["finding"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(coverage.held("findings.json"))
    assert cli.main(["finding", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["library"] == "torch"
    assert cli.main(["finding", "no such thing"]) == 2
    assert "`refflow finding` lists them" in capsys.readouterr().err
    assert cli.main(["finding", "stickbreaking"]) == 2
    assert "have 'stickbreaking' in their names: torch: StickBreakingTransform clips its log-det; " in capsys.readouterr().err


def test_every_defect_has_a_remedy_and_every_remedy_a_finding():
    wrong = {(one.library, one.name) for one in FINDINGS if one.kind in ("defect", "range")}
    assert set(REMEDIES) == wrong


def test_letters_are_of_one_size():
    assert letters.W.shape == letters.Q.shape == (letters.D, letters.D) and np.allclose(letters.Q @ letters.Q.T, np.eye(letters.D))
