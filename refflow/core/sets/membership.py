"""Sets: the domains of events and the constraints of fields, one object for both.

A set knows its rule in words, which values break it, how members are drawn, its simplest member, how far an entry may move
alone, the page that maps free vectors onto it, its dimension, and how its volumes are measured: log_det is the logarithm of the
ratio of the measures of codomain and domain.  Called with a symbolic shape, it declares a field: `positive("D")` is a vector of
positive numbers, `positive()` one positive number.

Members are drawn from a `Source`, in the requested dtype: rounding may not push a number out of its set, make
neighbours equal, or turn what has many values into one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import at_index
from ..declarations import Field
from ..source import RandomSource
from . import tangents

EXPONENTS = {np.dtype(np.float64): (-1074, 1000), np.dtype(np.float32): (-149, 126)}      # of the numbers that are drawn

SPREAD = 4                                                                                 # 2^-4 to 2^4


@dataclass(frozen=True, eq=False)
class Set:
    """A set of scalars (rank 0), vectors (rank 1) or matrices (rank 2).

    `outside(values)` marks non-members: element by element for rank 0 (and where `entrywise`), else one mark for
    each vector or matrix.  `outside_closed` is the same with the finite boundary included: an event may lie on it, because
    its truth may round to it.
    `make(source, shape, dtype, low, high)` draws members, and `draw` is its public form.
    `spare(values)` is the result of `room`; None if that is the distance to `lower` or `upper`.
    `alike`: every entry has the ends `lower` and `upper`.
    `each`: the two arrays of ends, where entries have their own; `lower` and `upper` are then NaN.
    `anchor`: the simplest member, a number for all entries or a function of a shape.
    `narrow`: an entry near 0 is near the boundary, however small the dtype's numbers are.
    `thin`: its dimension is lower than the number of entries of a member: its members satisfy equations.
    `equations(members)` -> (residuals, bounds) of the equations that members satisfy, one in each entry of the last axis: what is left
    of each, and how much of it rounding explains; None if its members satisfy none, or entries that are 0.
    `ratio_in_words`: the logarithm of own volume over volume of coordinates, as a reader would write it, with its sign.
    `chart`: for a shape, flat indices of the entries of a thin set that are its coordinates; if it is None, the entries that
    `free` marks are; without both, none are.
    `tangents(m, member)`: see `tangents`; None if each coordinate moves alone.
    `log_ratio(members)` -> (value, pullback): the logarithm of own volume over volume of coordinates, and the function from its
    cotangent to that of the members; None if the ratio is 1 or the set has no coordinates.
    `measure`: its volumes are counted in its coordinates ("chart") or are its own ("intrinsic"); "blockwise" if its parts differ.
    `exchangeable`: its members and its measure stay what they are when entries change places.
    `parts`: of a set whose members are in blocks, the set of each block.
    `blocks`: for a shape, [(set, flat indices, shape)] of each block.
    `axes`: how many axes a member has, if not as many as the rank.
    `biject_to`: the name of the page that maps free vectors onto it, or the names of pages, a chain in this order; None if the entries
    themselves are free.
    `whole`: its members are whole numbers, the same in every dtype: they do not decide the dtype of what is computed.
    `scalable`: members times numbers > 0, entry by entry or, for matrices, row by row, are members.
    `free`: for a shape, marks the entries that are not 0 in every member; None if all entries are such.
    """

    name: str
    rule: str
    outside: Callable
    outside_closed: Callable
    make: Callable
    rank: int = 0
    entrywise: bool = True
    lower: float = -np.inf
    upper: float = np.inf
    alike: bool = True
    each: tuple | None = None
    spare: Callable | None = None
    anchor: Any = 0.0
    narrow: bool = False
    thin: bool = False
    equations: Callable | None = None
    chart: Callable | None = None
    tangents: Callable | None = None
    log_ratio: Callable | None = None
    ratio_in_words: str = ""
    measure: str = "chart"
    exchangeable: bool = False
    parts: tuple = ()
    blocks: Callable | None = None
    axes: int | None = None
    biject_to: str | tuple[str, ...] | None = None
    free: Callable | None = None
    whole: bool = False
    scalable: bool = False

    def __call__(self, *shape, default=None) -> Any:      # to type checkers, what stands for an array is one
        return Field(self, shape, default=default)

    def __repr__(self):
        return f"{self.name} by its own volume" if self.log_ratio and self.measure == "intrinsic" else self.name

    def first_outside(self, values, closed=False):
        """(index, value) of the first entry, vector or matrix that is not a member, or None."""
        marks = (self.outside_closed if closed else self.outside)(values)
        if not np.any(marks):
            return None
        index = tuple(int(i) for i in np.argwhere(marks)[0])
        return index, values[index]

    def refusal(self, name, values, closed=False):
        """In words, which entry, vector or matrix of the values called `name` is not a member, and by how much; None if all are members."""
        found = self.first_outside(values, closed)
        if found is None:
            return None
        if self.parts:
            lead, core = values.shape[:values.ndim - self.axes], values.shape[values.ndim - self.axes:]
            flat = values.reshape(*lead, -1)
            refused = (part.refusal(f"block {i} of {name}", flat[..., entries].reshape(*lead, *shape), closed)
                       for i, (part, entries, shape) in enumerate(self.blocks(core)))
            return next(filter(None, refused))
        index, value = found
        return f"{name} {self.rule}; {at_index(name, index)} = {value}{self.missed(value)}"

    def missed(self, value):
        """In words, what is left of the equation that a vector or a matrix misses by most; "" if it misses none."""
        if self.equations is None or not np.isfinite(value).all():
            return ""
        left, bound = (np.ravel(part) for part in residuals(self.equations, value))
        worst = int(np.argmax(left - bound)) if left.size else 0
        if not left.size or left[worst] <= bound[worst]:
            return ""
        return f", which misses {'it' if left.size == 1 else 'one of these'} by {left[worst]:.3g}; rounding explains {bound[worst]:.2g}"

    def members(self, values, rank):
        """One mark for each event of `rank` axes: is it in the open set?"""
        inside = ~np.asarray(self.outside(values))
        axes = rank if self.entrywise else rank - self.rank
        return inside.all(axis=tuple(range(-axes, 0))) if axes else inside

    def room(self, values):
        """How far each entry of a member may move alone, up or down, before the whole is no longer a member.

        inf if it may take any value; 0 if it may not move, because an equation ties it to others.
        """
        return np.minimum(values - self.lower, self.upper - values) if self.spare is None else self.spare(values)

    def draw(self, source, shape, dtype=np.float64, spread=SPREAD):
        """Members in `dtype`, of magnitudes 2^-spread to 2^spread, or 2^low to 2^high for spread = (low, high).

        A magnitude is the size of an entry or, near a finite end, its distance from that end; for a simplex, it is the size of
        ratios; for a matrix, of the scales of its rows and columns.  Values that the dtype cannot hold are left out.
        """
        dtype = np.dtype(dtype)
        least, largest = EXPONENTS[dtype]
        low, high = spread if isinstance(spread, tuple) else (-spread, spread)
        return self.make(source, tuple(shape), dtype, max(low, least), min(high, largest))

    def ends_of(self, shape):
        """(lower ends, upper ends) of the entries of a member of this shape."""
        return tuple(np.broadcast_to(end, shape) for end in self.each or (self.lower, self.upper))

    def ends(self):
        """[(number, direction)]: for rank 0: where its numbers are measured from, its finite ends or 0, and which way."""
        lower, upper = self.lower, self.upper
        finite = [(end, way) for end, way in ((lower, 1.0), (upper, -1.0)) if np.isfinite(end)]
        return finite + ([(0.0, 1.0), (0.0, -1.0)] if lower < 0 < upper else [])

    def plainest(self, shape):
        """The simplest member."""
        return self.middle(shape) if callable(self.anchor) else np.full(shape, self.anchor)

    def middle(self, shape):
        """A number or an array that broadcasts with it."""
        return self.anchor(tuple(shape)) if callable(self.anchor) else self.anchor

    def completed(self, values, inside):
        """The values with one fixed member wherever `inside` is False; `inside` broadcasts with the values."""
        if np.all(inside):
            return values
        member = self.draw(RandomSource(np.random.default_rng(0)), values.shape, values.dtype, 0)
        return np.where(inside, values, member)

    # -- dimension and measure ----------------------------------------------------------------------------------------

    @property
    def intrinsic(self):
        """The same members, measured by their own volume."""
        return replace(self, measure="intrinsic") if self.log_ratio else self

    @property
    def charted(self):
        """The same members, measured by their coordinates."""
        return replace(self, measure="chart") if self.log_ratio else self

    def same(self, other):
        """Has it the members and the measure of the other?  A set may be made twice, and is known by its name."""
        return self is other or repr(self) == repr(other)

    @property
    def member_ndim(self):
        """How many axes a member has."""
        return self.rank if self.axes is None else self.axes

    def pieces(self, shape):
        """[(set, flat indices, shape)] of the members that an event of `shape` consists of; its first axes repeat the set."""
        if not self.thin:
            return [(self, np.arange(math.prod(shape)), shape)]
        core = shape[len(shape) - self.member_ndim:]
        own = [(self, np.arange(math.prod(core)), core)]
        if self.blocks:
            own = [(leaf, rows[inner], its) for part, rows, block in self.blocks(core) for leaf, inner, its in part.pieces(block)]
        starts = range(0, math.prod(shape), math.prod(core) or 1)
        return [(leaf, start + rows, its) for start in starts for leaf, rows, its in own]

    def coordinates(self, shape):
        """Flat indices of the entries of an event of `shape` that are its coordinates; None if no entries serve."""
        found = [(rows, leaf.coordinates_of(core)) for leaf, rows, core in self.pieces(shape)]
        if any(own is None for _, own in found):
            return None
        return np.concatenate([np.zeros(0, int), *(rows[own] for rows, own in found)])

    def coordinates_of(self, core):
        """The coordinates of one member that has no blocks."""
        if not self.thin:
            return np.arange(math.prod(core))
        return self.chart(core) if self.chart else np.flatnonzero(self.free(core)) if self.free else None

    def tangents_of(self, m, flat, core):
        """The tangents at one member that has no blocks, given flat."""
        if self.tangents is None:
            return tangents.selecting(self.coordinates_of(core), len(flat))
        return self.tangents(m, tangents.nested(flat, core))

    def basis(self, x, ndim):
        """F (*batch, D, d): tangents at events x of `ndim` axes, whose cube has the volume 1 in the set's measure."""
        def columns(leaf, flat, core):
            T = leaf.tangents_of(np, list(np.moveaxis(flat, -1, 0)), core)
            F = dense(T, flat)
            return np.linalg.qr(F)[0] if leaf.measure == "intrinsic" and leaf.log_ratio else F

        return self._side_by_side(columns, x, ndim)

    def dual_basis(self, x, ndim):
        """C^T (*batch, D, d) with C F = I: C takes a move of x to coordinates of unit measure."""
        def columns(leaf, flat, core):
            if leaf.measure == "chart":
                return dense(tangents.selecting(leaf.coordinates_of(core), flat.shape[-1]), flat)
            return leaf.basis(flat.reshape(*flat.shape[:-1], *core), len(core))

        return self._side_by_side(columns, x, ndim)

    def _side_by_side(self, columns, x, ndim):
        """Block diagonal, the `columns` of each piece of the events."""
        batch, shape = x.shape[:x.ndim - ndim], x.shape[x.ndim - ndim:]
        flat = x.reshape(*batch, math.prod(shape))
        blocks = [(rows, columns(leaf, flat[..., rows], core)) for leaf, rows, core in self.pieces(shape)]
        found, before = np.zeros((*flat.shape, sum(block.shape[-1] for _, block in blocks)), x.dtype), 0
        for rows, block in blocks:
            found[..., rows, before:before + block.shape[-1]] = block
            before += block.shape[-1]
        return found

    def _charted(self, x, ndim):
        """The coordinates of the events x, if volumes are theirs; else None."""
        return self.coordinates(x.shape[x.ndim - ndim:]) if self.measure == "chart" else None

    def rows(self, J, x, ndim):
        """C J, of a matrix with a row for each entry of the events x."""
        if not self.thin:
            return J
        chart = self._charted(x, ndim)
        return self.dual_basis(x, ndim).mT @ J if chart is None else J[..., chart, :]

    def entries(self, w, x, ndim):
        """C^T w, flat: the cotangent of the events x, given that of coordinates of unit measure."""
        if not self.thin:
            return w
        chart = self._charted(x, ndim)
        if chart is None:
            return (self.dual_basis(x, ndim) @ w[..., None])[..., 0]
        x_bar = np.zeros((*w.shape[:-1], math.prod(x.shape[x.ndim - ndim:])), w.dtype)
        x_bar[..., chart] = w
        return x_bar


