"""refflow list: all pages of every kind, with what is to be known of each."""

from __future__ import annotations

from ..core.registry import REGISTRY, chapter
from ..maps import load_all
from ..oracle.check import certified
from ..report import aligned, json_text, largest_error


def add_command(commands):
    one = commands.add_parser("list", help="the pages")
    one.add_argument("--json", action="store_true", help="one object per page")
    one.set_defaults(run=run)


def run(options):
    load_all()
    certificate = certified()
    pages = [facts(page, certificate.get(name, {})) for name, page in REGISTRY.items()]
    print(json_text(pages) if options.json else aligned([HEAD, *map(row, pages)]))
    return 0


# -- facts ------------------------------------------------------------------------------------------------------------

def facts(page, quantities) -> dict:
    """What is to be known of a page; None where its kind has no such fact, or where it depends on the fields."""
    axes, solver = fact(page, "event_ndim"), fact(page, "solver")
    sets = ("support",) if hasattr(page, "support") else ("domain", "codomain")         # of a density; of a map
    return {"name": page.__name__, "kind": page.kind, "chapter": chapter(page), "event_ndim": axes and list(axes),
            "inverse": None if solver is None else "solver" if solver else "closed",
            "domain": None, "codomain": None, "support": None, **{key: written(fact(page, key)) for key in sets},
            "source": fact(page, "source") or "", "certificate": errors_of(quantities)}


def fact(page, name):
    """What a page declares; where that depends on its fields, what holds for its first hard case."""
    found = getattr(page, name, None)
    if isinstance(found, property):
        cases = getattr(page, "hard_cases", ())
        found = getattr(page(**cases[0].params), name) if cases else None
    return found


def written(found):
    return None if found is None else repr(found)


def errors_of(quantities) -> dict:
    """The errors of a page's certificate, without their points."""
    return {quantity: {dtype: {"C": entry["C"], "allowed": entry["allowed"]} for dtype, entry in dtypes.items()}
            for quantity, dtypes in quantities.items()}


# -- the table --------------------------------------------------------------------------------------------------------

HEAD = ("name", "kind", "chapter", "event axes", "domain", "codomain", "inverse", "C", "source")


def row(page):
    axes = " -> ".join(map(str, page["event_ndim"] or ["-"]))
    sets = (page["domain"] or page["support"] or "-", page["codomain"] or "-")
    return (page["name"], page["kind"], page["chapter"], axes, *sets, page["inverse"] or "-",
            largest_error(page["certificate"]), page["source"])
