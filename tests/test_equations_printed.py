"""Printed equations are executed where a textbook's line cites them, and a misprint is found."""

from __future__ import annotations

import re

import pytest

from validation.equations import PAGES, counted, of_page, source_of, told

WHOLE = ("Softsign", "CauchyCDF", "HalfLine", "BoundedSigmoidScale", "KumaraswamyCDF")


@pytest.mark.parametrize("name", WHOLE)
def test_every_numbered_equation_is_executed(name):
    text, _ = of_page(name)
    assert set(counted(text).values()) == {"executed"}


@pytest.mark.parametrize("name, right, wrong, number", [
    ("Softsign", "dx/dz = r^2,", "dx/dz = r^3,", 3),
    ("KumaraswamyCDF", "y log(z)/(1 - y))", "y log z/(1 - y)) ", 7),
    ("CauchyCDF", "t = (z - loc)/s", "t = (z + loc)/s", 1)])
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
