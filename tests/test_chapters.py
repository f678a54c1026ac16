"""The chapters of the book: what they print is recorded, their numbers are printed, their exercises can be solved and failed."""

from __future__ import annotations

import ast
import dataclasses
import functools
import html
import json
import re
from xml.etree import ElementTree

import pytest

from refflow.book import BadPage, write_book
from refflow.book.chapter import Block, chapters, cited, read
from refflow.book.chapter_page import chapter_page
from refflow.book.leaf import leaf
from refflow.book.pages import entries, file_of
from refflow.book.running import run, solved
from validation import book as opened
from validation import chapters as command
from validation.mutants.mutations import BINARY
from validation.readme import difference

CHAPTERS = chapters()
XHTML = "{http://www.w3.org/1999/xhtml}"
HOUSE_WORDS = r"\b(?:units?|kappa|pages?|leaf|(?:the|of|all|these) leaves)\b"
ALIVE: dict = {                         # mutants that change nothing, by hand: {chapter: {mutant: why}}
}


@functools.cache
def ran(name):
    """[(block, what it prints, drawing, the namespace below it)] of a chapter."""
    return [(*made, dict(namespace)) for *made, namespace in run(CHAPTERS[name])]


# -- the text ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", CHAPTERS)
def test_what_blocks_print_is_recorded(name):
    assert command.differences(CHAPTERS[name], ran(name)) == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_rounding_noise_is_printed(name):
    printed = "".join(block.printed for block in CHAPTERS[name].blocks)
    small = re.findall(r"\d(?:\.\d+)?e-1\d\b", printed)
    assert CHAPTERS[name].number == 9 or small == []            # tails of distributions are small
    assert not re.search(r"(?<![\d.])-0\.?0*(?![\d.])", printed)


def unprinted(chapter):
    """The numbers of two digits or more in the prose that no block prints; years are left out."""
    printed = set(re.findall(r"\d+(?:\.\d+)?", " ".join(block.printed for block in chapter.blocks)))
    return [number for text, _ in chapter.prose for number in re.findall(r"(?<![\w.(])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)", text)
            if sum(map(str.isdigit, number)) > 1 and not re.fullmatch(r"(?:19|20)\d\d", number)
            and number.replace(",", "") not in printed]


@pytest.mark.parametrize("name", CHAPTERS)
def test_numbers_in_prose_are_printed(name):
    assert unprinted(CHAPTERS[name]) == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_length_lines_and_words(name):
    chapter = CHAPTERS[name]
    words = sum(len(text.split()) for text, _ in chapter.prose)
    assert 1000 <= words <= 1800
    assert [line for block in chapter.blocks for line in block.text.splitlines() if len(line) > 88] == []
    plain = [re.sub("`[^`]*`", "", text) for text, _ in chapter.prose]
    assert chapter.number == 9 or [text for text in plain if re.search(HOUSE_WORDS, text)] == []
    assert set(chapter.numbers) == set(range(1, len(chapter.numbers) + 1))


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_equation_is_cited_by_a_line(name):
    chapter = CHAPTERS[name]
    assert set(chapter.numbers) - {n for block in chapter.blocks for n in block.cites} == set()


# -- mutants ----------------------------------------------------------------------------------------------------------

def mutants(text, lines=None):
    """[(what, text)] of code with one small mistake; only on the lines of these numbers, if they are given."""
    for i, node in enumerate(ast.walk(ast.parse(text))):
        if lines is not None and getattr(node, "lineno", None) not in lines:
            continue
        for new in mistakes(node):
            tree = ast.parse(text)
            place = list(ast.walk(tree))[i]
            place.__class__ = new.__class__
            place.__dict__.update(vars(ast.copy_location(new, place)))
            yield f"{ast.unparse(node)} -> {ast.unparse(new)}", ast.unparse(ast.fix_missing_locations(tree))


def mistakes(node):
    """Operators exchanged, signs dropped, constants plus one, booleans turned."""
    if isinstance(node, ast.BinOp):
        return [ast.BinOp(node.left, op(), node.right) for op in BINARY.get(type(node.op), ())]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        return [node.operand]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return [ast.Constant(not node.value)]
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return [ast.Constant(node.value + 1)]
    return []


def exercises(chapter):
    """[(starter, check, answer, the block above)]."""
    blocks, above = chapter.blocks, None
    for i, block in enumerate(blocks):
        if block.kind == "python":
            above = block
        elif block.kind == "python answer":
            yield *blocks[i - 2:i + 1], above


def passes(chapter, text, answer, check, namespace):
    try:
        solved(chapter.file, dataclasses.replace(answer, text=text), check, namespace)
    except BadPage:
        return False
    return True


@pytest.mark.parametrize("name", CHAPTERS)
def test_answers_pass_and_starters_and_mutants_fail(name):
    chapter, spaces, alive, made = CHAPTERS[name], {block: space for block, _, _, space in ran(name)}, [], 0
    for starter, check, answer, above in exercises(chapter):
        assert passes(chapter, answer.text, answer, check, spaces[above])
        assert not passes(chapter, starter.text, answer, check, spaces[above])
        for what, text in mutants(answer.text):
            made += 1
            alive += [what] if passes(chapter, text, answer, check, spaces[above]) else []
    assert made and set(alive) <= set(ALIVE.get(name, {})), alive


