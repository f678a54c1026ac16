"""Standard output is a command's own: what other code prints meanwhile goes to standard error."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys


@contextlib.contextmanager
def stdout_apart():
    """Inside, everything written to standard output goes to standard error: by Python, from C, by programs that it starts."""
    sys.stdout.flush()
    with contextlib.redirect_stdout(sys.stderr), descriptor_apart():
        yield


@contextlib.contextmanager
def descriptor_apart():
    """The same of the file descriptor; what still stands in a buffer leaves it before the descriptor is given back."""
    try:
        kept = os.dup(1)
    except OSError:                     # there is no standard output
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        with contextlib.suppress(Exception):
            sys.__stdout__.flush()
        with contextlib.suppress(Exception):                # a system whose C library is not there by this name
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
