r"""Orthogonal linear map, `R^D -> R^D`: rotations and reflections.

The map.  With `Q^T Q = I`,
    x = Q z                                                                         (1)
    dx/dz = Q                                                                       (2)
    log|det dx/dz| = log|det Q|                                                     (3)
    z = Q^-1 x                                                                      (4)
where `Q^-1 = Q^T` and `log|det Q| = 0`.  A `Q` of floats is orthogonal only up to rounding.  (3) and (4) are functions of all its
entries, and so are the cotangents.  The unit of error is normwise, as for all matrix pages.

The reverse rule.  From (1), (3) and `d log|det Q| = tr(Q^-1 dQ)`, with the cotangent `l_bar` of (3),
    z_bar = Q^T x_bar,   Q_bar = x_bar z^T + l_bar Q^-T                             (5)
For the inverse map, from (4), `dz = Q^-1 (dx - dQ z)`, with the cotangent `l_bar` of its log-det `-log|det Q|`,
    x_bar = w = Q^-T z_bar,   Q_bar = -w z^T - l_bar Q^-T                           (6)
`Q_bar` is the gradient with respect to all entries.  For changes that keep `Q` orthogonal, `dQ = Q A` with `A` skew, the term with
`l_bar` contributes `tr(Q^T Q A) = 0`: the log-det is constant there.

Source: the definition; Golub & Van Loan, Matrix Computations, section 2.5.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, orthogonal, real
from ...core.arithmetic import scaled, unit_scaled
from ...core.products import outer_sum, product, scaled_outer_sum, solution


class textbook:
    """(1) to (6) as they are printed, for one event, by elimination with partial pivoting."""

    def eliminated(Q):
        """Q^-1 and |det Q|."""
        D, size = len(Q), 1
        rows = np.hstack((Q, np.eye(D, dtype=Q.dtype)))
        for k in range(D):
            pivot = max(range(k, D), key=lambda i: abs(rows[i, k]))
            rows[[k, pivot]] = rows[[pivot, k]]
            size = size * abs(rows[k, k])
            rows[k] = rows[k] / rows[k, k]
            for i in range(D):
                if i != k:
                    rows[i] = rows[i] - rows[i, k] * rows[k]
        return rows[:, D:], size

    def forward(z, Q):
        return Q @ z                                                                # (1)

    def inverse(x, Q):
        return textbook.eliminated(Q)[0] @ x                                        # (4)

    def jacobian(z, Q):
        return Q                                                                    # (2)

    def log_det(z, Q):
        return np.log(textbook.eliminated(Q)[1])                                    # (3)

    def inverse_log_det(x, Q):
        return -textbook.log_det(x, Q)                                              # (3)

    def vjp(z, Q, x_bar, l_bar):
        inverse = textbook.eliminated(Q)[0]
        return Q.T @ x_bar, {"Q": np.outer(x_bar, z) + l_bar * inverse.T}           # (5)

    def inverse_vjp(x, Q, z_bar, l_bar):
        inverse = textbook.eliminated(Q)[0]
        w = inverse.T @ z_bar                                                       # (6)
        return w, {"Q": -np.outer(w, inverse @ x) - l_bar * inverse.T}              # (4) (6)


r"""In floating point.

In (3), the answer is as small as the rounding of `Q`, and the rounding of an elimination would hide it.  With `E = Q^T Q - I`, of
the size of the unit roundoff `u`,
    log|det Q| = 1/2 log det(I + E) = 1/2 tr E + O(E^2) = 1/2 (sum_ij q_ij^2 - D) + O(E^2)                  (7)

In (4) to (6), the transpose in place of the inverse neglects `E`.  One step of refinement restores `E` in (4); in (5) and (6), `E`
is at most a rounding of `Q`:
    Q^-1 = Q^T (Q Q^T)^-1,   z = Q^T (x + (x - Q Q^T x)) + O(E^2),   Q^-T = Q + O(E)        (8)
At an orthogonal `Q`, the derivatives of (7) and (8) are exactly the derivatives of `log|det Q|` and `Q^-1 x`.

