"""The command line for flows: refflow fit DATA, refflow sample FLOW, refflow score FLOW DATA, refflow data NAME.

Data are tables of numbers: a .npy file, or text of comma-separated values, with or without a line of names.  Images are in
`cli_images`.  Exit status: 0 done; 1 training failed; 2 could not run; 130 interrupted.

A flow is trained as x = units(model(z)), where `units` is fixed: the mean and standard deviation of every column and, for
models other than a Gaussian, the shrunk correlations of `cli_gaussian`, so that a model that starts near the identity starts
near a Gaussian.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import sys
from pathlib import Path

import numpy as np

from . import images as cli_images
from .. import models
from .gaussian import correlated, gaussian, gaussian_start, likelihood, log_prob_of, normal, standardised
from .tables import (INTERRUPTED, WORDS, as_modelled, columns_of, common, count, counts, dequantised, history_of, integers,
                     part, positive_count, rate, read_table, saved_flow, table_text, to_be_written, write_table)
from ..core import Chain, Flow
from ..data import IMAGES, LOADERS, load_data
from ..oracle import CannotRun
from ..oracle.verdict import aligned, plain
from ..saving import save
from ..training import EMA, Adam, Cosine, TrainingError, fit

ROUNDING = 16 * np.finfo(np.float64).eps
ROWS_PER_UNIT = 8                       # for each entry of a hidden layer, by default


def add_commands(commands):
    """Add fit, sample, score and data to the parser's commands."""
    one = commands.add_parser("fit", help="train a flow on a table of numbers", description=(
        "Train a model on the rows of DATA by maximum likelihood and save the best flow, densities being in the data's own "
        "units.  Ctrl-C ends training and saves the best flow so far."))
    one.add_argument("data", metavar="DATA", help="a .npy file, or comma-separated values")
    one.add_argument("--model", default="gaussian",
                     help=f"one of {', '.join(sorted(builders()))} (gaussian), of images glow or realnvp")
    one.add_argument("--hidden", type=counts, metavar="N,N,...", help=(
        "widths of the hidden layers of its networks (those of the model, at most an eighth of the rows)"))
    one.add_argument("--couplings", type=positive_count, metavar="N", help="how many couplings it has")
    one.add_argument("--out", metavar="FLOW", required=True, help="the file to write, .npz or .json")
    one.add_argument("--steps", type=count, default=2000, help="gradient steps (2000)")
    one.add_argument("--batch-size", type=positive_count, metavar="N", help="rows for each step (256, of images 64)")
    one.add_argument("--learning-rate", type=rate, metavar="A",
                     help="Adam's at the start, then a cosine to 0 (0.005 for gaussian, else 0.001)")
    one.add_argument("--average", type=part, metavar="D",
                     help="decay of the moving average of the parameters; 0: none (0 for gaussian and "
                          "RealNVP of images, else 0.99)")
    one.add_argument("--validation", type=part, default=0.1, metavar="PART",
                     help="part of the rows that is held out to choose the best step (0.1)")
    one.add_argument("--test", type=part, default=0.0, metavar="PART", help="part of the rows that chooses nothing (0)")
    one.add_argument("--patience", type=count, default=30, metavar="N",
                     help="stop after N evaluations that are no better; 0: never (30)")
    one.add_argument("--dequantise", action="store_true", help="add uniform noise on [0, 1) to the columns of integers")
    cli_images.add_options(one)
    common(one, fit_flow)
    one = commands.add_parser("sample", help="draw rows from a flow")
    one.add_argument("flow", metavar="FLOW", help="a file that refflow fit has written")
    one.add_argument("--n", type=count, default=1, help="how many rows (1)")
    one.add_argument("--temperature", type=rate, default=1.0, metavar="T", help="latents times T (1)")
    one.add_argument("--out", metavar="FILE", help=".npy, or text by any other name; by default text on standard output")
    common(one, sample_flow)
    one = commands.add_parser("score", help="log densities of the rows of a table", description=(
        "Natural logarithms of the density of each row, as a column beside the data.  Where fit has dequantised columns, "
        "noise is drawn here too."))
    one.add_argument("flow", metavar="FLOW", help="a file that refflow fit has written")
    one.add_argument("data", metavar="DATA", help="a .npy file, or comma-separated values")
    one.add_argument("--out", metavar="FILE", help=".npy, or text by any other name; by default text on standard output")
    common(one, score_flow)
    one = commands.add_parser("data", help="write a public data set", description=(
        "Write a data set that comes inside scikit-learn as a table, or as images; nothing is downloaded."))
    one.add_argument("name", metavar="NAME", choices=[*LOADERS, *IMAGES], help=", ".join([*LOADERS, *IMAGES]))
    cli_images.add_patch_options(one)
    one.add_argument("--out", metavar="FILE", help=".npy, or text by any other name; by default text on standard output")
    common(one, data_set, seed=False)


