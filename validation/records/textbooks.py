"""What the textbooks of pages give: the equations as they are printed, run in floats, or with other numbers for the floats.

`python -m validation.certify` measures them at the points and truths of its own run: C at the moderate points and at all of them,
the worst, the share of the points at which C exceeds 4, and the simplest input with an error of at least the root of the worst.
Points at which the truth is not of first order, which the certificate excuses, are not told apart.  It writes what it finds to
refflow/oracle/textbooks.json; `refflow textbook` prints the table.

A textbook is a class of plain functions of one event, which `@bijector(..., textbook=textbook)` attaches to its page:
    bijector            forward(z), inverse(x), slope(z) or jacobian(z), log_det(z), inverse_log_det(x), vjp(z), inverse_vjp(x)
    conditioner         forward(a), slope(a) or jacobian(a), vjp(a)
    scale               forward(s), log(s), vjp(s)
    density             log_prob(z), log_prob_vjp(z)
    parametrisation     fields(h), vjp(h)
All take the fields by name as `definition` does, then the cotangents, and a vjp gives (event_bar, {field: bar}).  The fields that
a parametrisation computes are a dictionary, and its vjp takes a cotangent for each of them, in the order of `names`.  A component,
such as a coupling's network, comes as itself: its forward, jacobian and vjp of one event.
"""

from __future__ import annotations

import functools
import json
import math
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import scipy

from refflow import oracle
from refflow.core.declarations import Child, Field
from refflow.core.printed import with_numbers
from refflow.core.tree import flatten
from refflow.truth.along import error_of_claim
from refflow.truth.measure import cores_of

from ..points.recorded import encoded, written
from .calls import pasted, rounded

TEXTBOOKS = Path(oracle.__file__).parent / "textbooks.json"
SCHEMA = "refflow/textbooks/1"
DTYPES = ("float64", "float32")
ALLOWED = 4


@dataclass(frozen=True)
class Methods:
    """What a textbook is asked on one side of a kind."""

    values: tuple[str, ...]                     # functions of the event and the fields; "jacobian" may be a `slope`
    vjp: str                                    # the function that takes cotangents, too
    bars: Callable = lambda point: [bar for bar in (point.image_bar, point.log_det_bar) if bar is not None]


METHODS = {
    ("bijector", "forward"): Methods(("forward", "log_det", "jacobian"), "vjp"),
    ("bijector", "inverse"): Methods(("inverse", "inverse_log_det"), "inverse_vjp"),
    ("conditioner", "forward"): Methods(("forward", "jacobian"), "vjp"),
    ("scale", "forward"): Methods(("forward", "log"), "vjp", lambda point: point.image_bar),
    ("density", "forward"): Methods(("log_prob",), "log_prob_vjp"),
    ("parametrisation", "forward"): Methods(("fields",), "vjp", lambda point: cores_of(point.f, point.image_bar)),
}


class InDtype:
    """NumPy and SciPy, giving numbers of one dtype: the logarithm of a plain number is float64, and would lift what follows.

    `held` are modules, or one function, whose attributes are functions too, as np.subtract.outer.
    """

    def __init__(self, dtype, *held):
        self.dtype, self.held = np.dtype(dtype), held

    def __getattr__(self, name):
        found = next(getattr(held, name) for held in self.held if hasattr(held, name))
        is_function = callable(found) and not isinstance(found, type)
        return InDtype(self.dtype, found) if is_function or isinstance(found, types.ModuleType) else found

    def __call__(self, *given, **named):
        found = self.held[0](*given, **named)
        return found.astype(self.dtype) if getattr(found, "dtype", None) == np.float64 else found


@functools.cache
def in_dtype(book, dtype):
    """A textbook whose numbers are of one dtype."""
    return book if dtype == np.float64 else with_numbers(book, InDtype(dtype, np, scipy))


def same(held):
    return held


def fields_of(f, number=same, component=same):
    """The fields as `definition` sees them; `number` is applied to arrays and plain numbers, `component` to components."""
    def seen(field, held):
        return number(held) if is_number(field, held) else component(held) if isinstance(field, Child) else held

    return {key: seen(field, getattr(f, key)) for key, field in f.declared.items()}


def plain(held):
    """A number for an array without axes."""
    return held[()] if isinstance(held, np.ndarray) else held


def is_number(field, held):
    return isinstance(held, float) or isinstance(field, Field) and not field.constant and held is not None


