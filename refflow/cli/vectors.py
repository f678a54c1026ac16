"""refflow vectors export DIR, refflow vectors verify DIR: golden vectors as files.

Exit status of verify: 0 where everything is as the manifest says, 1 where something is not, 2 where it is not understood.
"""

from __future__ import annotations

from ..accuracy.formats import FORMATS
from ..oracle.inputs import vectors
from ..report import counted, json_text

SCHEMA = "refflow/vectors-report/1"


def add_command(commands):
    one = commands.add_parser("vectors", help="golden vectors as files, for code in any language", description=(
        "Exact inputs, their truth to 30 digits, and the allowance of every number, as JSON files with a manifest; the schema "
        "comes with them.  Exit status of verify: 0: all as the manifest says; 1: something is not; 2: it is not understood."))
    inner = one.add_subparsers(required=True, metavar="action")
    export = inner.add_parser("export", help="write them into a new directory")
    export.add_argument("directory", metavar="DIR", help="a new or an empty directory")
    export.add_argument("--page", metavar="NAME", action="append", help="only this page; may be repeated")
    export.add_argument("--dtype", choices=list(FORMATS), action="append", help=(
        "only the points that are asked in this format: bfloat16 has those whose one truth serves every format"))
    verify = inner.add_parser("verify", help="read a directory back and compare it with its manifest")
    verify.add_argument("directory", metavar="DIR")
    for action, run in ((export, run_export), (verify, run_verify)):
        action.add_argument("--json", action="store_true", help="the report as JSON")
        action.set_defaults(run=run)


def run_export(options):
    files = vectors.export(options.directory, options.page, options.dtype)["files"]
    return told(options, len(files), sum(entry["points"] for entry in files), [])


def run_verify(options):
    found = vectors.verify(options.directory)
    return told(options, found.pages, found.points, found.problems)


def told(options, pages, points, problems):
    if options.json:
        print(json_text({"schema": SCHEMA, "directory": options.directory, "pages": pages, "points": points,
                         "problems": problems}))
    else:
        print("\n".join([*problems, f"{options.directory}: {counted(pages, 'page')}, {counted(points, 'point')}"
                         + (f", {counted(len(problems), 'problem')}" if problems else "")]))
    return 1 if problems else 0
