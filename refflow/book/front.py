"""The front page: what a flow is, with a picture that moves, the chapters, search, and all leaves in groups."""

from __future__ import annotations

import itertools
from html import escape

from .chapter import chapters
from .docstring import names_of
from .figures import figures
from .leaf import Setter, page_of
from .pages import file_of
from .search import first_sentence

MARK = "<!-- a book of refflow -->"
MOVES = "RationalQuadraticSpline"       # whose picture stands beside the four lines
LINES = ("A normalizing flow makes a complicated density out of a simple one: it draws `z` from the simple density, and bends it, "
         "`x = f(z)`.",
         "Because `f` has an inverse, the density of `x` is known exactly, and not only samples of it:",
         "`log p(x) = log pi(z) - log|det df/dz|`,",
         "where the determinant tells by how much `f` stretches space at `z`, and what is stretched grows thin.")


def front(every, certificate) -> str:
    """The text of index.html."""
    setter = Setter(frozenset())
    told = "".join(f"<p>{setter.prose(text)}</p>" for text in LINES)
    groups = itertools.groupby(every.values(), lambda entry: entry.chapter)
    made = [f'<header><nav><span></span></nav><h1>The book of refflow</h1></header>{MARK}<main class="index">',
            f'<section class="flow"><div>{told}</div>{figures(every[MOVES].page)}</section><div class="search"></div>', listed(),
            "<p>One leaf for each page: its equations, and the code that states them. Errors are in units of rounding: the largest that "
            "was found, and what is allowed.</p>",
            *(group(name, list(entries), certificate) for name, entries in groups)]
    return page_of("The book of refflow", "\n".join([*made, "</main>"]))


def listed():
    """The chapters in their order; one that is not written leaves its number free."""
    rows = "".join(f'<li value="{chapter.number}"><a href="{chapter.name}.html">{escape(chapter.title)}</a></li>'
                   for chapter in chapters().values())
    return f"<h2>Chapters</h2><ol>{rows}</ol>"


def group(name, entries, certificate):
    """The table of the leaves of one chapter of the maps."""
    rows = []
    for entry in entries:
        title = Setter(names_of(entry.source, entry.source.split('"""')[1].splitlines())).prose(first_sentence(entry.source))
        rows.append(f'<tr><td><a href="{file_of(entry.name)}">{entry.name}</a></td><td>{entry.kind}</td>'
                    f"<td>{title}</td><td>{summary(certificate.get(entry.name, {}))}</td></tr>")
    return (f"<h2>{name.replace('_', ' ').capitalize()}</h2><table><thead><tr><th>page</th><th>kind</th><th>what it is</th>"
            f"<th>certificate</th></tr></thead><tbody>{chr(10).join(rows)}</tbody></table>")


def summary(quantities):
    """The entry of a page's certificate that is nearest to its allowance."""
    found = [entry for dtypes in quantities.values() for entry in dtypes.values()]
    if not found:
        return ""
    worst = max(found, key=lambda entry: entry["C"] / entry["allowed"])
    return f'{worst["C"]:.2g} <span class="of">of {worst["allowed"]:g}</span>'
