"""Tangents of sets: the directions in which a member of a set of lower dimension may move, as columns of nested lists.

A set says them for one member in the numbers of a namespace m, NumPy's arrays or the balls of the truth.  If entries of a member
are its coordinates, the columns are the derivatives of all entries by these; else they are orthonormal.
"""

from __future__ import annotations


def nested(flat, shape):
    """A flat list as nested lists of `shape`."""
    if not shape:
        return flat[0]
    step = len(flat) // shape[0] if shape[0] else 0
    return [nested(flat[i * step:(i + 1) * step], shape[1:]) for i in range(shape[0])]


def selecting(rows, size):
    """The columns that move one of the entries `rows` alone, of `size` entries."""
    return [[int(i == row) for row in rows] for i in range(size)]


def frame(where, m, flat, shape):
    """The tangents at one event of `shape`, a flat list: a list of rows, one for each entry."""
    rows, before = [[] for _ in flat], 0
    for leaf, entries, core in where.pieces(shape):
        block = leaf.tangents_of(m, [flat[i] for i in entries], core)
        count = len(block[0]) if block else 0
        for row in rows:
            row.extend([0] * count)
        for i, own in zip(entries, block):
            rows[i][before:] = own
        before += count
    return rows
