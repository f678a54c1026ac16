"""One leaf as a file of HTML: equations on the left, code on the right, parameters, certificate and hard cases below.

The file is well-formed XML, needs no other file, and has no script: everything that belongs to one equation is highlighted
by style rules.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from . import code
from .display import display
from .docstring import Display, Listing, Paragraph, document
from .elsewhere import elsewhere, found
from .figures import figures, floats
from .lost import sentence
from .mathml import inline
from .notation import Code, NotationError, Text, Word, parse
from .pages import file_of
from .parts import COSTS, HEADINGS, arranged, cost_rows, moderate_text
from .vocabulary import BIG, FUNCTIONS, GREEK, RELATIONS, SYMBOLS
from ..pictures import RULES
from ..report import DTYPES, PARAMETER, parameters

IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*")
AROUND = re.compile(r"\s*([{};,])\s*")             # spaces that mean nothing in a style, which each file holds
SCRIPTS = '<script src="index.js" defer="defer"></script><script src="book.js" defer="defer"></script>\n'
ARROW = escape("->")                    # between sets that prose names


class BadPage(ValueError):
    """A docstring that cannot be typeset: module, line and column."""


def leaf(entry, certificate, before=None, after=None, citing=()) -> str:
    """The text of one leaf; `before` and `after` are its neighbours, `certificate` is {quantity: {dtype: {C, allowed}}}.

    `citing` are the chapters that cite it.

    Raises BadPage if the docstring's mathematics does not parse.
    """
    try:
        blocks, names = document(entry.source)
    except NotationError as error:
        raise BadPage(f"{entry.module}, {error}") from error
    lines = code.lines(entry.source, entry.skipped)
    setter = Setter(names, lines, numbers_of(blocks))
    made = [setter.block(block, i) for i, block in enumerate(blocks)]
    for i, said in sentences(entry.page, blocks):
        made[i] += f'<p class="on">{setter.prose(said)}</p>'
    left = arranged(blocks, [made[0] + figures(entry.page), *made[1:]], costs(entry.name) + floats(entry.page))
    below = "\n".join(section for section in (fields(entry.page), certified(certificate), elsewhere(entry.name, table),
                                              hard_cases(entry.page, setter), found(entry.name, table)) if section)
    return page_of(entry.name, f"""\
<header><nav>{neighbour(before, "←")}<a href="index.html">The book of refflow</a>{neighbour(after, "→")}</nav>
<h1>{breakable(entry.name)}</h1><p class="facts">{facts(entry, setter)}</p></header>
<main><article>{left}</article>
<section class="code"><div class="file">{entry.module.replace(".", "/")}.py</div><div class="lines">
{setter.code(lines)}
</div></section></main>
<footer>{below}{setter.notes()}{chapters_that(citing)}</footer>""", setter.lights())


def page_of(title, body, extra="", scripts=SCRIPTS):
    style = AROUND.sub(r"\1", Path(__file__).with_name("style.css").read_text(encoding="utf-8") + RULES + extra)
    return f"""<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" lang="en"><head><meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/><title>{escape(title)}</title>
{scripts}<style>
{style.replace("&", "&amp;").replace("<", "&lt;")}</style></head>
<body>
{body}
</body></html>
"""


def neighbour(entry, arrow):
    if entry is None:
        return "<span></span>"
    title = getattr(entry, "title", entry.name)
    text = f"{arrow} {title}" if arrow == "←" else f"{title} {arrow}"
    return f'<a href="{file_of(entry.name)}">{text}</a>'


def chapters_that(citing):
    links = ", ".join(f'<a href="{chapter.name}.html">{chapter.number}. {escape(chapter.title)}</a>' for chapter in citing)
    return f'<p class="notes">Chapters that cite it: {links}</p>' if links else ""


def breakable(name):
    """A name that may be broken between its words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=_)", "<wbr/>", name)


def facts(entry, setter):
    page, chapter = entry.page, f"{entry.kind} · {entry.chapter}"
    source = getattr(page, "source", "")
    return f"{chapter} · {escape(source)}" if source else chapter


