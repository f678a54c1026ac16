r"""Standard Cauchy cumulative distribution function, `R -> (0, 1)`.

The map.  For every real `z`,
    x = 1/2 + arctan(z)/pi                                                          (1)
    z = tan(pi (x - 1/2))                                                           (2)
    dx/dz = 1/(pi (1 + z^2))                                                        (3)
    log|dx/dz| = -log(pi (1 + z^2))                                                 (4)
    log|dz/dx| = log(pi (1 + z^2))    at z of (2)                                   (5)

The reverse rule.  The derivative of (4) is `-2 z/(1 + z^2)`, so with the cotangent `l_bar` of (4),
    z_bar = (x_bar/pi - 2 l_bar z)/(1 + z^2)                                        (6)
For the inverse map, `dz/dx = pi (1 + z^2)`, and with the cotangent `l_bar` of (5),
    x_bar = pi (z_bar (1 + z^2) + 2 l_bar z)                                        (7)

In floating point.  No equation changes here, only the form in which it is computed; at the ends, limits are taken.

In (1), the terms cancel for a negative `z`, where the answer is nearly `-1/(pi z)`.  With the angle of the point `(-z, 1)`,
    x = angle(-z, 1)/pi                                                             (8)

In (2), the argument of the tangent is rounded near `-pi/2` and `pi/2`, where the tangent is infinite.  With the distance `m` from
the nearer end, and with `x - 1/2` and `1 - x` where they are exact,
    z = c/(pi t),   t = s/pi,   s = sin(pi m),   m = min(x, 1 - x)                  (9)
    c = sin(pi (x - 1/2))                               for |x - 1/2| <= 1/4        (10)
      = cos(pi m), with the sign of x - 1/2             elsewhere                   (11)
    t = m                                               where (pi m)^2/6 vanishes beside 1      (12)
(12) keeps the digits of a subnormal `x`.

In (3) and (4), `z^2` may overflow where the result does not vanish:
    dx/dz = r r/pi    for |z| > 1,   log|dx/dz| = -log pi + 2 log r,   r = 1/h,   h = hypot(1, z)       (13)

In (5), the same holds, and `1 + z^2 = 1/s^2`.  A small `s` may have lost the digits of `x`:
    log|dz/dx| = log pi - 2 log s    for s > 2^-10
               = -log pi - 2 log t   elsewhere                                      (14)

In (6) and (7), `1 + z^2` may overflow where its product or quotient with a cotangent does not, and `s = 0` at the ends, which an
event may be: a cotangent 0 makes its term 0.
    z_bar = (x_bar/pi r) r - 2 l_bar (z r) r                                        (15)
    x_bar = (z_bar/(pi t) + 2 l_bar c)/t                                            (16)

Source: the definition of the Cauchy distribution.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Bijector, bijector, case, interval, real
from ...core.arithmetic import quotient

LOG_PI = math.log(math.pi)


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return 1 / 2 + np.arctan(z) / np.pi                                         # (1)

    def inverse(x):
        return np.tan(np.pi * (x - 1 / 2))                                          # (2)

    def slope(z):
        return 1 / (np.pi * (1 + z**2))                                             # (3)

    def log_det(z):
        return -np.log(np.pi * (1 + z**2))                                          # (4)

    def inverse_log_det(x):
        return np.log(np.pi * (1 + textbook.inverse(x) ** 2))                       # (5)

    def vjp(z, x_bar, l_bar):
        return (x_bar / np.pi - 2 * l_bar * z) / (1 + z**2), {}                     # (6)

    def inverse_vjp(x, z_bar, l_bar):
        z = textbook.inverse(x)                                                     # (2)
        return np.pi * (z_bar * (1 + z**2) + 2 * l_bar * z), {}                     # (7)


@bijector(source="definition", domain=real, codomain=interval(0, 1), increasing=True, textbook=textbook)
class CauchyCDF(Bijector):
    """x = 1/2 + arctan(z)/pi, from R to (0, 1)."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z):
        return m.mpf(1) / 2 + m.atan(z) / m.pi                                      # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.arctan2(1, -z) / np.pi                                            # (1) (8)

    def inverse(self, x):
        _, c, t = circle(x)
        return c / np.pi / t                                                        # (2) (9)

    def log_det(self, z):
        return -LOG_PI - 2 * np.log(np.hypot(1, z))                                 # (4) (13)

    def slope(self, z):
        r = 1 / np.hypot(1, z)                                                      # (13)
        return np.where(np.abs(z) <= 1, 1 / (np.pi * (1 + z * z)), r * r / np.pi)   # (3) (13)

    def inverse_and_log_det(self, x):
        s, _, t = circle(x)
        return self.inverse(x), np.where(s > 2**-10, LOG_PI - 2 * np.log(s), -LOG_PI - 2 * np.log(t))       # (5) (14)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        r = 1 / np.hypot(1, z)                                                      # (13)

        def pullback(x_bar, log_det_bar):
            return x_bar / np.pi * r * r - 2 * log_det_bar * (z * r) * r, {}        # (6) (15)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        _, c, t = circle(x)

        def pullback(z_bar, log_det_bar):
            return quotient(quotient(z_bar / np.pi, t) + 2 * log_det_bar * c, t), {}        # (7) (16)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("LeftTail", "1/2 and arctan(z)/pi cancel", z=[-1e9, -1e17, -1e300, -2.0**1000]),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[1e17, 1e150]),
        case("SquareOverflows", "z^2 overflows, the log-det does not; the slope is subnormal", z=[1.35e154, -2.0**1000]),
        case("Tiny", "x rounds to 1/2; the gradient of the log-det is -2 z", z=[1e-17, -1e-160, 5e-324]),
        case("Median", "z is nearly pi (x - 1/2)", x=[0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)]),
        case("Switch", "(10) and (11) meet", x=[0.25, np.nextafter(0.25, 0), 0.75, np.nextafter(0.75, 1)]),
        case("Ends", "z has few digits of x, or x is subnormal", x=[np.nextafter(1, 0), 1e-300, 2e-309, 5e-324]),
    )


def circle(x):
    """s, c and t of (9)."""
    m = np.minimum(x, 1 - x)
    s = np.sin(np.pi * m)                                                           # (9)
    near = np.abs(x - 0.5) <= 0.25
    c = np.where(near, np.sin(np.pi * (x - 0.5)), np.copysign(np.cos(np.pi * m), x - 0.5))          # (10) (11)
    return s, c, np.where(m < np.sqrt(np.finfo(x.dtype).eps) / 8, m, s / np.pi)     # (9) (12)
