"""Somebody else's flow as a black box: a forward and, if it has them, inverse, log-det, log_prob, gradient, parameters.

    BlackBox(forward=t.call_and_ladj, inverse=t.inv.call_and_ladj, event=(3,), backend="torch")

Arrays are (*batch, *event).  `forward` and `inverse` return the image, or (image, log-det) of the map being applied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}     # subnormal numbers
BACKENDS = ("numpy", "torch", "jax", "tensorflow")
QUANTITIES = ("forward", "inverse", "log_det", "inverse_log_det", "log_prob", "sample", "pullback", "parameters")


@dataclass(frozen=True)
class BlackBox:
    """A map of events of shape `event`, asked with arrays of `backend` and `dtype`.

    `log_det(z)`; `log_prob(x)` under the base N(0, I); `sample(n)`; `pullback(z, x_bar, log_det_bar)` -> (z_bar, params_bar);
    `parameters`: arrays that can be written to, in a list or a nested dict, or a function that returns them.
    ValueError for an unknown backend or dtype, and for what cannot be called.
    """

    forward: Callable
    inverse: Callable | None = None
    event: tuple = ()
    log_det: Callable | None = None
    log_prob: Callable | None = None
    sample: Callable | None = None
    pullback: Callable | None = None
    parameters: Any = None
    dtype: str = "float64"
    backend: str = "numpy"

    def __post_init__(self):
        for name in ("forward", "inverse", "log_det", "log_prob", "sample", "pullback"):
            given = getattr(self, name)
            if given is not None and not callable(given):
                raise ValueError(f"BlackBox: {name} must be a function, not {given!r}")
        for name, given, known in (("dtype", self.dtype, tuple(UNITS)), ("backend", self.backend, BACKENDS)):
            if given not in known:
                raise ValueError(f"BlackBox: {name} must be one of {known}, not {given!r}")
        object.__setattr__(self, "event", tuple(self.event))

    @property
    def unit(self):
        """The unit roundoff of its dtype."""
        return UNITS[self.dtype]

    @property
    def smallest(self):
        """The spacing of its smallest numbers."""
        return SMALLEST[self.dtype]

    # -- arrays --------------------------------------------------------------------------------------------------------

    def given(self, array):
        """A fresh writable array of the box's kind; NumPy's float64 rounded to its dtype."""
        if self.backend == "numpy":
            return np.array(array, numpy_dtype(self.dtype))
        library = import_module({"jax": "jax.numpy"}.get(self.backend, self.backend))
        make = {"torch": "tensor", "jax": "array", "tensorflow": "constant"}[self.backend]
        return getattr(library, make)(np.array(array), dtype=getattr(library, self.dtype))

    def held(self, array):
        """What the box holds after rounding, as float64."""
        return as_numpy(self.given(array))

    # -- answers as float64 --------------------------------------------------------------------------------------------

    def image(self, z):
        return as_numpy(first_of(self.forward(self.given(z))))

    def origin(self, x):
        return as_numpy(first_of(self.inverse(self.given(x))))

    def answer(self, z):
        """(x, log_det), None for a log-det that it does not return."""
        return both_of(self.forward(self.given(z)))

    def answer_back(self, x):
        return both_of(self.inverse(self.given(x)))

    def log_slope(self, z):
        """The log-det of forward, by its own function or with the image."""
        return as_numpy(self.log_det(self.given(z))) if self.log_det is not None else self.answer(z)[1]

    def trained(self):
        """Its parameters, a flat list of arrays that can be written to."""
        held = self.parameters() if callable(self.parameters) else self.parameters
        return [] if held is None else list(leaves(held))


def numpy_dtype(name):
    if name == "bfloat16":
        raise ValueError("BlackBox: NumPy has no bfloat16; give the backend")
    return np.dtype(name)


def leaves(held):
    """The arrays of a nested dict or list, in order."""
    parts = held.values() if isinstance(held, dict) else held if isinstance(held, (list, tuple)) or is_iterator(held) else None
    if parts is None:
        yield held
    else:
        for part in parts:
            yield from leaves(part)


def is_iterator(held):
    return hasattr(held, "__next__")


def as_numpy(array):
    """Any array as NumPy's float64."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.double() if array.dtype.is_floating_point else array
    return np.asarray(array, np.float64)


def first_of(answer):
    return answer[0] if isinstance(answer, tuple) else answer


def both_of(answer):
    if not isinstance(answer, tuple):
        return as_numpy(answer), None
    x, log_det = answer
    return as_numpy(x), as_numpy(log_det)


def written(array, values):
    """Write values into somebody's parameter, in place."""
    if hasattr(array, "detach"):
        data = array.detach()
        data.copy_(import_module("torch").as_tensor(np.asarray(values), dtype=data.dtype))
    else:
        array[...] = values
