"""Displayed equations of the book's chapters are executed by the lines that cite them, and misprints of them are found."""

from __future__ import annotations

import pytest

from refflow.book.chapter import chapters, read
from validation import displayed
from validation.chapters import DIRECTORY

EXECUTED, ALIVE = 4 / 5, 1 / 50                 # at least, at most
CHAPTERS = chapters()


@pytest.mark.parametrize("name", CHAPTERS)
def test_equations_and_misprints_are_as_they_are_kept(name):
    assert displayed.wrong(name, displayed.result(CHAPTERS[name])) == []


def test_most_equations_are_executed_and_few_misprints_live():
    *_, total = displayed.table(displayed.kept())
    equations, executed, misprints, alive = map(int, total.split()[1:])
    assert list(displayed.kept()) == list(CHAPTERS) and executed >= EXECUTED * equations and alive <= ALIVE * misprints


@pytest.mark.parametrize("name, old, new, number", [
    ("02_composition", "z_2 = tanh(z_1)  ", "z_2 = tanh(z_0)  ", 2),                # printed wrongly
    ("03_cheap_determinants", "det J = 1 + s w^T v", "det J = 1 - s w^T v", 13),
    ("04_couplings", "x_b = z_b + m(z_a)                      # (2)", "x_b = z_b - m(z_a)                      # (2)", 2),     # run wrongly
    ("06_monotone_curves", "y = d + h t  ", "y = d + w t  ", 2),
    ("08_speech_and_sequences", "max(Q_(i,j-1), Q_(i-1,j-1))", "max(Q_(i,j-1), Q_(i-1,j))", 2)])
def test_a_planted_mistake_is_found(name, old, new, number):
    text = (DIRECTORY / f"{name}.md").read_text(encoding="utf-8")
    assert text.count(old) == 1
    found, _ = displayed.of_chapter(read(f"{name}.md", text.replace(old, new)))
    assert displayed.counted(found)[number] != "executed"


def test_the_command_tells_a_table(capsys):
    assert displayed.main(["09"]) == 0
    assert capsys.readouterr().out.split() == [*displayed.COLUMNS, "09_on_floats", "9", "9", "73", "0", "all", "9", "9", "73", "0"]
