"""What the commands for flows share: arguments, and tables of numbers in files.

A table is a .npy file, or text of comma-separated values, with or without a line of names.  With x = v + u, v a row of
integers and u uniform on [0, 1)^D, the density p of x bounds the probability P of the integers (Theis, van den Oord &
Bethge, arXiv:1511.01844):
    log P(v) = log int p(v + u) du >= int log p(v + u) du                           (1)
"""

from __future__ import annotations

import csv
import io
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core import Flow
from ..oracle import CannotRun
from ..saving import read, write_atomically

INTERRUPTED = 130
WORDS = {"train": "to train", "validation": "held out", "test": "to test"}


# -- commands ---------------------------------------------------------------------------------------------------------

def common(command, run, seed=True):
    if seed:
        command.add_argument("--seed", type=count, default=0, help="of the random numbers (0)")
    command.add_argument("--json", action="store_true", help="a report as JSON")
    command.add_argument("--force", action="store_true", help="write over a file that exists")
    command.set_defaults(run=lambda options: interruptible(run, options), written=False)


def interruptible(run, options):
    try:
        return run(options)
    except KeyboardInterrupt:
        left = f"{options.out} is written" if options.written else "nothing was written"
        print(f"refflow: interrupted; {left}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotRun(f"{error.filename or 'file'}: {error.strerror or error}") from None


# -- numbers given as arguments -----------------------------------------------------------------------------------------

def number_that(convert, holds, rule):
    def checked(text):
        value = convert(text)
        if not holds(value):
            raise ValueError(rule)
        return value

    checked.__name__ = rule                                     # argparse says "invalid <name> value"
    return checked


count = number_that(int, lambda n: n >= 0, "count")
positive_count = number_that(int, lambda n: n >= 1, "count >= 1")
rate = number_that(float, lambda v: 0 < v < math.inf, "positive number")
part = number_that(float, lambda v: 0 <= v < 1, "fraction in [0, 1)")
counts = number_that(lambda text: tuple(int(n) for n in text.split(",")), lambda ns: min(ns) >= 1, "list of counts >= 1")


# -- tables -----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Table:
    """Rows of numbers; `names` of the columns or None; `cells` as they stand in the file; `lines` where each row stands."""

    values: np.ndarray
    names: list | None
    cells: list
    lines: list
    source: str

    def where(self, row, column):
        return place(self.source, self.lines[row], column, self.names)

    def column(self, j):
        return f"column {j + 1}" + (f" ({self.names[j]!r})" if self.names else "")


def place(source, line, column, names):
    name = f" ({names[column]!r})" if names else ""
    return f"{source}: row {line}, column {column + 1}{name}"


def read_table(path) -> Table:
    """The table in a file; CannotRun names the row, counted from 1 with the names, and the column of what is no number."""
    if not Path(path).exists():
        raise CannotRun(f"there is no file {path}")
    table = read_npy_table(path) if Path(path).suffix == ".npy" else read_csv_table(path)
    bad = np.argwhere(~np.isfinite(table.values))
    if len(bad):
        i, j = (int(k) for k in bad[0])
        more = f"; {len(bad)} cells in all" if len(bad) > 1 else ""
        raise CannotRun(f"{table.where(i, j)}: {table.values[i, j]} is no finite number{more}")
    return table


def read_npy(path):
    """The array in a .npy file.  ValueError for any other file; np.load would leave the file of an archive open."""
    with open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_npy_table(path):
    try:
        values = read_npy(path)
    except ValueError:
        raise CannotRun(f"{path}: it is no complete .npy file of numbers") from None
    if values.dtype.kind not in "fiu" or values.ndim not in (1, 2):
        raise CannotRun(f"{path}: a table of numbers is needed")
    if not values.size:
        raise CannotRun(f"{path}: it holds no row of numbers")
    values = values.astype(np.float64).reshape(len(values), -1)
    cells = [[repr(v) for v in row] for row in values.tolist()]
    return Table(values, None, cells, list(range(1, len(values) + 1)), str(path))


def read_csv_table(path):
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [(line, row) for line, row in numbered(csv.reader(file)) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CannotRun(f"{path}: it is no text of comma-separated values: {error}") from None
    names = rows.pop(0)[1] if rows and not any(is_number(cell) for cell in rows[0][1]) else None
    if not rows:
        raise CannotRun(f"{path}: it holds no row of numbers")
    width = len(names or rows[0][1])
    for line, row in rows:
        if len(row) != width:
            raise CannotRun(f"{path}: row {line}: its number of columns is {len(row)}, not {width}")
        for j, cell in enumerate(row):
            if not is_number(cell):
                what = repr(cell) if cell else "an empty cell"
                hint = "; values are separated by commas" if ";" in cell or "\t" in cell else ""
                raise CannotRun(f"{place(path, line, j, names)}: {what} is no number{hint}")
    values = np.array([[float(cell) for cell in row] for _, row in rows])
    return Table(values, names, [row for _, row in rows], [line for line, _ in rows], str(path))


def numbered(reader):
    """(the line on which it begins, its cells without blanks around them) of each row."""
    line = 1
    for row in reader:
        yield line, [cell.strip() for cell in row]
        line = reader.line_num + 1


def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def table_text(names, rows):
    """Comma-separated values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([names] if names else [])
    writer.writerows(rows)
    return text.getvalue()


def to_be_written(path, force):
    """Refuse a path before any work is done for it."""
    if path is None:
        return
    if not Path(path).resolve().parent.is_dir():
        raise CannotRun(f"{path}: there is no directory {Path(path).parent}")
    if Path(path).is_dir():
        raise CannotRun(f"{path}: it is a directory")
    if Path(path).exists() and not force:
        raise CannotRun(f"{path} exists; --force writes over it")


def write_table(path, names, rows, array):
    if Path(path).suffix == ".npy":
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        write_atomically(path, content.getvalue())
    else:
        write_atomically(path, table_text(names, rows).encode())


def integers(x):
    """(D,): which columns hold integers alone, with values that come more than once."""
    return np.array([(column == np.floor(column)).all() and len(np.unique(column)) < len(column) for column in x.T])


def dequantised(table, columns, rng):
    """The table with uniform noise on [0, 1) in the columns of integers with these indices, (1)."""
    x = table.values.copy()
    part = x[:, columns]
    bad = np.argwhere((part != np.floor(part)) | (np.abs(part) > 2**52))
    if len(bad):
        i, j = bad[0]
        raise CannotRun(f"{table.where(i, columns[j])}: {part[i, j]:g} is no integer that noise can be added to")
    x[:, columns] += rng.random(part.shape)                                         # (1)
    return replace(table, values=x)


def history_of(history, every):
    """{"step", "train", "validation"}: lists of one length, the training loss as its mean since the entry before."""
    ends = history["validation_step"] if len(history["validation_step"]) else np.arange(0, len(history["step"]) + 1, every)
    starts = np.concatenate([[0], ends[:-1]])
    train = [history["loss"][i:max(j, 1)] for i, j in zip(starts, ends)]
    validation = history["validation_loss"] if len(history["validation_loss"]) else None
    return {"step": ends.tolist(), "train": [float(losses.mean()) if len(losses) else None for losses in train],
            "validation": None if validation is None else validation.tolist()}


def saved_flow(path):
    """(flow, note) of a file that `refflow fit` or `save` has written; the note is a dictionary."""
    if not Path(path).exists():
        raise CannotRun(f"there is no file {path}")
    try:
        flow, note = read(path)
    except ValueError as error:
        raise CannotRun(str(error)) from None
    if not isinstance(flow, Flow) or flow.parameter_batch or flow.event_shape is None:
        raise CannotRun(f"{path}: it holds no flow of events of known shape")
    if flow.needs("context"):
        raise CannotRun(f"{path}: its flow needs a context, which the command line cannot give")
    return flow, note if isinstance(note, dict) else {}


def columns_of(flow, note):
    """(names of the columns or None, indices of the columns of integers) that the note of a flow tells."""
    names, noisy, D = note.get("columns"), note.get("dequantised"), math.prod(flow.event_shape)
    named = isinstance(names, list) and len(names) == D and all(isinstance(name, str) for name in names)
    indices = isinstance(noisy, list) and all(type(j) is int and 0 <= j < D for j in noisy)
    return names if named else None, noisy if indices else []


def as_modelled(table, flow, note, rng):
    """The table, with noise where `refflow fit` has added it; CannotRun where its columns are not the flow's."""
    (names, noisy), D = columns_of(flow, note), math.prod(flow.event_shape)
    if table.values.shape[1] != D:
        raise CannotRun(f"{table.source}: its number of columns is {table.values.shape[1]}, that of the flow {D}"
                        + (f": {', '.join(names)}" if names else ""))
    if names and table.names and names != table.names:
        j = next(j for j in range(D) if names[j] != table.names[j])
        raise CannotRun(f"{table.source}: column {j + 1} is {table.names[j]!r}, that of the flow {names[j]!r}")
    return dequantised(table, noisy, rng) if noisy else table
