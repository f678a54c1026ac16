"""The command line for flows: refflow fit DATA, refflow sample FLOW, refflow score FLOW DATA.

Data are tables of numbers: a .npy file, or text of comma-separated values, with or without a line of names.  Exit status: 0
done; 1 training failed; 2 could not run; 130 interrupted.
"""

from __future__ import annotations

import csv
import difflib
import importlib.util
import io
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .core import Chain, Flow, FullNormal, StandardNormal
from .linear import PLULinear
from .normalization import ActNorm
from .oracle import CannotRun
from .oracle.verdict import aligned, plain
from .saving import read as read_flow_file
from .saving import save, write_atomically
from .training import Adam, Cosine, TrainingError, fit

INTERRUPTED = 130


def add_commands(commands):
    """Add fit, sample and score to the parser's commands."""
    one = commands.add_parser("fit", help="train a flow on a table of numbers", description=(
        "Train a model on the rows of DATA by maximum likelihood and save the best flow, densities being in the data's own "
        "units.  Ctrl-C ends training and saves the best flow so far."))
    one.add_argument("data", metavar="DATA", help="a .npy file, or comma-separated values")
    one.add_argument("--model", default="gaussian", help="gaussian (the default), or a model of refflow.models")
    one.add_argument("--out", metavar="FLOW", required=True, help="the file to write, .npz or .json")
    one.add_argument("--steps", type=count, default=2000, help="gradient steps (2000)")
    one.add_argument("--batch-size", type=positive_count, default=256, metavar="N", help="rows for each step (256)")
    one.add_argument("--learning-rate", type=rate, default=5e-3, metavar="A",
                     help="Adam's at the start, then a cosine to 0 (0.005)")
    one.add_argument("--validation", type=part, default=0.1, metavar="PART", help="part of the rows that is held out (0.1)")
    common(one, fit_flow)
    one = commands.add_parser("sample", help="draw rows from a flow")
    one.add_argument("flow", metavar="FLOW", help="a file that refflow fit has written")
    one.add_argument("--n", type=count, default=1, help="how many rows (1)")
    one.add_argument("--out", metavar="FILE", help=".npy, or text by any other name; by default text on standard output")
    common(one, sample_flow)
    one = commands.add_parser("score", help="log densities of the rows of a table", description=(
        "Natural logarithms of the density of each row, as a column beside the data."))
    one.add_argument("flow", metavar="FLOW", help="a file that refflow fit has written")
    one.add_argument("data", metavar="DATA", help="a .npy file, or comma-separated values")
    one.add_argument("--out", metavar="FILE", help=".npy, or text by any other name; by default text on standard output")
    common(one, score_flow, seed=False)


def common(command, run, seed=True):
    if seed:
        command.add_argument("--seed", type=count, default=0, help="of the random numbers (0)")
    command.add_argument("--json", action="store_true", help="a report as JSON")
    command.add_argument("--force", action="store_true", help="write over a file that exists")
    command.set_defaults(run=lambda options: interruptible(run, options))


def interruptible(run, options):
    try:
        return run(options)
    except KeyboardInterrupt:
        print("refflow: interrupted; nothing was written", file=sys.stderr)
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


def read_npy_table(path):
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CannotRun(f"{path}: it is no .npy file of numbers: {error}") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or values.ndim not in (1, 2):
        raise CannotRun(f"{path}: a table of numbers is needed")
    if not values.size:
        raise CannotRun(f"{path}: it holds no row of numbers")
    values = values.astype(np.float64).reshape(len(values), -1)
    cells = [[repr(v) for v in row] for row in values.tolist()]
    return Table(values, None, cells, list(range(1, len(values) + 1)), str(path))


def read_csv_table(path):
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CannotRun(f"{path}: it is no text of comma-separated values: {error}") from None
    names = rows.pop(0)[1] if rows and not any(is_number(cell) for cell in rows[0][1]) else None
    if not rows:
        raise CannotRun(f"{path}: it holds no row of numbers")
    width = len(names or rows[0][1])
    for line, row in rows:
        if len(row) != width:
            raise CannotRun(f"{path}: row {line} has {len(row)} columns, not {width}")
        for j, cell in enumerate(row):
            if not is_number(cell):
                what = repr(cell) if cell else "an empty cell"
                raise CannotRun(f"{place(path, line, j, names)}: {what} is no number")
    values = np.array([[float(cell) for cell in row] for _, row in rows])
    return Table(values, names, [row for _, row in rows], [line for line, _ in rows], str(path))


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


