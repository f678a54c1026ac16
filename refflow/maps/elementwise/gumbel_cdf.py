r"""Gumbel cumulative distribution function, `R -> (0, 1)`.

The map.  With `s = scale > 0`,
    x = exp(-y),   y = exp(-t),   t = (z - loc)/s                                   (1)
    z = loc - s log y,   y = -log x                                                 (2)
    dx/dz = y exp(-y)/s                                                             (3)
    log|dx/dz| = -t - y - log s                                                     (4)
    log|dz/dx| = log s - log y + y                                                  (5)

The reverse rule.  `dt/dz = -dt/dloc = 1/s`, `dt/ds = -t/s` and `dy/dt = -y`.  With the cotangent `l_bar` of (4),
    z_bar = (x_bar y exp(-y) + l_bar (y - 1))/s                                     (6)
    loc_bar = -z_bar                                                                (7)
    s_bar = -t (x_bar y exp(-y) + l_bar (y - 1))/s - l_bar/s                        (8)
For the inverse map, `dy/dx = -1/x`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar s/y + l_bar (1/y - 1))/x                                         (9)
    loc_bar = z_bar                                                                 (10)
    s_bar = -z_bar log y + l_bar/s                                                  (11)

Source: Gumbel, Statistics of Extremes (1958).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, positive, real
from ...core.arithmetic import is_normal, log_quotient, quotient, times
from ...core.arrays import doubled
from ...core.bijector import complemented


class textbook:
    """(1) to (11) as they are printed, for one event."""

    def forward(z, loc, scale):
        return np.exp(-np.exp(-(z - loc) / scale))                                  # (1)

    def inverse(x, loc, scale):
        return loc - scale * np.log(-np.log(x))                                     # (2)

    def slope(z, loc, scale):
        y = np.exp(-(z - loc) / scale)                                              # (1)
        return y * np.exp(-y) / scale                                               # (3)

    def log_det(z, loc, scale):
        t = (z - loc) / scale                                                       # (1)
        return -t - np.exp(-t) - np.log(scale)                                      # (4)

    def inverse_log_det(x, loc, scale):
        y = -np.log(x)                                                              # (2)
        return np.log(scale) - np.log(y) + y                                        # (5)

    def vjp(z, loc, scale, x_bar, l_bar):
        t = (z - loc) / scale                                                       # (1)
        y = np.exp(-t)
        z_bar = (x_bar * y * np.exp(-y) + l_bar * (y - 1)) / scale                  # (6)
        s_bar = -t * (x_bar * y * np.exp(-y) + l_bar * (y - 1)) / scale - l_bar / scale     # (8)
        return z_bar, {"loc": -z_bar, "scale": s_bar}                               # (7)

    def inverse_vjp(x, loc, scale, z_bar, l_bar):
        y = -np.log(x)                                                              # (2)
        x_bar = (z_bar * scale / y + l_bar * (1 / y - 1)) / x                       # (9)
        return x_bar, {"loc": z_bar, "scale": -z_bar * np.log(y) + l_bar / scale}   # (10) (11)


r"""In floating point.

In (1), `x` rounds to 1 where `1 - x` still has all its digits:
    q = 1 - x = 1 - exp(-y),   y = -log(1 - q),   q_bar = -x_bar                    (12)
With `y` and `x = 1 - q` from (12), (2), (5) and (9) to (11) hold as they stand, and `log|dz/dq| = log|dz/dx|`.

In (3) and (6), `y` or `exp(-y)` may be subnormal, or 0, where the product is not.  Half of each exponent goes into each factor:
    y exp(-y) = h h,   h = exp(-(t + y)/2)                                          (13)
              = 0                                        where y overflows          (14)
In (3), `h h` is used only where `y` or `exp(-y)` is not a normal number.  The roundings of `y` and of `t + y` move it by `y` and
`t + y` times as much, together more than the `|1 - y|` times by which a rounding of `y` moves `y exp(-y)`.

In (4), `t` may overflow to `-inf`, where `y` is the larger term by far:
    -t - y = -y                                          where y overflows          (15)

In (5), `log s` and `y` cancel where `y` is large:
    log|dz/dx| = log(((s/y)/x))                                                     (16)
               = log(s/y) + y                            where that quotient overflows      (17)
               = inf                                     at x = 0 and x = 1         (18)
Where `s/y` overflows, too, `log(s/y)` is computed as `log s - log y`.

In (6) and (8), `y - 1` cancels near `t = 0`, `y` may overflow where its product with a small cotangent does not, and so may `t`.
`d = z - loc` is finite:
    y - 1 = a b,   a = expm1(-t/2),   b = 1 + exp(-t/2)                             (19)
    z_bar = (x_bar/s h) h + (l_bar/s) a b                                           (20)
    s_bar = -(x_bar/s h) (h d)/s - (l_bar/s/s d) a b - l_bar/s                      (21)

In (9), both terms may be infinite at the ends, or cancel there:
    x_bar = ((z_bar s + l_bar)/y - l_bar)/x                                         (22)
          = z_bar/0                                      at x = 0 for l_bar = 0     (23)

In (11), `log y` is infinite at the ends: a cotangent 0 makes its term 0.                                       (24)

In (1) and (12), two exponentials follow each other, and NumPy's of float32 err by several units:
    x = exp(-exp(-t)),   q = -expm1(-exp(-t))    in float64, for float32 too        (25)
