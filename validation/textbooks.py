"""What the textbooks of pages give: the equations as they are printed, run in floats, or with other numbers for the floats.

    python -m validation.textbooks [NAME...]        measures them, and writes what it finds to refflow/oracle/textbooks.json

C is measured at the points and truths of the certificate, at its moderate points and at all of them: the worst, the share of the
points at which C exceeds 4, and the simplest input with an error of at least the root of the worst.  Points at which the truth is
not of first order, which the certificate excuses, are not told apart.  `refflow textbook` prints the table.

A textbook is a class of plain functions of one event, which `@bijector(..., textbook=textbook)` attaches to its page:
    bijector       forward(z), inverse(x), slope(z) or jacobian(z), log_det(z), inverse_log_det(x), vjp(z), inverse_vjp(x)
    conditioner    forward(a), jacobian(a), vjp(a)
All take the fields by name as `definition` does, then the cotangents, and a vjp gives (event_bar, {field: bar}).
"""

from __future__ import annotations

import argparse
import json
import math
import types
from pathlib import Path

import numpy as np

from refflow import oracle
from refflow.core.declarations import Field

from .certify import PAGES, pasted, points, rounded, sides, truth
from .recorded import encoded, written
from .truth import error

TEXTBOOKS = Path(oracle.__file__).parent / "textbooks.json"
SCHEMA = "refflow/textbooks/1"
DTYPES = ("float64", "float32")
ALLOWED = 4
FUNCTIONS = {"bijector": ("forward", "inverse", "log_det", "inverse_log_det", "vjp", "inverse_vjp"),
             "conditioner": ("forward", "jacobian", "vjp")}


def with_numbers(cls, namespace):
    """A class of functions whose code sees `namespace` in the place of NumPy and SciPy."""
    made, functions = type(cls.__name__, (), {}), {}
    for name, function in vars(cls).items():
        if isinstance(function, types.FunctionType):
            known = function.__globals__ | {"np": namespace, "scipy": namespace, cls.__name__: made}
            functions[name] = types.FunctionType(function.__code__, known, name, function.__defaults__)
    for name, function in functions.items():
        setattr(made, name, remembering(function) if name == "inverse" else function)
    return made


def remembering(inverse):
    """An inverse that is computed once for one event: it may be a bisection, and its log-det and vjp ask for it again."""
    last = [None, None]

    def remembered(x, *fields, **named):
        if last[0] is not x:
            last[:] = x, inverse(x, *fields, **named)
        return last[1]

    return remembered


def fields_of(f, number=lambda held: held):
    """The fields as `definition` sees them; `number` is applied to the arrays of a bijector of one event, and to plain floats."""
    held = {key: getattr(f, key) for key in f.declared}
    arrays = {key for key, field in f.declared.items() if isinstance(field, Field) and not field.constant}
    return {key: number(v) if v is not None and key in arrays or isinstance(v, float) else v for key, v in held.items()}


def answers(point, book, number=lambda held: held) -> dict:
    """{quantity: what the textbook gives at a point}, under the names of the truth."""
    f, fields, event = point.f, fields_of(point.f, number), number(point.event)
    back, letter = point.side == "inverse", f.letters[point.side == "inverse"]
    found = {point.side: getattr(book, point.side)(event, **fields)}
    if f.kind == "bijector":
        name = "inverse_log_det" if back else "log_det"
        found[name] = getattr(book, name)(event, **fields)
    if not back:
        found["jacobian"] = [[book.slope(event, **fields)]] if hasattr(book, "slope") else book.jacobian(event, **fields)
    if point.image_bar is not None:
        bars = [number(bar) for bar in (point.image_bar, point.log_det_bar) if bar is not None]
        name = "inverse_vjp" if back else "vjp"
        event_bar, bars = getattr(book, name)(event, *fields.values(), *bars)
        found |= {f"{name}.{letter}_bar": event_bar} | {f"{name}.{key}_bar": bar for key, bar in bars.items()}
    return {name: np.asarray(held) for name, held in found.items()}


# -- what they cost -----------------------------------------------------------------------------------------------------

class Cost:
    """The errors of one quantity of a textbook, at some points."""

    def __init__(self):
        self.found = []

    def add(self, C, point):
        self.found.append((C, point))

    def finished(self, name, dtype):
        worst = max(C for C, _ in self.found)
        calls = [pasted(name, dtype, encoded(point)) for C, point in self.found if C > ALLOWED and C >= math.sqrt(worst)]
        return {"C": rounded(worst), "share": round(sum(C > ALLOWED for C, _ in self.found) / len(self.found), 3),
                "points": len(self.found)} | ({"simplest": min(calls, key=len)} if calls else {})


def costs(page, dtype, every=1) -> dict:
    """{quantity: {"moderate", "certified": its cost}} of a page's textbook, at every so many points of its certificate."""
    found = {}
    for side in sides(page):
        for point in points(page, np.dtype(dtype), side)[::every]:
            for quantity, C in cost(point, page.textbook).items():
                row = found.setdefault(quantity, {"moderate": Cost(), "certified": Cost()})
                row["certified"].add(C, point)
                if point.reason == "moderate":
                    row["moderate"].add(C, point)
    return {quantity: {kind: one.finished(page.__name__, dtype) for kind, one in row.items() if one.found}
            for quantity, row in found.items()}


def cost(point, book) -> dict:
    """{quantity: C} of a textbook at a point; inf for all where it fails."""
    true = truth(point)
    with np.errstate(all="ignore"):
        try:
            given = answers(point, book, lambda held: held if isinstance(held, float) else held[()])
        except (ArithmeticError, ValueError, LookupError):
            return dict.fromkeys(true, np.inf)
    return {name: error(given[name], quantity, point.event.dtype) for name, quantity in true.items()}


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.textbooks", description="What the textbooks of pages cost.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="pages (all that have a textbook)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="at every N-th point alone (1)")
    options = parser.parse_args(arguments)
    stored = json.loads(TEXTBOOKS.read_text())["pages"] if TEXTBOOKS.exists() else {}
    for name in options.names or [name for name, page in PAGES.items() if page.textbook]:
        stored[name] = {dtype: costs(PAGES[name], dtype, options.every) for dtype in DTYPES}
        pages = ",\n".join(f"{json.dumps(key)}: {json.dumps(stored[key])}" for key in PAGES if key in stored)
        written(TEXTBOOKS, f'{{"schema": "{SCHEMA}", "pages": {{\n{pages}}}}}\n')
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
