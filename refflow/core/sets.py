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

from . import tangents
from .arithmetic import quotient
from .declarations import Field
from .source import RandomSource

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
    `chart`: for a shape, flat indices of the entries of a thin set that are its coordinates; if it is None, those that `free`
    marks, and without both no entries serve.
    `tangents(m, member)`: see `tangents`; None if each coordinate moves alone.
    `log_ratio(members)` -> (value, pullback): the logarithm of own volume over volume of coordinates, and the function from its
    cotangent to that of the members; None if the ratio is 1 or there are no coordinates.
    `measure`: its volumes are counted in its coordinates ("chart") or are its own ("intrinsic"); "blockwise" if its parts differ.
    `exchangeable`: its members and its measure stay what they are when entries change places.
    `parts`: of a set whose members are in blocks, the set of each block.
    `blocks`: for a shape, [(set, flat indices, shape)] of each block.
    `axes`: how many axes a member has, if not as many as the rank.
    `biject_to`: the name of the page that maps free vectors onto it; None if the entries themselves are free.
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
    chart: Callable | None = None
    tangents: Callable | None = None
    log_ratio: Callable | None = None
    measure: str = "chart"
    exchangeable: bool = False
    parts: tuple = ()
    blocks: Callable | None = None
    axes: int | None = None
    biject_to: str | None = None
    free: Callable | None = None
    whole: bool = False
    scalable: bool = False

    def __call__(self, *shape, default=None) -> Field:
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


def contains(outer, inner):
    """Is every member of the set `inner` a member of `outer`?  Intervals are compared; others must be the same set."""
    if outer is inner or outer is real:
        return True
    if outer.parts or inner.parts:
        pairs = [(o, i) for o in outer.parts or (outer,) for i in inner.parts or (inner,)]      # blocks may be of any size
        return all(o is real or o.rank == 0 and contains(o, i) for o, i in pairs)
    if outer.thin:
        return outer.name == inner.name                         # it may have been made twice, or be measured otherwise
    return outer.alike and outer.rank == inner.rank == 0 and outer.lower <= inner.lower and inner.upper <= outer.upper


def not_finite(values):
    return ~np.isfinite(values)


def no_room(values):
    return np.zeros(np.shape(values))


# -- numbers ----------------------------------------------------------------------------------------------------------

def in_interval(lower, upper):
    """`make` of the open interval (lower, upper): numbers at a drawn distance from 0 or from one of its finite ends."""
    ends = [(end, side) for end, side in ((lower, 1.0), (upper, -1.0)) if np.isfinite(end)]
    ends += [(0.0, 1.0), (0.0, -1.0)] if lower < 0 < upper else []
    from_end, side = np.array(ends).T
    widest = int(np.floor(np.log2(upper - lower))) - 1 if np.isfinite(upper - lower) else None

    def make(source, shape, dtype, low, high):
        which = source.choices(shape, len(ends))
        end = from_end[which].astype(dtype)
        step = np.log2(np.spacing(np.abs(end), dtype=dtype)).astype(int)
        low, high = (low, high) if widest is None else (min(low, widest - 1), min(high, widest))
        low = np.where(end == 0, low, np.maximum(low, step - 1))                # nearer than that, they round to the end
        distance = source.numbers(shape, low, high).astype(dtype)
        inner = np.nextafter(dtype.type([lower, upper]), dtype.type([upper, lower]))
        return np.clip(end + side[which].astype(dtype) * distance, *inner)

    return make


real = Set("real", "must be finite", not_finite, not_finite, in_interval(-np.inf, np.inf))

extended_real = Set("extended_real", "must not be NaN", np.isnan, np.isnan, real.make)

nonzero = Set("nonzero", "must be finite and not 0", lambda v: not_finite(v) | (v == 0), not_finite, real.make, spare=np.abs,
              anchor=1.0, biject_to="HalfLine", scalable=True)


