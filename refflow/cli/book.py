"""refflow book --out DIR: the pages as leaves of HTML.

Exit status: 0 done; 2 could not run.
"""

from __future__ import annotations

import json
import sys

from ..book import BadPage, NotABook, write_book
from ..oracle import CannotRun


def add_command(commands):
    """Add book to the parser's commands."""
    one = commands.add_parser("book", help="write the pages as HTML", description=(
        "Write one leaf per page, its equations beside its code, and an index.  The files need no network."))
    one.add_argument("--out", metavar="DIR", required=True, help="the directory to write, made where there is none")
    one.add_argument("--page", metavar="NAME", help="only this page, and the index")
    one.add_argument("--force", action="store_true", help="write into a directory that holds other files too")
    one.add_argument("--json", action="store_true", help="print the paths written as JSON")
    one.set_defaults(run=write)


def write(options):
    shown = progress if sys.stderr.isatty() else None
    try:
        written = write_book(options.out, options.page, options.force, shown)
    except NotABook as error:
        raise CannotRun(f"{error}; --force writes into it all the same") from error
    except KeyError as error:
        raise CannotRun(error.args[0]) from error
    except (BadPage, OSError) as error:
        raise CannotRun(str(error)) from error
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(json.dumps([str(path) for path in written], indent=1) if options.json else
          f"{len(written)} files in {options.out}: open {written[-1]}")
    return 0


def progress(done, total, name):
    print(f"\r\033[K{done + 1}/{total} {name}", end="", file=sys.stderr, flush=True)
