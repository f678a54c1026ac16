r"""Cholesky factor of a correlation matrix, `R^(D(D-1)/2)` -> lower triangular `L` with rows of norm 1 (signed stick breaking).

The map.  `z` is laid row by row into the strict lower triangle, `i = 1 .. D, j < i`:
    y_ij = tanh z_ij,   s_ij = sech z_ij = 1/cosh z_ij                              (1)
    P_ij = prod_{k<j} s_ik       the norm that is left for entries j .. i of row i  (2)
    L_ij = y_ij P_ij,   L_ii = P_ii                                                 (3)
For the inverse map, the tail norms of row `i` equal (2) if the norm of the row is 1:
    T_ij = sqrt(sum_{j<=k<=i} L_ik^2)                                               (4)
    z_ij = arsinh(L_ij / T_{i,j+1})                                                 (5)
A row of `L` depends on its own row of `z` only, and `L_ij` on `z_ik` for `k <= j`:
    dL_ij/dz_ij = s_ij P_{i,j+1},   dL_ij/dz_ik = -y_ik L_ij  for k < j <= i        (6)
The chart is the strict lower triangle row by row, whose block is triangular; `log s_ik` occurs twice on the diagonal at
`j = k` and once for each `k < j < i, c_ik = i - k + 1` times in all:
    log|det J| = sum_{i>k} c_ik log s_ik                                            (7)
For the inverse map as a function of `L_ij`, `j <= i`, with `cosh z_ij = T_ij / T_{i,j+1}`,
    log|det dz/dL| = sum_{i>j} c_ij log cosh z_ij                                   (8)

The reverse rule.  From (6) and `dl/dz_ik = -c_ik y_ik`, where `l` is (7) and has the cotangent `l_bar`,
    z_ik_bar = L_ik_bar s_ik P_{i,k+1} - y_ik (sum_{k<j<=i} L_ij L_ij_bar + l_bar c_ik)            (9)
For the inverse map, `y_ij = L_ij / T_ij` and `s_ij = T_{i,j+1} / T_ij`, which are (1), and
    dz_ij/dL_ij = 1 / T_ij,   dz_ij/dL_im = -y_ij L_im / T_{i,j+1}^2   for j < m <= i
    d log cosh z_ij = y_ij dz_ij
so that, with the cotangent `l_bar` of (8), and with `g_ij` the whole cotangent of `z_ij`,
    g_ij = z_ij_bar + l_bar c_ij y_ij,   g_ii = 0                                   (10)
    L_im_bar = g_im / T_im - L_im sum_{j<m} g_ij y_ij / T_{i,j+1}^2                 (11)

Source: Lewandowski, Kurowicka & Joe (2009), "Generating random correlation matrices based on vines and extended onion
method", in the form of the Stan reference manual, "Cholesky factors of correlation matrices".
"""

from __future__ import annotations

from math import isqrt

import numpy as np

from ...core import Bijector, bijector, case, correlation_cholesky, log_2, real
from .stick_breaking import product_with_root


class textbook:
    """(1) to (11) as they are printed, for one event; a matrix is {(i, j): its entry} with j <= i."""

    def places(D):
        return [(i, j) for i in range(D) for j in range(i)]

    def matrix(entries, D):
        return np.array([[entries.get((i, j), 0) for j in range(D)] for i in range(D)])

    def letters(z):
        """D, y, s, P and L."""
        D, P = int((2 * len(z)) ** 0.5) + 1, {}
        y = {place: np.tanh(v) for place, v in zip(textbook.places(D), z)}          # (1)
        s = {place: 1 / np.cosh(v) for place, v in zip(textbook.places(D), z)}      # (1)
        for i in range(D):
            P[i, 0] = 1                                                             # (2)
            for j in range(i):
                P[i, j + 1] = P[i, j] * s[i, j]                                     # (2)
        return D, y, s, P, {(i, j): P[i, j] * y.get((i, j), 1) for i, j in P}       # (3)

    def norms(x):
        return {(i, j): np.sqrt(sum(x[i, k] ** 2 for k in range(j, i + 1)))         # (4)
                for i in range(len(x)) for j in range(i + 1)}

    def forward(z):
        D, _, _, _, L = textbook.letters(z)
        return textbook.matrix(L, D)                                                # (3)

    def inverse(x):
        T = textbook.norms(x)
        return np.array([np.arcsinh(x[i, j] / T[i, j + 1]) for i, j in textbook.places(len(x))])    # (5)

    def jacobian(z):
        D, y, s, P, L = textbook.letters(z)
        slopes = {(i, j, j): s[i, j] * P[i, j + 1] for i, j in s}                   # (6)
        slopes |= {(i, j, k): -y[i, k] * L[i, j] for i, j in L for k in range(j)}   # (6)
        return np.array([[slopes.get((i, j, k), 0) if i == row else 0 for row, k in textbook.places(D)]
                         for i in range(D) for j in range(D)])

    def log_det(z):
        _, _, s, _, _ = textbook.letters(z)
        return sum((i - k + 1) * np.log(s[i, k]) for i, k in s)                     # (7)

    def inverse_log_det(x):
        T = textbook.norms(x)
        return sum((i - j + 1) * np.log(T[i, j] / T[i, j + 1]) for i, j in textbook.places(len(x)))         # (8)

    def vjp(z, x_bar, l_bar):
        _, y, s, P, L = textbook.letters(z)
        later = {(i, k): sum(L[i, j] * x_bar[i, j] for j in range(k + 1, i + 1)) for i, k in s}     # (9)
        return np.array([x_bar[i, k] * s[i, k] * P[i, k + 1] - y[i, k] * (later[i, k] + l_bar * (i - k + 1))
                         for i, k in s]), {}                                        # (9)

    def inverse_vjp(x, z_bar, l_bar):
        D, T, places = len(x), textbook.norms(x), textbook.places(len(x))
        y = {(i, j): x[i, j] / T[i, j] for i, j in T}
        g = {(i, j): bar + l_bar * (i - j + 1) * y[i, j] for bar, (i, j) in zip(z_bar, places)}     # (10)
        L_bar = {(i, m): g.get((i, m), 0) / T[i, m] - x[i, m] * sum(g[i, j] * y[i, j] / T[i, j + 1] ** 2 for j in range(m))
                 for i, m in T}                                                     # (11)
        return textbook.matrix(L_bar, D), {}


