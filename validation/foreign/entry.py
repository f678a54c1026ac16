"""One foreign map as a line: how its parameters are drawn, how it is built, where it acts; and the box that is made of it.

    one("torch", "AffineTransform", lambda a, b: transform(AffineTransform(a, b)), normal(), positive())

`build(*parameters)` returns (forward, inverse), functions of a batch that return the image or (image, log-det); the inverse may be
None.  It is called anew for every answer, so that the parameters of the box may be moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from refflow.oracle.asking.arrays import made, numpy_dtype
from refflow.testing import BlackBox

BOTH = ("float64", "float32")
DOUBLE = ("float64",)
HALF_LINE, UNIT = (0, np.inf), (0, 1)


# -- numbers ----------------------------------------------------------------------------------------------------------

def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    """exp of half a normal number."""
    return lambda rng: np.exp(rng.standard_normal(shape) / 2)


def uniform(low, high, *shape):
    return lambda rng: rng.uniform(low, high, shape)


def drawn(draws, seed, name, dtype, held, backend):
    """The parameters: the numbers of a seed, rounded to `held`, as arrays of `dtype`."""
    rng = np.random.default_rng([seed, *name.encode()])
    return [made(np.asarray(draw(rng), numpy_dtype(held)), dtype, backend) for draw in draws]


# -- transforms --------------------------------------------------------------------------------------------------------

def transform(t):
    """(forward, inverse) of a transform as torch.distributions has them; its log-dets summed over the event."""
    def both(of):
        def call(event):
            image = of(event)
            return image, of.log_abs_det_jacobian(event, image)
        return call

    return both(t), both(t.inv)


# -- the box ----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class One:
    """What `one` says of a map.  `domain` and `codomain` may be functions of the parameters, which are then not moved."""

    name: str
    build: object
    draws: tuple
    wrapped: object                     # (build, parameters, whether they are moved) -> arguments of the box
    backend: str
    more: dict

    def __call__(self, seed, dtype):
        """The box; in float32 with its copy in float64 beside it."""
        box = self.box(seed, dtype, dtype)
        return replace(box, wider=self.box(seed, "float64", dtype)) if dtype == "float32" else box

    def box(self, seed, dtype, held):
        parameters = drawn(self.draws, seed, self.name, dtype, held, self.backend)
        more = {key: value(*parameters) if key in ("domain", "codomain") and callable(value) else value
                for key, value in self.more.items()}
        free = more.pop("free", all(more.get(key) is self.more.get(key) for key in more)) and bool(parameters)
        return BlackBox(dtype=dtype, backend=self.backend, **self.wrapped(self.build, parameters, free), **more)


def entry(backend, wrapped, name, build, *draws, dtypes=BOTH, **more):
    """(name, dtypes, make): a map whose box is made of what `wrapped` returns, and of `more`."""
    return name, dtypes, One(name, build, draws, wrapped, backend, more)
