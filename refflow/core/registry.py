"""The register of pages: everything that has equations, under its name; `page.kind` says what it is.

A page enters it when its module is loaded; `refflow.maps` loads them all.
"""

from __future__ import annotations

from .declarations import Child
from .docstrings import with_the_map

REGISTRY: dict = {}


def registered(page):
    """Register a page under its name; `help` prints the equations of its map."""
    REGISTRY[page.__name__], page.__doc__ = page, with_the_map(page)
    return page


def has_components(page) -> bool:
    """Does a page hold components?"""
    return any(isinstance(field, Child) for field in page.declared.values())


def of_kind(*kinds, components=None) -> dict:
    """{name: page} of these kinds, in the order of the register; with `components`, only pages with or without them."""
    return {name: page for name, page in REGISTRY.items()
            if page.kind in kinds and components in (None, has_components(page))}


def chapter(page) -> str:
    """The package a page lives in."""
    package, *rest = page.__module__.split(".")
    return rest[1] if rest[:1] == ["maps"] else rest[0] if rest else package
