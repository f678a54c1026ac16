"""The command line: one module for each command, each with `add_command(commands)` and `run(options)` -> exit status.

Exit status 2: it could not run; 130: interrupted; what else there is each command says.
"""

from __future__ import annotations

import argparse
import os
import sys

from . import book, check, data, fit, list_pages, plot, sample, score, show
from ..core.version import VERSION
from ..oracle import CannotRun

COMMANDS = (list_pages, show, book, check, fit, sample, score, data, plot)


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
    for command in COMMANDS:
        command.add_command(commands)
    return top
