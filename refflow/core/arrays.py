"""Dtypes, shapes and memory of arrays."""

from __future__ import annotations

import math

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
AT_ONCE = 2**18                         # numbers passed at a time to a function of many events


def as_floating(name, given):
    """(array, strong): a float32 or float64 array; weak if it came as Python numbers, lists or integers.

    Raises ValueError for float16, longdouble, complex, object, string and masked arrays.
    """
    if isinstance(given, np.ma.MaskedArray):
        raise ValueError(f"{name} must not be a masked array, whose mask would be lost; fill it in, or leave rows out")
    array = np.asarray(given)
    if array.dtype in FLOATS:
        return array, isinstance(given, np.generic) or not isinstance(given, (float, int, list, tuple))
    if array.dtype.kind in "iu":
        return array.astype(np.float64), False
    raise ValueError(f"{name} must be float32 or float64 (or Python numbers), not {array.dtype}")


def doubled(*values):
    """Arrays, and bijectors, in float64."""
    return tuple(v.astype(np.float64) for v in values)


def rounded(found, dtype):
    """An array, or a nested tuple or dictionary of them, in another dtype."""
    if isinstance(found, tuple):
        return tuple(rounded(part, dtype) for part in found)
    return {key: rounded(part, dtype) for key, part in found.items()} if isinstance(found, dict) else found.astype(dtype)


def locked(array):
    """A write-locked copy: a value shares no memory with its caller."""
    array = np.array(array, copy=True, order="C")
    array.flags.writeable = False
    return array


def at_index(name, index):
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def sum_to_shape(bar, shape):
    """The adjoint of broadcasting: sum over exactly the axes along which an array of `shape` was repeated."""
    bar = np.asarray(bar)
    if bar.shape == tuple(shape):
        return bar
    extra = bar.ndim - len(shape)
    if extra > 0:
        bar = bar.sum(axis=tuple(range(extra)))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and bar.shape[i] != 1)
    bar = bar.sum(axis=repeated, keepdims=True) if repeated else bar
    return bar if bar.shape == tuple(shape) else np.broadcast_to(bar, shape).copy()


def masked(values, mask):
    """Values (*batch, C, T), set to 0 at the invalid positions of a mask (*batch, T); unchanged if mask is None."""
    if mask is None:
        return values
    valid = mask[..., None, :]
    kept = np.array(np.broadcast_to(values, np.broadcast_shapes(values.shape, valid.shape)))
    np.copyto(kept, kept.dtype.type(0), where=~valid)   # less than half the time of np.where
    return kept


def masked_jacobian(J, mask):
    """dh/da, (*batch, M T, C T), set to 0 in the rows and columns of the invalid positions of a mask (*batch, T)."""
    if mask is None:
        return J
    rows, columns = (np.tile(mask, n // max(1, mask.shape[-1])) for n in J.shape[-2:])
    return np.where(rows[..., None] & columns[..., None, :], J, J.dtype.type(0))


def rows_at_once(*events):
    """How many rows of arrays are taken together, so that they are at most AT_ONCE numbers, or one row."""
    return max(1, AT_ONCE // max(1, sum(math.prod(rows.shape[1:]) for rows in events)))


def parts(events):
    """Parts of an array of events, each of at most AT_ONCE numbers, or of one event."""
    count = rows_at_once(events)
    return [events[i:i + count] for i in range(0, max(1, len(events)), count)]


def in_parts(f, *events):
    """f(*events), computed for a part of the rows at a time: memory does not grow with their number."""
    count = rows_at_once(*events)
    return np.concatenate([f(*(rows[i:i + count] for rows in events)) for i in range(0, max(1, len(events[0])), count)])
