r"""Cholesky factor of a correlation matrix, `R^(D(D-1)/2)` -> lower triangular `L` with rows of norm 1, by division by norms.

The map.  `z` is laid row by row into the strict lower triangle of a matrix with ones on its diagonal, `i = 1 .. D, j < i`, and
each row is divided by its norm:
    n_i = (1 + sum_{j<i} z_ij^2)^(1/2)                                              (1)
    L_ij = z_ij / n_i  for j < i,   L_ii = 1 / n_i                                  (2)
    z_ij = L_ij / L_ii                                                              (3)
    dL_ij/dz_ik = ([j = k] - L_ij L_ik) / n_i  for j <= i and k < i,   all else 0   (4)
The chart is the strict lower triangle row by row.  The block of row `i` is `(I - u u^T) / n_i` with `u = (L_i1, ..., L_i,i-1)`.  Its
determinant is the product of `1 - |u|^2`, which is `L_ii^2 = 1 / n_i^2`, and `i - 1` factors `1 / n_i`:
    log|det J| = -sum_i (i + 1) log n_i                                             (5)
For the inverse map as a function of `L_ij`, `j <= i`, with the norm `m_i` of row `i`, `n_i = m_i / L_ii`, so that
    log|det dz/dL| = sum_i (i + 1) log(m_i / L_ii)                                  (6)

The reverse rule.  From (4), with the cotangent `l_bar` of (5), whose derivative by `z_ik` is `-(i + 1) L_ik / n_i`,
    z_ik_bar = (L_ik_bar - L_ik (sum_{j<=i} L_ij L_ij_bar + (i + 1) l_bar)) / n_i   (7)
For the inverse map, with the cotangent `l_bar` of (6) and `s_i = sum_{j<i} L_ij^2`,
    L_ij_bar = z_ij_bar / L_ii + (i + 1) l_bar L_ij / m_i^2    for j < i            (8)
    L_ii_bar = -(sum_{j<i} z_ij_bar L_ij / L_ii + (i + 1) l_bar s_i / m_i^2) / L_ii          (9)

Source: TensorFlow Probability, `CorrelationCholesky`.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, correlation_cholesky, real
from ...core.arithmetic import apart, product_of_pairs, sum_of_pairs
from .correlation_cholesky import size_of_triangle, strict_lower

SHRUNK = 8                                                                          # (10)


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def places(D):
        return [(i, j) for i in range(D) for j in range(i)]

    def norms(z):
        D = int((2 * len(z)) ** 0.5) + 1
        return [np.sqrt(1 + sum(v ** 2 for v, (row, _) in zip(z, textbook.places(D)) if row == i)) for i in range(D)]     # (1)

    def forward(z):
        n = textbook.norms(z)
        D, laid = len(n), dict(zip(textbook.places(len(n)), z))
        return np.array([[laid.get((i, j), 0) / n[i] if i != j else 1 / n[i] for j in range(D)] for i in range(D)])          # (2)

    def inverse(x):
        return np.array([x[i, j] / x[i, i] for i, j in textbook.places(len(x))])    # (3)

    def jacobian(z):
        n, L = textbook.norms(z), textbook.forward(z)
        D = len(n)
        return np.array([[((j == k) - L[i, j] * L[i, k]) / n[i] if i == row and j <= i else 0 for row, k in textbook.places(D)]
                         for i in range(D) for j in range(D)])                      # (4)

    def log_det(z):
        return -sum((i + 1) * np.log(n) for i, n in enumerate(textbook.norms(z), 1))        # (5)

    def inverse_log_det(x):
        return sum((i + 1) * np.log(np.sqrt(sum(row ** 2)) / row[i - 1]) for i, row in enumerate(x, 1))     # (6)

    def vjp(z, x_bar, l_bar):
        n, L = textbook.norms(z), textbook.forward(z)
        sums = [sum(L[i, :i + 1] * x_bar[i, :i + 1]) + (i + 2) * l_bar for i in range(len(n))]
        return np.array([(x_bar[i, k] - L[i, k] * sums[i]) / n[i] for i, k in textbook.places(len(n))]), {}         # (7)

    def inverse_vjp(x, z_bar, l_bar):
        D = len(x)
        laid, L_bar = dict(zip(textbook.places(D), z_bar)), 0 * x
        for i in range(D):
            m_2, s = sum(x[i] ** 2), sum(x[i, :i] ** 2)
            for j in range(i):
                L_bar[i, j] = laid[i, j] / x[i, i] + (i + 2) * l_bar * x[i, j] / m_2        # (8)
            total = sum((laid[i, j] * x[i, j] / x[i, i] for j in range(i)), 0)
            L_bar[i, i] = -(total + (i + 2) * l_bar * s / m_2) / x[i, i]            # (9)
        return L_bar, {}


r"""In floating point.

