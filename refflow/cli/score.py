"""refflow score FLOW DATA: log densities of the rows of a table, or of images."""

from __future__ import annotations

import sys

import numpy as np

from .files import refuse_form, show_table, write_table
from .in_time import add_exact, along_scheme
from .kinds import opened
from .options import STDOUT, add_data, add_flow, add_seed, add_threads, put, writes_a_file
from ..maps.dequantisation import bits_per_dim
from ..report import counted, json_text, likelihood
from ..training.gaussians import log_probs

LEAST = 3                               # of the least likely events, how many are named


def add_command(commands):
    one = commands.add_parser("score", help="log densities of the rows of a table", description=(
        "The mean log density of the rows of DATA, and which are the least likely; with --out a table of DATA, beside each "
        "row the natural logarithm of its density, given the columns of its context if the flow has one.  Where fit has "
        "dequantised columns, noise is drawn here too."))
    add_flow(one)
    add_data(one)
    one.add_argument("--out", metavar="FILE", help=".npy, or text, .csv, .txt or .dat, with .gz after it compressed; -: standard output")
    add_exact(one)
    add_seed(one)
    add_threads(one)
    writes_a_file(one, run)


def run(options):
    refuse_form(options.out)
    flow, data, _ = opened(options.flow)
    flow, = along_scheme(options, flow)
    given = data.read(options.data, options.header)
    y = data.with_noise(given.values, np.random.default_rng(options.seed))
    log_prob = log_probs(flow, *data.divided(y)).astype(np.float64)
    bits = bits_per_dim(log_prob, data.shape, bins=1)
    header, rows = scored(given, data.scores, {"log_prob": log_prob, "bits_per_dim": bits})
    if options.out == STDOUT:
        show_table(header, rows)
    elif options.out:
        put(options, lambda path, replace: write_table(path, header, rows, log_prob, replace))
    report = {"flow": options.flow, "data": options.data, "rows": len(y), "out": options.out}
    report |= {"scheme": options.scheme} if options.scheme else {}
    report |= data.note() | likelihood(log_prob, data.shape)
    if options.json:
        print(json_text(report | {"log_prob": log_prob.tolist(), "bits_per_dim_each": bits.tolist()}, indent=None))
    else:
        print(f"{counted(len(y), data.word)}: {report['nats']:.4f} nats, {report['bits_per_dim']:.4f} bits/dim"
              + (spread(log_prob, data.word, given.numbers) if options.out is None else ""),
              file=sys.stderr if options.out == STDOUT else sys.stdout)
    return 0


def spread(log_prob, word, numbers):
    """Between what the scores lie, and which events are the least likely."""
    if len(log_prob) < 2:
        return ""
    low, median, high = np.quantile(log_prob, (0, 0.5, 1), method="nearest")
    least = ", ".join(str(numbers[i]) for i in np.argsort(log_prob, kind="stable")[:LEAST])
    outside = int(np.sum(log_prob == -np.inf))
    return (f"\nfrom {low:.4f} to {high:.4f} nats, the median {median:.4f}; the least likely: {word} {least}"
            + (f"\n{counted(outside, word)} outside the support" if outside else ""))


def scored(given, columns, found):
    """(the line of names or None, cells): what stands in the file, then the scores named in `columns`."""
    header = None if given.names is None else [*given.names, *columns]
    scores = zip(*(map(repr, found[column].tolist()) for column in columns))
    return header, [[*cells, *score] for cells, score in zip(given.cells, scores)]