def interval(lower, upper):
    """The open interval (lower, upper); an end may be infinite."""
    lower, upper = float(lower), float(upper)
    ends, bounded = f"({lower:g}, {upper:g})", np.isfinite(upper - lower)
    half = np.isfinite([lower, upper]).any()
    anchor = (lower + upper) / 2 if bounded else lower + 1 if np.isfinite(lower) else upper - 1 if half else 0.0
    return Set(f"interval{ends}", f"must be in {ends}", lambda v: ~((v > lower) & (v < upper)),
               lambda v: not_finite(v) | ~((v >= lower) & (v <= upper)), in_interval(lower, upper), lower=lower, upper=upper,
               anchor=anchor, biject_to="OpenInterval" if bounded else "HalfLine" if half else None)


def intervals(lower, upper):
    """The open intervals of arrays of ends, one for each entry that broadcasts with them; one end of each is finite.

    It is reached by OpenInterval if both ends of each are finite, else by HalfLine, which refuses it if only some are half lines.
    """
    if np.size(lower) == np.size(upper) == 1:
        return interval(np.asarray(lower).item(), np.asarray(upper).item())

    def make(source, shape, dtype, low, high):
        left, right = np.broadcast_to(lower, shape), np.broadcast_to(upper, shape)
        up = np.isinf(right) | np.isfinite(left) & source.booleans(shape)
        end = np.where(up, left, right).astype(dtype)
        with np.errstate(all="ignore"):
            widest = np.where(np.isfinite(right - left), np.floor(np.log2(right - left)) - 1, high).astype(int)
            nearest = np.where(end == 0, low, np.log2(np.spacing(np.abs(end))).astype(int) - 1)     # nearer, they round to it
            low = np.minimum(np.maximum(low, nearest), widest - 1)
        distance = source.numbers(shape, low, np.minimum(high, widest)).astype(dtype)
        inner = (np.nextafter(dtype.type(a), dtype.type(b)) for a, b in ((left, right), (right, left)))
        return np.clip(end + np.where(up, distance, -distance), *inner)

    with np.errstate(invalid="ignore"):
        middle = np.where(np.isinf(upper), lower + 1, np.where(np.isinf(lower), upper - 1, (lower + upper) / 2))
    bounded = np.isfinite(lower).all() and np.isfinite(upper).all()
    return Set("intervals", "must lie between its ends", lambda v: ~((v > lower) & (v < upper)),
               lambda v: not_finite(v) | ~((v >= lower) & (v <= upper)), make, lower=np.nan, upper=np.nan, alike=False,
               each=(np.asarray(lower), np.asarray(upper)), spare=lambda v: np.minimum(v - lower, upper - v), anchor=middle,
               biject_to="OpenInterval" if bounded else "HalfLine")


positive = Set("positive", "must be finite and > 0", lambda v: not_finite(v) | ~(v > 0), lambda v: not_finite(v) | ~(v >= 0),
               in_interval(0.0, np.inf), lower=0.0, anchor=1.0, biject_to="HalfLine", scalable=True)

nonnegative = Set("nonnegative", "must be finite and >= 0", positive.outside_closed, positive.outside_closed, positive.make,
                  lower=0.0, anchor=1.0, biject_to="HalfLine", scalable=True)


def below(count):
    """The whole numbers 0 .. count - 1."""
    def outside(v):
        return ~((v >= 0) & (v < count) & (v == np.floor(v)))

    return Set(f"below({count})", f"must be a whole number from 0 to {count - 1}", outside, outside,
               lambda source, shape, dtype, low, high: source.choices(shape, count).astype(dtype), spare=no_room, whole=True)


# -- vectors ----------------------------------------------------------------------------------------------------------

def residual_bound(terms, count):
    """4 D u sum|terms|: how far a rounded point may lie from an equation that its exact point satisfies."""
    u = np.finfo(terms.dtype).eps / 2
    return 4 * count * u * np.abs(terms).sum(-1)


