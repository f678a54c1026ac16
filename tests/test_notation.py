"""The notation of the docstrings: its grammar, its errors, and every numbered line of every module."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import refflow
from refflow.book.docstring import Display, Paragraph, document
from refflow.book.leaf import mathematics
from refflow.book.mathml import inline
from refflow.book.notation import (Apply, Big, Call, Code, Differential, Fraction, Gap, Group, Matrix, NotationError, Number,
                                   Parser, Product, Reference, Relation, Scripted, Sum, Text, Word, parse, parsed, tokens)
from refflow.core.docstrings import joined_text
from refflow.laws.pages import DEFINED, numbered

from grouping import printed, read

PACKAGE = Path(refflow.__file__).parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if numbered(DEFINED, joined_text(path.read_text()))]
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
    assert sorted(found) == sorted(numbered(DEFINED, joined_text(source)))
    for block in blocks:
        if isinstance(block, Display):
            assert all(row.items for row in block.rows)
            for row in block.rows:
                ElementTree.fromstring(f"<p>{inline(row.items)}</p>")


def written(path):
    """[(tokens, names, line)] of every row of a module's displays, and of every formula in its sentences."""
    blocks, names = document(path.read_text())
    found = [(row.tokens, names, row.line) for block in blocks for row in getattr(block, "rows", ())]
    for block in blocks:
        for text in getattr(block, "text", "").split("`")[1::2]:
            if mathematics(text, names) is not None:
                found.append((tuple(tokens(text)), names, block.line))
    return found


def characters(text):
    """What is left of a text without its order, spaces and brackets, and without the marks of `grouping`."""
    for accent, sign in (("_hat", "^"), ("_tilde", "~"), ("÷", "/")):
        text = text.replace(accent, sign)
    return sorted(re.sub(r"[\s·⟨⟩()\[\]{}`]", "", text))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
def test_every_equation_is_read_as_it_is_written(path):
    """What the parser read, printed with its grouping, is what the documented rules of grouping make of the text."""
    for row, names, line in written(path):
        found = printed(parsed(row, names))
        assert found == read(row, names), line
        assert characters(found) == characters("".join(token.text for token in row)), line
        assert "⟨⟩" not in found, f"line {line}: a sum of nothing in {found}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
def test_no_formula_in_a_sentence_is_ambiguous(path):
    blocks, names = document(path.read_text())
    for block in blocks:
        for text in getattr(block, "text", "").split("`")[1::2]:
            try:
                parse(text, names)
            except NotationError as error:              # code
                assert "brackets around" not in str(error), (text, block.line)


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


GROUPED = {
    "a/sum_i u_ki": "⟨a/sum_i⟨u_ki⟩⟩",
    "a_k u_ko/sum_i u_ki v_i, b": "a_k·⟨u_ko/sum_i⟨u_ki·v_i⟩⟩,b",
    "y^i/prod_(j = 1)^(i + 2) j": "⟨y^i/prod_⟨j=1⟩^⟨i+2⟩⟨j⟩⟩",
    "sum_i a_i b_i + c": "sum_i⟨a_i·b_i⟩+c",
    "sum_j w_j x_j / sum_j w_j^2": "sum_j⟨⟨w_j·x_j÷sum_j⟨w_j^2⟩⟩⟩",
    "w prod_j N_j / sum_l w_l": "⟨w·prod_j⟨N_j⟩÷sum_l⟨w_l⟩⟩",
    "c sum_j x / a": "c·sum_j⟨⟨x÷a⟩⟩",
    "a b / c d": "⟨a·b÷c⟩·d",
    "a b/c d": "a·⟨b/c⟩·d",
    "a / b / c": "⟨⟨a÷b⟩/c⟩",
    "a/b/c": "⟨⟨a/b⟩/c⟩",
    "a - b / c + x": "a-⟨b÷c⟩+x",
    "-x^2": "-x^2",
    "a//b c": "⟨a//b⟩·c",
    "log a b": "log⟨a·b⟩",
    "log a/b c": "log⟨⟨a/b⟩·c⟩",
    "log a / b": "⟨log⟨a⟩÷b⟩",
    "log a + b": "log⟨a⟩+b",
    "log sum_k exp l_k": "log⟨sum_k⟨exp⟨l_k⟩⟩⟩",
    "log|x| a": "log⟨|x|·a⟩",
    "exp(a) b": "exp(a)·b",
    "tanh a sinh b": "tanh⟨a⟩·sinh⟨b⟩",
    "log det J": "log⟨det⟨J⟩⟩",
    "x_bar dx/dz": "x_bar·⟨d⟨x⟩/d⟨z⟩⟩",
    "dlog p/dz": "⟨d⟨log⟨p⟩⟩/d⟨z⟩⟩",
    "int_0^z g(u) du": "int_0^z⟨g(u)·d⟨u⟩⟩",
    "s_bar_i,i+r q_i": "s_bar_i,i+r·q_i",
    "h_{l-1,o} u": "h_⟨l-1,o⟩·u",
    "a^(1/2) b": "a^⟨⟨1/2⟩⟩·b",
    "a_i_bar b'": "a_bar_i·b'",
    "b 2^(i-1)": "b·2^⟨i-1⟩",
    "p(x | z) = a   for x > 0": "p(x|z)=a  for·x>0",
}


@pytest.mark.parametrize("text", GROUPED)
def test_grouping(text):
    assert printed(parse(text, NAMES)) == read(text, NAMES) == GROUPED[text]


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
    ("x_i+r a", 4, "a space, or brackets around the sum in a script"),
    ("h_(l-1)o", 8, "a space, or brackets around all of the script"),
    ("h_(l-1),o", 8, "a space, or brackets around all of the script"),
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


def denominator_of_one_factor(parser):
    return parser.factor()


def argument_to_the_end(parser):
    factors = [parser.factor()]
    while parser.continues():
        factors.append(parser.factor())
    return Product(tuple(factors)) if factors[1:] else factors[0]


def argument_of_one_factor(parser):
    return parser.factor()


def scripts_without_accents(parser, base, kept=Parser.scripts):
    found = kept(parser, base)
    return dataclasses.replace(found, accents=()) if isinstance(found, Scripted) else found


@pytest.mark.parametrize("method, mistake, rows", [
    ("denominator", denominator_of_one_factor, 15), ("argument", argument_to_the_end, 1),
    ("argument", argument_of_one_factor, 10), ("scripts", scripts_without_accents, 300),
], ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_wrong_grouping_shows(method, mistake, rows, monkeypatch):
    """Each mistake of the parser shows in pages: in that many rows at least."""
    right = [(row, names, read(row, names)) for path in MODULES for row, names, _ in written(path)]
    monkeypatch.setattr(Parser, method, mistake)
    assert sum(differs(row, names, text) for row, names, text in right) >= rows


def differs(row, names, text):
    try:
        return printed(parsed(row, names)) != text
    except NotationError:
        return True


def test_a_listing_without_numbers_need_not_parse():
    source = '"""Title.\n\n    plot(flow, [a;   for # b\n"""\n'
    assert [type(block).__name__ for block in document(source)[0]] == ["Paragraph", "Listing"]
    with pytest.raises(NotationError):
        document(source.replace("# b", "# b        (1)"))


def test_modules_have_module_docstrings():
    assert all(ast.get_docstring(ast.parse(path.read_text())) for path in MODULES)
