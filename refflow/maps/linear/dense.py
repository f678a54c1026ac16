r"""Dense linear map, `R^D -> R^D`.

    x = W z + shift,   W invertible                                                 (1)
    dx/dz = W                                                                       (2)

Without a shift, `x = W z`, as in Glow, the shift is 0 and there is no `shift_bar`.

One LU factorisation with partial pivoting serves all that follows: with `P` a permutation matrix, `L` unit lower and `U` upper
triangular,
    W = P L U                                                                       (3)
    log|det dx/dz| = log|u_11 u_22 ... u_DD|                                        (4)
(4) takes the logarithm of the product, not the sum of the logarithms, which would lose the digits of the largest one.

The inverse solves for `b = x - shift` by substitution, and refines once, with the residual in working precision:
    b = x - shift                                                                   (5)
    z = U^-1 L^-1 P^T b                                                             (6)
    z <- z + U^-1 L^-1 P^T (b - W z)                                                (7)
(6) alone is backward stable in norm; after (7) the error amounts to a small relative change of each entry of `W`, so that
a bad row scaling does no harm (Skeel 1980; Higham, Accuracy and Stability of Numerical Algorithms, chapter 12).

Events are scaled by powers of two, exactly, so that no partial sum overflows where the result does not, in (1) and in
(6), (7), whose `z` is kept as `2^e z'`:
    W z = 2^e W (2^-e z),   b - W z = 2^e (2^-e b - W z')                           (8)

Reverse rule, from (1) and `d log|det W| = tr(W^-1 dW)`, with `l = log_det`:
    z_bar = W^T x_bar     W_bar = x_bar z^T + l_bar W^-T     shift_bar = x_bar      (9)
and for the inverse map, whose log-det is `-log|det W|`: `dz = W^-1 (dx - dshift - dW z)`, so with
    w = W^-T z_bar = P L^-T U^-T z_bar                                              (10)
    x_bar = w             W_bar = -w z^T - l_bar W^-T        shift_bar = -w         (11)
`z = 2^e z'` may overflow where `w z^T` does not, so with `w = 2^i w'` and `h = floor((i + e) / 2)`,
    w z^T = (2^h w') (2^(i+e-h) z')^T                                               (12)

After a map that reaches its limits, an event may have infinite entries.  (6) would take their differences; there
    z = W^-1 b                   by the rules of floats, the inverse matrix first   (13)
gives the limits that exist.

The unit of error is normwise: LU with pivoting is backward stable only in norm.

Source: the definition; Golub & Van Loan, Matrix Computations, sections 3.4 and 3.5.
"""

from __future__ import annotations

import numpy as np
import scipy

from ...core import Array, Bijector, bijector, case, invertible, log_abs_product, real
from ...core.declarations import Field
from ...core.arithmetic import scaled, solve_lower, solve_upper, unit_scaled
from ...core.products import outer_sum, product, scaled_outer_sum, solution
from .permutation import opposite, reordered
from .shift import minus, plus, shift_bar


