"""The protocols of a data set: what fit needs of any, and what score, sample and plot need of one whose events have a density.

The events of rows and of images are arrays, (N, *shape).  `values` are events as their file has them, integers without noise;
y are events as a flow models them, which have a density.  The utterances of speech are a `Corpus`.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from typing import Callable, Protocol

import numpy as np

from ..core import Chain, Flow
from ..core.arrays import in_parts
from ..core.values import Value
from ..oracle import CannotRun
from ..report import likelihood, likelihood_table, loss_in
from ..training import Result, fit, fit_flow_matching
from ..training.gaussians import log_probs

PATH = "conditional"                    # of flow matching
FLAT = 1e-3                             # nats for each number of an event: by less than that, a loss held out has not fallen


@dataclass(frozen=True)
class Given:
    """What a file holds: `values`, what stands before the score of each, cells with the `names` of their columns, and the
    `numbers` by which messages call them.
    """

    values: np.ndarray
    names: list | None
    cells: list
    numbers: list


@dataclass(frozen=True)
class Start:
    """A model before its training: patterns of the parameters that are `fixed`, arguments of `fit`, and `about`, the model's notes;
    `trainer`: the function that trains it, where its data leave a choice, as `by_likelihood`.
    """

    flow: Value
    fixed: tuple
    settings: dict
    about: dict = field(default_factory=dict)
    trainer: Callable | None = None


class Fitted(Protocol):
    """What a model is fitted to: rows of a table, images, or speech.

    `word`: of one event; `batch_size`: the usual one; `measured`: of how many training events fit reports losses, None for all;
    `loss_units`: arguments of the picture of a loss.
    """

    word: str
    batch_size: int
    measured: int | None
    loss_units: dict

    @staticmethod
    def holds(path) -> bool:
        """Does a file, or a folder, hold data of this kind?"""

    @classmethod
    def to_fit(cls, options, rng) -> tuple[Fitted, object]:
        """(data set, values to train on) of the options of fit; CannotRun for what cannot be modelled."""

    @classmethod
    def of_flow(cls, flow, note) -> Fitted | None:
        """What the events of a model are, from the note that fit has left; None where they are of another kind."""

    def note(self) -> dict:
        """What `of_flow` reads again."""

    def summary(self, counts) -> str:
        """What fit says of the data, with the text `counts`: how many there are of each part."""

    def arrays(self, values) -> list:
        """The arrays of values, by whose bytes a resumed fit knows that the data are the same."""

    def start(self, options, parts, rng) -> Start:
        """The model that the options name, initialised on the values of `parts`."""

    def trained(self, start, parts, rng, settings) -> Result:
        """The trained model; `settings`: arguments of `fit`, except the data and `rng`."""

    def compared(self, before, after, parts, rng) -> dict:
        """{"before", "after", "gaussian": {part: measures of loss}} of the model before and after training, for the report."""

    def table(self, report) -> str:
        """The comparison in a report, as text."""


class Dataset(Fitted, Protocol):
    """Rows of a table, or images.

    `shape`: of the array of an event; `names`: of its entries, or None; `measures`: the measures of likelihoods that fit
    prints; `scores`: the columns that score prints; `limits`: an argument of pictures; `context`: the columns on which a
    flow is conditioned, or None.
    """

    shape: tuple
    names: list | None
    measures: tuple
    scores: tuple
    limits: tuple | None
    context: object

    def read(self, path, header=None) -> Given:
        """The events of a file, which must be such as this describes; `header`: is the first row of a table names?"""

    def with_noise(self, values, rng) -> np.ndarray:
        """y of values: with uniform noise on integers."""

    def refreshed(self, values, rng) -> np.ndarray:
        """y of values to train on, as one step or one measurement sees them; rows have got their noise once for all."""

    def divided(self, y) -> tuple:
        """(x, context or None) of events y: what a flow models, and what it is given."""

    def gaussian(self, train, held_out) -> tuple[Callable | None, str | None]:
        """(log density of the Gaussian to compare with, None where there is none; what it is, None for rows)."""

    def refuse_samples(self, options) -> None:
        """CannotRun where samples cannot be written as the options of sample say."""

    def samples(self, y) -> np.ndarray:
        """Events such as the data are: integers where these are."""

    def write_samples(self, options, y) -> None:
        """Write them to `options.out` and say so, or without a file and --json print them."""

    def shown(self, y) -> np.ndarray:
        """Events as pictures show them."""


def in_units(model, units, y, rng, context=None) -> tuple[Flow, tuple]:
    """(x = units(model(z)), the patterns of the fixed stages `units`), the model initialised on events y.

    Models with a context have no layers that are initialised on data.
    """
    if context is None:
        model = model.initialised(Chain(units).inverse(y), rng)
    fixed = tuple(f"bijector.stages.{1 + i}" for i in range(len(units)))
    return Flow(Chain([model.bijector, *units]), model.base), fixed


def likeliest(name, known) -> str:
    """A hint for a name that is not among the known ones."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"


