"""Rows of a table of numbers: a .npy file, or comma-separated values, with or without a line of names.

A flow is trained as x = units(model(z)), where `units` is fixed: the mean and standard deviation of every column and, for
models other than a Gaussian, the shrunk correlations of `refflow.training.gaussians`, so that a model that starts near the
identity starts near a Gaussian.

With x = v + u, v a row of integers and u uniform on [0, 1)^D, the density p of x bounds the probability P of the integers
(Theis, van den Oord & Bethge, arXiv:1511.01844):
    log P(v) = log int p(v + u) du >= int log p(v + u) du                           (1)
"""

from __future__ import annotations

import csv
import inspect
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .dataset import Given, Start, in_units, likeliest
from .files import cells_of, is_npy, read_npy, table_text, write_table
from .options import put
from ..models import BUILDERS
from ..oracle import CannotRun
from ..training import EMA, Adam, Cosine
from ..training.gaussians import correlated, gaussian_start, normal, standardised

ROUNDING = 16 * np.finfo(np.float64).eps
ROWS_PER_UNIT = 8                       # for each entry of a hidden layer, by default
OF_IMAGES = ("levels", "depth", "values", "bits", "channels_last", "additive", "permutation", "held_out")


@dataclass(frozen=True)
class Rows:
    """Rows of D numbers: `names` of the columns or None, `noisy` the indices of columns of integers, which get noise."""

    D: int
    names: list | None = None
    noisy: tuple = ()

    word = "row"
    measures = ("nats", "bits_per_dim")
    scores = ("log_prob",)
    measured = None
    batch_size = 256
    loss_units = {}
    limits = None
    shape = property(lambda self: (self.D,))

    # -- what they are ------------------------------------------------------------------------------------------------

    @staticmethod
    def holds(path):
        return True

    @classmethod
    def to_fit(cls, options, rng):
        refuse_options_of_images(options)
        table = read_table(options.data)
        whole = np.flatnonzero(integers(table.values)).tolist() if len(table.values) > 1 else []
        if options.dequantise and not whole:
            raise CannotRun(f"{table.source}: --dequantise: no column holds integers that come more than once")
        data = cls(table.values.shape[1], table.names, tuple(whole) if options.dequantise else ())
        checked_integers(table, data.noisy)
        values = data.with_noise(table.values, rng)
        checked_columns(replace(table, values=values))
        if whole and not options.dequantise:
            first, more = table.column(whole[0]), f" and {len(whole) - 1} more" if len(whole) > 1 else ""
            print(f"refflow: {table.source}: {first}{more} hold{'s' * (not more)} integers, whose density has no bound; "
                  "--dequantise adds uniform noise on [0, 1)", file=sys.stderr)
        return data, values

    @classmethod
    def of_flow(cls, flow, note):
        names, noisy, D = note.get("columns"), note.get("dequantised"), math.prod(flow.event_shape)
        named = isinstance(names, list) and len(names) == D and all(isinstance(name, str) for name in names)
        indices = isinstance(noisy, list) and all(type(j) is int and 0 <= j < D for j in noisy)
        return cls(D, names if named else None, tuple(noisy) if indices else ())

    def note(self):
        return {"columns": self.names, "dequantised": self.noisy}

    def summary(self, counts):
        noise = f"\n{len(self.noisy)} columns of integers, with noise" if self.noisy else ""
        return f"{self.D} columns, {counts}{noise}"

    # -- their events -------------------------------------------------------------------------------------------------

    def read(self, path):
        table = read_table(path)
        D, names = table.values.shape[1], self.names
        if D != self.D:
            raise CannotRun(f"{table.source}: its number of columns is {D}, that of the flow {self.D}"
                            + (f": {', '.join(names)}" if names else ""))
        if names and table.names and names != table.names:
            j = next(j for j in range(D) if names[j] != table.names[j])
            raise CannotRun(f"{table.source}: column {j + 1} is {table.names[j]!r}, that of the flow {names[j]!r}")
        checked_integers(table, self.noisy)
        return Given(table.values, table.names, table.cells)

    def with_noise(self, values, rng):
        if not self.noisy:
            return values
        x, columns = values.copy(), list(self.noisy)
        x[:, columns] += rng.random((len(x), len(columns)))                         # (1)
        return x

    def refreshed(self, values, rng):
        return values

    # -- their flows --------------------------------------------------------------------------------------------------

    def start(self, options, parts, rng):
        train, held_out = parts["train"], parts.get("validation")
        constant = np.flatnonzero(np.ptp(train, axis=0) == 0)
        if len(constant):
            raise CannotRun(f"{options.data}: {column_text(self.names, constant[0])} is constant in the rows to train on; hold "
                            f"out fewer (--validation 0) or choose another --seed")
        builder, sizes = builder_and_sizes(options, len(train))
        simple = options.model == "gaussian"
        units = standardised(train) if simple else gaussian_start(train, held_out)
        try:
            model = builder(self.D, rng, **sizes)
        except ValueError as error:
            hint = "; for one column there is --model gaussian" if self.D == 1 else ""
            raise CannotRun(f"no model can be made for {self.D} column{'s' * (self.D > 1)}: {error}{hint}") from None
        flow, fixed = in_units(model, units, train, rng)
        average = options.average if options.average is not None else 0.0 if simple else 0.99
        settings = {"optimiser": Adam(options.learning_rate or (5e-3 if simple else 1e-3)),
                    "schedule": Cosine(max(options.steps, 1)), "averaging": EMA(average) if average else None}
        return Start(flow, fixed, settings, {"sizes": sizes})

    def gaussian(self, train, held_out):
        """That of the largest likelihood."""
        stages = correlated(train, 0)
        return (None if stages is None else normal(stages).log_prob), None

    # -- their samples ------------------------------------------------------------------------------------------------

    def refuse_samples(self, options):
        pass

    def samples(self, y):
        x, columns = y.copy(), list(self.noisy)
        x[:, columns] = np.floor(x[:, columns])
        return x

    def write_samples(self, options, y):
        x = self.samples(y)
        cells = cells_of(x, self.noisy)
        if options.out is None:
            return table_text(self.names, cells)
        put(options, lambda path, replace: write_table(path, self.names, cells, x, replace))
        return ""

    def shown(self, y):
        return y