# -- models -----------------------------------------------------------------------------------------------------------

def gaussian(D, rng) -> Flow:
    """A normal density with a full covariance: PLULinear of a standard normal, which starts as the identity."""
    zero = np.zeros((D, D))
    return Flow(PLULinear(np.arange(D), zero, zero, np.ones(D), np.zeros(D)), StandardNormal(D))


def builders() -> dict:
    """{name: builder}; `builder(D, rng)` makes a flow of vectors of D entries, to be trained on standardised data."""
    if importlib.util.find_spec("refflow.models") is None:
        return {"gaussian": gaussian}
    from . import models
    return {"gaussian": gaussian} | dict(getattr(models, "BUILDERS", {}))


def built(name, x, rng):
    """(flow, the stages that standardise): the model, then the affine map from standardised to the data's own units."""
    known = builders()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        raise CannotRun(f"there is no model {name!r}; {hint}")
    model, D = known[name](x.shape[1], rng), x.shape[1]
    units = ActNorm(np.ones(D)).inverse_initialised(x, rng)
    model = model.initialised(units.inverse(x), rng)
    return Flow(Chain([model.bijector, units]), model.base), ("bijector.stages.1",)


# -- fit --------------------------------------------------------------------------------------------------------------

def checked_columns(table):
    """Refuse columns of which no density exists."""
    x = table.values
    if len(x) < 2:
        raise CannotRun(f"{table.source}: it holds {len(x)} row; a density needs at least 2")
    for j in range(x.shape[1]):
        if x[:, j].min() == x[:, j].max():
            name = f" ({table.names[j]!r})" if table.names else ""
            raise CannotRun(f"{table.source}: column {j + 1}{name} is the constant {x[0, j]:g}, which has no density; "
                            f"leave it out")


def split(table, validation, rng):
    """(training rows, held-out rows or None)."""
    held = min(round(validation * len(table.values)), len(table.values) - 2)
    if held < 1:
        return table.values, None
    order = rng.permutation(len(table.values))
    rows = table.values[np.sort(order[held:])], table.values[order[:held]]
    constant = np.flatnonzero(rows[0].min(0) == rows[0].max(0))
    if len(constant):
        raise CannotRun(f"{table.source}: column {constant[0] + 1} is constant in the rows to train on; hold out fewer "
                        f"(--validation 0) or choose another --seed")
    return rows


def likelihood(log_prob, D):
    """Mean log-likelihood of rows in nats, and bits for each column."""
    mean = float(np.mean(log_prob))
    return {"nats": mean, "bits_per_dim": -mean / (D * math.log(2))}


def gaussian_log_prob(x, at):
    """log N(at; mean, covariance) of the rows x, or None where they lie in a plane."""
    units = ActNorm(np.ones(x.shape[1])).inverse_initialised(x, np.random.default_rng(0))
    t = units.inverse(x)
    try:
        L = np.linalg.cholesky(t.T @ t / len(t))
    except np.linalg.LinAlgError:
        return None
    return Flow(units, FullNormal(np.zeros(x.shape[1]), L)).log_prob(at)


def compared(flow, best, train, held_out):
    """{"before", "after", "gaussian": {"train", "validation": likelihood}}."""
    parts = {"train": train} | ({} if held_out is None else {"validation": held_out})
    D, found = train.shape[1], {"before": {}, "after": {}, "gaussian": {}}
    for name, x in parts.items():
        found["before"][name] = likelihood(flow.log_prob(x), D)
        found["after"][name] = likelihood(best.log_prob(x), D)
        log_prob = gaussian_log_prob(train, x)
        found["gaussian"][name] = None if log_prob is None else likelihood(log_prob, D)
    return found


