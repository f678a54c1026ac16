"""The pages by name."""

from __future__ import annotations

import difflib

import refflow

from ..core import REGISTRY


def all_pages() -> dict:
    """{name: page}, chapter by chapter.  Importing refflow is what registers them."""
    return {name: page for name, page in REGISTRY.items() if page.__module__.startswith(refflow.__name__ + ".")}


def page_named(name):
    """The page of that name.  Raises ValueError with the closest names for an unknown one."""
    pages = all_pages()
    if name not in pages:
        lowered = {page.lower(): page for page in pages}
        close = difflib.get_close_matches(name.lower(), lowered, 3, 0.5)
        hint = f"; did you mean {' or '.join(lowered[c] for c in close)}?" if close else ""
        raise ValueError(f"there is no page {name!r}{hint} (`refflow list` names them all)")
    return pages[name]
