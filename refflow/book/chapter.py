"""A chapter of the book as parts: headings, prose, displays, code, exercises.

Chapters are the files chapters/NN_name.md.  Their prose and displays are written as docstrings are; code stands in fences:
    ```python             run from top to bottom in one namespace; lines cite the chapter's equations
    ```text               what the block above prints
    ```python starter     of an exercise under a heading `###`, then `check`, then `answer`
A block whose last line is an expression with `_repr_svg_` draws a figure; a paragraph that begins "Figure n." is its caption.
Everything else is refused, with file, line and column: emphasis, lists, HTML, images, links.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from importlib import resources

from . import code
from .docstring import Display, Listing, Paragraph, blocks_of, document, names_of
from .leaf import BadPage, numbers_of
from .notation import NotationError
from .pages import entries

FENCE = re.compile(r"```(.*)")
AFTER = {"python": (), "text": ("python",), "python starter": (), "python check": ("python starter",),
         "python answer": ("python check",)}                # the kinds of code: the kind that must stand directly above
HEADING = re.compile(r"(#{1,3}) (\S.*)")
LEAF = re.compile(r"([A-Za-z]\w*)((?: \(\d+\))*)")          # a leaf, or its equations
REFUSED = {r"^ {0,3}(?:[-*+]|\d+[.)]) ": "a list", r"\*|(?<!\w)_|_(?!\w)": "emphasis", r"</?[A-Za-z!]": "HTML", r"!?\[[^]]*\]\(": "a link",
           r"^[>|]": "a quotation or a table", r"#": "a heading other than #, ## and ###", r"&\w+;|\\": "an escape",
           r"\t": "a tab"}


@dataclasses.dataclass(frozen=True)
class Heading:
    level: int
    text: str
    line: int


@dataclasses.dataclass(frozen=True)
class Block:
    """Code: its kind is "python", "python starter", "python check" or "python answer"."""

    kind: str
    text: str
    line: int
    printed: str = ""               # the recorded text

    @property
    def cites(self):
        """The numbers of the equations that lines cite, and of formulas that lines mark as wrong, # not (n)."""
        return {int(n) for line in self.text.splitlines() if (found := code.CITED.search(line.replace("# not ", "# ")))
                for n in re.findall(r"\d+", found[1])}


@dataclasses.dataclass(frozen=True)
class Chapter:
    file: str
    parts: tuple
    names: frozenset

    @property
    def name(self):
        return self.file.removesuffix(".md")

    @property
    def number(self):
        return int(self.file[:2])

    @property
    def title(self):
        return self.parts[0].text

    @property
    def numbers(self):
        return numbers_of(part for part in self.parts if isinstance(part, (Display, Paragraph)))

    @property
    def blocks(self):
        return [part for part in self.parts if isinstance(part, Block)]

    @property
    def prose(self):
        """(text, line) of its headings and paragraphs."""
        return [(part.text, part.line) for part in self.parts if isinstance(part, (Heading, Paragraph))]


@functools.cache
def chapters() -> dict:
    """All chapters by name, in the order of their files."""
    files = sorted((file for file in (resources.files(__package__) / "chapters").iterdir() if file.name.endswith(".md")),
                   key=lambda file: file.name)
    read_all = [read(file.name, file.read_text(encoding="utf-8")) for file in files]
    return {chapter.name: chapter for chapter in read_all}


def citing() -> dict:
    """{leaf: the chapters that cite it}."""
    found: dict = {}
    for chapter in chapters().values():
        for name in cited(chapter):
            found.setdefault(name, []).append(chapter)
    return found


# -- reading ----------------------------------------------------------------------------------------------------------

def read(file, text) -> Chapter:
    """The parts of a chapter.  Raises BadPage: file, line, column, and what is not known or out of place there."""
    lines = [(line.rstrip(), number) for number, line in enumerate(text.splitlines(), 1)]
    names = names_of("", [line for line, _ in outside_fences(lines)])
    parts: list = []
    pending: list = []
    at = 0

    def finish():
        try:
            parts.extend(blocks_of(pending, names))
        except NotationError as error:
            raise BadPage(f"{file}, {error}") from error
        pending.clear()

    while at < len(lines):
        line, number = lines[at]
        fence, heading = FENCE.match(line), HEADING.fullmatch(line)
        if fence or heading:
            finish()
        if fence:
            at = add_block(file, parts, fence[1], lines, at)
        elif heading:
            refuse(file, heading[2], number, len(heading[1]) + 2)
            parts.append(Heading(len(heading[1]), heading[2], number))
        else:
            if not line.startswith(" ") or line.lstrip()[:2] in ("- ", "* "):
                refuse(file, line, number)
            pending.append((line, number))
        at += 1
    finish()
    chapter = Chapter(file, tuple(parts), names)
    check(chapter)
    return chapter


def outside_fences(lines):
    inside = False
    for line, number in lines:
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            yield line, number


