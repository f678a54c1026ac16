"""The command line for pictures: refflow plot FLOW [DATA] --what transport --out picture.png.

Exit status: 0 done; 2 could not run; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from .images import drawn, images_of, images_to_score
from .tables import Table, as_modelled, columns_of, common, count, positive_count, rate, read_table, saved_flow, to_be_written
from ..maps.dequantisation import quantised
from ..oracle import CannotRun
from ..oracle.verdict import plain

WHAT = {"transport": "a density of 2 columns step by step, from z_0 to x",
        "density": "the density, over DATA if given; of more than 2 columns, samples beside DATA",
        "history": "the training curve",
        "images": "samples as images, DATA's rows above them if given",
        "interpolation": "from row 1 of DATA to row 2, from 3 to 4, ..., along straight lines between their latents"}
FORMS = (".png", ".pdf", ".svg")


def add_commands(commands):
    """Add plot to the parser's commands."""
    one = commands.add_parser("plot", help="draw a picture of a flow", description=(
        "Draw a flow as a .png, .pdf or .svg file; needs matplotlib: pip install \"refflow[plot]\"."),
        epilog="; ".join(f"{name}: {what}" for name, what in WHAT.items()))
    one.add_argument("flow", metavar="FLOW", help="a file that refflow fit has written")
    one.add_argument("data", metavar="DATA", nargs="?", help="a .npy file, or comma-separated values")
    one.add_argument("--what", choices=WHAT, required=True, help="the picture")
    one.add_argument("--out", metavar="PICTURE", required=True, help="the file to write, .png, .pdf or .svg")
    one.add_argument("--shape", type=image_shape, metavar="HxW",
                     help="of the images that rows are, 8x8 or with channels 3x32x32")
    one.add_argument("--n", type=positive_count, default=40, help="how many images, or rows of an interpolation (40)")
    one.add_argument("--temperature", type=rate, default=1.0, metavar="T", help="of images: their latents times T (1)")
    one.add_argument("--panels", type=panel_count, metavar="N", help="how many steps of a transport, by default all")
    common(one, plot_flow)


def image_shape(text):
    shape = tuple(int(part) for part in text.split("x"))
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"a shape is HxW or CxHxW, not {text!r}")
    return shape


def panel_count(text):
    if count(text) < 2:
        raise argparse.ArgumentTypeError("a transport has at least 2 panels")
    return int(text)


def plot_flow(options):
    if Path(options.out).suffix.lower() not in FORMS:
        raise CannotRun(f"--out {options.out}: the name of a picture must end in {', '.join(FORMS)}")
    to_be_written(options.out, options.force)
    try:
        from .. import plot
    except ImportError as error:
        raise CannotRun(str(error)) from None
    flow, note = saved_flow(options.flow)
    rng = np.random.default_rng(options.seed)
    table = None if options.data is None else as_modelled(table_of(options.data, images_of(flow, note), rng), flow, note, rng)
    try:
        figure = DRAW[options.what](plot, options, flow, note, table, rng)
    except ValueError as error:
        raise CannotRun(str(error)) from None
    plot.save(figure, options.out)
    report = {"flow": options.flow, "data": options.data, "what": options.what, "seed": options.seed, "out": options.out}
    print(json.dumps(plain(report)) if options.json else f"{options.out}: {options.what} of {options.flow}")
    return 0


def table_of(path, what, rng):
    """The table in a file; of a flow of images, `what` they are, with noise."""
    if what is None:
        return read_table(path)
    y = what.with_noise(images_to_score(path, what), rng)
    return Table(y.reshape(len(y), -1), None, [], list(range(1, len(y) + 1)), path)


def rows_of(table, flow):
    return None if table is None else table.values.reshape(-1, *flow.event_shape)


def shape_of(options, flow):
    """The shape of one image; that of the flow's events where they are matrices or images."""
    shape = options.shape or flow.event_shape
    if len(shape) not in (2, 3):
        raise CannotRun(f"{options.flow}: its events are rows of {flow.event_shape[0]} numbers; --shape HxW tells the shape "
                        "of the images that they are")
    if math.prod(shape) != math.prod(flow.event_shape):
        raise CannotRun(f"--shape {'x'.join(map(str, shape))}: these are {math.prod(shape)} numbers, the flow's events are "
                        f"of {math.prod(flow.event_shape)}")
    return shape


def transport(plot, options, flow, note, table, rng):
    return plot.transport(flow, rng, panels=options.panels)


def density(plot, options, flow, note, table, rng):
    names = columns_of(flow, note)[0] or (table.names if table else None)
    return plot.density(flow, rows_of(table, flow), rng=rng, names=names)


def history(plot, options, flow, note, table, rng):
    if "history" not in note:
        raise CannotRun(f"{options.flow}: the history of its training is not in the file")
    what = images_of(flow, note)
    return plot.history(note["history"]) if what is None else plot.history(note["history"], dimensions=what.size, levels=1)


def images(plot, options, flow, note, table, rng):
    warm = "" if options.temperature == 1 else f", temperature {options.temperature:g}"
    groups, titles, what = [drawn(flow, rng, options.n, options.temperature)], [f"samples{warm}"], images_of(flow, note)
    if table is not None:
        groups, titles = [rows_of(table, flow)[:options.n], *groups], ["data", *titles]
    if what is not None:
        groups = [quantised(y, what.bins, None, 0.0, float(what.bins)) for y in groups]
    return plot.images(groups, titles, shape=shape_of(options, flow), limits=limits_of(what))


def limits_of(what):
    """The values that are black and white."""
    return None if what is None else (0, what.bins - 1)


def interpolation(plot, options, flow, note, table, rng):
    if table is None or len(table.values) < 2:
        raise CannotRun("an interpolation needs DATA of at least two rows")
    ends = rows_of(table, flow)[:2 * min(options.n, len(table.values) // 2)]
    shape = None if options.shape is None and flow.event_shape == (2,) else shape_of(options, flow)
    return plot.interpolation(flow, ends[::2], ends[1::2], shape=shape, limits=limits_of(images_of(flow, note)))


DRAW = {"transport": transport, "density": density, "history": history, "images": images, "interpolation": interpolation}
