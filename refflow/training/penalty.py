r"""Penalties: terms, functions only of the parameters, that a loss adds to `-log p`.

    P = c sum v^2                  over the entries v of the parameters named       (1)
    v_bar = 2 c v                                                                   (2)

Source: the definition; also called weight decay, or an L2 penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.tree import flatten, nest
from .unconstrained import is_fixed


@dataclass(frozen=True)
class SquaredNorm:
    """The squares of parameters, times `coefficient`.

    `names`: patterns of parameters by path ("*.g"), or paths as tuples.  `penalty(params)` -> (P, {path: v_bar}).
    """

    coefficient: float
    names: tuple = ("*",)

    def __post_init__(self):
        if not 0 <= self.coefficient < np.inf:
            raise ValueError(f"SquaredNorm: coefficient must be finite and >= 0; coefficient = {self.coefficient}")
        object.__setattr__(self, "names", (self.names,) if isinstance(self.names, str) else tuple(self.names))

    def __call__(self, params):
        paths = {name for name in self.names if isinstance(name, tuple)}
        patterns = [name for name in self.names if isinstance(name, str)]
        chosen = {path: v for path, v in flatten(params) if path in paths or is_fixed(path, patterns)}
        missing = paths - chosen.keys() if chosen else self.names
        if missing:
            raise ValueError(f"SquaredNorm: {next(iter(missing))!r} names no parameter")
        total = sum(float((v.astype(np.float64) ** 2).sum()) for v in chosen.values())
        return self.coefficient * total, {path: 2 * self.coefficient * v for path, v in chosen.items()}         # (1) (2)


def with_penalty(loss, params_bar, penalty, params):
    """(loss, params_bar) with a penalty's added."""
    value, bars = penalty(params)
    arrays = dict(flatten(params_bar))
    return loss + value, nest(arrays | {path: arrays[path] + bar for path, bar in bars.items()})
