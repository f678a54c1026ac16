"""The notation of the docstrings: its grammar, its errors, and every numbered line of every module."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import refflow
from refflow.book.docstring import Display, Paragraph, docstring, document
from refflow.book.leaf import mathematics
from refflow.book.mathml import inline
from refflow.book.notation import (Apply, Big, Call, Code, Differential, Fraction, Gap, Group, Matrix, NotationError, Number,
                                   Product, Reference, Relation, Scripted, Sum, Text, Word, parse)
from refflow.testing.pages import DEFINED, numbered

PACKAGE = Path(refflow.__file__).parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if numbered(DEFINED, docstring(path.read_text())[0])]
NAMES = frozenset(("scale", "shift", "gain", "order", "rate"))


def one(text, names=NAMES):
    (item,) = parse(text, names)
    return item


# -- every page -----------------------------------------------------------------------------------------------------------

def test_there_are_pages_to_parse():
    assert len(MODULES) > 50 and PACKAGE / "core" / "compose.py" in MODULES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
def test_every_numbered_line_parses(path):
    source = path.read_text()
    blocks, names = document(source)
    found = [n for block in blocks for row in getattr(block, "rows", [block]) for n in getattr(row, "numbers", ())]
    assert sorted(found) == sorted(numbered(DEFINED, docstring(source)[0]))
    for block in blocks:
        if isinstance(block, Display):
            assert all(row.items for row in block.rows)
            for row in block.rows:
                ElementTree.fromstring(inline(row.items))


PAGES = [path for path in MODULES if "maps" in path.parts]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
def test_mathematics_in_sentences_stands_in_backticks(path):
    """At least mathematics with a power or a bar."""
    for block in document(path.read_text())[0]:
        if isinstance(block, Paragraph):
            assert block.text.count("`") % 2 == 0
            prose = " ".join(block.text.split("`")[::2])
            assert not re.findall(r"\S*[A-Za-z0-9)]\^\S*|\b\w+_bar\b", prose), prose


# -- grammar --------------------------------------------------------------------------------------------------------------

x, z, a, b = map(Word, "xzab")


@pytest.mark.parametrize("text, tree", [
    ("x", x),
    ("2 x", Product((Number("2"), x))),
    ("-x", Sum((("-", x),))),
    ("x - z", Sum((("", x), ("-", z)))),
    ("x_ij", Scripted(x, (Word("ij"),))),
    ("z_a_bar", Scripted(z, (a,), accents=("bar",))),
    ("z_bar_{order_i}", Scripted(z, (Group("", (Scripted(Word("order"), (Word("i"),)),), ""),), accents=("bar",))),
    ("log_det_bar", Scripted(Word("log_det"), accents=("bar",))),
    ("x^2", Scripted(x, above=Number("2"))),
    ("x^-T", Scripted(x, above=Sum((("-", Word("T")),)))),
    ("x'", Scripted(x, primes=1)),
    ("m^", Scripted(Word("m"), accents=("hat",))),
    ("p~", Scripted(Word("p"), accents=("tilde",))),
    ("net*(x)", Call(Scripted(Word("net"), star=True), Group("(", (x,), ")"))),
    ("f^-1(x)", Call(Scripted(Word("f"), above=Sum((("-", Number("1")),))), Group("(", (x,), ")"))),
    ("log x", Apply(Word("log"), x)),
    ("sech^2 z", Apply(Scripted(Word("sech"), above=Number("2")), z)),
    ("log|x|", Apply(Word("log"), Group("|", (x,), "|"))),
    ("||x||", Group("||", (x,), "||")),
    ("<a, b>", Group("<", (a, *parse(","), b), ">")),
    ("dx/dz", Fraction(Differential(x), Differential(z), "derivative")),
    ("d/dz", Fraction(Differential(None), Differential(z), "derivative")),
    ("dx", Differential(x)),
    ("a / b", Fraction(a, b, "stacked")),
    ("x a / b", Fraction(Product((x, a)), b, "stacked")),
    ("x a/b", Product((x, Fraction(a, b, "line")))),
    ("a//b", Fraction(a, b, "floor")),
    ("sum_j x / a", Product((Big(Scripted(Word("sum"), (Word("j"),))), Fraction(x, a, "stacked")))),
    ("[0, 1)", Group("[", (Number("0"), *parse(","), Number("1")), ")")),
    ("[ a  b ; x  z ]", Matrix((((a,), (b,)), ((x,), (z,))))),
    ("scale z", Product((Word("scale"), z))),
])
def test_expressions(text, tree):
    assert one(text) == tree


@pytest.mark.parametrize("text, items", [
    ("x = a", (x, Relation("="), a)),
    ("x    = a", (x, Relation("="), a)),
    ("= a", (Relation("="), a)),
    ("x <- a", (x, Relation("<-"), a)),
    ("x in [0, 1]", (x, Relation("in"), one("[0, 1]"))),
    ("x    for z > 0", (x, Gap(), Text("for"), z, Relation(">"), Number("0"))),
    ("x,   z", (x, *parse(","), Gap(), z)),
    ("the first of them", (Text("the first of them"),)),
    ("that of (2)", (Text("that of"), Reference(2))),
    ("a permutation matrix", (Text("a permutation matrix"),)),
    ("x where it is a", (x, Text("where it is"), a)),
    ("between x - a and b", (Text("between"), Sum((("", x), ("-", a))), Text("and"), b)),
    ("the ends of a and b", (Text("the ends of"), a, Text("and"), b)),
    ("p(x | z)", (Call(Word("p"), Group("(", (x, Relation("|"), z), ")")),)),
    ("f.inverse_vjp", (Code("f.inverse_vjp"),)),
])
def test_rows(text, items):
    assert parse(text, NAMES) == items


def test_a_word_is_a_name_where_it_is_declared():
    assert parse("weight x", ()) == (Text("weight"), x)
    assert parse("weight x", {"weight"}) == (Product((Word("weight"), x)),)
    assert parse("weight_i x", ()) == (Product((Scripted(Word("weight"), (Word("i"),)), x)),)


@pytest.mark.parametrize("text, column, expected", [
    ("x =", 4, "an expression after '='"),
    ("x = = z", 5, "an expression after '='"),
    ("x = a +", 8, "an operand after '+'"),
    ("x = (a", 7, "')'"),
    ("x = a)", 6, "no closing bracket"),
    ("x = (a]", 7, None),
    ("x = |a", 5, "an expression after '='"),
    ("x = [ a  b ; z ]", 16, "a row of 2 entries"),
    ("x = a / ", 8, "an operand after '/'"),
    ("x = z_", 7, "a subscript"),
    ("x = z^^2", 6, "a superscript"),
    ("x = z^2^3", 8, "one superscript"),
    ("x = a # b", 7, "a sign of the notation"),
    ("x = {a)", 7, "'}'"),
])
def test_what_cannot_be_read_is_named(text, column, expected):
    if expected is None:                # (a] is an interval
        assert parse(text)
        return
    with pytest.raises(NotationError) as caught:
        parse(text, line=7)
    assert expected in str(caught.value) and f"line 7, column {column}" in str(caught.value)


def test_rows_of_a_matrix_stand_under_one_another():
    blocks, _ = document('"""J.\n\n    J   = [ I    0 ]\n          [ dt/dz_a    I ]      (1)\n"""\n')
    (row,) = blocks[1].rows
    assert row.numbers == (1,) and isinstance(row.items[2], Matrix) and len(row.items[2].rows) == 2


def test_inline_mathematics_and_code():
    assert mathematics("x_bar r^2", NAMES) and mathematics("z", NAMES) and mathematics("1 - x^2 = 0", NAMES)
    for code in ("scales", "passes", "scale_shift", "f(x, n=2)", "rng.random(shape)", "BijectorLayer(BatchNorm(x))", "x ="):
        assert mathematics(code, NAMES) is None, code


# -- planted mistakes -------------------------------------------------------------------------------------------------------

BROKEN = [PACKAGE / "maps" / "elementwise" / "tanh.py", PACKAGE / "maps" / "linear" / "plu.py"]


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("mistake", ["drop a bracket", "drop an operand", "double a sign"])
def test_a_broken_line_is_named_by_line_and_column(path, mistake):
    source = path.read_text()
    lines = source.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("    ") and numbered(DEFINED, line) and "(1 +" in line
              or " (U + S) z " in line and line.startswith("    v"))
    broken = {"drop a bracket": lines[at].replace(")", "", 1), "drop an operand": re.sub(r"\+ \w", "+ ", lines[at], count=1),
              "double a sign": lines[at].replace("=", "= =", 1)}[mistake]
    with pytest.raises(NotationError) as caught:
        document("\n".join([*lines[:at], broken, *lines[at + 1:]]))
    assert caught.value.line == at + 1 and 4 < caught.value.column <= len(broken) + 1


def test_a_listing_without_numbers_need_not_parse():
    source = '"""Title.\n\n    plot(flow, [a;   for # b\n"""\n'
    assert [type(block).__name__ for block in document(source)[0]] == ["Paragraph", "Listing"]
    with pytest.raises(NotationError):
        document(source.replace("# b", "# b        (1)"))


def test_modules_have_module_docstrings():
    assert all(ast.get_docstring(ast.parse(path.read_text())) for path in MODULES)
