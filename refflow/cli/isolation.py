"""Somebody's code in a process of its own, so that a crash of it ends neither the command nor the report without a line.

The process is a fork, which has imported what this one has: forking takes some milliseconds.  Where the system cannot fork, or where
another program calls the command as a function, with threads of its own, the work is done here.

A crash does not say what was asked.  The work is then done once more, and says before each question what it is; the same questions are
asked, in the same order.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import pickle
import signal
import sys
import tempfile
import traceback
import warnings

from .interruptions import Interruptions
from ..oracle import CannotRun
from ..oracle.time_limits import LIMIT
from ..oracle.whose import Defect

LONGEST = 4096                          # bytes of what is asked, in words
KILLED = "perhaps for lack of memory"


def can_isolate():
    """Are there forks?  Those of macOS may not use its own libraries."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def isolated(work, whose):
    """What `work()` returns or raises, of a process of its own.  CannotRun if `whose` code ends it, with what was asked of it."""
    ending, found = forked(work)
    if found is None:
        raise CannotRun(f"{whose} has ended the process {ending}{'' if 'SIGKILL' in ending else asked_last(work)}")
    value, error = found
    if error is not None:
        raise error
    return value


def asked_last(work):
    """": what was asked", found out in another process."""
    with mmap.mmap(-1, LONGEST) as told:
        told.write(b"while it was imported")
        _, found = forked(work, told)
        words = told[:].rstrip(b"\0").decode("utf-8", "ignore")
    return f": {words}" if found is None else ", and has not when everything was asked again"


def forked(work, told=None):
    """(how the process ended, (what the work returned, what it raised)); None in their place if it did not come back."""
    with tempfile.TemporaryFile() as file, Interruptions():
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")         # Python warns of threads, and the linear algebra library's do not mind
            child = os.fork()
        if not child:
            answer_and_end(work, file, told)
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except BaseException:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            raise
        file.seek(0)
        content = file.read()
    ending = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
    return f"{ending} ({KILLED})" if status == -signal.SIGKILL else ending, pickle.loads(content) if content else None


def answer_and_end(work, file, told):
    """In the fork: do the work, write what comes of it, and end, whatever their code has left for the end of the process."""
    try:
        if told is not None:
            LIMIT.told = told
            faulthandler.enable()
        file.write(pickle.dumps(outcome(work)))
        file.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def outcome(work):
    """(what the work returned, None), or (None, what it raised) in a form that can be sent."""
    try:
        return work(), None
    except (CannotRun, KeyboardInterrupt, MemoryError, OSError) as error:
        return None, error
    except Exception as error:
        traceback.print_exc()
        return None, CannotRun(str(error) if isinstance(error, Defect) else f"crashed by {type(error).__name__}: this is a defect of refflow")
