"""Rows of a table of numbers: a .npy file, or comma-separated values, with or without a header row.

A flow is trained as x = units(model(z)), where `units` is fixed: the mean and standard deviation of every column and, for
models other than a Gaussian, the shrunk correlations of `refflow.training.gaussians`, so that a model that starts near the
identity starts near a Gaussian.  Angles have no units.  Some columns may be a context, on which the density of the others
depends; `units` then holds the linear regression on it.

With x = v + u, v a row of integers and u uniform on [0, 1)^D, the density p of x bounds the probability P of the integers
(Theis, van den Oord & Bethge, arXiv:1511.01844):
    log P(v) = log int p(v + u) du >= int log p(v + u) du                           (1)
"""

from __future__ import annotations

import inspect
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .contexts import Context, context_of, noted
from .dataset import Given, Start, by_likelihood, by_matching, compared, comparison_text, density, in_units, likeliest, refuse_foreign
from .files import cells_of, refuse_form, show_table, write_table
from .options import put
from .tables import read_table
from ..models import BUILDERS
from ..oracle import CannotRun
from ..training import EMA, Adam, Cosine
from ..report import column_text, counted
from ..training.gaussians import ROUNDING, correlated, dependent_column, gaussian_start, normal, standardised

LARGEST = 2.0**1000                     # the largest numbers that pages are certified for
ROWS_PER_UNIT = 8                       # for each entry of a hidden layer, by default
MOVED = 8                               # entries that the couplings of a model transform together, at least, by default
SHOWN = 4                               # columns that a message names
OF_IMAGES = ("levels", "depth", "patch", "values", "bits", "channels_last", "additive", "permutation", "held_out")
MODELS_OF_IMAGES = ("glow", "image_realnvp", "jet", "starflow", "tarflow")
OF_SPEECH = ("table", "unit", "dropout")
CIRCULAR = "circular-nsf"               # the model of angles
TRAINERS = {"flow-matching": by_matching}                   # of others by_likelihood
RATES = {"flow-matching": 5e-3, "gaussian": 5e-3, "planar": 1e-2, "radial": 1e-2}         # Adam's, of others 0.001
SIZES = ("hidden", "couplings", "layers", "bins", "components", "dense")


