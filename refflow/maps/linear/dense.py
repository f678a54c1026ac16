r"""Dense linear map, `R^D -> R^D`.

The map.  With an invertible `W` and its LU factorisation with partial pivoting, where `P` is a permutation matrix, `L` is unit
lower triangular and `U` is upper triangular,
    x = W z + shift                                                                 (1)
    dx/dz = W                                                                       (2)
    W = P L U                                                                       (3)
    log|det dx/dz| = log|u_11| + log|u_22| + ... + log|u_DD|                        (4)
    z = U^-1 L^-1 P^T b,   b = x - shift                                            (5)
The inverse solves by substitution.  Without a shift, as in Glow's `x = W z`, the shift is 0, and a pullback gives no `shift_bar`.
The unit of error is normwise: LU with pivoting is backward stable only in norm.

The reverse rule.  From (1) and `d log|det W| = tr(W^-1 dW)`, with the cotangent `l_bar` of (4),
    z_bar = W^T x_bar,   W_bar = x_bar z^T + l_bar W^-T,   shift_bar = x_bar        (6)
For the inverse map, `dz = W^-1 (dx - dshift - dW z)`, and with the cotangent `l_bar` of its log-det, minus (4),
    w = W^-T z_bar = P L^-T U^-T z_bar                                              (7)
    x_bar = w,   W_bar = -w z^T - l_bar W^-T,   shift_bar = -w                      (8)

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


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def factored(W):
        """(order, L, U) with (P y)_{order_i} = y_i."""
        D, L, U = range(len(W)), np.eye(len(W), dtype=W.dtype), W.copy()
        order = list(D)
        for k in D:
            i = max(D[k:], key=lambda i: abs(U[i, k]))
            order[k], order[i] = order[i], order[k]
            U[[k, i]], L[[k, i], :k] = U[[i, k]], L[[i, k], :k]
            for i in D[k + 1:]:
                L[i, k] = U[i, k] / U[k, k]
                U[i] = U[i] - L[i, k] * U[k]
        return order, L, U                                                          # (3)

    def lower_solved(L, b):
        """L^-1 b."""
        y = b.copy()
        for i in range(len(b)):
            y[i] = (b[i] - sum(L[i, j] * y[j] for j in range(i))) / L[i, i]
        return y

    def upper_solved(U, b):
        """U^-1 b."""
        return textbook.lower_solved(U[::-1, ::-1], b[::-1])[::-1]

    def solved(W, b):
        """W^-1 b."""
        order, L, U = textbook.factored(W)
        return textbook.upper_solved(U, textbook.lower_solved(L, b[order]))         # (5)

    def inverse_transposed(W):
        """W^-T, whose row k is column k of W^-1."""
        return np.array([textbook.solved(W, unit) for unit in np.eye(len(W), dtype=W.dtype)])       # (5)

    def forward(z, W, shift):
        return W @ z if shift is None else W @ z + shift                            # (1)

    def inverse(x, W, shift):
        return textbook.solved(W, x if shift is None else x - shift)                # (5)

    def jacobian(z, W, shift):
        return W                                                                    # (2)

    def log_det(z, W, shift):
        return np.sum(np.log(np.abs(np.diagonal(textbook.factored(W)[2]))))         # (4)

    def inverse_log_det(x, W, shift):
        return -textbook.log_det(x, W, shift)                                       # (4)

    def vjp(z, W, shift, x_bar, l_bar):
        W_bar = np.outer(x_bar, z) + l_bar * textbook.inverse_transposed(W)         # (6)
        return W.T @ x_bar, {"W": W_bar} | ({} if shift is None else {"shift": x_bar})      # (6)

    def inverse_vjp(x, W, shift, z_bar, l_bar):
        order, L, U = textbook.factored(W)
        w = np.empty_like(z_bar)
        w[order] = textbook.upper_solved(L.T, textbook.lower_solved(U.T, z_bar))    # (7)
        W_bar = -np.outer(w, textbook.inverse(x, W, shift)) - l_bar * textbook.inverse_transposed(W)        # (8)
        return w, {"W": W_bar} | ({} if shift is None else {"shift": -w})           # (8)


r"""In floating point.