def dense(table, flat):
    """The array (*batch, D, d) of a table of numbers and arrays, for events (*batch, D)."""
    found = np.zeros((*flat.shape, len(table[0]) if table else 0), flat.dtype)
    for i, row in enumerate(table):
        for j, entry in enumerate(row):
            found[..., i, j] = entry
    return found


def not_finite(values):
    return ~np.isfinite(values)


def no_room(values):
    return np.zeros(np.shape(values))


def residual_bound(terms, count):
    """4 D u sum|terms|: how far a rounded point may lie from an equation that its exact point satisfies."""
    u = np.finfo(terms.dtype).eps / 2
    return (4 * count * u * np.abs(terms)).sum(-1)


def sums(x, axis):
    """The sums of x along an axis of n entries; where partial sums overflow, n times the sums of x / n."""
    plain, n = x.sum(axis), x.shape[axis]
    return plain if np.isfinite(plain).all() else np.where(np.isfinite(plain), plain, n * (x / n).sum(axis))


def residuals(equations, values):
    """(residuals, bounds) of the equations; a residual that overflows is inf, and rounding explains nothing of it."""
    with np.errstate(all="ignore"):
        left, bound = np.broadcast_arrays(*equations(values))
    lost = ~np.isfinite(left)
    return np.where(lost, np.inf, left), np.where(lost, 0, bound)


def broken(equations, values):
    """One mark for each member: is one of its equations missed by more than rounding explains?"""
    left, bound = residuals(equations, values)
    return ~(left <= bound).all(-1)


def halved(low, high, dtype, parts=2):
    """The range of exponents of a number, so that a product of `parts` such numbers stays inside the floats."""
    least, largest = EXPONENTS[dtype]
    return max(low, least // parts), min(high, largest // parts)
