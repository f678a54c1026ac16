"""refflow baseline FILE: the errors of the functions under `page_tests` in a file, recorded for later runs to compare with.

Exit status: 0 where it was written, 2 where it could not run.
"""

from __future__ import annotations

from pathlib import Path

from ..oracle import CannotRun
from ..oracle.asking.adapter import load
from ..oracle.asking.global_state import put_back
from ..oracle.items.page_items import TESTED, errors
from ..oracle.judging import baseline
from ..report import counted, number
from .output import stdout_apart

OUT = "tests/refflow.toml"


def add_command(commands):
    one = commands.add_parser("baseline", help="record the errors of code, for tests that fail where they grow", description=(
        "Measures every function under @page_tests in FILE, and writes C, the error in units of u kappa, of each quantity and "
        "dtype to a TOML file.  A test with baseline=\"THAT FILE\" fails where C has grown by half and is beyond the allowance."))
    one.add_argument("file", metavar="FILE", help="a file of tests")
    one.add_argument("--out", metavar="FILE", default=OUT, help=f"the baseline, replaced if it exists (default: {OUT})")
    one.set_defaults(run=run)


def run(options):
    if not Path(options.out).resolve().parent.is_dir():
        raise CannotRun(f"--out {options.out}: the directory does not exist")
    with put_back(directory=True), stdout_apart():
        found = measured(options.file)
    baseline.write(options.out, found)
    worst = max(C for held in found.values() for C in held.values())
    print(f"{options.out}: {counted(sum(map(len, found.values())), 'error')} of {counted(len(found), 'function')}, the largest "
          f"{number(worst)} units")
    return 0


def measured(file):
    """The errors of every function under page_tests in a file; CannotRun where there are none."""
    loaded = load(file)
    tested = [TESTED[one.function] for one in loaded.adapters if one.function in TESTED]
    if not tested:
        raise CannotRun(f"{loaded.name} has no function under @page_tests")
    found = {own.name: errors(own) for own in tested}
    empty = next((own for own in tested if not found[own.name]), None)
    if empty:
        raise CannotRun(f"{empty.adapter.theirs}: nothing could be measured")
    return found
