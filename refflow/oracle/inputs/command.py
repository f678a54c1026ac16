"""`refflow check --command`: code in any language, as a process that answers one line of JSON to each line of JSON.

    check_command("./mine", page="Tanh")

The messages are described in schemas/protocol.json.  Real numbers are hex floats, as C's %a prints them, so that every bit
arrives.  The process is the harness: it says at the start which pages, dtypes and quantities it has, answers one quantity of
one page at a time, and ends when it is told to stop, or at the end of its input.  Whatever it does that the protocol does not
foresee stops the check with one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import tempfile
import threading

import numpy as np

from ...core.declarations import Field
from ..asking.adapter import Adapter, AdapterSet
from ..check import check
from ..judging.verdict import Report
from ..points.golden import array, hexes
from ..points.page_points import LETTER
from ..points.pages import CannotRun, page_named
from ..points.schema import first_line, shown, violation

SCHEMA = "refflow/protocol/1"
TIME_LIMIT = 60.0           # seconds for an answer
LONGEST = 2**26             # bytes of an answer
SHOWN = 200                 # characters of what it says of itself
VALUES, FUNCTIONS = ("forward", "log_det", "jacobian"), ("inverse", "inverse_log_det")
PULLBACKS = {"vjp": "forward", "inverse_vjp": "inverse"}


class HarnessError(Exception):
    """The harness says that its code failed at this input."""


def check_command(command, *, time_limit=TIME_LIMIT, **options) -> Report:
    """Check the code that answers as a process.

    `command` is a line as for a shell, without its expansions; `time_limit` is for each answer, in seconds; `options` are
    the other arguments of `check`, as `page` and `dtypes`.  Raises CannotRun if the process cannot be started, ends before it
    is told to, is silent for too long, or writes what the protocol does not foresee.
    """
    with Process(command, time_limit) as process:
        report = check(adapters(process), **options)
        report.notes += process.stop()
    return report


# -- the process ------------------------------------------------------------------------------------------------------

class Process:
    """A harness that runs: `ask` writes a request and returns the answer, which the schema describes."""

    def __init__(self, command, time_limit=TIME_LIMIT):
        self.command, self.time_limit = command, time_limit
        self.failure, self.count, self.thread = None, 0, None

    def __enter__(self):
        try:
            words = shlex.split(self.command, posix=os.name == "posix")
        except ValueError as error:
            raise CannotRun(f"--command {self.command}: {error}") from None
        if not words:
            raise CannotRun("--command: the command is empty")
        self.said = tempfile.TemporaryFile()
        try:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said,
                                            start_new_session=True)
        except (OSError, ValueError) as error:
            self.said.close()
            raise CannotRun(f"{self.command} cannot be started: {getattr(error, 'strerror', None) or error}") from None
        return self

    def __exit__(self, *raised):
        self.kill()
        if self.thread is not None:
            self.thread.join(1)
        if self.thread is None or not self.thread.is_alive():
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):              # what could not be written is lost with its reader
                    pipe.close()
        self.said.close()

    def kill(self):
        """End the process and what it has started, unless it has ended."""
        if self.process.poll() is not None:
            return
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def ask(self, request, about):
        """The answer to a request; `about` says in a message which one it is."""
        if self.failure is not None:
            raise CannotRun(self.failure)
        line = self.exchanged(json.dumps(request).encode() + b"\n", about)
        answer = self.decoded(line, about)
        if isinstance(answer, dict) and answer.get("answer") == "refused" and self.kept(answer, "refused_answer", about):
            self.fail(f"refused {about}: {first_line(answer['reason'])[:SHOWN]}")
        self.kept(answer, f"{request['request']}_answer", about)
        if answer.get("id") != request.get("id"):
            self.fail(f"gave the answer to request {answer['id']} where {about} was asked")
        return answer

    def exchanged(self, line, about):
        """The line that follows what is written; both may block, so a thread does it."""
        box = queue.Queue()
        self.thread = threading.Thread(target=lambda: box.put(self.talk(line)), daemon=True)
        self.thread.start()
        try:
            found = box.get(timeout=self.time_limit)
        except queue.Empty:
            self.fail(f"did not answer {about} within {self.time_limit:g} seconds (a program must flush each line)")
        if not found:
            self.fail(f"{self.ending()} at {about}")
        if not found.endswith(b"\n"):
            self.fail(f"gave an unfinished or too long line as the answer to {about}: {begin(found)}")
        return found

    def talk(self, line):
        with contextlib.suppress(OSError):                      # a process that has ended has an empty answer
            self.process.stdin.write(line)
            self.process.stdin.flush()
        return self.process.stdout.readline(LONGEST)

    def decoded(self, line, about):
        try:
            return json.loads(line.decode("utf-8"), parse_constant=not_json)
        except (ValueError, RecursionError):
            self.fail(f"answered {about} with a line that is not JSON: {begin(line)}; its other words belong on standard error")

    def kept(self, answer, definition, about):
        found = violation(answer, "protocol", definition)
        if found is not None:
            self.fail(f"answered {about} against the protocol: {found}")
        return True

    def ending(self):
        """How the process ended, in words; it is given a moment to do so."""
        try:
            status = self.process.wait(1)
        except subprocess.TimeoutExpired:
            return "closed its standard output"
        text = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        self.said.seek(max(0, self.said.seek(0, os.SEEK_END) - 2000))
        last = self.said.read().decode("utf-8", "backslashreplace").strip().splitlines()[-1:]
        return text + (f" (its last words: {last[0][:200]})" if last else "")

    def fail(self, text):
        """Nothing can be asked after this; a check that has swallowed the exception meets it again."""
        self.failure = f"{self.command} {text}"
        self.kill()
        raise CannotRun(self.failure)

    def stop(self):
        """Tell the process to stop; the notes that its end is worth."""
        self.ask({"request": "stop"}, "the request to stop")
        self.process.stdin.close()
        try:
            status = self.process.wait(self.time_limit)
        except subprocess.TimeoutExpired:
            self.fail(f"did not end within {self.time_limit:g} seconds of its answer to stop")
        return [f"{self.command} {self.ending()}"] if status else []


def begin(line):
    return shown(line[:200].decode("utf-8", "backslashreplace").rstrip())


def not_json(name):
    raise ValueError(name)


# -- its answers as adapters ------------------------------------------------------------------------------------------

def adapters(process) -> AdapterSet:
    """What the process says that it has, as adapters."""
    start = process.ask({"request": "start", "schema": SCHEMA}, "the request to start")
    name = start["name"]
    found = [declared(process, name, entry) for entry in start["pages"]]
    if not found:
        raise CannotRun(f"{process.command} has no pages")
    return AdapterSet(name, start.get("version", "without a version"), tuple(found))


def declared(process, name, entry) -> Adapter:
    """The adapter of one entry of the answer to start."""
    try:
        page = page_named(entry["page"])
    except CannotRun as error:
        raise CannotRun(f"{process.command}: {error}") from None
    real = [key for key, field in page.declared.items() if isinstance(field, Field) and not field.constant]
    limits = entry.get("limits", {})
    unknown = sorted(set(limits) - set(real))
    if unknown:
        raise CannotRun(f"{process.command}: {entry['page']} has no real field {unknown[0]!r}; it has {real}")
    return Adapter(asked(process, entry["page"], entry["quantities"]), entry["page"], tuple(entry["dtypes"]), theirs=name,
                   params={key: within(limit) for key, limit in limits.items()},
                   flush_to_zero=entry.get("flush_to_zero", False), chart_gradient=entry.get("chart_gradient", False))


def within(limit):
    low, high = (float.fromhex(limit.get(end, default)) for end, default in (("low", "-inf"), ("high", "inf")))
    return lambda value: np.all((low <= value) & (value <= high))


def asked(process, page, quantities):
    """The function of an adapter: each quantity is asked when it is read."""

    def mine(params, z):
        def run(quantity, event, *bars):
            return answered(process, page, quantity, params, event, bars)

        found = {}
        for quantity in quantities:
            if quantity in VALUES:
                found[quantity] = Later(lambda quantity=quantity: run(quantity, z))
            elif quantity in FUNCTIONS:
                found[quantity] = lambda x, quantity=quantity: run(quantity, x)
            elif quantity == "vjp":
                found[quantity] = lambda x_bar, log_det_bar: run("vjp", z, x_bar, log_det_bar)
            else:
                found[quantity] = lambda x, z_bar, log_det_bar: run("inverse_vjp", x, z_bar, log_det_bar)
        return found

    return mine


class Later:
    """An array that is asked for when NumPy reads it."""

    def __init__(self, ask):
        self.ask = ask

    def __array__(self, dtype=None, copy=None):
        return self.ask()


def answered(process, page, quantity, params, event, bars):
    """An array or, of a pullback, (event_bar, {field: bar}); HarnessError if the harness's code failed."""
    process.count += 1
    request = {"request": "run", "id": process.count, "page": page, "dtype": event.dtype.name, "quantity": quantity,
               "params": {key: sent(value) for key, value in params.items()}, "event": hexes(event)}
    request |= {key: hexes(bar) for key, bar in zip(("image_bar", "log_det_bar"), bars)}
    about = f"request {process.count} ({page} {quantity}, {event.dtype.name})"
    answer = process.ask(request, about)
    if ("error" in answer) == ("value" in answer):
        process.fail(f"answered {about} against the protocol: either value or error is needed")
    if "error" in answer:
        raise HarnessError(first_line(answer["error"])[:SHOWN])
    value, single = answer["value"], quantity not in PULLBACKS
    if single != is_array(value):
        process.fail(f"answered {about} against the protocol: value must be "
                     f"{'an array' if single else 'an object with an array for each cotangent'}")
    if single:
        return received(process, value, event.dtype, about)
    letter = f"{LETTER[PULLBACKS[quantity]]}_bar"
    known = {letter, *(f"{key}_bar" for key in params)}
    found = {key: received(process, part, event.dtype, about) for key, part in value.items()}
    for wrong in [letter] * (letter not in found) + sorted(set(found) - known):
        process.fail(f"answered {about} against the protocol: it {'has an unknown' if wrong in found else 'lacks the'} "
                     f"cotangent {wrong!r}")
    return found.pop(letter), {key.removesuffix("_bar"): bar for key, bar in found.items()}


def is_array(value):
    return set(value) == {"shape", "values"}


def sent(value):
    """A field as JSON: real numbers in arrays of hex floats; a size, a name or a list of them as it is."""
    if isinstance(value, (np.ndarray, np.generic, float)):
        return hexes(value)
    return [sent(v) for v in value] if isinstance(value, (tuple, list)) else value


@np.errstate(over="ignore")
def received(process, stored, dtype, about):
    """An array of the dtype; numbers between two floats are rounded."""
    if len(stored["values"]) != int(np.prod(stored["shape"])):
        process.fail(f"answered {about} against the protocol: {len(stored['values'])} values for the shape {stored['shape']}")
    try:
        return array(stored, dtype)
    except (ValueError, OverflowError) as error:
        process.fail(f"answered {about} with what is not an array of numbers: {error}")
