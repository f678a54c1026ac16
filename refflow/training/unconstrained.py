"""The parameters of a flow as one vector of free numbers.

Optimisers move in all of R^n; a scale must stay positive, a triangle triangular.  Each field v is therefore a function of
free numbers y, through the page that `biject_to` names for the field's declared set: v = f(y), y = f^-1(v) at the
start, y_bar from f's own pullback.  If the entries are themselves free, v = y.

What a page cannot change stays fixed: a nonzero number keeps its sign, an orthogonal matrix its determinant.  A step can
leave a set whose entries are free (an invertible matrix may become singular), and so can a rounded result of a page (exp y
may underflow to 0); then the field's own message says so.  A `context` is data, never a parameter.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from ..maps.constrained.biject_to import biject_to
from ..core import sets, tree
from ..core.values import Value
from ..core.tree import flatten, nest
from ..core.flow import OwnBase


class Onto:
    """v = f(y), y as one flat vector; f, unchecked, is the page of a set, or None if v = y."""

    def __init__(self, v, where):
        f = biject_to(where, v)
        self.f = None if f is None else f.unchecked(v.dtype)
        rank = 0 if f is None else f.event_ndim[1]
        self.shape = v.shape if f is None else v.shape[:v.ndim - rank] + tuple(f.input_shape(v.shape[v.ndim - rank:]))

    def free(self, v):
        return v.ravel() if self.f is None else self.f.inverse(v).ravel()

    def constrained(self, y):
        y = y.reshape(self.shape)
        return y if self.f is None else self.f.forward(y)

    def pullback(self, y, v_bar):
        if self.f is None:
            return v_bar.ravel()
        (_, log_det), f_pullback = self.f.vjp(y.reshape(self.shape))
        return f_pullback(v_bar, np.zeros_like(log_det))[0].ravel()


@dataclass(frozen=True, eq=False)
class Leaf:
    """One trained field: its path in params(), its map, and where its free numbers stand in the vector."""

    path: tuple
    where: object
    map: Onto
    part: slice


class Mould:
    """Copies of one value, made again and again, with other arrays at the same paths: what its walk finds is noted once.

    Components without such arrays are the value's own.
    """

    def __init__(self, value, paths):
        self.nodes, self.places, paths = [], {}, set(paths)
        self.note(value, (), paths)

    def note(self, owner, path, paths):
        """The place of a component among `nodes`, which are in such an order that what they hold stands before them."""
        if id(owner) in self.places:
            return self.places[id(owner)]
        arrays = [(key, (*path, key)) for key in owner.array_fields if (*path, key) in paths]
        contexts = [key for key, field in owner.own_fields().items() if field.role == "context"]
        parts = [((key, *index), component, self.note(component, (*path, key, *index), paths))
                 for (key, *index), component in tree.components(owner)]
        moved = {key for (key, *_), _, place in parts if place is not None}
        if not (arrays or contexts or moved):
            self.places[id(owner)] = None
            return None
        fixed = {"checked": owner.checked} | {key: held for key, held in vars(owner).items() if key not in owner.computed}
        parts = [part for part in parts if part[0][0] in moved]
        self.nodes.append((type(owner), fixed, arrays, contexts, parts))
        self.places[id(owner)] = len(self.nodes) - 1
        return len(self.nodes) - 1

    def filled(self, new, context=None):
        """The copy with the arrays of {path: array}, and with a context if there is one: `tree.replaced`."""
        made = []
        for kind, fixed, arrays, contexts, parts in self.nodes:
            held = {key: new[path] for key, path in arrays}
            if context is not None:
                held |= dict.fromkeys(contexts, context)
            for (key, *index), component, place in parts:
                part = component if place is None else made[place]
                held[key] = (*held.get(key, ()), part) if index else part
            made.append(tree.bare(kind, **(fixed | held)))
        return made[-1]


def owned(value):
    """[(path, owner, field)] of the real fields of a value and its components, except a context and moving statistics."""
    found = [(path, owner, field) for path, owner, field, _ in tree.leaves(value)
             if field.role is None and path[-1] not in owner.untrained]
    return found + [((*path, *inner), owner, None) for path, owner in tree.walk(value) if isinstance(owner, OwnBase)
                    for inner, _ in flatten(owner.params())]


def is_fixed(path, patterns):
    """Does a pattern name this parameter, or a component that holds it?"""
    return any(fnmatchcase(".".join(path[:n]), pattern) for n in range(1, len(path) + 1) for pattern in patterns)


class Unconstrained:
    """The trained parameters of `value` as free numbers.

    `vector`: the parameters of `value` itself, in its dtype.  `value_at(vector)`: the value with these parameters, checked.
    `quick(vector, context)`: the same, for one use inside training: only the fields are checked.
    `gradient(vector, params_bar)`: the cotangent of the vector, from the cotangents of `params()`.
    `fixed`: patterns of parameters that keep their values, by path: "base", "bijector.stages.3", "*.shift".  ValueError for
    a pattern that does not match a parameter, and if nothing is left to train.
    """

    def __init__(self, value, fixed=()):
        fixed = (fixed,) if isinstance(fixed, str) else tuple(fixed)
        self.original = self.used = value
        self.statistics = {}                    # what changes with steps besides the parameters
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
                leaf = Onto(v, where)
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
        fields = self.fields(vector)
        copy = self.moulds[0].filled(fields, context)
        view = self.moulds[1].filled(fields, None if context is None else context.astype(vector.dtype, copy=False))
        vars(copy)["unchecked_copy"] = view                             # which `unchecked` would make by a walk of its own
        for path in self.careful:
            try:
                tree.at_path(copy, path)._validate()
            except ValueError as error:
                raise ValueError(f"{'.'.join(path)}: {error}") from None
        return copy

    def evaluated(self, vector):
        """(a value with these parameters for one evaluation, a function that gives it as a value of its own)."""
        return self.quick(vector), functools.cache(functools.partial(self.value_at, vector))

    @functools.cached_property
    def moulds(self):
        """Of the value that steps use, and of its unchecked copy."""
        paths = [leaf.path for leaf in self.leaves]
        return Mould(self.used, paths), Mould(self.used.unchecked(self.vector.dtype), paths)

    def stepped(self):
        """Called after each step of training; here it does nothing."""

    def gradient(self, vector, params_bar):
        parts = []
        with np.errstate(all="ignore"):
            for leaf in self.leaves:
                bar = np.asarray(tree.at_path(params_bar, leaf.path), vector.dtype)
                parts.append(leaf.map.pullback(vector[leaf.part], bar))
        return np.concatenate(parts)
