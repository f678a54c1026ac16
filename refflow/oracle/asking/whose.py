"""Whose an exception is: of the code under test, or of refflow, which asks it.

Their code is called by `theirs`, and by nothing else.  A traceback that passes it is theirs from there on, unless what it called
is refflow's own and calls more of refflow before it raises.  A page of refflow may be the code under test: only what asks counts as
refflow.  What refflow says in exceptions of its own classes is said on purpose.

A process that their code has forked, and that comes back from it, would go on with the check as this one does, and fork again.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import numpy as np

PACKAGE = Path(__file__).parents[2]
ASKING = tuple(f"{PACKAGE / name}{os.sep}" for name in ("oracle", "laws", "testing", "accuracy", "cli"))


class Defect(RuntimeError):
    """refflow's own code has raised: a defect of refflow, by which nothing is said of the code under test."""


def theirs(function, *arguments):
    """What their function returns; what it raises is theirs.  NumPy warns of nothing, and a process that it has forked ends here."""
    process = os.getpid()
    try:
        with np.errstate(all="ignore"):
            return function(*arguments)
    finally:
        if os.getpid() != process:
            os._exit(0)


def is_ours(error):
    """Was it raised by refflow's own code, and not on purpose?"""
    if isinstance(error, MemoryError) or type(error).__module__.startswith("refflow."):
        return False
    ours, called = True, False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is theirs.__code__:
            ours, called = False, True
        elif called:
            called = False
        elif frame.f_code.co_filename.startswith(ASKING):
            ours = True
    return ours


def blame(error):
    """Defect for an exception that is refflow's own; any other one is for the caller to judge."""
    if isinstance(error, Defect):
        raise error
    if is_ours(error):
        at = traceback.extract_tb(error.__traceback__)
        line = next(one for one in reversed(at) if Path(one.filename).is_relative_to(PACKAGE))
        raise Defect(f"refflow's own {Path(line.filename).relative_to(PACKAGE)}, line {line.lineno}, raised {type(error).__name__}: {error}; "
                     "this is a defect of refflow, and says nothing of the code that is checked") from error
