r"""Cauchy cumulative distribution function, `R -> (0, 1)`.

The map.  With `s = scale > 0`,
    x = 1/2 + arctan(t)/pi,   t = (z - loc)/s                                       (1)
    z = loc + s t,   t = tan(pi (x - 1/2))                                          (2)
    dx/dz = 1/(pi s (1 + t^2))                                                      (3)
    log|dx/dz| = -log(pi s (1 + t^2))                                               (4)
    log|dz/dx| = log(pi s (1 + t^2))    at t of (2)                                 (5)

The reverse rule.  `dt/dz = -dt/dloc = 1/s` and `dt/ds = -t/s`, and the derivative of (4) by `t` is `-2 t/(1 + t^2)`.  With the
cotangent `l_bar` of (4),
    z_bar = (x_bar/pi - 2 l_bar t)/(s (1 + t^2))                                    (6)
    loc_bar = -z_bar                                                                (7)
    s_bar = -t (x_bar/pi - 2 l_bar t)/(s (1 + t^2)) - l_bar/s                       (8)
For the inverse map, `dt/dx = pi (1 + t^2)`, and with the cotangent `l_bar` of (5),
    x_bar = pi (z_bar s (1 + t^2) + 2 l_bar t)                                      (9)
    loc_bar = z_bar                                                                 (10)
    s_bar = z_bar t + l_bar/s                                                       (11)

Source: the definition of the Cauchy distribution.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, positive, real
from ...core.arithmetic import is_normal, quotient, ratio

LOG_PI = math.log(math.pi)


class textbook:
    """(1) to (11) as they are printed, for one event."""

    def forward(z, loc, scale):
        return 1 / 2 + np.arctan((z - loc) / scale) / np.pi                         # (1)

    def inverse(x, loc, scale):
        return loc + scale * np.tan(np.pi * (x - 1 / 2))                            # (2)

    def slope(z, loc, scale):
        t = (z - loc) / scale                                                       # (1)
        return 1 / (np.pi * scale * (1 + t**2))                                     # (3)

    def log_det(z, loc, scale):
        t = (z - loc) / scale                                                       # (1)
        return -np.log(np.pi * scale * (1 + t**2))                                  # (4)

    def inverse_log_det(x, loc, scale):
        t = np.tan(np.pi * (x - 1 / 2))                                             # (2)
        return np.log(np.pi * scale * (1 + t**2))                                   # (5)

    def vjp(z, loc, scale, x_bar, l_bar):
        t = (z - loc) / scale                                                       # (1)
        z_bar = (x_bar / np.pi - 2 * l_bar * t) / (scale * (1 + t**2))              # (6)
        s_bar = -t * (x_bar / np.pi - 2 * l_bar * t) / (scale * (1 + t**2)) - l_bar / scale         # (8)
        return z_bar, {"loc": -z_bar, "scale": s_bar}                               # (7)

    def inverse_vjp(x, loc, scale, z_bar, l_bar):
        t = np.tan(np.pi * (x - 1 / 2))                                             # (2)
        x_bar = np.pi * (z_bar * scale * (1 + t**2) + 2 * l_bar * t)                # (9)
        return x_bar, {"loc": z_bar, "scale": z_bar * t + l_bar / scale}            # (10) (11)


r"""In floating point.

In (1), the terms cancel for a negative `t`, where the answer is nearly `-1/(pi t)`, and `t` may overflow.  `d = z - loc` is finite,
and with `angle(a, b)` the angle from the first axis to the point `(a, b)`,
    x = angle(-d, s)/pi                                                             (12)

In (2), the argument of the tangent is rounded near `-pi/2` and `pi/2`, where the tangent is infinite.  With the distance `m` from
the nearer end, and with `x - 1/2` and `1 - x` where they are exact,
    t = c/(pi b),   b = a/pi,   a = sin(pi m),   m = min(x, 1 - x)                  (13)
    c = sin(pi (x - 1/2))                               for |x - 1/2| <= 1/4        (14)
      = cos(pi m), with the sign of x - 1/2             elsewhere                   (15)
    b = m                                               where (pi m)^2/6 vanishes beside 1      (16)
(16) keeps the digits of a subnormal `x`.  Since `t` may overflow where `z` does not,
    z = loc + s c/pi/b                                                              (17)

In (3) and (4), `t^2` may overflow where the result does not vanish, and logarithms of opposite signs cancel where their sum is near 0:
    dx/dz = s/h/h/pi,   h = hypot(s, d)                                             (18)
    log|dx/dz| = log(s/h/h/pi)                                                      (19)
               = log s - 2 log h - log pi     where that quotient is not a normal number    (20)

In (5), the same holds, and `1 + t^2 = 1/a^2`.  A small `a` may have lost the digits of `x`:
    log|dz/dx| = log(pi (s/a)/a)              for a > 2^-10
               = log((s/b)/b/pi)              elsewhere                             (21)
               = log s - 2 log b - log pi     where that quotient overflows         (22)

In (6) and (8), factors may leave the floats where products and quotients do not, so their exponents are kept apart; and the two
terms of `l_bar` in (8) cancel where `|d|` is near `s`:
    z_bar = (x_bar/pi) s/h^2 - 2 l_bar d/h^2                                        (23)
    s_bar = l_bar (|d| - s) (|d| + s)/(s h^2) - (x_bar/pi) d/h^2                    (24)

