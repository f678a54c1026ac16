"""What the code under test changes for the whole process: it is put back, so that refflow computes and writes as it does by itself.

While it is asked, its answers are computed under NumPy's errors ignored, and what it makes of these ends with the answer.  When
it has been imported, and when the check is over, NumPy's errors and way of printing, the limit of recursion, the handlers of
signals and the standard streams are what they were; when the check is over, the directory is, too, from which their code may
read until then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import numpy as np

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGPIPE")


@contextlib.contextmanager
def put_back(directory=False):
    """Inside, the state of the process may be changed; with `directory`, the working directory, too."""
    changes = [np.seterr, np.set_printoptions, sys.setrecursionlimit, *[os.chdir] * directory]
    before = [np.geterr(), np.get_printoptions(), sys.getrecursionlimit(), *[os.getcwd()] * directory]
    streams, handlers = (sys.stdout, sys.stderr), handlers_of_signals()
    try:
        yield
    finally:
        for change, value in zip(changes, before):
            change(**value) if isinstance(value, dict) else change(value)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.stdout, sys.stderr = streams


def handlers_of_signals():
    """{number: handler}; a thread other than the main one cannot set them."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in SIGNALS if hasattr(signal, name)}
    return {number: handler for number, handler in found.items() if handler is not None}
