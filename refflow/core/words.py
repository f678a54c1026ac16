"""Small shared words of the pages: cases, halves, functions of nested lists."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Case:
    """A named input that is hard, and the reason it exists.

    `z` are events of `forward`, `x` events of `inverse` (lists of scalars for scalar pages, of events otherwise);
    `params` are fields that differ from the ones drawn.
    """

    name: str
    reason: str
    z: list = field(default_factory=list)
    x: list = field(default_factory=list)
    params: dict = field(default_factory=dict)


def case(name, reason, z=(), x=(), **params) -> Case:
    """A hard case of a page: `case("Tiny", "log-det is -z^2", z=[1e-9, 1e-160])`."""
    return Case(name, reason, list(z), list(x), params)


@dataclass(frozen=True)
class Refusal:
    """Fields, or fields and an event of `forward`, that a page refuses, and words of its message."""

    message: str
    params: dict
    event: object = None


def refusal(message, event=None, **params) -> Refusal:
    """What a page refuses: `refusal("low must be < high", low=1.0, high=1.0)`."""
    return Refusal(message, params, event)


def passed_on(m, value):
    """A number that one part of a definition hands to the next, rounded there: the truth counts it among the inputs."""
    return m.passed_on(value) if hasattr(m, "passed_on") else value


def intermediate(m, value, exponential=False):
    """An intermediate that may be subnormal although the result is not: the truth counts its spacing as a rounding.

    The derivatives of an exponential are computed from its rounded value, and share its relative error.
    """
    return m.intermediate(value, exponential) if hasattr(m, "intermediate") else value


class Cases:
    """The hard cases of a page that holds pages of chapters; made on demand, since the core loads no chapter."""

    def __init__(self, make):
        self.make = make

    def __get__(self, value, page):
        return self.make()


def zero_where_invalid(m, channels, mask):
    """Channels of a sequence, nested lists (C, T), with 0 at the invalid positions of a mask (T,); as they are without one."""
    return channels if mask is None else [[v if valid else m.mpf(0) for v, valid in zip(row, mask)] for row in channels]


def log_2(like) -> np.floating:
    """log 2 in the dtype of `like`, so that float32 events stay float32."""
    return like.dtype.type(np.log(2.0))


def halves(array, axis=-1) -> list[np.ndarray]:
    """The first and the second half along an axis."""
    return np.split(array, 2, axis)


def join(*arrays, axis=-1) -> np.ndarray:
    """Concatenate along the last axis."""
    return np.concatenate(arrays, axis)


def each(function, *nested):
    """A function of numbers, on every entry of nested lists of one shape."""
    if isinstance(nested[0], list):
        return [each(function, *parts) for parts in zip(*nested)]
    return function(*nested)
