"""refflow check [TARGET]: refflow's own pages, or somebody else's code, held against the truth.

Exit status: 0 where everything passes, 1 where something is found, 2 where it could not run.
"""

from __future__ import annotations

import sys

from . import sweeps
from ..oracle import check
from ..report import DTYPES, progress_cleared, progress_line


def add_command(commands):
    one = commands.add_parser("check", help="check refflow's own pages, or somebody else's code", description=(
        "Without TARGET: refflow's own pages against golden truth, which the bijectors without components have.  With it: the "
        "adapters in a file (a path ending in .py), or those that ship for a library (torch).  Exit status 0: all pass; 1: "
        "findings; 2: could not run."))
    one.add_argument("target", metavar="TARGET", nargs="?", help="a file of adapters, or the name of a library")
    one.add_argument("--json", action="store_true", help="the report as JSON")
    one.add_argument("--page", metavar="NAME", help="only this page")
    one.add_argument("--dtype", choices=DTYPES, action="append", help="only this dtype")
    sweeps.add_options(one)
    one.set_defaults(run=run)


def run(options):
    shown = progress_line if sys.stderr.isatty() else None
    try:
        with sweeps.sweep(options.workers, options.scheduler) as sweep:
            report = check(options.target, page=options.page, dtypes=options.dtype, progress=shown, executor=sweep.executor)
    finally:
        if shown:
            progress_cleared()
    print(report.to_json() if options.json else report.table())
    if report.status == 2:
        print("refflow: nothing could be measured", file=sys.stderr)
    return report.status