def fit_flow(options):
    if Path(options.out).suffix not in (".npz", ".json"):
        raise CannotRun(f"--out {options.out}: the name of a flow's file must end in .npz or .json")
    to_be_written(options.out, options.force)
    table = read_table(options.data)
    checked_columns(table)
    rng = np.random.default_rng(options.seed)
    train, held_out = split(table, options.validation, rng)
    flow, fixed = built(options.model, train, rng)
    message, status = "", 0
    try:
        result = fit(flow, train, optimiser=Adam(options.learning_rate), schedule=Cosine(max(options.steps, 1)), fixed=fixed,
                     steps=options.steps, batch_size=options.batch_size, validation=held_out, rng=rng)
    except TrainingError as error:
        result, message, status = error.result, str(error), 1
    if result.stopped == "interrupted":
        message, status = "interrupted", INTERRUPTED
    about = {"columns": table.names, "model": options.model, "seed": options.seed, "steps": options.steps,
             "step": result.step, "batch_size": options.batch_size, "learning_rate": options.learning_rate,
             "validation": options.validation, "rows": len(table.values), "stopped": result.stopped}
    save(result.flow, options.out, about)
    report = about | compared(flow, result.flow, train, held_out) | {"data": options.data, "out": options.out}
    print(json.dumps(plain(report), indent=1, allow_nan=False) if options.json else fit_text(report, train, held_out))
    if message:
        print(f"refflow: {message}; {options.out} holds the best flow so far", file=sys.stderr)
    return status


def fit_text(report, train, held_out):
    counts = f"{len(train)} rows to train" + ("" if held_out is None else f", {len(held_out)} held out")
    parts = ["train"] + ([] if held_out is None else ["validation"])
    rows = [("log-likelihood", *(f"{p}: {what}" for p in parts for what in ("nats", "bits/dim")))]
    for key, name in (("before", "before"), ("after", "after"), ("gaussian", "a Gaussian")):
        cells = []
        for p in parts:
            found = report[key][p]
            cells += ["-", "-"] if found is None else [f"{found['nats']:.4f}", f"{found['bits_per_dim']:.4f}"]
        rows.append((name, *cells))
    last = f"{report['out']}: {report['model']} after {report['step']} of {report['steps']} steps"
    return f"{report['data']}: {train.shape[1]} columns, {counts}\n{aligned(rows)}\n{last}"


# -- sample and score -------------------------------------------------------------------------------------------------

def read_flow(path):
    """(flow of vectors, note)."""
    if not Path(path).exists():
        raise CannotRun(f"there is no file {path}")
    try:
        flow, note = read_flow_file(path)
    except ValueError as error:
        raise CannotRun(str(error)) from None
    if not isinstance(flow, Flow) or flow.rank != 1 or flow.parameter_batch or flow.event_shape is None:
        raise CannotRun(f"{path}: it holds no flow of rows of numbers")
    names = note.get("columns") if isinstance(note, dict) else None
    fits = isinstance(names, list) and len(names) == flow.event_shape[0] and all(isinstance(n, str) for n in names)
    return flow, names if fits else None


def sample_flow(options):
    to_be_written(options.out, options.force)
    flow, names = read_flow(options.flow)
    x = flow.sample(np.random.default_rng(options.seed), options.n)
    rows = [[repr(v) for v in row] for row in x.tolist()]
    if options.out:
        write_table(options.out, names, rows, x)
    if options.json:
        report = {"flow": options.flow, "seed": options.seed, "columns": names, "out": options.out}
        print(json.dumps(plain(report | ({} if options.out else {"rows": x.tolist()})), allow_nan=False))
    elif not options.out:
        print(table_text(names, rows), end="")
    return 0


def score_flow(options):
    to_be_written(options.out, options.force)
    flow, names = read_flow(options.flow)
    table, D = read_table(options.data), flow.event_shape[0]
    if table.values.shape[1] != D:
        raise CannotRun(f"{options.data}: it has {table.values.shape[1]} columns, the flow is of {D}"
                        + (f": {', '.join(names)}" if names else ""))
    if names and table.names and names != table.names:
        raise CannotRun(f"{options.data}: its columns are {', '.join(table.names)}, those of the flow {', '.join(names)}")
    log_prob = flow.log_prob(table.values)
    header = None if table.names is None else [*table.names, "log_prob"]
    rows = [[*cells, repr(v)] for cells, v in zip(table.cells, log_prob.tolist())]
    if options.out:
        write_table(options.out, header, rows, log_prob)
    elif not options.json:
        print(table_text(header, rows), end="")
    report = {"flow": options.flow, "data": options.data, "rows": len(log_prob), "out": options.out}
    report |= likelihood(log_prob, D)
    if options.json:
        print(json.dumps(plain(report | {"log_prob": log_prob.tolist()}), allow_nan=False))
    else:
        summary = f"{len(log_prob)} rows: {report['nats']:.4f} nats, {report['bits_per_dim']:.4f} bits/dim"
        print(summary, file=sys.stdout if options.out else sys.stderr)
    return 0
