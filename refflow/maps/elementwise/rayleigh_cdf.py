r"""Rayleigh cumulative distribution function, `(0, inf) -> (0, 1)`.

The map.  With `s = scale > 0`,
    x = 1 - exp(-y),   y = t^2/2,   t = z/s                                         (1)
    z = s t,   t = (2 y)^(1/2),   y = -log(1 - x)                                   (2)
    dx/dz = (t/s) exp(-y)                                                           (3)
    log|dx/dz| = log(t/s) - y                                                       (4)
    log|dz/dx| = y - log(t/s)                                                       (5)

The reverse rule.  `dt/dz = 1/s`, `dt/ds = -t/s` and `dy/dt = t`.  With the cotangent `l_bar` of (4),
    z_bar = (x_bar t exp(-y) + l_bar (1 - t^2)/t)/s                                 (6)
    s_bar = -x_bar t^2 exp(-y)/s + l_bar (t^2 - 2)/s                                (7)
For the inverse map, `dt/dx = 1/(t (1 - x))`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar s/t + l_bar (1 - 1/t^2))/(1 - x)                                 (8)
    s_bar = z_bar t + l_bar/s                                                       (9)

Source: the definition of the Rayleigh distribution.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, positive
from ...core.arithmetic import is_normal, quotient, ratio, times
from ...core.arrays import doubled
from ...core.bijector import complemented


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def forward(z, scale):
        t = z / scale
        return 1 - np.exp(-(t**2) / 2)                                              # (1)

    def inverse(x, scale):
        return scale * (-2 * np.log(1 - x)) ** (1 / 2)                              # (2)

    def slope(z, scale):
        t = z / scale                                                               # (1)
        return t / scale * np.exp(-(t**2) / 2)                                      # (3)

    def log_det(z, scale):
        t = z / scale                                                               # (1)
        return np.log(t / scale) - t**2 / 2                                         # (4)

    def inverse_log_det(x, scale):
        y = -np.log(1 - x)                                                          # (2)
        return y - np.log((2 * y) ** (1 / 2) / scale)                               # (5)

    def vjp(z, scale, x_bar, l_bar):
        s, t = scale, z / scale                                                     # (1)
        z_bar = (x_bar * t * np.exp(-(t**2) / 2) + l_bar * (1 - t**2) / t) / s      # (6)
        s_bar = -x_bar * t**2 * np.exp(-(t**2) / 2) / s + l_bar * (t**2 - 2) / s    # (7)
        return z_bar, {"scale": s_bar}

    def inverse_vjp(x, scale, z_bar, l_bar):
        t = (-2 * np.log(1 - x)) ** (1 / 2)                                         # (2)
        x_bar = (z_bar * scale / t + l_bar * (1 - 1 / t**2)) / (1 - x)              # (8)
        return x_bar, {"scale": z_bar * t + l_bar / scale}                          # (9)


r"""In floating point.

In (1), `1 - exp(-y)` cancels for a small `y`, and so does `1 - x` in (2) for a small `x`:
    x = -expm1(-y),   y = -log1p(-x)                                                (10)

In (4), `t^2` overflows where `t^2/2` does not, and `t` or `t/s` may leave the normal numbers where the logarithm does not:
    t^2/2 = t (t/2)                                                                 (11)
    log(t/s) = log z - 2 log s    where t or t/s is not a normal number             (12)
For a moderate `s`, `log z` is then the larger term by far.

In (3), (6) and (7), factors may leave the floats where their product does not.  Half of the exponent goes into each factor, and
all exponents are kept apart.  NumPy's exponential of float32 errs by several units:
    exp(-y) = h h,   h = exp(-y/2)    in float64, for float32 too, and rounded      (13)
    (1 - t^2)/t/s = (s - z) (s + z)/(z s^2)                                         (14)

In (5), (8) and (9), `t` and `1 - x` are 0 or infinite at the ends, which an event may be, and a cotangent 0 makes its term 0:
    log|dz/dx| = inf                  at x = 1                                      (15)
    1 - 1/t^2 = 1 - 1/(2 y)                                                         (16)
    x_bar = -l_bar/0                  at x = 0;   z_bar/0 there for l_bar = 0       (17)
          = l_bar/0                   at x = 1;   z_bar/0 there for l_bar = 0       (18)

In (1), `x` rounds to 1 where `1 - x` still has all its digits:
    q = 1 - x = exp(-y),   y = -log q,   q_bar = -x_bar                             (19)
