r"""A matrix with orthonormal columns, from any matrix of full rank.

The map.  The numbers of h fill a matrix `A`, row by row, which is divided by its Frobenius norm.  Then each step adds to the matrix
half of what its columns lack of being orthonormal:
    A_0 = A/|A|,   |A|^2 = sum_ij A_ij^2                                            (1)
    A_n = A_(n-1) T_n,   T_n = I + E_(n-1)/2,   E_n = I - A_n^T A_n                 (2)
    Q = A_n   for the first n >= 1 with |E_n| <= threshold                          (3)
In (2), a singular value `s` becomes `s (3 - s^2)/2`.  By (1), `s` is at most 1, so that it grows by half of itself while it is small;
near 1, a step takes `1 - s` to about `3/2 (1 - s)^2`.  Singular vectors do not change.  The limit is therefore the orthonormal
matrix nearest to `A`, `A (A^T A)^(-1/2)`.  A threshold of 0 stands for this limit, to within rounding.

The source takes a threshold of 1e-6, or 1e-5 for square matrices.  There `Q` is orthonormal to that threshold only.  All matrices of
a batch take as many steps as the one that needs most, so that with a threshold the result depends on the batch.

The reverse rule.  From (2), with `A_n_bar` for the cotangent of the last matrix, step by step back,
    T_n_bar = A_(n-1)^T A_n_bar                                                     (4)
    A_(n-1)_bar = A_n_bar T_n - A_(n-1) (T_n_bar + T_n_bar^T)/2                     (5)
and from (1), with `c = sum_ij A_0_ij A_0_ij_bar`,
    A_bar = (A_0_bar - c A_0)/|A|                                                   (6)
The unit of error is normwise, as for all matrices.  The page is certified at moderate h.

Source: van den Berg, Hasenclever, Tomczak and Welling, arXiv:1803.05649, and the authors' code; Bjorck and Bowie, An
Iterative Algorithm for Computing the Best Estimate of an Orthogonal Matrix, SIAM Journal on Numerical Analysis 8 (1971).
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain, refusal
from ...core.arrays import at_index
from ...core.rules import AT_LEAST_0, count
from .parametrisation import Map, parametrisation

STEPS = 100                                     # of the source; a singular value of 1e-16 |A| needs 91
LIMIT = 36                                      # which a singular value of 2^-20 |A| needs for a thousand digits


class textbook:
    """(1) to (6) as they are printed, for one event."""

    def steps(h, rows, columns, threshold):
        """All A_n, and |A|."""
        A, error, before = h.reshape(rows, columns), 1, 2
        size = np.sqrt(np.sum(A * A))                                               # (1)
        found = [A / size]                                                          # (1)
        while threshold < error < before:                                           # (3)
            A, before = found[-1], error
            found.append(A @ textbook.factor(A))                                    # (2)
            error = np.sqrt(np.sum((found[-1].T @ found[-1] - np.eye(columns, dtype=h.dtype)) ** 2))        # (3)
        return found, size

    def factor(A):
        one = np.eye(A.shape[1], dtype=A.dtype)
        return one + (one - A.T @ A) / 2                                            # (2)

    def fields(h, rows, columns, threshold):
        return {"Q": textbook.steps(h, rows, columns, threshold)[0][-1]}            # (3)

    def vjp(h, rows, columns, threshold, Q_bar):
        found, size = textbook.steps(h, rows, columns, threshold)
        A_bar = Q_bar
        for A in found[-2::-1]:
            T_bar = A.T @ A_bar                                                     # (4)
            A_bar = A_bar @ textbook.factor(A) - A @ (T_bar + T_bar.T) / 2          # (5)
        return ((A_bar - np.sum(found[0] * A_bar) * found[0]) / size).ravel(), {}   # (6)


r"""In floating point.

In (4) to (6), small singular values magnify roundings, although the result need not depend on them alone: for square matrices only
the sums `s_i + s_j` of (8) count, for a rotation of the plane `s_1 + s_2`.
With a threshold of 0, the derivative is that of the limit and need not go through the steps.  With `H = Q^T A`, which is symmetric
and positive, with its eigenvalues `s` and eigenvectors `V`, and with `G = Q_bar`,
    A_bar = Q X + (I - Q Q^T) G H^-1,   H X + X H = Q^T G - G^T Q                   (7)
    X = V Y V^T,   Y_ij = (M_ij - M_ji)/(s_i + s_j),   M = V^T Q^T G V              (8)
where `Y` has an exact 0 on its diagonal.  `H^-1` would magnify the roundings of `I - Q Q^T` where it is 0:
    (I - Q Q^T) G H^-1 = 0    for square matrices                                   (9)

In (3), rounding keeps `|E_n|` from 0.  With a threshold below it, steps end where the norm falls no more:
    Q = A_n   for the first n with 4 r u >= |E_n| >= |E_(n-1)|,   r the number of rows          (10)
