r"""Half-Cauchy cumulative distribution function, `(0, inf) -> (0, 1)`.

The map.  With `s = scale > 0`,
    x = 2 arctan(t)/pi,   t = z/s                                                   (1)
    z = s t,   t = tan(pi x/2)                                                      (2)
    dx/dz = 2/(pi s (1 + t^2))                                                      (3)
    log|dx/dz| = -log(pi s (1 + t^2)/2)                                             (4)
    log|dz/dx| = log(pi s (1 + t^2)/2)    at t of (2)                               (5)

The reverse rule.  `dt/dz = 1/s` and `dt/ds = -t/s`, and the derivative of (4) by `t` is `-2 t/(1 + t^2)`.  With the cotangent
`l_bar` of (4),
    z_bar = 2 (x_bar/pi - l_bar t)/(s (1 + t^2))                                    (6)
    s_bar = -2 t (x_bar/pi - l_bar t)/(s (1 + t^2)) - l_bar/s                       (7)
For the inverse map, `dt/dx = pi (1 + t^2)/2`, and with the cotangent `l_bar` of (5),
    x_bar = pi (z_bar s (1 + t^2)/2 + l_bar t)                                      (8)
    s_bar = z_bar t + l_bar/s                                                       (9)

Source: the definition of the half-Cauchy distribution.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, positive
from ...core.arithmetic import is_normal, quotient, ratio
from ...core.bijector import complemented

HALF_PI = math.pi / 2
LOG_HALF_PI = math.log(HALF_PI)


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def forward(z, scale):
        return 2 * np.arctan(z / scale) / np.pi                                     # (1)

    def inverse(x, scale):
        return scale * np.tan(np.pi * x / 2)                                        # (2)

    def slope(z, scale):
        t = z / scale                                                               # (1)
        return 2 / (np.pi * scale * (1 + t**2))                                     # (3)

    def log_det(z, scale):
        t = z / scale                                                               # (1)
        return -np.log(np.pi * scale * (1 + t**2) / 2)                              # (4)

    def inverse_log_det(x, scale):
        t = np.tan(np.pi * x / 2)                                                   # (2)
        return np.log(np.pi * scale * (1 + t**2) / 2)                               # (5)

    def vjp(z, scale, x_bar, l_bar):
        t = z / scale                                                               # (1)
        z_bar = 2 * (x_bar / np.pi - l_bar * t) / (scale * (1 + t**2))              # (6)
        s_bar = -2 * t * (x_bar / np.pi - l_bar * t) / (scale * (1 + t**2)) - l_bar / scale         # (7)
        return z_bar, {"scale": s_bar}

    def inverse_vjp(x, scale, z_bar, l_bar):
        t = np.tan(np.pi * x / 2)                                                   # (2)
        x_bar = np.pi * (z_bar * scale * (1 + t**2) / 2 + l_bar * t)                # (8)
        s_bar = z_bar * t + l_bar / scale                                           # (9)
        return x_bar, {"scale": s_bar}


r"""In floating point.

In (1), `t` may overflow, or be subnormal, where `x` is not.  With `angle(a, b)` the angle from the first axis to the
point `(a, b)`,
    x = 2 angle(s, z)/pi                                                            (10)

In (2), the argument of the tangent is rounded near `pi/2`, where the tangent is infinite.  With the distance `m` from the nearer
end, and with `1 - x` where it is exact,
    t = b pi/2        for x <= 1/2                                                  (11)
      = 1/(b pi/2)    for x >  1/2                                                  (12)
    b = tan(pi m/2) 2/pi,   m = min(x, 1 - x)                                       (13)
      = m             where (pi m)^2/12 vanishes beside 1                           (14)
(14) keeps the digits of a subnormal `x`.

In (3) and (4), `t^2` may overflow where the result does not vanish, and logarithms of opposite signs cancel where their sum is near 0:
    dx/dz = 2 s/h/h/pi,   h = hypot(s, z)                                           (15)
    log|dx/dz| = log(2 s/h/h/pi)                                                    (16)
               = log s - 2 log h - log(pi/2)     where that quotient is not a normal number     (17)

In (5), the same holds, and `1 + t^2 = 1/k^2`:
    log|dz/dx| = log((s/k)/k pi/2),   k = cos(pi x/2)                               (18)
               = log s - 2 log k + log(pi/2)     where that quotient overflows      (19)
    k = cos(pi m/2)    for x <= 1/2,   k = sin(pi m/2)    for x > 1/2               (20)

In (6) and (7), factors may leave the floats where products and quotients do not, so their exponents are kept apart; and the two
terms of `l_bar` in (7) cancel where `z` is near `s`:
    z_bar = 2 (x_bar/pi) s/h^2 - 2 l_bar z/h^2                                      (21)
    s_bar = l_bar (z - s) (z + s)/(s h^2) - 2 (x_bar/pi) z/h^2                      (22)

In (8) and (9), `k` and `b` are 0 at `x = 1`, which an event may be: a cotangent 0 makes its term 0.  A subnormal `b` is multiplied
last, and for `x > 1/2` both terms, which may be infinite, have one denominator:
    x_bar = (z_bar s pi/2/k)/k + l_bar pi^2/2 b           for x <= 1/2
          = (z_bar s pi/2/k + l_bar pi cos(pi m/2))/k     for x >  1/2              (23)

In (1), `x` rounds to 1 where `1 - x` still has all its digits:
    q = 1 - x = 2 angle(z, s)/pi,   m = min(q, 1 - q),   q_bar = -x_bar             (24)
