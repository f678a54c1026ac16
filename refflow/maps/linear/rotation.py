r"""Rotation by the exponential of a skew matrix, `R^D -> R^D`.

The map.  With any matrix `A`,
    x = exp(S) z,   S = A - A^T                                                     (1)
    z = exp(S)^T x                                                                  (2)
    dx/dz = exp(S)                                                                  (3)
    log|det dx/dz| = 0                                                              (4)
Since `S^T = -S`, the transpose of `exp(S)` is its inverse `exp(-S)`.  Its determinant is 1, because the trace of `S` is 0, and
every rotation is the exponential of some `S`.  The diagonal of `A` and its symmetric part have no effect.  The unit of error is
normwise, as for all matrix pages.

The reverse rule.  The derivative `L(S, .)` of the exponential is equation (5) of `ExponentialLinear`.  With `S_bar` for the cotangent
of all entries of `S`, and since `dS = dA - dA^T`,
    z_bar = exp(S)^T x_bar,   S_bar = L(S^T, x_bar z^T)                             (5)
    A_bar = S_bar - S_bar^T                                                         (6)
The log-det gives nothing.  For the inverse map, `z = exp(-S) x`,
    x_bar = exp(S) z_bar,   S_bar = -L(S, z_bar x^T)                                (7)
and (6) holds.

Source: Hoogeboom, Satorras, Tomczak and Welling, arXiv:2006.01910, section 3; Higham, Functions of Matrices, section 11.10.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, pair, real
from ...core.arithmetic import scaled
from ...core.arrays import doubled
from .exponential import derivative, exponential, exponential_of, moved


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def sums(S, E):
        """exp(S) and L(S, E)."""
        if np.any(np.abs(S) > 1 / len(S)):
            root, along = textbook.sums(S / 2, E / 2)
            return root @ root, root @ along + along @ root                         # (1)
        one = np.eye(len(S), dtype=S.dtype)
        total, along = one, 0 * E
        for n in range(160, 0, -1):
            total, along = one + S @ total / n, (E @ total + S @ along) / n         # (1)
        return total, along

    def forward(z, A):
        return textbook.jacobian(z, A) @ z                                          # (1)

    def inverse(x, A):
        return textbook.jacobian(x, A).T @ x                                        # (2)

    def jacobian(z, A):
        return textbook.sums(A - A.T, 0 * A)[0]                                     # (3)

    def log_det(z, A):
        return z.dtype.type(0)                                                      # (4)

    def inverse_log_det(x, A):
        return x.dtype.type(0)                                                      # (4)

    def vjp(z, A, x_bar, l_bar):
        transposed, S_bar = textbook.sums(A.T - A, np.outer(x_bar, z))              # (5)
        return transposed @ x_bar, {"A": S_bar - S_bar.T}                           # (5) (6)

    def inverse_vjp(x, A, z_bar, l_bar):
        rotation, along = textbook.sums(A - A.T, np.outer(z_bar, x))                # (7)
        return rotation @ z_bar, {"A": along.T - along}                             # (7) (6)


r"""In floating point.

In (1), an exponential computed with floats is no longer orthogonal where `A` is large: each squaring of `exp(S/2)` doubles the
error.  `S`, its exponential and derivatives are computed with pairs of floats, of twice the digits, as in `ExponentialLinear`, and
rounded once.  The matrix is then orthogonal to within rounding, however large `A` is up to `2^40`.     (8)
The page is certified at `D <= 3`, with entries of `A` from `2^-10` to `2^4`, and at the hard cases.

In (6), both terms may overflow where their difference does not, as on the diagonal.  Events and cotangents are scaled by a power of
two, which is multiplied in last:
    A_bar = 2^e (S_bar' - S_bar'^T),   S_bar = 2^e S_bar'                           (9)
"""


@bijector(source="arXiv:2006.01910", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True,
          textbook=textbook)
class RotationLinear(Bijector):
    """x = exp(A - A^T) z, z = exp(A - A^T)^T x; z and x (*batch, D), A (D, D) or (*batch, D, D)."""

    A: Array = real("D", "D")
    event_ndim = (1, 1)
    unit_determinant = True             # log|det| is 0 up to rounding

    @classmethod
    def examples(cls, source):
        D = source.count(1, 3)
        return cls(source.signed((D, D), -10, 4)), (D,)

    @staticmethod
    def definition(m, z, A):
        D = range(len(z))
        Q = exponential_of(m, [[m.mpf(A[i][j]) - A[j][i] for j in D] for i in D])
        return [sum(q * z_j for q, z_j in zip(row, z)) for row in Q]                # (1)

    @staticmethod
    def inverse_definition(m, x, A):
        return RotationLinear.definition(m, x, [list(row) for row in zip(*A)])      # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return moved(exponential(self.S()), z)                                      # (1)

    def S(self):
        A, = doubled(self.A)                                                        # (8)
        return pair(A) - A.mT                                                       # (1)

    def inverse(self, x):
        return moved(exponential(self.S()).mT, x)                                   # (2)

    def log_det(self, z):
        return np.zeros(z.shape[:-1], z.dtype)                                      # (4)

    def jacobian(self, z):
        return np.broadcast_to(exponential(self.S()).astype(z.dtype), z.shape + z.shape[-1:])       # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        S = self.S()
        Q = exponential(S)

        def pullback(x_bar, log_det_bar):
            S_bar, e = derivative(-S, x_bar, z)                                     # (5)
            return moved(Q.mT, x_bar), {"A": scaled(S_bar - S_bar.mT, e).astype(z.dtype)}       # (5) (6) (9)

        return (moved(Q, z), self.log_det(z)), pullback                             # (1) (4)

    def inverse_vjp(self, x):
        S = self.S()
        Q = exponential(S)

        def pullback(z_bar, log_det_bar):
            along, e = derivative(S, z_bar, x)                                      # (7)
            return moved(Q, z_bar), {"A": scaled(along.mT - along, e).astype(x.dtype)}          # (7) (6) (9)

        return (moved(Q.mT, x), -self.log_det(x)), pullback                         # (2) (4)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Line", "D = 1: the identity, and A has no gradient", z=[[3.0]], x=[[-5.0]], A=[[2.5]]),
        case("Symmetric", "A - A^T = 0: the identity", z=[[1.0, -2.0]], x=[[1.0, -2.0]], A=[[1.0, 3.0], [3.0, -2.0]]),
        case("NearlySymmetric", "A - A^T is its last digit", z=[[1.0, -2.0]], x=[[1.0, -2.0]], A=[[1.0, 3.0 + 2.0**-20], [3.0, -2.0]]),
        case("HalfTurn", "an angle of nearly pi, which the Cayley map does not reach", z=[[1.0, 0.75]], x=[[1.0, 0.75]],
             A=[[0.0, 3.140625], [0.0, 0.0]]),
        case("Turns", "an angle of many turns", z=[[1.0, 0.75, 0.5]], x=[[1.0, 0.75, 0.5]],
             A=[[0.0, 1024.0, 3.0], [0.5, 1.0, -700.0], [0.0, 20.0, 0.0]]),
        case("Huge", "a partial sum of (1) overflows, x does not", z=[[2.0**126, 2.0**126]], x=[[2.0**126, -(2.0**126)]],
             A=[[0.0, 12.0], [0.0, 0.0]]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], x=[[2.0**-1070, 2.0**-1074]],
             A=[[1.0, 0.5], [-0.25, 2.0]]),
    )
