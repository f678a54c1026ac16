"""Arrays and tables as files: .npy, or text of comma-separated values, with the suffix .gz compressed."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path

import numpy as np

from ..oracle import CannotRun
from ..saving import read, write_atomically

TABLES = {"", ".npy", ".csv", ".txt", ".dat"}         # suffixes of a table; text has commas between its values


def read_saved(path):
    """(value, note) of a file that `refflow fit` or `save` has written."""
    if not Path(path).exists():
        raise CannotRun(f"there is no file {path}")
    try:
        return read(path)
    except ValueError as error:
        raise CannotRun(str(error)) from None


def is_npy(path):
    return Path(path).suffix == ".npy"


def is_gzip(path):
    return Path(path).suffix.lower() == ".gz"


def read_npy(path):
    """The array in a .npy file.  ValueError for any other file; np.load would leave the file of an archive open."""
    with open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def write_npy(path, array, replace):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_atomically(path, content.getvalue(), replace)


def write_npz(path, arrays, replace):
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue(), replace)


def table_text(names, rows):
    """Comma-separated values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([names] if names else [])
    writer.writerows(rows)
    return text.getvalue()


def show_table(names, rows):
    """Print a table; where standard output lacks a character of it, it is not replaced by another one."""
    text, encoding = table_text(names, rows), sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        raise CannotRun(f"standard output is {encoding}, which has no {text[error.start]!r}; --out writes UTF-8, as does "
                        "PYTHONIOENCODING=utf-8") from None
    print(text, end="")


def write_table(path, names, rows, array, replace):
    """The array in a .npy file, or `names` and `rows`, its cells, as text."""
    if is_npy(path):
        write_npy(path, array, replace)
    else:
        text = table_text(names, rows).encode()
        write_atomically(path, gzip.compress(text, mtime=0) if is_gzip(path) else text, replace)


def refuse_form(path):
    """Refuse the name of a table that promises what is not written."""
    if path is None:
        return
    form = Path(path[:-len(".gz")] if is_gzip(path) else path).suffix.lower()
    if form not in TABLES or is_gzip(path) and form == ".npy":
        raise CannotRun(f"--out {path}: a table is written as .npy, or as text: .csv, .txt, .dat, with .gz after it compressed")


def cells_of(x, whole):
    """The cells of rows, without a decimal point in the columns `whole`."""
    whole = set(whole)
    return [[f"{v:.0f}" if j in whole else repr(v) for j, v in enumerate(row)] for row in x.tolist()]
