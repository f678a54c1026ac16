"""The command line: one module for each command, each with `add_command(commands)` and `run(options)` -> exit status.

Exit status 2: it could not run, for whatever reason, a crash included; 130: interrupted; what else there is each command
says.  1 is never anything else than what a command says: a crash is not a finding.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback

from . import baseline, book, check, coverage, data, finding, fit, list_pages, plot, sample, score, show, speak, textbook, truth, vectors
from ..core.version import VERSION
from ..fast import threads
from ..oracle import CannotRun
from ..oracle.asking.whose import Defect
from .options import INTERRUPTED

COMMANDS = (list_pages, show, truth, textbook, book, check, coverage, finding, baseline, vectors, fit, sample, score, speak, data, plot)
PRINTING = (list_pages, show, textbook, coverage, finding)      # compute nothing: no linear algebra library need be loaded


def main(arguments=None) -> int:
    """Run one command and return its exit status."""
    if sys.stdout is None:                          # a shell has closed it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")       # a terminal that lacks a character is not a reason to fail
    try:
        options = parser().parse_args(arguments)
        options.program = arguments is None         # and not a function that another program calls
        printing = options.run in [command.run for command in PRINTING]
        with contextlib.nullcontext() if printing else threads.chosen(options.threads):
            status = options.run(options)
        sys.stdout.flush()
        return status
    except CannotRun as error:
        return failed(error)
    except BrokenPipeError:             # the reader of our output has gone: that is its right
        silence_stdout()
        return 0
    except KeyboardInterrupt:
        failed("interrupted")
        return INTERRUPTED
    except MemoryError as error:
        return failed(f"there is not enough memory{f': {error}' if str(error) else ''}")
    except OSError as error:
        silence_stdout()
        return failed(f"{error.filename or 'standard output'}: {error.strerror or error}")
    except Defect as error:
        traceback.print_exc()
        return failed(error)
    except Exception as error:
        if type(error) is ArithmeticError:          # a map says so of itself: its solver finds nothing, its velocity is too fast
            return failed(error)
        traceback.print_exc()
        return failed(f"crashed by {type(error).__name__}: this is a defect of refflow")


def failed(message) -> int:
    """Say why a command could not run."""
    with contextlib.suppress(OSError):
        print(f"refflow: {message}", file=sys.stderr)
    return 2


def silence_stdout():
    """What could not be written is not tried again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Parser(argparse.ArgumentParser):
    """A parser whose help is lost only with an error; argparse's own ends well if it cannot be written.

    `prepare(parser, arguments)` may add options that depend on the arguments, and returns those to be parsed.
    """

    def __init__(self, *given, prepare=None, **named):
        super().__init__(*given, **named)
        self.prepare = prepare

    def parse_known_args(self, args=None, namespace=None):
        if self.prepare is None:
            return super().parse_known_args(args, namespace)
        options, unknown = super().parse_known_args(self.prepare(self, args), namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")      # below a usage that has the options of these arguments
        return options, unknown

    def _print_message(self, message, file=None):
        if message:
            stream = file or sys.stderr
            stream.write(message)
            stream.flush()


def parser():
    top = Parser(prog="refflow", description="The reference for normalizing flows.")
    top.add_argument("--version", action="version", version=f"refflow {VERSION}")
    top.set_defaults(threads=None)
    commands = top.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        command.add_command(commands)
    return top
