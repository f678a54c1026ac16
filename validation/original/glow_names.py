"""What the comparisons of Glow with three codes share: tables of their names, and the walk through a model's levels."""

from __future__ import annotations

import itertools
from collections import namedtuple

import numpy as np

from refflow.core import Chain, Inverse
from refflow.core.tree import at_path, flatten, nest
from refflow.maps.shape import FactorOut, Reshape

# theirs from our array; ours from theirs and from the variables `others`, None if another variable gives it; and, if it
# differs, theirs from our gradient, given (gradient, parameter)
Entry = namedtuple("Entry", "path theirs ours gradient others", defaults=(None, ()))


class Table:
    """{their name: Entry} for one configuration of a code.

    `entries`: their trained variables; `constants`: their untrained ones, permutations and signs.  Our parameters are
    the parameters of the flow and of the classifier.
    """

    def __init__(self):
        self.entries, self.constants = {}, {}

    def our(self, name, theirs):
        """Our array for their variable `name`."""
        entry = (self.entries | self.constants)[name]
        return entry.ours(theirs[name], *(theirs[other] for other in entry.others))

    def ours(self, theirs):
        """Our parameters and permutations, nested, from a dictionary of theirs."""
        return nest({entry.path: self.our(name, theirs) for name, entry in (self.entries | self.constants).items()
                     if entry.ours is not None})

    def theirs(self, model):
        """A dictionary of all their variables, from our flow and classifier."""
        flow, flat = model.flow, self.checked(model.params())
        return ({name: entry.theirs(flat[entry.path]) for name, entry in self.entries.items()}
                | {name: entry.theirs(at_path(flow, entry.path)) for name, entry in self.constants.items()})

    def gradients(self, params_bar, params):
        """A dictionary of their gradients, from our gradients."""
        bars, flat = self.checked(params_bar), self.checked(params)
        return {name: entry.theirs(bars[entry.path]) if entry.gradient is None else
                entry.gradient(bars[entry.path], flat[entry.path]) for name, entry in self.entries.items()}

    def checked(self, nested):
        """{path: array}; a context has no counterpart."""
        flat = {path: array for path, array in flatten(nested) if path[-1] != "context"}
        if flat.keys() != {entry.path for entry in self.entries.values()}:
            raise ValueError("a parameter of the flow has no counterpart in the authors' code")
        return flat


# -- the walk ---------------------------------------------------------------------------------------------------------

def walked(f, x):
    """(h, log_det, mean, log_scale) of each level of a flow's map of images: h and log_det after its steps, and the prior of
    what it finishes there.
    """
    steps = list(itertools.takewhile(lambda stage: not isinstance(stage, (Inverse, FactorOut, Reshape)), f.stages))
    h, log_det = Chain(steps).forward_and_log_det(x)
    prior, last = f.stages[len(steps)], f.stages[-1]
    m = q = np.zeros_like(h)
    if isinstance(prior, Inverse):
        kept, _ = prior.inner.parts(h)
        m, q = prior.inner.pieces(prior.inner.net.forward(kept))
    yield h, log_det, m, q
    if isinstance(last, FactorOut):
        yield from walked(last.rest, kept)
