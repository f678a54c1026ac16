r"""A proportion by an angle, `R -> (0, 1)`.

The map.  The angle `phi` is a right angle times the logistic function of `z`, and `x` is the squared cosine of `phi`:
    x = cos(phi)^2,   phi = (pi/2) / (1 + exp(-z))                                  (1)
    z = log(phi / (pi/2 - phi)),   phi = arccos(sqrt(x))                            (2)
    dx/dz = -g sin(2 phi),   g = dphi/dz = phi (1 - 2 phi/pi)                       (3)
    log|dx/dz| = log sin(2 phi) + log phi + log(1 - 2 phi/pi)                       (4)
    log|dz/dx| = -log(2 sqrt(x (1 - x))) - log phi - log(1 - 2 phi/pi)              (5)
`x` falls from 1 to 0.  Applied after this map, `BreakProportions` gives the squared coordinates of a point of a sphere; the angles
`phi` are the point's spherical coordinates.

The reverse rule.  By (3), the derivative `e` of (4) by `z` is
    e = 2 g cot(2 phi) + 1 - 4 phi/pi                                               (6)
and with the cotangent `l_bar` of (4),
    z_bar = -x_bar g sin(2 phi) + l_bar e                                           (7)
For the inverse map, `dz/dx = -1/(g sin(2 phi))`, and with the cotangent `l_bar` of (5),
    x_bar = (l_bar e - z_bar) / (g sin(2 phi))                                      (8)

Source: the transforms of simplexes that Carpenter and others compare, github.com/bob-carpenter/transforms, StickbreakingAngular.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Bijector, bijector, case, interval, real
from ...core.arithmetic import quotient

HALF_PI = math.pi / 2


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def angle(z):
        return np.pi / 2 / (1 + np.exp(-z))                                         # (1)

    def forward(z):
        return np.cos(textbook.angle(z)) ** 2                                       # (1)

    def inverse(x):
        phi = np.arccos(np.sqrt(x))
        return np.log(phi / (np.pi / 2 - phi))                                      # (2)

    def speed(phi):
        return phi * (1 - 2 * phi / np.pi)                                          # (3)

    def slope(z):
        phi = textbook.angle(z)
        return -textbook.speed(phi) * np.sin(2 * phi)                               # (3)

    def log_det(z):
        phi = textbook.angle(z)
        return np.log(np.sin(2 * phi)) + np.log(phi) + np.log(1 - 2 * phi / np.pi)  # (4)

    def inverse_log_det(x):
        phi = np.arccos(np.sqrt(x))                                                 # (2)
        return -np.log(2 * np.sqrt(x * (1 - x))) - np.log(phi) - np.log(1 - 2 * phi / np.pi)        # (5)

    def bend(phi):
        return 2 * textbook.speed(phi) * np.cos(2 * phi) / np.sin(2 * phi) + 1 - 4 * phi / np.pi    # (6)

    def vjp(z, x_bar, l_bar):
        phi = textbook.angle(z)
        return -x_bar * textbook.speed(phi) * np.sin(2 * phi) + l_bar * textbook.bend(phi), {}      # (7)

    def inverse_vjp(x, z_bar, l_bar):
        phi = np.arccos(np.sqrt(x))                                                 # (2)
        return (l_bar * textbook.bend(phi) - z_bar) / (textbook.speed(phi) * np.sin(2 * phi)), {}   # (8)


r"""In floating point.

In (1), `phi` rounds to a right angle for a large `z`, and its cosine loses every digit.  With `a`, the smaller of `phi` and its
complement,
    a = (pi/2) t / (1 + t),   t = exp(-|z|),   T = (1 - t) / (1 + t)                (9)
    x = sin(a)^2  for z > 1,   x = cos(a)^2  for z < -1                             (10)
      = 1/2 - sign(z) sin(pi T/2) / 2    for |z| <= 1                               (11)
(10) would magnify the rounding of `a` near `z = 0`, where (11) has fewer roundings.

In (2), `pi/2 - phi` cancels for a small `x`, and `arccos` for a large one, while `1 - x` is exact for `x >= 1/2`:
    a = arcsin(sqrt(p)),   p = min(x, 1 - x)                                        (12)
    z = w  for x < 1/4,   z = -w  for x > 3/4,   w = log((pi/2 - a) / a)            (13)
      = 2 artanh T,   T = (2/pi) arcsin(1 - 2 x)    for 1/4 <= x <= 3/4             (14)
