"""refflow score FLOW DATA: log densities of the rows of a table, or of images."""

from __future__ import annotations

import sys

import numpy as np

from .files import refuse_form, table_text, write_table
from .kinds import opened
from .options import add_data, add_flow, add_seed, add_table_out, put, writes_a_file
from ..core.arrays import in_parts
from ..maps.dequantisation import bits_per_dim
from ..report import counted, json_text, likelihood


def add_command(commands):
    one = commands.add_parser("score", help="log densities of the rows of a table", description=(
        "Natural logarithms of the density of each row, as a column beside the data.  Where fit has dequantised columns, "
        "noise is drawn here too."))
    add_flow(one)
    add_data(one)
    add_table_out(one)
    add_seed(one)
    writes_a_file(one, run)


def run(options):
    refuse_form(options.out)
    flow, data, _ = opened(options.flow)
    given = data.read(options.data, options.header)
    y = data.with_noise(given.values, np.random.default_rng(options.seed))
    log_prob = in_parts(flow.log_prob, y).astype(np.float64)
    bits = bits_per_dim(log_prob, data.shape, bins=1)
    header, rows = scored(given, data.scores, {"log_prob": log_prob, "bits_per_dim": bits})
    if options.out:
        put(options, lambda path, replace: write_table(path, header, rows, log_prob, replace))
    elif not options.json:
        print(table_text(header, rows), end="")
    report = {"flow": options.flow, "data": options.data, "rows": len(y), "out": options.out}
    report |= data.note() | likelihood(log_prob, data.shape)
    if options.json:
        print(json_text(report | {"log_prob": log_prob.tolist(), "bits_per_dim_each": bits.tolist()}, indent=None))
    else:
        summary = f"{counted(len(y), data.word)}: {report['nats']:.4f} nats, {report['bits_per_dim']:.4f} bits/dim"
        print(summary, file=sys.stdout if options.out else sys.stderr)
    return 0


def scored(given, columns, found):
    """(the line of names or None, cells): what stands in the file, then the scores named in `columns`."""
    header = None if given.names is None else [*given.names, *columns]
    scores = zip(*(map(repr, found[column].tolist()) for column in columns))
    return header, [[*cells, *score] for cells, score in zip(given.cells, scores)]
