"""refflow check [TARGET]: refflow's own pages, or somebody else's code, held against the truth.

Exit status: 0 where everything passes, 1 where something is found, 2 where it could not run.  Below a table, standard error
has the CPU seconds of the process, with its imports and workers: standard output is the same every time.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import sweeps
from ..accuracy.formats import FORMATS
from ..book import report_page
from ..core.registry import REGISTRY
from ..oracle import check
from ..oracle.asking.adapter import imported, peers
from ..oracle.asking.exits import no_exit
from ..oracle.asking.global_state import put_back
from ..oracle.boxes.lawbook import SCHEMA
from ..oracle.checking import of_box
from ..oracle.inputs.command import TIME_LIMIT, check_command
from ..oracle.inputs.onnx_model import check_onnx
from ..oracle.points.pages import CannotRun, spelled
from ..oracle.points.parameters import parameters_in
from ..report import json_text, progress_cleared, progress_line
from ..saving import write_atomically
from ..testing import BlackBox, verdicts
from .isolation import can_isolate, isolated
from .options import put, rate, to_be_written
from .output import stdout_apart


def add_command(commands):
    one = commands.add_parser("check", help="check refflow's own pages, or somebody else's code", description=(
        "Without TARGET, refflow asks its own pages, as far as they have golden points.  TARGET is a file (.py) of adapters or black "
        "boxes, a library whose adapters ship with refflow (torch), or a page (Tanh).  --command asks code in any language, --onnx "
        "an exported model.  Exit status 0: all pass; 1: findings; 2: could not run."))
    target = one.add_mutually_exclusive_group()
    target.add_argument("target", metavar="TARGET", nargs="?", help="a file of adapters, or the name of a library or of a page")
    target.add_argument("--command", metavar="COMMAND", help="a program that answers a line of JSON to each line of JSON "
                        "(refflow/oracle/README.md)")
    target.add_argument("--onnx", metavar="FILE", help="an exported model, run by ONNX Runtime (pip install refflow[onnx])")
    one.add_argument("--time-limit", metavar="SECONDS", type=rate,
                     help=f"for each answer of somebody else's code (of --command {TIME_LIMIT:g}, else none)")
    form = one.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the report as JSON")
    form.add_argument("--markdown", action="store_true", help="the report as a table for a README")
    one.add_argument("--html", metavar="FILE", dest="out", help="write the report, with pictures of the errors, as HTML too")
    one.add_argument("--force", action="store_true", help="write over a file that exists")
    one.add_argument("--page", metavar="NAME", help="only this page")
    one.add_argument("--parameters", metavar="FILE", help=(
        "the parameters of your map, {field: value} as .json, or arrays by name as .npz: the page is asked at these alone"))
    one.add_argument("--dtype", choices=FORMATS, action="append", help="only this dtype")
    sweeps.add_options(one)
    one.set_defaults(run=run)


def run(options):
    to_be_written(options.out, options.force)
    apart = options.program and can_isolate() and (options.onnx is not None or options.target is not None and not is_page(options.target))
    alone = argparse.Namespace(**vars(options) | {"workers": 1, "scheduler": None})
    found = isolated(lambda: told(options), lambda: told(alone), options.target or options.onnx) if apart else told(options)
    print(found["text"], flush=True)
    if found["html"] is not None:
        put(options, lambda path, replace: write_atomically(path, found["html"].encode(), replace))
        print(f"refflow: {options.out} is written", file=sys.stderr)
    if found["status"] == 2:
        print("refflow: nothing could be measured", file=sys.stderr)
    if not options.json and not options.markdown:
        print(f"refflow: {sum(os.times()[:4]):.1f} CPU seconds", file=sys.stderr)
    return found["status"]


def told(options):
    """{"text", "html", "status"}: what the report says, as it is printed and as it is written."""
    report = asked(options)
    text = report.to_json() if options.json else report.markdown() if options.markdown else report.table()
    return {"text": text, "html": None if options.out is None else report_page(report), "status": report.status}


def asked(options):
    """The report, of somebody's code that may do what it likes with standard output and with the state of the process."""
    shown = progress_line if sys.stderr.isatty() else None
    try:
        with put_back(directory=True), stdout_apart(), sweeps.sweep(options.workers, options.scheduler) as sweep:
            return report_on(options, {"page": options.page, "dtypes": options.dtype, "progress": shown,
                                       "executor": sweep.executor, "keep_errors": options.out is not None})
    finally:
        if shown:
            progress_cleared()


def report_on(options, restricted):
    restricted["parameters"] = None if options.parameters is None else parameters_in(options.parameters)
    if options.command is not None:
        return check_command(options.command, time_limit=options.time_limit or TIME_LIMIT, **restricted)
    restricted["time_limit"] = options.time_limit
    if options.command is None and options.onnx is None and (found := boxes_in(options.target)):
        return of_boxes(found, options, restricted)
    if options.onnx is not None:
        return check_onnx(options.onnx, **restricted)
    if options.page is None and is_page(options.target):
        return check(**restricted | {"page": options.target})
    return check(options.target, **restricted)


def boxes_in(target):
    """{name: BlackBox} of a file without adapters, {} for any other target."""
    path = Path(target or "")
    if path.suffix != ".py" or not path.is_file() or "BlackBox" not in path.read_text(encoding="utf-8", errors="replace"):
        return {}
    began = os.getcwd()
    module, adapters = imported(path)
    if adapters:
        os.chdir(began)                         # they are imported again, from here
    return {} if adapters else {name: value for name, value in vars(module).items() if isinstance(value, BlackBox)}


def of_boxes(boxes, options, restricted):
    """The laws of every box of a file; or, with a page, its report on them."""
    if options.page is not None:
        adapters = [of_box(box, spelled(options.page), restricted["parameters"], name) for name, box in boxes.items()]
        return check(adapters, **restricted | {"page": None, "parameters": None})
    if options.markdown or options.out is not None or restricted["parameters"] is not None:
        raise CannotRun(f"{options.target} has black boxes, which without --page have no --markdown, --html and --parameters")
    with no_exit(options.target, Path(options.target)):
        return Boxes({name: verdicts(box, time_limit=options.time_limit) for name, box in boxes.items()})


class Boxes(dict):
    """{name: its verdicts} of the boxes of a file."""

    @property
    def status(self):
        found = {one.status for one in self.values()}
        return 1 if 1 in found else max(found)

    def table(self):
        return "\n\n".join(f"{name}\n{one}" for name, one in self.items())

    def to_json(self):
        return json_text({"schema": SCHEMA, "boxes": [{"name": name} | one.as_dict() for name, one in self.items()]})


def is_page(target):
    """Is it the name of a page, and not of a file or a library?"""
    return target is not None and target not in peers() and spelled(target) in REGISTRY