# -- training by likelihood -------------------------------------------------------------------------------------------

def by_likelihood(data, start, parts, rng, settings) -> Result:
    """The flow of the largest likelihood."""
    (x, context), held_out = data.divided(parts["train"]), None
    if "validation" in parts:
        held_out = data.divided(data.refreshed(parts["validation"], rng))
        held_out = held_out[0] if context is None else held_out
    return fit(start.flow, x, context=context, transform=data.refreshed, validation=held_out, fixed=start.fixed, rng=rng,
               flat=FLAT * math.prod(data.shape), progress=loss_in(data.measures[0], data.shape), **settings)


def by_matching(data, start, parts, rng, settings) -> Result:
    """The flow in time whose velocity follows paths from noise to the data."""
    held_out = data.refreshed(parts["validation"], rng) if "validation" in parts else None
    return fit_flow_matching(start.flow, parts["train"], path=PATH, transform=data.refreshed, validation=held_out, rng=rng,
                             flat=FLAT * math.prod(data.shape), progress="{:.4f}".format, **settings)


def density(data, flow):
    """The log densities of events y, as a function."""
    return lambda y: log_probs(flow, *data.divided(y))


def compared(data, flow, best, parts, rng):
    """{"before", "after", "gaussian": {part: likelihood}, "gain": {part: of the best over the Gaussian, in nats}}.

    "error" is the standard error of the mean gain; "gaussian_is" says what the Gaussian is.
    """
    events = {name: data.refreshed(values, rng) for name, values in parts.items()}
    gaussian, kind = data.gaussian(events["train"], events.get("validation"))
    densities = {"before": density(data, flow), "after": density(data, best), "gaussian": gaussian}
    found = {key: {} for key in (*densities, "gain")}
    for name, y in events.items():
        y = y[:data.measured] if name == "train" else y
        each = {key: None if density is None else in_parts(density, y).astype(np.float64)
                for key, density in densities.items()}
        for key, log_prob in each.items():
            found[key][name] = None if log_prob is None else likelihood(log_prob, data.shape)
        found["gain"][name] = None if gaussian is None else gain_of(each["after"] - each["gaussian"])
    return found | {"gaussian_is": kind}


def gain_of(differences):
    n = len(differences)
    error = None if n < 2 else float(differences.std(ddof=1)) / math.sqrt(n)
    return {"nats": float(differences.mean()), "error": error}


def comparison_text(data, report):
    kind = report["gaussian_is"]
    return likelihood_table(report, data.measures) + (f"\nthe Gaussian: {kind}" if kind else "")


def refuse_overflow(y):
    """Samples y.  CannotRun where one of them has left the floats."""
    wrong = np.flatnonzero(~np.isfinite(y.reshape(len(y), math.prod(y.shape[1:]))).all(1))
    if len(wrong):
        raise CannotRun(f"{len(wrong)} of {len(y)} samples overflow, sample {wrong[0]} first; a lower --temperature, or a lower "
                        "--guidance, keeps them among the floats")
    return y


# -- options of another kind ------------------------------------------------------------------------------------------

def refuse_foreign(options, names, models, rule):
    """CannotRun for options and models that are not for these data."""
    given = [f"--{key.replace('_', '-')}" for key in names if getattr(options, key)]
    given += [f"--model {options.model}"] * (options.model in models)
    if given:
        raise CannotRun(f"{given[0]} is for {rule}")
