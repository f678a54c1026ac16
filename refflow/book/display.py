"""A display as rows of a grid: equations aligned at their relation signs, remarks in a column if they fit, numbers on the right.

The browser breaks what is too long for its column in front of relation, plus and minus signs, and between statements.
"""

from __future__ import annotations

import itertools

from .mathml import formula, flowed, relation, width
from .notation import Gap, Relation, Sum, Text

WIDEST = 24                             # em: a row with a remark that is wider has the remark behind it, not in a column
BETWEEN = 1.6                           # em: statements
LONG = 11                               # em: a left side that is wider is not aligned


def display(rows, link, mark):
    """The grid of a display's rows; `link(n)` is the mark of a reference, `mark(n)` the mark of an equation's number."""
    parts = [parted(row.items) for row in rows]
    column = remarks_fit(parts)
    made = []
    for row, own in zip(rows, parts):
        numbers = " ".join(map(str, row.numbers))
        marks = f'<div class="n">{" ".join(mark(n) for n in row.numbers)}</div>' if numbers else ""
        lit = f' data-n="{numbers}"' if numbers else ""
        made.append(f'<div class="row"{lit}><div class="equation">{cells(*own, column, link)}</div>{marks}</div>')
    return f'<div class="display"><div class="{"rows remarks" if column else "rows"}">{"".join(made)}</div></div>'


def parted(items):
    """(left side, relation sign, statements, remark); a row that is not aligned has neither left side nor sign."""
    statements, remark = divided(items)
    first = statements[0] if statements else ()
    at = next((i for i, item in enumerate(first) if isinstance(item, Relation) and item.sign != "|"), None)
    if any(isinstance(item, Text) for item in first[:at]):
        return None, None, split(items), ()
    if at is None:
        goes_on = isinstance(first[0], Sum) and first[0].terms[0][0]       # begins with + or -: it continues the row above
        return (() if goes_on else None), None, statements, remark
    if width(first[:at]) > LONG:
        return None, None, statements, remark
    return first[:at], first[at], [first[at + 1:], *statements[1:]], remark


def divided(items):
    """(statements, remark): the items between gaps, and the items from the first text after a gap."""
    at = next((i for i in range(1, len(items)) if isinstance(items[i - 1], Gap) and isinstance(items[i], Text)), len(items))
    return split(items[:at]), items[at:]


def split(items):
    """The statements of a row, which gaps separate."""
    return [tuple(run) for are_gaps, run in itertools.groupby(items, lambda item: isinstance(item, Gap)) if not are_gaps]


def remarks_fit(parts):
    """Is there a remark, and room for a column of remarks?"""
    aligned = [part for part in parts if part[0] is not None]
    remarked = [part for part in aligned if part[3]]
    if not remarked:
        return False
    left = max(width(part[0]) for part in aligned)
    right = max(sum(width(statement) + BETWEEN for statement in part[2]) for part in remarked)
    return left + right + max(width(part[3]) for part in remarked) <= WIDEST


def cells(left, sign, statements, remark, column, link):
    """The cells of a row before its number."""
    right = flow(statements, link)
    behind = f'<span class="remark">{flow(split(remark), link)}</span>' if remark else ""
    if left is None:
        return f'<div class="whole">{right} {behind}</div>'
    head = f'<div class="left">{formula(left)}</div><div class="sign">{relation(sign)}</div>' if sign else ""
    beside = f'<div class="right">{right}</div> {behind}' if column and remark else f'<div class="right">{right} {behind}</div>'
    return head + beside


def flow(statements, link):
    """Statements one after the other, each on one line if it fits."""
    return " ".join(f'<span class="statement">{flowed(statement, link)}</span>' for statement in statements)