In (1), the squares overflow or underflow where `n_i` does not, and `n_i` overflows where the quotients (2) do not:
    2^-8 n_i = |(2^-8 z_i1, ..., 2^-8 z_i,i-1, 2^-8)|    by a chain of hypot's      (10)

In (4) and (7), `1 - L_ik^2` cancels where one entry is much larger than all others of its row:
    1 - L_ik^2 = g_ik^2,   g_ik = the norm of row i of L without its entry k        (11)
    L_ik_bar - L_ik sum_{j<=i} L_ij L_ij_bar = g_ik^2 L_ik_bar - L_ik sum_{j!=k} L_ij L_ij_bar        (12)

In (5), `n_i` rounds to 1 where its logarithm is not 0.  Let `a_i` be the largest magnitude of the entries `z_i1, ..., z_i,i-1, 1` of row `i`,
and `q_i` the sum of the squares of all others after division by `a_i`.  Neither term is negative in
    log n_i = log a_i + 1/2 log(1 + q_i)                                            (13)
Where all entries of `z` are so small that `log(1 + q_i)` rounds to `q_i`, squares may be subnormal.  With a power `c` of 2,
    sum_i (i + 1) log n_i = c^-2 sum_i (i + 1)/2 sum_{j<i} (c z_ij)^2               (14)
and likewise in (6), with the entries of row `i` of `L` in place of these:
    log(m_i / L_ii) = log a_i - log L_ii + 1/2 log(1 + q_i)                         (15)

In (7), `L_ik` or `L_ij` may be subnormal where its product with a cotangent is not, and `g_ik^2` may underflow; in (9), `s_i` may
underflow and `z_ij_bar / L_ii` overflow.  The exponents of the terms of (12) and (9) are kept apart:
    v = m 2^e,   1/2 <= |m| < 1                                                     (16)
