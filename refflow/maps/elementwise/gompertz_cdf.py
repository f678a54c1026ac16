r"""Gompertz cumulative distribution function, `(0, inf) -> (0, 1)`.

The map.  With `a = concentration > 0`,
    x = 1 - exp(-y),   y = a (exp(z) - 1)                                           (1)
    z = log(1 + y/a),   y = -log(1 - x)                                             (2)
    dx/dz = A exp(-y),   A = a + y                                                  (3)
    log|dx/dz| = log A - y                                                          (4)
    log|dz/dx| = y - log A                                                          (5)

The reverse rule.  `A = a exp(z)`, so that `dy/dz = dA/dz = A`, `dy/da = y/a` and `dA/da = A/a`.  With the cotangent `l_bar` of (4),
    z_bar = x_bar A exp(-y) + l_bar (1 - A)                                         (6)
    a_bar = (x_bar y exp(-y) + l_bar (1 - y))/a                                     (7)
For the inverse map, `dy/dx = 1/(1 - x)`, `dz/dy = 1/A` and `dz/da = -y/(a A)`.  With the cotangent `l_bar` of (5),
    x_bar = (z_bar/A + l_bar (1 - 1/A))/(1 - x)                                     (8)
    a_bar = -(z_bar y/a + l_bar)/A                                                  (9)

Source: Gompertz, Philosophical Transactions of the Royal Society 115 (1825).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, positive
from ...core.arithmetic import quotient, ratio, times
from ...core.arrays import doubled
from ...core.bijector import complemented


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def forward(z, concentration):
        return 1 - np.exp(-concentration * (np.exp(z) - 1))                         # (1)

    def inverse(x, concentration):
        return np.log(1 - np.log(1 - x) / concentration)                            # (2)

    def slope(z, concentration):
        y = concentration * (np.exp(z) - 1)                                         # (1)
        return (concentration + y) * np.exp(-y)                                     # (3)

    def log_det(z, concentration):
        y = concentration * (np.exp(z) - 1)                                         # (1)
        return np.log(concentration + y) - y                                        # (4)

    def inverse_log_det(x, concentration):
        y = -np.log(1 - x)                                                          # (2)
        return y - np.log(concentration + y)                                        # (5)

    def vjp(z, concentration, x_bar, l_bar):
        a, y = concentration, concentration * (np.exp(z) - 1)                       # (1)
        A = a + y                                                                   # (3)
        z_bar = x_bar * A * np.exp(-y) + l_bar * (1 - A)                            # (6)
        return z_bar, {"concentration": (x_bar * y * np.exp(-y) + l_bar * (1 - y)) / a}     # (7)

    def inverse_vjp(x, concentration, z_bar, l_bar):
        a, y = concentration, -np.log(1 - x)                                        # (2)
        A = a + y                                                                   # (3)
        x_bar = (z_bar / A + l_bar * (1 - 1 / A)) / (1 - x)                         # (8)
        return x_bar, {"concentration": -(z_bar * y / a + l_bar) / A}               # (9)


r"""In floating point.

In (1), `exp(z) - 1` cancels for a small `z`, and overflows where its product with `a` does not:
    x = -expm1(-y),   y = a p q,   p q = exp(z) - 1                                 (10)
    p = expm1(z),     q = 1                  where that is finite
    p = expm1(z/2),   q = 1 + exp(z/2)       elsewhere                              (11)

In (2), `1 - x` and `1 + y/a` round to 1 for a small `x`, and `y/a` may overflow where its logarithm does not:
    z = log1p(y/a),   y = -log1p(-x)                                                (12)
      = log y - log a    where y/a overflows                                        (13)

In (3), (6) and (7), `exp(-y)` may be subnormal where its product with `A` or `y` is not.  Half of the exponent goes into each
factor, and the exponents of the product are kept apart:
    exp(-y) = h h,   h = exp(-y/2)                                                  (14)
Where `h` is 0, the product is 0, even if `A` overflows.

In (3) and (4), `log A` and `y` may cancel, and NumPy's exponential and logarithm of float32 err by several units:
    log|dx/dz| = log A - y,   and dx/dz,    in float64, for float32 too             (15)
               = -y           where A overflows                                     (16)

In (5), (8) and (9), `y` and `A` are infinite at `x = 1`, which an event may be, and a cotangent 0 makes its term 0:
    log|dz/dx| = inf       at x = 1                                                 (17)
    x_bar = l_bar/0        at x = 1;   z_bar/0 there for l_bar = 0                  (18)
    a_bar = -z_bar/a       at x = 1                                                 (19)

In (1), `x` rounds to 1 where `1 - x` still has all its digits:
    q = 1 - x = exp(-y),   y = -log q,   q_bar = -x_bar                             (20)
