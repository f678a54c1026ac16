r"""Exponential cumulative distribution function, `(0, inf) -> (0, 1)`.

The map.  With `b = rate > 0`,
    x = 1 - exp(-y),   y = b z                                                      (1)
    z = y/b,   y = -log(1 - x)                                                      (2)
    dx/dz = b exp(-y)                                                               (3)
    log|dx/dz| = log b - y                                                          (4)
    log|dz/dx| = y - log b                                                          (5)

The reverse rule.  `dy/dz = b` and `dy/db = z`.  With the cotangent `l_bar` of (4),
    z_bar = b (x_bar exp(-y) - l_bar)                                               (6)
    b_bar = z (x_bar exp(-y) - l_bar) + l_bar/b                                     (7)
For the inverse map, `dy/dx = 1/(1 - x)` and `dz/db = -y/b^2`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar/b + l_bar)/(1 - x)                                               (8)
    b_bar = -z_bar y/b^2 - l_bar/b                                                  (9)

Source: the definition of the exponential distribution.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, positive
from ...core.arithmetic import quotient, ratio
from ...core.arrays import doubled
from ...core.bijector import complemented


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def forward(z, rate):
        return 1 - np.exp(-rate * z)                                                # (1)

    def inverse(x, rate):
        return -np.log(1 - x) / rate                                                # (2)

    def slope(z, rate):
        return rate * np.exp(-rate * z)                                             # (3)

    def log_det(z, rate):
        return np.log(rate) - rate * z                                              # (4)

    def inverse_log_det(x, rate):
        return -np.log(1 - x) - np.log(rate)                                        # (5)

    def vjp(z, rate, x_bar, l_bar):
        z_bar = rate * (x_bar * np.exp(-rate * z) - l_bar)                          # (6)
        return z_bar, {"rate": z * (x_bar * np.exp(-rate * z) - l_bar) + l_bar / rate}      # (7)

    def inverse_vjp(x, rate, z_bar, l_bar):
        y = -np.log(1 - x)                                                          # (2)
        x_bar = (z_bar / rate + l_bar) / (1 - x)                                    # (8)
        return x_bar, {"rate": -z_bar * y / rate**2 - l_bar / rate}                 # (9)


r"""In floating point.

In (1), `1 - exp(-y)` cancels for a small `y`, and so does `1 - x` in (2) for a small `x`:
    x = -expm1(-y),   y = -log1p(-x)                                                (10)

In (3), (6) and (7), `exp(-y)` underflows where its product with a large factor does not.  Half of the exponent goes into each
factor, and the exponents of a product with `z` are kept apart.  NumPy's exponential of float32 errs by several units:
    exp(-y) = h h,   h = exp(-y/2)    in float64, for float32 too, and rounded      (11)

In (8) and (9), `1 - x = 0` and `y` is infinite at `x = 1`, which an event may be: a cotangent 0 makes its term 0.      (12)

In (9), `y/b` may be subnormal where its product with `z_bar/b` is not.  There the exponents are kept apart, too.       (13)

In (1), `x` rounds to 1 where `1 - x` still has all its digits:
    q = 1 - x = exp(-y),   y = -log q,   q_bar = -x_bar                             (14)
With `y` and `1 - x = q` from (14), (2), (5), (8) and (9) hold as they stand, and `log|dz/dq| = log|dz/dx|`.
"""


@bijector(source="definition", domain=interval(0, np.inf), codomain=interval(0, 1), increasing=True,
          two_sided=True, textbook=textbook)
class ExponentialCDF(Bijector):
    """x = 1 - exp(-rate z); its inverse is the quantile function."""

    rate: Array = positive(default=1.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return -np.expm1(-self.rate * z)                                            # (1) (10)

    def complement(self, z):
        return np.exp(-self.rate * z)                                               # (14)

    def inverse(self, x):
        return -np.log1p(-x) / self.rate                                            # (2) (10)

    def log_det(self, z):
        return np.log(self.rate) - self.rate * z                                    # (4)

    def slope(self, z):
        h = self.half(z)
        return self.rate * h * h                                                    # (3) (11)

    def inverse_and_log_det(self, x):
        return self.quantile_and_log_det(-np.log1p(-x))                             # (2) (10)

    def inverse_and_log_det_of_complement(self, q):
        return self.quantile_and_log_det(-np.log(q))                                # (14)

    def quantile_and_log_det(self, y):
        return y / self.rate, y - np.log(self.rate)                                 # (2) (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        b, h = self.rate, self.half(z)

        def pullback(x_bar, l_bar):
            z_bar = x_bar * b * h * h - l_bar * b                                   # (6) (11)
            b_bar = ratio((x_bar, h, h, z)) + (l_bar / b - l_bar * z)               # (7) (11)
            return z_bar, {"rate": b_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        return self.quantile_vjp(1 - x, -np.log1p(-x))                              # (2) (10)

    def inverse_vjp_of_complement(self, q):
        return complemented(*self.quantile_vjp(q, -np.log(q)))                      # (14)

    def quantile_vjp(self, q, y):
        b = self.rate

        def pullback(z_bar, l_bar):
            x_bar = quotient(z_bar / b + l_bar, q)                                  # (8) (12)
            return x_bar, {"rate": -ratio((z_bar, y), (b, b)) - l_bar / b}          # (9) (12) (13)

        return self.quantile_and_log_det(y), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def half(self, z):
        """h."""
        f, wide = doubled(self, z)                                                  # (11)
        return np.exp(-f.rate * wide / 2).astype(z.dtype)                           # (11)

    hard_cases = (
        case("Ends", "z is 0 or subnormal; x has few digits of 1 - x", z=[0.0, 5e-324, 1e-310, 1e-300],
             x=[0.0, 5e-324, 1e-310, 1e-300, np.nextafter(1, 0), 1.0], rate=1.0),
        case("Written", "1 - exp(-y) returns 0", z=[1e-17, 1e-12], x=[1e-17, 1e-12], rate=3.0),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[40.0, 700.0, 740.0], rate=1.0),
        case("SubnormalFactor", "exp(-y) is subnormal or 0, its product with b is not", z=[6.4e-16, 6.6e-16], rate=1.1 * 2.0**60),
        case("LateEvents", "exp(-y) is subnormal or 0, its product with z is not", z=[8.3e20, 8.6e20], rate=2.0**-60),
        case("UnitSlope", "log b and y cancel", z=[0.5, 1.0], x=[0.5], rate=2.0),
        case("SmallQuotient", "z is subnormal, its quotient by b has other digits", x=[5e-324, 3e-310], rate=0.3),
        case("Beyond", "y overflows", z=[2.0**1000], rate=2.0**60),
    )
