"""Columns on which a flow is conditioned: p(x | a, b) is the density of the other columns, given these.

A flow sees them standardised; what they are in the units of the table is kept in its file, and no command asks for more.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .dataset import likeliest
from .tables import read_table
from ..maps.normalization import ActNorm
from ..oracle import CannotRun
from ..report import counted
from ..training.gaussians import standardised


@dataclass(frozen=True)
class Context:
    """`columns`: the indices of the context's columns in a table; `names`: theirs, or None; `mean` and `std` of each."""

    columns: tuple
    names: tuple | None
    mean: tuple
    std: tuple

    absent = None  # type: tuple | None  # the context that stands for none, where there is one

    def note(self):
        return {"columns": self.columns, "mean": self.mean, "std": self.std}

    def words(self):
        """What messages call them: "a, b", or "column 1, column 3"."""
        return ", ".join(self.keys() if self.names else (f"column {key}" for key in self.keys()))

    def keys(self):
        """What a user calls them: their names, or their numbers from 1 if the table has no names."""
        return self.names or tuple(str(j + 1) for j in self.columns)

    def standardised(self, values):
        """Values (N, C), in the units of the table, as the flow sees them."""
        return ActNorm(np.array(self.std), np.array(self.mean)).inverse(values)

    def refuse(self, found):
        """CannotRun for contexts (M, C) that a flow does not take."""
        bad = np.argwhere(~np.isfinite(self.standardised(found)))
        if len(bad):
            i, j = bad[0]
            raise CannotRun(f"--given: {self.keys()[j]} is {found[i, j]:g}, which is too large")


def context_of(table, text) -> Context | None:
    """The context of a table that `--context` names, None if it names none."""
    if text is None:
        return None
    columns = tuple(column_named(table, name) for name in entries(text))
    if not columns:
        raise CannotRun("--context names no column")
    for i, j in enumerate(columns):
        if j in columns[:i]:
            raise CannotRun(f"--context: {table.column(j)} comes twice")
    if len(columns) == table.values.shape[1]:
        raise CannotRun("--context: no column is left whose density could be learned")
    values = table.values[:, columns]
    for j, constant in zip(columns, np.ptp(values, 0) == 0):
        if constant:
            raise CannotRun(f"{table.source}: {table.column(j)} is the constant {table.values[0, j]:g}, on which nothing can "
                            "depend; leave it out of --context")
    units = standardised(values)[0]
    names = table.names and tuple(table.names[j] for j in columns)
    return Context(columns, names, tuple(units.bias.tolist()), tuple(units.scale.tolist()))


def column_named(table, name):
    """The index of a column, from its name, or from its number if the table has no names."""
    if table.names:
        if name not in table.names:
            raise CannotRun(f"--context: {table.source} has no column {name!r}; {likeliest(name, table.names)}")
        found = [j + 1 for j, other in enumerate(table.names) if other == name]
        if len(found) > 1:
            raise CannotRun(f"--context: {table.source} has {len(found)} columns named {name!r}, the columns "
                            f"{', '.join(map(str, found))}; give each its own name")
        return table.names.index(name)
    count = table.values.shape[1]
    if not name.isdecimal() or not 1 <= int(name) <= count:
        raise CannotRun(f"--context: {table.source} has no names; its columns are 1 .. {count}, and {name!r} is not one of "
                        "them")
    return int(name) - 1


def noted(found, names) -> Context | None:
    """The context that a note describes, None if it describes none; `names` of all columns, or None."""
    if not isinstance(found, dict) or found.keys() != {"columns", "mean", "std"}:
        return None
    columns, mean, std = (found[key] for key in ("columns", "mean", "std"))
    lists = all(isinstance(values, list) and len(values) == len(columns) for values in (columns, mean, std))
    if not lists or not all(type(j) is int and j >= 0 for j in columns) or not all(type(v) is float for v in (*mean, *std)):
        return None
    if names and max(columns) >= len(names):
        return None
    return Context(tuple(columns), names and tuple(names[j] for j in columns), tuple(mean), tuple(std))


# -- contexts that the user gives -------------------------------------------------------------------------------------

def given_contexts(context, options):
    """(M, C): the contexts of `--given`, in the units of the table: one as a=1,b=2, or the rows of a file.

    None for a flow without a context; without `--given`, the context that stands for none, where there is one.
    """
    text = options.given
    if context is None and text is not None:
        raise CannotRun(f"{options.flow}: its flow has no context; leave out --given")
    if context is None:
        return None
    if text is None and context.absent is not None:
        return np.array([context.absent])
    if text is None:
        raise CannotRun(f"{options.flow}: its flow is conditioned on {context.words()}; give a context, such as --given "
                        f"{example(context)}")
    found = of_words(context, text) if "=" in text else of_file(context, text)
    context.refuse(found)
    return found


def of_words(context, text):
    values = {}
    for entry in entries(text):
        name, _, value = (part.strip() for part in entry.rpartition("="))
        if name not in context.keys():
            raise CannotRun(f"--given: the flow has no context {name!r}; {likeliest(name, context.keys())}")
        if name in values:
            raise CannotRun(f"--given: {name} comes twice")
        try:
            values[name] = float(value)
        except ValueError:
            raise CannotRun(f"--given: {name}={value!r} is not a number") from None
        if not np.isfinite(values[name]):
            raise CannotRun(f"--given: {name}={value} is not a finite number")
    for name in context.keys():
        if name not in values:
            raise CannotRun(f"--given: {name} is missing; the flow is conditioned on {context.words()}")
    return np.array([[values[name] for name in context.keys()]])


def of_file(context, path):
    """The columns of a table that have the context's names; of a table without names, all columns."""
    if not Path(path).exists():
        raise CannotRun(f"--given: there is no file {path}; a context is written as {example(context)}")
    table = read_table(path, names=list(context.names or ()) or None)
    if table.names and context.names:
        for name in context.names:
            if name not in table.names:
                raise CannotRun(f"{path}: it has no column {name!r}, on which the flow is conditioned")
        return table.values[:, [table.names.index(name) for name in context.names]]
    if table.values.shape[1] != len(context.columns):
        raise CannotRun(f"{path}: it has {counted(table.values.shape[1], 'column')}, not one for each of {context.words()}")
    return table.values


def example(context):
    return ",".join(f"{key}={value:.3g}" for key, value in zip(context.keys(), context.mean))


def entries(text):
    """The entries of a list with commas between them; an entry with a comma stands in double quotes."""
    return [entry.strip() for entry in next(csv.reader([text], skipinitialspace=True), [])]
