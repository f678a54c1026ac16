"""Somebody else's code may not end the process: an exit status of theirs is not a verdict of ours.

`sys.exit()` raises SystemExit, which is not an Exception and would leave the check with the status that it carries.  `os._exit`
asks nobody; while their code runs it raises too.  A process that their code has forked may end as it likes.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from ..points.pages import CannotRun


OUTCOME = "OutcomeException"          # what pytest calls the exceptions by which a test is skipped, or fails


class Ended(SystemExit):
    """os._exit was called."""


class Exits:
    """os._exit, exchanged while a check runs in any thread."""

    def __init__(self):
        self.own, self.lock, self.checks, self.process = os._exit, threading.Lock(), 0, None

    def __call__(self, status):
        if os.getpid() == self.process:
            raise Ended(status)
        self.own(status)

    @contextlib.contextmanager
    def raised(self):
        self.count(1)
        try:
            yield
        finally:
            self.count(-1)

    def count(self, more):
        with self.lock:
            self.checks += more
            os._exit, self.process = (self, os.getpid()) if self.checks else (self.own, None)


EXITS = Exits()


@contextlib.contextmanager
def no_exit(what, file=None):
    """Whatever leaves the process from inside is an error of use, with its line in their file; an interruption is none."""
    with EXITS.raised():
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            if OUTCOME in {base.__name__ for base in type(error).__mro__}:
                raise
            call = "os._exit" if isinstance(error, Ended) else "sys.exit" if isinstance(error, SystemExit) else "raise"
            given = repr(error.code) if isinstance(error, SystemExit) else type(error).__name__
            raise CannotRun(f"{what} would have ended the check by {call}({given}){at_line(error, file)}") from error


def at_line(error, path):
    """The line of the user's file at which an exception passed last."""
    line, step = None, error.__traceback__
    while step is not None:
        if path is not None and Path(step.tb_frame.f_code.co_filename).resolve() == Path(path).resolve():
            line = step.tb_lineno
        step = step.tb_next
    return "" if line is None else f" (line {line})"
