"""refflow data NAME: write a public data set, a table or images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .files import cells_of, refuse_form, show_table, write_npy, write_npz, write_table
from .options import add_table_out, positive_count, put, writes_a_file
from ..data import IMAGES, PARTS, TABLES, load_data, load_labelled_images
from ..oracle import CannotRun
from ..report import json_text

OF_PHOTOGRAPHS = ("stride", "part")


def add_command(commands):
    one = commands.add_parser("data", help="write a public data set", description=(
        "Write a data set that comes inside scikit-learn as a table, or as images; nothing is downloaded."))
    one.add_argument("name", metavar="NAME", choices=[*TABLES, *IMAGES], help=", ".join([*TABLES, *IMAGES]))
    one.add_argument("--labels", action="store_true", help=(
        "the class of each row, 0, 1, ..., as a last column, class; of images as an array, class, in a .npz file"))
    patches = one.add_argument_group("photographs", "32 x 32 pixels a patch")
    patches.add_argument("--stride", type=positive_count, metavar="N", help=(
        "pixels from one patch to the next (32); patches that are nearer share pixels"))
    patches.add_argument("--part", choices=PARTS, help=(
        "train: patches of the left four fifths of each photograph, test: of the rest, which shares no pixel with them "
        "(all)"))
    add_table_out(one)
    writes_a_file(one, run)


def run(options):
    for key in OF_PHOTOGRAPHS:
        if getattr(options, key) and options.name != "photographs":
            raise CannotRun(f"--{key} is for photographs, not for {options.name}")
    try:
        report, text = (images if options.name in IMAGES else table)(options)
    except ImportError as error:
        raise CannotRun(str(error)) from None
    if options.json:
        print(json_text(report | {"out": options.out}, indent=None))
    elif text:
        print(text)
    return 0


def table(options):
    """(report, text) of a table, written."""
    refuse_form(options.out)
    data = load_data(options.name)
    x, names = data.values, data.names
    if options.labels:
        x, names = np.column_stack([x, data.labels]), [*names, "class"]
    rows = cells_of(x, np.flatnonzero((x == np.floor(x)).all(0)))
    report = {"name": options.name, "columns": names, "shape": x.shape}
    if options.out is None and not options.json:
        show_table(names, rows)
    if options.out is None:
        return report | {"rows": x.tolist()}, ""
    put(options, lambda path, replace: write_table(path, names, rows, x, replace))
    return report, f"{options.out}: {options.name}, {len(x)} rows of {x.shape[1]} columns"


def images(options):
    """(report, text) of images, written."""
    form = ".npz" if options.labels else ".npy"
    if options.out is None or Path(options.out).suffix != form:
        raise CannotRun(f"{options.name} are images{' with classes' * options.labels}; --out must be a {form} file")
    v, labels = load_labelled_images(options.name, stride=options.stride, part=options.part or "all")
    if options.labels:
        put(options, lambda path, replace: write_npz(path, {"images": v, "class": labels}, replace))
    else:
        put(options, lambda path, replace: write_npy(path, v, replace))
    N, C, H, W = v.shape
    channels = f", {C} channels" if C > 1 else ""
    report = {"name": options.name, "shape": v.shape, "largest": int(v.max())}
    return report, f"{options.out}: {options.name}, {N} images of {H} x {W} pixels{channels}, 0 .. {v.max()}"
