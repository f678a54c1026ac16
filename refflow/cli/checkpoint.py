"""Checkpoints of a fit: a file beside the one that it will write, from which `refflow fit --resume` continues.

FLOW.checkpoint.npz is the file of the best flow so far, which `score`, `sample` and `plot` read, with the state of training
beside it: parameters, optimiser, generator, history, the options of the fit, and a fingerprint of its data.

While a fit is at work, it holds a lock on the file, where the system has such locks, so that no other fit takes it over.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:                     # on Windows
    flock = None  # type: ignore[assignment]

from ..core.version import VERSION
from ..oracle import CannotRun
from ..report import json_text, plain
from ..saving import read_all, save
from ..training import State

NOT_OF_TRAINING = ("run", "written", "out", "force", "json", "resume", "checkpoint_every", "data", "energy", "held_out", "header")


class Checkpoints:
    """The checkpoint of a fit with these options, to a model of these parts of the data."""

    def __init__(self, options, data, parts):
        self.path = path_of(options.out)
        self.every, self.last = options.checkpoint_every, time.monotonic()
        self.note, self.replace, self.able = data.note() | {"model": options.model}, options.force or options.resume, True
        self.left = self.held = None                # the digest of what the interrupted fit has left; the file that is locked
        self.options = plain({key: value for key, value in vars(options).items() if key not in NOT_OF_TRAINING})
        self.data = fingerprint(data, parts)

    # -- writing ------------------------------------------------------------------------------------------------------

    def stepped(self, info, flow):
        """What `fit` calls after each step: write the checkpoint where it is time."""
        if self.every and self.able and time.monotonic() - self.last >= self.every:
            self.write(info["state"]())
            self.last = time.monotonic()

    def write(self, state, out=None):
        """Write a state; `out`: the file, if any, that an interrupted fit leaves.  A fit goes on where this cannot be done."""
        kept = {"refflow": VERSION, "options": self.options, "data": self.data, "step": state.step, "numbers": state.numbers,
                "out": None if out is None else digest_of(out)}
        try:
            new = []  # type: list
            save(state.best, self.path, self.note | {"checkpoint": kept}, state.arrays, self.replace,
                 lambda path: new.append(locked(path)))
            self.hold(*new)
            self.replace = True                     # it is ours now
        except OSError as error:
            self.able = False
            print(f"refflow: {self.path}: {error.strerror or error}; there is no checkpoint", file=sys.stderr)

    def remove(self):
        if self.replace and self.able:
            self.path.unlink(missing_ok=True)

    def hold(self, new):
        """Keep this lock, and no other.  A new file is locked before it is renamed, so that nobody else can lock it in between."""
        before, self.held = self.held, new
        if before is not None:
            before.close()

    def __enter__(self):
        return self

    def __exit__(self, *of):
        if self.held is not None:
            self.held.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    def resumed(self, options):
        """The state to continue from, which must come from the same fit."""
        self.hold(locked(self.path))
        best, kept, arrays = opened(self.path)
        if kept["refflow"] != VERSION:
            raise CannotRun(f"{self.path}: refflow {kept['refflow']} has written it, this is {VERSION}")
        for key, value in self.options.items():
            if kept["options"].get(key) != value:
                raise CannotRun(f"--resume: --{key.replace('_', '-')} is {value}, that of {self.path} "
                                f"{kept['options'].get(key)}; a fit continues with the options that it began with")
        if kept["data"] != self.data:
            raise CannotRun(f"--resume: {options.data or options.energy} does not hold the data of {self.path}")
        self.left = kept["out"]
        return State(kept["step"], best, arrays, kept["numbers"])

    def has_left(self, path):
        """Is it the file that the interrupted fit has written, which this one replaces?"""
        return self.left is not None and Path(path).is_file() and digest_of(path) == self.left


def path_of(out):
    return Path(out).with_suffix(".checkpoint.npz")


def locked(path):
    """The open file, locked until it is closed; None if the system has no locks, or if there is no file."""
    if flock is None or not path.exists():
        return None
    file = open(path, "rb")                             # noqa: SIM115  it stays open
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except OSError:
        file.close()
        raise CannotRun(f"{path}: another fit is at work on it") from None
    return file


def opened(path):
    """(best flow, what is kept of the fit, arrays) of a checkpoint."""
    if not path.exists():
        raise CannotRun(f"--resume: there is no checkpoint {path}")
    try:
        best, note, arrays = read_all(path)
    except ValueError as error:
        raise CannotRun(str(error)) from None
    if not isinstance(note, dict) or not isinstance(note.get("checkpoint"), dict):
        raise CannotRun(f"{path}: it is not a checkpoint")
    return best, note["checkpoint"], arrays


def refuse(options):
    """Refuse a fit in the place of another that can be continued, and one to be continued that would write over a file."""
    path = path_of(options.out)
    if (held := locked(path)) is not None:
        held.close()
    if path.exists() and not (options.force or options.resume):
        raise CannotRun(f"{path} is the checkpoint of a fit that did not end: --resume continues it, --force begins anew")
    if options.resume and not options.force and Path(options.out).exists():
        if digest_of(options.out) != opened(path)[1]["out"]:
            raise CannotRun(f"{options.out} exists, and is not what the fit of {path} has left; --force writes over it")


def digest_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def fingerprint(data, parts):
    """SHA-256 of what the data are and of the values of each part."""
    digest = hashlib.sha256(json_text(data.note()).encode())
    for name, values in parts.items():
        for array in data.arrays(values):
            digest.update(f"{name} {array.dtype} {array.shape} ".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
