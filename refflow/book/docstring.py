"""A page's text as a document: paragraphs, and displays of equations.

A line that is indented belongs to a display, any other to a paragraph; blank lines end both.  A number (n) at the end of a
line, two spaces or more from its text, numbers the row, or the paragraph up to there.  Rows of a display:
  - a row that begins with a relation sign or with + or - continues the row above;
  - rows of a matrix stand in their own brackets, one under the other: together they are one row of the display.
An indented block without numbers that does not parse is a listing.
"""

from __future__ import annotations

import dataclasses
import functools
import re

from .notation import NotationError, joined, parsed
from .vocabulary import FUNCTIONS, GREEK
from ..core.docstrings import written

NUMBER = re.compile(r"(?:^|\s{2,})((?:\(\d+\)\s*)+)$")
NAME = re.compile(r"(?<![\w.])([A-Za-z]{2,})(?=[_(']|\^)(?!'s\b)|(?:^|[,;]|\s{2})\s*([A-Za-z]\w*)\s+(?:=|<-)\s"
                  r"|(?<= [-+/] )([a-z]{2,})|(?<=/)((?!d)[a-z]{2,})|(?<![\w.])([a-z]{2,})(?=/| [-+/] )")
FIELD = re.compile(r"^    ([a-z]\w*): \w", re.M)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a display: its items, its numbers, the line of the module at which it begins, and its tokens."""

    items: tuple
    numbers: tuple
    line: int
    tokens: tuple = ()


@dataclasses.dataclass(frozen=True)
class Display:
    rows: tuple


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Prose; its mathematics stands in backticks."""

    text: str
    numbers: tuple
    line: int
    goes_on: bool                   # continues the sentence that a display interrupted


@dataclasses.dataclass(frozen=True)
class Listing:
    lines: tuple


@functools.cache
def document(source):
    """(blocks, names) of a module's text, its mathematics parsed.

    Raises NotationError, whose line and column refer to the module.
    """
    lines = [(line.rstrip(), number) for line, number in written(source)]
    names = names_of(source, [line for line, _ in lines])
    return tuple(blocks_of(lines, names)), names


def blocks_of(lines, names):
    """The paragraphs, displays and listings of lines ((text, number), ...)."""
    blocks, pending = [], []

    def finish():
        if pending:
            shown = pending[0][0].startswith(" ")
            blocks.extend(displays(pending, names) if shown else [paragraph(pending, blocks, fresh)])
            pending.clear()

    fresh = True
    for line, number in lines:
        if not line:
            finish()
            fresh = True
            continue
        if pending and pending[0][0].startswith(" ") != line.startswith(" "):
            finish()
            fresh = False
        pending.append((line, number))
        if not line.startswith(" ") and NUMBER.search(line):
            finish()
            fresh = True
    finish()
    return blocks


def names_of(source, lines):
    """The words of several letters that are names: fields of the classes, and words that displays use as names."""
    names = set(FIELD.findall(source))
    for line in lines:
        if line.startswith(" "):
            names |= {name for found in NAME.findall(line) for name in found if name} - set(FUNCTIONS)
    roots = names | set(GREEK) | set(FUNCTIONS)
    differentials = {name for name in names if name[0] == "d" and (len(name) == 2 or name[1:] in roots)}
    return frozenset(names - differentials - {"for", "where", "with", "in", "of", "at"})


def numbered(line):
    """(text, numbers) of a line."""
    match = NUMBER.search(line)
    if match is None:
        return line, ()
    return line[:match.start()].rstrip(), tuple(int(n) for n in re.findall(r"\d+", match.group(1)))


def paragraph(lines, blocks, fresh):
    numbers, parts = (), []
    for line, _ in lines:
        text, own = numbered(line)
        parts.append(text)
        numbers += own
    return Paragraph(" ".join(parts), numbers, lines[0][1], not fresh and bool(blocks))


def displays(lines, names):
    has_numbers = any(numbered(line)[1] for line, _ in lines)
    try:
        return [Display(tuple(rows(lines, names)))]
    except NotationError:
        if has_numbers:
            raise
        indent = min(len(line) - len(line.lstrip()) for line, _ in lines)
        return [Listing(tuple(line[indent:] for line, _ in lines))]


def rows(lines, names):
    found, pending = [], []

    def finish():
        if pending:
            numbers = tuple(n for _, _, _, own in pending for n in own)
            row = joined([line[:3] for line in pending])
            found.append(Row(parsed(row, names), numbers, pending[0][1], tuple(row)))
            pending.clear()

    for line, number in lines:
        text, own = numbered(line)
        indent = len(text) - len(text.lstrip())
        text = text.strip()
        if not (pending and goes_on(pending[-1], text, indent)):
            finish()
        pending.append((text, number, indent + 1, own))
    finish()
    return found


def goes_on(above, text, indent):
    """Is the line the next row of the matrix at the end of the line above?"""
    line, _, column, _ = above
    return line.endswith("]") and text.startswith("[") and line.rfind("[ ", 0, indent - column + 3) == indent - column + 1