# -- models -----------------------------------------------------------------------------------------------------------

def refuse_options_of_images(options):
    given = [f"--{key.replace('_', '-')}" for key in OF_IMAGES if getattr(options, key)]
    given += ["--model glow"] * (options.model == "glow")
    if given and Path(options.data).exists():
        raise CannotRun(f"{given[0]} is for images; {options.data} is no array (N, channels, height, width) or "
                        f"(N, height, width) in a .npy file")


def builder_and_sizes(options, rows):
    """(the builder of the model, its hidden and couplings); few rows make narrow layers, unless told otherwise."""
    if options.model not in BUILDERS:
        raise CannotRun(f"there is no model {options.model!r}; {likeliest(options.model, BUILDERS)}")
    builder = BUILDERS[options.model]
    accepted = inspect.signature(builder).parameters
    sizes = {key: getattr(options, key) for key in ("hidden", "couplings") if getattr(options, key) is not None}
    foreign = sorted(sizes.keys() - accepted)
    if foreign:
        raise CannotRun(f"the model {options.model} has no --{foreign[0]}")
    own = {key: accepted[key].default for key in ("hidden", "couplings") if key in accepted}
    if "hidden" in own:
        own["hidden"] = tuple(min(width, max(8, rows // ROWS_PER_UNIT)) for width in own["hidden"])
    return builder, own | sizes


# -- columns ----------------------------------------------------------------------------------------------------------

def integers(x):
    """(D,): which columns hold integers alone, with values that come more than once."""
    return np.array([(column == np.floor(column)).all() and len(np.unique(column)) < len(column) for column in x.T])


def checked_integers(table, columns):
    """Refuse columns to which no noise can be added."""
    part = table.values[:, list(columns)]
    bad = np.argwhere((part != np.floor(part)) | (np.abs(part) > 2**52))
    if len(bad):
        i, j = bad[0]
        raise CannotRun(f"{table.where(i, columns[j])}: {part[i, j]:g} is no integer that noise can be added to")


def checked_columns(table):
    """Refuse columns of which no density exists."""
    x = table.values
    if len(x) < 2:
        raise CannotRun(f"{table.source}: it holds {len(x)} row; a density needs at least 2")
    for j in range(x.shape[1]):
        low, high = x[:, j].min(), x[:, j].max()
        if high - low <= ROUNDING * max(abs(low), abs(high)):
            what = "the constant" if low == high else "up to rounding the constant"
            raise CannotRun(f"{table.source}: {table.column(j)} is {what} {x[0, j]:g}, which has no density; leave it out"
                            + (", or use --dequantise" if integers(x)[j] else ""))


# -- tables in files --------------------------------------------------------------------------------------------------

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


def column_text(names, j):
    return f"column {j + 1}" + (f" ({names[j]!r})" if names else "")


def place(source, line, column, names):
    return f"{source}: row {line}, {column_text(names, column)}"


def read_table(path) -> Table:
    """The table in a file; CannotRun names the row, counted from 1 with the names, and the column of what is no number."""
    if not Path(path).exists():
        raise CannotRun(f"there is no file {path}")
    table = read_npy_table(path) if is_npy(path) else read_csv_table(path)
    bad = np.argwhere(~np.isfinite(table.values))
    if len(bad):
        i, j = (int(k) for k in bad[0])
        more = f"; {len(bad)} cells in all" if len(bad) > 1 else ""
        raise CannotRun(f"{table.where(i, j)}: {table.values[i, j]} is no finite number{more}")
    return table


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