"""


@parametrisation(source="arXiv:1803.05649", moderate=True, normwise=True, textbook=textbook)
class OrthonormalColumns(Map):
    """`Q` (rows, columns) with orthonormal columns, from `rows * columns` numbers, row by row.

    `threshold`: the largest norm of `I - Q^T Q` in a batch at which steps end, 0 for as many steps as change anything.  ValueError for
    more columns than rows; for a matrix whose columns are not orthonormal after 100 steps, because they are linearly dependent.
    """

    rows: int = plain(rule=count())
    columns: int = plain(rule=count())
    threshold: float = plain(0.0, AT_LEAST_0)
    names = ("Q",)

    size = property(lambda self: self.rows * self.columns)
    cores = property(lambda self: ((self.rows, self.columns),))

    def _validate(self):
        super()._validate()
        if self.columns > self.rows:
            raise ValueError(f"OrthonormalColumns: columns must be at most rows = {self.rows}, not {self.columns}: so many columns of "
                             f"that length are not orthonormal")

    @classmethod
    def examples(cls, source):
        rows = source.count(1, 3)
        f = cls(rows, source.count(1, min(rows, 2)))
        return f, (f.size,)

    # -- the map ------------------------------------------------------------------------------------------------------

    @staticmethod
    def definition(m, h, rows, columns, threshold):
        across, size = range(columns), m.sqrt(sum(v * v for v in h))
        A = [[v / size for v in h[i * columns:(i + 1) * columns]] for i in range(rows)]         # (1)
        for _ in range(STEPS if threshold else LIMIT):                              # without a threshold, the limit (3)
            E = lack(A)
            A = [[row[j] + sum(row[k] * E[k][j] for k in across) / 2 for j in across] for row in A]     # (2)
            if threshold and sum(v * v for row in lack(A) for v in row) <= threshold**2:        # (3)
                break
        return {"Q": A}

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, h):
        A = h.reshape(*h.shape[:-1], self.rows, self.columns)
        size = np.sqrt((A * A).sum((-2, -1), keepdims=True))                        # (1)
        steps, Q = self.steps(A / size)                                             # (1)

        def pullback_of_limit(bars):
            G, H = bars["Q"], Q.mT @ A
            s, V = np.linalg.eigh((H + H.mT) / 2)
            M = V.mT @ (Q.mT @ G) @ V                                               # (8)
            X = V @ ((M - M.mT) / (s[..., :, None] + s[..., None, :])) @ V.mT       # (8)
            across = (G - Q @ (Q.mT @ G)) @ V / s[..., None, :] @ V.mT if self.rows > self.columns else 0        # (9)
            return (Q @ X + across).reshape(h.shape), {}                            # (7)

        def pullback(bars):
            A_bar = bars["Q"]
            for before, T in reversed(steps):
                T_bar = before.mT @ A_bar                                           # (4)
                A_bar = A_bar @ T - before @ (T_bar + T_bar.mT) / 2                 # (5)
            A_0 = steps[0][0]
            A_bar = (A_bar - (A_0 * A_bar).sum((-2, -1), keepdims=True) * A_0) / size           # (6)
            return A_bar.reshape(h.shape), {}

        return {"Q": Q}, pullback if self.threshold else pullback_of_limit        # (7)

    def steps(self, A):
        """([(A_(n-1), T_n)], Q).  ValueError if there is no Q."""
        one = np.eye(self.columns, dtype=A.dtype)
        E, taken, before = one - A.mT @ A, [], np.inf
        enough = max(self.threshold, 2 * self.rows * np.finfo(A.dtype).eps)         # (10)
        for _ in range(STEPS):
            taken.append((A, one + E / 2))
            A = A @ taken[-1][1]                                                    # (2)
            E = one - A.mT @ A                                                      # (2)
            error = np.sqrt((E * E).sum((-2, -1)))
            worst = error.max(initial=0)
            if worst <= self.threshold or (worst <= enough and worst >= before):
                return taken, A                                                     # (3) (10)
            before = worst
        index = tuple(int(i) for i in np.argwhere(~(error <= enough))[0])
        raise ValueError(f"OrthonormalColumns: Q must be orthonormal after {STEPS} steps, for which the columns of h must be linearly "
                         f"independent; |I - Q^T Q| of {at_index('h', index)} is {error[index]}")

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Line", "one number: 1 or -1, whatever its size", z=[[0.25], [-3.0]], rows=1, columns=1),
        case("Column", "one column: a vector divided by its length", z=[[3.0, -4.0, 0.0]], rows=3, columns=1),
        case("Wide", "singular values of different size: more steps", z=[[1.0, 0.5, 0.25, 0.125 + 2.0**-10]], rows=2, columns=2),
        case("Equal", "a multiple of an orthogonal matrix: all singular values are equal", z=[[3.0, -4.0, 4.0, 3.0]], rows=2,
             columns=2),
        case("Threshold", "the steps end before rounding does", z=[[1.0, 0.5, -0.25, 2.0, 0.75, 1.5]], rows=3, columns=2,
             threshold=2.0**-10),
    )
    refused = (
        refusal("columns must be at most rows = 2, not 3", rows=2, columns=3),
        refusal("threshold must be finite and >= 0", rows=2, columns=1, threshold=-1.0),
    )


def lack(A):
    """I - A^T A of nested lists."""
    across = range(len(A[0]))
    return [[int(i == j) - sum(row[i] * row[j] for row in A) for j in across] for i in across]      # (2)
