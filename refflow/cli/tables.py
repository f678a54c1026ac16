"""Tables of numbers in files: .npy, or comma-separated values, with or without a header row, plain or with gzip."""

from __future__ import annotations

import csv
import gzip
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import is_gzip, is_npy, read_npy
from ..oracle import CannotRun
from ..report import column_text

SHOWN = 4                               # cells of a row that a message shows


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
        return column_text(self.names, j)


def place(source, line, column, names):
    return f"{source}: row {line}, {column_text(names, column)}"


def read_table(path, header=None, names=None) -> Table:
    """The table in a file; CannotRun names the row, counted from 1 with the names, and the column of an entry that is not a number.

    `header`: is the first row the names of the columns?  None: if no cell of it is a number, if it is `names`, or if counts in
    growing order, such as years, stand above columns of fractions.
    """
    if not Path(path).exists():
        raise CannotRun(f"there is no file {path}")
    if is_npy(path) and header is not None:
        raise CannotRun(f"{path}: --header and --no-header are for tables in text")
    table = read_npy_table(path) if is_npy(path) else read_csv_table(path, header, names)
    bad = np.argwhere(~np.isfinite(table.values))
    if len(bad):
        i, j = (int(k) for k in bad[0])
        more = f"; {len(bad)} cells in all" if len(bad) > 1 else ""
        raise CannotRun(f"{table.where(i, j)}: {table.values[i, j]} is not a finite number{more}")
    if header is None and not is_npy(path) and table.names is None and looks_like_names(*table.cells):
        note(path, table.cells[0], "as numbers; --header reads it as names, --no-header as numbers without this note")
    return table


def note(path, first, how):
    """Say how a first row is read that may be meant otherwise."""
    shown = ",".join(first[:SHOWN]) + ",..." * (len(first) > SHOWN)
    print(f"refflow: {path}: the first row, {shown}, is read {how}", file=sys.stderr)


def read_npy_table(path):
    try:
        values = read_npy(path)
    except ValueError:
        raise CannotRun(f"{path}: it is not a complete .npy file of numbers") from None
    if values.dtype.kind not in "fiu" or values.ndim not in (1, 2):
        raise CannotRun(f"{path}: a table of numbers is needed")
    if not values.size:
        raise CannotRun(f"{path}: it holds no row of numbers")
    values = values.astype(np.float64).reshape(len(values), -1)
    cells = [[repr(v) for v in row] for row in values.tolist()]
    return Table(values, None, cells, list(range(1, len(values) + 1)), str(path))


def read_csv_table(path, header, names):
    try:
        opened = gzip.open if is_gzip(path) else open
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            rows = [(line, row) for line, row in numbered(csv.reader(file, strict=True)) if any(row)]
    except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CannotRun(f"{path}: it is not text of comma-separated values: {error}") from None
    first, *below = [row for _, row in rows] or [[]]
    named = first == names or not any(map(is_number, first)) if header is None else header
    if header is None and not named and above_fractions(first, below):
        named = True
        note(path, first, "as names, since the numbers below have fractions; --no-header reads it as numbers, --header as names "
             "without this note")
    names = rows.pop(0)[1] if rows and named else None
    if not rows:
        raise CannotRun(f"{path}: it holds no row of numbers")
    width, separators = len(names or rows[0][1]), hint_on_separators(names, [row for _, row in rows])
    for line, row in rows:
        if len(row) != width:
            raise CannotRun(f"{path}: row {line}: its number of columns is {len(row)}, not {width}{separators}")
        for j, cell in enumerate(row):
            if not is_number(cell):
                what = repr(cell) if cell else "an empty cell"
                raise CannotRun(f"{place(path, line, j, names)}: {what} is not a number{separators}")
    values = np.array([[float(cell) for cell in row] for _, row in rows])
    return Table(values, names, [row for _, row in rows], [line for line, _ in rows], str(path))


def looks_like_names(first, *rest):
    """Counts in growing order, such as years, and in a single column, above numbers that are not all counts."""
    if not all(map(str.isdecimal, first)):
        return False
    numbers = [int(cell) for cell in first]
    return all(a < b for a, b in zip(numbers, numbers[1:])) and (
        len(first) > 1 or not all(cell.isdecimal() for row in rest for cell in row))


def above_fractions(first, below):
    """Are these names counts, above columns that all hold a number which is not a count?"""
    columns = list(zip(*below))
    return looks_like_names(first, *below) and len(columns) == len(first) and all(
        any(is_number(cell) and not cell.isdecimal() for cell in column) for column in columns)


def hint_on_separators(names, rows):
    """What to do with a table whose cells hold other separators."""
    cells = [cell for row in [names or [], *rows[:SHOWN]] for cell in row]
    if any(";" in cell for cell in cells):
        return "; values are separated by commas, and decimals have a point: this looks like semicolons" + (
            " and decimal commas" if any(len(row) > 1 for row in rows[:SHOWN]) else "")
    return "; values are separated by commas: this looks like tabs" if any("\t" in cell for cell in cells) else ""


def numbered(reader):
    """(the line on which it begins, its cells without blanks around them) of each row."""
    line = 1
    try:
        for row in reader:
            yield line, [cell.strip() for cell in row]
            line = reader.line_num + 1
    except csv.Error as error:
        unclosed = str(error) == "unexpected end of data"
        raise csv.Error(f"row {line}: {'a quotation mark is not closed' if unclosed else error}") from None


def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
