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


# -- the tangents of each set ------------------------------------------------------------------------------------------

def of_simplex(m, x):
    """d/dx_k of x_1, ..., x_{K-1} and x_K = 1 - x_1 - ... - x_{K-1}."""
    K = len(x)
    return [*selecting(range(K - 1), K - 1), [-1] * (K - 1)]


def of_unit_rows(m, L):
    """d/dL_ij for j < i of these and L_ii = sqrt(1 - sum_{j<i} L_ij^2)."""
    D = range(len(L))

    def slope(a, b, i, j):
        return 0 if a != i else -L[i][j] / L[i][i] if b == i else int(b == j)

    return [[slope(a, b, i, j) for i in D for j in range(i)] for a in D for b in D]


def of_symmetric(m, S):
    """d/dS_ij for j <= i, which moves S_ji as well."""
    D = range(len(S))
    return [[int((a, b) in ((i, j), (j, i))) for i in D for j in range(i + 1)] for a in D for b in D]


def of_orthogonal(m, x):
    """x (E_ij - E_ji) / sqrt 2 for j < i."""
    D, root = range(len(x)), m.sqrt(2)
    return [[x[a][i] / root if b == j else -x[a][j] / root if b == i else 0 for i in D for j in range(i)] for a in D for b in D]
