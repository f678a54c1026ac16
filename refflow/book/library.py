"""The book as a directory of files: a front page, chapters, one leaf per page, a script, and what is searched."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from .chapter import chapters, citing
from .chapter_page import chapter_page
from .front import MARK, front
from .leaf import leaf
from .pages import entries, entry_named, file_of
from .search import index_script, sections
from ..oracle.check import certified


class NotABook(ValueError):
    """A directory that holds something other than a book."""


def write_book(directory, name=None, force=False, progress=None) -> list:
    """Write one page or chapter, or all of them, with the front page and the script; returns the paths written.

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
        texts[file_of(entry.name)] = chapter_page(entry, before, after) if entry.name in told else \
            leaf(entry, certificate.get(entry.name, {}), before, after, cites.get(entry.name, ()))
    texts["book.js"] = Path(__file__).with_name("book.js").read_text(encoding="utf-8")
    texts["index.js"], texts["index.html"] = index_script(every, sections()), front(every, certificate)
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
