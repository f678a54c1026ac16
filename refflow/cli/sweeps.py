"""Sweeps: many independent tasks in this process, in processes of their own, or on a Dask cluster.

    add_options(parser)                                 --workers N, --scheduler ADDRESS
    with sweep(workers, scheduler) as one:
        for task, result in one.results(function, following): ...

A task is a tuple of plain arguments.  Its function stands in a module that a worker can import; `run` therefore runs a
command's `main` as a function of its module, whose name under `python -m` would be `__main__`.

On Ctrl-C, SIGTERM or SIGHUP no further task begins, tasks in processes of their own are interrupted, and the caller keeps the
results that it has.  What a cluster's worker has begun runs to its end there.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, wait
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ..fast import threads
from ..oracle import CannotRun
from .interruptions import Interruptions
from .options import positive_count

PACKAGE = Path(__file__).parent.parent
INSTALL = 'distributed is not installed; install it with: python -m pip install "refflow[cluster]"'


def add_options(command, workers=1):
    """The options that say where the tasks of a command run."""
    command.add_argument("--workers", type=positive_count, default=workers, metavar="N", help=f"processes ({workers})")
    command.add_argument("--scheduler", metavar="ADDRESS", help=(
        "run on a Dask cluster instead, as tcp://host:8786; its workers need the same code, and one thread each"))


class WorkerEnded(CannotRun):
    """A process of the pool has ended early."""


@dataclass(frozen=True)
class Sweep:
    """An executor, None for this process, and how many tasks it is given at a time."""

    executor: Executor | None = None
    at_once: float = math.inf

    def results(self, function: Callable, following: Callable) -> Iterator:
        """(task, function(*task)) as they are done; `following()` is the next task, None if none can begin now."""
        if self.executor is None:
            while (task := following()) is not None:
                yield task, function(*task)
            return
        running: dict = {}
        try:
            while True:
                while len(running) < self.at_once and (task := following()) is not None:
                    running[self.executor.submit(function, *task)] = task
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()


def each_of(tasks) -> Callable:
    """`following` of tasks that may begin at any time, in their order."""
    remaining = iter(tasks)
    return lambda: next(remaining, None)


@contextlib.contextmanager
def sweep(workers, scheduler=None):
    """A Sweep in so many processes, for one worker in this process, or on the cluster of a Dask scheduler.

    Raises CannotRun if the cluster does not answer, or if its workers cannot run a sweep.
    """
    with Interruptions():
        if scheduler is not None:
            with cluster(scheduler) as client:
                yield Sweep(client.get_executor(pure=False), len(client.nthreads()) + 1)
        elif workers == 1:
            yield Sweep()
        else:
            with processes(workers) as pool:
                yield Sweep(pool, workers + 1)


# -- processes --------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def processes(workers):
    """A pool of new processes, which does not wait for its tasks if it is interrupted."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import active_children, get_context
    others, context = set(active_children()), get_context("spawn")
    stopping = context.Event()
    pool = ProcessPoolExecutor(workers, context, initializer=apart, initargs=(stopping,))
    try:
        yield Interruptible(pool)
    except BrokenExecutor as error:
        raise WorkerEnded(f"a process of --workers ended early, by what it ran or for lack of memory: {error}") from error
    except BaseException:
        stopping.set()
        for child in set(active_children()) - others:
            interrupt(child)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class Interruptible(Executor):
    """A pool of processes whose tasks can be interrupted."""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, function, /, *arguments):
        return self.pool.submit(interruptible, function, *arguments)


class Worker:
    """This process, if it is one of the pool: an event that is set when the sweep is interrupted, and its number of threads."""

    stopping, threads = None, contextlib.ExitStack()


def apart(stopping):
    """In a new process: the keyboard's Ctrl-C does not reach it and what it forks, so that it is interrupted once, from above.

    What it prints goes to standard error: standard output is the command's own.
    """
    Worker.stopping = stopping
    Worker.threads.enter_context(threads.chosen())
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def interrupt(child):
    """Interrupt a process and its forks; where the system has no process groups, end the process alone."""
    if not hasattr(os, "killpg"):
        child.terminate()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)


def interruptible(function, *arguments):
    """In such a process: an interruption ends a task as an exception does, and none begins after it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if Worker.stopping.is_set():
            raise KeyboardInterrupt
        return function(*arguments)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


# -- clusters ---------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def cluster(address):
    """A client of a Dask scheduler whose workers are fit for a sweep."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise CannotRun(INSTALL) from error
    try:
        client = Client(address, set_as_default=False, timeout=10)
    except (OSError, ValueError) as error:
        raise CannotRun(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        refuse_unfit(client, address)
        yield client


def refuse_unfit(client, address):
    """A worker has one thread, since warnings are errors in a whole process; and the code that is here."""
    threads, here = client.nthreads(), digest(PACKAGE)
    if not threads:
        raise CannotRun(f"the scheduler at {address} has no workers")
    for worker, count in threads.items():
        if count != 1:
            raise CannotRun(f"worker {worker} has {count} threads; start it with: dask worker {address} --nthreads 1")
    for worker, found in client.run(digest_there, on_error="return").items():
        if found != here:
            why = f": {type(found).__name__}: {found}" if isinstance(found, Exception) else ""
            raise CannotRun(f"worker {worker} has not this version of refflow{why}")


def digest_there():
    return digest(PACKAGE)


def digest(*folders) -> str:
    """The identity of the code in some folders."""
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            found.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return found.hexdigest()


# -- commands ---------------------------------------------------------------------------------------------------------

UNITS = ("s", 1, 100), ("min", 60, 6000), ("h", 3600, 360_000), ("days", 86_400, float("inf"))      # (name, seconds, up to)


def time_left(seconds, done, total) -> str:
    """"about 9 min left", where a part of all tasks took so many seconds."""
    if not done:
        return "time left unknown"
    left = seconds / done * (total - done)
    unit, size = next((unit, size) for unit, size, most in UNITS if left < most)
    return f"about {left / size:.0f} {unit} left"


def run(module) -> int:
    """The exit status of a module's `main`: 2 where it cannot run, 130 where it is interrupted."""
    name = module.removesuffix(".__main__").rpartition(".")[2]
    try:
        with threads.chosen():
            return import_module(module).main()
    except CannotRun as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        print(f"{name}: interrupted; the next run goes on from here", file=sys.stderr)
        return 128 + (interruption.args[0] if interruption.args else signal.SIGINT)
