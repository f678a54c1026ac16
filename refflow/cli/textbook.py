"""refflow textbook [NAME]: what the printed formulas of pages cost in floats, and which equations hold instead."""

from __future__ import annotations

import ast
import re
import sys
import textwrap

from ..book.code import CITED
from ..book.parts import HEADINGS, costs, parts, percent, textbook
from ..core.registry import REGISTRY
from ..maps import load_all
from ..oracle.check import certified
from ..oracle.pages import CannotRun, page_named, spelled
from ..report import DTYPES, aligned, columns, fitted, json_text, number, wrapped

HEAD = ("", "dtype", "moderate", "beyond 4", "certified", "beyond 4", "the page")
FUNCTIONS = {"jacobian": ("jacobian", "slope")}


def add_command(commands):
    one = commands.add_parser("textbook", help="what the printed formulas of a page cost in floats, and what holds instead")
    one.add_argument("name", nargs="?", metavar="NAME", help="a page (all that have a textbook)")
    one.add_argument("--json", action="store_true", help="one object for each page")
    one.set_defaults(run=run)


def run(options):
    load_all()
    measured = costs()
    if options.name:
        page = page_named(spelled(options.name), REGISTRY)
        if page.__name__ not in measured:
            raise CannotRun(f"{page.__name__} has no textbook: its code computes what its equations say")
        measured = {page.__name__: measured[page.__name__]}
    if options.json:
        print(json_text(measured))
    elif options.name:
        print(of_page(page, measured[page.__name__]))
    else:
        print(fitted([("page", *HEAD[1:]), *(row for name in measured for row in worst_rows(name, measured[name]))], columns())[0])
    return 0


# -- tables -----------------------------------------------------------------------------------------------------------

def worst_rows(name, dtypes):
    """A page's largest errors of all quantities, for each dtype."""
    for dtype, quantities in dtypes.items():
        own = [float(row[dtype]["C"]) for row in certified().get(name, {}).values() if dtype in row]
        cells = [cell for kind in ("moderate", "certified") for cell in
                 cells_of({key: max(row[kind][key] for row in quantities.values() if kind in row) for key in ("share",)}
                          | {"C": max(float(row[kind]["C"]) for row in quantities.values() if kind in row)})]
        yield (name, dtype, *cells, number(max(own)) if own else "")


def cells_of(cost):
    return (number(float(cost["C"])), percent(cost)) if cost else ("", "")


def of_page(page, dtypes):
    """The errors of each quantity, then for each that fails: the printed equations, what holds, and the simplest inputs."""
    rows, notes = [(page.__name__, *HEAD[1:])], []
    for quantity in next(iter(dtypes.values())):
        for dtype in DTYPES:
            row = dtypes[dtype].get(quantity, {})
            own = certified().get(page.__name__, {}).get(quantity, {}).get(dtype)
            rows.append((quantity if dtype == DTYPES[0] else "", dtype, *cells_of(row.get("moderate")),
                         *cells_of(row.get("certified")), number(own["C"]) if own else ""))
        failing = {dtype: dtypes[dtype][quantity]["certified"].get("simplest") for dtype in DTYPES if quantity in dtypes[dtype]}
        if any(failing.values()):
            lines = [explained(page, quantity), *(f"    {call}" for call in failing.values() if call)]
            notes.append("\n".join(wrapped(line, columns()) for line in lines))
    return "\n\n".join([aligned(rows), *notes])


def explained(page, quantity):
    """Which equations print the quantity, and which of the third part hold."""
    printed = printed_by(page, quantity)
    guards = [n for opening, numbers in guarded(page) if opening & set(printed) for n in numbers]
    said = " ".join(f"({n})" for n in printed)
    held = " ".join(f"({n})" for n in guards)
    return f"{quantity}: printed in {said}" + (f"; {held} hold" if held else "")


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
    third = parts(sys.modules[page.__module__].__doc__).get(HEADINGS[2], "")
    found = []
    for paragraph in third.split("\n\n"):
        opening = re.match(r"In ([^`]*?), ", paragraph) or re.match(r"In (\(\d+\)(?: (?:to|and) \(\d+\))*)", paragraph)
        if opening:
            numbers = [int(n) for n in re.findall(r"\d+", opening[1])]
            ranges = re.findall(r"\((\d+)\) to \((\d+)\)", opening[1])
            covered = set(numbers).union(*(range(int(a), int(b) + 1) for a, b in ranges))
            found.append((covered, [int(n) for line in paragraph.splitlines() for n in re.findall(r"\s{2,}\((\d+)\)$", line)]))
    return found