def sentences(page, blocks):
    """[(the last block of a paragraph of the third part, what the printed equations lose that it cures)]."""
    fresh = [i for i, block in enumerate(blocks) if isinstance(block, Paragraph) and not block.goes_on]
    third = next((i for i in fresh if blocks[i].text.startswith(HEADINGS[2])), len(blocks))
    ends = [(i, after - 1) for i, after in zip(fresh, [*fresh[1:], len(blocks)]) if i > third]
    return [(end, said) for i, end in ends if (said := sentence(page, blocks[i].text))]


def numbers_of(blocks):
    """The numbers of all equations of a docstring."""
    return [n for block in blocks for row in getattr(block, "rows", [block]) for n in getattr(row, "numbers", ())]


class Setter:
    """Typesets the blocks of one leaf; knows which lines cite which equation."""

    def __init__(self, names, lines=(), defined=()):
        self.names, self.lines, self.defined = names, lines, frozenset(defined)
        self.citing = {}
        for line in lines:
            for n in line.cites:
                self.citing.setdefault(n, []).append(line.number)
        self.uses_bars = False

    def block(self, block, index):
        if isinstance(block, Display):
            made = display(block.rows, self.link, self.mark)
            self.uses_bars |= "¯" in made
            return made
        if isinstance(block, Listing):
            return f"<pre>{escape(chr(10).join(block.lines))}</pre>"
        return self.paragraph(block, index)

    def paragraph(self, block, index):
        kind = "title" if index == 0 else "on" if block.goes_on else "source" if block.text.startswith("Source:") else ""
        text = self.prose(block.text)
        if index and not block.goes_on:
            text = re.sub(r"^([A-Z][\w ,-]{2,40}(?:\.(?=\s\s)|:$))", r'<b class="head">\1</b>', text)
        if not block.numbers:
            return f'<p class="{kind}">{text}</p>' if kind else f"<p>{text}</p>"
        marks = " ".join(self.mark(n) for n in block.numbers)
        numbers = " ".join(map(str, block.numbers))
        return f'<p class="numbered {kind}" data-n="{numbers}">{text}<span class="n">{marks}</span></p>'

    def prose(self, text):
        """Prose with its mathematics, code and references typeset."""
        made = ""
        for i, piece in enumerate(text.split("`")):
            if i % 2:
                made += self.tick(piece)
                continue
            signs = re.match(r"[,.;:)]*", piece).group() if made.endswith("</math>") else ""
            rest = re.sub(r"\((\d+)\)", lambda m: self.link(int(m[1])), escape(piece[len(signs):]).replace(ARROW, RELATIONS["->"]))
            made = (with_signs(made, signs) if signs else made) + rest
        return made

    def tick(self, text):
        """Text in backticks: mathematics if it parses and is not a name of the program."""
        items = mathematics(text, self.names)
        return f"<code>{escape(text)}</code>" if items is None else inline(items)

    def link(self, number):
        return f'<a class="ref" href="#e{number}">({number})</a>' if number in self.defined else f"({number})"

    def mark(self, number):
        """An equation's number: a link to the first line that cites it, and small links to all lines if there are several."""
        at = self.citing.get(number, [])
        if not at:
            return f'<span class="eq" id="e{number}">({number})</span>'
        all_lines = "".join(f' <a href="#L{line}">{line}</a>' for line in at) if len(at) > 1 else ""
        small = f'<small title="the lines that cite it">{all_lines}</small>' if all_lines else ""
        return f'{small}<a class="eq" id="e{number}" href="#L{at[0]}">({number})</a>'

    def code(self, lines):
        made = []
        for line in lines:
            links = " ".join(self.link(n) for n in line.cites)
            cites = f'<span class="cites">{links}</span>' if links else ""
            lit = f' data-n="{" ".join(map(str, line.cites))}"' if line.cites else ""
            made.append(f'<div class="line" id="L{line.number}"{lit}><i>{line.number}</i>'
                        f'<span class="text" style="--indent:{line.indent + 4}ch">{line.html or "&#160;"}</span>{cites}</div>')
        return "\n".join(made)

    def lights(self):
        """Style that highlights an equation and its lines together."""
        numbers = sorted({*self.defined, *self.citing})
        return "".join(f'body:has([data-n~="{n}"]:hover,a[href="#e{n}"]:hover) [data-n~="{n}"]{{background:var(--light)}}\n'
                       for n in numbers)

    def notes(self):
        if not self.uses_bars:
            return ""
        x, x_bar, l_bar = (inline(parse(text)) for text in ("x", "x_bar", "l_bar"))
        return f'<p class="notes">A bar marks a cotangent: {x_bar} belongs to {x}, {l_bar} to the log-determinant.</p>'


