"""How many threads compute: the threads of the linear algebra library, and threads that share the events of a call.

The library starts a thread for each core, and these wait for one another in a loop: on the small products of a flow that costs
several times what it gains.  So it runs on one thread while refflow computes, unless the user has said a number, in the
environment by one of `VARIABLES` or to a command by `--threads`.  A call restores the setting that it has found.

`Threads` lets events share the cores instead.  It only decides who computes what, never which numbers are added in which order,
so that results do not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
LINKED = "numpy._core._multiarray_umath", "scipy.linalg._fblas"        # modules that are linked with NumPy's and SciPy's library
NAMES = ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads64_",
         "openblas_{}_num_threads")

WARM, TRIED, GAIN = 1, 3, 0.95          # of a measurement: calls that do not count, calls that do, and what a core must bring


# -- the number -------------------------------------------------------------------------------------------------------

def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def told():
    """The number that the user has set in the environment, or None."""
    found = (os.environ.get(name, "") for name in VARIABLES)
    return next((int(text) for text in found if text.strip().isdigit() and int(text) >= 1), None)


def available():
    """How many threads may share events: the number that the user has set, or one for each core."""
    return Setting.chosen or told() or cores()


# -- the linear algebra library ---------------------------------------------------------------------------------------

def libraries():
    """{path: (get, set)}: functions for the number of threads of each linear algebra library that is loaded."""
    return of_modules(tuple(name for name in LINKED if name in sys.modules))


@functools.cache
def of_modules(names):
    """The same where these modules are loaded: by threadpoolctl if it is installed.

    Without it, OpenBLAS is known, as in the wheels of NumPy and SciPy.  Any other library keeps its own number.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        paths = [sys.modules[name].__file__ for name in names]
        return {path: found for path in paths if (found := linked(path))}
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return {library.filepath: (library.get_num_threads, library.set_num_threads) for library in found}


def linked(path):
    """(get, set) of the OpenBLAS with which a file is linked, or None."""
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    for name in NAMES:
        if hasattr(library, name.format("set")):
            return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None


class Setting:
    """The numbers of threads that the calls which are running have asked for; the smallest of them holds.

    A library's own number is noted when a call first changes it, and put back when the last one ends: calls may overlap in threads.
    """

    lock, asked, found, chosen = threading.Lock(), [], {}, None  # type: threading.Lock, list, dict, object

    @classmethod
    def begin(cls, count):
        with cls.lock:
            cls.asked.append(count)
            cls.found = {path: get() for path, (get, _) in libraries().items()} | cls.found
            cls.hold()

    @classmethod
    def end(cls, count):
        with cls.lock:
            cls.asked.remove(count)
            cls.hold()
            cls.found = cls.found if cls.asked else {}

    @classmethod
    def hold(cls):
        for path, (get, set_count) in libraries().items():
            wanted = min(cls.asked, default=cls.found.get(path))
            if path in cls.found and get() != wanted:
                set_count(wanted)


@contextlib.contextmanager
def library_threads(count):
    """The linear algebra libraries run on so many threads inside this context."""
    Setting.begin(count)
    try:
        yield
    finally:
        Setting.end(count)


@contextlib.contextmanager
def chosen(count=None):
    """One thread inside this context, or `count` if it is given; without it, the number that the user has set, if there is one."""
    if count is None and (Setting.chosen or told()):
        yield
        return
    for module in LINKED:
        import_module(module)                   # a library that is loaded later would keep its own number
    before, Setting.chosen = Setting.chosen, count or Setting.chosen
    try:
        with library_threads(count or 1):
            yield
    finally:
        Setting.chosen = before


def on_one_thread(function):
    """The function, whose calls run inside `chosen`."""
    @functools.wraps(function)
    def limited(*given, **named):
        with chosen():
            return function(*given, **named)

    return limited


# -- threads that share events ----------------------------------------------------------------------------------------

class Threads:
    """So many threads, this one included; each of them runs the library on one thread."""

    def __init__(self, count):
        self.count, self.pool = count, None

    def run(self, work, count):
        """[work(0), ..., work(count - 1)], at the same time, for a count of at most its own."""
        if count == 1:
            return [work(0)]
        self.pool = self.pool or ThreadPoolExecutor(self.count - 1)
        with library_threads(1):
            others = [self.pool.submit(work, i) for i in range(1, count)]
            try:
                first = work(0)
            finally:
                wait(others)                    # they use arrays that the caller will use again
            return [first, *(other.result() for other in others)]


class Pace:
    """Which number of threads is fastest, from the first calls: each is asked WARM + TRIED times in turn, and its least time counts.

    A number greater than 1 must take less than GAIN of the time of one thread, for it takes a core from others.
    """

    def __init__(self, counts):
        self.seconds, self.choice = {count: [] for count in counts}, None if len(counts) > 1 else counts[0]

    def next(self):
        """The number for the next call."""
        return self.choice or min(self.seconds, key=lambda count: len(self.seconds[count]))

    def took(self, count, seconds):
        """Learn what a call took."""
        if self.choice is None:
            self.seconds[count].append(seconds)
            if all(len(found) == WARM + TRIED for found in self.seconds.values()):
                self.choice = min(self.seconds, key=lambda count: self.least(count) * (GAIN if count == 1 else 1))

    def least(self, count):
        return min(self.seconds[count][WARM:])

    def text(self):
        """What was chosen, or "" before."""
        if self.choice is None:
            return ""
        if len(self.seconds) == 1:
            return counted(self.choice, "thread")
        other = max(count for count in self.seconds if count != self.choice)
        share = self.least(self.choice) / self.least(other)
        return f"{counted(self.choice, 'thread')}, {share:.2f} of the time of {other}"


def counted(count, word):
    return f"{count} {word}{'s' * (count != 1)}"