def prints_the_same(chapter, block, text):
    """Does a chapter print what is recorded, if one of its blocks has another text?"""
    def replaced(one):
        return dataclasses.replace(one, text=text) if one is block else one

    own = dataclasses.replace(chapter, parts=tuple(replaced(part) for part in chapter.parts if not is_exercise(part)))
    try:
        return all(not difference(one.printed, printed) for one, printed, *_ in run(own))
    except BadPage:
        return False


def is_exercise(part):
    return isinstance(part, Block) and part.kind != "python"


@pytest.mark.parametrize("name", CHAPTERS)
def test_mutants_of_cited_lines_change_what_is_printed(name):
    chapter, alive, made = CHAPTERS[name], [], 0
    for block in filter(lambda block: block.cites and block.kind == "python", chapter.blocks):
        lines = {i for i, line in enumerate(block.text.splitlines(), 1) if re.search(r"# (?:not )?\(\d", line)}
        for what, text in mutants(block.text, lines):
            made += 1
            alive += [what] if prints_the_same(chapter, block, text) else []
    assert made and set(alive) <= set(ALIVE.get(name, {})), alive


def test_few_mutants_are_excepted():
    made = sum(len(list(mutants(block.text))) for chapter in CHAPTERS.values() for block in chapter.blocks
               if block.cites or block.kind == "python answer")
    assert 10 * sum(map(len, ALIVE.values())) <= made