With `y` and `1 - x = q` from (19), (2), (5), (8) and (9) hold as they stand, and `log|dz/dq| = log|dz/dx|`.
"""


@bijector(source="definition", domain=interval(0, np.inf), codomain=interval(0, 1), increasing=True,
          two_sided=True, textbook=textbook)
class RayleighCDF(Bijector):
    """x = 1 - exp(-(z/scale)^2/2); its inverse is the quantile function."""

    scale: Array = positive(default=1.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        t = z / self.scale
        return -np.expm1(-t * (t / 2))                                              # (1) (10) (11)

    def complement(self, z):
        t = z / self.scale
        return np.exp(-t * (t / 2))                                                 # (11) (19)

    def inverse(self, x):
        return self.quantile(-np.log1p(-x))                                         # (10)

    def quantile(self, y):
        return self.scale * np.sqrt(2 * y)                                          # (2)

    def log_det(self, z):
        t, s = z / self.scale, self.scale                                           # (1)
        far = np.log(z) - 2 * np.log(s)                                             # (12)
        near = is_normal(t) & is_normal(t / s)
        return np.where(near, np.log(t / s), far) - t * (t / 2)                     # (4) (11) (12)

    def slope(self, z):
        h = self.half(z)
        return ratio((z, h, h), (self.scale, self.scale))                           # (3) (13)

    def inverse_and_log_det(self, x):
        return self.quantile_and_log_det(-np.log1p(-x))                             # (2) (10)

    def inverse_and_log_det_of_complement(self, q):
        return self.quantile_and_log_det(-np.log(q))                                # (19)

    def quantile_and_log_det(self, y):
        inside = y - np.log(np.sqrt(2 * y) / self.scale)                            # (5)
        return self.quantile(y), np.where(y == np.inf, np.inf, inside)              # (15)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        s, h = self.scale, self.half(z)

        def pullback(x_bar, l_bar):
            z_bar = ratio((x_bar, z, h, h), (s, s)) + ratio((l_bar, s - z, s + z), (z, s, s))       # (6) (13) (14)
            s_bar = ratio((l_bar, z, z), (s, s, s)) - 2 * l_bar / s - ratio((x_bar, z, z, h, h), (s, s, s))         # (7) (13)
            return z_bar, {"scale": s_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        return self.quantile_vjp(1 - x, -np.log1p(-x))                              # (2) (10)

    def inverse_vjp_of_complement(self, q):
        return complemented(*self.quantile_vjp(q, -np.log(q)))

    def quantile_vjp(self, q, y):
        s, t = self.scale, np.sqrt(2 * y)                                           # (2)

        def pullback(z_bar, l_bar):
            through_z = np.where((y == 0) & (l_bar != 0), 0, quotient(z_bar * s, t))        # (8) (17)
            inside = through_z + (l_bar - quotient(l_bar / 2, y))                   # (8) (16)
            x_bar = quotient(np.where((q == 0) & (l_bar == 0), z_bar, inside), q)           # (8) (18)
            return x_bar, {"scale": times(z_bar, t) + l_bar / s}                    # (9)

        return self.quantile_and_log_det(y), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def half(self, z):
        """h."""
        f, wide = doubled(self, z)                                                  # (13)
        t = wide / f.scale                                                          # (1)
        return np.exp(-(t / 2) * (t / 2)).astype(z.dtype)                           # (13)

    hard_cases = (
        case("Ends", "z is 0 or subnormal; x has few digits of 1 - x", z=[0.0, 5e-324, 1e-310, 1e-160],
             x=[0.0, 5e-324, 1e-310, 1e-300, np.nextafter(1, 0), 1.0], scale=1.0),
        case("Written", "1 - exp(-y) returns 0", z=[1e-9, 1e-150], x=[1e-17, 1e-12], scale=3.0),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[9.0, 38.0, 38.6], scale=1.0),
        case("SubnormalFactor", "exp(-y) is subnormal or 0, its product with t/s is not", z=[38.7 * 2.0**-60, 39.5 * 2.0**-60],
             scale=2.0**-60),
        case("SquareOverflows", "t^2 overflows, the cotangent of the scale does not", z=[2.0**600], scale=2.0**60),
        case("SquareAlone", "t^2 overflows, t^2/2 does not", z=[1.5e154], scale=1.0),
        case("SlopeUnderflows", "t/s is subnormal", z=[1e-300, 5e-324], scale=2.0**60),
        case("SubnormalQuotient", "t is subnormal, t/s is not", z=[5e-324], scale=2.0**-27),
        case("SlopeOverflows", "t/s overflows", z=[2.0**1000], scale=2.0**-60),
        case("UnitSlope", "log(t/s) and y cancel", z=[1.0, 0.99], x=[0.5], scale=0.7788007830714049),
        case("Mode", "1 - t^2 cancels", z=[np.nextafter(3, 2), 3.0, np.nextafter(3, 4)], x=[0.3934693402873666], scale=3.0),
        case("Turning", "t^2 - 2 cancels", z=[1.4142135623730951, 1.414213562373095], scale=1.0),
        case("SmallQuotient", "1/(2 y) overflows", x=[5e-324, 2e-309, 4e-309], scale=2.0**60),
    )