@dataclass(frozen=True)
class Rows:
    """Rows with D numbers whose density is modelled, and with the numbers of a `context`, if there is one.

    `names` of all columns or None; `noisy`: the indices of columns of integers, which get noise.
    """

    D: int
    names: list | None = None
    noisy: tuple = ()
    context: Context | None = None

    word = "row"
    measures = ("nats", "bits_per_dim")
    scores = ("log_prob",)
    measured = None
    batch_size = 256
    loss_units = {}  # type: dict
    limits = None
    shape = property(lambda self: (self.D,))
    width = property(lambda self: self.D + len(self.context.columns if self.context else ()))

    # -- what they are ------------------------------------------------------------------------------------------------

    @staticmethod
    def holds(path):
        return True

    @classmethod
    def to_fit(cls, options, rng):
        refuse_options(options)
        table = read_table(options.data, options.header)
        context = context_of(table, options.context)
        data = cls(table.values.shape[1] - len(context.columns if context else ()), table.names, (), context)
        whole = [j for j in data.modelled() if integers(table.values[:, j])] if len(table.values) > 1 else []
        if options.dequantise and not whole:
            raise CannotRun(f"{table.source}: --dequantise: no column holds integers that come more than once")
        data = replace(data, noisy=tuple(whole) if options.dequantise else ())
        checked_integers(table, data.noisy)
        if options.model == CIRCULAR:
            checked_angles(table)
        values = data.with_noise(table.values, rng)
        checked_columns(replace(table, values=values), data)
        if whole and not options.dequantise:
            first, more = table.column(whole[0]), f" and {len(whole) - 1} more" if len(whole) > 1 else ""
            print(f"refflow: {table.source}: {first}{more} hold{'s' * (not more)} integers, whose density has no bound; "
                  "--dequantise adds uniform noise on [0, 1)", file=sys.stderr)
        return data, values

    @classmethod
    def of_flow(cls, flow, note):
        names, noisy, D = note.get("columns"), note.get("dequantised"), math.prod(flow.event_shape)
        names = names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
        data = cls(D, names, context=noted(note.get("context"), names) if flow.needs("context") else None)
        named = names is not None and len(names) == data.width
        indices = isinstance(noisy, list) and all(type(j) is int and 0 <= j < data.width for j in noisy)
        return replace(data, names=names if named else None, noisy=tuple(noisy) if indices else ())

    def note(self):
        context = {"context": self.context.note()} if self.context else {}
        return {"columns": self.names, "dequantised": self.noisy} | context

    def summary(self, counts):
        noise = f"\n{counted(len(self.noisy), 'column')} of integers, with noise" if self.noisy else ""
        given = f" given {self.context.words()}" if self.context else ""
        return f"{counted(self.D, 'column')}{given}, {counts}{noise}"

    # -- columns that are modelled, and the context -------------------------------------------------------------------

    def modelled(self):
        """The indices of the columns whose density is modelled."""
        return [j for j in range(self.width) if self.context is None or j not in self.context.columns]

    def modelled_names(self):
        return self.names and [self.names[j] for j in self.modelled()]

    def divided(self, y):
        if self.context is None:
            return y, None
        return y[:, self.modelled()], self.context.standardised(y[:, self.context.columns])

    def given(self, y, context):
        """Which of the rows y have this context, (C,)."""
        return (y[:, self.context.columns] == context).all(1)

    def joined(self, x, contexts):
        """Rows of the table, from their modelled columns and the context in the units of the table."""
        if self.context is None:
            return x
        rows = np.empty((len(x), self.width))
        rows[:, self.modelled()], rows[:, self.context.columns] = x, contexts
        return rows

    # -- their events -------------------------------------------------------------------------------------------------

    def read(self, path, header=None):
        table = read_table(path, header, self.names)
        width, names = table.values.shape[1], self.names
        if width != self.width:
            raise CannotRun(f"{table.source}: its number of columns is {width}, that of the flow {self.width}"
                            + (f": {', '.join(names)}" if names else ""))
        if names and table.names and names != table.names:
            j = next(j for j in range(width) if names[j] != table.names[j])
            raise CannotRun(f"{table.source}: column {j + 1} is {table.names[j]!r}, that of the flow {names[j]!r}")
        checked_integers(table, self.noisy)
        return Given(table.values, table.names, table.cells, table.lines)

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
        train = parts["train"]
        constant = np.flatnonzero(np.ptp(train, axis=0) == 0)
        if len(constant):
            raise CannotRun(f"{options.data}: {column_text(self.names, constant[0])} is constant in the rows to train on; hold "
                            f"out fewer (--validation 0) or choose another --seed")
        simple, circular = options.model == "gaussian", options.model == CIRCULAR
        x, context = self.divided(train)
        held_out = self.divided(parts["validation"]) if "validation" in parts else (None, None)
        units = () if circular else standardised(x) if simple else gaussian_start(x, held_out[0], context, held_out[1])
        model, sizes = model_of(options, len(train), self, rng)
        flow, fixed = (model, ("base", "*.ends")) if circular else in_units(model, units, x, rng, self.context)
        return Start(flow, fixed, settings_of(options), {"sizes": sizes},
                     TRAINERS.get(options.model, by_likelihood))

    def arrays(self, values):
        return [values]

    def trained(self, start, parts, rng, settings):
        return start.trainer(self, start, parts, rng, settings)

    def compared(self, before, after, parts, rng):
        return compared(self, before, after, parts, rng)

    def table(self, report):
        return comparison_text(self, report)

    def gaussian(self, train, held_out):
        """That of the largest likelihood; where there is none, the reason."""
        x, context = self.divided(train)
        stages = correlated(x, 0, context)
        if stages is not None:
            kind = None if context is None else f"its mean is a linear function of {self.context.words()}"
            return density(self, normal(stages)), kind
        order = predictors_first(train, self)
        return None, f"there is none: {dependence(train[:, order], self.names, order)}"

    # -- their samples ------------------------------------------------------------------------------------------------

    def refuse_samples(self, options):
        refuse_form(options.out)

    def samples(self, y):
        x, columns = y.copy(), list(self.noisy)
        x[:, columns] = np.floor(x[:, columns])
        return x

    def write_samples(self, options, y):
        x = self.samples(y)
        cells = cells_of(x, self.noisy)
        if options.out is not None:
            put(options, lambda path, replace: write_table(path, self.names, cells, x, replace))
        elif not options.json:
            show_table(self.names, cells)

    def shown(self, y):
        return y


# -- models -----------------------------------------------------------------------------------------------------------

def refuse_options(options):
    """Refuse models and options that are not for rows."""
    if Path(options.data).exists():
        refuse_foreign(options, OF_SPEECH, ("glow_tts",), f"speech; {options.data} is not a folder")
        refuse_foreign(options, OF_IMAGES, MODELS_OF_IMAGES, f"images; {options.data} is not an array (N, channels, "
                       "height, width) or (N, height, width) in a .npy file")


def model_of(options, rows, data, rng):
    """(the model, its sizes)."""
    builder, sizes = builder_and_sizes(options, rows, data)
    try:
        return builder(data.D, rng, **sizes), sizes
    except ValueError as error:
        hint = "; for one column there is --model gaussian" if data.D == 1 else ""
        raise CannotRun(f"no model can be made for {data.D} column{'s' * (data.D > 1)}: {error}{hint}") from None


