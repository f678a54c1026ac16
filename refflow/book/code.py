"""Source text as lines of HTML: coloured by `tokenize`, the numbers of equations that a line cites as links."""

from __future__ import annotations

import dataclasses
import io
import keyword
import re
import tokenize
from html import escape

from ..core.docstrings import strings

CITED = re.compile(r"\s*#((?:\s*\(\d+\))+)\s*$")
RULE = re.compile(r"^\s*# -- .* --(?=-*$)")          # the comment above a section, up to the dashes that fill its line


@dataclasses.dataclass(frozen=True)
class Line:
    number: int
    html: str
    cites: tuple
    indent: int


def lines(source, skipped=()):
    """The lines of a module that are shown: without the strings that are its text and without the line ranges `skipped`."""
    texts = [(held.lineno, held.end_lineno) for held in strings(source) if held]
    gone = {number for first, last in (*texts, *skipped) for number in range(first, last + 1)}
    text, coloured = source.splitlines(), colours(source)
    shown = []
    for number, line in enumerate(text, 1):
        if number in gone:
            continue
        match = CITED.search(line)
        rule = RULE.match(line)
        end = match.start() if match else rule.end() if rule else len(line.rstrip())
        cites = tuple(int(n) for n in re.findall(r"\d+", match.group(1))) if match else ()
        shown.append(Line(number, painted(line[:end], coloured.get(number, ())), cites, len(line) - len(line.lstrip())))
    return without_doubled_blanks(shown)


def without_doubled_blanks(shown):
    """At most two blank lines together, none at the ends."""
    kept = []
    for line in shown:
        if line.html or kept and any(above.html for above in kept[-2:]):
            kept.append(line)
    while kept and not kept[-1].html:
        kept.pop()
    return kept


def painted(line, spans):
    """A line with its coloured spans ((first, last, class), ...)."""
    made, at = "", 0
    for first, last, kind in sorted(spans):
        if first >= len(line):
            break
        last = min(last, len(line))
        made += escape(line[at:first], quote=False) + f'<span class="{kind}">{escape(line[first:last], quote=False)}</span>'
        at = last
    return made + escape(line[at:], quote=False)


def colours(source):
    """{line: [(first column, last column, class)]} of the tokens that have a colour."""
    found, previous, at_start = {}, None, True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = kind_of(token, previous, at_start)
        if kind:
            (first, left), (last, right) = token.start, token.end
            for line in range(first, last + 1):
                span = (left if line == first else 0, right if line == last else 10**6, kind)
                found.setdefault(line, []).append(span)
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            at_start = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT) or at_start and token.string == "@"
            previous = token
    return found


def kind_of(token, previous, at_start):
    if token.type == tokenize.COMMENT:
        return "comment"
    if token.type == tokenize.STRING or token.type == getattr(tokenize, "FSTRING_MIDDLE", -1):
        return "string"
    if token.type == tokenize.NUMBER:
        return "number"
    if at_start and (token.string == "@" or previous is not None and previous.string == "@"):
        return "decorator"
    if token.type != tokenize.NAME:
        return None
    if keyword.iskeyword(token.string):
        return "keyword"
    if previous is not None and previous.string in ("def", "class"):
        return "defined"
    return "self" if token.string == "self" else None
