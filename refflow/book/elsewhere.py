"""The libraries that have the map of a leaf: the largest errors of their own code, and what was found in it."""

from __future__ import annotations

import functools
import re
from html import escape

from .. import coverage
from ..report import DTYPES

MOST = 12                               # rows that a table shows: the largest errors
BOLD = 16                               # units


@functools.cache
def peers() -> dict:
    """{leaf: [(library, its name of the map, {dtype: error})]}: a leaf has the rows of `coverage` that it answers by itself."""
    found: dict = {}
    for row in coverage.ROWS:
        leaf = re.split(r"\W", row.answer)[0]
        for library in row.theirs if leaf else ():
            some = found.setdefault(leaf, [])
            some += [(library, *one) for one in coverage.asked(row, library).items() if (library, *one) not in some]
    return found


def worst(errors):
    """The larger of the errors; what is not a number is the worst."""
    return max(size(error) for error in errors.values())


def size(error):
    try:
        return float(error)
    except ValueError:
        return float("inf")


def elsewhere(name, table) -> str:
    """The table of a leaf, made by `table(title, head, rows, kind)`; "" if no library was asked for its map."""
    every = sorted(peers().get(name, ()), key=lambda row: (-worst(row[2]), *row[:2]))
    rows = [(f"{escape(library)} {escape(coverage.held('asked.json')[library]['version'])}", f"<code>{escape(theirs)}</code>",
             *(cell(errors.get(dtype, "")) for dtype in DTYPES)) for library, theirs, errors in every[:MOST]]
    of = f", the {MOST} largest of {len(every)}" if len(every) > MOST else ""
    title = f"In other libraries <small>largest error of their own code, in units of rounding{of}</small>"
    return table(title, ("library", "its name", *DTYPES), rows, "peers") if rows else ""


def found(name, table) -> str:
    """The findings on a leaf, each folded under its title: what happens, the code that shows it, what this prints and what is true."""
    made = "".join(finding(one, table) for one in coverage.held("findings.json") if name in one["leaves"])
    return f'<section class="findings"><h2>Found in other libraries</h2>{made}</section>' if made else ""


def finding(one, table):
    title = f'{escape(one["library"])} {escape(one["version"])}: {escape(one["name"])}'
    rows = [[f"<code>{escape(value)}</code>" for value in row] for row in zip(one["printed"], one["true"])]
    remedy = f'<p>What would be right: {escape(one["remedy"])}</p>' if one["remedy"] else ""
    return (f'<details><summary>{title} <small>{coverage.KINDS[one["kind"]]}</small></summary><p>{ticked(one["text"])}</p>'
            f'<p>The equation is <code>{escape(one["equation"])}</code>. The code below shows it.</p><pre>{escape(one["code"])}</pre>'
            f'{table("", ("it prints", "true"), rows)}{remedy}</details>')


def ticked(text):
    """Prose whose backticks hold code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def cell(error):
    return f"<b>{escape(error)}</b>" if error and size(error) > BOLD else escape(error)
