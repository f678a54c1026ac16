r"""Linear map in PLU form, `R^D -> R^D` (Glow: Kingma & Dhariwal, arXiv:1807.03039, section 3.2).

The map.  With `U = upper` (strictly upper triangular), `S = diag(scale), L = I + lower` (strictly lower), and `P` the permutation
matrix that gathers, `(P y)_i = y_{order_i}`, so that `P^T` scatters, `(P^T x)_{order_i} = x_i`:
    v = (U + S) z                                                                   (1)
    y = L v                                                                         (2)
    x_i = y_{order_i} + shift_i                                                     (3)
that is `x = P L (U + S) z + shift`, Glow's `W = P L (U + diag(s))`.  Glow has no shift: it is 0, and a pullback
gives no `shift_bar`.  Hence
    dx/dz = P L (U + S)                                                             (4)
    log|det dx/dz| = log|scale_1| + log|scale_2| + ... + log|scale_D|               (5)
The inverse is a permutation and two substitutions:
    y_{order_i} = x_i - shift_i                                                     (6)
    v = L^-1 y                                                                      (7)
    z = (U + S)^-1 v                                                                (8)
The unit of error is normwise, since the page solves systems; the log-det's unit is entrywise.

The reverse rule.  Stage by stage from (3), (2), (1), and with the cotangent `l_bar` of (5),
    shift_bar = x_bar,          y_bar_{order_i} = x_bar_i                           (9)
    v_bar = L^T y_bar,          lower_bar = tril(y_bar v^T, -1)                     (10)
    z_bar = (U + S)^T v_bar,    upper_bar = triu(v_bar z^T, 1)                      (11)
    scale_bar = v_bar z + l_bar / scale                                             (12)
For the inverse map, stage by stage from (8), (7), (6), with the cotangent `l_bar` of its log-det, minus (5),
    v_bar = (U + S)^-T z_bar,   upper_bar = -triu(v_bar z^T, 1)                     (13)
    scale_bar = -v_bar z - l_bar / scale                                            (14)
    y_bar = L^-T v_bar,         lower_bar = -tril(y_bar v^T, -1)                    (15)
    x_bar_i = y_bar_{order_i},  shift_bar = -x_bar                                  (16)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, log_abs_product, nonzero, permutation, real, strictly_lower, strictly_upper
from ...core.declarations import Field
from ...core.arithmetic import scaled, solve_lower, solve_upper, unit_scaled
from ...core.products import outer_sum, product, scaled_outer_sum, solution
from .permutation import opposite, reordered
from .shift import minus, plus, shift_bar


class textbook:
    """(1) to (16) as they are printed, for one event."""

    def triangles(lower, upper, scale):
        """L and U + S."""
        return lower + np.eye(len(lower), dtype=lower.dtype), upper + np.diag(scale)

    def lower_solved(L, b):
        """L^-1 b."""
        y = b.copy()
        for i in range(len(b)):
            y[i] = (b[i] - sum(L[i, j] * y[j] for j in range(i))) / L[i, i]
        return y

    def upper_solved(U, b):
        """U^-1 b."""
        return textbook.lower_solved(U[::-1, ::-1], b[::-1])[::-1]

    def scattered(order, x):
        """P^T x."""
        y = x.copy()
        y[order] = x
        return y

    def forward(z, order, lower, upper, scale, shift):
        L, U_S = textbook.triangles(lower, upper, scale)
        y = L @ (U_S @ z)                                                           # (1) (2)
        return y[order] if shift is None else y[order] + shift                      # (3)

    def inverses(x, order, lower, upper, scale, shift):
        """v and z."""
        L, U_S = textbook.triangles(lower, upper, scale)
        y = textbook.scattered(order, x if shift is None else x - shift)            # (6)
        v = textbook.lower_solved(L, y)                                             # (7)
        return v, textbook.upper_solved(U_S, v)                                     # (8)

    def inverse(x, order, lower, upper, scale, shift):
        return textbook.inverses(x, order, lower, upper, scale, shift)[1]

    def jacobian(z, order, lower, upper, scale, shift):
        L, U_S = textbook.triangles(lower, upper, scale)
        return (L @ U_S)[order]                                                     # (4)

    def log_det(z, order, lower, upper, scale, shift):
        return np.sum(np.log(np.abs(scale)))                                        # (5)

    def inverse_log_det(x, order, lower, upper, scale, shift):
        return -np.sum(np.log(np.abs(scale)))                                       # (5)

    def vjp(z, order, lower, upper, scale, shift, x_bar, l_bar):
        L, U_S = textbook.triangles(lower, upper, scale)
        v, y_bar = U_S @ z, textbook.scattered(order, x_bar)                        # (1) (9)
        v_bar = L.T @ y_bar                                                         # (10)
        return U_S.T @ v_bar, {                                                     # (11)
            "lower": np.tril(np.outer(y_bar, v), -1), "upper": np.triu(np.outer(v_bar, z), 1),      # (10) (11)
            "scale": v_bar * z + l_bar / scale, **({} if shift is None else {"shift": x_bar})}      # (12) (9)

    def inverse_vjp(x, order, lower, upper, scale, shift, z_bar, l_bar):
        L, U_S = textbook.triangles(lower, upper, scale)
        v, z = textbook.inverses(x, order, lower, upper, scale, shift)
        v_bar = textbook.lower_solved(U_S.T, z_bar)                                 # (13)
        y_bar = textbook.upper_solved(L.T, v_bar)                                   # (15)
        x_bar = y_bar[order]                                                        # (16)
        return x_bar, {
            "lower": -np.tril(np.outer(y_bar, v), -1), "upper": -np.triu(np.outer(v_bar, z), 1),    # (15) (13)
            "scale": -v_bar * z - l_bar / scale, **({} if shift is None else {"shift": -x_bar})}    # (14) (16)


r"""In floating point.