In (1) and (5), a partial sum may overflow where the result does not.  Events are scaled by powers of two, exactly, and
solutions are kept as `z = 2^e z'`:
    W z = 2^e W (2^-e z),   b - W z = 2^e (2^-e b - W z')                           (9)

In (4), the sum of the logarithms loses the digits of the largest one:
    log|u_11| + log|u_22| + ... + log|u_DD| = log|u_11 u_22 ... u_DD|               (10)

In (5), substitution is backward stable in norm only.  One step of refinement, with the residual in working precision,
    z <- z + U^-1 L^-1 P^T (b - W z)                                                (11)
leaves an error that amounts to a small relative change of each entry of `W`, so a bad scaling of the rows does no harm (Skeel 1980;
Higham, Accuracy and Stability of Numerical Algorithms, chapter 12).

In (8), `z = 2^e z'` may overflow where `w z^T` does not.  With `w = 2^i w'` and `h = floor((i + e) / 2)`,
    w z^T = (2^h w') (2^(i+e-h) z')^T                                               (12)

In (5), an event may have infinite entries after a map that reaches its limits, and substitution would take their differences, which
are NaN.  There
    z = W^-1 b                   by the rules of floats, the inverse matrix first   (13)
gives the limits that exist.
"""


@bijector(source="definition", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True,
          textbook=textbook)
class DenseLinear(Bijector):
    """x = W z + shift; z and x (*batch, D), W (D, D) or (*batch, D, D) and invertible, shift (D,), or None for x = W z."""

    W: Array = invertible("D", "D")
    shift: Array = Field(real, ("D",), default=0.0, optional=True)  # type: ignore[assignment]
    event_ndim = (1, 1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        z, e = unit_scaled(z)                                                       # (9)
        return plus(scaled(product(self.W, z), e), self.shift)                      # (1) (9)

    def log_det(self, z):
        return np.broadcast_to(log_abs_det(factored(self.W)), z.shape[:-1])

    def jacobian(self, z):
        return np.broadcast_to(self.W, z.shape + z.shape[-1:])                      # (2)

    def inverse_and_log_det(self, x):
        factors = factored(self.W)
        z, e = self.scaled_inverse(factors, x)
        return scaled(z, e), np.broadcast_to(-log_abs_det(factors), x.shape[:-1])   # (4) (9)

    def scaled_inverse(self, factors, x):
        """(z', e) with z = 2^e z'."""
        b = minus(x, self.shift)                                                    # (5)
        z, e = solve(factors, b)                                                    # (5)
        r, i = solve(factors, scaled(b, -e) - product(self.W, z))                   # (9) (11)
        z, e = unit_scaled(z + scaled(r, i), e)                                     # (11)
        return solution(z, e, b, lambda: inverse_transposed(factors).mT)            # (13)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        factors = factored(self.W)
        log_det = np.broadcast_to(log_abs_det(factors), z.shape[:-1])

        def pullback(x_bar, log_det_bar):
            W_bar = outer_sum(x_bar, z, self.W) + self.log_det_part(factors, log_det_bar)   # (6)
            return product(self.W.mT, x_bar), {"W": W_bar, **shift_bar(self, x_bar)}        # (6)

        return (self.forward(z), log_det), pullback

    def inverse_vjp(self, x):
        factors = factored(self.W)
        z, e = self.scaled_inverse(factors, x)
        log_det = np.broadcast_to(-log_abs_det(factors), x.shape[:-1])

        def pullback(z_bar, log_det_bar):
            w, i = solve_transposed(factors, z_bar)                                 # (7)
            W_bar = -scaled_outer_sum(w, i, z, e, self.W) - self.log_det_part(factors, log_det_bar)     # (8) (12)
            x_bar = scaled(w, i)                                                    # (8) (12)
            return x_bar, {"W": W_bar, **shift_bar(self, -x_bar)}                   # (8)

        return (scaled(z, e), log_det), pullback                                    # (5) (9)

    def log_det_part(self, factors, log_det_bar):
        """l_bar W^-T of (6) and (8), summed over the batch if W has no batch."""
        l_bar = log_det_bar.sum() if self.W.ndim == 2 else log_det_bar[..., None, None]
        return l_bar * inverse_transposed(factors)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Line", "D = 1: a scalar affine map", z=[[3.0]], x=[[-5.0]], W=[[-0.3]], shift=[0.7]),
        case("Hilbert", "condition 5e5: the inverse has few digits, and its residual all of them",
             z=[[1.0, -1.0, 1.0, -1.0, 1.0]], x=[[1.0, 1.0, 1.0, 1.0, 1.0]],
             W=[[1 / (i + j + 1) for j in range(5)] for i in range(5)], shift=[0.0] * 5),
        case("NearlySingular", "the second pivot is 2^-18 after cancellation",
             z=[[1.0, -1.0]], x=[[1.0, 1.0], [1.0, 1.0 + 2.0**-18]], W=[[1.0, 1.0], [1.0, 1.0 + 2.0**-18]],
             shift=[0.0, 0.0]),
        case("RowScaled", "a huge row is pivoted first although it is the worst: (11) repairs what that loses",
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
    return log_abs_product(np.diagonal(U, axis1=-2, axis2=-1))                      # (4) (10)


def solve(factors, b):
    """W^-1 b = U^-1 L^-1 P^T b as a scaled event."""
    order, L, U = factors
    y, e = solve_lower(L, reordered(b, opposite(order)), unit=True)                 # (5)
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
        return scaled(*solve(factors, units))                                       # (9)
    return scaled(*solve((order[..., None, :], L[..., None, :, :], U[..., None, :, :]), units))  # (9)