# -- models -----------------------------------------------------------------------------------------------------------

def builders() -> dict:
    """{name: builder}; `builder(D, rng)` makes a flow of vectors of D entries, to be trained on standardised data."""
    return {"gaussian": gaussian} | models.BUILDERS


def builder_and_sizes(options, x):
    """(the builder of the model, its hidden and couplings); few rows make narrow layers, unless told otherwise."""
    known, name = builders(), options.model
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        raise CannotRun(f"there is no model {name!r}; {hint}")
    accepted = inspect.signature(known[name]).parameters
    sizes = {key: getattr(options, key) for key in ("hidden", "couplings") if getattr(options, key) is not None}
    foreign = sorted(sizes.keys() - accepted)
    if foreign:
        raise CannotRun(f"the model {name} has no --{foreign[0]}")
    own = {key: accepted[key].default for key in ("hidden", "couplings") if key in accepted}
    if "hidden" in own:
        own["hidden"] = tuple(min(width, max(8, len(x) // ROWS_PER_UNIT)) for width in own["hidden"])
    return known[name], own | sizes


def built(builder, sizes, start, x, rng):
    """(flow, the stages that are fixed): the model, then the stages `start` to the data's own units."""
    D = x.shape[1]
    try:
        model = builder(D, rng, **sizes)
    except ValueError as error:
        hint = "; for one column there is --model gaussian" if D == 1 else ""
        raise CannotRun(f"no model can be made for {D} column{'s' * (D > 1)}: {error}{hint}") from None
    model = model.initialised(Chain(start).inverse(x), rng)
    return Flow(Chain([model.bijector, *start]), model.base), tuple(f"bijector.stages.{1 + i}" for i in range(len(start)))


# -- fit --------------------------------------------------------------------------------------------------------------

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


def prepared(options, table, rng):
    """(table of columns that have a density, the columns with noise); a note on columns of integers without it."""
    columns = np.flatnonzero(integers(table.values)).tolist() if len(table.values) > 1 else []
    if options.dequantise and not columns:
        raise CannotRun(f"{table.source}: --dequantise: no column holds integers that come more than once")
    if options.dequantise:
        table = dequantised(table, columns, rng)
    checked_columns(table)
    if columns and not options.dequantise:
        first, more = table.column(columns[0]), f" and {len(columns) - 1} more" if len(columns) > 1 else ""
        print(f"refflow: {table.source}: {first}{more} hold{'s' * (not more)} integers, whose density has no bound; "
              "--dequantise adds uniform noise on [0, 1)", file=sys.stderr)
    return table, columns if options.dequantise else []


def split(options, table, rng):
    """{"train": rows, "validation": rows, "test": rows}, without the parts that are empty."""
    n = len(table.values)
    test = min(round(options.test * n), n - 2)
    held = min(round(options.validation * n), n - 2 - test)
    if not test + held:
        return {"train": table.values}
    order = rng.permutation(n)
    rows = {"train": np.sort(order[test + held:]), "validation": order[test:test + held], "test": order[:test]}
    parts = {name: table.values[index] for name, index in rows.items() if len(index)}
    constant = np.flatnonzero(np.ptp(parts["train"], axis=0) == 0)
    if len(constant):
        raise CannotRun(f"{table.source}: {table.column(constant[0])} is constant in the rows to train on; hold out fewer "
                        f"(--validation 0) or choose another --seed")
    return parts


def compared(flow, best, parts):
    """{"before", "after", "gaussian": {part: likelihood}, "gain": {part: of the best over the Gaussian, in nats}}.

    The Gaussian is that of the rows to train on, without shrinkage.  "error" is the standard error of the mean gain.
    """
    stages = correlated(parts["train"], 0)
    densities = {"before": flow, "after": best, "gaussian": None if stages is None else normal(stages)}
    found = {key: {} for key in (*densities, "gain")}
    for name, x in parts.items():
        each = {key: None if density is None else log_prob_of(density, x) for key, density in densities.items()}
        for key, log_prob in each.items():
            found[key][name] = None if log_prob is None else likelihood(log_prob, x.shape[1])
        gain = None if stages is None else each["after"] - each["gaussian"]
        error = None if gain is None or len(x) < 2 else float(gain.std(ddof=1)) / math.sqrt(len(x))
        found["gain"][name] = None if gain is None else {"nats": float(gain.mean()), "error": error}
    return found


def fit_flow(options):
    if cli_images.holds_images(options.data):
        return cli_images.fit_images(options)
    cli_images.refuse_options(options)
    if Path(options.out).suffix not in (".npz", ".json"):
        raise CannotRun(f"--out {options.out}: the name of a flow's file must end in .npz or .json")
    to_be_written(options.out, options.force)
    rng = np.random.default_rng(options.seed)
    table, noisy = prepared(options, read_table(options.data), rng)
    parts = split(options, table, rng)
    train, held_out = parts["train"], parts.get("validation")
    builder, sizes = builder_and_sizes(options, train)
    simple = builder is gaussian
    flow, fixed = built(builder, sizes, standardised(train) if simple else gaussian_start(train, held_out), train, rng)
    learning_rate, batch_size = options.learning_rate or (5e-3 if simple else 1e-3), options.batch_size or 256
    average = options.average if options.average is not None else 0.0 if simple else 0.99
    message, status = "", 0
    try:
        result = fit(flow, train, optimiser=Adam(learning_rate), schedule=Cosine(max(options.steps, 1)), fixed=fixed,
                     steps=options.steps, batch_size=batch_size, averaging=EMA(average) if average else None,
                     validation=held_out, patience=options.patience or None if held_out is not None else None, rng=rng)
    except TrainingError as error:
        result, message, status = error.result, str(error), 1
    if result.stopped == "interrupted":
        message, status = "interrupted", INTERRUPTED
    about = {"columns": table.names, "dequantised": noisy, "model": options.model, "sizes": sizes, "seed": options.seed,
             "steps": options.steps, "step": result.step, "batch_size": batch_size, "learning_rate": learning_rate,
             "average": average, "validation": options.validation, "test": options.test, "patience": options.patience,
             "rows": len(table.values), "stopped": result.stopped}
    save(result.flow, options.out, plain(about | {"history": history_of(result.history, 10)}))
    options.written = True
    if message:
        print(f"refflow: {message}; {options.out} holds the best flow so far", file=sys.stderr)
    report = about | compared(flow, result.flow, parts) | {"data": options.data, "out": options.out}
    report["parts"], report["stopped_at"] = {name: len(x) for name, x in parts.items()}, len(result.history["step"])
    print(json.dumps(plain(report), indent=1, allow_nan=False) if options.json else fit_text(report, train.shape[1]))
    return status


def fit_text(report, D):
    parts = report["parts"]
    counts = ", ".join(f"{n} {'rows ' * (name == 'train')}{WORDS[name]}" for name, n in parts.items())
    rows = [("log-likelihood", *(f"{p}: {what}" for p in parts for what in ("nats", "bits/dim")))]
    for key, name in (("before", "before"), ("after", "after"), ("gaussian", "a Gaussian")):
        cells = []
        for found in report[key].values():
            cells += ["-", "-"] if found is None else [f"{found['nats']:.3f}", f"{found['bits_per_dim']:.3f}"]
        rows.append((name, *cells))
    gains = [f"{gain['nats']:.3f} +- {gain['error']:.3f}" if gain and gain["error"] is not None else "-"
             for gain in report["gain"].values()]
    rows.append(("gain over it", *(cell for gain in gains for cell in (gain, ""))))
    best = f", the best of {report['stopped_at']}" if "validation" in parts else ""
    last = f"{report['out']}: {report['model']} after step {report['step']}{best} (at most {report['steps']})"
    noise = f"\n{len(report['dequantised'])} columns of integers, with noise" if report["dequantised"] else ""
    return f"{report['data']}: {D} columns, {counts}{noise}\n{aligned(rows)}\n{last}"


# -- sample, score and data -------------------------------------------------------------------------------------------

def read_flow(path):
    """(flow of vectors, note)."""
    flow, note = saved_flow(path)
    if flow.rank != 1:
        raise CannotRun(f"{path}: it holds no flow of rows of numbers")
    return flow, note


def sample_flow(options):
    to_be_written(options.out, options.force)
    of_images = cli_images.read_image_flow(options.flow)
    if of_images is not None:
        return cli_images.sample_images(options, *of_images)
    flow, note = read_flow(options.flow)
    names, noisy = columns_of(flow, note)
    x = cli_images.drawn(flow, np.random.default_rng(options.seed), options.n, options.temperature)
    x[:, noisy] = np.floor(x[:, noisy])
    if options.out:
        write_table(options.out, names, written_rows(x, noisy), x)
    if options.json:
        report = {"flow": options.flow, "seed": options.seed, "columns": names, "out": options.out}
        print(json.dumps(plain(report | ({} if options.out else {"rows": x.tolist()})), allow_nan=False))
    elif not options.out:
        print(table_text(names, written_rows(x, noisy)), end="")
    return 0


def written_rows(x, whole):
    """The cells of rows, those of the columns `whole` without a decimal point."""
    whole = set(whole)
    return [[f"{v:.0f}" if j in whole else repr(v) for j, v in enumerate(row)] for row in x.tolist()]


def score_flow(options):
    to_be_written(options.out, options.force)
    of_images = cli_images.read_image_flow(options.flow)
    if of_images is not None:
        return cli_images.score_images(options, *of_images)
    flow, note = read_flow(options.flow)
    table = as_modelled(read_table(options.data), flow, note, np.random.default_rng(options.seed))
    log_prob = log_prob_of(flow, table.values)
    header = None if table.names is None else [*table.names, "log_prob"]
    rows = [[*cells, repr(v)] for cells, v in zip(table.cells, log_prob.tolist())]
    if options.out:
        write_table(options.out, header, rows, log_prob)
    elif not options.json:
        print(table_text(header, rows), end="")
    report = {"flow": options.flow, "data": options.data, "rows": len(log_prob), "out": options.out,
              "dequantised": columns_of(flow, note)[1]} | likelihood(log_prob, table.values.shape[1])
    if options.json:
        print(json.dumps(plain(report | {"log_prob": log_prob.tolist()}), allow_nan=False))
    else:
        counted = "1 row" if len(log_prob) == 1 else f"{len(log_prob)} rows"
        summary = f"{counted}: {report['nats']:.4f} nats, {report['bits_per_dim']:.4f} bits/dim"
        print(summary, file=sys.stdout if options.out else sys.stderr)
    return 0


def data_set(options):
    to_be_written(options.out, options.force)
    if options.name in IMAGES:
        return cli_images.image_set(options)
    cli_images.refuse_patch_options(options)
    try:
        data = load_data(options.name)
    except ImportError as error:
        raise CannotRun(str(error)) from None
    x = data.values
    rows = written_rows(x, np.flatnonzero((x == np.floor(x)).all(0)))
    if options.out:
        write_table(options.out, data.names, rows, x)
    if options.json:
        report = {"name": options.name, "columns": data.names, "shape": x.shape, "out": options.out}
        print(json.dumps(plain(report | ({} if options.out else {"rows": x.tolist()})), allow_nan=False))
    elif options.out:
        print(f"{options.out}: {options.name}, {len(x)} rows of {x.shape[1]} columns")
    else:
        print(table_text(data.names, rows), end="")
    return 0
