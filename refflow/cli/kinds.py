"""Which kind of data set a file holds, or a flow was fitted to."""

from __future__ import annotations

from .files import read_saved
from .formula import Formula
from .images import Images
from .rows import Rows
from .speech import Speech
from ..core import Flow
from ..fast import tuned
from ..models import GlowTTS
from ..oracle import CannotRun

KINDS = (Images, Rows)                  # of flows; rows are what is nothing else
FITTED = (Speech, *KINDS)


def to_fit(options, rng):
    """(data set, values to train on), or (a density given by a formula, None)."""
    if (options.data is None) == (options.energy is None):
        raise CannotRun("a flow is fitted to DATA or to --energy, a density given by a formula: give one of the two")
    if options.energy is not None:
        return Formula.to_fit(options, rng)
    if options.anneal:
        raise CannotRun("--anneal is for a density given by a formula, --energy")
    kind = next(kind for kind in FITTED if kind.holds(options.data))
    return kind.to_fit(options, rng)


def opened(path, arrays=False):
    """(flow, its data set, note) of a file that `refflow fit` or `save` has written; the note is a dictionary.

    With `arrays` the events of the flow may be arrays other than rows and images; each is then a row of its entries.
    """
    flow, note = read_saved(path)
    if isinstance(flow, GlowTTS):
        raise CannotRun(f"{path}: it holds a voice, with which `refflow speak` says texts")
    if not isinstance(flow, Flow) or flow.parameter_batch or flow.event_shape is None:
        raise CannotRun(f"{path}: it holds no flow of events of known shape")
    note = note if isinstance(note, dict) else {}
    data = next(found for kind in KINDS if (found := kind.of_flow(flow, note)) is not None)
    if flow.needs("context") and data.context is None:
        raise CannotRun(f"{path}: its flow needs a context, but the file does not name the columns of the context")
    if not arrays and data.shape != flow.event_shape:
        raise CannotRun(f"{path}: it holds no flow of rows of numbers")
    return tuned(flow), data, note
