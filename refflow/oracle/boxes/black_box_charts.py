r"""Moves of events that stay in a structured set: vectors in order, simplices, triangular factors, spheres, orthogonal matrices.

With tangents F at an event z, whose cube has the volume 1 in the set's measure, and C F = I, coordinates t near z are
    z(t) = onto(z + F t),   t(z) = C (z - z(0))                                     (1)
where `onto` goes back to the set, to first order without moving: a formula for entries that are tied by squares, nothing for
linear equations.  The log-det of f is the determinant of the derivative of C_x f(z(t)) by t at t = 0.
"""

from __future__ import annotations

import numpy as np

from ...core.sets import real

TURNS = 6                   # Newton's steps to the nearest orthogonal matrix; each squares what is missing


def onto(where, x, before):
    """The member of a set near x, which is a little beside the member `before`."""
    if where.name == "sphere":
        return x / np.sqrt((x * x).sum(-1, keepdims=True))
    if where.name == "correlation_cholesky":
        lower, old, k = np.tril(x, -1), np.tril(before, -1), np.arange(x.shape[-1])
        diagonal = np.diagonal(before, axis1=-2, axis2=-1)
        # 1 - sum L_ij^2 would lose the digits of a small diagonal
        lower[..., k, k] = np.sqrt(diagonal**2 - ((lower - old) * (lower + old)).sum(-1))
        return lower
    if where.name.startswith("orthogonal"):
        for _ in range(TURNS):
            x = x @ (3 * np.eye(x.shape[-1]) - x.mT @ x) / 2
        return x
    return x


def room_of(where, x):
    """How far each entry may move when others move with it; inf where it may take any value."""
    if where.rank == 0:
        return np.maximum(where.room(x), 0)
    on_diagonal = np.eye(x.shape[-1], dtype=bool) if where.rank == 2 else None
    if where.name in ("simplex", "subsimplex"):
        return np.maximum(x, 0) if where.thin else np.minimum(np.maximum(x, 0), np.maximum(1 - x.sum(-1, keepdims=True), 0)) / x.shape[-1]
    if where.name == "correlation_cholesky":
        return np.broadcast_to(np.diagonal(x, axis1=-2, axis2=-1)[..., None], x.shape)
    if where.name in ("positive_definite", "correlation", "invertible"):
        room = where.room(x) if where.name != "correlation" else np.linalg.eigvalsh(x).min(-1)[..., None, None] * np.ones(x.shape)
        room = np.where(on_diagonal, room, np.inf) if where.thin else room
        return np.broadcast_to(room.min((-2, -1), keepdims=True), x.shape) / x.shape[-1]
    room = where.room(x)
    return np.where(room == 0, np.inf, room) if where.thin else room / 2


class Frame:
    """F and C of (1) at events of a set, flat: (n, entries, dimensions)."""

    def __init__(self, where, x):
        self.where, self.x, ndim = where or real, x, x.ndim - 1
        with np.errstate(all="ignore"):
            self.F, self.C = self.where.basis(x, ndim), self.where.dual_basis(x, ndim)

    @property
    def dimensions(self):
        return self.F.shape[-1]

    @property
    def curved(self):
        """Are entries tied by their squares?"""
        return self.where.name in ("sphere", "correlation_cholesky") or self.where.name.startswith("orthogonal")

    def steps(self, entries):
        """The largest steps of the coordinates that move no entry further than given, one coordinate at a time."""
        size = np.abs(self.F)
        with np.errstate(all="ignore"):
            return np.where(size > 0, entries.reshape(len(self.x), -1, 1) / size, np.inf).min(1)

    def moved(self, t):
        """z(t) of t (..., n, dimensions)."""
        move = (self.F @ t[..., None])[..., 0]
        return onto(self.where, self.x + move.reshape(*t.shape[:-1], *self.x.shape[1:]), self.x)

    def coordinates(self, moves):
        """C times moves (..., n, entries)."""
        return (self.C.mT @ moves[..., None])[..., 0]
