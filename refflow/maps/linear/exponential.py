r"""Linear map by the exponential of a matrix, `R^D -> R^D`.

The map.  With any matrix `A`,
    x = exp(A) z,   exp(A) = I + A + A^2/2 + A^3/6 + ... = exp(A/2)^2               (1)
    z = exp(-A) x                                                                   (2)
    dx/dz = exp(A)                                                                  (3)
    log|det dx/dz| = tr A = a_11 + a_22 + ... + a_DD                                (4)
The series is summed for a small matrix: `A` is halved until it is small, and the sum is squared as many times.  `exp(A)` is
invertible for every `A`, with the inverse `exp(-A)`, and its determinant is positive, because it is `exp(tr A)`.  The unit of error
is normwise, as for all matrix pages.

The reverse rule.  The derivative of the exponential along `E` is
    L(A, E) = E + (E A + A E)/2 + (E A^2 + A E A + A^2 E)/6 + ...
            = R L(A/2, E/2) + L(A/2, E/2) R,   R = exp(A/2)                         (5)
Its adjoint is `L(A^T, .)`, because `tr(G^T L(A, E)) = tr(L(A^T, G)^T E)`.  With the cotangent `l_bar` of (4),
    z_bar = exp(A)^T x_bar,   A_bar = L(A^T, x_bar z^T) + l_bar I                   (6)
and for the inverse map, with the cotangent `l_bar` of its log-det, minus (4),
    x_bar = exp(-A)^T z_bar,   A_bar = -L(-A^T, z_bar x^T) - l_bar I                (7)

Source: Hoogeboom, Satorras, Tomczak and Welling, The Convolution Exponential and Generalized Sylvester Flows, arXiv:2006.01910,
section 3; Higham, Functions of Matrices, chapter 10.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Bijector, bijector, case, pair, real
from ...core.arithmetic import exact_sum, scaled, unit_scaled
from ...core.arrays import doubled
from ...core.products import outer_sum, product, solution
from ..constrained.cayley_orthogonal import inverse_of
from .reflections import LOWEST

LARGEST, TERMS = 2.0**-4, 16                    # of (8), and N


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def sums(A, E):
        """exp(A) and L(A, E)."""
        if np.any(np.abs(A) > 1 / len(A)):
            root, along = textbook.sums(A / 2, E / 2)
            return root @ root, root @ along + along @ root                         # (1) (5)
        one = np.eye(len(A), dtype=A.dtype)
        total, along = one, 0 * E
        for n in range(160, 0, -1):
            total, along = one + A @ total / n, (E @ total + A @ along) / n         # (1) (5)
        return total, along

    def exponential(A):
        return textbook.sums(A, 0 * A)[0]

    def forward(z, A):
        return textbook.exponential(A) @ z                                          # (1)

    def inverse(x, A):
        return textbook.exponential(-A) @ x                                         # (2)

    def jacobian(z, A):
        return textbook.exponential(A)                                              # (3)

    def log_det(z, A):
        return np.sum(np.diagonal(A))                                               # (4)

    def inverse_log_det(x, A):
        return -np.sum(np.diagonal(A))                                              # (4)

    def vjp(z, A, x_bar, l_bar):
        transposed, along = textbook.sums(A.T, np.outer(x_bar, z))
        return transposed @ x_bar, {"A": along + l_bar * np.eye(len(A), dtype=A.dtype)}         # (6)

    def inverse_vjp(x, A, z_bar, l_bar):
        transposed, along = textbook.sums(-A.T, np.outer(z_bar, x))
        return transposed @ z_bar, {"A": -along - l_bar * np.eye(len(A), dtype=A.dtype)}        # (7)


r"""In floating point.

In (1) and (5), terms of a large `A` cancel.  `A` is divided by a power of two, Taylor's sum is taken by Horner's rule, and the result
is squared as often as `A` was halved; with every product, its derivative is computed by the product rule:
    exp(A) = exp(2^-s A)^(2^s),   |2^-s A|_1 <= 1/16                                (8)
    exp(B) = I + B (I + B/2 (I + B/3 (... (I + B/N))))                              (9)
    d(X Y) = dX Y + X dY                                                            (10)
Each squaring doubles an error, and more than doubles it where `exp(A)` is smaller than the square of `|exp(A/2)|`: with floats
alone, errors reach a thousand units.  All of it is computed with pairs of floats, of twice the digits, and rounded once.      (11)
For `N = 16`, `16^-N/N!` is below the last digit of a pair.
The page is certified at moderate parameters, `2^-4` to `2^4`, at `D <= 3`, and at the hard cases, because `exp(A)` soon leaves
the floats.

