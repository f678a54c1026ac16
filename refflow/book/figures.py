"""The figures of a leaf: what its map does, and what its printed equation costs over the floats."""

from __future__ import annotations

from .shown import MOVING, shown
from .. import pictures


def figures(page) -> str:
    """What a page does to numbers, to the plane, or entry by entry; "" for a page that has no picture."""
    if page is None:
        return ""
    if page.__name__ in MOVING:
        return figure(pictures.slider(*MOVING[page.__name__]).html())
    value, shape = shown(page)
    drawing = pictures.of(value, shape) if value is not None else None
    return figure(drawing.svg()) if drawing else ""


def floats(page) -> str:
    """The errors of a page and of its textbook; "" if the printed equations serve."""
    if page is None or page.kind != "bijector" or not page.textbook:
        return ""
    value, _ = shown(page)
    drawing = pictures.errors(value)
    if not drawing:
        return ""
    says = f"Errors of the {pictures.QUANTITIES[drawing.numbers['quantity']]} in float32, in units of rounding, over the events."
    return figure(f"{drawing.svg()}<figcaption>{says}</figcaption>")


def figure(inside):
    return f"<figure>{inside}</figure>"
