"""A display as one MathML table: equations aligned at their relation signs, remarks in a column, numbers on the right.

If a display is too wide, it is rearranged in this order: the statements of a row each take a line, remarks leave their
column, a remark takes a line of its own.
"""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

from .mathml import NAMESPACE, mrow, parts, relation
from .notation import Gap, Punctuation, Relation, Sum, Text

XHTML = "http://www.w3.org/1999/xhtml"
WIDEST = 27                             # em that fit next to a number
WIDTHS = {"∑": 1.6, "∏": 1.5, "∫": 0.9, "+": 1.2, "−": 1.2, "±": 1.2, ",": 0.5, "\u2061": 0, "\u2062": 0, "…": 1.2, "=": 0.8,
          "→": 1, "←": 1}
SPACE = '<mspace width="1.6em"/>'


@dataclasses.dataclass
class Line:
    """One line of the table: the part left of the first relation sign, the sign, the part to its right, and the remark."""

    left: str
    sign: str
    right: str
    remark: str = ""
    whole: bool = False                 # not aligned
    of: tuple = ()                      # the numbers of its row
    numbers: tuple = ()                 # the numbers printed on this line


def display(rows, link, mark):
    """The table of a display's rows; `link(n)` is the mark of a reference, `mark(n)` the mark of an equation's number."""
    lines, column = laid_out(rows, link)
    made = []
    for line in lines:
        marks = " ".join(mark(n) for n in line.numbers)
        number = f'<mtd class="n"><mtext><span xmlns="{XHTML}">{marks}</span></mtext></mtd>' if marks else '<mtd class="n"/>'
        numbered = f' class="numbered" data-n="{" ".join(map(str, line.of))}"' if line.of else ""
        made.append(f"<mtr{numbered}>{cells(line, column)}{number}</mtr>")
    align = f'columnalign="right center left {"left " if column else ""}right"'
    return (f'<div class="display"><math xmlns="{NAMESPACE}" display="block"><mtable class="rows" displaystyle="true" {align}>'
            f'{"".join(made)}</mtable></math></div>')


def laid_out(rows, link):
    """(lines, do remarks have their own column?)."""
    left = max(size(lines_of(row, link, 10**6)[0].left) for row in rows)
    lines = [line for row in rows for line in lines_of(row, link, WIDEST - left)]
    remarked = [line for line in lines if line.remark and not line.whole]
    if not remarked:
        return lines, False
    column = left + max(size(line.right) for line in remarked) + max(size(line.remark) for line in remarked) <= WIDEST
    found = []
    for line in lines:
        found.append(line)
        if line.remark and not line.whole and left + size(line.right) + size(line.remark) > WIDEST:
            found[-1] = dataclasses.replace(line, remark="", numbers=())
            found.append(Line("", "", SPACE + line.remark, of=line.of, numbers=line.numbers))
    return found, column


def size(made):
    """About how wide some MathML is, in em."""
    return width(ElementTree.fromstring(f"<mrow>{made}</mrow>"))


def width(element):
    tag, inside = element.tag.rsplit("}", 1)[-1], [width(child) for child in element]
    if tag in ("mi", "mn", "mtext", "span", "a"):
        return 0.56 * len(element.text or "") + sum(inside)
    if tag == "mo":
        spaces = (element.get(side, "").rstrip("em") for side in ("lspace", "rspace"))
        return WIDTHS.get(element.text, 0.4) + sum(float(space or 0) for space in spaces)
    if tag == "mspace":
        return float(element.get("width")[:-2])
    if tag in ("mfrac", "mover", "munder", "munderover"):
        return max(inside) + 0.1
    if tag in ("msub", "msup", "msubsup"):
        return inside[0] + 0.7 * max(inside[1:])
    return sum(inside)


def cells(line, column):
    """The cells of a line before its number: three, and a fourth if remarks have a column."""
    if line.whole:
        return f'<mtd class="whole" columnspan="{4 if column else 3}">{mrow(line.right + with_space(line.remark))}</mtd>'
    head = f'<mtd class="left">{mrow(line.left)}</mtd><mtd class="sign">{line.sign}</mtd>'
    if column and line.remark:
        return f'{head}<mtd class="right">{mrow(line.right)}</mtd><mtd class="remark">{mrow(line.remark)}</mtd>'
    span = ' columnspan="2"' if column else ""
    return f'{head}<mtd class="right"{span}>{mrow(line.right + with_space(line.remark))}</mtd>'


def with_space(remark):
    return SPACE + remark if remark else ""


def lines_of(row, link, widest):
    """The lines of a row: as many of its statements on each as fit into `widest` em."""
    if begins_with_words(row.items):
        lines = [Line("", "", "".join(parts(piece, link)), whole=True) for piece in wrapped(row.items, link)]
    else:
        statements, remark = divided(row.items)
        lines, shown = [], "".join(parts(remark, link))
        for group in grouped(statements, link, widest, size(with_space(shown))):
            lines.append(line_of(group, link))
        lines[-1].remark = shown
    for line in lines:
        line.of = row.numbers
    lines[-1].numbers = row.numbers
    return lines


def begins_with_words(items):
    """Do words stand in front of the first relation sign of the first statement?"""
    for item in items:
        if isinstance(item, (Gap, Relation)):
            return False
        if isinstance(item, Text):
            return True
    return False


def grouped(statements, link, widest, last):
    """The statements in groups that fit on a line; next to the last there are `last` more em."""
    groups = [[]]
    for i, statement in enumerate(statements):
        more = last if i == len(statements) - 1 else 0
        if groups[-1] and size(line_of([*groups[-1], statement], link).right) + more > widest:
            groups.append([])
        groups[-1].append(statement)
    return groups


def wrapped(items, link):
    """The items of a row that begins with words, broken like prose."""
    pieces, taken = [[]], 0
    for item in items:
        for part in [Text(word) for word in item.text.split()] if isinstance(item, Text) else [item]:
            own = size("".join(parts((part,), link))) + 0.3
            bound = isinstance(part, (Punctuation, Gap, Relation)) or pieces[-1] and isinstance(pieces[-1][-1], Relation)
            if pieces[-1] and taken + own > WIDEST and not bound:
                pieces.append([])
                taken = 0
            pieces[-1].append(part)
            taken += own
    return [merged(piece) for piece in pieces]


def merged(items):
    """The items, with neighbouring words joined."""
    found = []
    for item in items:
        if found and isinstance(item, Text) and isinstance(found[-1], Text):
            found[-1] = Text(f"{found[-1].text} {item.text}")
        else:
            found.append(item)
    return tuple(found)


def divided(items):
    """(statements, remark): the items between gaps, and the items from the first text after a gap."""
    statements = [[]]
    for i, item in enumerate(items):
        if not isinstance(item, Gap):
            statements[-1].append(item)
        elif i and isinstance(items[i + 1], Text):
            return [tuple(s) for s in statements if s], items[i + 1:]
        else:
            statements.append([])
    return [tuple(s) for s in statements if s], ()


def line_of(statements, link):
    """A line of these statements, cut at the first relation sign."""
    items = statements[0]
    for statement in statements[1:]:
        items += (Gap(), *statement)
    at = next((i for i, item in enumerate(statements[0]) if isinstance(item, Relation) and item.sign != "|"), None)
    if at is None:
        goes_on = isinstance(items[0], Sum) and items[0].terms[0][0]       # begins with + or -: it continues the line above
        return Line("", "", "".join(parts(items, link)), whole=not goes_on)
    return Line("".join(parts(items[:at], link)), relation(items[at]), "".join(parts(items[at + 1:], link)))