In (1), (2), (7) and (8), `v` or `y` may overflow where the result does not.  Events are scaled by powers of two, exactly; `v`,
`y` and, in the inverse, `z` are kept as `2^e v'`, `2^e y'`, `2^e z'`, each with its own `e`:
    v = 2^e (U + S) (2^-e z),   y = 2^e L v'                                        (17)

In (5), the sum of the logarithms loses the digits of the largest one:
    log|scale_1| + log|scale_2| + ... + log|scale_D| = log|scale_1 scale_2 ... scale_D|         (18)

In (10) and (13) to (15), `v` and `z` may overflow where their products do not.  With `y_bar = 2^i y_bar', v = 2^e v'` and
`h = floor((i + e) / 2)`,
    y_bar v^T = (2^h y_bar') (2^(i+e-h) v')^T,   and so with v_bar and z            (19)

In (7) and (8), an event may have infinite entries after a map that reaches its limits, and substitution would take their
differences, which are NaN.  There
    z = (L (U + S))^-1 y         by the rules of floats, the inverse matrix first   (20)
gives the limits that exist.
"""


@bijector(source="arXiv:1807.03039", domain=real, codomain=real, constant_log_det=True, normwise=True, entrywise_log_det=True,
          infinite_events=True, textbook=textbook)
class PLULinear(Bijector):
    """x = P L (U + diag(scale)) z + shift with (P y)_i = y_{order_i} and L = I + lower; z and x (*batch, D).

    `shift` may be None, for x = P L (U + diag(scale)) z.
    """

    order: Array = permutation("D")
    lower: Array = strictly_lower("D", "D")
    upper: Array = strictly_upper("D", "D")
    scale: Array = nonzero("D")
    shift: Array = Field(real, ("D",), default=0.0, optional=True)  # type: ignore[assignment]
    event_ndim = (1, 1)

    @staticmethod
    def definition(m, z, order, lower, upper, scale, shift):
        D = range(len(z))
        v = [scale[i] * z[i] + sum(upper[i][j] * z[j] for j in D[i + 1:]) for i in D]       # (1)
        y = [v[i] + sum(lower[i][j] * v[j] for j in D[:i]) for i in D]              # (2)
        return [y[order[i]] if shift is None else y[order[i]] + shift[i] for i in D]        # (3)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.from_v(*self.scaled_v(z))                                       # (3)

    def scaled_v(self, z):
        """(v', e) with v = 2^e v'."""
        z, e = unit_scaled(z)                                                       # (17)
        return unit_scaled(product(self.upper, z) + self.scale * z, e)              # (1) (17)

    def from_v(self, v, e):
        y = v + product(self.lower, v)                                              # (2) (17)
        return plus(scaled(reordered(y, self.order), e), self.shift)                # (3) (17)

    def log_det(self, z):
        return np.broadcast_to(log_abs_product(self.scale), z.shape[:-1])           # (5) (18)

    def jacobian(self, z):
        U_S = self.upper_and_scale()
        L_U_S = U_S + self.lower @ U_S
        order = np.broadcast_to(self.order, L_U_S.shape[:-1])
        return np.broadcast_to(np.take_along_axis(L_U_S, order[..., None], -2), z.shape + z.shape[-1:])     # (4)

    def upper_and_scale(self):
        """U + S."""
        return self.upper + self.scale[..., None] * np.eye(self.scale.shape[-1], dtype=self.scale.dtype)

    def inverse_and_log_det(self, x):
        return scaled(*self.scaled_inverses(x)[1]), -self.log_det(x)                # (8) (17)

    def scaled_inverses(self, x):
        """(v', e) with v = 2^e v', and z in the same form."""
        y = reordered(minus(x, self.shift), opposite(self.order))                   # (6)
        v, e = solve_lower(self.lower, y, unit=True)                                # (7)
        z, k = solve_upper(self.upper_and_scale(), v, e)                            # (8)
        return (v, e), solution(z, k, y, self.inverse_of_triangles)                 # (20)

    def inverse_of_triangles(self):
        """(L (U + S))^-1: its column k is the solution for the k-th unit vector."""
        lower, upper = np.broadcast_arrays(self.lower, self.upper_and_scale())
        units = np.broadcast_to(np.eye(self.dims["D"], dtype=upper.dtype), upper.shape)
        if upper.ndim > 2:
            lower, upper = lower[..., None, :, :], upper[..., None, :, :]
        return scaled(*solve_upper(upper, *solve_lower(lower, units, unit=True))).mT    # (17) (20)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v, e = self.scaled_v(z)

        def pullback(x_bar, log_det_bar):
            y_bar = reordered(x_bar, opposite(self.order))                          # (9)
            v_bar = y_bar + product(self.lower.mT, y_bar)                           # (10)
            z_bar = product(self.upper.mT, v_bar) + self.scale * v_bar              # (11)
            lower_bar = np.tril(scaled_outer_sum(*unit_scaled(y_bar), v, e, self.lower), -1)        # (10) (19)
            upper_bar = np.triu(outer_sum(v_bar, z, self.upper), 1)                 # (11)
            scale_bar = v_bar * z + log_det_bar[..., None] / self.scale             # (12)
            return z_bar, {"lower": lower_bar, "upper": upper_bar, "scale": scale_bar, **shift_bar(self, x_bar)}

        return (self.from_v(v, e), self.log_det(z)), pullback

    def inverse_vjp(self, x):
        (v, e), (z, k) = self.scaled_inverses(x)

        def pullback(z_bar, log_det_bar):
            v_bar, i = solve_lower(self.upper_and_scale().mT, z_bar)                # (13)
            y_bar, j = solve_upper(self.lower.mT, v_bar, i, unit=True)              # (15)
            x_bar = scaled(reordered(y_bar, self.order), j)                         # (16) (17)
            lower_bar = -np.tril(scaled_outer_sum(y_bar, j, v, e, self.lower), -1)  # (15) (19)
            upper_bar = -np.triu(scaled_outer_sum(v_bar, i, z, k, self.upper), 1)   # (13) (19)
            scale_bar = -scaled(v_bar * z, i + k) - log_det_bar[..., None] / self.scale  # (14) (19)
            return x_bar, {"lower": lower_bar, "upper": upper_bar, "scale": scale_bar, **shift_bar(self, -x_bar)}

        return (scaled(z, k), -self.log_det(x)), pullback                           # (8) (17)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Line", "D = 1: a scalar affine map, both triangles empty", z=[[3.0]], x=[[-5.0]],
             order=[0], lower=[[0.0]], upper=[[0.0]], scale=[-0.3], shift=[0.7]),
        case("Cycle", "an order that is not its own inverse: gathering and scattering differ",
             z=[[1.0, 2.0, 4.0]], x=[[1.0, 2.0, 4.0]], order=[1, 2, 0],
             lower=[[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.25, -0.5, 0.0]],
             upper=[[0.0, 1.0, -2.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]], scale=[1.0, -2.0, 0.5], shift=[0.1, 0.2, 0.3]),
        case("UnitDeterminant", "log-det is 0, where the logarithms of the scales, +-20 log 2, cancel",
             z=[[1.0, 1.0]], x=[[1.0, 1.0]], order=[1, 0], lower=[[0.0, 0.0], [0.3, 0.0]], upper=[[0.0, 0.7], [0.0, 0.0]],
             scale=[2.0**20, 2.0**-20], shift=[0.0, 0.0]),
        case("Cancelling", "y_2 = v_2 + lower v_1 keeps the last digit of v_2 alone", z=[[1.0, 1.0 + 2.0**-20]],
             x=[[1.0 + 2.0**-20, 1.0]], order=[1, 0], lower=[[0.0, 0.0], [-1.0, 0.0]], upper=[[0.0, 0.0], [0.0, 0.0]],
             scale=[1.0, 1.0], shift=[0.0, 0.0]),
        case("Growing", "each substitution grows by 2^16: the inverses of triangles with small entries are huge",
             z=[[1.0, 1.0, 1.0]], x=[[1.0, 1.0, 1.0]], order=[0, 1, 2],
             lower=[[0.0, 0.0, 0.0], [-256.0, 0.0, 0.0], [-256.0, -256.0, 0.0]],
             upper=[[0.0, -256.0, -256.0], [0.0, 0.0, -256.0], [0.0, 0.0, 0.0]], scale=[1.0, 1.0, 1.0], shift=[0.0] * 3),
        case("Huge", "v overflows, x does not", z=[[2.0**124, 2.0**124]], x=[[2.0**124, 2.0**124]], order=[0, 1],
             lower=[[0.0, 0.0], [2.0**-9, 0.0]], upper=[[0.0, 2.0**8], [0.0, 0.0]], scale=[2.0**8, 1.0], shift=[0.0, 0.0]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], x=[[2.0**-1070, 2.0**-1074]],
             order=[1, 0], lower=[[0.0, 0.0], [3.0, 0.0]], upper=[[0.0, 0.3], [0.0, 0.0]], scale=[7.0, 1.0],
             shift=[0.0, 0.0]),
    )
