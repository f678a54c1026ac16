"""The command line for pictures: refflow plot FLOW [DATA] --what transport --out picture.png, refflow plot PAGE --out picture.svg.

Exit status: 0 done; 2 could not run; 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..book.pages import pages
from ..book.shown import shown
from ..core import Flow
from ..models import GlowTTS
from ..oracle import CannotRun
from ..oracle.points.pages import page_named, spelled
from ..pictures import of
from ..report import counted, json_text
from .contexts import given_contexts
from .dataset import Dataset
from .files import read_saved
from .kinds import opened
from .options import add_data, add_flow, add_given, add_seed, count, counts, positive_count, put, rate, writes_a_file
from .sample import drawn
from .speech import opened_voice

WHAT = {"transport": "a density of 2 columns step by step, from z_0 to x",
        "paths": "the paths of points in time from noise to samples, of cnf, ffjord or flow-matching with 1 or 2 columns",
        "density": "the density, over DATA if given; of more than 2 columns, samples beside DATA",
        "history": "the training curve",
        "images": "samples as images, DATA's rows above them if given",
        "interpolation": "from row 1 of DATA to row 2, from 3 to 4, ..., along straight lines between their latents",
        "alignment": "of a voice: which frames of an utterance of DATA, a folder with --table, or of --text as it is spoken, "
                     "belong to which symbol"}
FORMS = (".png", ".pdf", ".svg")


def add_command(commands):
    one = commands.add_parser("plot", help="draw a picture of a flow", description=(
        "Draw a flow as a .png, .pdf or .svg file; needs matplotlib: pip install \"refflow[plot]\".  Without --what, FLOW is the name "
        "of a page, whose picture in the book is written as .svg, without matplotlib."),
        epilog="; ".join(f"{name}: {what}" for name, what in WHAT.items()))
    add_flow(one)
    add_data(one, "?")
    one.add_argument("--what", choices=WHAT, help="the picture of a flow")
    one.add_argument("--out", metavar="PICTURE", required=True, help="the file to write, .png, .pdf or .svg")
    one.add_argument("--shape", type=image_shape, metavar="HxW",
                     help="of the images that rows are, 8x8 or with channels 3x32x32")
    one.add_argument("--columns", type=counts, metavar="N,N,...", help="which columns a density shows, from 1 (the first 6)")
    one.add_argument("--n", type=positive_count, default=40, help="how many images, or rows of an interpolation (40)")
    one.add_argument("--temperature", type=rate, default=1.0, metavar="T", help="of images: their latents times T (1)")
    add_given(one)
    speech = one.add_argument_group("alignments", "FLOW is a voice")
    speech.add_argument("--table", metavar="FILE", help="the transcripts of DATA, as for refflow fit")
    speech.add_argument("--text", metavar="TEXT", help="what the voice says, in place of DATA")
    speech.add_argument("--row", type=positive_count, default=1, metavar="N", help="which utterance of the table (1)")
    one.add_argument("--panels", type=panel_count, metavar="N", help="how many steps of a transport, by default all")
    add_seed(one)
    writes_a_file(one, run)


def image_shape(text):
    shape = tuple(int(part) for part in text.split("x"))
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"a shape is HxW or CxHxW, not {text!r}")
    return shape


def panel_count(text):
    if count(text) < 2:
        raise argparse.ArgumentTypeError("a transport has at least 2 panels")
    return int(text)


def run(options):
    return run_page(options) if options.what is None else run_flow(options)


def run_page(options):
    """The picture that the book has of a page."""
    if Path(options.flow).suffix in (".npz", ".json"):
        raise CannotRun(f"--what: say which picture of {options.flow}: {', '.join(WHAT)}")
    page = page_named(spelled(options.flow), pages())
    drawing = of(*shown(page))
    if drawing is None:
        raise CannotRun(f"{page.__name__} has no picture")
    try:
        put(options, lambda path, replace: drawing.save(path, replace))
    except ValueError as error:
        raise CannotRun(f"--out: {error}") from None
    report = {"page": page.__name__, "out": options.out, "label": drawing.label}
    print(json_text(report, indent=None) if options.json else f"{options.out}: {drawing.label}")
    return 0


def run_flow(options):
    if Path(options.out).suffix.lower() not in FORMS:
        raise CannotRun(f"--out {options.out}: the name of a picture must end in {', '.join(FORMS)}")
    try:
        from .. import plot
    except ImportError as error:
        raise CannotRun(str(error)) from None
    try:
        of_file = OF_FILES.get(options.what)
        figure = of_file(plot, options) if of_file else OF_FLOWS[options.what](plot, options, subject_of(options))
    except ValueError as error:
        raise CannotRun(str(error)) from None
    put(options, lambda path, replace: plot.save(figure, path, replace))
    report = {"flow": options.flow, "data": options.data, "what": options.what, "seed": options.seed, "out": options.out}
    print(json_text(report, indent=None) if options.json else f"{options.out}: {options.what} of {options.flow}")
    return 0


@dataclass(frozen=True)
class Subject:
    """What is drawn: a flow, what its events are, the note of fit, the events of DATA or None, names of their entries."""

    flow: Flow
    data: Dataset
    note: dict
    y: np.ndarray | None
    names: list | None
    rng: Any


def subject_of(options):
    flow, data, note = opened(options.flow, arrays=True)
    rng = np.random.default_rng(options.seed)
    if data.context is not None:
        return subject_given(options, flow, data, note, rng)
    given_contexts(data.context, options)
    if options.data is None:
        return Subject(flow, data, note, None, data.names, rng)
    given = data.read(options.data, options.header)
    y = data.with_noise(given.values, rng).reshape(-1, *flow.event_shape)
    return Subject(flow, data, note, y, data.names or given.names, rng)


def subject_given(options, flow, data, note, rng):
    """A flow at one context, and the rows of DATA that have this context."""
    contexts, names = given_contexts(data.context, options), data.modelled_names()
    if len(contexts) != 1:
        raise CannotRun(f"--given: a picture shows one context, and {options.given} holds {len(contexts)}")
    flow = flow.at(context=data.context.standardised(contexts)[0])
    if options.data is None:
        return Subject(flow, data, note, None, names, rng)
    rows = data.with_noise(data.read(options.data, options.header).values, rng)
    same = data.given(rows, contexts[0])
    if not same.any():
        raise CannotRun(f"{options.data}: no row has the context {options.given}; without DATA the picture shows the density "
                        "alone")
    return Subject(flow, data, note, data.divided(rows[same])[0], names, rng)


def shape_of(options, flow):
    """The shape of one image; the flow's event shape where its events are matrices or images."""
    shape = options.shape or flow.event_shape
    if len(shape) not in (2, 3):
        raise CannotRun(f"{options.flow}: its events are rows of {math.prod(flow.event_shape)} numbers; --shape HxW tells the "
                        "shape of the images that they are")
    if math.prod(shape) != math.prod(flow.event_shape):
        raise CannotRun(f"--shape {'x'.join(map(str, shape))}: these are {math.prod(shape)} numbers, the flow's events are "
                        f"of {math.prod(flow.event_shape)}")
    return shape


