"""The parameters at which somebody's own map is held against a page: {field: value}, from a file or from Python.

A .json file is an object with a number or nested lists of numbers for each field, which may be hex floats ("0x1.8p+1"), "inf" or
"nan" as strings; a .npz file has an array of its name for each field.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path

import numpy as np

from ...core import Bijector
from ...core.declarations import Field
from .pages import CannotRun, page_named


def parameters_in(path) -> dict:
    """{field: array or plain value} of a file.  CannotRun if it is not such a file."""
    path = Path(path)
    if path.suffix not in (".json", ".npz"):
        raise CannotRun(f"{path}: the name of a file of parameters ends in .json or .npz")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                return {key: held[key] for key in held.files}
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CannotRun(f"there is no file {path}") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CannotRun(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CannotRun(f"{path}: a file of parameters is an object, {{field: value}}")
    return {key: decoded(value) for key, value in found.items()}


def decoded(value):
    """Numbers for strings that are numbers: hex floats, inf, nan."""
    if isinstance(value, list):
        return [decoded(one) for one in value]
    if isinstance(value, str):
        read = float.fromhex if "0x" in value.lower() else float        # without 0x, a word such as "add" is a hex number too
        with contextlib.suppress(ValueError):
            return read(value)
    return value


def page_at(page, parameters) -> Bijector:
    """A page by name with these values in its fields.  CannotRun, with the names, for other fields and for values that are refused."""
    made = page_named(page)
    unknown = [key for key in parameters if key not in made.declared]
    if unknown:
        raise CannotRun(f"{page} has no parameter {unknown[0]!r}; it has {', '.join(made.declared) or 'none'}")
    try:
        return made(**{key: field_at(made.declared[key], value, np.float64) for key, value in parameters.items()})
    except (TypeError, ValueError) as error:
        raise CannotRun(f"{page} at these parameters: {error}") from None


def field_at(declared, value, real):
    """A field's array, or a plain value, whose lists stand for tuples."""
    if isinstance(declared, Field):
        return np.array(value, getattr(declared, "dtype", None) or real)
    return tuple(value) if isinstance(value, list) else value
