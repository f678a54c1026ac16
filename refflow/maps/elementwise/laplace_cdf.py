r"""Laplace cumulative distribution function, `R -> (0, 1)`.

The map.  With `s = scale > 0` and `t = (z - loc)/s`,
    x = exp(t)/2            for t <= 0                                              (1)
      = 1 - exp(-t)/2       for t >  0                                              (2)
    z = loc + s t,   t = log(2 x)    for x <= 1/2,   t = -log(2 (1 - x))    for x > 1/2     (3)
    dx/dz = exp(-|t|)/(2 s)                                                         (4)
    log|dx/dz| = -|t| - log(2 s)                                                    (5)
    log|dz/dx| = log(s/m),   m = min(x, 1 - x)                                      (6)
The derivative of (5) jumps at `z = loc`, which belongs to (1).

The reverse rule.  `dt/dz = -dt/dloc = 1/s` and `dt/ds = -t/s`.  The derivative of (5) by `t` is `e = 1` for `t <= 0`, `e = -1` for
`t > 0`, so that `e t = -|t|`.  With the cotangent `l_bar` of (5),
    z_bar = (x_bar exp(-|t|)/2 + l_bar e)/s                                         (7)
    loc_bar = -z_bar                                                                (8)
    s_bar = -x_bar t exp(-|t|)/(2 s) + l_bar (|t| - 1)/s                            (9)
For the inverse map, `dz/dx = s/m`, and the derivative of (6) by `x` is `-e/m`.  With the cotangent `l_bar` of (6),
    x_bar = (z_bar s - l_bar e)/m                                                   (10)
    loc_bar = z_bar                                                                 (11)
    s_bar = z_bar t + l_bar/s                                                       (12)

Source: the definition of the Laplace distribution.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, positive, real
from ...core.arithmetic import quotient, ratio, times


class textbook:
    """(1) to (12) as they are printed, for one event."""

    def forward(z, loc, scale):
        t = (z - loc) / scale
        if t <= 0:
            return np.exp(t) / 2                                                    # (1)
        return 1 - np.exp(-t) / 2                                                   # (2)

    def inverse(x, loc, scale):
        t = np.log(2 * x) if x <= 1 / 2 else -np.log(2 * (1 - x))                   # (3)
        return loc + scale * t                                                      # (3)

    def slope(z, loc, scale):
        t = (z - loc) / scale
        return np.exp(-np.abs(t)) / (2 * scale)                                     # (4)

    def log_det(z, loc, scale):
        t = (z - loc) / scale
        return -np.abs(t) - np.log(2 * scale)                                       # (5)

    def inverse_log_det(x, loc, scale):
        m = min(x, 1 - x)
        return np.log(scale / m)                                                    # (6)

    def vjp(z, loc, scale, x_bar, l_bar):
        t = (z - loc) / scale
        e = 1 if t <= 0 else -1
        z_bar = (x_bar * np.exp(-np.abs(t)) / 2 + l_bar * e) / scale                # (7)
        s_bar = -x_bar * t * np.exp(-np.abs(t)) / (2 * scale) + l_bar * (np.abs(t) - 1) / scale     # (9)
        return z_bar, {"loc": -z_bar, "scale": s_bar}                               # (8)

    def inverse_vjp(x, loc, scale, z_bar, l_bar):
        e, m = 1 if x <= 1 / 2 else -1, min(x, 1 - x)
        t = np.log(2 * x) if x <= 1 / 2 else -np.log(2 * (1 - x))                   # (3)
        x_bar = (z_bar * scale - l_bar * e) / m                                     # (10)
        return x_bar, {"loc": z_bar, "scale": z_bar * t + l_bar / scale}            # (11) (12)


r"""In floating point.

In (3), `1 - x` is exact for `x > 1/2`, and one logarithm serves both rows:
    t = e log(2 m),   m = min(x, 1 - x)                                             (13)

In (4), (7) and (9), `exp(-|t|)` underflows where the product is not 0, and `t` overflows where a product with it is finite.
`d = z - loc` is finite.  Half of the exponent goes into each factor:
    exp(-|t|) = h h,   h = exp(-|t|/2)                                              (14)
    z_bar = (x_bar/s h) h/2 + l_bar e/s                                             (15)
    s_bar = l_bar (|d| - s)/s^2 - (x_bar/2) h h d/s^2                               (16)
In (16) the exponents are kept apart: `|d|/s` and `1/s^2` may overflow, and `h h d` may underflow.

In (6), `s/m` may overflow where its logarithm does not:
    log|dz/dx| = log s - log m    where that quotient overflows                     (17)
There `-log m` is beyond 600 (60 in float32) for a moderate `s`, and nothing cancels.