r"""In floating point.

In (1), `cosh z` overflows where `1/cosh z` does not underflow, and `sqrt(1 - y^2)` loses every digit once `y` rounds to 1:
    s = 2 q / (1 + q^2),   q = exp(-|z|)                                            (12)
All factors of (2) are `<= 1`, so `P_ij` underflows only where `L_ij` and all later entries of its row do.

In (4), the squares may underflow or overflow, and a subnormal norm has lost digits; `1 - L_i1^2 - ... - L_ij^2` would lose every
digit of a small `T`.  (4) is a chain of hypot's.  Only ratios within a row enter (5), (8) and `y`, `s`, so these are computed at
    M = h L,   h the square root of the largest power of 2                          (13)
where the tail norms, `h T`, are not subnormal and keep their digits.

In (5), the quotient overflows if `T` is subnormal:
    z_ij = sign(L_ij) 2 log(sqrt(|L_ij| + T_ij) / sqrt(T_{i,j+1}))    for |L_ij| > T_{i,j+1}        (14)
(5) and (14) are equal, but (14) cancels for small `L_ij`.  A tail of norm 0 that is divided again `(L_ij = T_{i,j+1} = 0)` fits
every `z_ij`; the result is NaN.

In (7), `s_ik` may underflow where its logarithm is moderate, or round to 1 where its logarithm is not 0:
    log sech z = -1/2 log(1 + sinh^2 z)                      for |z| <= 1           (15)
               = log 2 - |z| - log(1 + q^2)                  for |z| >  1           (16)
(15) is for small `z`, where (16) subtracts numbers near `log 2`; (16) for large `z`, where (15) overflows.

In (8), the quotient `T_ij / T_{i,j+1}` rounds to 1 for small `L_ij`, and overflows if `T_{i,j+1}` is subnormal:
    log cosh z_ij = 1/2 log(1 + (L_ij / T_{i,j+1})^2)        for |L_ij| <= T_{i,j+1}         (17)
                  = 2 log(sqrt(T_ij) / sqrt(T_{i,j+1}))      otherwise              (18)
and `inf` where `T_{i,j+1} = 0`: then some `z` of the row is infinite, and no term is `< 0`.

In (9), a product of a cotangent `c` and `p in {P, s P}` may be representable where `p` has underflowed; there
    c p = c exp(log(p) / 2) exp(log(p) / 2)                                         (19)
with the logarithms (15), (16) and their sums.  Elsewhere the product itself is more accurate.

In (11), `T^2` underflows.  With `U_im = T_im sum_{j<m} g_ij y_ij / T_{i,j+1}^2` and `y_ii = 1`, there is a recurrence without it:
    U_i1 = 0,   U_{i,j+1} = s_ij U_ij + g_ij y_ij / T_{i,j+1}                       (20)
    L_ij_bar = g_ij / T_ij - y_ij U_ij                                              (21)
At `M`, with `h g` in place of `g`, (20) and (21) give `L_ij_bar` itself.  Where one of its terms overflows although their sum may
not, it is
    L_ij_bar = h M_ij_bar,   M_ij_bar from (20), (21) with g itself                 (22)
"""