def add_block(file, parts, kind, lines, at):
    """Append the code of a fence; returns the place of its end."""
    number = lines[at][1]
    end = next((i for i in range(at + 1, len(lines)) if lines[i][0] == "```"), None)
    if kind not in AFTER:
        raise bad(file, number, 4, f"a fence of {', '.join(AFTER)}, not {kind!r}")
    if end is None:
        raise bad(file, number, 1, "the end of this fence")
    above = parts[-1].kind if parts and isinstance(parts[-1], Block) and not parts[-1].printed else ""
    if AFTER[kind] and above not in AFTER[kind]:
        raise bad(file, number, 4, f"{kind!r} directly below {AFTER[kind][0]!r}")
    text = "".join(f"{line}\n" for line, _ in lines[at + 1:end])
    if kind == "text":
        parts[-1] = dataclasses.replace(parts[-1], printed=text)
    else:
        parts.append(Block(kind, text, number + 1))
    return end


def refuse(file, line, number, column=1):
    """Raise BadPage for what the grammar of prose does not have."""
    if line.count("`") % 2:
        raise bad(file, number, column + line.rindex("`"), "a second backtick on this line")
    bare = re.sub("`[^`]*`", lambda found: " " * len(found[0]), line)
    for pattern, what in REFUSED.items():
        found = re.search(pattern, bare)
        if found:
            raise bad(file, number, column + found.start(), f"prose, not {what}")


def bad(file, line, column, expected):
    return BadPage(f"{file}, line {line}, column {column}: expected {expected}")


# -- whether its parts fit together -----------------------------------------------------------------------------------

def check(chapter):
    """Raise BadPage for a missing title, an exercise without its code, and a number or a leaf that is not known."""
    first = chapter.parts[0] if chapter.parts else None
    if not isinstance(first, Heading) or [p for p in chapter.parts if isinstance(p, Heading) and p.level == 1] != [first]:
        raise bad(chapter.file, 1, 1, "one title, `# ...`, on the first line")
    numbers = chapter.numbers
    twice = sorted({n for n in numbers if numbers.count(n) > 1})
    if twice:
        raise BadPage(f"{chapter.file}: equation ({twice[0]}) is there twice")
    for part in chapter.parts:
        if isinstance(part, Listing):
            raise BadPage(f"{chapter.file}: expected an equation, not {part.lines[0]!r}")
        if isinstance(part, Block) and (unknown := part.cites - set(numbers)):
            raise BadPage(f"{chapter.file}, line {part.line}: the code cites ({min(unknown)}), which the chapter does not have")
    for text, line in chapter.prose:
        check_references(chapter, text, line, numbers)
    check_exercises(chapter)
    cited(chapter)


def check_references(chapter, text, line, numbers):
    outside = re.sub("`[^`]*`", lambda found: "`" * len(found[0]), text)
    for found in re.finditer(r"\((\d+)\)", outside):
        if outside[:found.start()].endswith("` ") and LEAF.fullmatch(text[:found.start()].split("`")[-2]) and \
                text[:found.start()].split("`")[-2] in entries():
            raise BadPage(f"{chapter.file}, line {line}: the number {found[0]} of a leaf stands in its backticks")
        if int(found[1]) not in numbers:
            raise BadPage(f"{chapter.file}, line {line}: the chapter has no equation {found[0]}")


def check_exercises(chapter):
    """Under each ### stand one starter, one check and one answer, in this order, and nowhere else."""
    found: dict = {}
    section = None
    for part in chapter.parts:
        if isinstance(part, Heading):
            section = part if part.level == 3 else None
            if section:
                found[section] = []
        elif isinstance(part, Block) and part.kind != "python":
            if section is None:
                raise BadPage(f"{chapter.file}, line {part.line}: {part.kind!r} stands under no ###")
            found[section].append(part.kind)
    for section, kinds in found.items():
        if kinds != ["python starter", "python check", "python answer"]:
            raise BadPage(f"{chapter.file}, line {section.line}: an exercise has a starter, a check and an answer")


def cited(chapter) -> list:
    """The leaves that a chapter cites, in order.  Raises BadPage for an unknown leaf or equation."""
    every = entries()
    found: dict = {}
    for text, line in chapter.prose:
        for tick in text.split("`")[1::2]:
            match = LEAF.fullmatch(tick)
            if match and match[1] in every:
                missing = {int(n) for n in re.findall(r"\d+", match[2])} - set(equations(match[1]))
                if missing:
                    raise BadPage(f"{chapter.file}, line {line}: {match[1]} has no equation ({min(missing)})")
                found[match[1]] = None
            elif match and match[2]:
                raise BadPage(f"{chapter.file}, line {line}: there is no leaf {match[1]!r}")
    return list(found)


@functools.cache
def equations(name):
    return numbers_of(document(entries()[name].source)[0])
