"""Printed equations are executed where a textbook's line cites them, what is not is listed, and misprints are found."""

from __future__ import annotations

import json
import re

import pytest

from validation import equations, misprints
from validation.equations import PAGES, REASONS, counted, listed, of_page, source_of, told, unlisted, with_textbook

LETTERS, WORDS = 211, 27                        # at most so many are listed for these two reasons: a page can be written without them
ALIVE = 1 / 50


@pytest.mark.parametrize("name", with_textbook())
def test_every_numbered_equation_is_executed_or_listed(name):
    text, _ = of_page(name)
    assert [told(name, text, unit) for unit in text.units if unit.state == "contradicted"] == []
    assert unlisted(name, counted(text)) == []


def test_the_list_has_pages_and_reasons_that_there_are():
    assert set(listed()) <= set(with_textbook())
    assert {reason for own in listed().values() for reason in own} <= set(REASONS)


def test_the_list_does_not_grow_by_letters_and_words():
    sizes = {reason: sum(len(own.get(reason, [])) for own in listed().values()) for reason in ("letter", "words")}
    assert sizes["letter"] <= LETTERS and sizes["words"] <= WORDS


@pytest.mark.parametrize("name, right, wrong, number", [
    ("Softsign", "dx/dz = r^2,", "dx/dz = r^3,", 3),
    ("CauchyCDF", "t = (z - loc)/s", "t = (z + loc)/s", 1),
    ("FullNormal", "z_bar = -b w", "z_bar = b w", 5),
    ("DiagonalNormal", "scale_bar = z_bar e", "scale_bar = z_bar", 6),
    ("Logistic", "scale_bar = z_bar e", "scale_bar = z_bar", 6),
    ("LinearSpline", "z_1_bar = -x_bar s t", "z_1_bar = x_bar s t", 7),
    ("QuadraticSpline", "u_j_bar = x_bar w_j/2", "u_j_bar = x_bar w_j", 14)])
def test_a_misprint_is_contradicted(name, right, wrong, number):
    source = source_of(PAGES[name])
    assert right in source
    text, _ = of_page(name, source.replace(right, wrong, 1))
    assert counted(text)[number] == "contradicted"


def test_a_misprint_is_told_in_one_line():
    text, _ = of_page("Softsign", source_of(PAGES["Softsign"]).replace("dx/dz = r^2,", "dx/dz = r^3,"))
    lines = [told("Softsign", text, unit) for unit in text.units if unit.state == "contradicted"]
    assert len(lines) == 1
    assert re.fullmatch(r"Softsign \(3\), printed `dx/dz = r\^\d`: \S+ at z = \S+; `slope`, line \d+, gives \S+", lines[0])


def test_an_equation_that_is_no_longer_executed_is_told_with_its_reason():
    text, _ = of_page("Softsign", source_of(PAGES["Softsign"]).replace("dx/dz = r^2,", "dx/dz = q^2,"))
    assert unlisted("Softsign", counted(text)) == [
        f"Softsign (3) is not executed: letter, {REASONS['letter']}, and is listed as executed"]


@pytest.mark.parametrize("name, right, wrong, number", [
    ("DiagonalNormal", "z = loc + scale e", "z = loc - scale e", 3),
    ("SoftplusActivation", "= s (1 - s)", "= s (2 - s)", 4)])
def test_a_function_that_no_method_calls_is_run(name, right, wrong, number):
    source = source_of(PAGES[name])
    assert right in source
    states = [counted(of_page(name, text)[0])[number] for text in (source, source.replace(right, wrong, 1))]
    assert states[0] == "executed" != states[1]


def test_a_range_that_is_printed_says_where_an_array_begins():
    assert of_page("LKJCholesky")[0].first == {"h": 2, "s": 2, "log Z": 2}
    assert of_page("Planar")[0].first == {}


def test_the_transpose_of_a_letter_does_not_define_it():
    text, _ = of_page("CayleyLinear")
    assert {one.name for one in text.statements if one.line == 15 and one.in_prose} == {None}


def test_cotangents_of_the_other_side_are_not_definitions():
    text, _ = of_page("Planar")
    unit = next(unit for unit in text.units if 15 in unit.numbers)
    found = text.definitions(unit.statement, {15}, {13, 14, 15}, {7, 8, 9, 12})
    assert all(not {8, 12} & set(one.numbers) for own in found.values() for one in own if "_bar" in one.name.letter)


@pytest.mark.parametrize("name", ["Softsign", "CauchyCDF", "Planar"])
def test_misprints_do_not_live(name):
    found = misprints.of_page(name)
    assert found["misprints"] >= 20
    assert len(found["alive"]) <= max(2, ALIVE * found["misprints"])


def test_misprints_are_recorded_by_page_and_a_run_goes_on(tmp_path, monkeypatch):
    asked, said = [], []
    monkeypatch.setattr(misprints, "RECORD", tmp_path / "misprints.json")
    monkeypatch.setattr(misprints, "of_page", lambda name: asked.append(name) or {"misprints": 100, "alive": ["(1) sign"] * 3})
    assert misprints.run(["Softsign"], lambda *lines, sep=" ": said.extend(lines))
    misprints.run(["Softsign", "CauchyCDF"], lambda *lines, sep=" ": None)
    assert asked == ["Softsign", "CauchyCDF"] and "(1) sign" in said
    assert set(json.loads((tmp_path / "misprints.json").read_text())) == {"Softsign", "CauchyCDF"}


def test_the_command_tells_what_is_not_as_it_is_listed(capsys, monkeypatch):
    monkeypatch.setattr(equations, "listed", lambda: {"Softsign": {"dots": [1]}})
    assert equations.main(["Softsign"]) == 1
    assert "Softsign (1) is executed, and is listed as not executed: dots" in capsys.readouterr().out
