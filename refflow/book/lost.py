"""What the printed equations lose, said behind the paragraph of the third part that cures it; generated from their recorded costs."""

from __future__ import annotations

import ast
import math
import re
import textwrap

from .code import CITED
from .pages import source_of
from .parts import ALLOWED, HEADINGS, costs, parts, textbook
from ..core.docstrings import joined_text
from ..report import DTYPES

FUNCTIONS = {"jacobian": ("jacobian", "slope")}
LONGEST = 48                            # characters of an input in a sentence


def sentence(page, paragraph):
    """What float64 loses by the equations that a paragraph "In (n), ..." opens with; "" if nothing, or for another paragraph.

    Of the quantity that the fewest equations print, at the simplest of its worst inputs.
    """
    covered, found = opened_by(paragraph), []
    for quantity, row in costs().get(page.__name__, {}).get(DTYPES[0], {}).items() if covered else ():
        printed, cost = printed_by(page, quantity), row.get("certified", {})
        if covered & set(printed) and float(cost.get("C", 0)) > ALLOWED:
            found.append((len(printed), quantity, cost))
    if not found:
        return ""
    _, quantity, cost = min(found, key=lambda one: one[0])
    return f"Printed, {quantity} {loss(float(cost['C']))}{place(cost.get('simplest'))}."


def loss(C):
    """In words; an error has no number where the answer has none."""
    if math.isinf(C):
        return "is infinite or NaN"
    digits = min(16, max(1, round(math.log10(C))))
    return f"loses {digits} of 16 digits"


def place(call):
    """The event of a recorded call, if it is short."""
    event = next((one for one in ast.parse(call, mode="eval").body.keywords), None) if call else None
    text = f" at {event.arg} = {ast.unparse(event.value)}" if event else ""
    return text if len(text) <= LONGEST else ""


def opened_by(paragraph):
    """The numbers of the equations with which a paragraph "In (n), ..." opens."""
    opening = re.match(r"In ([^`]*?), ", paragraph) or re.match(r"In (\(\d+\)(?: (?:to|and) \(\d+\))*)", paragraph)
    if not opening:
        return set()
    ranges = re.findall(r"\((\d+)\) to \((\d+)\)", opening[1])
    return set(map(int, re.findall(r"\d+", opening[1]))).union(*(range(int(a), int(b) + 1) for a, b in ranges))


def printed_by(page, quantity):
    """The numbers of the equations that the textbook's function of a quantity cites, and the functions that it calls."""
    lines = textwrap.dedent(textbook(page)).splitlines()
    functions = {node.name: node for node in ast.parse("\n".join(lines)).body[0].body if isinstance(node, ast.FunctionDef)}
    kind, _, bar = quantity.partition(".")
    todo, seen = [name for name in FUNCTIONS.get(kind, (kind,)) if name in functions], set()
    while todo:
        seen.add(name := todo.pop())
        todo += [node.attr for node in ast.walk(functions[name]) if isinstance(node, ast.Attribute)
                 and node.attr in functions and node.attr not in seen]
    return sorted({int(n) for name in seen for line in lines[functions[name].lineno - 1:functions[name].end_lineno]
                   if (cited := CITED.search(line)) for n in re.findall(r"\d+", cited[1])})


def guarded(page):
    """[(the equations of the first two parts, the equations that keep their digits)] of the paragraphs of the third part."""
    third = parts(joined_text(source_of(page.__module__))).get(HEADINGS[2], "")
    found = []
    for paragraph in third.split("\n\n"):
        if (covered := opened_by(paragraph)):
            found.append((covered, [int(n) for line in paragraph.splitlines() for n in re.findall(r"\s{2,}\((\d+)\)$", line)]))
    return found
