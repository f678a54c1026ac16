"""Somebody's code in a process of its own, so that a crash of it ends neither the command nor the report without a line.

The process is a fork, which has imported what this one has: forking takes some milliseconds.  What it finds comes back as JSON.  Where
the system cannot fork, or where another program calls the command as a function, with threads of its own, the work is done here.

A crash does not say what was asked.  The work is then done once more, without workers, and says before each question what it is; the
same questions are asked, in the same order.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import signal
import sys
import tempfile
import traceback
import warnings

from ..oracle import CannotRun
from ..oracle.asking.time_limits import LIMIT
from ..oracle.asking.whose import Defect
from .interruptions import Interruptions
from .sweeps import WorkerEnded

LONGEST = 4096                          # bytes of what is asked, in words
KILLED = "perhaps for lack of memory"
ERRORS = WorkerEnded, CannotRun, KeyboardInterrupt, MemoryError, OSError         # that come back as themselves


def can_isolate():
    """Are there forks?  Those of macOS may not use its own libraries."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def isolated(work, alone, whose):
    """What `work()` returns, plain data, or raises, of a process of its own; `alone()` is the same work without workers.

    CannotRun if `whose` code ends it, with what was asked of it.
    """
    ending, found = forked(work)
    if found is not None and found["error"] != WorkerEnded.__name__:
        return value_of(found)
    ending = ending if found is None else f"of --workers ({KILLED})"
    if found is not None or KILLED not in ending:
        again, words = asked_last(alone)
        ending = (again or ending) + words
    raise CannotRun(f"{whose} has ended the process {ending}")


def asked_last(work):
    """(how another process ended that was asked everything again, None if it did not; in words, what was asked last)."""
    with mmap.mmap(-1, LONGEST) as told:
        told.write(b"while it was imported")
        ending, found = forked(work, told)
        words = told[:].rstrip(b"\0").decode("utf-8", "ignore")
    if found is not None:
        return None, ", and has not when everything was asked again"
    return ending, "" if KILLED in ending else f": {words}"


def forked(work, told=None):
    """(how the process ended, the `outcome` of the work, None if it did not come back)."""
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
    return f"{ending} ({KILLED})" if status == -signal.SIGKILL else ending, json.loads(content) if content else None


def answer_and_end(work, file, told):
    """In the fork: do the work, write what comes of it, and end, whatever their code has left for the end of the process."""
    try:
        if told is not None:
            LIMIT.told = told
            faulthandler.enable()
        file.write(json.dumps(outcome(work)).encode())
        file.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def outcome(work):
    """{"value", "error", "arguments"}: what the work returned; else the name of what it raised, and its arguments."""
    found = {"value": None, "error": None, "arguments": []}
    try:
        return found | {"value": work()}
    except OSError as error:
        return found | {"error": "OSError", "arguments": [error.errno, error.strerror or str(error), error.filename]}
    except ERRORS as error:
        name = next(kind.__name__ for kind in ERRORS if isinstance(error, kind))
        return found | {"error": name, "arguments": [*map(str, error.args)]}
    except Exception as error:
        traceback.print_exc()
        words = str(error) if isinstance(error, Defect) else f"crashed by {type(error).__name__}: this is a defect of refflow"
        return found | {"error": "CannotRun", "arguments": [words]}


def value_of(found):
    """What the work returned; what it raised is raised."""
    for kind in ERRORS:
        if found["error"] == kind.__name__:
            raise kind(*found["arguments"])
    return found["value"]