"""


@bijector(source="Gumbel 1958", domain=real, codomain=interval(0, 1), increasing=True, two_sided=True,
          textbook=textbook)
class GumbelCDF(Bijector):
    """x = exp(-exp(-(z - loc)/scale))."""

    loc: Array = real(default=0.0)
    scale: Array = positive(default=1.0)
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, loc, scale):
        # abs asks whether x is known to be positive: where a ball cannot tell, log-dets have no truth, and sweeps end
        return abs(m.exp(-m.exp(-(z - loc) / scale)))                               # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.exp(-self.rate(z)).astype(z.dtype)                                # (1) (25)

    def complement(self, z):
        return -np.expm1(-self.rate(z)).astype(z.dtype)                             # (12) (25)

    def rate(self, z):
        """y, in float64."""
        f, wide = doubled(self, z)                                                  # (25)
        return np.exp(-(wide - f.loc) / f.scale)                                    # (1)

    def inverse(self, x):
        return self.loc - self.scale * np.log(np.abs(np.log(x)))                    # (2)

    def log_det(self, z):
        return -log_reciprocal((z - self.loc) / self.scale) - np.log(self.scale)    # (4) (15)

    def slope(self, z):
        y = np.exp((self.loc - z) / self.scale)                                     # (1)
        x, h = np.exp(-y), root(z - self.loc, self.scale)
        return np.where(is_normal(y) & is_normal(x), y * x / self.scale, h / self.scale * h)        # (3) (13)

    def inverse_and_log_det(self, x):
        return self.quantile(x, np.abs(np.log(x)))                                  # (2)

    def inverse_and_log_det_of_complement(self, q):
        return self.quantile(1 - q, np.abs(np.log1p(-q)))                           # (12)

    def quantile(self, x, y):
        """(z, log|dz/dx|)."""
        ratio = self.scale / y / x                                                  # (16)
        inside = np.where(np.isfinite(ratio), np.log(ratio), log_quotient(self.scale, y) + y)       # (5) (16) (17)
        return self.loc - self.scale * np.log(y), np.where((y > 0) & np.isfinite(y), inside, np.inf)        # (2) (18)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        s, d = self.scale, z - self.loc
        h = root(d, s)                                                              # (13)
        a, b = np.expm1(-d / s / 2), 1 + np.exp(-d / s / 2)                         # (19)

        def pullback(x_bar, log_det_bar):
            c, l_1 = x_bar / s * h, log_det_bar / s
            z_bar = c * h + times(l_1, a, b)                                        # (6) (20)
            s_bar = -c * (h * d) / s - times(l_1 / s * d, a, b) - l_1               # (8) (21)
            return z_bar, {"loc": -z_bar, "scale": s_bar}                           # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        return self.quantile_vjp(x, np.abs(np.log(x)))                              # (2)

    def inverse_vjp_of_complement(self, q):
        return complemented(*self.quantile_vjp(1 - q, np.abs(np.log1p(-q))))        # (12)

    def quantile_vjp(self, x, y):
        def pullback(z_bar, log_det_bar):
            numerator = quotient(z_bar * self.scale + log_det_bar, y) - log_det_bar         # (9) (22)
            x_bar = quotient(np.where((x == 0) & (log_det_bar == 0), z_bar, numerator), x)          # (9) (23)
            return x_bar, {"loc": z_bar, "scale": log_det_bar / self.scale - times(z_bar, np.log(y))}   # (10) (11) (24)

        return self.quantile(x, y), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "the gradient of the log-det is -t: y - 1 returns 0", z=[1e-17, -1e-160, 5e-324], loc=0.0, scale=1.0),
        case("Subnormal", "x is below the smallest normal number, or 0", z=[-6.56, -6.6, -6.62, -7.0], loc=0.0, scale=1.0),
        case("Saturated", "x rounds to 1, y need not", z=[37.0, 700.0, 740.0, 800.0], loc=0.0, scale=1.0),
        case("Overflow", "y overflows, its product with a small cotangent does not", z=[-720.0, -740.0], loc=0.0, scale=1.0),
        case("Beyond", "t overflows", z=[2.0**1000, -2.0**1000], loc=0.0, scale=2.0**-60),
        case("LargeScale", "t overflows, the log-det's gradient l d/s^2 does not", z=[2.0**1000], loc=0.0, scale=2.0**-25),
        case("Turning", "d log-det/ds passes through 0", z=[1.3499764854, -0.8064659942], loc=0.0, scale=1.0),
        case("UnitSlope", "t, y and log s cancel", z=[-1.0, 1.0], loc=0.0, scale=0.17937407873401),
        case("Cancelling", "z and loc agree in all digits but the last", z=[np.nextafter(3, 4)], loc=3.0, scale=2.0**-50),
        case("UnitSlopeOfInverse", "log s and y cancel", x=[2.0**-56, 2.0**-55], loc=0.0, scale=2.0**-50),
        case("Median", "y passes through 1, and log y through 0", x=[0.36787944117144233, 0.3678794411714424], loc=0.0, scale=1.0),
        case("Tails", "y is 744, or has few digits of x", x=[5e-324, 2.0**-1022, 1e-100, np.nextafter(1, 0)], loc=0.0,
             scale=2.0**60),
    )


def log_reciprocal(t):
    """t + exp(-t)."""
    y = np.exp(-t)
    return np.where(np.isinf(y), y, t + y)                                          # (15)


def root(d, s):
    """h, for d = z - loc."""
    return np.exp(-log_reciprocal(d / s) / 2)                                       # (13) (14)
