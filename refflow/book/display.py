"""A display as one MathML table: equations aligned at their relation signs, remarks in a column, numbers on the right."""

from __future__ import annotations

import re

from .mathml import NAMESPACE, mrow, parts, relation
from .notation import Gap, Relation, Text

XHTML = "http://www.w3.org/1999/xhtml"
WIDEST = 64                             # characters of a row, as set, that fit beside the code


def display(rows, link, mark):
    """The table of a display's rows; `link(n)` is the mark of a reference, `mark(n)` that of an equation's number."""
    lines = [line for row in rows for line in lines_of(row, link)]
    remarks = any(line["remark"] for line in lines)
    made = []
    for line in lines:
        marks = " ".join(mark(n) for n in line["numbers"])
        number = f'<mtd class="n"><mtext><span xmlns="{XHTML}">{marks}</span></mtext></mtd>' if marks else '<mtd class="n"/>'
        numbered = f' class="numbered" data-n="{" ".join(map(str, line["of"]))}"' if line["of"] else ""
        made.append(f"<mtr{numbered}>{cells(line, remarks)}{number}</mtr>")
    return (f'<div class="display"><math xmlns="{NAMESPACE}" display="block"><mtable class="rows" displaystyle="true">'
            f'{"".join(made)}</mtable></math></div>')


def cells(line, remarks):
    remark = f'<mtd class="remark">{line["remark"]}</mtd>' if remarks else ""
    if line["whole"]:
        return f'<mtd class="whole" columnspan="{4 if remarks else 3}">{mrow(line["right"] + line["remark"])}</mtd>'
    if remarks and not line["remark"]:
        return (f'<mtd class="left">{mrow(line["left"])}</mtd><mtd class="sign">{line["sign"]}</mtd>'
                f'<mtd class="right" columnspan="2">{mrow(line["right"])}</mtd>')
    return (f'<mtd class="left">{mrow(line["left"])}</mtd><mtd class="sign">{line["sign"]}</mtd>'
            f'<mtd class="right">{mrow(line["right"])}</mtd>{remark}')


def lines_of(row, link):
    """The lines of the table that a row takes: one, or, where it is too wide, one for each of its statements."""
    statements, remark = divided(row.items)
    whole = isinstance(row.items[0], Text) if row.items else True
    if not whole and len(statements) > 1 and width(row.items, link) > WIDEST:
        groups = [[s] for s in statements]
    else:
        groups = [statements]
    lines = [line_of(group, link, whole) for group in groups]
    shown = "".join(parts(remark, link))
    if not whole and shown and len(groups) == 1 and width(row.items, link) > WIDEST + 12:
        lines[-1] |= {"sign": lines[-1]["sign"]}
        lines.append({"left": "", "sign": "", "right": shown, "whole": False})
    elif shown:
        lines[-1]["remark"] = ("<mspace width='1.6em'/>" if whole else "") + shown
    for i, line in enumerate(lines):
        line.setdefault("remark", "")
        line["of"], line["numbers"] = row.numbers, row.numbers if i == len(lines) - 1 else ()
    return lines


def divided(items):
    """(statements, remark): the items between gaps, and those from the first text that follows a gap."""
    statements, remark = [[]], ()
    for i, item in enumerate(items):
        if isinstance(item, Gap):
            if isinstance(items[i + 1], Text) and i:
                remark = items[i + 1:]
                break
            statements.append([])
        else:
            statements[-1].append(item)
    return [tuple(s) for s in statements if s], remark


def line_of(statements, link, whole):
    """The cells of one line, cut at the first relation sign."""
    items = statements[0]
    for statement in statements[1:]:
        items += (Gap(), *statement)
    at = next((i for i, item in enumerate(items) if isinstance(item, Relation) and item.sign != "|"), None)
    if whole or at is None or any(isinstance(item, Gap) for item in items[:at]):
        if whole:
            return {"left": "", "sign": "", "right": "".join(parts(items, link)), "whole": True}
        return {"left": "", "sign": "", "right": "".join(parts(items, link)), "whole": at is not None or not goes_on(items)}
    return {"left": "".join(parts(items[:at], link)), "sign": relation(items[at]), "right": "".join(parts(items[at + 1:], link)),
            "whole": False}


def goes_on(items):
    """Does the line begin with a sign, and so belong to the expression above?"""
    first = items[0]
    return type(first).__name__ == "Sum" and bool(first.terms[0][0])


def width(items, link):
    """About how many characters a row has, as set."""
    shown = re.sub(r"<[^>]*>|&#x206.;", "", "".join(parts(items, link)))
    return len(shown.replace("&#160;", " ")) + 3 * sum(isinstance(item, (Gap, Relation)) for item in items)