@bijector(source="Lewandowski, Kurowicka & Joe (2009)", domain=real, codomain=correlation_cholesky, textbook=textbook)
class CorrelationCholesky(Bijector):
    """L_ij = tanh(z_ij) prod_{k<j} sech(z_ik) for j < i, L_ii = prod_{k<i} sech(z_ik).

    z is (*batch, D(D-1)/2) and real, L is (*batch, D, D), lower triangular with diagonal >= 0 and rows of norm 1, D >= 1
    (D = 1: an empty z and L = 1).  The log-det is that of the strict lower triangle.  ValueError for z that is not finite
    or has another length, for L that is not square or not such a factor.
    """

    event_ndim = (1, 2)

    def output_shape(self, shape):
        D = size_of_triangle(shape[0])
        return (D, D)

    def input_shape(self, shape):
        if shape[0] != shape[1] or shape[0] < 1:
            raise ValueError("a Cholesky factor must be square, with D >= 1 rows")
        return (shape[0] * (shape[0] - 1) // 2,)

    @staticmethod
    def inverse_definition(m, x):
        return [m.asinh(row[j] / m.sqrt(sum(entry * entry for entry in row[j + 1:i + 1])))  # (4) (5)
                for i, row in enumerate(x) for j in range(i)]

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward_and_log_det(self, z):
        _, _, _, L = rows_of(z)
        return L, self.log_det(z)

    def log_det(self, z):
        c = counts(size_of_triangle(z.shape[-1]), z.dtype)
        return (c * log_sech(z)).sum(-1)                                            # (7)

    def inverse_and_log_det(self, x):
        M, (i, j) = enlarged(x), np.tril_indices(x.shape[-1], -1)
        T = tail_norms(M)
        L_ij, T_ij, T_next = M[..., i, j], T[..., i, j], T[..., i, j + 1]
        q = L_ij / T_next
        small = np.abs(q) <= 1
        far = 2 * np.log(np.sqrt(np.abs(L_ij) + T_ij) / np.sqrt(T_next))            # (5) (14)
        z = np.where(small, np.arcsinh(q), np.copysign(far, L_ij))                  # (5)
        steep = np.where(T_next > 0, 2 * np.log(np.sqrt(T_ij) / np.sqrt(T_next)), np.inf)   # (8) (18)
        log_cosh = np.where(small, np.log1p(q * q) / 2, steep)                      # (8) (17)
        return z, (counts(x.shape[-1], x.dtype) * log_cosh).sum(-1)                 # (8)

    def jacobian(self, z):
        y, s, P, L = rows_of(z)
        N, D = z.shape[-1], L.shape[-1]
        i, k = np.tril_indices(D, -1)
        later = np.arange(D) > k[:, None]
        rows = np.where(later, -y[..., i, k, None] * L[..., i, :], 0)               # (6)
        rows[..., np.arange(N), k] = s[..., i, k] * P[..., i, k + 1]                # (6)
        J = np.zeros(z.shape + (D, D), z.dtype)
        J[..., np.arange(N), i, :] = rows
        return np.swapaxes(J.reshape(z.shape + (D * D,)), -1, -2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        y, s, P, L = rows_of(z)
        i, k = np.tril_indices(L.shape[-1], -1)
        c, log_s = counts(L.shape[-1], z.dtype), log_sech(z)
        log_P = np.zeros_like(P)
        log_P[..., 1:] = np.cumsum(strict_lower(log_s)[..., :-1], -1)
        sP, log_sP = s[..., i, k] * P[..., i, k + 1], log_s + log_P[..., i, k + 1]

        def pullback(x_bar, log_det_bar):
            weighted = (y + np.eye(L.shape[-1], dtype=z.dtype)) * product_with_root(x_bar, P, log_P)        # (19)
            after = np.cumsum(weighted[..., ::-1], -1)[..., ::-1][..., i, k + 1]
            own = product_with_root(x_bar[..., i, k], sP, log_sP)                   # (19)
            return own - y[..., i, k] * (after + log_det_bar[..., None] * c), {}    # (9)

        return (L, self.log_det(z)), pullback

    def inverse_vjp(self, x):
        D, M = x.shape[-1], enlarged(x)
        T = tail_norms(M)
        y, s = M / T, T[..., 1:] / T[..., :-1]
        lower, c, h = (..., *np.tril_indices(D, -1)), counts(D, x.dtype), root_of_largest(x.dtype)

        def ambient(g):
            steps, U = g[..., :-1] * y[..., :-1] / T[..., 1:], np.zeros_like(x)
            for j in range(D - 1):
                U[..., j + 1:, j + 1] = s[..., j + 1:, j] * U[..., j + 1:, j] + steps[..., j + 1:, j]       # (20)
            return np.tril(g / T - y * U)                                           # (11) (21)

        def pullback(z_bar, log_det_bar):
            g = strict_lower(z_bar + log_det_bar[..., None] * c * y[lower])         # (10)
            L_bar = ambient(h * g)
            return np.where(np.isfinite(L_bar), L_bar, h * ambient(g)), {}          # (22)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Tiny", "log-det is -z^2 / 2 summed: a difference from log 2 returns 0", z=[[1e-9, -1e-160, 1e-20]]),
        case("Saturated", "y rounds to 1, the norm that is left does not round to 0",
             z=[[20.0, -40.0, 30.0], [70.0, -35.0, 1.0]]),
        case("Underflow", "the diagonal underflows, log-det stays finite", z=[[800.0, -1.0, 2.0**100], [60.0, -50.0, 3.0]]),
        case("Switch", "(15) and (16) meet", z=[[np.nextafter(1, 0), 1.0, np.nextafter(1, 2)]]),
        case("Halves", "(5) and (14) meet: L_ij = T_{i,j+1}",
             x=[[[1.0, 0.0, 0.0], [0.5**0.5, 0.5**0.5, 0.0], [-(0.5**0.5), 0.5, 0.5]]]),
        case("ThinTail", "the squares of the tail underflow, the tail does not",
             x=[[[1.0, 0.0, 0.0], [1.0, 2.0**-70, 0.0], [-1.0, 2.0**-90, 2.0**-80]],
                [[1.0, 0.0, 0.0], [1.0, 2.0**-600, 0.0], [-1.0, 2.0**-700, 2.0**-690]]]),
        case("SubnormalTail", "L_ij / T_{i,j+1} overflows, its arsinh is about 100 or 740; its tail norm is not a float",
             x=[[[1.0, 0.0, 0.0], [1.0, 2.0**-149, 0.0], [-1.0, 2 * 2.0**-149, 3 * 2.0**-149]],
                [[1.0, 0.0, 0.0], [1.0, 2.0**-1074, 0.0], [-1.0, 2 * 2.0**-1074, 3 * 2.0**-1074]]]),
        case("TinyEntry", "the cotangent of a diagonal entry is of the order of L_ij: scaling by h alone would flush it",
             x=[[[1.0, 0.0], [-(2.0**-79), 1.0]], [[1.0, 0.0], [2.0**-700, 1.0]]]),
    )


def size_of_triangle(N):
    """D with D(D-1)/2 = N, D >= 1."""
    D = (1 + isqrt(1 + 8 * N)) // 2
    if D * (D - 1) // 2 != N:
        raise ValueError(f"the length must be D(D-1)/2 = 0, 1, 3, 6, 10, ...; {N} is not one of these")
    return D


def strict_lower(vector):
    """The vector laid row by row into the strict lower triangle of a matrix of zeros."""
    D = size_of_triangle(vector.shape[-1])
    matrix = np.zeros(vector.shape[:-1] + (D, D), vector.dtype)
    matrix[(..., *np.tril_indices(D, -1))] = vector
    return matrix


def counts(D, dtype):
    """c_ij = i - j + 1 over the strict lower triangle, row by row."""
    i, j = np.tril_indices(D, -1)
    return (i - j + 1).astype(dtype)


def sech(z):
    q = np.exp(-np.abs(z))
    return 2 * q / (1 + q * q)                                                      # (1) (12)


def log_sech(z):
    a = np.abs(z)
    near = -np.log1p(np.sinh(np.minimum(a, 1)) ** 2) / 2                            # (15)
    far = log_2(a) - a - np.log1p(np.exp(-2 * a))                                   # (16)
    return np.where(a <= 1, near, far)


def rows_of(z):
    """(y, s, P, L) as D x D matrices; right of the triangle of z, y = 0 and s = 1."""
    Z = strict_lower(z)
    y, s = np.tanh(Z), sech(Z)                                                      # (1)
    P = np.concatenate((np.ones_like(s[..., :1]), np.cumprod(s[..., :-1], -1)), -1)     # (2)
    L = (y + np.eye(Z.shape[-1], dtype=Z.dtype)) * P                                # (3)
    return y, s, P, L


def root_of_largest(dtype):
    """The square root of the largest power of 2, a power of 2 itself."""
    return np.ldexp(dtype.type(1), np.finfo(dtype).maxexp // 2)                     # (13)


def enlarged(L):
    return root_of_largest(L.dtype) * L                                             # (13)


def tail_norms(L):
    return np.hypot.accumulate(L[..., ::-1], -1)[..., ::-1]                         # (4) (13)
