"""Somebody else's flow as a black box: a forward and, if it has them, inverse, log-det, log_prob, gradient, parameters.

    BlackBox(forward=t.call_and_ladj, inverse=t.inv.call_and_ladj, event=(3,), parameters=net.parameters)

Arrays are (*batch, *event).  `forward` and `inverse` return the image, or (image, log-det) of the map being applied.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Any

import numpy as np

from ...core import sets
from ...core.sets import Set, interval, real
from ...report import counted, shortened
from ..asking.arrays import (
    BACKENDS, LARGEST, NORMAL, SUBNORMAL, UNITS, as_numpy, backend_of, can_be_written, coarsest, dtype_of, is_parameter, leaves, leaves_like,
    made, numpy_dtype, parts_of, rebuilt, trained_marks, written)
from ..asking.time_limits import in_time
from ..asking.whose import theirs
from ..points.pages import CannotRun
from .lawbook import Found

QUANTITIES = ("forward", "inverse", "log_det", "inverse_log_det", "log_prob", "sample", "pullback", "parameters", "domain",
              "codomain", "smooth", "wider", "compiled", "masked", "reload")
FUNCTIONS = ("forward", "inverse", "log_det", "log_prob", "sample", "pullback", "compiled", "masked", "reload")
DIRECTIONS = ("forward", "inverse")
UNNAMED = ("real", "extended_real", "anything", "permutation", "sequence_mask", "context", "nonzero_vector",
           "nonzero_matrix", "nonzero_bank")
LINES = (real.name, sets.extended_real.name, interval(-np.inf, np.inf).name)
NAMED = {name: where for name, where in vars(sets).items() if isinstance(where, Set) and name not in UNNAMED}
OTHER_NAMES = {"ordered": "increasing", "positively_ordered": "positive_ordered"}
MEASURES = {"its own volume": "intrinsic", "own volume": "intrinsic", "coordinates": "chart", "its coordinates": "chart"}
MOVED = "moved parameters"              # of a box whose parameters cannot be written to


@dataclass(frozen=True)
class BlackBox:
    """A map of events of shape `event`, asked with arrays of `backend` and `dtype`.

    `log_det(z)`; `log_prob(x)` under the base N(0, I); `sample(n)`; `pullback(z, x_bar, log_det_bar)` -> (z_bar, params_bar).
    `parameters`: arrays in a list or a nested dict, or a function that returns them.  Where they cannot be written to (JAX's
    arrays, Python numbers), every function gets them as one more argument: forward(z, parameters).  `trainable`: which of them
    are trained, where their library does not say so: a function of an array, or True and False in the same structure.
    `dtype` and `backend`: by default the dtype and library of the parameters; else float64, and the library whose arrays
    forward accepts.

    Declared facts.  `direction`: "inverse" if forward maps data to latents.  `domain`, `codomain`: (low, high) of every entry, or
    the name of a set of refflow, "simplex", "correlation cholesky", perhaps with "by its own volume", or a set.
    `smooth`: the slope of forward jumps nowhere.
    `flush_to_zero`: there are no subnormal numbers.  `accumulation`: the dtype of sums and products, if it is coarser.

    More of the same map.  `wider`: the box of the same code in float64, with the same parameters.  `compiled(z)`: forward,
    compiled.  `masked(z, mask)`: forward of sequences, whose last axis is time, at the positions that a Boolean mask
    (*batch, T) marks.  `reload()`: the box of the model saved and loaded again.

    CannotRun, a ValueError, for an unknown backend, dtype or direction, an unknown set, and for what cannot be called.
    """

    forward: Callable
    inverse: Callable | None = None
    event: tuple = ()
    log_det: Callable | None = None
    log_prob: Callable | None = None
    sample: Callable | None = None
    pullback: Callable | None = None
    parameters: Any = None
    dtype: str | None = None
    backend: str | None = None
    direction: str = "forward"
    domain: Any = None
    codomain: Any = None
    smooth: bool = False
    flush_to_zero: bool = False
    accumulation: str | None = None
    wider: BlackBox | None = None
    compiled: Callable | None = None
    masked: Callable | None = None
    reload: Callable | None = None
    trainable: Any = True

    def __new__(cls, *given, **named):
        known = list(cls.__dataclass_fields__)
        for name in named:
            if name not in known:
                raise CannotRun(f"BlackBox: there is no argument {name!r}{close_to(name, known)}; it has {', '.join(known)}")
        return super().__new__(cls)

    def __post_init__(self):
        for name in FUNCTIONS:
            given = getattr(self, name)
            if given is not None and not callable(given):
                raise CannotRun(f"BlackBox: {name} must be a function, not {given!r}")
        for name, known in (("dtype", UNITS), ("accumulation", UNITS), ("backend", BACKENDS), ("direction", DIRECTIONS)):
            given = getattr(self, name)
            if given not in known and (given is not None or name == "direction"):
                hint = f"; did you mean {spelled(given)!r}?" if spelled(given) in known else ""
                raise CannotRun(f"BlackBox: {name} must be one of {tuple(known)}, not {given!r}{hint}")
        if self.wider is not None and not isinstance(self.wider, BlackBox):
            raise CannotRun(f"BlackBox: wider must be a BlackBox, not {self.wider!r}")
        of_parameters = [dtype_of(array) for array in self.all_parameters()]
        self.settle("event", shape_of(self.event))
        self.settle("dtype", self.dtype or (coarsest(*of_parameters) if any(of_parameters) else "float64"))
        for name in ("domain", "codomain"):
            self.settle(name, set_of(name, getattr(self, name)))

    def settle(self, name, value):
        object.__setattr__(self, name, value)

    # -- numbers -------------------------------------------------------------------------------------------------------

    @cached_property
    def precision(self):
        """The coarsest dtype among inputs, images and declared sums: its unit is the unit of error."""
        answer = self.called(self.forward, self.given(self.plain(2)))
        return coarsest(self.dtype, self.accumulation, dtype_of(first_of(answer)))

    @property
    def unit(self):
        """The unit roundoff of its precision."""
        return UNITS[self.precision]

    @property
    def smallest(self):
        """The spacing of its smallest numbers."""
        return (NORMAL if self.flush_to_zero else SUBNORMAL)[self.precision]

    @property
    def largest(self):
        return LARGEST[self.precision]

    def plain(self, count):
        """The simplest events of the domain."""
        return np.repeat((self.domain or real).plainest(self.event)[None], count, 0)

    # -- arrays --------------------------------------------------------------------------------------------------------

    @cached_property
    def library(self):
        """Whose arrays it takes: as declared; of its parameters; whichever forward accepts and returns, NumPy's first."""
        if self.backend is not None:
            return self.backend
        of_parameters = {backend_of(array) for array in self.all_parameters()} - {"numpy"}
        if of_parameters:
            return of_parameters.pop()
        for backend in ("numpy", *(name for name in ("torch", "tensorflow") if name in sys.modules)):
            with contextlib.suppress(Exception):
                return backend_of(first_of(self.called(self.forward, made(self.plain(2), self.dtype, backend))))
        return "numpy"

    def given(self, array):
        """A fresh writable array of the box's kind; NumPy's float64 rounded to its dtype."""
        return made(array, self.dtype, self.library)

    def held(self, array):
        """What the box holds after rounding, as float64."""
        if self.dtype == "float64":
            return np.array(array, np.float64)
        if self.dtype == "bfloat16" and self.library != "numpy":
            return as_numpy(self.given(array))
        return np.array(array, numpy_dtype(self.dtype)).astype(np.float64)

    # -- answers as float64 --------------------------------------------------------------------------------------------

    def called(self, function, *arrays):
        """A function of the box, with the parameters if these cannot be written to."""
        return in_time(function, lambda: self.question_in_words(function, arrays), *arrays, *self.passed)

    def question_in_words(self, function, arrays):
        """"forward of 43 events, the first of which is [0.0, 1.0]"."""
        name = next((name for name in FUNCTIONS if getattr(self, name) == function), "a function")
        events = [as_numpy(array) for array in arrays[:1] if np.ndim(array)]
        return name + "".join(f" of {counted(len(of), 'event')}" + f", the first of which is {shortened(str(of[0].tolist()))}"
                              * bool(len(of)) for of in events)

    def image(self, z):
        return of_each("image", as_numpy(first_of(self.called(self.forward, self.given(z)))), z, self.shape_of_image)

    def origin(self, x):
        return of_each("inverse", as_numpy(first_of(self.called(self.inverse, self.given(x)))), x, self.event)

    def answer(self, z):
        """(x, log_det), None for a log-det that it does not return."""
        x, log_det = both_of(self.called(self.forward, self.given(z)))
        return of_each("image", x, z, self.shape_of_image), log_det

    def answer_back(self, x):
        z, log_det = both_of(self.called(self.inverse, self.given(x)))
        return of_each("inverse", z, x, self.event), log_det

    def log_slope(self, z):
        """The log-det of forward, by its own function or with the image."""
        return self.answer(z)[1] if self.log_det is None else as_numpy(self.called(self.log_det, self.given(z)))

    @cached_property
    def shape_of_image(self):
        """Of an event by itself, as it is in a batch of two."""
        return as_numpy(first_of(self.called(self.forward, self.given(self.plain(2))))).shape[1:]

    def values(self, z):
        """(image, log-det of forward), of one call if it returns both; None for a log-det that it does not give."""
        return self.answer(z) if self.log_det is None else (self.image(z), self.log_slope(z))

    def score(self, x):
        return as_numpy(self.called(self.log_prob, self.given(x)))

    def latents(self, x):
        """(z, log|det dz/dx|) of data."""
        return self.answer_back(x) if self.direction == "forward" else self.values(x)

    def gradients(self, z, x_bar, log_det_bar):
        """(z_bar, [params_bar]) of its pullback."""
        answer = self.called(self.pullback, *map(self.given, (z, x_bar, log_det_bar)))
        z_bar, *rest = answer if isinstance(answer, tuple) else (answer,)
        bars = list(leaves_like(rest, self.passed) if self.passed else leaves(rest))
        bars = self.without_frozen(bars) if len(bars) == len(self.all_parameters()) else bars
        return of_each("gradient", as_numpy(z_bar), z, self.event), [as_numpy(bar) for bar in bars if bar is not None]

    # -- parameters ----------------------------------------------------------------------------------------------------

    @property
    def tree(self):
        moved = self.__dict__.get(MOVED)
        if moved is not None:
            return moved
        return theirs(self.parameters) if callable(self.parameters) and parts_of(self.parameters) is None else self.parameters

    def all_parameters(self):
        """Its parameters, a flat list of arrays."""
        return [leaf for leaf in leaves(self.tree) if is_parameter(leaf)]

    def trained(self):
        """Those of its parameters that are not frozen."""
        return self.without_frozen(self.all_parameters())

    def without_frozen(self, of_all):
        """What belongs to the trained parameters, of a list with an entry for each parameter."""
        return [one for one, trained in zip(of_all, self.trained_marks()) if trained]

    def trained_marks(self):
        held = self.tree
        return trained_marks(list(held) if hasattr(held, "__next__") else held, self.trainable)

    @cached_property
    def functional(self):
        """Are there parameters that cannot be written to?"""
        return not all(map(can_be_written, self.all_parameters()))

    @property
    def passed(self):
        """What every function gets besides its arrays."""
        return (self.tree,) if self.functional else ()

    @contextlib.contextmanager
    def moved(self, values):
        """The box with other values in its trained parameters, which it gets back."""
        arrays, passed = self.trained(), self.passed
        outer, before = self.__dict__.get(MOVED), [as_numpy(array).copy() for array in arrays]
        try:
            if passed:
                fresh = (made(v, dtype_of(a) or self.dtype, backend_of(a)) for a, v in zip(arrays, values))
                self.__dict__[MOVED] = rebuilt(passed[0], (next(fresh) if trained else array for array, trained
                                                           in zip(self.all_parameters(), self.trained_marks())))
            else:
                for array, value in zip(arrays, values):
                    written(array, value)
            yield
        finally:
            self.__dict__[MOVED] = outer
            for array, value in zip(() if passed else arrays, before):
                written(array, value)


