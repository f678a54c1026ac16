r"""Orthogonal matrices around a given one, `R^(D(D-1)/2) -> O(D)`, by the Cayley map.

The map.  `Q` = `start` is a constant, and `z` fills, row by row, the strict lower triangle of `S`.  The upper triangle makes `S`
skew, `S^T = -S`:
    x = Q (I - S) (I + S)^-1 = Q (2 M - I),   M = (I + S)^-1                        (1)
    S = (I - c) (I + c)^-1 = 2 K - I,   K = (I + c)^-1,   c = Q^T x,   z_ij = S_ij  for j < i       (2)
`I + S` is always invertible: its eigenvalues are `1 + i t` with real `t`.  `x` has the determinant of `Q`.  A `c` with an eigenvalue -1,
which turns a plane by half a turn, is reached only in the limit.  One step restores the orthogonality that `x` loses by rounding,
    x - x (x^T x - I) / 2                                                           (3)
For the Jacobian, `dM = -M dS M`, and with `P = Q M`,
    dx_ab/dz_ij = -2 (P_ai M_jb - P_aj M_ib)                                        (4)
No choice of entries gives coordinates of the whole image, so `log_det` is by the image's own volume.  From (1),
`x^T dx = -2 M^T dS M`.  As a linear map of skew matrices `dS`, this has the determinant `(det M)^(D-1)`, up to the factors 2.  Because
`x` is orthogonal and `x^T dx` is skew, `|dx|^2` is twice the sum over `j < i` of the squares of the entries of `x^T dx`, so that with
`N = D(D-1)/2`
    1/2 log det J^T J = 3/2 N log 2 - (D - 1) log det(I + S)                        (5)

The reverse rule.  With the cotangent `l_bar` of (5),
    S_bar = -2 M^T (Q^T x_bar) M^T - l_bar (D - 1) M^T                              (6)
    z_ij_bar = S_bar_ij - S_bar_ji                                                  (7)
The inverse map is a function of all entries of `x`.  From (2), `dS = -2 K dc K`, and with the cotangent `l_bar` of minus (5),
    g_ij = z_ij_bar + l_bar (D - 1) (M_ji - M_ij)  for j < i,   all other g_ij = 0  (8)
    x_bar = -2 Q K^T g K^T                                                          (9)

The rounded entries of `Q` make it orthogonal only up to the last digit.  `inverse_definition` must return `z` exactly, and
therefore uses `(Q^T Q)^-1 Q^T x` for `c`.  The code uses `Q^T x`, which differs from it by less than the rounding of this product.

The page is certified at moderate `|z|`, `2^-4` to `2^4`.  Far beyond, for odd `D`, elimination loses `I` against `S` in the
direction that `S` maps to 0: from `|z| = 1/u` on, with the unit roundoff `u`, all digits are lost.

Source: Cayley (1846), "Sur quelques proprietes des determinants gauches".
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, constant, orthogonal, real, refusal
from ...core.sets import turned
from .correlation_cholesky import size_of_triangle, strict_lower


def identity(S):
    return np.eye(S.shape[-1], dtype=S.dtype)


def skew(z):
    """S."""
    lower = strict_lower(z)
    return lower - lower.mT


def below(matrix):
    """The strict lower triangle, row by row."""
    return matrix[(..., *np.tril_indices(matrix.shape[-1], -1))]


def inverse_of(A):
    """A^-1 in nested lists, by elimination without pivots: the symmetric part of A is positive definite."""
    D, rows = len(A), [list(row) + [int(i == j) for j in range(len(A))] for i, row in enumerate(A)]
    for k in range(D):
        pivot = rows[k][k]
        rows[k] = [v / pivot for v in rows[k]]
        for i in range(D):
            if i != k:
                factor = rows[i][k]
                rows[i] = [v - factor * w for v, w in zip(rows[i], rows[k])]
    return [row[D:] for row in rows]


@bijector(source="Cayley (1846)", domain=real, normwise=True, moderate=True)
class CayleyOrthogonal(Bijector):
    """x = start (I - S) (I + S)^-1, where S is skew with z (*batch, D(D-1)/2) row by row below its diagonal; x (*batch, D, D).

    ValueError for a z of another length, for an x that is not orthogonal or has the other determinant.
    """

    start: Array = constant("D", "D", dtype=np.float64)
    event_ndim = (1, 2)
    event_shape = ("N",)

    codomain = property(lambda self: turned(self.start))

    def _validate(self):
        wrong = orthogonal.first_outside(self.start.astype(np.float32))
        if wrong is not None:
            raise ValueError(f"CayleyOrthogonal: start {orthogonal.rule} of float32; start{list(wrong[0])} = {wrong[1]}")
        super()._validate()

    @classmethod
    def reaching(cls, where, like):
        return cls(like.astype(np.float64))

    @classmethod
    def examples(cls, source):
        D = source.count(2, 3)
        return cls(orthogonal.draw(source, (D, D))), (D * (D - 1) // 2,)

    def output_shape(self, shape):
        D = size_of_triangle(shape[0])
        if D != self.start.shape[-1]:
            raise ValueError(f"start has D={self.start.shape[-1]}")
        return D, D

    def input_shape(self, shape):
        if tuple(shape) != self.start.shape[-2:]:
            raise ValueError(f"start has D={self.start.shape[-1]}")
        return (shape[0] * (shape[0] - 1) // 2,)

    @staticmethod
    def definition(m, z, start):
        D, left = len(start), iter(z)
        lower = [[next(left) if j < i else 0 for j in range(D)] for i in range(D)]
        M = inverse_of([[int(i == j) + lower[i][j] - lower[j][i] for j in range(D)] for i in range(D)])
        return [[sum(q * (2 * M[k][j] - int(k == j)) for k, q in enumerate(row)) for j in range(D)]
                for row in start]                                                   # (1)

    @staticmethod
    def inverse_definition(m, x, start):
        D = range(len(start))
        near_one = inverse_of([[sum(start[k][i] * m.mpf(start[k][j]) for k in D) for j in D] for i in D])
        turned_back = [[sum(start[k][i] * x[k][j] for k in D) for j in D] for i in D]
        c = [[sum(near_one[i][k] * turned_back[k][j] for k in D) for j in D] for i in D]
        K = inverse_of([[int(i == j) + c[i][j] for j in D] for i in D])
        return [2 * K[i][j] for i in D for j in range(i)]                           # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def M(self, z):
        S = skew(z)
        return np.linalg.inv(identity(S) + S)

    def turned(self, M):
        c = 2 * M - identity(M)
        x = self.start.astype(M.dtype) @ c                                          # (1)
        return x - x @ (x.mT @ x - identity(M)) / 2                                 # (3)

    def forward(self, z):
        return self.turned(self.M(z))

    def log_det(self, z):
        S, D = skew(z), self.start.shape[-1]
        constant = z.dtype.type(1.5 * (D * (D - 1) // 2) * np.log(2.0))
        return constant - (D - 1) * np.linalg.slogdet(identity(S) + S)[1]           # (5)

    def K(self, x):
        c = self.start.astype(x.dtype).mT @ x
        return np.linalg.inv(identity(c) + c)                                       # (2)

    def inverse(self, x):
        return below(2 * self.K(x))                                                 # (2)

    def jacobian(self, z):
        M = self.M(z)
        P, (i, j) = self.start.astype(z.dtype) @ M, np.tril_indices(M.shape[-1], -1)
        P, M = np.broadcast_arrays(P, M)
        J = P[..., :, None, i] * M.mT[..., None, :, j] - P[..., :, None, j] * M.mT[..., None, :, i]
        return -2 * J.reshape(*M.shape[:-2], M.shape[-1] ** 2, len(i))              # (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        M, D = self.M(z), self.start.shape[-1]
        Q = self.start.astype(z.dtype)

        def pullback(x_bar, log_det_bar):
            S_bar = -2 * M.mT @ (Q.mT @ x_bar) @ M.mT - (D - 1) * log_det_bar[..., None, None] * M.mT     # (6)
            return below(S_bar - S_bar.mT), {}                                      # (7)

        return (self.turned(M), self.log_det(z)), pullback

    def inverse_vjp(self, x):
        K, D = self.K(x), self.start.shape[-1]
        z = below(2 * K)                                                            # (2)

        def pullback(z_bar, log_det_bar):
            M = self.M(z)
            g = strict_lower(z_bar + (D - 1) * log_det_bar[..., None] * below(M.mT - M))        # (8)
            return -2 * self.start.astype(x.dtype) @ K.mT @ g @ K.mT, {}            # (9)

        return (z, -self.log_det(z)), pullback

    hard_cases = (
        case("Start", "z = 0 gives the start itself, and the gradient of the log-det is 0", z=[[0.0, 0.0, 0.0]], x=[np.eye(3).tolist()],
             start=np.eye(3).tolist()),
        case("Tiny", "a turn by 2^-40", z=[[2.0**-41]], start=[[0.0, 1.0], [-1.0, 0.0]]),
        case("HalfCircle", "nearly a turn by half a circle: z is large", z=[[2.0**20], [2.0**100]],
             start=[[1.0, 0.0], [0.0, -1.0]]),
        case("One", "a single entry, 1 or -1, and nothing to turn", z=[[]], x=[[[-1.0]]], start=[[-1.0]]),
    )
    refused = (
        refusal("of float32; start", start=[[1.0, 0.0], [0.5, 1.0]]),
    )