In (9) and (11), `a` is 0 and `t` infinite at the ends, which an event may be: a cotangent 0 makes its term 0.  Near them, `t`
may overflow where its product with a cotangent does not:
    x_bar = (z_bar s/(pi b) + 2 l_bar c)/b                                          (25)
    s_bar = (z_bar c/pi)/b + l_bar/s                                                (26)
"""


@bijector(source="definition", domain=real, codomain=interval(0, 1), increasing=True, symmetric=True, textbook=textbook)
class CauchyCDF(Bijector):
    """x = 1/2 + arctan((z - loc)/scale)/pi; its inverse is the quantile function."""

    loc: Array = real(default=0.0)
    scale: Array = positive(default=1.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.arctan2(self.scale, self.loc - z) / np.pi                         # (1) (12)

    def inverse(self, x):
        _, c, b = circle(x)
        return self.loc + self.scale * c / np.pi / b                                # (2) (13) (17)

    def log_det(self, z):
        s, h = self.scale, np.hypot(self.scale, z - self.loc)                       # (18)
        quotient = s / h / h / np.pi                                                # (19)
        far = np.log(s) - 2 * np.log(h) - LOG_PI                                    # (20)
        return np.where(is_normal(quotient), np.log(quotient), far)                 # (4) (19) (20)

    def slope(self, z):
        h = np.hypot(self.scale, z - self.loc)                                      # (18)
        return self.scale / h / h / np.pi                                           # (3) (18)

    def inverse_and_log_det(self, x):
        s, (a, _, b) = self.scale, circle(x)
        quotient = np.where(a > 2**-10, np.pi * (s / a / a), s / b / b / np.pi)     # (21)
        far = np.log(s) - 2 * np.log(b) - LOG_PI                                    # (22)
        return self.inverse(x), np.where(np.isfinite(quotient), np.log(quotient), far)      # (5) (21) (22)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        s, d = self.scale, z - self.loc
        h, size = np.hypot(s, d), np.abs(d)                                         # (18)

        def pullback(x_bar, log_det_bar):
            c = x_bar / np.pi
            z_bar = ratio((c, s), (h, h)) - ratio((2 * log_det_bar, d), (h, h))     # (6) (23)
            s_bar = ratio((log_det_bar, size - s, size + s), (s, h, h)) - ratio((c, d), (h, h))     # (8) (24)
            return z_bar, {"loc": -z_bar, "scale": s_bar}                           # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        s, (_, c, b) = self.scale, circle(x)

        def pullback(z_bar, log_det_bar):
            x_bar = quotient(quotient(z_bar * s / np.pi, b) + 2 * log_det_bar * c, b)       # (9) (25)
            s_bar = quotient(z_bar * c / np.pi, b) + log_det_bar / s                # (11) (26)
            return x_bar, {"loc": z_bar, "scale": s_bar}                            # (10)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("LeftTail", "1/2 and arctan(t)/pi cancel", z=[-1e9, -1e17, -1e300, -2.0**1000], loc=0.0, scale=1.0),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[1e17, 1e150], loc=0.0, scale=1.0),
        case("SquareOverflows", "t^2 overflows, the log-det does not; the slope is subnormal", z=[1.35e154, -2.0**1000], loc=0.0,
             scale=1.0),
        case("Beyond", "t overflows, x does not vanish, nor does the scale's cotangent", z=[2.0**1000, -2.0**1000], loc=0.0,
             scale=1.1 * 2.0**-60),
        case("Tiny", "x rounds to 1/2; the gradient of the log-det is -2 z", z=[1e-17, -1e-160, 5e-324], loc=0.0, scale=1.0),
        case("TinySteep", "d/h is subnormal, d/h^2 is not", z=[5e-324, -3e-320], loc=0.0, scale=1.1 * 2.0**-55),
        case("Turning", "d log-det/ds = (t^2 - 1)/(s (1 + t^2)) cancels", z=[3.0, np.nextafter(3, 4), -3.0], loc=0.0, scale=3.0),
        case("UnitSlope", "log s and log(pi (1 + t^2)) cancel", z=[5.254e-10], loc=0.0, scale=2.0**-60),
        case("Cancelling", "z and loc agree in all digits but the last", z=[np.nextafter(3, 4)], loc=3.0, scale=2.0**-50),
        case("Median", "t is nearly pi (x - 1/2)", x=[0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)], loc=0.0, scale=1.0),
        case("Switch", "(14) and (15) meet", x=[0.25, np.nextafter(0.25, 0), 0.75, np.nextafter(0.75, 1)], loc=0.0, scale=1.0),
        case("UnitSlopeOfInverse", "log s and log(pi (1 + t^2)) cancel", x=[5.254e-10], loc=0.0, scale=2.0**-60),
        case("Ends", "z has few digits of x, or x is subnormal", x=[np.nextafter(1, 0), 1e-300, 2e-309, 5e-324], loc=0.0,
             scale=2.0**-60),
    )


def circle(x):
    """a, c and b of (13)."""
    m = np.minimum(x, 1 - x)
    a = np.sin(np.pi * m)                                                           # (13)
    near = np.abs(x - 0.5) <= 0.25
    c = np.where(near, np.sin(np.pi * (x - 0.5)), np.copysign(np.cos(np.pi * m), x - 0.5))          # (14) (15)
    return a, c, np.where(m < np.sqrt(np.finfo(x.dtype).eps) / 8, m, a / np.pi)     # (13) (16)
