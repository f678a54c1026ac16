"""Sets: the domains of events and the constraints of fields, one object for both.

A set knows its rule in words, finds the first value that breaks it, and draws members.  Called with a symbolic shape it
declares a field: `positive("D")` is a vector of positive numbers, `positive()` one positive number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .declarations import Field


@dataclass(frozen=True, eq=False)
class Set:
    """A set of scalars (rank 0), vectors (rank 1) or matrices (rank 2).

    `outside(values)` marks what is not a member: element by element for rank 0 (and where `entrywise`), else one mark for
    each vector or matrix.  `outside_closed` is the same with the finite boundary included: an event may lie on it, because
    its truth may round to it.  `draw(rng, shape, spread)` returns members whose magnitudes are log-uniform over
    2^-spread to 2^spread.
    """

    name: str
    rule: str
    outside: Callable
    outside_closed: Callable
    draw: Callable
    rank: int = 0
    entrywise: bool = True
    lower: float = -np.inf
    upper: float = np.inf
    anchor: float = 0.0

    def __call__(self, *shape, default=None) -> Field:
        return Field(self, shape, default=default)

    def __repr__(self):
        return self.name

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

    def completed(self, values, inside):
        """The values with one fixed member wherever `inside`, which broadcasts with them, is False."""
        if np.all(inside):
            return values
        member = self.draw(np.random.default_rng(0), values.shape, 0)
        return np.where(inside, values, np.asarray(member).astype(values.dtype))


def magnitudes(rng, shape, spread):
    """2^U(-spread, spread), the magnitudes in which parameters and points are drawn."""
    return np.exp2(rng.uniform(-spread, spread, shape))


def signs(rng, shape):
    """+1 or -1, evenly."""
    return rng.choice([-1.0, 1.0], shape)


def not_finite(values):
    return ~np.isfinite(values)


real = Set("real", "must be finite", not_finite, not_finite,
           lambda rng, shape, spread: signs(rng, shape) * magnitudes(rng, shape, spread))

extended_real = Set("extended_real", "must not be NaN", np.isnan, np.isnan, real.draw)

nonzero = Set("nonzero", "must be finite and not 0", lambda v: not_finite(v) | (v == 0), not_finite,
              lambda rng, shape, spread: signs(rng, shape) * magnitudes(rng, shape, spread), anchor=1.0)


def interval(lower, upper):
    """The open interval (lower, upper); an end may be infinite."""
    lower, upper = float(lower), float(upper)
    ends = f"({lower:g}, {upper:g})"
    width = upper - lower

    def draw(rng, shape, spread):
        if np.isinf(width):
            distance = magnitudes(rng, shape, spread)
            return lower + distance if np.isinf(upper) else upper - distance
        distance = width * np.exp2(-rng.uniform(1, max(2, spread), shape))
        near_lower = rng.random(shape) < 0.5
        inner = np.where(near_lower, lower + distance, upper - distance)
        return np.clip(inner, np.nextafter(lower, upper), np.nextafter(upper, lower))

    anchor = (lower + upper) / 2 if np.isfinite(width) else (lower + 1 if np.isfinite(lower) else upper - 1)
    return Set(f"interval{ends}", f"must be in {ends}", lambda v: ~((v > lower) & (v < upper)),
               lambda v: not_finite(v) | ~((v >= lower) & (v <= upper)), draw, lower=lower, upper=upper, anchor=anchor)


positive = Set("positive", "must be finite and > 0", lambda v: not_finite(v) | ~(v > 0), lambda v: not_finite(v) | ~(v >= 0),
               magnitudes, lower=0.0, anchor=1.0)


def residual_bound(terms, count):
    """4 D u sum|terms|: how far a rounded point may lie from an equation that its exact point satisfies."""
    u = np.finfo(terms.dtype).eps / 2
    return 4 * count * u * np.abs(terms).sum(-1)


def _simplex_outside(x, closed):
    entries = (x >= 0) if closed else (x > 0)
    off = np.abs(x.sum(-1) - 1) > residual_bound(x, x.shape[-1])
    return ~(entries & np.isfinite(x)).all(-1) | off


def _draw_simplex(rng, shape, spread):
    weights = magnitudes(rng, shape, spread)
    return weights / weights.sum(-1, keepdims=True)


simplex = Set("simplex", "must have entries >= 0 that sum to 1", lambda x: _simplex_outside(x, False),
              lambda x: _simplex_outside(x, True), _draw_simplex, rank=1, entrywise=False)


def _not_increasing(v):
    return ~(np.isfinite(v).all(-1) & (v[..., 1:] > v[..., :-1]).all(-1))


def _draw_increasing(rng, shape, spread):
    """Sorted signed magnitudes, with gaps between neighbours that float32 can hold."""
    v = np.sort(real.draw(rng, shape, spread), -1)
    for i in range(1, shape[-1]):
        before = v[..., i - 1]
        v[..., i] = np.maximum(v[..., i], before + 2.0**-18 * np.abs(before))
    return v


increasing = Set("increasing", "must be finite and strictly increasing", _not_increasing, _not_increasing, _draw_increasing,
                 rank=1, entrywise=False)


def _correlation_outside(factor, closed):
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    squares = factor * factor
    finite = np.isfinite(factor).all((-2, -1))
    triangular = (np.triu(factor, 1) == 0).all((-2, -1))
    on_diagonal = ((diagonal >= 0) if closed else (diagonal > 0)).all(-1)
    unit_rows = (np.abs(squares.sum(-1) - 1) <= residual_bound(squares, factor.shape[-1])).all(-1)
    return ~(finite & triangular & on_diagonal & unit_rows)


def _draw_correlation(rng, shape, spread):
    rows = np.tril(real.draw(rng, shape, spread), -1) + np.eye(shape[-1])
    return rows / np.sqrt((rows * rows).sum(-1, keepdims=True))


correlation_cholesky = Set(
    "correlation_cholesky", "must be lower triangular with a positive diagonal and rows of norm 1",
    lambda v: _correlation_outside(v, False), lambda v: _correlation_outside(v, True), _draw_correlation, rank=2,
    entrywise=False)


def _cholesky_outside(factor, closed):
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    finite = np.isfinite(factor).all((-2, -1))
    triangular = (np.triu(factor, 1) == 0).all((-2, -1))
    return ~(finite & triangular & ((diagonal >= 0) if closed else (diagonal > 0)).all(-1))


def _draw_cholesky(rng, shape, spread):
    scale = magnitudes(rng, shape[:-1] + (1,), spread)
    return scale * (np.tril(real.draw(rng, shape, 1), -1) + np.eye(shape[-1]))


cholesky_factor = Set(
    "cholesky_factor", "must be finite and lower triangular with a positive diagonal",
    lambda v: _cholesky_outside(v, False), lambda v: _cholesky_outside(v, True), _draw_cholesky, rank=2, entrywise=False)


def _rows_scaled(rng, shape, spread, core):
    """Row scale x well-conditioned core x column scale."""
    rows, columns = magnitudes(rng, shape[:-1] + (1,), spread), magnitudes(rng, shape[:-2] + (1, shape[-1]), spread)
    return rows * core * columns


def _draw_invertible(rng, shape, spread):
    q, _ = np.linalg.qr(rng.standard_normal(shape))
    return _rows_scaled(rng, shape, spread, q + 0.25 * np.eye(shape[-1]) * signs(rng, shape[:-1] + (1,)))


def _singular(matrix):
    finite = np.isfinite(matrix).all((-2, -1))
    sign = np.zeros(matrix.shape[:-2])
    sign[finite] = np.linalg.slogdet(matrix[finite].astype(np.float64))[0]
    return sign == 0


invertible = Set("invertible", "must be finite and invertible", _singular, _singular, _draw_invertible, rank=2,
                 entrywise=False)


def _not_orthogonal(Q):
    """Columns with |q_i^T q_j - [i = j]| > 4 D u (|q_i| |q_j| + [i = j]), the most that sum|terms| can be."""
    u, one = np.finfo(Q.dtype).eps / 2, np.eye(Q.shape[-1], dtype=Q.dtype)
    with np.errstate(all="ignore"):
        products = Q.mT @ Q
        squares = np.diagonal(products, axis1=-2, axis2=-1)
        bound = 4 * Q.shape[-1] * u * (np.sqrt(squares[..., :, None] * squares[..., None, :]) + one)
        within = np.abs(products - one) <= bound
    return ~(np.isfinite(products) & within).all((-2, -1))


def _draw_orthogonal(rng, shape, spread):
    return np.linalg.qr(rng.standard_normal(shape))[0] * signs(rng, shape[:-2] + (1, shape[-1]))


orthogonal = Set("orthogonal", "must be orthogonal, Q^T Q = I to within rounding", _not_orthogonal, _not_orthogonal,
                 _draw_orthogonal, rank=2, entrywise=False)

strictly_lower = Set(
    "strictly_lower", "must be finite and 0 on and above the diagonal", lambda v: not_finite(v) | (np.triu(v) != 0),
    lambda v: not_finite(v) | (np.triu(v) != 0),
    lambda rng, shape, spread: np.tril(real.draw(rng, shape, spread), -1), rank=2)

strictly_upper = Set(
    "strictly_upper", "must be finite and 0 on and below the diagonal", lambda v: not_finite(v) | (np.tril(v) != 0),
    lambda v: not_finite(v) | (np.tril(v) != 0),
    lambda rng, shape, spread: np.triu(real.draw(rng, shape, spread), 1), rank=2)


def _not_a_permutation(order):
    return (np.sort(order, -1) != np.arange(order.shape[-1])).any(-1)


permutations = Set("permutation", "must hold each of 0 .. D-1 once", _not_a_permutation, _not_a_permutation,
                   lambda rng, shape, spread: rng.permuted(np.broadcast_to(np.arange(shape[-1]), shape), axis=-1), rank=1,
                   entrywise=False)


def permutation(size) -> Field:
    """A constant field: an order of 0 .. D-1."""
    return Field(permutations, (size,), constant=True, dtype=np.intp)


def _nothing_outside(values):
    return np.zeros(np.shape(values), bool)


anything = Set("constant", "may be anything", _nothing_outside, _nothing_outside,
               lambda rng, shape, spread: rng.random(shape) < 0.5)


def constant(*shape, dtype=bool, default=None, optional=False) -> Field:
    """A field that is not a parameter: a mask, an index table, a count."""
    return Field(anything, shape, constant=True, dtype=dtype, default=default, optional=optional)


def context(*shape) -> Field:
    """The conditioning variable, filled in with `f.at(context=...)`."""
    return Field(real, shape, optional=True, role="context")


def sequence_mask(*shape) -> Field:
    """The valid positions of sequences, (*batch, T), filled in with `f.at(mask=...)`."""
    return Field(anything, shape, constant=True, dtype=bool, optional=True, role="mask")
