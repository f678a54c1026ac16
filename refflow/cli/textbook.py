"""refflow textbook [NAME]: what the printed formulas of pages cost in floats, and which equations hold instead.

Of a page, each quantity is shown at a moderate input and at the simplest of the worst: what the printed equations give, what the page
gives, how many digits are lost, and lines to paste that run from an installed refflow.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap

import numpy as np

from ..book.lost import guarded, printed_by
from ..book.parts import costs, percent
from ..book.running import answer
from ..core.registry import REGISTRY
from ..core.tree import flatten
from ..maps import load_all
from ..oracle.check import certified
from ..oracle.points.pages import CannotRun, page_named, spelled
from ..report import DTYPES, aligned, columns, fitted, json_text, number, wrapped

HEAD = ("", "dtype", "moderate", "beyond 4", "certified", "beyond 4", "the page")
WIDEST, SHORT = 100, 60                 # columns of a line that is pasted; of the beginning of a longer input
LONGEST, PROMPT = 8, "    >>> "         # lines to paste of one input


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


# -- an input, and what the printed equations give there ----------------------------------------------------------------

def shown_input(page, quantity, call):
    """A recorded input, what the printed equations and the page give there, and lines to paste that give both.

    Of an input with more numbers than a few lines hold, its beginning alone.
    """
    given, letter, event, bars, dtype = input_of(page, call)
    whole, part = f"    {letter} = {event}" + f", {dtype}" * (dtype != DTYPES[0]), quantity.partition(".")[2]
    bars = bars if part.endswith("_bar") else {}
    held = {"f": given, letter: f"np.{dtype}({event})"} | {name: f"np.{dtype}({value})" for name, value in bars.items()}
    rest = {name: value for name, value in held.items() if name != "f"}
    ways = ([held], [{"f": given}, rest], [{name: value} for name, value in held.items()])
    ways = [[f"{', '.join(part)} = {', '.join(part.values())}" for part in way] for way in ways]
    statements = next((way for way in ways if max(map(len, way)) <= WIDEST - len(PROMPT)), ways[-1])
    codes = expressions(page, quantity, letter, tuple(bars))
    try:
        with np.errstate(all="ignore"):
            path, found = worst_leaf(answer([*statements, ", ".join(codes)], namespace()), dtype)
    except (ArithmeticError, ValueError, LookupError, TypeError):
        return [cut(whole)]
    statements.append(", ".join(code + path for code in codes))
    lines = [line for statement in statements for line in prompted(statement)]
    if len(lines) > LONGEST or max(map(len, lines)) > WIDEST:
        return [cut(whole)]
    said = compared(*found, np.dtype(dtype))
    return [*prompted(whole.strip(), "    ", "        "), f"        {said}", *lines] if said else []


def worst_leaf(found, dtype):
    """(its path, as code; what is printed and what the page gives) of the array that loses most."""
    printed, own = ({path: np.asarray(held) for path, held in flatten(one)} for one in found)
    worst = max(printed, key=lambda path: np.max(digits_lost(printed[path], own[path], dtype), initial=0))
    return "".join(f"[{key!r}]" for key in worst), (printed[worst], own[worst])


def prompted(text, first=PROMPT, others="    ... "):
    """The lines of a statement, broken at spaces."""
    return textwrap.wrap(text, WIDEST, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False)


def cut(line):
    return f"{line[:SHORT].rpartition(', ')[0] or line}, ...: `--json` has the whole input"


def input_of(page, call):
    """(code of the page with its fields, the event's letter, the event, {cotangent: its numbers}, dtype) of a recorded call."""
    recorded = Infinities().visit(ast.parse(call, mode="eval").body)
    value, given = recorded.args[0], {one.arg: one.value for one in recorded.keywords}
    dtype = given.pop("dtype").attr
    (letter, event), *bars = given.items()
    value.keywords = [one for one in value.keywords if not is_default(page, one)]
    code, made = ast.unparse(value), dict(bars)
    code += f".astype(np.{dtype})" * (dtype != DTYPES[0] and bool(page.declared))
    if "sigma_bars" in made:                                    # of sigma and of its logarithm
        made = dict(zip(("sigma_bar", "log_bar"), made["sigma_bars"].elts))
    if "fields_bar" in made:
        numbers, made = made["fields_bar"].elts, {}
        f = answer([code], namespace())
        for name, core in zip(f.names, f.cores):
            size = math.prod(core)
            made[f"{name}_bar"] = ast.parse(str(nested([ast.unparse(n) for n in numbers[:size]], core)).replace("'", "")).body[0].value
            numbers = numbers[size:]
    return code, letter, ast.unparse(event), {name: ast.unparse(bar) for name, bar in made.items()}, dtype


def is_default(page, keyword):
    default = inspect.signature(page).parameters[keyword.arg].default
    return isinstance(default, (bool, int, float, str)) and ast.unparse(keyword.value) in (repr(default), f"np.{default!r}")


class Infinities(ast.NodeTransformer):
    """inf and nan as NumPy's."""

    def visit_Name(self, node):
        return ast.parse(f"np.{node.id}", mode="eval").body if node.id in ("inf", "nan") else node


def nested(numbers, shape):
    return np.array(numbers, object).reshape(shape).tolist()


def namespace():
    return {"np": np} | {name: page for name, page in REGISTRY.items()}


def expressions(page, quantity, letter, bars):
    """What the printed equations and the page give, as code for f, the event and the cotangents."""
    kind, _, bar = quantity.partition(".")
    fields, given = "".join(f", f.{key}" for key in page.declared), ", ".join(bars)
    if bar.endswith("_bar"):
        path = "".join(f"[{key!r}]" for key in bar.removesuffix("_bar").split("."))
        part = "[0]" if bar == f"{letter}_bar" else f"[1]{path}"
        handed = "{" + ", ".join(f"{one.removesuffix('_bar')!r}: {one}" for one in bars) + "}" if page.kind == "parametrisation" else given
        return f"f.textbook.{kind}({letter}{fields}, {given}){part}", f"f.{kind}({letter})[1]({handed}){part}"
    if page.kind == "parametrisation":
        return f"f.textbook.fields({letter}{fields})[{bar!r}]", f"f.vjp({letter})[0][{bar!r}]"
    if kind == "inverse_log_det":
        return f"f.textbook.{kind}({letter}{fields})", f"f.inverse_and_log_det({letter})[1]"
    slope = kind == "jacobian" and hasattr(page.textbook, "slope")
    return f"f.textbook.{'slope' if slope else kind}({letter}{fields})", f"f.{kind}({letter}){'[0, 0]' if slope else ''}"


def digits_lost(printed, own, dtype):
    """How many of the dtype's digits each entry loses; inf where nothing is left."""
    with np.errstate(all="ignore"):
        lost = np.log10(np.abs(printed - own) / np.abs(own)) + held_by(dtype)
    return np.where(printed == own, 0, np.where(np.isnan(lost), np.inf, lost))


def held_by(dtype):
    return math.ceil(-math.log10(np.finfo(dtype).eps))


def compared(printed, own, dtype=np.dtype(DTYPES[0])):
    """The entry that loses most: what is printed, what the page gives, and how many digits are lost; "" if none are."""
    printed, own = np.broadcast_arrays(printed, own)
    lost, held = digits_lost(printed, own, dtype), held_by(dtype)
    i = np.unravel_index(np.argmax(lost), lost.shape)
    given, place = float(printed[i]), f" at {list(map(int, i))}" if i else ""
    digits = min(held, max(0, round(float(min(lost[i], held)))))
    what = f"{digits} of {held} digits lost" if np.isfinite(given) else "not a number" if np.isnan(given) else "infinite"
    return f"printed {given!r}, the page {float(own[i])!r}{place}: {what}" if digits else ""
