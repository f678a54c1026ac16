"""A page in three parts: the map, the reverse rule, in floating point; and its textbook, the equations as they are printed."""

from __future__ import annotations

import inspect
import re

HEADINGS = ("The map.", "The reverse rule.", "In floating point.")
BEGINS = re.compile(rf"^(?={'|'.join(re.escape(heading) + '  ' for heading in HEADINGS)}|Source: )", re.M)


def parts(text) -> dict:
    """{"title", each heading and "Source:": the text from there to the next}; a page without headings is all title."""
    title, *others = BEGINS.split(text)
    return {"title": title} | {re.match(r".*?[.:]", other)[0]: other for other in others}


def textbook(page):
    """The code of a page's textbook; "" if it has none."""
    return inspect.getsource(page.textbook) if getattr(page, "textbook", None) else ""


def folded(blocks, made) -> str:
    """The blocks of a docstring, made into HTML, with the third part folded."""
    starts = [getattr(block, "text", "") for block in blocks]
    first = next((i for i, text in enumerate(starts) if text.startswith(HEADINGS[2])), len(made))
    last = next((i for i, text in enumerate(starts) if i > first and text.startswith("Source:")), len(made))
    inner = [f"<details><summary>{HEADINGS[2][:-1]}</summary>", *made[first:last], "</details>"] if first < last else []
    return "\n".join([*made[:first], *inner, *made[last:]])