In (5), `L` is linear in `E`, so the sum over a batch is taken first.  Events and cotangents are scaled by powers of two, exactly,
because pairs have their digits only while their roundings are normal numbers; the largest power of the sum comes in last:
    x = 2^e exp(A) z',   z = 2^e z',   L(A, 2^e E) = 2^e L(A, E)                    (12)

In (2), an event may have infinite entries after a map that reaches its limits.  They are multiplied by `exp(-A)` by the rules of
floats, unscaled.                                                                   (13)

In (4), entries cancel where the volume is kept.  The trace is summed without rounding, and then rounded once.      (14)
"""


@bijector(source="arXiv:2006.01910", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True,
          moderate=True, textbook=textbook)
class ExponentialLinear(Bijector):
    """x = exp(A) z; z and x (*batch, D), A (D, D) or (*batch, D, D), with the log-det tr A."""

    A: Array = real("D", "D")
    event_ndim = (1, 1)

    @classmethod
    def examples(cls, source):
        D = source.count(1, 3)
        return cls(source.signed((D, D), -4, 4)), (D,)

    @staticmethod
    def definition(m, z, A):
        return [sum(e * z_j for e, z_j in zip(row, z)) for row in exponential_of(m, A)]         # (1)

    @staticmethod
    def inverse_definition(m, x, A):
        opposite = [[-a for a in row] for row in A]
        return [sum(e * x_j for e, x_j in zip(row, x)) for row in exponential_of(m, opposite)]  # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return moved(exponential(self.A), z)                                        # (1)

    def inverse(self, x):
        return moved(exponential(-self.A), x)                                       # (2)

    def log_det(self, z):
        trace = exact_sum(np.moveaxis(np.diagonal(self.A, axis1=-2, axis2=-1), -1, 0))          # (14)
        return np.broadcast_to(trace, z.shape[:-1])                                 # (4)

    def jacobian(self, z):
        return np.broadcast_to(exponential(self.A).astype(z.dtype), z.shape + z.shape[-1:])     # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        E = exponential(self.A)

        def pullback(x_bar, l_bar):
            A_bar = scaled(*derivative(self.A.mT, x_bar, z)) + self.log_det_part(l_bar)         # (6) (12)
            return moved(E.mT, x_bar), {"A": A_bar.astype(z.dtype)}                 # (6)

        return (moved(E, z), self.log_det(z)), pullback                             # (1) (4)

    def inverse_vjp(self, x):
        E = exponential(-self.A)

        def pullback(z_bar, l_bar):
            A_bar = -scaled(*derivative(-self.A.mT, z_bar, x)) - self.log_det_part(l_bar)       # (7) (12)
            return moved(E.mT, z_bar), {"A": A_bar.astype(x.dtype)}                 # (7)

        return (moved(E, x), -self.log_det(x)), pullback                            # (2) (4)

    def log_det_part(self, l_bar):
        """l_bar I of (6) and (7), summed over the batch if A has no batch."""
        return (l_bar.sum() if self.A.ndim == 2 else l_bar[..., None, None]) * np.eye(self.dims["D"])

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Line", "D = 1: a scale exp(a)", z=[[3.0]], x=[[-5.0]], A=[[-1.5]]),
        case("Zero", "A = 0: the identity", z=[[1.0, -2.0]], x=[[1.0, -2.0]], A=[[0.0, 0.0], [0.0, 0.0]]),
        case("Nilpotent", "A^2 = 0: exp(A) = I + A, whatever the size of A", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             A=[[0.0, 1024.0], [0.0, 0.0]]),
        case("Overscaled", "a large entry above a small diagonal: halving A for the one loses the other", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             A=[[1.0, 2.0**20], [0.0, -1.0]]),
        case("Rotation", "a skew matrix: exp(A) is orthogonal", z=[[1.0, 0.75]], x=[[1.0, 0.75]], A=[[0.0, 30.0], [-30.0, 0.0]]),
        case("Hump", "exp(A/2) is larger than exp(A): the square cancels", z=[[1.0, 1.0]], x=[[1.0, 1.0]],
             A=[[-49.0, 24.0], [-64.0, 31.0]]),
        case("Traceless", "the log-det is 0, where entries cancel", z=[[1.0, 1.0, 1.0]], x=[[1.0, 1.0, 1.0]],
             A=[[16.0, 1.0, 0.0], [0.5, 2.0**-20, 0.25], [0.0, 1.0, -16.0]]),
        case("Huge", "a partial sum of (1) overflows, x does not", z=[[2.0**124, 2.0**124]], x=[[2.0**124, 2.0**124]],
             A=[[0.0, 12.0], [-12.0, 0.0]]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], x=[[2.0**-1070, 2.0**-1074]],
             A=[[1.0, 0.5], [-0.25, 2.0]]),
        case("Switch", "the norm of A is at a limit of (8)", z=[[1.0, -2.0]], x=[[1.0, -2.0]], A=[[0.0, 2.0**-4], [2.0**-4, 0.0]]),
    )


def exponential_of(m, A):
    """exp(A) in the numbers of m; that of a skew A is orthogonal, to however many digits the numbers have.

    Pade's approximant of order 13 for B = 2^-s A, with entries of at most 2^-14, is N(B) N(-B)^-1, far closer than 50 digits to its
    exponential; s squarings follow.
    """
    D, q, s = range(len(A)), 13, 14
    while any(a * a > 4**(s - 14) for row in A for a in row):
        s += 1
    B = [[a / 2**s for a in row] for row in A]
    square, power = times(B, B), [[m.mpf(int(i == j)) for j in D] for i in D]
    sums = [[[m.mpf(0) for _ in D] for _ in D] for _ in range(2)]                   # of even powers, and of odd ones without a B
    for j in range(q + 1):
        up, down = math.factorial(2 * q - j) * math.comb(q, j), math.factorial(2 * q)
        sums[j % 2] = [[n + p * up / down for n, p in zip(*rows)] for rows in zip(sums[j % 2], power)]
        power = times(power, square) if j % 2 and j < q else power
    even, odd = sums[0], times(B, sums[1])
    above, below = ([[e + sign * o for e, o in zip(*rows)] for rows in zip(even, odd)] for sign in (1, -1))
    total = times(above, inverse_of(below))                                         # (1)
    for _ in range(s):
        total = times(total, total)
    return total


def times(A, B):
    """A B of nested lists."""
    return [[sum(a * b for a, b in zip(row, column)) for column in zip(*B)] for row in A]


def moved(E, events):
    """E events, with an E in float64."""
    wide, = doubled(events)                                                         # (11)
    y, e = unit_scaled(wide)                                                        # (12)
    y, e = solution(*unit_scaled(product(E, y), e), wide, lambda: E)                # (13)
    return scaled(y, e).astype(events.dtype)                                        # (12)


def exponential(A):
    """exp(A) in float64, of an array or a pair."""
    return series(A).high                                                           # (11)


def derivative(A, left, right):
    """(L, e) with 2^e L = L(A, left right^T), in float64, of an array or a pair A, summed over the batch if A has no batch."""
    E, e = outer(left, right, A)
    return series(A, E)[1].high, e                                                  # (5)


def outer(left, right, A):
    """(E, e) with 2^e E = left right^T in float64, summed over the batch if A has no batch."""
    (left, i), (right, j) = (unit_scaled(events) for events in doubled(left, right))            # (12)
    e = top = i + j
    if len(A.shape) == 2 and type(e) is not int:
        top = e.max(initial=LOWEST)
    E = outer_sum(scaled(left, e - top), right, pair(A).high)                       # (12)
    return E, top[..., None] if np.ndim(top) else top


def series(A, E=None):
    """exp(A), and L(A, E) if there is an E; pairs.  Matrices of a batch are halved as often as the largest one."""
    A = pair(A)
    norm = np.abs(A.high).sum(-2).max(initial=0)
    halvings = max(0, int(np.frexp(norm / LARGEST)[1]))                             # (8)
    half, one = 0.5**halvings, np.eye(A.shape[-1])
    B, dB = A * half, None if E is None else pair(E) * half
    X, dX = one + B / TERMS, None if E is None else dB / TERMS
    for n in range(TERMS - 1, 0, -1):
        dX = None if E is None else (matrix_product(dB, X) + matrix_product(B, dX)) / n         # (10)
        X = one + matrix_product(B, X) / n                                          # (9)
    for _ in range(halvings):
        dX = None if E is None else matrix_product(dX, X) + matrix_product(X, dX)   # (10)
        X = matrix_product(X, X)                                                    # (8)
    return X if E is None else (X, dX)


def matrix_product(A, B):
    """A B of pairs."""
    return sum(A[..., :, k:k + 1] * B[..., k:k + 1, :] for k in range(A.shape[-1]))
