"""What tests of authors' numbers share: files as theirs of any configuration, made by torch, and which quantities differ."""

from __future__ import annotations

import json

import numpy as np

from validation import original


def far(read):
    """({quantities that differ by more than is allowed}, keys that nothing reads) of what a file's reader returns."""
    found, unread = read
    return {name for name, value in found.items() if not original.passes(value)}, unread


def read_made(authors, folder, config, arrays):
    """What the reader of these authors' files, a module, says of a file that is made in the folder, and that is of no other system."""
    path = folder / "made.npz"
    np.savez(path, cfg=json.dumps(config), **arrays)
    assert [system for _, system, _ in original.files_of(None, [path])] == [authors.__name__.rpartition(".")[2]]
    return authors.read(path)


def arrays_of(given, out, parameters, prefix=""):
    """The arrays of a file by its keys: what is given, with gradients where there are any, what comes out, and the parameters."""
    found = {f"in/{name}": value for name, value in given.items() if value is not None}
    found |= {f"gradin/{name}": value.grad for name, value in given.items() if value is not None and value.grad is not None}
    found |= {f"out/{name}": value for name, value in out.items()}
    found |= {f"param/{prefix}{name}": value for name, value in parameters.items()}
    found |= {f"grad/{prefix}{name}": value.grad for name, value in parameters.items() if value.grad is not None}
    return {name: value.detach().numpy() for name, value in found.items()}


def renamed(file, names):
    """(configuration, arrays) of a file with other names of arrays, {old: new}; None leaves one out."""
    config, arrays = file
    return config, {names.get(key, key): value for key, value in arrays.items() if names.get(key, key) is not None}


def changed(file, key):
    """The same file with a wrong number."""
    config, arrays = file
    return config, arrays | {key: arrays[key] * (1 + 1e-6)}
