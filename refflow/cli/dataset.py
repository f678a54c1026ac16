"""The protocol of a data set: what fit, score, sample and plot need of the rows of a table, and of images.

A data set describes events and how files hold them; the events themselves are arrays, (N, *shape).  `values` are events as
their file has them, integers without noise; y are events as a flow models them, which have a density.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Callable, Protocol

import numpy as np

from ..core import Chain, Flow


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
    """A flow before its training: patterns of what is `fixed`, arguments of `fit`, and `about`, to be noted of the model."""

    flow: Flow
    fixed: tuple
    settings: dict
    about: dict = field(default_factory=dict)


class Dataset(Protocol):
    """Rows of a table, or images.

    `word`: of one event; `shape`: of its array; `names`: of its entries, or None; `measures`: the measures of likelihoods that fit
    prints; `scores`: the columns that score prints; `measured`: of how many training events fit reports likelihoods, None
    for all; `batch_size`: the usual one; `loss_units`, `limits`: arguments of the pictures.
    """

    word: str
    shape: tuple
    names: list | None
    measures: tuple
    scores: tuple
    measured: int | None
    batch_size: int
    loss_units: dict
    limits: tuple | None

    @staticmethod
    def holds(path) -> bool:
        """Does a file hold data of this kind?"""

    @classmethod
    def to_fit(cls, options, rng) -> tuple[Dataset, np.ndarray]:
        """(data set, values to train on) of the options of fit; CannotRun for what has no density."""

    @classmethod
    def of_flow(cls, flow, note) -> Dataset | None:
        """What the events of a flow are, from the note that fit has left; None where they are of another kind."""

    def note(self) -> dict:
        """What `of_flow` reads again."""

    def summary(self, counts) -> str:
        """What fit says of the data, with the text `counts`: how many there are of each part."""

    def read(self, path, header=None) -> Given:
        """The events of a file, which must be such as this describes; `header`: is the first row of a table names?"""

    def with_noise(self, values, rng) -> np.ndarray:
        """y of values: with uniform noise on integers."""

    def refreshed(self, values, rng) -> np.ndarray:
        """y of values to train on, as one step or one measurement sees them; rows have got their noise once for all."""

    def start(self, options, parts, rng) -> Start:
        """The model that the options name, initialised on the values of `parts`."""

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


def in_units(model, units, y, rng) -> tuple[Flow, tuple]:
    """(x = units(model(z)), the patterns of the fixed stages `units`), the model initialised on events y."""
    model = model.initialised(Chain(units).inverse(y), rng)
    fixed = tuple(f"bijector.stages.{1 + i}" for i in range(len(units)))
    return Flow(Chain([model.bijector, *units]), model.base), fixed


def likeliest(name, known) -> str:
    """A hint for a name that is not among the known ones."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