def halved(low, high, dtype, parts=2):
    """Exponents of factors, `parts` of which are multiplied."""
    least, largest = EXPONENTS[dtype]
    return max(low, least // parts), min(high, largest // parts)


def _simplex_outside(x, closed):
    entries = (x >= 0) if closed else (x > 0)
    off = np.abs(x.sum(-1) - 1) > residual_bound(x, x.shape[-1])
    return ~(entries & np.isfinite(x)).all(-1) | off


def _make_simplex(source, shape, dtype, low, high):
    weights = source.numbers(shape, *halved(low, high, dtype, 3))
    return (weights / weights.sum(-1, keepdims=True)).astype(dtype)


def _volume_of_simplex(x):
    """1/2 log det T^T T = 1/2 log K, also of another plane x_K = c - x_1 - ... - x_{K-1}."""
    return np.full(x.shape[:-1], np.log(x.shape[-1]) / 2, x.dtype), lambda bar: np.zeros_like(x)


simplex = Set("simplex", "must have entries >= 0 that sum to 1", lambda x: _simplex_outside(x, False),
              lambda x: _simplex_outside(x, True), _make_simplex, rank=1, entrywise=False,
              spare=no_room, anchor=lambda shape: np.full(shape, 1 / max(shape[-1], 1)), narrow=True, thin=True,
              chart=lambda shape: np.arange(shape[-1] - 1), tangents=tangents.of_simplex, log_ratio=_volume_of_simplex,
              exchangeable=True, biject_to="StickBreaking")


def _nonzero_sum(x):
    with np.errstate(all="ignore"):
        return ~np.isfinite(x).all(-1) | ~(np.abs(x.sum(-1)) <= residual_bound(x, x.shape[-1]))


def _make_zero_sum(source, shape, dtype, low, high):
    v = source.signed(shape, *halved(low, high, dtype))
    for _ in range(2):                                          # what is left after the first time is rounded as v was
        v = v - v.mean(-1, keepdims=True)
    return v.astype(dtype)


zero_sum = Set("zero_sum", "must have entries that sum to 0", _nonzero_sum, _nonzero_sum, _make_zero_sum, rank=1, entrywise=False,
               spare=no_room, thin=True, chart=lambda shape: np.arange(shape[-1] - 1), tangents=tangents.of_simplex,
               log_ratio=_volume_of_simplex, measure="intrinsic", exchangeable=True, biject_to="ZeroSum")


def _not_increasing(x, closed):
    with np.errstate(all="ignore"):
        steps = x[..., 1:] >= x[..., :-1] if closed else x[..., 1:] > x[..., :-1]
    return ~(np.isfinite(x).all(-1) & steps.all(-1))


def _make_increasing(source, shape, dtype, low, high):
    """Sums of drawn steps from the middle outwards.

    Either their size grows outwards, so that a step of any size is still visible relative to the sum; or they stand in any
    order and have sizes that the dtype can tell from their sum.
    """
    K, seen = shape[-1], (np.finfo(dtype).nmant - 7) // 2
    any_size = source.booleans((*shape[:-1], 1))
    low = np.where(any_size, low, np.clip(low, -seen, seen - 1))
    high = np.where(any_size, min(high, EXPONENTS[dtype][1] - 8), np.clip(high, 1 - seen, seen))
    steps = source.numbers(shape, low, high).astype(dtype)
    left, right = (np.where(any_size, np.sort(part, -1), part) for part in (steps[..., :K // 2], steps[..., K // 2:]))
    x = np.concatenate((-np.cumsum(left, -1)[..., ::-1], np.cumsum(right, -1)), -1)
    for k in range(1, K):                                                       # a step may still have been rounded away
        x[..., k] = np.maximum(x[..., k], np.nextafter(x[..., k - 1], dtype.type(np.inf)))
    return x


def _to_neighbours(x):
    steps = np.pad(np.diff(x, axis=-1), [(0, 0)] * (x.ndim - 1) + [(1, 1)], constant_values=np.inf)
    return np.minimum(steps[..., :-1], steps[..., 1:])


increasing = Set("increasing", "must be finite and strictly increasing", lambda x: _not_increasing(x, False),
                 lambda x: _not_increasing(x, True), _make_increasing, rank=1, entrywise=False, spare=_to_neighbours,
                 anchor=lambda shape: np.broadcast_to(np.arange(shape[-1], dtype=float), shape), biject_to="Ordered")


def not_all_zero(name, rank):
    """The arrays of `rank` axes that are not 0 everywhere."""
    axes = tuple(range(-rank, 0))

    def outside(v):
        return ~np.isfinite(v).all(axes) | ~v.any(axes)

    def spare(v):
        others = (v != 0).sum(axes, keepdims=True) - (v != 0)
        return np.where(others > 0, np.inf, np.abs(v))

    return Set(name, "must be finite and not all 0", outside, outside, real.make, rank=rank, entrywise=False, spare=spare,
               anchor=1.0)


nonzero_vector, nonzero_bank = not_all_zero("nonzero_vector", 1), not_all_zero("nonzero_bank", 3)
nonzero_matrix = not_all_zero("nonzero_matrix", 2)


# -- matrices ---------------------------------------------------------------------------------------------------------

def identities(shape):
    return np.broadcast_to(np.eye(shape[-1]), shape)


def lower_triangle(shape):
    return np.tril(np.ones(shape, bool))


def _correlation_outside(factor, closed):
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    squares = factor * factor
    finite = np.isfinite(factor).all((-2, -1))
    triangular = (np.triu(factor, 1) == 0).all((-2, -1))
    on_diagonal = ((diagonal >= 0) if closed else (diagonal > 0)).all(-1)
    unit_rows = (np.abs(squares.sum(-1) - 1) <= residual_bound(squares, factor.shape[-1])).all(-1)
    return ~(finite & triangular & on_diagonal & unit_rows)


def _make_correlation(source, shape, dtype, low, high):
    rows = np.tril(source.signed(shape, *halved(low, high, dtype, 4)), -1) + np.eye(shape[-1])
    return (rows / np.sqrt((rows * rows).sum(-1, keepdims=True))).astype(dtype)


def _volume_of_unit_rows(L):
    """1/2 log det T^T T = sum_i log(|L_i| / L_ii), for the rows L_i; near 1 by 1/2 log1p(sum_{j<i} (L_ij / L_ii)^2)."""
    diagonal, before = np.diagonal(L, axis1=-2, axis2=-1), np.tril(L, -1)
    squares = (before * before).sum(-1)
    norms, ratios = squares + diagonal * diagonal, before / diagonal[..., None]
    near, far = np.log1p((ratios * ratios).sum(-1)) / 2, np.log(norms) / 2 - np.log(diagonal)
    value = np.where(squares <= diagonal * diagonal, near, far).sum(-1)

    def pullback(bar):
        each = np.broadcast_to(bar[..., None], diagonal.shape)
        L_bar = quotient(each, norms)[..., None] * before
        k = np.arange(L.shape[-1])
        L_bar[..., k, k] = -quotient(each * (squares / norms), diagonal)
        return L_bar

    return value, pullback


correlation_cholesky = Set(
    "correlation_cholesky", "must be lower triangular with a positive diagonal and rows of norm 1",
    lambda v: _correlation_outside(v, False), lambda v: _correlation_outside(v, True), _make_correlation, rank=2,
    entrywise=False, spare=no_room, anchor=identities, narrow=True, thin=True, biject_to="CorrelationCholesky",
    free=lower_triangle, chart=lambda shape: np.flatnonzero(np.tril(np.ones(shape), -1)), tangents=tangents.of_unit_rows,
    log_ratio=_volume_of_unit_rows)


def _cholesky_outside(factor, closed):
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    finite = np.isfinite(factor).all((-2, -1))
    triangular = (np.triu(factor, 1) == 0).all((-2, -1))
    return ~(finite & triangular & ((diagonal >= 0) if closed else (diagonal > 0)).all(-1))


def _room_of_cholesky(factor):
    one = np.eye(factor.shape[-1], dtype=bool)
    return np.where(one, factor, np.where(np.tril(np.ones_like(one)), np.inf, 0))


def _make_cholesky(source, shape, dtype, low, high):
    scale = source.numbers(shape[:-1] + (1,), *halved(low, high, dtype))
    return (scale * (np.tril(source.signed(shape, -1, 1), -1) + np.eye(shape[-1]))).astype(dtype)


cholesky_factor = Set(
    "cholesky_factor", "must be finite and lower triangular with a positive diagonal",
    lambda v: _cholesky_outside(v, False), lambda v: _cholesky_outside(v, True), _make_cholesky, rank=2, entrywise=False,
    spare=_room_of_cholesky, anchor=identities, thin=True, biject_to="CholeskyFactor", free=lower_triangle, scalable=True)


def _not_positive_definite(S, closed):
    """Is it not symmetric, or has S_ij / (S_ii S_jj)^(1/2) an eigenvalue <= 0?  On the boundary, rounding may make one negative."""
    u, D = np.finfo(S.dtype).eps / 2, S.shape[-1]
    with np.errstate(all="ignore"):
        diagonal = np.diagonal(S, axis1=-2, axis2=-1)
        symmetric = (np.abs(S - S.mT) <= 4 * D * u * (np.abs(S) + np.abs(S.mT))).all((-2, -1))
        roots = np.sqrt(np.where(diagonal > 0, diagonal, 1))
        scaled = S / roots[..., :, None] / roots[..., None, :]
    members = symmetric & np.isfinite(scaled).all((-2, -1)) & ((diagonal >= 0) if closed else (diagonal > 0)).all(-1)
    least = np.linalg.eigvalsh(np.where(members[..., None, None], scaled, np.eye(D)).astype(np.float64)).min(-1)
    return ~(members & ((least >= -4 * D * D * u) if closed else (least > 0)))


def _make_positive_definite(source, shape, dtype, low, high):
    """Scales of rows and columns around a matrix with eigenvalues between 1/2 and 3/2."""
    scale = source.numbers(shape[:-1], *halved(low, high, dtype, 4))
    B = source.signed(shape, -1, 1)
    return (scale[..., :, None] * (np.eye(shape[-1]) + (B + B.mT) / (8 * shape[-1])) * scale[..., None, :]).astype(dtype)


def _room_of_positive_definite(S):
    """det(S + d e_i e_i^T) = det S (1 + d (S^-1)_ii)."""
    return np.eye(S.shape[-1]) * _to_singular(S)


def _volume_of_symmetric(S):
    """1/2 log det T^T T = D(D-1)/4 log 2, since the entries below the diagonal move two."""
    D = S.shape[-1]
    return np.full(S.shape[:-2], D * (D - 1) / 4 * np.log(2), S.dtype), lambda bar: np.zeros_like(S)


def _turns(source, shape):
    """Orthogonal matrices in float64; the identity is the simplest one."""
    q, r = np.linalg.qr(source.signed(shape, -2, 2) - 1 + 3 * np.eye(shape[-1]))
    q = q * np.copysign(1, np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    moved = np.take_along_axis(q, source.orders(shape[:-2] + (1, shape[-1])), -1)
    return moved * (1.0 - 2.0 * source.choices(shape[:-2] + (1, shape[-1]), 2))


def _make_invertible(source, shape, dtype, low, high):
    """Row scale x well-conditioned x column scale, where the well-conditioned matrix is Q + c I with c = 0, 1/4 or -1/4."""
    low, high = halved(low, high, dtype)
    rows, columns = source.numbers(shape[:-1] + (1,), low, high), source.numbers(shape[:-2] + (1, shape[-1]), low, high)
    core = _turns(source, shape) + np.array([0, 0.25, -0.25])[source.choices(shape[:-2] + (1, 1), 3)] * np.eye(shape[-1])
    return (rows * core * columns).astype(dtype)


def _singular(matrix):
    finite = np.isfinite(matrix).all((-2, -1))
    sign = np.zeros(matrix.shape[:-2])
    sign[finite] = np.linalg.slogdet(matrix[finite].astype(np.float64))[0]
    return sign == 0


def _to_singular(matrix):
    """1/|(M^-1)_ji|: det(M + d e_i e_j^T) = det M (1 + d (M^-1)_ji)."""
    with np.errstate(all="ignore"):
        return 1 / np.abs(np.linalg.inv(matrix.astype(np.float64)).mT)


positive_definite = Set(
    "positive_definite", "must be symmetric and positive definite", lambda v: _not_positive_definite(v, False),
    lambda v: _not_positive_definite(v, True), _make_positive_definite, rank=2, entrywise=False, spare=_room_of_positive_definite,
    anchor=identities, thin=True, chart=lambda shape: np.flatnonzero(lower_triangle(shape)), tangents=tangents.of_symmetric,
    log_ratio=_volume_of_symmetric)

# by coordinates and by own volume
TWICE_MEASURED = {where.name: where.charted for where in (simplex, correlation_cholesky, zero_sum, positive_definite)}

invertible = Set("invertible", "must be finite and invertible", _singular, _singular, _make_invertible, rank=2,
                 entrywise=False, spare=_to_singular, anchor=identities, scalable=True)


def _not_orthogonal(Q):
    """Columns with |q_i^T q_j - [i = j]| > 4 D u (|q_i| |q_j| + [i = j]), the most that sum|terms| can be."""
    u, one = np.finfo(Q.dtype).eps / 2, np.eye(Q.shape[-1], dtype=Q.dtype)
    with np.errstate(all="ignore"):
        products = Q.mT @ Q
        squares = np.diagonal(products, axis1=-2, axis2=-1)
        bound = 4 * Q.shape[-1] * u * (np.sqrt(squares[..., :, None] * squares[..., None, :]) + one)
        within = np.abs(products - one) <= bound
    return ~(np.isfinite(products) & within).all((-2, -1))


orthogonal = Set("orthogonal", "must be orthogonal, Q^T Q = I to within rounding", _not_orthogonal, _not_orthogonal,
                 lambda source, shape, dtype, low, high: _turns(source, shape).astype(dtype), rank=2, entrywise=False,
                 spare=no_room, anchor=identities, thin=True, tangents=tangents.of_orthogonal, measure="intrinsic",
                 biject_to="CayleyOrthogonal")


def turned(start):
    """The orthogonal matrices with the determinant of `start`; drawn members are not near a rotation by half a turn."""
    def outside(x):
        with np.errstate(all="ignore"):
            other = np.linalg.det(np.where(np.isfinite(x), x, 0).mT @ start) < 0
        return _not_orthogonal(x) | other

    def make(source, shape, dtype, low, high):
        S = np.tril(source.signed(shape, *np.clip((low, high), -4, 2)), -1)
        one = np.eye(shape[-1])
        return (start.astype(np.float64) @ (2 * np.linalg.inv(one + S - S.mT) - one)).astype(dtype)

    sign = np.sign(np.linalg.det(start)).astype(int).tolist()
    return Set(f"orthogonal, det {sign}", orthogonal.rule + ", with the determinant of start", outside, outside, make, rank=2,
               entrywise=False, spare=no_room, anchor=lambda shape: np.broadcast_to(start, shape), thin=True,
               tangents=tangents.of_orthogonal, measure="intrinsic")


def triangle(name, side, cut):
    """The matrices that are 0 on the diagonal and on one side of it; `cut` leaves the other side."""
    def outside(v):
        return not_finite(v) | (v != cut(v))

    def free(shape):
        return cut(np.ones(shape)) != 0

    return Set(name, f"must be finite and 0 on and {side} the diagonal", outside, outside,
               lambda source, shape, dtype, low, high: cut(real.make(source, shape, dtype, low, high)), rank=2,
               spare=lambda v: np.where(free(v.shape), np.inf, 0), thin=True, biject_to="StrictTriangle", free=free)


strictly_lower = triangle("strictly_lower", "above", lambda v: np.tril(v, -1))
strictly_upper = triangle("strictly_upper", "below", lambda v: np.triu(v, 1))


# -- sets made of sets ------------------------------------------------------------------------------------------------

def product(parts, sizes, axis=-1, axes=1):
    """Events of `axes` axes in blocks along one of them, block i a member of `parts[i]`, or members, along its other axes.

    `sizes(shape)` are the lengths of the blocks of an event of `shape`.
    """
    def split(values, shape):
        return np.split(values, np.cumsum(sizes(shape))[:-1], axis)

    def core(values):
        return values.shape[values.ndim - axes:]

    def marks(name):
        def outside(values):
            found = []
            for part, block in zip(parts, split(values, core(values))):
                mark = getattr(part, name)(block)
                found.append(np.broadcast_to(mark.reshape(mark.shape + (1,) * (block.ndim - mark.ndim)), block.shape))
            return np.concatenate(found, axis)
        return outside

    def make(source, shape, dtype, low, high):
        blocks = split(np.empty(shape), shape[len(shape) - axes:])
        return np.concatenate([part.make(source, block.shape, dtype, low, high) for part, block in zip(parts, blocks)], axis)

    def room(values):
        return np.concatenate([part.room(block) for part, block in zip(parts, split(values, core(values)))], axis)

    def anchor(shape):
        return np.concatenate([part.plainest(block.shape) for part, block in zip(parts, split(np.empty(shape), shape))], axis)

    def blocks(shape):
        entries = split(np.arange(math.prod(shape)).reshape(shape), shape)
        return [(part, block.ravel(), block.shape) for part, block in zip(parts, entries)]

    measures = {part.measure for part in parts if part.thin}
    return replace(parts[0], name=f"blocks ({', '.join(map(repr, parts))})", rule=" / ".join(dict.fromkeys(p.rule for p in parts)),
                   rank=0, outside=marks("outside"), outside_closed=marks("outside_closed"), make=make, entrywise=True,
                   lower=-np.inf, upper=np.inf, alike=False, spare=room, anchor=anchor, biject_to=None, free=None, chart=None, tangents=None,
                   log_ratio=None, exchangeable=False, narrow=any(p.narrow for p in parts), thin=any(p.thin for p in parts),
                   measure="chart" if not measures else "blockwise" if len(measures) > 1 else measures.pop(),
                   parts=tuple(parts), blocks=blocks, axes=axes)


def reshaped(where, before, after):
    """The set of events of the shape `after` that are events of `where`, or several members of it, in the shape `before`."""
    if where.blocks and not where.parts and len(before) == where.axes:          # it was reshaped before
        (where, _, before), = where.blocks(before)
    if tuple(before) == tuple(after):
        return where

    def marks(name):
        def outside(values):
            lead = values.shape[:values.ndim - len(after)]
            marks = getattr(where, name)(values.reshape(*lead, *before))
            return marks.any(tuple(range(len(lead), marks.ndim)))
        return outside

    def make(source, shape, dtype, low, high):
        lead = shape[:len(shape) - len(after)]
        return where.make(source, (*lead, *before), dtype, low, high).reshape(shape)

    def room(values):
        return where.room(values.reshape(*values.shape[:values.ndim - len(after)], *before)).reshape(values.shape)

    def anchor(shape):
        return where.plainest((*shape[:len(shape) - len(after)], *before)).reshape(shape)

    return replace(where, name=f"{where!r} of shape {tuple(before)} as {tuple(after)}", rank=len(after), entrywise=False,
                   outside=marks("outside"), outside_closed=marks("outside_closed"), make=make, spare=room, anchor=anchor,
                   biject_to=None, free=None, chart=None, tangents=None, log_ratio=None, exchangeable=False, parts=(),
                   blocks=lambda shape: [(where, np.arange(math.prod(before)), before)], axes=len(after))


# -- constants --------------------------------------------------------------------------------------------------------

def _not_a_permutation(order):
    return (np.sort(order, -1) != np.arange(order.shape[-1])).any(-1)


permutations = Set("permutation", "must hold each of 0 .. D-1 once", _not_a_permutation, _not_a_permutation,
                   lambda source, shape, dtype, low, high: source.orders(shape), rank=1, entrywise=False,
                   spare=no_room, anchor=lambda shape: np.broadcast_to(np.arange(shape[-1]), shape))


def permutation(size) -> Field:
    """A constant field: an order of 0 .. D-1."""
    return Field(permutations, (size,), constant=True, dtype=np.intp)


def _nothing_outside(values):
    return np.zeros(np.shape(values), bool)


anything = Set("constant", "may be anything", _nothing_outside, _nothing_outside,
               lambda source, shape, dtype, low, high: source.booleans(shape))


def constant(*shape, dtype=bool, default=None, optional=False) -> Field:
    """A field that is not a parameter: a mask, an index table, a count."""
    return Field(anything, shape, constant=True, dtype=dtype, default=default, optional=optional)


def context(*shape) -> Field:
    """The conditioning variable, filled in with `f.at(context=...)`."""
    return Field(real, shape, optional=True, role="context")


def sequence_mask(*shape) -> Field:
    """The valid positions of sequences, (*batch, T), filled in with `f.at(mask=...)`."""
    return Field(anything, shape, constant=True, dtype=bool, optional=True, role="mask")