def transport(plot, options, subject):
    return plot.transport(subject.flow, subject.rng, panels=options.panels)


def paths(plot, options, subject):
    return plot.paths(subject.flow, subject.rng, names=subject.names)


def density(plot, options, subject):
    if options.columns and max(options.columns) > math.prod(subject.flow.event_shape):
        raise CannotRun(f"--columns: the flow has {math.prod(subject.flow.event_shape)} columns, not {max(options.columns)}")
    entries = options.columns and [j - 1 for j in options.columns]
    return plot.density(subject.flow, subject.y, rng=subject.rng, names=subject.names, entries=entries)


def history(plot, options):
    voice = isinstance(read_saved(options.flow)[0], GlowTTS)
    _, data, note = opened_voice(options.flow) if voice else opened(options.flow, arrays=True)
    if "history" not in note:
        raise CannotRun(f"{options.flow}: the history of its training is not in the file")
    loss_is = {"loss_is": "E[log q - log p]"} if "energy" in note else {}
    return plot.history(note["history"], **data.loss_units, **loss_is)


def images(plot, options, subject):
    warm = "" if options.temperature == 1 else f", temperature {options.temperature:g}"
    groups = {f"samples{warm}": drawn(subject.flow, subject.rng, options.n, options.temperature)}
    if subject.y is not None:
        groups = {"data": subject.y[:options.n]} | groups
    return plot.images([subject.data.shown(y) for y in groups.values()], groups, shape=shape_of(options, subject.flow),
                       limits=subject.data.limits)


def interpolation(plot, options, subject):
    if subject.y is None or len(subject.y) < 2:
        raise CannotRun("an interpolation needs DATA of at least two rows")
    ends = subject.y[:2 * min(options.n, len(subject.y) // 2)]
    shape = None if options.shape is None and subject.flow.event_shape == (2,) else shape_of(options, subject.flow)
    return plot.interpolation(subject.flow, ends[::2], ends[1::2], shape=shape, limits=subject.data.limits)


def alignment(plot, options):
    model, data, _ = opened_voice(options.flow)
    if (options.text is None) == (options.data is None):
        raise CannotRun("an alignment needs DATA, a folder of speech with --table, or --text, and not both")
    tokens, path, mel, title = of_text(model, data, options) if options.data is None else of_utterance(model, data, options)
    settings = data.settings
    return plot.alignment(path, mel, symbols=[data.symbols[i] for i in tokens], rate=settings.rate / settings.hop, title=title)


def of_text(model, data, options):
    """(tokens, path, mel, title) of a text as the voice says it."""
    tokens = data.tokens(options.text)
    spoken = model.infer(tokens, np.array([tokens.shape[1]]), np.random.default_rng(options.seed), speakers=data.speaker(None))
    frames = int(spoken.frame_lengths[0])
    return tokens[0], spoken.path[0, :, :frames], spoken.mel[0, :, :frames], f"spoken: {options.text}"


def of_utterance(model, data, options):
    """(tokens, path, mel, title) of an utterance, along the path of the largest likelihood."""
    corpus = data.corpus_at(options.data, options.table)
    if options.row > len(corpus):
        raise CannotRun(f"--row {options.row}: {options.table} has {counted(len(corpus), 'utterance')}")
    batch, name = corpus.batch([options.row - 1]), corpus.utterances[options.row - 1].name
    terms, _ = model.terms_vjp(*batch)
    return batch.tokens[0], terms.path[0], batch.mels[0], f"{name}: the path of the largest likelihood"


OF_FLOWS = {"transport": transport, "paths": paths, "density": density, "images": images, "interpolation": interpolation}
OF_FILES = {"history": history, "alignment": alignment}
