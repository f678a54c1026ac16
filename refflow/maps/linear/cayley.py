r"""Orthogonal linear map by Cayley's quotient of a skew matrix, `R^D -> R^D`.

The map.  With any matrix `A`,
    x = Q z,   Q = (I - S) (I + S)^-1 = 2 M - I,   M = (I + S)^-1,   S = A - A^T    (1)
    z = Q^T x                                                                       (2)
    dx/dz = Q                                                                       (3)
    log|det dx/dz| = 0                                                              (4)
The eigenvalues of the skew `S` are imaginary, so that `I + S` is invertible for every `A`.  Since `S^T = -S`, the transpose of `Q` is
its inverse.  The determinant of `Q` is 1, because `I - S` is the transpose of `I + S`.  A rotation by half a turn is reached only
in the limit.  The diagonal of `A` and its symmetric part have no effect.  The unit of error is normwise, as for all matrix pages.

The reverse rule.  From `dM = -M dS M`, with `S_bar` for the cotangent of all entries of `S`, and since `dS = dA - dA^T`,
    z_bar = Q^T x_bar,   S_bar = -2 M^T x_bar z^T M^T                               (5)
    A_bar = S_bar - S_bar^T                                                         (6)
The log-det gives nothing.  For the inverse map, where `Q^T = 2 M^T - I` and `dM^T = M^T dS M^T`,
    x_bar = Q z_bar,   S_bar = 2 M z_bar x^T M                                      (7)
and (6) holds.

Source: Cayley (1846), "Sur quelques proprietes des determinants gauches"; Golub & Van Loan, Matrix Computations, section 2.1.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, pair, real
from ...core.arithmetic import scaled
from ...core.arrays import doubled
from .exponential import matrix_product, moved, outer
from .low_rank import inverse_and_pivots, swapped


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def M(A):
        """By elimination; no pivot is smaller than 1."""
        one = np.eye(len(A), dtype=A.dtype)
        rows = np.hstack((one + A - A.T, one))                                      # (1)
        for k in range(len(A)):
            rows[k] = rows[k] / rows[k, k]
            for i in range(len(A)):
                if i != k:
                    rows[i] = rows[i] - rows[i, k] * rows[k]
        return rows[:, len(A):]

    def jacobian(z, A):
        return 2 * textbook.M(A) - np.eye(len(A), dtype=A.dtype)                    # (1) (3)

    def forward(z, A):
        return textbook.jacobian(z, A) @ z                                          # (1)

    def inverse(x, A):
        return textbook.jacobian(x, A).T @ x                                        # (2)

    def log_det(z, A):
        return z.dtype.type(0)                                                      # (4)

    def inverse_log_det(x, A):
        return x.dtype.type(0)                                                      # (4)

    def vjp(z, A, x_bar, l_bar):
        M = textbook.M(A)
        S_bar = -2 * M.T @ np.outer(x_bar, z) @ M.T                                 # (5)
        return textbook.inverse(x_bar, A), {"A": S_bar - S_bar.T}                   # (5) (6)

    def inverse_vjp(x, A, z_bar, l_bar):
        M = textbook.M(A)
        S_bar = 2 * M @ np.outer(z_bar, x) @ M                                      # (7)
        return textbook.forward(z_bar, A), {"A": S_bar - S_bar.T}                   # (7) (6)


r"""In floating point.

In (1), elimination loses `I` against a large `S` along the vector that `S` maps to 0, which exists for an odd `D`.  `M`, `Q` and `S_bar`
are computed with pairs of floats, of twice the digits, and rounded once.  The matrix is then orthogonal to within rounding, however
large `A` is up to `2^40`.                                                          (8)
The page is certified at `D <= 3`, with entries of `A` from `2^-10` to `2^10`, and at the hard cases.

In (6), both terms may overflow where their difference does not, as on the diagonal.  Events and cotangents are scaled by a power of
two, which is multiplied in last:
    A_bar = 2^e (S_bar' - S_bar'^T),   S_bar = 2^e S_bar'                           (9)
