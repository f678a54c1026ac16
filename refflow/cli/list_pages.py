"""refflow list: all pages of every kind, with what is to be known of each, and the named compositions and models made of them.

They stand chapter by chapter, as in `refflow/maps/README.md`: the pages of a chapter by the names of their files, then its compositions;
models come last.  The table has the columns that the terminal holds; standard error names the others, and --json has them all.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
from importlib import resources

import numpy as np

from .names import MODELS
from .. import oracle
from ..core.registry import REGISTRY, chapter
from ..core.sets import Set
from ..maps import CHAPTERS, load_all
from ..maps import found as named
from ..maps.index import HOME
from ..maps.parametrisations.conventions import users
from ..oracle.check import certified
from ..report import columns, fitted, json_text, largest_error


def add_command(commands):
    one = commands.add_parser("list", help="the pages, the named compositions and the models")
    one.add_argument("--json", action="store_true", help="one object for each")
    one.set_defaults(run=run)


def run(options):
    load_all()
    certificate = certified()
    found = [facts(page, certificate.get(name, {})) for name, page in REGISTRY.items()]
    found += [*map(of_composition, compositions()), *map(of_model, MODELS)]
    found.sort(key=place)
    if options.json:
        print(json_text(found))
        return 0
    text, left_out = fitted([HEAD, *map(row, found)], columns())
    print(text)
    if left_out:
        print(f"refflow: the terminal is too narrow for: {', '.join(left_out)}; --json has all columns", file=sys.stderr)
    return 0


def place(one):
    """Where a chapter stands in the list: the maps' chapters in their order, others after them, models last."""
    order = (*CHAPTERS, None, "models")
    return order.index(one["chapter"] if one["chapter"] in order else None)


# -- facts ------------------------------------------------------------------------------------------------------------

def facts(page, quantities) -> dict:
    """What is to be known of a page; None where its kind has no such fact, or where it depends on the fields.

    `dimension` and `measure` are pairs, of the domain and of the codomain: None for a set of as many dimensions as entries, else
    how many, and whether log_det counts volumes by coordinates, "chart", or by its own volume, "intrinsic".
    """
    axes, solver = fact(page, "event_ndim"), fact(page, "solver")
    sets = ("support",) if hasattr(page, "support") else ("domain", "codomain")         # of a density; of a map
    sides = [fact(page, key) for key in sets] if len(sets) == 2 else [None]
    known = all(isinstance(where, Set) for where in sides)
    return {"name": page.__name__, "kind": page.kind, "chapter": chapter(page), "event_ndim": axes and list(axes),
            "inverse": None if solver is None else "solver" if solver else "closed", "agrees_to": None,
            "domain": None, "codomain": None, "support": None, **{key: written(fact(page, key)) for key in sets},
            "dimension": [dimension(where) for where in sides] if known else None,
            "measure": [where.measure if where.thin else None for where in sides] if known else None,  # type: ignore[union-attr]
            "source": fact(page, "source") or "", "used_by": users(page) if page.kind in ("scale", "parametrisation") else [],
            "certificate": errors_of(quantities)}


def of_model(name) -> dict:
    """The same of a model, which composes pages and has no certificate of its own; its source is the paper it names."""
    paper = re.search(r"arXiv:[\d.]+\d|FrEIA", sys.modules[MODELS[name].__module__].__doc__.split("\n")[0])  # type: ignore[union-attr]
    unknown = dict.fromkeys(("event_ndim", "inverse", "domain", "codomain", "support", "dimension", "measure"))
    return {"name": name, "kind": "model", "chapter": "models", **unknown, "source": paper[0] if paper else "definition",
            "used_by": [], "certificate": {}, "agrees_to": agreement().get(name)}


def compositions() -> list[str]:
    """The functions that return compositions with a name of their own."""
    return [name for name, home in HOME.items() if home.endswith((".named", ".factored"))]


def of_composition(name) -> dict:
    """The same of a named composition, for the default parameters; a composition without defaults has no sets known here."""
    function = named(name)
    needed = any(p.default is p.empty for p in inspect.signature(function).parameters.values())
    f = None if needed else function()
    known = {} if f is None else {"event_ndim": list(f.event_ndim), "domain": written(f.domain), "codomain": written(f.codomain)}
    unknown = dict.fromkeys(("event_ndim", "domain", "codomain", "support", "dimension", "measure", "agrees_to"))
    source = re.search(r"Source: (.*)\.", inspect.getdoc(function))  # type: ignore[arg-type]
    return {"name": name, "kind": "composition", "chapter": HOME[name].split(".")[0], "inverse": "closed", **unknown, **known,
            "source": source[1], "used_by": [], "certificate": {}}  # type: ignore[index]


def agreement() -> dict:
    """{model: the largest relative difference from numbers computed by its authors' code, or by ports of it}."""
    text = (resources.files(oracle) / "agreement.json").read_text(encoding="utf-8")
    return {one["model"]: one["largest"] for one in json.loads(text).values()}


def fact(page, name):
    """What a page declares; where that depends on its fields, what holds for its first hard case."""
    found = getattr(page, name, None)
    if isinstance(found, (property, functools.cached_property)):
        cases = getattr(page, "hard_cases", ())
        found = getattr(page(**cases[0].params), name) if cases else None
    return found


SIZES = (2, 3, 4)
FORMULAS = {1: {"D - 1": lambda D: D - 1},
            2: {"D (D - 1) / 2": lambda D: D * (D - 1) // 2, "D (D + 1) / 2": lambda D: D * (D + 1) // 2,
                "(D - 1)^2": lambda D: (D - 1) ** 2}}


def dimension(where):
    """How many dimensions members of D entries, or of D rows and columns, have; None if as many as entries.

    They are counted at small members; "fewer" where no known formula gives the counts.
    """
    if not where.thin:
        return None
    counts = {D: count for D in SIZES if (count := tangents_of(where, D)) is not None}
    fits = (formula for formula, of in FORMULAS.get(where.member_ndim, {}).items()
            if counts and all(of(D) == count for D, count in counts.items()))
    return next(fits, "fewer")


def tangents_of(where, D):
    """The number of tangents at its simplest member of this size; None if it has none of this size."""
    try:
        member = where.plainest((D,) * where.member_ndim).astype(np.float64)
        return where.basis(member, where.member_ndim).shape[-1]
    except ValueError:
        return None


def written(found):
    return None if found is None else repr(found)


def errors_of(quantities) -> dict:
    """The errors of a page's certificate, without their points."""
    return {quantity: {dtype: {"C": entry["C"], "allowed": entry["allowed"]} for dtype, entry in dtypes.items()}
            for quantity, dtypes in quantities.items()}


# -- the table --------------------------------------------------------------------------------------------------------

HEAD = ("name", "kind", "chapter", "C", "inverse", "event axes", "domain", "codomain", "dimension", "agrees to", "source", "used by")


def row(page):
    axes = " -> ".join(map(str, page["event_ndim"] or ["-"]))
    sets = (page["domain"] or page["support"] or "-", page["codomain"] or "-")
    sizes = page["dimension"] if any(page["dimension"] or ()) else []
    dimensions = " -> ".join(size or "all" for size in sizes) or "-"
    return (page["name"], page["kind"], page["chapter"], largest_error(page["certificate"]), page["inverse"] or "-", axes, *sets,
            dimensions, agreed(page["agrees_to"]), page["source"], "; ".join(page["used_by"]))


def agreed(difference):
    return "-" if difference is None else f"{difference:.0e}"