With `m` from (24), and `q >= 1/2` for `x <= 1/2`, (11) to (23) hold as they stand, and `log|dz/dq| = log|dz/dx|`.
"""


@bijector(source="definition", domain=interval(0, np.inf), codomain=interval(0, 1), increasing=True,
          two_sided=True, textbook=textbook)
class HalfCauchyCDF(Bijector):
    """x = 2 arctan(z/scale)/pi; its inverse is the quantile function."""

    scale: Array = positive(default=1.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.arctan2(z, self.scale) / HALF_PI                                  # (1) (10)

    def complement(self, z):
        return np.arctan2(self.scale, z) / HALF_PI                                  # (24)

    def inverse(self, x):
        return self.quantile(*letters_of_x(x))

    def quantile(self, low, m):
        b, _ = circle(low, m)
        return np.where(low, self.scale * HALF_PI * b, self.scale / HALF_PI / b)       # (2) (11) (12)

    def log_det(self, z):
        s, h = self.scale, np.hypot(self.scale, z)                                  # (15)
        quotient = s / h / h / HALF_PI                                              # (16)
        far = np.log(s) - 2 * np.log(h) - LOG_HALF_PI                               # (17)
        return np.where(is_normal(quotient), np.log(quotient), far)                 # (4) (16) (17)

    def slope(self, z):
        h = np.hypot(self.scale, z)                                                 # (15)
        return self.scale / h / h / HALF_PI                                         # (3) (15)

    def inverse_and_log_det(self, x):
        return self.quantile_and_log_det(*letters_of_x(x))

    def inverse_and_log_det_of_complement(self, q):
        return self.quantile_and_log_det(*letters_of_q(q))

    def quantile_and_log_det(self, low, m):
        s, (_, k) = self.scale, circle(low, m)
        quotient = s / k / k * HALF_PI                                              # (18)
        far = np.log(s) - 2 * np.log(k) + LOG_HALF_PI                               # (19)
        return self.quantile(low, m), np.where(np.isfinite(quotient), np.log(quotient), far)      # (5) (18) (19)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        s, h = self.scale, np.hypot(self.scale, z)                                  # (15)

        def pullback(x_bar, log_det_bar):
            c = x_bar / HALF_PI
            z_bar = ratio((c, s), (h, h)) - ratio((2 * log_det_bar, z), (h, h))     # (6) (21)
            s_bar = ratio((log_det_bar, z - s, z + s), (s, h, h)) - ratio((c, z), (h, h))   # (7) (22)
            return z_bar, {"scale": s_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        return self.quantile_vjp(*letters_of_x(x))

    def inverse_vjp_of_complement(self, q):
        return complemented(*self.quantile_vjp(*letters_of_q(q)))

    def quantile_vjp(self, low, m):
        s, (b, k), c = self.scale, circle(low, m), np.cos(HALF_PI * m)              # (23)

        def pullback(z_bar, log_det_bar):
            first, bend = quotient(z_bar * s * HALF_PI, k), log_det_bar * np.pi     # (23)
            x_bar = np.where(low, first / k + bend * HALF_PI * b, quotient(first + bend * c, k))    # (8) (23)
            s_bar = np.where(low, z_bar * HALF_PI * b, quotient(z_bar / HALF_PI, b))   # (9) (11) (12)
            return x_bar, {"scale": s_bar + log_det_bar / s}                        # (9)

        return self.quantile_and_log_det(low, m), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Ends", "z is 0 or subnormal; x has few digits of 1 - x", z=[0.0, 5e-324, 1e-310, 1e-300],
             x=[0.0, 5e-324, 2e-309, np.nextafter(1, 0), 1.0], scale=1.0),
        case("TinySteep", "x is normal where z is not", z=[5e-324, 3e-320], scale=1.1 * 2.0**-55),
        case("TinyFlat", "z/s underflows", z=[5e-324, 1e-300], x=[5e-324, 1e-300], scale=2.0**60),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[1e17, 1e150], scale=1.0),
        case("SquareOverflows", "t^2 overflows, the log-det does not; the slope is subnormal", z=[1.35e154, 2.0**1000], scale=1.0),
        case("Beyond", "t overflows, the scale's cotangent does not vanish", z=[2.0**1000], scale=1.1 * 2.0**-60),
        case("Turning", "d log-det/ds = (t^2 - 1)/(s (1 + t^2)) cancels", z=[np.nextafter(3, 2), 3.0, np.nextafter(3, 4)], scale=3.0),
        case("UnitSlope", "log s and log(pi (1 + t^2)/2) cancel", z=[7.43e-10], scale=2.0**-60),
        case("UnitSlopeOfInverse", "log s and log(pi (1 + t^2)/2) cancel", x=[1 - 2.0**-30], scale=2.0**-60),
        case("Switch", "(11) and (12) meet", x=[0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)], scale=1.0),
    )


def letters_of_x(x):
    """Whether x <= 1/2, and m."""
    return x <= 0.5, np.minimum(x, 1 - x)                                           # (13)


def letters_of_q(q):
    """The same of q = 1 - x."""
    return q >= 0.5, np.minimum(q, 1 - q)                                           # (24)


def circle(low, m):
    """b, k."""
    b = np.where(m < np.sqrt(np.finfo(m.dtype).eps) / 8, m, np.tan(HALF_PI * m) / HALF_PI)          # (13) (14)
    return b, np.where(low, np.cos(HALF_PI * m), np.sin(HALF_PI * m))          # (20)
