"""refflow book --out DIR: chapters, whose code is run, the pages as leaves of HTML, and an index."""

from __future__ import annotations

import sys

from ..book import BadPage, NotABook, write_book
from ..oracle import CannotRun
from ..report import json_text, progress_cleared, progress_line


def add_command(commands):
    one = commands.add_parser("book", help="write the pages as HTML", description=(
        "Write the chapters, whose code is run, one leaf per page, its equations beside its code, and an index.  The files need "
        "no network."))
    one.add_argument("--out", metavar="DIR", required=True, help="the directory to write, made where there is none")
    one.add_argument("--page", metavar="NAME", help="only this page or chapter, and the index")
    one.add_argument("--force", action="store_true", help="write into a directory that holds other files too")
    one.add_argument("--json", action="store_true", help="print the paths written as JSON")
    one.set_defaults(run=run)


def run(options):
    shown = progress_line if sys.stderr.isatty() else None
    try:
        written = write_book(options.out, options.page, options.force, shown)
    except NotABook as error:
        raise CannotRun(f"{error}; --force writes into it all the same") from error
    except KeyError as error:
        raise CannotRun(error.args[0]) from error
    except BadPage as error:
        raise CannotRun(str(error)) from error
    finally:
        if shown:
            progress_cleared()
    print(json_text([str(path) for path in written]) if options.json else
          f"{len(written)} files in {options.out}: open {written[-1]}")
    return 0