def shape_of(given):
    """The shape of an event."""
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        raise CannotRun(f"BlackBox: event must be the shape of an event, event=({given},), not {given!r}")
    try:
        return tuple(index(size) for size in given)
    except TypeError:
        raise CannotRun(f"BlackBox: event must be the shape of an event, such as (3,), not {given!r}") from None


def spelled(dtype):
    """The name under which a dtype that is spelled otherwise is known: "double", or a library's own object."""
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype).rsplit(".", 1)[-1]


def close_to(name, known):
    """"; did you mean 'inverse'?", or "": a beginning of a name, or a name with another letter."""
    close = [one for one in known if one.startswith(name)] or difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def set_of(name, given):
    """A declared domain or codomain as a set; None for the whole line."""
    if given is None or given == real.name:
        return None
    if isinstance(given, Set):
        return None if given.name in LINES else given
    if isinstance(given, str):
        return set_named(name, given)
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        raise CannotRun(f"BlackBox: {name} must be (low, high) or the name of a set, not {given!r}") from None
    if not low < high:
        raise CannotRun(f"BlackBox: {name} must be (low, high) with low < high, not {given!r}")
    where = interval(low, high)
    return None if where.name in LINES else where


def set_named(name, given):
    """The set of a name in which spaces stand for underscores; behind it, perhaps, how its volumes are measured."""
    short, by, measure = given.replace("_", " ").partition(" by ")
    short = short.strip().replace(" ", "_")
    where = NAMED.get(OTHER_NAMES.get(short, short))
    if where is None:
        raise CannotRun(f"BlackBox: {name} must be (low, high) or the name of a set, one of {', '.join(NAMED)}, not {given!r}")
    measure = MEASURES.get(measure.strip(), measure)
    if by and (measure not in MEASURES.values() or not where.log_ratio and measure != where.measure):
        raise CannotRun(f"BlackBox: {name} is measured by its own volume or, where its entries are coordinates, by coordinates, "
                        f"not {given!r}")
    return where if not by else where.intrinsic if measure == "intrinsic" else where.charted


def of_each(what, answer, events, shape):
    """The answer to a batch.  Found if it is not one of the same shape for each event."""
    expected = (len(events), *shape)
    if len(events) and answer.shape != expected:
        of = f"one event, {shortened(str(events[0].tolist()))}," if len(events) == 1 else f"{len(events)} events"
        raise Found(f"the {what} of a batch of {of} has shape {answer.shape}, not {expected}",
                    events[0] if len(events) == 1 and what == "image" else None)
    return answer


def first_of(answer):
    return answer[0] if isinstance(answer, tuple) else answer


def both_of(answer):
    if not isinstance(answer, tuple):
        return as_numpy(answer), None
    if len(answer) != 2:
        raise CannotRun(f"BlackBox: a function returned {counted(len(answer), 'value')}; it returns the image, or (image, log-det)")
    x, log_det = answer
    return as_numpy(x), as_numpy(log_det)