"""


@bijector(source="Cayley (1846)", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True,
          textbook=textbook)
class CayleyLinear(Bijector):
    """x = (I - S) (I + S)^-1 z with S = A - A^T; z and x (*batch, D), A (D, D) or (*batch, D, D)."""

    A: Array = real("D", "D")
    event_ndim = (1, 1)
    unit_determinant = True             # log|det| is 0 up to rounding

    @classmethod
    def examples(cls, source):
        D = source.count(1, 3)
        return cls(source.signed((D, D), -10, 10)), (D,)

    @staticmethod
    def inverse_definition(m, x, A):
        return CayleyLinear.definition(m, x, [list(row) for row in zip(*A)])        # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return moved(self.Q(self.M()), z)                                           # (1)

    def M(self):
        A, = doubled(self.A)                                                        # (8)
        M, _ = inverse_and_pivots(pair(A) - A.mT + np.eye(self.dims["D"]))          # (1)
        return M

    def Q(self, M):
        return (2 * M - np.eye(self.dims["D"])).high                                # (1) (8)

    def inverse(self, x):
        return moved(self.Q(self.M()).mT, x)                                        # (2)

    def log_det(self, z):
        return np.zeros(z.shape[:-1], z.dtype)                                      # (4)

    def jacobian(self, z):
        return np.broadcast_to(self.Q(self.M()).astype(z.dtype), z.shape + z.shape[-1:])        # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        M = self.M()
        Q = self.Q(M)

        def pullback(x_bar, log_det_bar):
            return moved(Q.mT, x_bar), {"A": -bars(swapped(M), x_bar, z)}           # (5) (6)

        return (moved(Q, z), self.log_det(z)), pullback                             # (1) (4)

    def inverse_vjp(self, x):
        M = self.M()
        Q = self.Q(M)

        def pullback(z_bar, log_det_bar):
            return moved(Q, z_bar), {"A": bars(M, z_bar, x)}                        # (7) (6)

        return (moved(Q.mT, x), -self.log_det(x)), pullback                         # (2) (4)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Line", "D = 1: the identity, and A has no gradient", z=[[3.0]], x=[[-5.0]], A=[[2.5]]),
        case("Symmetric", "A - A^T = 0: the identity", z=[[1.0, -2.0]], x=[[1.0, -2.0]], A=[[1.0, 3.0], [3.0, -2.0]]),
        case("NearlySymmetric", "A - A^T is its last digit", z=[[1.0, -2.0]], x=[[1.0, -2.0]], A=[[1.0, 3.0 + 2.0**-20], [3.0, -2.0]]),
        case("QuarterTurn", "S = [0, 1; -1, 0]: I - S and I + S have the same entries", z=[[1.0, 0.75]], x=[[1.0, 0.75]],
             A=[[0.0, 1.0], [0.0, 0.0]]),
        case("HalfTurn", "nearly half a turn: a large entry", z=[[1.0, 0.75]], x=[[1.0, 0.75]], A=[[0.0, 2.0**18], [0.0, 0.0]]),
        case("Axis", "I is lost against S along the axis of the rotation", z=[[1.0, 0.75, 0.5]], x=[[1.0, 0.75, 0.5]],
             A=[[0.0, 2.0**18 + 1.0, 3.0 * 2.0**16], [0.5, 1.0, -(2.0**17) + 3.0], [0.0, 20.0, 0.0]]),
        case("Huge", "a partial sum of (1) overflows, x does not", z=[[2.0**126, 2.0**126]], x=[[2.0**126, -(2.0**126)]],
             A=[[0.0, 12.0], [0.0, 0.0]]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], x=[[2.0**-1070, 2.0**-1074]],
             A=[[1.0, 0.5], [-0.25, 2.0]]),
        case("SubnormalSingle", "in float32, z has few digits, and A_bar has more", z=[[2.0**-140, 2.0**-149]],
             x=[[2.0**-140, 2.0**-149], [3.0 * 2.0**-147, 2.0**-149]], A=[[1.0, 0.5], [-0.25, 2.0]]),
    )


def bars(M, left, right):
    """S_bar - S_bar^T with S_bar = 2 M left right^T M, of a pair M, summed over the batch if M has no batch."""
    E, e = outer(left, right, M)                                                    # (9)
    S_bar = 2 * matrix_product(matrix_product(M, pair(E)), M)                       # (7) (8)
    return scaled((S_bar - swapped(S_bar)).high, e).astype(left.dtype)              # (6) (9)
