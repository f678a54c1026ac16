"""A process that has imported already what this one has: its exit status and its output, without the second of its start."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
import warnings

SECONDS = 120               # after which it gets SIGALRM
UNWRITTEN = 120             # Python's own exit status where the last of the output cannot be written


def forked(work, stdout=None, encoding="utf-8"):
    """(exit status, or minus the signal that ended it; stdout, stderr) of a fork that ends with `work()`, a status.

    Warnings are errors there.  `stdout`: a file that gets its output instead.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, warnings.catch_warnings():
        warnings.simplefilter("ignore")             # of the threads of pytest-xdist and JAX, which the fork does not use
        child = os.fork()
        if not child:
            end_with(work, stdout or out, err, encoding)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, *(stream.seek(0) or stream.read().decode() for stream in (out, err))


def end_with(work, out, err, encoding):
    """Do the work, and end as Python does."""
    status = 1
    try:
        signal.alarm(SECONDS)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = open(1, "w", encoding=encoding, closefd=False)
        sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)
        warnings.simplefilter("error")
        status = work()
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
    os._exit(flushed(status))


def flushed(status):
    try:
        sys.stdout.flush()
    except OSError:
        traceback.print_exc()
        return UNWRITTEN
    finally:
        sys.stderr.flush()
    return status