def answers(point, book, number=same, component=same) -> dict:
    """{quantity: what the textbook gives at a point}, under the names of the truth."""
    f, methods = point.f, METHODS[point.f.kind, point.side]
    fields, event, found = fields_of(f, number, component), number(point.event), {}
    for name in methods.values:
        found |= named(name, value(book, name, event, fields))
    if point.image_bar is not None:
        event_bar, bars = getattr(book, methods.vjp)(event, *fields.values(), *map(number, methods.bars(point)))
        bars = {f.letters[point.side == "inverse"]: event_bar} | bars
        found |= {f"{methods.vjp}.{'.'.join(path)}_bar": bar for path, bar in flatten(bars)}
    return {name: np.asarray(held) for name, held in found.items()}


def value(book, name, event, fields):
    if name == "jacobian" and hasattr(book, "slope"):
        return [[book.slope(event, **fields)]]
    return getattr(book, name)(event, **fields)


def named(name, held):
    """{quantity: array}: several arrays are quantities of their own."""
    return {f"{name}.{key}": array for key, array in held.items()} if isinstance(held, dict) else {name: held}


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


class Costs:
    """What a page's textbook costs at the points that it is told, with their truths; nothing where a page has no textbook."""

    def __init__(self, page):
        self.page, self.found = page, {}

    def add(self, point, true):
        for quantity, C in by_field(cost(point, self.page.textbook, true)).items() if self.page.textbook else ():
            row = self.found.setdefault(quantity, {"moderate": Cost(), "certified": Cost()})
            row["certified"].add(C, point)
            if point.reason == "moderate":
                row["moderate"].add(C, point)

    def finished(self, dtype):
        """{quantity: {"moderate", "certified": its cost}}."""
        return {quantity: {kind: one.finished(self.page.__name__, dtype) for kind, one in row.items() if one.found}
                for quantity, row in self.found.items()}


def cost(point, book, true) -> dict:
    """{quantity: C} of a textbook at a point whose truth is known; inf for all where it fails."""
    with np.errstate(all="ignore"):
        try:
            given = answers(point, in_dtype(book, point.event.dtype), plain)
        except (ArithmeticError, ValueError, LookupError):
            return dict.fromkeys(true, np.inf)
    return {name: error_of_claim(given[name], quantity, point.event.dtype) for name, quantity in true.items()}


def of_field(quantity):
    """vjp.net_bar for vjp.net.layers.0.W_bar: the cotangents of a component's parameters are one quantity."""
    method, *path = quantity.split(".")
    return f"{method}.{path[0]}_bar" if len(path) > 1 else quantity


def by_field(errors):
    """The largest error of each field."""
    groups = {}
    for quantity, C in errors.items():
        groups[of_field(quantity)] = max(C, groups.get(of_field(quantity), 0))
    return groups


def stored() -> dict:
    """{page: {dtype: {quantity: {"moderate", "certified": its cost}}}} as it is recorded."""
    return json.loads(TEXTBOOKS.read_text())["pages"]


def write(found, names):
    """Replace the costs of some pages, and leave out all but `names`, the pages that have a textbook."""
    pages = (stored() if TEXTBOOKS.exists() else {}) | found
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(pages[name])}" for name in names if name in pages)
    written(TEXTBOOKS, f'{{"schema": "{SCHEMA}", "pages": {{\n{lines}}}}}\n')


def changed(found, recorded) -> list[str]:
    """Where costs that were measured again differ from those that are recorded: by a tenth, or a hundredth of the points."""
    texts = []
    for (name, dtype, quantity, kind), now in flat(found).items():
        before = flat(recorded).get((name, dtype, quantity, kind))
        same = before and np.isclose(float(now["C"]), float(before["C"]), rtol=0.1, atol=1) and \
            abs(now["share"] - before["share"]) <= 0.01
        if not same:
            texts.append(f"{name} {dtype} {quantity}: its textbook costs C = {now['C']}, {now['share']:.1%} beyond {ALLOWED}, at "
                         f"{kind} points; recorded " + (f"{before['C']}, {before['share']:.1%}" if before else "nothing"))
    return texts


def flat(costs):
    return {(name, dtype, quantity, kind): one for name, dtypes in costs.items() for dtype, quantities in dtypes.items()
            for quantity, row in quantities.items() for kind, one in row.items()}
