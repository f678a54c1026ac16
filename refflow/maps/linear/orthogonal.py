r"""Orthogonal linear map, `R^D -> R^D`: rotations and reflections.

    x = Q z,   Q^T Q = I                                                            (1)
    dx/dz = Q                                                                       (2)
    log|det dx/dz| = 0                                                              (3)
    z = Q^-1 x = Q^T x                                                              (4)

A `Q` of floats is orthogonal only up to rounding.  With `E = Q^T Q - I`, of the size of `u`,
    log|det Q| = 1/2 log det(I + E) = 1/2 tr E + O(E^2) = 1/2 (sum_ij q_ij^2 - D) + O(E^2)                  (5)
    Q^-1 = Q^T (Q Q^T)^-1,   z = Q^T (x + (x - Q Q^T x)) + O(E^2)                   (6)
(5) and (6) correct (3) and (4) for the rounding of `Q`: by a few `u`, and by one step of refinement.  They are
functions of all entries of `Q`, and at an orthogonal `Q` their derivatives are exactly the derivatives of `log|det Q|` and
`Q^-1 x`.

Reverse rule, from (1), (5) and `d log|det Q| = tr(Q^-1 dQ), Q^-T = Q`, with `l = log_det`:
    z_bar = Q^T x_bar       Q_bar = x_bar z^T + l_bar Q                             (7)
and for the inverse map, whose log-det is `-log|det Q|`, from (6), `dz = Q^-1 (dx - dQ z)`:
    x_bar = w = Q z_bar     Q_bar = -w z^T - l_bar Q                                (8)
`Q_bar` is the gradient with respect to all entries.  Along the orthogonal matrices, `dQ = Q A` with `A` skew, its part in `l`
is `tr(Q^T Q A) = 0`: the log-det is constant there.

A float32 `Q` is orthogonal only to float32.  In float64 it is replaced by one whose `E` is of third order in the old one,
    Q <- Q (I + E)^(-1/2) = Q (I - E / 2 + 3 E^2 / 8) + O(E^3)                      (9)

An event near the ends of the floats is scaled, exactly, so that (8) has the digits of `z` that `z` itself may lose there:
    z = 2^e Q^T (x' + (x' - Q Q^T x')),   x = 2^e x'                                (10)
If it has infinite entries, after a map that reaches its limits, (10) would take their differences; (4) is used instead, by the
rules of floats.

The unit of error is normwise, as for all matrix pages.

Source: the definition; Golub & Van Loan, Matrix Computations, section 2.5.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, orthogonal, real
from ...core.arithmetic import scaled, unit_scaled
from ...core.products import outer_sum, product, scaled_outer_sum, solution


@bijector(source="definition", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True)
class OrthogonalLinear(Bijector):
    """x = Q z, z = Q^T x; z and x (*batch, D), Q (D, D) or (*batch, D, D) and orthogonal to within rounding."""

    Q: Array = orthogonal("D", "D")
    event_ndim = (1, 1)
    unit_determinant = True             # log|det| is 0 up to rounding

    @staticmethod
    def definition(m, z, Q):
        D = range(len(z))
        return [sum(Q[i][j] * z[j] for j in D) for i in D]                          # (1)

    def forward(self, z):
        return product(self.Q, z)                                                   # (1)

    def inverse(self, x):
        return scaled(*self.scaled_inverse(x))

    def scaled_inverse(self, x):
        """(z', e) with z = 2^e z'."""
        y, e = unit_scaled(x)                                                       # (10)
        rest = y - product(self.Q, product(self.Q.mT, y))
        z, e = unit_scaled(product(self.Q.mT, y + rest), e)                         # (4) (6)
        return solution(z, e, x, lambda: self.Q.mT)                                 # (4)

    def log_det(self, z):
        E = (self.Q * self.Q).sum(-1) - 1
        return np.broadcast_to(E.sum(-1) / 2, z.shape[:-1])                         # (3) (5)

    def jacobian(self, z):
        return np.broadcast_to(self.Q, z.shape + z.shape[-1:])                      # (2)

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            Q_bar = outer_sum(x_bar, z, self.Q) + self.log_det_part(log_det_bar)
            return product(self.Q.mT, x_bar), {"Q": Q_bar}                          # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        z, e = self.scaled_inverse(x)

        def pullback(z_bar, log_det_bar):
            w = product(self.Q, z_bar)
            w_z = scaled_outer_sum(*unit_scaled(w), z, e, self.Q)                   # (10)
            return w, {"Q": -w_z - self.log_det_part(log_det_bar)}                  # (8)

        return (scaled(z, e), -self.log_det(x)), pullback

    def log_det_part(self, log_det_bar):
        """l_bar Q of (7) and (8), summed over the batch if Q has none."""
        return (log_det_bar.sum() if self.Q.ndim == 2 else log_det_bar[..., None, None]) * self.Q

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
