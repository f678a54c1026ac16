"""The leaves of the book: every page, the compositions of core, and the models."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import importlib
import inspect
import pkgutil
from pathlib import Path

from .. import models
from ..core import Chain, Independent, Inverse
from ..core.registry import REGISTRY, chapter
from ..maps import load_all

MODELS = tuple(name for _, name, _ in pkgutil.iter_modules(models.__path__))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One leaf: its name, kind and chapter, its module's name and source, and the page, if it is a class."""

    name: str
    kind: str
    chapter: str
    module: str
    source: str
    page: object = None

    @property
    def skipped(self):
        """The lines of the module's other pages."""
        if self.page is None:
            return ()
        others = {page.__name__ for page in pages().values() if page.__module__ == self.module} - {self.name}
        return tuple((min([statement.lineno, *(d.lineno for d in statement.decorator_list)]), statement.end_lineno)
                     for statement in ast.parse(self.source).body
                     if isinstance(statement, ast.ClassDef) and statement.name in others)


def pages() -> dict:
    """All pages by name, in reading order; the compositions, which every chapter uses, first."""
    load_all()
    core = {page.__name__: page for page in (Chain, Inverse, Independent)}
    core |= {name: page for name, page in REGISTRY.items() if chapter(page) == "core"}
    return core | {name: page for name, page in REGISTRY.items() if name not in core}


def entries() -> dict:
    """All leaves by name."""
    found = {name: Entry(name, page.kind, chapter(page), page.__module__, source_of(page.__module__), page)
             for name, page in pages().items()}
    for name in MODELS:
        module = f"{models.__name__}.{name}"
        found[name] = Entry(name, "model", "models", module, source_of(module))
    return found


def file_of(name) -> str:
    """The file of a leaf or of a chapter.  A model that differs from a page by case alone has another: some file systems ignore case."""
    other = name in MODELS and name.lower() in map(str.lower, pages())
    return f"{name}_model.html" if other else f"{name}.html"


@functools.cache
def source_of(module):
    return Path(inspect.getsourcefile(importlib.import_module(module))).read_text(encoding="utf-8")


def entry_named(name, all_entries):
    """The leaf of that name, or else the one that it is in another case; KeyError, with the closest names, for an unknown name."""
    if name in all_entries:
        return all_entries[name]
    lowered = {known.lower(): known for known in reversed(all_entries)}
    if name.lower() not in lowered:
        close = difflib.get_close_matches(name.lower(), lowered, 3, 0.5)
        hint = f"; did you mean {' or '.join(lowered[c] for c in close)}?" if close else ""
        raise KeyError(f"there is no page {name!r}{hint}")
    return all_entries[lowered[name.lower()]]
