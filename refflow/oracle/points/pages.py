"""The pages by name."""

from __future__ import annotations

import difflib
import re

from ...core.registry import REGISTRY, of_kind
from ...maps import load_all


class CannotRun(ValueError):
    """The request cannot be carried out, for the given reason."""


def bijectors() -> dict:
    """The bijectors without components: the pages that have golden points."""
    load_all()
    return of_kind("bijector", components=False)


def plainly(name):
    """A name without its case, hyphens, underscores and blanks."""
    return re.sub(r"[-_ ]", "", name).lower()


def spelled(name):
    """The name of a page as refflow spells it; a name that is not a page's, as it is."""
    load_all()
    return {plainly(page): page for page in REGISTRY}.get(plainly(name), name)


def page_named(name, pages=None):
    """The page of that name among `pages`, the bijectors without components if none are given.

    Raises CannotRun, with the closest names, for an unknown name.
    """
    pages = bijectors() if pages is None else pages
    if name not in pages:
        lowered = {page.lower(): page for page in pages}
        close = difflib.get_close_matches(name.lower(), lowered, 3, 0.5)
        hint = f"; did you mean {' or '.join(lowered[c] for c in close)}?" if close else ""
        if name in REGISTRY:
            raise CannotRun(f"{name} is a page without golden points: it cannot be checked by name (`refflow show {name}` "
                            "shows it)")
        raise CannotRun(f"there is no page {name!r}{hint} (`refflow list` names them all)")
    return pages[name]
