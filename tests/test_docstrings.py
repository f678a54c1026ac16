"""The text of a module, whose third part stands in its docstring or below it, is one text."""

from __future__ import annotations

import ast

import pytest

from refflow.core.docstrings import joined_text, strings, third_part, written

TITLE, SOURCE = "Title.\n\nThe map.  One.\n    x = z        (1)\n", "Source: a book.\n"
THIRD = "In floating point.  Two.\n\nIn (1),\n    y = z        (2)\n"
CODE = "import numpy as np\n\n\nclass textbook:\n    def forward(z):\n        return z\n\n\n"
PAGE = '@bijector()\nclass Page:\n    """x = z."""\n    """No part of the text."""\n'


def module(docstring, third=""):
    return f'r"""{docstring}"""\n\n{CODE}' + (f'r"""{third}"""\n\n\n' if third else "") + PAGE


@pytest.mark.parametrize("source", [SOURCE, ""])
def test_both_forms_are_one_text(source):
    whole = f"{TITLE}\n{THIRD}" + (f"\n{source}" if source else "")
    turned = f"{TITLE}\n{source}" if source else TITLE
    assert joined_text(module(whole)) == joined_text(module(turned, THIRD)) == whole


@pytest.mark.parametrize("source", [SOURCE, ""])
def test_a_line_has_its_number_in_the_module(source):
    text = module(f"{TITLE}\n{source}" if source else TITLE, THIRD)
    lines = text.splitlines()
    assert all(line in lines[number - 1] for line, number in written(text))
    assert [line for line, _ in third_part(text)] == THIRD.splitlines()


def test_a_text_that_stands_in_the_docstring_is_unchanged():
    assert joined_text(module("Title.")) == "Title." and third_part(module("Title.")) == []


def test_a_module_without_a_text_has_none():
    assert strings(CODE + PAGE) == (None, None) and joined_text(CODE + PAGE) == joined_text("") == "" and written(PAGE) == []


def test_only_strings_that_stand_alone_are_text():
    assert third_part(module("Title.") + '\nLINE = """not text"""\n...\n1\n') == []
    assert ast.get_docstring(ast.parse(module(TITLE, THIRD)), clean=False) == TITLE
