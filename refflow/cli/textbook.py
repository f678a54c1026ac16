"""refflow textbook [NAME]: what the printed formulas of pages cost in floats, and which equations hold instead.

Of a page, each quantity is shown at a moderate input and at the simplest of the worst: what the printed equations give, what the page
gives, how many digits are lost, and two lines to paste.
"""

from __future__ import annotations

import ast
import re
import textwrap

import numpy as np

from ..book.code import CITED
from ..book.pages import source_of
from ..book.parts import HEADINGS, costs, parts, percent, textbook
from ..core.docstrings import joined_text
from ..core.registry import REGISTRY
from ..maps import load_all
from ..oracle.check import certified
from ..oracle.points.pages import CannotRun, page_named, spelled
from ..report import DTYPES, aligned, columns, fitted, json_text, number, wrapped

HEAD = ("", "dtype", "moderate", "beyond 4", "certified", "beyond 4", "the page")
WIDEST, DIGITS = 100, 16                # columns of a line that is pasted; of a float64
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
    """The errors of each quantity, then for each that fails: the printed equations, what holds, and inputs that show it."""
    rows, notes = [(page.__name__, *HEAD[1:])], []
    for quantity in next(iter(dtypes.values())):
        for dtype in DTYPES:
            row = dtypes[dtype].get(quantity, {})
            own = certified().get(page.__name__, {}).get(quantity, {}).get(dtype)
            rows.append((quantity if dtype == DTYPES[0] else "", dtype, *cells_of(row.get("moderate")),
                         *cells_of(row.get("certified")), number(own["C"]) if own else ""))
        calls = [dtypes[dtype][quantity].get(kind, {}).get("simplest") for dtype in DTYPES if quantity in dtypes[dtype]
                 for kind in ("moderate", "certified") if kind == "certified" or dtype == DTYPES[0]]
        if any(calls):
            shown = [line for call in dict.fromkeys(filter(None, calls)) for line in shown_input(page, quantity, call)]
            notes.append("\n".join(wrapped(line, columns()) for line in [explained(page, quantity), *shown]))
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
    third = parts(joined_text(source_of(page.__module__))).get(HEADINGS[2], "")
    found = []
    for paragraph in third.split("\n\n"):
        opening = re.match(r"In ([^`]*?), ", paragraph) or re.match(r"In (\(\d+\)(?: (?:to|and) \(\d+\))*)", paragraph)
        if opening:
            numbers = [int(n) for n in re.findall(r"\d+", opening[1])]
            ranges = re.findall(r"\((\d+)\) to \((\d+)\)", opening[1])
            covered = set(numbers).union(*(range(int(a), int(b) + 1) for a, b in ranges))
            found.append((covered, [int(n) for line in paragraph.splitlines() for n in re.findall(r"\s{2,}\((\d+)\)$", line)]))
    return found


# -- an input, and what the printed equations give there ----------------------------------------------------------------

def shown_input(page, quantity, call):
    """A recorded input, what the printed equations and the page give there, and two lines to paste.

    The recorded call stands alone for float32, for other pages than bijectors, for inputs with components or too many numbers to
    paste, and where the printed equations end in an error.
    """
    alone = [f"    {call}"]
    given = None if "float32" in call or page.kind != "bijector" else input_of(call)
    if given is None or "." in quantity and not given[-1]:
        return alone
    params, letter, event, bars = given
    name = f"{page.__name__}({', '.join(f'{key}={held!r}' for key, held in params.items())})"
    paste = [f"    >>> f, {letter} = {name}, np.{'array' if np.ndim(event) else 'float64'}({event!r})",
             f"    >>> {', '.join(expressions(page, quantity, letter, bars))}"]
    if max(map(len, paste)) > WIDEST:
        return alone
    try:
        found = both(page, page(**params), quantity, np.asarray(event, np.float64)[()], bars)
    except (ArithmeticError, ValueError, LookupError):
        return alone
    return [f"    {letter} = {event!r}", f"        {compared(*found)}", *paste]


def input_of(call):
    """({field: value}, the event's letter, the event, cotangents) of a recorded call; None if a field is not plain numbers."""
    recorded = ast.parse(call, mode="eval").body
    try:
        params = {one.arg: ast.literal_eval(one.value) for one in recorded.args[0].keywords}
        given = {one.arg: ast.literal_eval(one.value) for one in recorded.keywords if one.arg != "dtype"}
    except ValueError:
        return None
    (letter, event), *bars = given.items()
    return params, letter, event, [bar for _, bar in bars]


def expressions(page, quantity, letter, bars):
    """What the printed equations and the page give, as code for f and the event."""
    kind, _, bar = quantity.partition(".")
    fields, given = "".join(f", f.{key}" for key in page.declared), ", ".join(map(repr, bars))
    if bar:
        part = "[0]" if bar == f"{letter}_bar" else f"[1][{bar.removesuffix('_bar')!r}]"
        return f"f.textbook.{kind}({letter}{fields}, {given}){part}", f"f.{kind}({letter})[1]({given}){part}"
    if kind == "inverse_log_det":
        return f"f.textbook.{kind}({letter}{fields})", f"f.inverse_and_log_det({letter})[1]"
    slope = kind == "jacobian" and hasattr(page.textbook, "slope")
    return f"f.textbook.{'slope' if slope else kind}({letter}{fields})", f"f.{kind}({letter}){'[0, 0]' if slope else ''}"


@np.errstate(all="ignore")
def both(page, f, quantity, event, bars):
    """The arrays of `expressions`."""
    (kind, _, bar), book = quantity.partition("."), page.textbook
    fields = [held[()] if isinstance(held := getattr(f, key), np.ndarray) else held for key in f.declared]
    if bar:
        bars = [np.asarray(one, np.float64)[()] for one in bars]
        found = getattr(book, kind)(event, *fields, *bars), getattr(f, kind)(event)[1](*bars)
        of_event = bar == f"{f.letters[kind != 'vjp']}_bar"
        return tuple(np.asarray(event_bar if of_event else rest[bar.removesuffix("_bar")]) for event_bar, rest in found)
    slope = kind == "jacobian" and hasattr(book, "slope")
    own = f.inverse_and_log_det(event)[1] if kind == "inverse_log_det" else getattr(f, kind)(event)
    return np.asarray(getattr(book, "slope" if slope else kind)(event, *fields)), np.asarray(own[0, 0] if slope else own)


def compared(printed, own):
    """The entry that loses most: what is printed, what the page gives, and how many digits are lost."""
    printed, own = np.broadcast_arrays(printed, own)
    with np.errstate(all="ignore"):
        lost = np.log10(np.abs(printed - own) / np.abs(own)) + DIGITS
    lost = np.where(printed == own, 0, np.where(np.isnan(lost), np.inf, lost))
    i = np.unravel_index(np.argmax(lost), lost.shape)
    given, place = float(printed[i]), f" at {list(map(int, i))}" if i else ""
    digits = min(DIGITS, max(0, round(float(min(lost[i], DIGITS)))))
    what = f"{digits} of {DIGITS} digits lost" if np.isfinite(given) else "not a number" if np.isnan(given) else "infinite"
    return f"printed {given!r}, the page {float(own[i])!r}{place}: {what}"