"""


@bijector(source="TensorFlow Probability, CorrelationCholesky", domain=real, codomain=correlation_cholesky, textbook=textbook)
class RowNormalisedCorrelation(Bijector):
    """L_ij = z_ij / n_i for j < i and L_ii = 1 / n_i, with n_i = sqrt(1 + sum_{j<i} z_ij^2).

    z is (*batch, D(D-1)/2) and real, L is (*batch, D, D), lower triangular with diagonal >= 0 and rows of norm 1, D >= 1
    (D = 1: an empty z and L = 1).  The log-det is that of the strict lower triangle.  ValueError for z that is not finite
    or has another length, for L that is not square or not such a factor.
    """

    event_ndim = (1, 2)

    def output_shape(self, shape):
        D = size_of_triangle(shape[0])
        return D, D

    def input_shape(self, shape):
        if shape[0] != shape[1] or shape[0] < 1:
            raise ValueError("a Cholesky factor must be square, with D >= 1 rows")
        return (shape[0] * (shape[0] - 1) // 2,)

    @staticmethod
    def inverse_definition(m, x):
        return [row[j] / row[i] for i, row in enumerate(x) for j in range(i)]       # (3)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        A = with_ones(z)
        return np.ldexp(A / shrunk_norms(A), -SHRUNK)                               # (2) (10)

    def inverse(self, x):
        i, j = np.tril_indices(x.shape[-1], -1)
        return x[..., i, j] / x[..., i, i]                                          # (3)

    def log_det(self, z):
        A = with_ones(z)
        a, q = largest_and_others(A)
        each = np.log(a) + np.log1p(q) / 2                                          # (13)
        return -np.where(small_below(A), sum_of_small(A), (counts(a) * each).sum(-1))       # (5) (14)

    def inverse_and_log_det(self, x):
        (a, q), diagonal = largest_and_others(x), np.diagonal(x, axis1=-2, axis2=-1)
        each = np.log(a) - np.log(diagonal) + np.log1p(q) / 2                       # (15)
        return self.inverse(x), (counts(a) * each).sum(-1)                          # (6)

    def jacobian(self, z):
        A, N = with_ones(z), z.shape[-1]
        D, (i, k) = A.shape[-1], np.tril_indices(A.shape[-1], -1)
        a = np.abs(A).max(-1, keepdims=True)                                        # (13)
        r, others, total = A / a, sums_without(np.square(A / a)), np.square(A / a).sum(-1, keepdims=True)
        rows = -r[..., i, :] * r[..., i, k, None]                                   # (4)
        rows[..., np.arange(N), k] = others[..., i, k]                              # (4) (11)
        J = np.zeros(z.shape + (D, D), z.dtype)
        J[..., np.arange(N), i, :] = (rows / (total * np.sqrt(total))[..., i, :]) / a[..., i, :]            # (4)
        return np.swapaxes(J.reshape(z.shape + (D * D,)), -1, -2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        A = with_ones(z)
        D, (i, k), one = A.shape[-1], np.tril_indices(A.shape[-1], -1), np.eye(A.shape[-1], dtype=bool)
        n, g = apart(shrunk_norms(A)), apart(norms_without(A)[..., i, k])           # (10) (11) (16)
        L, n_ik = over(apart(A), n, SHRUNK), at(n, (i, 0))                          # (16)
        L_ik, L_i = at(L, (i, k)), at(L, i)

        def pullback(x_bar, log_det_bar):
            bars = apart(x_bar)                                                     # (16)
            own = product_of_pairs(product_of_pairs(at(bars, (i, k)), g), g)        # (12)
            others = negative(product_of_pairs(product_of_pairs(L_i, at(bars, i)), each(L_ik)))
            slopes = product_of_pairs(L_ik, apart(-(i + 2).astype(z.dtype) * log_det_bar[..., None]))       # (16)
            terms = [np.concatenate((np.where(one[k], b[..., None], a), c[..., None]), -1) for a, b, c in zip(others, own, slopes)]
            return np.ldexp(*over(sum_of_pairs(terms, -1), n_ik, SHRUNK)), {}       # (7) (12) (16)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        below, diagonal = np.tril(x, -1), np.diagonal(x, axis1=-2, axis2=-1)
        s, m = np.hypot.reduce(below, -1), np.hypot.reduce(x, -1)                   # (10)
        row, d, ratio = np.arange(x.shape[-1]), apart(diagonal), over(apart(s), apart(m))       # (16)
        weights = (row + 2).astype(x.dtype)

        def pullback(z_bar, log_det_bar):
            bars, l_bar = strict_lower(z_bar), log_det_bar[..., None] * weights
            sums = product_of_pairs(apart(bars), apart(below))                      # (16)
            last = product_of_pairs(product_of_pairs(product_of_pairs(apart(l_bar), ratio), ratio), d)      # (16)
            terms = [np.concatenate((a, b[..., None]), -1) for a, b in zip(sums, last)]
            L_bar = np.where(bars == 0, 0, bars / diagonal[..., None]) + l_bar[..., None] * below / m[..., None] / m[..., None]    # (8)
            L_bar[..., row, row] = np.ldexp(*over(over(negative(sum_of_pairs(terms, -1)), d), d))           # (9) (16)
            return np.tril(L_bar), {}

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "n_i rounds to 1, its logarithm is z^2 / 2", z=[[1e-9, -1e-160, 1e-20]], x=[[[1.0, 0.0], [2.0**-40, 1.0]]]),
        case("Large", "squares overflow, and 1 - L_ij^2 in (4) cancels", z=[[2.0**100, 3.0, -(2.0**90)], [2.0**600, 3.0, -(2.0**590)]]),
        case("Largest", "n_i overflows", z=[[1.0, -(2.0**127), 1.75 * 2.0**127], [1.0, -(2.0**1023), 1.75 * 2.0**1023]]),
        case("Switch", "a_i is an entry of z from 1 on", z=[[np.nextafter(1, 0), 1.0, np.nextafter(1, 2)]]),
        case("ThinTail", "L_ii is tiny: z is large", x=[[[1.0, 0.0, 0.0], [1.0, 2.0**-70, 0.0], [-1.0, 2.0**-90, 2.0**-80]],
                                                        [[1.0, 0.0, 0.0], [1.0, 2.0**-600, 0.0], [-1.0, 2.0**-700, 2.0**-690]]]),
    )


def with_ones(z):
    """z in the strict lower triangle, below ones on the diagonal."""
    lower = strict_lower(z)
    return lower + np.eye(lower.shape[-1], dtype=z.dtype)


def shrunk_norms(A):
    """2^-8 n_i, as columns."""
    return np.hypot.reduce(np.ldexp(A, -SHRUNK), -1, keepdims=True)                 # (1) (10)


def norms_without(A):
    """g_ik: norms of what stands before the entry k and after it, over n_i."""
    small = np.ldexp(A, -SHRUNK)                                                    # (10)
    nothing = np.zeros_like(small[..., :1])
    before = np.hypot.accumulate(np.concatenate((nothing, small[..., :-1]), -1), -1)        # (11)
    after = np.hypot.accumulate(np.concatenate((nothing, small[..., :0:-1]), -1), -1)[..., ::-1]        # (11)
    return np.hypot(before, after) / np.hypot.reduce(small, -1, keepdims=True)      # (11)


def small_below(A):
    """Does log(1 + q_i) round to q_i, for all rows?"""
    return (np.abs(np.tril(A, -1)) < np.finfo(A.dtype).eps).all((-2, -1))           # (14)


def sum_of_small(A):
    """sum_i (i + 1) log n_i."""
    k = np.finfo(A.dtype).maxexp // 3                                               # (14)
    squares = np.square(np.ldexp(np.tril(A, -1), k)).sum(-1)                        # (14)
    return np.ldexp((counts(squares) * squares).sum(-1) / 2, -2 * k)                # (14)


def sums_without(terms):
    """The sums of all entries but one, without differences."""
    nothing = np.zeros_like(terms[..., :1])
    before = np.cumsum(np.concatenate((nothing, terms[..., :-1]), -1), -1)
    after = np.cumsum(np.concatenate((nothing, terms[..., :0:-1]), -1), -1)
    return before + after[..., ::-1]                                                # (11)


def largest_and_others(A):
    """a_i and q_i."""
    size = np.abs(A)
    place = size.argmax(-1)[..., None]
    a = np.take_along_axis(size, place, -1)
    others = np.array(size / a)
    np.put_along_axis(others, place, 0, -1)
    return a[..., 0], (others * others).sum(-1)                                     # (13) (15)


def counts(rows):
    """i + 1 for i = 1 .. D."""
    return np.arange(2, rows.shape[-1] + 2, dtype=rows.dtype)


# -- numbers with their exponents apart (16) --------------------------------------------------------------------------

def at(pair, index):
    """The entries at an index along the last two axes, or the rows."""
    return tuple(part[(..., *index)] if isinstance(index, tuple) else part[..., index, :] for part in pair)


def each(pair):
    """With another axis."""
    return tuple(part[..., None] for part in pair)


def negative(pair):
    return -pair[0], pair[1]


def over(a, b, shift=0):
    """a / b 2^-shift."""
    m, carry = np.frexp(a[0] / b[0])                                                # (16)
    return m, a[1] - b[1] + carry - shift