With `y` and `1 - x = q` from (20), (2), (5), (8) and (9) hold as they stand, and `log|dz/dq| = log|dz/dx|`.
"""


@bijector(source="Gompertz 1825", domain=interval(0, np.inf), codomain=interval(0, 1), increasing=True,
          two_sided=True, textbook=textbook)
class GompertzCDF(Bijector):
    """x = 1 - exp(-concentration (exp(z) - 1)); `gompertz_cdf` has a rate, too."""

    concentration: Array = positive(default=1.0)
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, concentration):
        y = concentration * m.expm1(z)                                              # (1)
        # asks whether 1 - x is known to be positive: where a ball cannot tell, log-dets have no truth, and sweeps end
        return -m.expm1(-y) if m.exp(-y) > 0 else m.mpf(1)                          # (1)

    @staticmethod
    def inverse_definition(m, x, concentration):
        return m.log1p(-m.log1p(-x) / concentration)                                # (2) (12)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        _, _, y = self.parts(z)
        return -np.expm1(-y)                                                        # (1) (10)

    def complement(self, z):
        _, _, y = self.parts(z)
        return np.exp(-y)                                                           # (20)

    def inverse(self, x):
        return self.quantile(-np.log1p(-x))                                         # (2) (12)

    def quantile(self, y):
        a = self.concentration
        far = np.log(y) - np.log(a)                                                 # (13)
        return np.where(np.isinf(y / a), far, np.log1p(y / a))                      # (2) (12) (13)

    def slope(self, z):
        f, wide = doubled(self, z)                                                  # (15)
        _, _, y = f.parts(wide)
        h = np.exp(-y / 2)                                                          # (14)
        return ratio((h, f.concentration + y, h)).astype(z.dtype)                   # (3) (14) (15)

    def log_det(self, z):
        f, wide = doubled(self, z)                                                  # (15)
        _, _, y = f.parts(wide)
        A = f.concentration + y                                                     # (3)
        return np.where(np.isinf(A), -y, np.log(A) - y).astype(z.dtype)             # (4) (15) (16)

    def inverse_and_log_det(self, x):
        return self.quantile_and_log_det(-np.log1p(-x))                             # (2) (12)

    def inverse_and_log_det_of_complement(self, q):
        return self.quantile_and_log_det(-np.log(q))                                # (20)

    def quantile_and_log_det(self, y):
        inside = y - np.log(self.concentration + y)                                 # (5)
        return self.quantile(y), np.where(y == np.inf, np.inf, inside)              # (17)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        a, (p, q, y) = self.concentration, self.parts(z)
        h, A = np.exp(-y / 2), a + y                                                # (3) (14)

        def pullback(x_bar, l_bar):
            z_bar = ratio((h, A, h, x_bar)) + (l_bar - l_bar * a - times(l_bar, a, p, q))   # (6) (10) (14)
            a_bar = ratio((h, x_bar, p, q, h)) + (l_bar / a - times(l_bar, p, q))   # (7) (10) (14)
            return z_bar, {"concentration": a_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        return self.quantile_vjp(1 - x, -np.log1p(-x))                              # (2) (12)

    def inverse_vjp_of_complement(self, q):
        return complemented(*self.quantile_vjp(q, -np.log(q)))

    def quantile_vjp(self, q, y):
        a, A = self.concentration, self.concentration + y                           # (3)

        def pullback(z_bar, l_bar):
            y_bar = z_bar / A + l_bar * (1 - 1 / A)                                 # (8)
            x_bar = quotient(np.where((q == 0) & (l_bar == 0), z_bar, y_bar), q)            # (8) (18)
            through_y = np.where(q == 0, z_bar / a, ratio((z_bar, y), (a, A)))      # (9) (19)
            return x_bar, {"concentration": -through_y - l_bar / A}                 # (9)

        return self.quantile_and_log_det(y), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def parts(self, z):
        """p, q, y."""
        whole, E = np.expm1(z), np.exp(z / 2)                                       # (11)
        p, q = np.where(np.isinf(whole), np.expm1(z / 2), whole), np.where(np.isinf(whole), 1 + E, 1)       # (11)
        return p, q, self.concentration * p * q                                     # (10)

    hard_cases = (
        case("Ends", "z is 0 or subnormal; x has few digits of 1 - x", z=[0.0, 5e-324, 1e-310, 1e-300],
             x=[0.0, 5e-324, 1e-310, np.nextafter(1, 0), 1.0], concentration=1.0),
        case("Beyond", "exp z overflows", z=[700.0, 720.0, 800.0], concentration=1.0),
        case("Flat", "exp z overflows, a exp z does not", z=[40.0, 48.0, 730.0, 745.0], concentration=2.0**-60),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[4.0, 6.0, 6.55, 6.6], concentration=1.0),
        case("SubnormalFactor", "exp(-y) is subnormal, its product with A is not", z=[6.4e-16, 6.45e-16], concentration=1.1 * 2.0**60),
        case("UnitSlope", "log A and y cancel", z=[0.5, 0.44807305932044983], x=[0.25, 0.5], concentration=1.83425),
        case("Mode", "1 - A cancels", z=[np.nextafter(41.58883083359672, 0), 41.58883083359672], concentration=2.0**-60),
        case("Turning", "1 - y cancels", z=[0.6931471805599453], x=[0.6321205588285577], concentration=1.0),
        case("SmallQuotient", "y/a is subnormal or 0", x=[5e-324, 3e-310], concentration=2.0**60),
        case("LargeQuotient", "y/a overflows", x=[0.5, 0.99], concentration=2.0**-1024),
        case("Switch", "the rows of (11) meet", z=[709.78, 709.79], concentration=2.0**-1000),
    )
