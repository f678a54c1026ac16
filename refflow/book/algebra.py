"""What printed formulas are made of: numbers, columns, rows, matrices, and how they add and multiply.

A vector is a column and an array of one axis; `v^T` is a Row.  `I` is an Identity, which takes its neighbours' size.
"""

from __future__ import annotations

import dataclasses

import numpy as np


class Unknown(Exception):
    """A formula whose value is not known, and the reason in a word."""

    def __init__(self, reason, what=""):
        super().__init__(f"{reason}: {what}" if what else reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Row:
    """A vector that lies."""
    entries: np.ndarray


@dataclasses.dataclass(frozen=True)
class Identity:
    """A multiple of the identity matrix, of its neighbours' size."""
    factor: float = 1.0


def added(a, b):
    if isinstance(a, Identity) and isinstance(b, Identity):
        return Identity(a.factor + b.factor)
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Identity):
            if np.ndim(other) != 2 or isinstance(other, Row):
                raise Unknown("shape", "the identity beside what is not a matrix")
            return one.factor * np.eye(len(other)) + other
    if isinstance(a, Row) and isinstance(b, Row):
        return Row(a.entries + b.entries)
    if isinstance(a, Row) or isinstance(b, Row) or np.ndim(a) and np.ndim(b) and np.shape(a) != np.shape(b) or \
            max(np.ndim(a), np.ndim(b)) == 2 > min(np.ndim(a), np.ndim(b)):
        raise Unknown("shape", "a sum of unlike things")
    return a + b


def times(a, b, matrices=False):
    if isinstance(a, Identity) or isinstance(b, Identity):
        factor, other = (a.factor, b) if isinstance(a, Identity) else (b.factor, a)
        if np.ndim(other) == 0 and not isinstance(other, (Row, Identity)):
            return Identity(factor * other)
        return Identity(factor * other.factor) if isinstance(other, Identity) else times(factor, other)
    if isinstance(a, Row) or isinstance(b, Row):
        return of_rows(a, b)
    if np.ndim(a) == 2 and (np.ndim(b) == 1 or np.ndim(b) == 2 and matrices):
        if a.shape[1] != len(b):
            raise Unknown("shape", f"{a.shape} times {b.shape}")
        return a @ b
    if np.ndim(a) and np.ndim(b) and np.shape(a) != np.shape(b):
        raise Unknown("shape", f"{np.shape(a)} times {np.shape(b)}")
    return a * b


def of_rows(a, b):
    if isinstance(a, Row) and isinstance(b, Row):
        raise Unknown("shape", "a row times a row")
    if isinstance(b, Row):
        if np.ndim(a) == 2:
            raise Unknown("shape", "a matrix times a row")
        return Row(a * b.entries) if np.ndim(a) == 0 else np.outer(a, b.entries)
    if np.ndim(b) == 0:
        return Row(a.entries * b)
    if len(a.entries) != len(b):
        raise Unknown("shape", "a row and a column of other sizes")
    return a.entries @ b if np.ndim(b) == 1 else Row(a.entries @ b)


def contracted(held):
    """The factors, with each row before a column, and the matrices between them, made a number."""
    start = 0
    while (at := next((i for i in range(start, len(held)) if isinstance(held[i][0], Row)), None)) is not None:
        end = next((i for i in range(at + 1, len(held)) if np.ndim(held[i][0]) != 2 or isinstance(held[i][0], Row)), len(held))
        while end < len(held) and np.ndim(held[end][0]) == 0 and not isinstance(held[end][0], (Row, Identity)):
            end += 1
        if end < len(held) and np.ndim(held[end][0]) == 1 and not isinstance(held[end][0], Row):
            made = held[end][0]
            for one, _ in reversed(held[at:end]):
                made = times(one, made, True)
            held = [*held[:at], (made, False), *held[end + 1:]]
        else:
            start = at + 1
    return held