(13) would have more roundings near `x = 1/2`, where `1 - 2 x` is exact in (14).

In (3) and (7), `1 - 2 phi/pi` cancels where `phi` is near a right angle:
    sin(2 phi) = sin(2 a),   g = (pi/2) t / (1 + t)^2                               (15)
Each factor keeps its digits where the product of both is not 0, and `x_bar` is multiplied by one after the other.  Near `z = 0`,
fewer roundings matter in
    dx/dz = -(pi/8) cos(pi T/2) (1 - T^2)               for |z| <= 5/4              (16)

In (4), `a` may underflow where its logarithm is far from the ends of the floats, and the terms of (17) cancel near `z = 0`:
    log|dx/dz| = log((pi^2/2) S / (1 + t)^3) - 2|z|,   S = sin(2 a) / (2 a)         for |z| >  5/4          (17)
               = the logarithm of (16) without its sign                             for |z| <= 5/4          (18)

In (5), the product of all factors may underflow.  No term is negative in
    log|dz/dx| = -log((4/pi) sqrt(p) sqrt(1 - p) (pi/2 - a)) - log a                for x < 1/4 and x > 3/4         (19)
               = minus (18), at T of (14)                                           for 1/4 <= x <= 3/4     (20)

In (6), `g cot(2 phi)` is the product of 0 and an infinite number at the ends, and `1 - 4 phi/pi` cancels near `z = 0`.  With
`E = 1 - t` and `T = E / (1 + t)`,
    l_bar e = -sign(z) l_bar E R / (1 + t),   R = 1 + sin(pi T/2) / (T (1 + t) S)   (21)
where `E` may be subnormal although its product with `l_bar` is not.

In (8), `e` is computed from `x`, again without a product of 0 and an infinite number.  It still cancels near `x = 1/2`, but loses
no more there than a rounding of `x` does.  `g sin(2 phi)` may be subnormal where its factors are not:
    e = sign(x - 1/2) ((1 - 2 a/pi) (1 - 2 p) / S + 1 - 4 a/pi)                     (22)
    g = a (1 - 2 a/pi),   sin(2 phi) = 2 sqrt(p) sqrt(1 - p)                        (23)
