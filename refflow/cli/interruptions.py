"""Interruptions of a long command: Ctrl-C, and the signals by which a shell or a machine ends one, SIGTERM and SIGHUP."""

from __future__ import annotations

import contextlib
import signal
import threading

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interruptions:
    """A context in which each of these signals is a KeyboardInterrupt, unless it is ignored, as under nohup.

    After the first of them, and inside `held()`, others wait: what was found is being saved.
    """

    def __init__(self):
        self.number, self.waiting, self.hold, self.before = signal.SIGINT, False, False, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            found = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
            self.before = {n: signal.getsignal(n) for n in found if signal.getsignal(n) not in (signal.SIG_IGN, None)}
        for number in self.before:
            signal.signal(number, self.heard)
        return self

    def __exit__(self, *error):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def heard(self, number, frame):
        self.number = number
        if self.hold:
            self.waiting = True
        else:
            self.hold = True
            raise KeyboardInterrupt(number)

    @contextlib.contextmanager
    def held(self):
        """No interruption inside; one that came is raised at the end."""
        self.hold = True
        yield
        self.hold = False
        if self.waiting:
            self.waiting = False
            raise KeyboardInterrupt(self.number)

    @property
    def status(self):
        """The exit status of a command that was interrupted."""
        return 128 + self.number
