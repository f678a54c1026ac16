"""Spheres: vectors of length 1, measured by their own area."""

from __future__ import annotations

import numpy as np

from .membership import broken, halved, no_room, Set


def of_sphere(m, x):
    """All columns but the last of the reflection in the plane across w = x + s e_N, s = 1 for x_N >= 0 and -1 for x_N < 0.

    The reflection takes x to -s e_N; a sign that is never 0 needs no branch.
    """
    N, s = len(x), m.sign(m.sign(x[-1]) + 0.5)
    w = [*x[:-1], x[-1] + s]
    return [[int(i == j) - w[i] * w[j] / (1 + s * x[-1]) for j in range(N - 1)] for i in range(N)]


def squares_sum_to_1(x):
    """| |x|^2 - 1 |, and 4 N u (|x|^2 + 1)."""
    squares = (x * x).sum(-1, keepdims=True)
    return np.abs(squares - 1), 2 * x.shape[-1] * np.finfo(x.dtype).eps * (squares + 1)


def _not_of_length_1(x):
    return broken(squares_sum_to_1, x)


def _make_sphere(source, shape, dtype, low, high):
    v = source.signed(shape, *halved(low, high, dtype))
    v = v / np.abs(v).max(-1, keepdims=True)
    return (v / np.sqrt((v * v).sum(-1, keepdims=True))).astype(dtype)


sphere = Set("sphere", "must have length 1", _not_of_length_1, _not_of_length_1, _make_sphere, rank=1, entrywise=False, spare=no_room,
             anchor=lambda shape: np.broadcast_to(-np.eye(shape[-1])[-1], shape), thin=True, equations=squares_sum_to_1,
             tangents=of_sphere, measure="intrinsic",
             exchangeable=True, biject_to="Stereographic")