In (1), a float32 `Q` is orthogonal only to float32.  In float64 it is replaced by one whose `E` is of third order in the old one,
    Q <- Q (I + E)^(-1/2) = Q (I - E / 2 + 3 E^2 / 8) + O(E^3)                      (9)

In (4) and (6), near the ends of the floats, `z` may lose digits that `w z^T` needs.  An event there is scaled, exactly:
    z = 2^e Q^T (x' + (x' - Q Q^T x')),   x = 2^e x'                                (10)
If it has infinite entries, after a map that reaches its limits, (10) would take their differences; `Q^T x` is used instead, by
the rules of floats.
"""


@bijector(source="definition", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True,
          textbook=textbook)
class OrthogonalLinear(Bijector):
    """x = Q z, z = Q^T x; z and x (*batch, D), Q (D, D) or (*batch, D, D) and orthogonal to within rounding."""

    Q: Array = orthogonal("D", "D")
    event_ndim = (1, 1)
    unit_determinant = True             # log|det| is 0 up to rounding

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return product(self.Q, z)                                                   # (1)

    def inverse(self, x):
        return scaled(*self.scaled_inverse(x))                                      # (4) (10)

    def scaled_inverse(self, x):
        """(z', e) with z = 2^e z'."""
        y, e = unit_scaled(x)                                                       # (10)
        rest = y - product(self.Q, product(self.Q.mT, y))
        z, e = unit_scaled(product(self.Q.mT, y + rest), e)                         # (4) (8)
        return solution(z, e, x, lambda: self.Q.mT)                                 # (4)

    def log_det(self, z):
        E = (self.Q * self.Q).sum(-1) - 1
        return np.broadcast_to(E.sum(-1) / 2, z.shape[:-1])                         # (3) (7)

    def jacobian(self, z):
        return np.broadcast_to(self.Q, z.shape + z.shape[-1:])                      # (2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            Q_bar = outer_sum(x_bar, z, self.Q) + self.log_det_part(log_det_bar)    # (5) (8)
            return product(self.Q.mT, x_bar), {"Q": Q_bar}                          # (5)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        z, e = self.scaled_inverse(x)

        def pullback(z_bar, log_det_bar):
            w = product(self.Q, z_bar)                                              # (6) (8)
            w_z = scaled_outer_sum(*unit_scaled(w), z, e, self.Q)                   # (6) (10)
            return w, {"Q": -w_z - self.log_det_part(log_det_bar)}                  # (6) (8)

        return (scaled(z, e), -self.log_det(x)), pullback                           # (10)

    def log_det_part(self, log_det_bar):
        """l_bar Q of (5) and (6), summed over the batch if Q has no batch."""
        return (log_det_bar.sum() if self.Q.ndim == 2 else log_det_bar[..., None, None]) * self.Q

    # -- in floating point --------------------------------------------------------------------------------------------

    def cast(self, dtype):
        """Q in another precision, made orthogonal to that precision."""
        if dtype != np.float64:
            return super().cast(dtype)
        Q = self.Q.astype(np.float64)
        E = Q.mT @ Q - np.eye(self.dims["D"])
        return {"Q": Q - Q @ (E - E @ E * 0.75) / 2}                                # (9)

    hard_cases = (
        case("Line", "D = 1: the identity", z=[[3.0]], x=[[-5.0]], Q=[[1.0]]),
        case("Reflection", "determinant -1: the log-det is of its magnitude", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             Q=[[0.6, 0.8], [0.8, -0.6]]),
        case("Rotation", "an entry of x cancels", z=[[1.0, -0.75]], x=[[0.75, 1.0]], Q=[[0.6, 0.8], [-0.8, 0.6]]),
        case("Permutation", "entries 0 and 1: nothing is rounded", z=[[1.0, 2.0, 4.0]], x=[[1.0, 2.0, 4.0]],
             Q=[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], x=[[2.0**-1070, 2.0**-1074]],
             Q=[[0.6, 0.8], [-0.8, 0.6]]),
    )