"""


@bijector(source="bob-carpenter/transforms, StickbreakingAngular", domain=real, codomain=interval(0, 1), textbook=textbook)
class AngularProportion(Bijector):
    """x = cos(pi/2 / (1 + exp(-z)))^2, from R to (0, 1), decreasing."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z):
        sine, cosine = (m.sin(m.pi / 2 / (1 + m.exp(w))) for w in (-z, z))
        return 1 / (1 + (sine / cosine) ** 2)                                       # (1)

    @staticmethod
    def inverse_definition(m, x):
        phi = m.acos(m.sqrt(x))
        return m.log(phi / (m.pi / 2 - phi))                                        # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        t, T = parts(z)
        a = smaller_angle(t)
        far = np.where(z > 0, np.sin(a), np.cos(a)) ** 2                            # (1) (10)
        return np.where(np.abs(z) <= 1, 0.5 - np.copysign(np.sin(HALF_PI * T), z) / 2, far)            # (1) (11)

    def inverse(self, x):
        a = smaller_angle_of(x)
        w = np.copysign(np.log((HALF_PI - a) / a), 0.5 - x)                         # (2) (13)
        return np.where(is_middle(x), 2 * np.arctanh(middle(x)), w)                 # (2) (14)

    def log_det(self, z):
        t, T = parts(z)
        near = np.log(slope_near_0(T))                                              # (4) (18)
        far = np.log(math.pi**2 / 2 * sine_over_angle(smaller_angle(t)) / (1 + t) ** 3) - 2 * np.abs(z)     # (4) (17)
        return np.where(np.abs(z) <= 1.25, near, far)

    def slope(self, z):
        _, T = parts(z)
        sine, g = sine_and_speed(z)
        return -np.where(np.abs(z) <= 1.25, slope_near_0(T), sine * g)              # (3) (15) (16)

    def inverse_and_log_det(self, x):
        p, a = np.minimum(x, 1 - x), smaller_angle_of(x)                            # (12)
        far = -np.log(4 / math.pi * np.sqrt(p) * np.sqrt(1 - p) * (HALF_PI - a)) - np.log(a)        # (5) (19)
        return self.inverse(x), np.where(is_middle(x), -np.log(slope_near_0(middle(x))), far)       # (5) (20)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        t, T = parts(z)
        sine, g = sine_and_speed(z)
        ratio = HALF_PI * np.sinc(T / 2)                                            # sin(pi T/2) / T
        R = 1 + ratio / ((1 + t) * sine_over_angle(smaller_angle(t)))               # (21)

        def pullback(x_bar, log_det_bar):
            bend = log_det_bar * np.copysign(np.expm1(-np.abs(z)), -z) * R / (1 + t)         # (6) (21)
            return bend - x_bar * sine * g, {}                                      # (7) (15)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        p, a = np.minimum(x, 1 - x), smaller_angle_of(x)                            # (12)
        rest = 1 - 2 * a / math.pi
        e = np.copysign(rest * (1 - 2 * p) / sine_over_angle(a) + 1 - 4 * a / math.pi, x - 0.5)     # (6) (22)
        sine, g = 2 * np.sqrt(p) * np.sqrt(1 - p), a * rest                         # (23)

        def pullback(z_bar, log_det_bar):
            return quotient(quotient(log_det_bar * e - z_bar, sine), g), {}         # (8) (23)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Centre", "the gradient of the log-det passes through 0: (6) returns a few units of rounding",
             z=[0.0, 5e-324, 1e-160, -1e-9, 1e-17]),
        case("Saturated", "phi rounds to a right angle, x and the slope keep their digits in (10) and (15)", z=[37.0, 40.0, 300.0]),
        case("SaturatedBelow", "x rounds to 1, and the slope does not round to 0", z=[-19.0, -37.0, -300.0]),
        case("Switch", "(10) and (11) meet at 1, (15) and (16), (17) and (18) at 5/4", z=[end for number in (-1.25, -1.0, 1.0, 1.25) for end in
             (np.nextafter(number, -2), number, np.nextafter(number, 2))]),
        case("Subnormal", "x and the slope are subnormal, their factors are not", z=[354.0, 371.0, 372.5, -360.0, -372.0]),
        case("Underflow", "t is subnormal or 0, the log-det is -2|z| + log(pi^2/2)", z=[720.0, 745.0, 746.0, -746.0]),
        case("Beyond", "x is 0 or 1, the log-det is still -2|z|", z=[2.0**1000, -2.0**1000]),
        case("Half", "z cancels to a few units of rounding", x=[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)]),
        case("SwitchOfInverse", "(13) and (14) meet, (19) and (20)", x=[end for number in (0.25, 0.75) for end in
             (np.nextafter(number, 0), number, np.nextafter(number, 1))]),
        case("Ends", "the first and the last floats between 0 and 1", x=[5e-324, 1e-310, np.nextafter(1, 0)]),
    )


def parts(z):
    """t and T."""
    size = np.abs(z)
    t = np.exp(-size)
    return t, -np.expm1(-size) / (1 + t)                                            # (9)


def smaller_angle(t):
    """a, from t."""
    return HALF_PI * t / (1 + t)                                                    # (9)


def smaller_angle_of(x):
    """a, from x."""
    return np.arcsin(np.sqrt(np.minimum(x, 1 - x)))                                 # (12)


def is_middle(x):
    return np.abs(x - 0.5) <= 0.25                                                  # (14)


def middle(x):
    """T, from x."""
    return np.arcsin(1 - 2 * x) / HALF_PI                                           # (14)


def sine_over_angle(a):
    """S; 1 for a = 0."""
    return np.sinc(2 * a / math.pi)                                                 # (17)


def slope_near_0(T):
    """-dx/dz."""
    return math.pi / 8 * np.cos(HALF_PI * T) * (1 - T * T)                          # (16)


def sine_and_speed(z):
    """sin(2 a) and g, from z."""
    t = np.exp(-np.abs(z))
    return np.sin(2 * smaller_angle(t)), HALF_PI * t / (1 + t) ** 2                 # (15)
