"""The book as a directory of files: chapters, one leaf per page, and an index."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from .chapter import chapters, citing
from .chapter_page import chapter_page
from .docstring import document
from .leaf import Setter, leaf, page_of, title_of
from .pages import entries, entry_named
from ..oracle.check import certified

MARK = "<!-- a book of refflow -->"


class NotABook(ValueError):
    """A directory that holds something other than a book."""


def write_book(directory, name=None, force=False, progress=None) -> list:
    """Write one page or chapter, or all of them, and the index; returns the paths written.

    Chapters are run.  `progress(done, total, name)` is called before each file.  Raises KeyError for an unknown page, NotABook
    for a directory that is not empty and was not written by this function, unless `force` is given, and BadPage for a page
    whose docstring cannot be typeset, or a chapter that cannot, or that raises.  Every file appears complete: it is written under
    another name and moved.
    """
    directory, every, told = Path(directory), entries(), chapters()
    both = told | every
    chosen = both if name is None else {(entry := entry_named(name, both)).name: entry}
    refuse(directory, force)
    certificate, beside, texts, cites = certified(), neighbours(every) | neighbours(told), {}, citing()
    for done, entry in enumerate(chosen.values()):
        if progress:
            progress(done, len(chosen), entry.name)
        before, after = beside[entry.name]
        texts[f"{entry.name}.html"] = chapter_page(entry, before, after) if entry.name in told else \
            leaf(entry, certificate.get(entry.name, {}), before, after, cites.get(entry.name, ()))
    texts["index.html"] = index(every, certificate)
    directory.mkdir(parents=True, exist_ok=True)
    return [write(directory / file, text) for file, text in texts.items()]


def neighbours(every) -> dict:
    """{name: the entries before and after it in reading order, None where there is none}."""
    order = list(every.values())
    return {entry.name: (before, after) for before, entry, after in
            zip((None, *order), order, itertools.chain(order[1:], [None]))}


def refuse(directory, force):
    """Raise NotABook if writing would mix the book with something else."""
    if force or not directory.exists():
        return
    if not directory.is_dir():
        raise NotABook(f"{directory} is a file")
    head = directory / "index.html"
    if any(directory.iterdir()) and not (head.is_file() and MARK in head.read_text(encoding="utf-8", errors="replace")):
        raise NotABook(f"{directory} is not empty and not a book of refflow")


def write(path, text):
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
    return path


def index(every, certificate) -> str:
    """The first leaf: the chapters, and all others by kind of map, with kind, first sentence, and the largest certified error."""
    made = [MARK, '<div class="index"><h1>The book of refflow</h1>',
            "<p>One leaf per page: its equations, and the code that states them. Errors are in units of rounding.</p>",
            "<h2>Chapters</h2>", *(f'<p><a href="{chapter.name}.html">{chapter.number}. {chapter.title}</a></p>'
                                   for chapter in chapters().values())]
    for chapter, group in itertools.groupby(every.values(), lambda entry: entry.chapter):
        made.append(f"<h2>{chapter.replace('_', ' ').capitalize()}</h2><table><thead><tr><th>page</th><th>kind</th>"
                    "<th>what it is</th><th>certificate</th></tr></thead><tbody>")
        for entry in group:
            _, names = document(entry.source)
            what = Setter(names).prose(title_of(entry.source))
            made.append(f'<tr><td><a href="{entry.name}.html">{entry.name}</a></td><td>{entry.kind}</td><td>{what}</td>'
                        f"<td>{summary(certificate.get(entry.name, {}))}</td></tr>")
        made.append("</tbody></table>")
    return page_of("The book of refflow", "\n".join([*made, "</div>"]))


def summary(quantities):
    """The entry of a page's certificate that is nearest to its allowance."""
    found = [entry for dtypes in quantities.values() for entry in dtypes.values()]
    if not found:
        return ""
    worst = max(found, key=lambda entry: entry["C"] / entry["allowed"])
    return f'{worst["C"]:.2g} <span class="of">of {worst["allowed"]:g}</span>'
