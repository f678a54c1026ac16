"""Baselines: the errors of somebody's code on the day it began to be tested, in a TOML file.

    schema = "refflow/baseline/1"

    [test_spline.test_rqs.float64]
    log_det = 1.2e+06
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from ...saving import write_atomically
from ..points.pages import CannotRun

SCHEMA = "refflow/baseline/1"
BARE = re.compile(r"[A-Za-z0-9_-]+")
HEAD = """# The errors that `refflow baseline` measured, in units of u kappa.
# A test fails where one has grown by half and is beyond the allowance.
"""


def key(name):
    """A TOML key."""
    return name if BARE.fullmatch(name) else json.dumps(name)


def text_of(errors) -> str:
    """The file of {(file, function): {(quantity, dtype): C}}."""
    lines = [HEAD + f'schema = "{SCHEMA}"']
    for name, held in sorted(errors.items()):
        for dtype in sorted({d for _, d in held}):
            lines += ["", f"[{'.'.join(map(key, (*name, dtype)))}]"]
            lines += [f"{key(quantity)} = {C:#.3g}" for (quantity, d), C in held.items() if d == dtype]
    return "\n".join(lines) + "\n"


def write(path, errors):
    """Write a baseline, whole or not at all; an existing one is replaced."""
    write_atomically(path, text_of(errors).encode())


def found(name, beside) -> Path:
    """The file of that name beside the file of a test, or in a directory above it.  CannotRun if there is none."""
    for directory in Path(beside).resolve().parents:
        if (directory / name).is_file():
            return directory / name
    raise CannotRun(f"there is no baseline {name} beside {beside} or above it: `refflow baseline {beside} --out {name}` writes "
                    "it")


def read(path) -> dict:
    """{(file, function): {(quantity, dtype): C}} of a baseline.  CannotRun for anything else."""
    try:
        held = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotRun(f"{path} is not a baseline: {error}") from None
    if held.get("schema") != SCHEMA:
        raise CannotRun(f"{path} has schema {held.get('schema')!r}; this version of refflow reads {SCHEMA!r}")
    return {name: {(quantity, dtype): checked(path, (*name, dtype, quantity), C) for dtype, errors in dtypes
                   for quantity, C in tables(path, (*name, dtype), errors)}
            for name, dtypes in functions(path, held)}


def functions(path, held):
    """((file, function), {dtype: errors}.items()) for each function."""
    for file, inner in held.items():
        if file != "schema":
            for function, dtypes in tables(path, (file,), inner):
                yield (file, function), tables(path, (file, function), dtypes)


def tables(path, where, held):
    if not isinstance(held, dict):
        raise CannotRun(f"{path}: {'.'.join(where)} must be a table, not {held!r}")
    return list(held.items())


def checked(path, where, C):
    """An error: a number >= 0, perhaps infinite."""
    if isinstance(C, bool) or not isinstance(C, (int, float)) or not C >= 0:
        raise CannotRun(f"{path}: {'.'.join(where)} must be a number >= 0, not {C!r}")
    return float(C)