@bijector(source="definition", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True)
class DenseLinear(Bijector):
    """x = W z + shift; z and x (*batch, D), W (D, D) or (*batch, D, D) and invertible, shift (D,), or None for x = W z."""

    W: Array = invertible("D", "D")
    shift: Array = Field(real, ("D",), default=0.0, optional=True)
    event_ndim = (1, 1)

    @staticmethod
    def definition(m, z, W, shift):
        D = range(len(z))
        W_z = [sum(W[i][j] * z[j] for j in D) for i in D]
        return W_z if shift is None else [W_z[i] + shift[i] for i in D]             # (1)

    def forward(self, z):
        z, e = unit_scaled(z)
        return plus(scaled(product(self.W, z), e), self.shift)                      # (1) (8)

    def log_det(self, z):
        return np.broadcast_to(log_abs_det(factored(self.W)), z.shape[:-1])

    def jacobian(self, z):
        return np.broadcast_to(self.W, z.shape + z.shape[-1:])                      # (2)

    def inverse_and_log_det(self, x):
        factors = factored(self.W)
        z, e = self.scaled_inverse(factors, x)
        return scaled(z, e), np.broadcast_to(-log_abs_det(factors), x.shape[:-1])

    def scaled_inverse(self, factors, x):
        """(z', e) with z = 2^e z'."""
        b = minus(x, self.shift)                                                    # (5)
        z, e = solve(factors, b)                                                    # (6)
        r, i = solve(factors, scaled(b, -e) - product(self.W, z))                   # (8)
        z, e = unit_scaled(z + scaled(r, i), e)                                     # (7)
        return solution(z, e, b, lambda: inverse_transposed(factors).mT)            # (13)

    def vjp(self, z):
        factors = factored(self.W)
        log_det = np.broadcast_to(log_abs_det(factors), z.shape[:-1])

        def pullback(x_bar, log_det_bar):
            W_bar = outer_sum(x_bar, z, self.W) + self.log_det_part(factors, log_det_bar)
            return product(self.W.mT, x_bar), {"W": W_bar, **shift_bar(self, x_bar)}        # (9)

        return (self.forward(z), log_det), pullback

    def inverse_vjp(self, x):
        factors = factored(self.W)
        z, e = self.scaled_inverse(factors, x)
        log_det = np.broadcast_to(-log_abs_det(factors), x.shape[:-1])

        def pullback(z_bar, log_det_bar):
            w, i = solve_transposed(factors, z_bar)                                 # (10)
            W_bar = -scaled_outer_sum(w, i, z, e, self.W) - self.log_det_part(factors, log_det_bar)     # (12)
            x_bar = scaled(w, i)
            return x_bar, {"W": W_bar, **shift_bar(self, -x_bar)}                   # (11)

        return (scaled(z, e), log_det), pullback

    def log_det_part(self, factors, log_det_bar):
        """l_bar W^-T of (9) and (11), summed over the batch if W has none."""
        l_bar = log_det_bar.sum() if self.W.ndim == 2 else log_det_bar[..., None, None]
        return l_bar * inverse_transposed(factors)

    hard_cases = (
        case("Line", "D = 1: a scalar affine map", z=[[3.0]], x=[[-5.0]], W=[[-0.3]], shift=[0.7]),
        case("Hilbert", "condition 5e5: the inverse has few digits, and its residual all of them",
             z=[[1.0, -1.0, 1.0, -1.0, 1.0]], x=[[1.0, 1.0, 1.0, 1.0, 1.0]],
             W=[[1 / (i + j + 1) for j in range(5)] for i in range(5)], shift=[0.0] * 5),
        case("NearlySingular", "the second pivot is 2^-18 after cancellation",
             z=[[1.0, -1.0]], x=[[1.0, 1.0], [1.0, 1.0 + 2.0**-18]], W=[[1.0, 1.0], [1.0, 1.0 + 2.0**-18]],
             shift=[0.0, 0.0]),
        case("RowScaled", "a huge row is pivoted first although it is the worst: (7) repairs what that loses",
             z=[[1.0, 1.0]], x=[[2.0**20, 2.0]], W=[[2.0, 2.0**20], [1.0, 1.0]], shift=[0.0, 0.0]),
        case("ZeroPivot", "a permutation: the leading pivot is 0, without pivoting there is no LU",
             z=[[1.0, 2.0, 3.0]], x=[[1.0, 2.0, 3.0]], W=[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]],
             shift=[0.0, 0.0, 0.0]),
        case("Reflected", "a negative determinant: log-det is of its magnitude",
             z=[[1.0, -2.0]], x=[[1.0, -2.0]], W=[[0.0, 2.0], [3.0, 1.0]], shift=[0.5, -0.5]),
        case("UnitDeterminant", "log-det is 0, where the logarithms of the pivots, +-20 log 2, cancel",
             z=[[1.0, 1.0]], x=[[1.0, 1.0]], W=[[2.0**20, 0.0], [1.0, 2.0**-20]], shift=[0.0, 0.0]),
        case("Huge", "the first partial sum of W z overflows, the sum does not",
             z=[[2.0**123, 2.0**123]], x=[[2.0**123, 2.0**123]], W=[[2.0**6, -(2.0**6)], [1.0, 1.0]], shift=[0.0, 0.0]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], x=[[2.0**-1070, 2.0**-1074]],
             W=[[3.0, 1.0], [1.0, 0.3]], shift=[0.0, 0.0]),
    )


def factored(W):
    """(order, L, U) of (3): (P y)_i = y_{order_i}."""
    order, L, U = scipy.linalg.lu(W, p_indices=True)                                # (3)
    return order.reshape(W.shape[:-1]), L, U


def log_abs_det(factors):
    _, _, U = factors
    return log_abs_product(np.diagonal(U, axis1=-2, axis2=-1))                      # (4)


def solve(factors, b):
    """W^-1 b = U^-1 L^-1 P^T b as a scaled event."""
    order, L, U = factors
    y, e = solve_lower(L, reordered(b, opposite(order)), unit=True)
    return solve_upper(U, y, e)


def solve_transposed(factors, b):
    """W^-T b = P L^-T U^-T b as a scaled event."""
    order, L, U = factors
    y, e = solve_lower(U.mT, b)
    w, e = solve_upper(L.mT, y, e, unit=True)
    return reordered(w, order), e


def inverse_transposed(factors):
    """W^-T: its row k is column k of W^-1, the solution for the k-th unit vector."""
    order, L, U = factors
    units = np.broadcast_to(np.eye(U.shape[-1], dtype=U.dtype), U.shape)
    if U.ndim == 2:
        return scaled(*solve(factors, units))
    return scaled(*solve((order[..., None, :], L[..., None, :, :], U[..., None, :, :]), units))
