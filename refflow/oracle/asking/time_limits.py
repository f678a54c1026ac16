"""How long somebody else's code may take for one answer.

The limit is kept by an alarm of the operating system, SIGALRM, which interrupts Python code on the main thread of a process.
Inside one call of compiled code the alarm waits until that call returns.  On another thread, and on a system without the
signal, there is no alarm: a limit is then refused, and not silently ignored.
"""

from __future__ import annotations

import contextlib
import signal
import threading

from ..points.pages import CannotRun
from .whose import theirs


class OutOfTime(BaseException):
    """The alarm; not an Exception, so that `except Exception` in the code under test does not take it for its own."""


class Limit:
    """The seconds that an answer may take, None for any number; what is being asked, from the outside in.

    `told`: shared memory in which what is asked stands in words, in case that the process crashes.
    """

    seconds, running, asked, told = None, False, (), None


LIMIT = Limit()


@contextlib.contextmanager
def limited(seconds):
    """Inside, each answer has so many seconds.  CannotRun if one takes longer, or if there is no alarm."""
    if seconds is None:
        yield
        return
    refuse_without_alarm(seconds)
    before, LIMIT.seconds = LIMIT.seconds, seconds
    try:
        yield
    except OutOfTime as late:
        raise CannotRun(str(late)) from None
    finally:
        LIMIT.seconds = before


def refuse_without_alarm(seconds):
    if not seconds > 0:
        raise CannotRun(f"time_limit must be a number of seconds above 0, not {seconds!r}")
    if not hasattr(signal, "setitimer"):
        raise CannotRun("time_limit cannot be kept: this system has no alarm that interrupts a function")
    if threading.current_thread() is not threading.main_thread():
        raise CannotRun("time_limit cannot be kept on a thread other than the main one: use processes, as --workers does")


@contextlib.contextmanager
def asking(what):
    """Inside, `what()` says in words what is asked."""
    before = LIMIT.asked
    LIMIT.asked = (*before, what)
    try:
        yield
    finally:
        LIMIT.asked = before


def in_words(*asked):
    return ", ".join(filter(None, (one() for one in asked)))


def in_time(function, what, *arguments):
    """The answer of their function; `what()` says which one it is."""
    if LIMIT.told is not None:
        words = in_words(*LIMIT.asked, what).encode()[:len(LIMIT.told)]
        LIMIT.told[:] = words.ljust(len(LIMIT.told), b"\0")
    if LIMIT.seconds is None or LIMIT.running:
        return theirs(function, *arguments)

    def late(number, frame):
        raise OutOfTime(f"there was no answer within {seconds:g} seconds: {in_words(*asked, what)}")

    seconds, asked, LIMIT.running = LIMIT.seconds, LIMIT.asked, True
    handler = signal.signal(signal.SIGALRM, late)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)     # again, if the code under test went on
    try:
        return theirs(function, *arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, handler)
        LIMIT.running = False
