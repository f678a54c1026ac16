"""The command line: refflow list, refflow show NAME, refflow check [TARGET]; fit, sample and score are in cli_flows, those
of images in cli_images, plot in cli_plot.

Exit status of `check`: 0 where everything passes, 1 where something is found, 2 where it could not run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from . import flows as cli_flows, plot as cli_plot
from ..core.version import VERSION
from ..core.registry import chapter, has_components, of_kind
from ..core.declarations import Child, Field
from ..maps import load_all
from ..oracle import CannotRun, check
from ..oracle.check import certified
from ..oracle.pages import page_named
from ..oracle.points import simple_bijector
from ..oracle.verdict import aligned, number, plain

DTYPES = ("float64", "float32")


def main(arguments=None) -> int:
    """Run one command and return its exit status."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except CannotRun as error:
        print(f"refflow: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:             # the reader of our output has gone: that is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser():
    top = argparse.ArgumentParser(prog="refflow", description="The reference for normalizing flows.")
    top.add_argument("--version", action="version", version=f"refflow {VERSION}")
    commands = top.add_subparsers(required=True, metavar="command")
    one = commands.add_parser("list", help="the pages")
    one.add_argument("--json", action="store_true", help="one object per page")
    one.set_defaults(run=list_pages)
    one = commands.add_parser("show", help="one page: equations, parameters, certificate, hard cases")
    one.add_argument("name", metavar="NAME")
    one.set_defaults(run=show_page)
    one = commands.add_parser("check", help="check refflow's own pages, or somebody else's code", description=(
        "Without TARGET: refflow's own pages against golden truth.  With it: the adapters in a file (a path ending in .py), "
        "or those that ship for a library (torch).  Exit status 0: all pass; 1: findings; 2: could not run."))
    one.add_argument("target", metavar="TARGET", nargs="?", help="a file of adapters, or the name of a library")
    one.add_argument("--json", action="store_true", help="the report as JSON")
    one.add_argument("--page", metavar="NAME", help="only this page")
    one.add_argument("--dtype", choices=DTYPES, action="append", help="only this dtype")
    one.set_defaults(run=run_check)
    cli_flows.add_commands(commands)
    cli_plot.add_commands(commands)
    return top


# -- check ------------------------------------------------------------------------------------------------------------

def run_check(options):
    shown = progress_line if sys.stderr.isatty() else None
    report = check(options.target, page=options.page, dtypes=options.dtype, progress=shown)
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(report.to_json() if options.json else report.table())
    if report.status == 2:
        print("refflow: nothing could be measured", file=sys.stderr)
    return report.status


def progress_line(done, total, name):
    print(f"\r\033[K{done + 1}/{total} {name}", end="", file=sys.stderr, flush=True)


# -- list -------------------------------------------------------------------------------------------------------------

def listed() -> dict:
    """The bijectors by name."""
    load_all()
    return of_kind("bijector")


def example(page):
    """A bijector of a page: of its default fields, or, where it has components, of its first hard case."""
    if not has_components(page):
        return simple_bijector(page, "float64", 2)
    return page(**page.hard_cases[0].params)


def facts(name, certificate) -> dict:
    """What is to be known of one page; its event ranks are those of an example."""
    page = listed()[name]
    f = example(page)
    return {"name": name, "chapter": chapter(page), "event_ndim": list(f.event_ndim),
            "inverse": "solver" if f.solver else "closed", "domain": repr(f.domain), "codomain": repr(f.codomain),
            "source": page.source, "certificate": errors_of(certificate.get(name, {}))}


def errors_of(quantities) -> dict:
    """The errors of a page's certificate, without their points."""
    return {quantity: {dtype: {"C": entry["C"], "allowed": entry["allowed"]} for dtype, entry in dtypes.items()}
            for quantity, dtypes in quantities.items()}


def list_pages(options):
    certificate = certified()
    pages = [facts(name, certificate) for name in listed()]
    if options.json:
        print(json.dumps(plain(pages), indent=1, allow_nan=False))
        return 0
    rows = [("name", "chapter", "event axes", "domain", "codomain", "inverse", "C", "source")]
    for p in pages:
        rows.append((p["name"], p["chapter"], "{} -> {}".format(*p["event_ndim"]), p["domain"], p["codomain"], p["inverse"],
                     worst(p["certificate"]), p["source"]))
    print(aligned(rows))
    return 0


def worst(quantities):
    """The largest certified error of a page, in units of rounding."""
    errors = [entry["C"] for dtypes in quantities.values() for entry in dtypes.values()]
    return number(max(errors)) if errors else "-"


# -- show -------------------------------------------------------------------------------------------------------------

def show_page(options):
    page = page_named(options.name, listed() | of_kind("conditioner"))
    parts = [f"{page.__name__}: {sys.modules[page.__module__].__doc__.strip()}"]
    parts += [section for section in (parameters(page), certificate_table(page.__name__), cases(page)) if section]
    print("\n\n".join(parts))
    return 0


def parameters(page):
    rows = [("parameter", "shape", "constraint", "default")]
    for key, declared in page.declared.items():
        if isinstance(declared, Field):
            shape = f"({', '.join(map(str, declared.shape))}{',' if len(declared.shape) == 1 else ''})"
            rows.append((key, shape, declared.set.rule, "" if declared.default is None else f"{declared.default:g}"))
        elif isinstance(declared, Child):
            rows.append((key, "", "components" if declared.many else f"a {page.__annotations__[key]}", ""))
        else:
            rows.append((key, "", "plain value", repr(getattr(page, key, ""))))
    return aligned(rows) if len(rows) > 1 else ""


def certificate_table(name):
    quantities = certified().get(name, {})
    rows = [("certificate", *DTYPES)]
    for quantity, dtypes in quantities.items():
        cells = [f"{number(dtypes[d]['C'])} of {number(dtypes[d]['allowed'])}" if d in dtypes else "" for d in DTYPES]
        rows.append((quantity, *cells))
    return aligned(rows) if quantities else ""


def cases(page):
    rows = [("hard case", "reason"), *((case.name, case.reason) for case in page.hard_cases)]
    return aligned(rows) if page.hard_cases else ""
