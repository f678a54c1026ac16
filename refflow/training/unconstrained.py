r"""The parameters of a flow as one vector of free numbers.

Optimisers move in all of R^n; a scale must stay positive, a triangle triangular.  Each field v is therefore a function of
free numbers y, chosen by the set in which the field is declared:

real, and sets without a rule below:
    v = y                                                                           (1)
above a, or below b:
    v = a + exp y,   v = b - exp y                                                  (2)
    y = log|v - a|,   y_bar = v_bar dv/dy,   dv/dy = v - a                          (3)
nonzero, with the sign of the initial value for good:
    v = sign exp y,   y = log|v|,   y_bar = v_bar v                                 (4)
between a and b:
    v = a + (b - a) / (1 + exp(-y)),   y = log((v - a) / (b - v))                   (5)
    y_bar = v_bar (v - a) (b - v) / (b - a)                                         (6)
triangles: the entries that may differ from 0, row by row:
    y = v[free],   y_bar = v_bar[free]                                              (7)
Cholesky factors: the same, with the logarithm of the diagonal:
    v_ii = exp y_ii,   y_bar_ii = v_bar_ii v_ii                                     (8)
simplex and correlation Cholesky: refflow's own StickBreaking and CorrelationCholesky,
    v = f(y),   y = f^-1(v),   y_bar = f* v_bar                                     (9)
orthogonal: the Cayley map at the initial value v_0, with S skew and y its entries below the diagonal, 0 at the start:
    v = v_0 (I - S) (I + S)^-1 = v_0 (2 M - I),   M = (I + S)^-1                    (10)
    S = (I - c) (I + c)^-1,   c = v_0^T v                                           (11)
    S_bar = -2 M^T (v_0^T v_bar) M^T,   y_bar = (S_bar - S_bar^T) below the diagonal        (12)
and v is brought back from rounding: with E = v^T v - I,
    v <- v - v E / 2                                                                (13)
The determinant keeps its sign, and a v with an eigenvalue -1 of v_0^T v, a turn by half a circle, is reached in the limit.

Under (1) a step can leave the set (an invertible matrix become singular), as a rounded result of the others can (exp y
underflow to 0): then the field's own message says so.  A `context` is data, and never one of the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from ..maps.constrained import CorrelationCholesky, StickBreaking
from ..core import sets, tree
from ..core.values import Value
from ..core.tree import flatten, nest
from ..core.flow import OwnBase


class Identity:
    """v = y."""

    def __init__(self, v, where):
        self.shape = v.shape

    def free(self, v):
        return v.ravel()                                                            # (1)

    def constrained(self, y):
        return y.reshape(self.shape)                                                # (1)

    def pullback(self, y, v, v_bar):
        return v_bar.ravel()                                                        # (1)


class HalfLine(Identity):
    """v = a + exp y or b - exp y."""

    def __init__(self, v, where):
        super().__init__(v, where)
        self.end, self.sign = (where.lower, 1) if np.isfinite(where.lower) else (where.upper, -1)

    def free(self, v):
        return np.log(np.abs(v - self.end)).ravel()                                 # (3)

    def constrained(self, y):
        return (self.end + self.sign * np.exp(y)).reshape(self.shape)               # (2)

    def pullback(self, y, v, v_bar):
        return (v_bar * (v - self.end)).ravel()                                     # (3)


class Signed(Identity):
    """v = sign exp y."""

    def __init__(self, v, where):
        super().__init__(v, where)
        self.sign = np.sign(v)

    def free(self, v):
        return np.log(np.abs(v)).ravel()                                            # (4)

    def constrained(self, y):
        return self.sign * np.exp(y).reshape(self.shape)                            # (4)

    def pullback(self, y, v, v_bar):
        return (v_bar * v).ravel()                                                  # (4)


class Interval(Identity):
    """v = a + (b - a) / (1 + exp(-y))."""

    def __init__(self, v, where):
        super().__init__(v, where)
        self.a, self.b = where.lower, where.upper

    def free(self, v):
        return np.log((v - self.a) / (self.b - v)).ravel()                          # (5)

    def constrained(self, y):
        return (self.a + (self.b - self.a) / (1 + np.exp(-y))).reshape(self.shape)  # (5)

    def pullback(self, y, v, v_bar):
        return (v_bar * (v - self.a) * ((self.b - v) / (self.b - self.a))).ravel()  # (6)


class Triangle(Identity):
    """v = y at the free entries, 0 elsewhere."""

    def __init__(self, v, where):
        super().__init__(v, where)
        one = np.ones(v.shape, bool)
        self.mask = {sets.strictly_lower: np.tril(one, -1), sets.strictly_upper: np.triu(one, 1),
                     sets.cholesky_factor: np.tril(one)}[where]

    def free(self, v):
        return v[self.mask]                                                         # (7)

    def constrained(self, y):
        v = np.zeros(self.shape, y.dtype)
        v[self.mask] = y                                                            # (7)
        return v

    def pullback(self, y, v, v_bar):
        return v_bar[self.mask]                                                     # (7)


class Cholesky(Triangle):
    """v = y below the diagonal, exp y on it."""

    def __init__(self, v, where):
        super().__init__(v, where)
        self.diagonal = np.broadcast_to(np.eye(v.shape[-1], dtype=bool), v.shape)[self.mask]

    def free(self, v):
        return np.where(self.diagonal, np.log(v[self.mask]), v[self.mask])          # (8)

    def constrained(self, y):
        return super().constrained(np.where(self.diagonal, np.exp(y), y))           # (8)

    def pullback(self, y, v, v_bar):
        bar = super().pullback(y, v, v_bar)
        return np.where(self.diagonal, bar * v[self.mask], bar)                     # (8)


class ByBijector(Identity):
    """v = f(y), a bijector on each vector y."""

    def __init__(self, v, where):
        super().__init__(v, where)
        rank = where.rank
        self.f = {sets.simplex: StickBreaking, sets.correlation_cholesky: CorrelationCholesky}[where]()
        self.shape_y = v.shape[:-rank] + tuple(self.f.input_shape(v.shape[-rank:]))

    def free(self, v):
        return self.f.inverse(v).ravel()                                            # (9)

    def constrained(self, y):
        return self.f.forward(y.reshape(self.shape_y))                              # (9)

    def pullback(self, y, v, v_bar):
        (_, log_det), f_pullback = self.f.vjp(y.reshape(self.shape_y))
        return f_pullback(v_bar, np.zeros_like(log_det))[0].ravel()                 # (9)


class Cayley(Identity):
    """v = v_0 (I - S) (I + S)^-1, S skew with y below its diagonal."""

    def __init__(self, v, where):
        super().__init__(v, where)
        self.start, self.one = v, np.eye(v.shape[-1], dtype=v.dtype)
        self.mask = np.tril(np.ones(v.shape, bool), -1)

    def free(self, v):
        c = self.start.mT @ v
        return ((self.one - c) @ np.linalg.inv(self.one + c))[self.mask]            # (11)

    def resolvent(self, y):
        """M."""
        S = np.zeros(self.shape, y.dtype)
        S[self.mask] = y
        return np.linalg.inv(self.one + S - S.mT)                                   # (10)

    def constrained(self, y):
        v = self.start @ (2 * self.resolvent(y) - self.one)                         # (10)
        return v - v @ (v.mT @ v - self.one) / 2                                    # (13)

    def pullback(self, y, v, v_bar):
        M = self.resolvent(y)
        S_bar = -2 * M.mT @ (self.start.mT @ v_bar) @ M.mT
        return (S_bar - S_bar.mT)[self.mask]                                        # (12)


class Point(Identity):
    """A field of one possible value: nothing is free."""

    def __init__(self, v, where):
        super().__init__(v, where)
        self.v = v

    def free(self, v):
        return np.zeros(0, v.dtype)

    def constrained(self, y):
        return self.v

    def pullback(self, y, v, v_bar):
        return np.zeros(0, v.dtype)


BY_SET = {sets.real: Identity, sets.nonzero: Signed, sets.strictly_lower: Triangle, sets.strictly_upper: Triangle,
          sets.cholesky_factor: Cholesky, sets.simplex: ByBijector, sets.correlation_cholesky: ByBijector,
          sets.orthogonal: Cayley}


def map_of(where, v):
    """The map of a field `v` declared in the set `where`."""
    if where in BY_SET:
        single = v.shape[-1:] == (1,) and BY_SET[where] is ByBijector       # a simplex of one entry
        return Point(v, where) if single else BY_SET[where](v, where)
    ends = np.isfinite([where.lower, where.upper])
    if where.rank or not where.entrywise or not ends.any():
        return Identity(v, where)
    return Interval(v, where) if ends.all() else HalfLine(v, where)


@dataclass(frozen=True, eq=False)
class Leaf:
    """One trained field: its path in params(), its map, and where its free numbers stand in the vector."""

    path: tuple
    where: object
    map: Identity
    part: slice


def owned(value):
    """[(path, owner, field)] of the real fields of a value and its components, but for a context and moving statistics."""
    found = [(path, owner, field) for path, owner, field, _ in tree.leaves(value)
             if field.role is None and path[-1] not in owner.untrained]
    return found + [((*path, *inner), owner, None) for path, owner in tree.walk(value) if isinstance(owner, OwnBase)
                    for inner, _ in flatten(owner.params())]


def is_fixed(path, patterns):
    """Does a pattern name this parameter, or a component that holds it?"""
    return any(fnmatchcase(".".join(path[:n]), pattern) for n in range(1, len(path) + 1) for pattern in patterns)


class Unconstrained:
    """The trained parameters of `value` as free numbers.

    `vector`: those of `value` itself, in its dtype.  `value_at(vector)`: the value with these parameters, checked.
    `quick(vector, context)`: the same, for one use inside training: of the checks those of the fields alone are made.
    `gradient(vector, params_bar)`: the cotangent of the vector, from that of `params()`.
    `fixed`: patterns of parameters that keep their values, by path: "base", "bijector.stages.3", "*.shift".  ValueError for
    a pattern that names no parameter, and where nothing is left to train.
    """

    def __init__(self, value, fixed=()):
        fixed = (fixed,) if isinstance(fixed, str) else tuple(fixed)
        self.original = self.used = value
        params, leaves, pieces, start = value.params(), [], [], 0
        fields = owned(value)
        for pattern in fixed:
            if not any(is_fixed(path, (pattern,)) for path, _, _ in fields):
                raise ValueError(f"fixed: {pattern!r} names no parameter; there are "
                                 f"{', '.join('.'.join(path) for path, _, _ in fields)}")
        self.careful = []
        for path, owner, field in fields:
            if is_fixed(path, fixed):
                continue
            v = np.asarray(tree.at_path(params, path))
            where = sets.real if field is None else field.set
            with np.errstate(all="ignore"):
                leaf = map_of(where, v)
                pieces.append(leaf.free(v))
            leaves.append(Leaf(path, where, leaf, slice(start, start + pieces[-1].size)))
            start += pieces[-1].size
            if field is not None and (where is not sets.real or type(owner)._validate is not Value._validate):
                self.careful.append(path[:-1])
        if not start:
            raise ValueError(f"{type(value).__name__}: there is no parameter to train")
        self.leaves, self.careful = leaves, list(dict.fromkeys(self.careful))
        self.vector = np.concatenate(pieces)
        self.direct = not any(field is None for _, _, field in fields)

    def fields(self, vector):
        """{path: constrained array}."""
        with np.errstate(all="ignore"):
            return {leaf.path: leaf.map.constrained(vector[leaf.part]) for leaf in self.leaves}

    def value_at(self, vector):
        return self.original.replace(**nest(self.fields(vector)))

    def quick(self, vector, context=None):
        if not self.direct:
            value = self.used.replace(**nest(self.fields(vector)))
            return value if context is None else value.at(context=context)
        if not np.isfinite(vector).all():
            return self.value_at(vector)
        copy = tree.replaced(self.used, self.fields(vector), context)
        for path in self.careful:
            try:
                tree.at_path(copy, path)._validate()
            except ValueError as error:
                raise ValueError(f"{'.'.join(path)}: {error}") from None
        return copy

    def stepped(self):
        """What follows a step of training, besides the parameters: nothing."""

    def gradient(self, vector, params_bar):
        parts, fields = [], self.fields(vector)
        with np.errstate(all="ignore"):
            for leaf in self.leaves:
                bar = np.asarray(tree.at_path(params_bar, leaf.path), vector.dtype)
                parts.append(leaf.map.pullback(vector[leaf.part], fields[leaf.path], bar))
        return np.concatenate(parts)
