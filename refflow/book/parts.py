"""A page in three parts: the map, the reverse rule, in floating point; and its textbook, the equations as they are printed."""

from __future__ import annotations

import functools
import inspect
import json
import re
from importlib import resources

from ..report import DTYPES, magnitude, number

HEADINGS = ("The map.", "The reverse rule.", "In floating point.")
ALLOWED = 4                             # units, as in the columns "beyond 4"
MANY = 1e3                              # from so many units on, the power of ten is enough
BEGINS = re.compile(rf"^(?={'|'.join(re.escape(heading) + '(?:  |$)' for heading in HEADINGS)}|Source: )", re.M)


def parts(text) -> dict:
    """{"title", each heading and "Source:": the text from there to the next}; a page without headings is all title."""
    title, *others = BEGINS.split(text)
    return {"title": title} | {re.match(r".*?[.:]", other)[0]: other for other in others}  # type: ignore[index]


def textbook(page):
    """The code of a page's textbook; "" if it has none."""
    return inspect.getsource(page.textbook) if getattr(page, "textbook", None) else ""


def costs() -> dict:
    """{page: {dtype: {quantity: {"moderate", "certified": {"C", "share", "points", "simplest"}}}}} of all textbooks."""
    return pages_of(resources.files("refflow.oracle") / "textbooks.json")  # type: ignore[arg-type]


@functools.cache
def pages_of(path):
    return json.loads(path.read_text("utf-8"))["pages"]


COSTS = ("printed equations: worst, beyond 4", *(f"{dtype}, {kind}" for dtype in DTYPES for kind in ("moderate", "certified")))


def cost_rows(name):
    """A row of COSTS for each quantity of a page's textbook: the largest error, and the share of points beyond 4 units."""
    dtypes = costs().get(name, {})
    quantities = dict.fromkeys(quantity for measured in dtypes.values() for quantity in measured)
    return [(quantity, *(in_words(dtypes[dtype].get(quantity, {}).get(kind)) for dtype in DTYPES
                         for kind in ("moderate", "certified"))) for quantity in quantities]


def moderate_text(name):
    """A sentence about a page whose printed equations are good at all moderate inputs, in both dtypes; "" for any other page."""
    found = [row["moderate"] for measured in costs().get(name, {}).values() for row in measured.values() if "moderate" in row]
    if not found or max(float(cost["C"]) for cost in found) > ALLOWED:
        return ""
    return f"At all moderate inputs, the printed equations are within {ALLOWED} units of the truth, in float64 and in float32."


def in_words(cost):
    if cost is None:
        return ""
    C = float(cost["C"])
    return (magnitude(C) if C > MANY else number(C)) + (f", {percent(cost)}" if cost["share"] else "")


def percent(cost):
    return f"{100 * cost['share']:.3g}%"


def arranged(blocks, made, table="") -> str:
    """The blocks of a docstring, made into HTML: a table behind the first part, and the third part folded."""
    starts = [getattr(block, "text", "") for block in blocks]
    second, third, source = (next((i for i, text in enumerate(starts) if text.startswith(begins)), len(made))
                             for begins in (*HEADINGS[1:], "Source:"))
    body = third + (third < source and starts[third] == HEADINGS[2])        # the summary says its heading
    floating = [f"<details><summary>{HEADINGS[2][:-1]}</summary>", *made[body:source], "</details>"] if third < source else []
    return "\n".join([*made[:second], table, *made[second:third], *floating, *made[max(third, source):]])
