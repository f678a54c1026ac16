"""What the arguments of several commands have in common: numbers, files to be written, interruptions."""

from __future__ import annotations

import argparse
import itertools
import math
import signal
import sys
from pathlib import Path

from ..oracle import CannotRun

INTERRUPTED = 128 + signal.SIGINT
STDOUT = "-"                            # as a file to write


def number_that(convert, holds, rule):
    def checked(text):
        value = convert(text)
        if not holds(value):
            raise ValueError(rule)
        return value

    checked.__name__ = rule                                     # argparse says "invalid <name> value"
    return checked


count = number_that(int, lambda n: n >= 0, "count")
positive_count = number_that(int, lambda n: n >= 1, "count >= 1")
rate = number_that(float, lambda v: 0 < v < math.inf, "positive number")
duration = number_that(float, lambda v: 0 <= v < math.inf, "number of seconds >= 0")
fraction = number_that(float, lambda v: 0 <= v < 1, "fraction in [0, 1)")
counts = number_that(lambda text: tuple(int(n) for n in text.split(",")), lambda ns: min(ns) >= 1, "list of counts >= 1")


def add_seed(command):
    command.add_argument("--seed", type=count, default=0, help="of the random numbers (0)")


def add_threads(command):
    command.add_argument("--threads", type=positive_count, metavar="N", help=(
        "threads to compute with (as many cores as make it faster; or the number in OMP_NUM_THREADS or its like)"))


def add_data(command, several=None):
    command.add_argument("data", metavar="DATA", nargs=several, help="a .npy file, or comma-separated values, also as .gz")
    command.add_argument("--header", action=argparse.BooleanOptionalAction, help=(
        "the first row of the text is the names of the columns, or is not (it is if no cell of it is a number)"))


def add_table_out(command):
    command.add_argument("--out", metavar="FILE", help=(
        ".npy, or text, .csv, .txt or .dat, with .gz after it compressed; by default text on standard output"))


def add_flow(command):
    command.add_argument("flow", metavar="FLOW", help="a file that refflow fit has written")


def add_given(command):
    command.add_argument("--given", metavar="CONTEXT", help=(
        "of a flow with a context: its values as a=1,b=2, or a file with a row for each context"))


def writes_a_file(command, run):
    """The options of a command that writes `--out`, and how it is run.

    A path that must not be written is refused before any work is done for it; interrupted, the command says what is left.
    """
    command.add_argument("--json", action="store_true", help="a report as JSON")
    command.add_argument("--force", action="store_true", help="write over a file that exists")
    command.set_defaults(run=lambda options: interruptible(run, options), written=False)


def interruptible(run, options):
    to_be_written(options.out, options.force or getattr(options, "resume", False))
    try:
        return run(options)
    except KeyboardInterrupt as error:
        left = f"{options.out} is written" if options.written else "nothing was written"
        print(f"refflow: interrupted; {left}", file=sys.stderr)
        return 128 + error.args[0] if error.args else INTERRUPTED


def to_be_written(path, force):
    """Refuse a path that must not be written."""
    if path in (None, STDOUT):
        return
    if not Path(path).resolve().parent.is_dir():
        raise CannotRun(f"{path}: there is no directory {Path(path).parent}")
    if Path(path).is_dir():
        raise CannotRun(f"{path}: it is a directory")
    if Path(path).exists() and not Path(path).is_file():
        raise CannotRun(f"{path}: it is not a regular file")
    if Path(path).exists() and not force:
        raise CannotRun(f"{path} exists; --force writes over it")


def put(options, write):
    """Write `--out` by `write(path, replace)`.

    Where a file of that name has come into being since the command began, the new one gets a name of its own, and
    `options.out` is that name.
    """
    wanted = Path(options.out)
    others = (wanted.with_name(f"{wanted.stem}-{n}{wanted.suffix}") for n in itertools.count(2))
    for path in itertools.chain([wanted], others):
        try:
            write(str(path), options.force)
            break
        except FileExistsError:
            if options.force:
                raise
    if path != wanted:
        print(f"refflow: {wanted} has come into being meanwhile, and is left as it is; {path} is written", file=sys.stderr)
        options.out = str(path)
    options.written = True