In (10) and (12), `m` is 0 and `t` infinite at the ends, which an event may be: a cotangent 0 makes its term 0.     (18)
"""


@bijector(source="definition", domain=real, codomain=interval(0, 1), increasing=True, symmetric=True, textbook=textbook)
class LaplaceCDF(Bijector):
    """x = exp(t)/2 for t <= 0, 1 - exp(-t)/2 for t > 0, with t = (z - loc)/scale; its inverse is the quantile function."""

    loc: Array = real(default=0.0)
    scale: Array = positive(default=1.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def breaks(self):
        """The break loc; the derivative there is the one from the left."""
        return np.stack((self.loc,), -1)

    def forward(self, z):
        tail = np.exp(-np.abs((z - self.loc) / self.scale)) / 2
        return np.where(z <= self.loc, tail, 1 - tail)                              # (1) (2)

    def inverse(self, x):
        e, m = side_and_distance(x)
        return self.loc + self.scale * (e * np.log(2 * m))                          # (3) (13)

    def log_det(self, z):
        return -np.abs((z - self.loc) / self.scale) - np.log(2 * self.scale)        # (5)

    def slope(self, z):
        _, h = self.halved(z)
        return h / self.scale * h / 2                                               # (4) (14)

    def inverse_and_log_det(self, x):
        s, (_, m) = self.scale, side_and_distance(x)
        far = np.log(s) - np.log(m)                                                 # (17)
        return self.inverse(x), np.where(np.isfinite(s / m), np.log(s / m), far)    # (6) (17)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        s, (d, h) = self.scale, self.halved(z)
        e = np.where(d <= 0, 1, -1).astype(z.dtype)                                 # (7)

        def pullback(x_bar, log_det_bar):
            z_bar = x_bar / s * h * h / 2 + log_det_bar * e / s                     # (7) (15)
            s_bar = ratio((log_det_bar, np.abs(d) - s), (s, s)) - ratio((x_bar / 2, h, h, d), (s, s))       # (9) (16)
            return z_bar, {"loc": -z_bar, "scale": s_bar}                           # (8)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        e, m = side_and_distance(x)
        t = e * np.log(2 * m)                                                       # (3) (13)

        def pullback(z_bar, log_det_bar):
            x_bar = quotient(z_bar * self.scale - log_det_bar * e, m)               # (10) (18)
            return x_bar, {"loc": z_bar, "scale": times(z_bar, t) + log_det_bar / self.scale}       # (11) (12) (18)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def halved(self, z):
        """d, h."""
        d = z - self.loc                                                            # (16)
        return d, np.exp(-np.abs(d / self.scale) / 2)                               # (14)

    hard_cases = (
        case("Break", "the derivative of the log-det jumps", z=[3.0, np.nextafter(3, 2), np.nextafter(3, 4)],
             x=[0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)], loc=3.0, scale=0.5),
        case("Tiny", "x rounds to 1/2", z=[1e-17, -1e-160, 5e-324], loc=0.0, scale=1.0),
        case("Saturated", "x rounds to 1, slope and log-det keep their digits", z=[36.8, 40.0, 700.0], loc=0.0, scale=1.0),
        case("Subnormal", "x is below the smallest normal number, or 0", z=[-708.5, -720.0, -744.0, -800.0], loc=0.0, scale=1.0),
        case("Steep", "exp(-|t|) underflows, dx/dz does not", z=[-6.3e-16, 6.6e-16], loc=0.0, scale=2.0**-60),
        case("Beyond", "t overflows, the cotangents' products with it do not", z=[2.0**1000, -2.0**1000], loc=0.0, scale=2.0**-60),
        case("LargeScale", "t overflows, the log-det's gradient l d/s^2 does not", z=[2.0**1000], loc=0.0, scale=2.0**-25),
        case("Turning", "d log-det/ds = (|t| - 1)/s cancels", z=[np.nextafter(3, 2), 3.0, -3.0, np.nextafter(3, 4)], loc=0.0, scale=3.0),
        case("UnitSlope", "|t| and log(2 s) cancel", z=[40.89, -40.89], loc=0.0, scale=8.7e-19),
        case("Cancelling", "z and loc agree in all digits but the last", z=[np.nextafter(3, 4)], loc=3.0, scale=2.0**-50),
        case("UnitSlopeOfInverse", "log s and log m cancel", x=[2.0**-60, 2.0**-59], loc=0.0, scale=2.0**-60),
        case("Tails", "next to 0, s/x overflows", x=[5e-324, 2.0**-1022, 1e-100, np.nextafter(1, 0)], loc=0.0, scale=2.0**60),
    )


def side_and_distance(x):
    """e, m."""
    return np.where(x <= 0.5, 1, -1).astype(x.dtype), np.minimum(x, 1 - x)          # (10) (13)
