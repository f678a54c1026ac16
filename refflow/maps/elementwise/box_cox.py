r"""Inverse of the Box-Cox transform, numbers with `1 + c z > 0` -> `(0, inf)`.

The map.  With `c = power`, which may be 0 or negative,
    x = (1 + c z)^(1/c),   exp z  for c = 0                                         (1)
    z = (x^c - 1)/c,       log x  for c = 0                                         (2)
    dx/dz = (1 + c z)^(1/c - 1)                                                     (3)
    log|dx/dz| = (1/c - 1) log(1 + c z),   z  for c = 0                             (4)
    log|dz/dx| = (c - 1) log x                                                      (5)

The reverse rule.  Let `t = log x = log(1 + c z)/c`, so that `dt/dz = 1/(1 + c z)` and `dt/dc = (z/(1 + c z) - t)/c`, and the
log-det (4) is `(1 - c) t`.  With the cotangent `l_bar` of (4),
    z_bar = (x_bar x + l_bar (1 - c))/(1 + c z)                                     (6)
    c_bar = x_bar x dt/dc + l_bar ((1 - c) dt/dc - t)                               (7)
For the inverse map, `dz/dx = x^(c - 1)`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar x^c + l_bar (c - 1))/x                                           (8)
    c_bar = z_bar (x^c log x - z)/c + l_bar log x                                   (9)

In floating point.  No equation changes here, only the form in which it is computed; at the ends, limits are taken.

In (1) and (4), `1 + c z` rounds to 1 for a small `c`, where all digits of `z` are lost, and `c z` may overflow where its logarithm
does not.  With `p = c z`, `U = 1 + c z`,
    x = exp t,   log|dx/dz| = (1 - c) t                                             (10)
    t = z                              for |p| < u/2, of which c = 0 is a case      (11)
      = log1p(p)/c                     elsewhere                                    (12)
      = log(U)/c                       for p < -1/2, where U may vanish             (13)
      = (log|c| + log|z|)/c            where p overflows                            (14)
In (13), `U = (1 + p) + r` with the rounding error `r` of the product, found without error.  At the end `-1/c`, which is rounded
itself, `U` is 0.

In (2), `x^c - 1` cancels for a small `c`, and overflows for a large one:
    z = expm1(w)/c,   w = c log x                                                   (15)
      = log x      for |w| < u/2,       (h/c) h,  h = exp(w/2)    where `exp w` overflows           (16)

In (3) and (6), `x` may overflow, or `U`, where the quotient does not:
    x/U = (g/U) g,   g = exp(t/2),       (g/c)/z g    where p overflows             (17)
    z/U = 1/c                                         where p overflows             (18)

In (7), the terms of `dt/dc` cancel for a small `p`.  With `s = p/(2 + p)`, whence `log(1 + p) = 2 artanh s`,
    dt/dc = -z^2 psi,   psi = 2 (1/(1 + s) + s (1/3 + s^2/5 + s^4/7 + ...))/(2 + p)^2    for -1/2 <= p <= 1         (19)
    (1 - c) dt/dc - t = dt/dc - z/U                                                 (20)
The factors of `z^2` may underflow apart.  The sum to `s^32` leaves out less than `10^-17`.

In (8), both terms may overflow next to 0, with opposite signs; but `x^c` may leave the floats:
    x_bar = (z_bar h/x) h + l_bar (c - 1)/x           where `exp w` is not a normal number          (21)
          = ((z_bar h + l_bar (c - 1)/h)/x) h         likewise, for c < 0 and w > 0     (22)

In (9), the terms cancel for a small `w`, and `x^c` overflows where its product does not:
    dz/dc = (log x)^2 sum_(j >= 0) e_j w^j            for |w| <= 1                  (23)
          = h ((log x + expm1(-w)/c)/c) h                  for w > 1                (24)
where `e_j` is `j + 1` over the factorial of `j + 2`.  The sum to `w^19` leaves out less than `10^-19`.

At the ends `z = -1/c` and `x = 0`, a factor 0 makes a term 0: `1 - c`, a cotangent.  Of two infinite terms, the one of `l_bar` is
larger for `c > 0`, the other one for `c < 0`, in the inverse also for `c = 0` in (9).                                     (25)

Source: Box & Cox, Journal of the Royal Statistical Society B 26 (1964); TensorFlow Probability's `PowerTransform`, for `c >= 0`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real
from ...core.arithmetic import exact_product, quotient, times
from ...core.sets import intervals
from .weibull_cdf import is_normal

POWERS = [(j + 1) / math.factorial(j + 2) for j in range(20)]                       # (23)


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def t(z, power):
        return np.log(1 + power * z) / power

    def forward(z, power):
        return (1 + power * z) ** (1 / power)                                       # (1)

    def inverse(x, power):
        return (x**power - 1) / power                                               # (2)

    def slope(z, power):
        return (1 + power * z) ** (1 / power - 1)                                   # (3)

    def log_det(z, power):
        return (1 / power - 1) * np.log(1 + power * z)                              # (4)

    def inverse_log_det(x, power):
        return (power - 1) * np.log(x)                                              # (5)

    def vjp(z, power, x_bar, l_bar):
        c, t, x = power, textbook.t(z, power), textbook.forward(z, power)
        t_c = (z / (1 + c * z) - t) / c
        z_bar = (x_bar * x + l_bar * (1 - c)) / (1 + c * z)                         # (6)
        return z_bar, {"power": x_bar * x * t_c + l_bar * ((1 - c) * t_c - t)}      # (7)

    def inverse_vjp(x, power, z_bar, l_bar):
        c, z = power, textbook.inverse(x, power)
        x_bar = (z_bar * x**c + l_bar * (c - 1)) / x                                # (8)
        return x_bar, {"power": z_bar * (x**c * np.log(x) - z) / c + l_bar * np.log(x)}     # (9)


@bijector(source="Box & Cox 1964", codomain=positive, increasing=True, textbook=textbook, register=False)
class BoxCox(Bijector):
    """x = (1 + power z)^(1/power), and exp z for power = 0, from the numbers with 1 + power z > 0 to (0, inf)."""

    power: Array = real(default=0.0)
    event_ndim = (0, 0)

    @property
    def domain(self):
        with np.errstate(all="ignore"):
            end = -1 / self.power
        lower, upper = np.where(self.power > 0, end, -np.inf), np.where(self.power < 0, end, np.inf)
        if np.size(end) == 1:
            return intervals(lower, upper)
        drawn = intervals(np.where(self.power == 0, 0, lower), upper)               # a line has no end to draw from
        return replace(intervals(lower, upper), make=drawn.make, anchor=0.0, biject_to=drawn.biject_to)

    @staticmethod
    def definition(m, z, power):
        c, near = power, z - power * z * z / 2 + power * power * z * z * z / 3      # near c = 0: only its derivatives at 0 are used
        return m.exp(near if c == 0 else m.log1p(c * z) / c)                        # (1)

    @staticmethod
    def inverse_definition(m, x, power):
        c, L = power, m.log(x)
        return L + c * L * L / 2 + c * c * L * L * L / 6 if c == 0 else m.expm1(c * L) / c      # (2) (15)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.exp(letters(z, self.power).t)                                     # (1) (10)

    def inverse(self, x):
        return power_less_1(np.log(x), self.power)                                  # (2) (15)

    def log_det(self, z):
        return product_with(1 - self.power, letters(z, self.power).t)               # (4) (10)

    def slope(self, z):
        return times_slope(np.ones_like(z * self.power), letters(z, self.power))    # (3) (17)

    def forward_and_log_det(self, z):
        t = letters(z, self.power).t
        return np.exp(t), product_with(1 - self.power, t)                           # (1) (4) (10)

    def inverse_and_log_det(self, x):
        L, c = np.log(x), self.power
        return power_less_1(L, c), product_with(c - 1, L)                           # (2) (5) (15)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        c, v = self.power, letters(z, self.power)

        def pullback(x_bar, l_bar):
            bend = l_bar * (1 - c)
            through_x, through_l = times_slope(x_bar, v), quotient(bend, v.U)
            through_l = np.where(np.isinf(v.p), bend / c / z, through_l)            # (6) (17)
            z_bar = larger(v.U == 0, c > 0, through_l, through_x)                   # (6) (25)
            c_bar = larger(v.U == 0, c > 0, times_bend(l_bar, v), times_t_c(x_bar, v))      # (7) (20) (25)
            return z_bar, {"power": c_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        c, L = self.power, np.log(x)
        w = product_with(c, L)                                                      # (15)
        h = np.exp(w / 2)                                                           # (16)

        def pullback(z_bar, l_bar):
            bend = l_bar * (c - 1)
            through_z = np.where(x == 0, times(z_bar, np.exp(product_with(c - 1, L))), times(z_bar, h / x, h))      # (21) (25)
            apart = larger(x == 0, c > 0, quotient(bend, x), through_z)             # (21) (25)
            nested = np.where(z_bar == 0, quotient(bend, x), (times(z_bar, h) + bend / h) / x * h)  # (22)
            beyond = np.where((c < 0) & (w > 0) & (x > 0), nested, apart)           # (21) (22)
            x_bar = np.where(is_normal(np.exp(w)), quotient(z_bar * h * h + bend, x), beyond)       # (8) (21)
            c_bar = larger(x == 0, c > 0, times(l_bar, L), times_z_c(z_bar, L, c))  # (9) (25)
            return x_bar, {"power": c_bar}

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Small", "1 + c z rounds to 1: z is lost", z=[0.5, -3.0, 1e-300, 700.0], x=[0.5, 3.0, 1e-300, 1.0], power=2.0**-60),
        case("SmallNegative", "the same below 0", z=[0.5, -3.0, -700.0], x=[0.5, 3.0, 1e-300], power=-2.0**-60),
        case("Exponential", "c = 0", z=[5e-324, -2.0, 1.0, 700.0, -2.0**1000], x=[0.0, 5e-324, 1.0, 1e300], power=0.0),
        case("Line", "c = 1: the log-det is 0", z=[-1.0, -0.5, 5e-324, 2.0**1000], x=[0.0, 1.0, 1e-300], power=1.0),
        case("Root", "c = 2: the slope is infinite at the end", z=[-0.5, -0.49999999999999994, 1.0], x=[0.0, 1.0], power=2.0),
        case("Square", "c = 1/2: the slope is 0 at the end", z=[-2.0, -1.9999999999999998, 1.0], x=[0.0, 1.0], power=0.5),
        case("Reciprocal", "c = -1: x grows without bound at z = 1", z=[1.0, 0.9999999999999999, -1.0, -2.0**1000],
             x=[0.0, 5e-324, 1.0, 1e300], power=-1.0),
        case("NearEnd", "c z rounds to -1", z=[-0.3333333333333333, -0.33333333333333326], power=3.0),
        case("ProductOverflows", "c z overflows, x does not", z=[2.0**1000], x=[2.0**0.5], power=2.0**60),
        case("PowerOverflows", "x^c overflows, z does not", x=[1.0000000000000007], power=2.0**60),
        case("SlopeOnly", "x overflows, dx/dz does not", z=[2.0**600], power=0.5),
        case("Middle", "the forms of (19) meet, and of (13)", z=[1.0, np.nextafter(1, 2), -0.5, np.nextafter(-0.5, -1)],
             power=1.0),
        case("MiddleOfInverse", "the forms of (23) meet", x=[math.e, 1 / math.e, 2.718281828459045, 2.7182818284590455], power=1.0),
        case("OppositeOverflow", "two terms of (8) overflow with opposite signs", x=[5e-324], power=2.0**-9),
        case("Turning", "d log-det/dc passes through 0", z=[-2.0, np.nextafter(-2, 0)], power=0.0),
    )


class Letters(NamedTuple):
    """What (10) to (18) name; A = z/U."""

    z: Array
    c: Array
    p: Array
    U: Array
    t: Array
    A: Array


def letters(z, c):
    p = c * z
    U = np.where(p < -0.5, one_plus_product(c, z), 1 + p)                           # (13)
    logarithm = np.where(p < -0.5, np.log(U), np.where(np.isinf(p), np.log(np.abs(c)) + np.log(np.abs(z)), np.log1p(p)))   # (12) (13) (14)
    t = np.where(np.abs(p) < np.finfo(p.dtype).eps / 4, z, logarithm / c)           # (11) (12)
    return Letters(z, c, p, U, t, np.where(np.isinf(p), 1 / c, z / U))              # (18)


def one_plus_product(c, z):
    """1 + c z for c z near -1, with one rounding; 0 at the end of the domain."""
    (m, e), (n, k) = np.frexp(c), np.frexp(z)
    product, rest = (np.ldexp(part, np.minimum(e + k, 2)) for part in exact_product(m, n))
    U = (1 + product) + rest
    return np.where((U < 0) & (U > -np.finfo(U.dtype).eps), 0, U)                   # (13)


def product_with(factor, logarithm):
    """The product, 0 where the factor is 0, even if the logarithm is infinite."""
    return np.where(factor == 0, 0, factor * logarithm)                             # (25)


def power_less_1(L, c):
    """(x^c - 1)/c from L = log x."""
    w = product_with(c, L)
    h, less_1 = np.exp(w / 2), np.expm1(w)                                          # (15) (16)
    inside = np.where(np.isinf(less_1), h / c * h, less_1 / c)                      # (15) (16)
    return np.where(np.abs(w) < np.finfo(w.dtype).eps / 4, L, inside)               # (16)


def times_slope(bar, v):
    """bar dx/dz."""
    g, end = np.exp(v.t / 2), np.exp(product_with(1 - v.c, v.t))
    inside = np.where(bar == 0, 0, np.where(np.isinf(v.p), bar * g / v.c / v.z, bar * g / v.U) * g)         # (3) (17)
    return np.where(v.U == 0, times(bar, end), inside)                              # (25)


def is_middle(p):
    return (p >= -0.5) & (p <= 1)                                                   # (19)


def psi(p):
    p = np.where(is_middle(p), p, 0)
    s, total = p / (2 + p), 0
    for n in range(16, -1, -1):
        total = total * s * s + 1 / (2 * n + 3)
    return 2 * (1 / (1 + s) + s * total) / ((2 + p) * (2 + p))                      # (19)


def t_c(v):
    """dt/dc."""
    return np.where(is_middle(v.p), -v.z * v.z * psi(v.p), np.where(v.U == 0, v.A, v.A - v.t) / v.c)        # (19) (25)


def times_t_c(x_bar, v):
    """x_bar x dt/dc."""
    g = np.exp(v.t / 2)
    middle = -(x_bar * g * v.z) * (v.z * g) * psi(v.p)                              # (19)
    inside = np.where((x_bar == 0) | (g == 0), 0, np.where(is_middle(v.p), middle, x_bar * g * t_c(v) * g))         # (25)
    return np.where((v.U == 0) & (v.c > 0), times_slope(x_bar, v) * v.z / v.c, inside)      # (25)


def times_bend(l_bar, v):
    """l_bar ((1 - c) dt/dc - t)."""
    end = np.where(v.c == 1, -v.t, (1 - v.c) * v.A / v.c)
    return times(l_bar, np.where(v.U == 0, end, t_c(v) - v.A))                      # (20) (25)


def times_z_c(z_bar, L, c):
    """z_bar dz/dc of the inverse map, from L = log x."""
    w = product_with(c, L)
    h, near, total = np.exp(w / 2), np.clip(w, -1, 1), 0
    for coefficient in reversed(POWERS):
        total = total * near + coefficient                                          # (23)
    below = np.where(h == 0, 0, L * h * h) - power_less_1(L, c)                     # (9) (25)
    far = np.where(w > 1, times(z_bar, h, (L + np.expm1(-w) / c) / c, h), z_bar * below / c)        # (9) (24)
    return np.where(np.abs(w) <= 1, times(z_bar, L, total, L), far)                 # (23)


def larger(end, first_is, first, second):
    """The sum of two terms; at an end the larger one alone, the first where it is so marked, if it is not 0."""
    outweighed_first, outweighed_second = end & ~first_is & (second != 0), end & first_is & (first != 0)
    return np.where(outweighed_first, 0, first) + np.where(outweighed_second, 0, second)    # (25)