def with_signs(made, signs):
    """HTML that ends in a formula, with punctuation that stays on its line."""
    at = made.rindex("<math")
    return f'{made[:at]}<span class="joined">{made[at:]}{signs}</span>'


def mathematics(text, names):
    """The items of a formula, or None if the text is code.

    Code is text that does not parse, a name of the program (an identifier of several letters that is not in the word table),
    and text with words that are neither in the table nor names of the docstring.
    """
    if IDENTIFIER.fullmatch(text) and is_identifier(text) or re.search(r"\w=\S", text):
        return None
    try:
        items = parse(text, names)
    except NotationError:
        return None
    return None if any(foreign(item, names) for item in items) else items


def is_identifier(text):
    """Is the word a name of the program, rather than a letter with its subscripts?"""
    base = text.split("_")[0].rstrip("0123456789'")
    mathematical = text.endswith("_bar") or text in SYMBOLS or base in GREEK or base in FUNCTIONS or base in BIG
    return len(base) > 1 and not mathematical and not re.fullmatch("d[a-zA-Z]", base)


def foreign(item, names):
    """Does the item contain words of code?"""
    if isinstance(item, Code):
        return True
    if isinstance(item, Word):
        capital = len(item.text) > 1 and item.text not in GREEK and item.text[0].isupper() and item.text[1].islower()
        return capital
    if isinstance(item, Text) or not hasattr(item, "__dataclass_fields__"):
        return False
    children = [getattr(item, key) for key in item.__dataclass_fields__]
    return any(foreign(child, names) for c in children for child in (c if isinstance(c, tuple) else (c,)))


# -- the part below -------------------------------------------------------------------------------------------------------

def table(title, head, rows, kind=""):
    cells = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    head = f"<thead><tr>{cells}</tr></thead>"
    title = f"<h2>{title}</h2>" if title else ""
    return f'<section class="{kind}">{title}<table>{head}<tbody>{body}</tbody></table></section>'


def fields(page):
    """The table of a page's fields."""
    rows = [(f"<code>{key}</code>", shape and f"<code>{shape}</code>", escape(rule), escape(default))
            for key, shape, rule, default in parameters(page)] if hasattr(page, "declared") else []
    return table("Parameters", PARAMETER, rows) if rows else ""


def certified(quantities):
    """The table of the errors of a page, in units of rounding."""
    rows = []
    for quantity, dtypes in quantities.items():
        cells = [error_of(dtypes.get(dtype)) for dtype in DTYPES]
        rows.append((escape(quantity), *cells))
    title = "Certificate <small>largest error found, in units of rounding, of what is allowed</small>"
    return table(title, ("quantity", *DTYPES), rows, "certificate") if rows else ""


def costs(name):
    """The table of what the printed equations of a page cost in floats."""
    rows = [(re.sub(r"(?<=[_.])", "<wbr/>", escape(quantity)), *map(joined, cells)) for quantity, *cells in cost_rows(name)]
    title = "In floats <small>largest error of the printed equations, and how many points err by more than 4 units</small>"
    said = f"<p>{moderate_text(name)}</p>" if moderate_text(name) else ""
    return table(title, ("quantity", *COSTS[1:]), rows, "costs") + said if rows else ""


def joined(cell):
    """A cell that may be broken between its numbers alone."""
    return " ".join(f'<span class="joined">{number}</span>' for number in cell.split())


def error_of(entry):
    if entry is None:
        return ""
    share = min(100, round(100 * entry["C"] / entry["allowed"]))
    return (f'<span class="bar" style="--share:{share}%"></span>{entry["C"]:.2g} '
            f'<span class="of">of {entry["allowed"]:g}</span>')


def hard_cases(page, setter):
    rows = [(f"<code>{escape(case.name)}</code>", setter.prose(case.reason)) for case in getattr(page, "hard_cases", ())]
    return table("Hard cases", ("name", "why it is there"), rows, "cases") if rows else ""
