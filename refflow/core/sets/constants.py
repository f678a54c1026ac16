"""Fields that are not parameters: permutations, masks, tables, contexts."""

from __future__ import annotations

import numpy as np

from ..declarations import Field
from .membership import no_room, Set
from .numbers import real


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
