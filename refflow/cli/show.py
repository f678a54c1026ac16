"""refflow show NAME: one page, of any kind: its equations, parameters, certificate and hard cases."""

from __future__ import annotations

import sys

from ..core.declarations import Child, Field
from ..core.registry import REGISTRY
from ..maps import load_all
from ..oracle.check import certified
from ..oracle.pages import page_named
from ..report import aligned, certificate_table


def add_command(commands):
    one = commands.add_parser("show", help="one page: equations, parameters, certificate, hard cases")
    one.add_argument("name", metavar="NAME")
    one.set_defaults(run=run)


def run(options):
    load_all()
    page = page_named(options.name, REGISTRY)
    quantities = certified().get(page.__name__, {})
    parts = [f"{page.__name__}: {sys.modules[page.__module__].__doc__.strip()}", parameters(page),
             certificate_table(quantities) if quantities else "", hard_cases(page)]
    print("\n\n".join(part for part in parts if part))
    return 0


def parameters(page):
    rows = [("parameter", "shape", "constraint", "default")]
    for key, declared in page.declared.items():
        if isinstance(declared, Field):
            shape = f"({', '.join(map(str, declared.shape))}{',' if len(declared.shape) == 1 else ''})"
            rows.append((key, shape, declared.set.rule, "" if declared.default is None else f"{declared.default:g}"))
        elif isinstance(declared, Child):
            rows.append((key, "", "components" if declared.many else f"a {annotation(page, key)}", ""))
        else:
            rows.append((key, "", "plain value", repr(getattr(page, key, ""))))
    return aligned(rows) if len(rows) > 1 else ""


def annotation(page, key):
    """The type that a page writes beside a field."""
    return next(found[key] for cls in page.__mro__ if key in (found := vars(cls).get("__annotations__", {})))


def hard_cases(page):
    cases = getattr(page, "hard_cases", ())
    return aligned([("hard case", "reason"), *((case.name, case.reason) for case in cases)]) if cases else ""