def settings_of(options):
    """Arguments of `fit`."""
    simple = options.model == "gaussian"
    average = options.average if options.average is not None else 0.0 if simple else 0.99
    return {"optimiser": Adam(options.learning_rate or RATES.get(options.model, 1e-3)),
            "schedule": Cosine(max(options.steps, 1)), "averaging": EMA(average) if average else None}


def builder_and_sizes(options, rows, data):
    """(the builder of the model, its sizes).

    Unless told otherwise, few rows make narrow layers, and few columns mean many couplings, since each transforms half of them.
    """
    if options.model not in BUILDERS:
        raise CannotRun(f"there is no model {options.model!r}; {likeliest(options.model, BUILDERS)}")
    builder = BUILDERS[options.model]
    accepted = inspect.signature(builder).parameters
    sizes = {key: getattr(options, key) for key in SIZES if getattr(options, key) is not None}
    sizes |= {"context": len(data.context.columns)} if data.context else {}
    foreign = sorted(sizes.keys() - accepted)
    if foreign:
        able = [name for name, other in BUILDERS.items() if foreign[0] in inspect.signature(other).parameters]
        raise CannotRun(f"the model {options.model} has no --{foreign[0]}; models with it are {', '.join(sorted(able))}")
    own = {key: accepted[key].default for key in SIZES if key in accepted}
    if "hidden" in own:
        own["hidden"] = tuple(min(width, max(8, rows // ROWS_PER_UNIT)) for width in own["hidden"])
    if "couplings" in own:
        own["couplings"] = max(own["couplings"], 2 * MOVED // data.D)
    return builder, own | sizes


# -- columns ----------------------------------------------------------------------------------------------------------

def integers(x):
    """Does a column hold integers alone, with values that come more than once?"""
    return (x == np.floor(x)).all() and len(np.unique(x)) < len(x)


def checked_integers(table, columns):
    """Refuse columns to which no noise can be added."""
    part = table.values[:, list(columns)]
    bad = np.argwhere((part != np.floor(part)) | (np.abs(part) > 2**52))
    if len(bad):
        i, j = bad[0]
        raise CannotRun(f"{table.where(i, columns[j])}: {part[i, j]:g} is not an integer, to which noise could be added")


def checked_angles(table):
    """Refuse numbers that are not angles of a circle."""
    bad = np.argwhere(np.abs(table.values) >= math.pi)
    if len(bad):
        i, j = bad[0]
        raise CannotRun(f"{table.where(i, j)}: {table.values[i, j]:g} is not an angle in radians between -pi and pi, as "
                        f"{CIRCULAR} needs; turn or scale the column")


def checked_columns(table, data):
    """Refuse columns that have no density, given the context, and say which nearly have none."""
    x, noisy = table.values, data.noisy
    if len(x) < 2:
        raise CannotRun(f"{table.source}: it holds {len(x)} row; a density needs at least 2")
    for j in range(x.shape[1]):
        low, high = x[:, j].min(), x[:, j].max()
        if max(-low, high) > LARGEST:
            raise CannotRun(f"{table.source}: {table.column(j)} holds {high if high > -low else low:g}, which is too large to "
                            f"train on (at most {LARGEST:.3g}); divide the column")
        if high - low <= ROUNDING * max(abs(low), abs(high)):
            what = "the constant" if low == high else "up to rounding the constant"
            raise CannotRun(f"{table.source}: {table.column(j)} is {what} {x[0, j]:g}, which has no density; leave it out"
                            + (", or use --dequantise" if integers(x[:, j]) else ""))
    order = predictors_first(x, data)
    x = x[:, order]
    found = dependent_column(x)
    if found is None:
        return
    why = f"{table.source}: {dependence(x, table.names, order)}"
    if len(x) > x.shape[1] and found.exact:
        raise CannotRun(f"{why}: the columns have no density; leave one out"
                        + (", or use --dequantise" if integers(x[:, found.column]) and not noisy else ""))
    print(f"refflow: {why}: the likelihood of a density has no bound", file=sys.stderr)


def predictors_first(x, data):
    """The indices of the columns of the context, without what others of them determine, then of the modelled columns."""
    context = list(data.context.columns) if data.context else []
    while context and (found := dependent_column(x[:, context])) is not None:
        del context[found.column]
    return [*context, *data.modelled()]


def dependence(x, names, order):
    """Why the columns of x lie in a plane, or next to one; `order` holds their indices in the table."""
    if len(x) <= x.shape[1]:
        return f"{counted(len(x), 'row')} of {counted(x.shape[1], 'column')} lie in a plane"
    found = dependent_column(x)
    others = [column_text(names, order[k]) for k in found.of[:SHOWN]] + ["others"] * (len(found.of) > SHOWN)
    nearly, own = "" if found.exact else "nearly ", column_text(names, order[found.column])
    if found.equal:
        return f"{own} equals {others[0]}"
    return f"{own} is {nearly}a linear function of {' and '.join(others)}"