# -- the page ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", CHAPTERS)
def test_links_lead_somewhere(name):
    root = ElementTree.fromstring(chapter_page(CHAPTERS[name]).removeprefix("<!DOCTYPE html>"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    links = [element.get("href") for element in root.iter(f"{XHTML}a")]
    assert len(ids) == len(set(ids)) and {f"e{n}" for n in CHAPTERS[name].numbers} <= set(ids)
    assert [link for link in links if link.startswith("#") and link[1:] not in ids] == []
    others = {link.partition("#")[0] for link in links if not link.startswith("#")}
    assert others <= set(map(file_of, (*entries(), *CHAPTERS, "index"))) and set(map(file_of, cited(CHAPTERS[name]))) <= others


def test_a_leaf_lists_the_chapters_that_cite_it(tmp_path):
    write_book(tmp_path, "AffineCoupling")
    assert '<a href="04_couplings.html">4. Couplings: NICE to Glow</a>' in (tmp_path / "AffineCoupling.html").read_text()
    assert "Chapters that cite" not in leaf(entries()["Exp"], {})


def test_one_chapter_is_written(request, tmp_path):
    status, printed, _ = request.getfixturevalue("run")("book", "--out", "book", "--page", "04_couplings")
    assert status == 0 and "4 files" in printed
    assert "Couplings: NICE to Glow</a>" in (tmp_path / "book" / "index.html").read_text()


COPIES = """<script>addEventListener("load", () => {
  const told = [...document.querySelectorAll("main .lines, main .printed")].filter((code) => code.checkVisibility()).map((code) => {
    const box = code.getBoundingClientRect(), buttons = [...code.querySelectorAll("button.copy")];
    return [code.className, buttons.map((button) => button.getBoundingClientRect()).map((at) => [at.top - box.top, box.right - at.right])];
  });
  const loose = [...document.querySelectorAll("button.copy")].filter((button) => !button.closest(".lines")).length;
  document.body.append(Object.assign(document.createElement("pre"), {id: "told", textContent: JSON.stringify([told, loose])}));
});</script></body>"""


def copies(directory, script, profile):
    """([(class of a part, the distances of its buttons from its upper right corner)], buttons that stand elsewhere) of a chapter."""
    (directory / "book.js").write_text(script)
    file = directory / "driven.html"
    file.write_text((directory / "03_cheap_determinants.html").read_text().replace("</body>", COPIES))
    shown = opened.shown_in_chromium(file, profile)
    return json.loads(html.unescape(re.search(r'<pre id="told">(.*?)</pre>', shown, re.S)[1]))


@pytest.mark.skipif(opened.chromium() is None, reason="no Chromium: `apt-get install chromium` opens a chapter in one")
def test_code_has_a_copy_button_in_its_corner_and_outputs_have_none(tmp_path):
    write_book(tmp_path / "book", "03_cheap_determinants")
    script = (tmp_path / "book" / "book.js").read_text()
    parts, loose = copies(tmp_path / "book", script, tmp_path / "profile")
    assert loose == 0 and {kind for kind, _ in parts} == {"lines", "printed"}
    for kind, buttons in parts:
        assert len(buttons) == (kind == "lines") and all(0 <= distance < 20 for place in buttons for distance in place)
    _, loose = copies(tmp_path / "book", script.replace("code.prepend(button)", "code.before(button)"), tmp_path / "profile")
    assert loose > 0


# -- the grammar ------------------------------------------------------------------------------------------------------

GOOD = """# A title

A number `x` with (1), and `Tanh (1)`. It is
    y = 2 x      (1)

```python
x = 3
y = 2 * x     # (1)
print(y)
```

```text
6
```

### Try

It.

```python starter
a = 1
```

```python check
assert a == 2
```

```python answer
a = 2
```
"""
BAD = {
    "list": ("It.", "- It.", "line 18, column 1: expected prose, not a list"),
    "emphasis": ("It.", "It is *so*.", "line 18, column 7: expected prose, not emphasis"),
    "HTML": ("It.", "It is <b>so</b>.", "line 18, column 7: expected prose, not HTML"),
    "link": ("It.", "See [it](there).", "line 18, column 5: expected prose, not a link"),
    "image": ("It.", "![it](there).", "line 18, column 1: expected prose, not a link"),
    "quotation": ("It.", "> It.", "line 18, column 1: expected prose, not a quotation"),
    "a small heading": ("### Try", "#### Try", "line 16, column 1: expected prose, not a heading"),
    "one backtick": ("It.", "It `is.", "line 18, column 4: expected a second backtick"),
    "another fence": ("```text", "```sh", "line 12, column 4: expected a fence of python"),
    "a text alone": ("print(y)\n```\n", "print(y)\n```\n\nHence\n", "'text' directly below 'python'"),
    "no end": ("a = 2\n```\n", "a = 2\n", "line 28, column 1: expected the end of this fence"),
    "no answer": ("```python answer\na = 2\n```\n", "", "line 16: an exercise has a starter, a check and an answer"),
    "an exercise elsewhere": ("### Try", "## Try", "stands under no ###"),
    "an unknown equation": ("with (1)", "with (2)", "line 3: the chapter has no equation (2)"),
    "an unknown citation": ("# (1)", "# (2)", "line 7: the code cites (2)"),
    "an unknown equation of a leaf": ("`Tanh (1)`", "`Tanh (99)`", "line 3: Tanh has no equation (99)"),
    "an unknown leaf": ("`Tanh (1)`", "`Tahn (1)`", "line 3: there is no leaf 'Tahn'"),
    "a number outside of the backticks": ("`Tanh (1)`", "`Tanh` (1)", "line 3: the number (1) of a leaf stands in its backticks"),
    "a listing": ("    y = 2 x      (1)", "    y = 2 x (1)(", "expected"),
    "mathematics": ("    y = 2 x      (1)", "    y = (2 x      (1)", "line 4, column 13: expected ')'"),
    "an equation twice": ("    y = 2 x      (1)", "    y = 2 x      (1)\n    z = 2 x      (1)", "equation (1) is there twice"),
    "no title": ("# A title", "A title", "one title"),
    "two titles": ("### Try", "# Try", "one title"),
}


def test_a_chapter_is_read_and_run():
    chapter = read("01_try.md", GOOD)
    assert (chapter.title, chapter.number, chapter.numbers, cited(chapter)) == ("A title", 1, [1], ["Tanh"])
    made = list(run(chapter))
    assert [printed for _, printed, *_ in made] == ["6\n", "", "", ""] and command.recorded(GOOD, made) == GOOD


@pytest.mark.parametrize("what", BAD)
def test_what_the_grammar_does_not_know_is_refused(what):
    old, new, message = BAD[what]
    assert GOOD.count(old) == 1
    with pytest.raises(BadPage, match=re.escape(message)):
        read("01_try.md", GOOD.replace(old, new))


@pytest.mark.parametrize("old, new, message", [
    ("x = 3", "x = 1 / 0", "01_try.md, line 7: ZeroDivisionError: division by zero"),
    ("x = 3", "x = ", "01_try.md, line 7: SyntaxError"),
    ("x = 3", "def f(): return g\nx = f()", "line 7: NameError"),
    ("a = 2\n", "a = 3\n", "01_try.md, line 25: AssertionError")])
def test_a_chapter_that_raises_stops_the_book(old, new, message):
    with pytest.raises(BadPage, match=re.escape(message)):
        list(run(read("01_try.md", GOOD.replace(old, new))))


def test_planted_mistakes_of_the_text_are_found():
    other = read("01_try.md", GOOD.replace("6\n```", "7\n```").replace("It.", "It is 12.5 or 3 in 2014."))
    assert command.differences(other, run(other)) == ["01_try.md, below line 7: line 1: '6', not '7'"]
    assert unprinted(other) == ["12.5"]
    assert len(list(mutants("a = -1 + x * True\n", {1}))) == 5


class Drawn:
    def _repr_svg_(self):
        return '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.mark.parametrize("printing", ["", "print(1)\n"])
def test_a_figure_stands_above_its_caption_and_folds_its_code(printing):
    text = f"# A\n\n```python\n{printing}from test_chapters import Drawn\nDrawn()\n```\n\nFigure 1. It is `x`.\n\nMore.\n"
    page = chapter_page(read("01_try.md", text))
    assert re.search(r"<figure><svg[^>]*/><figcaption>Figure 1. It is .*?<math.*?</figcaption></figure>", page)
    assert ("the code of the figure" in page) == (not printing) and page.index("</figure>") < page.index("More.")
