r"""Box-Cox transform, `(0, inf)` -> the numbers with `1 + c x > 0`.

The map.  With `c = power`, which may be 0 or negative,
    x = (z^c - 1)/c,       log z  for c = 0                                         (1)
    z = (1 + c x)^(1/c),   exp x  for c = 0                                         (2)
    dx/dz = z^(c - 1)                                                               (3)
    log|dx/dz| = (c - 1) log z                                                      (4)
    log|dz/dx| = (1/c - 1) log(1 + c x),   x  for c = 0                             (5)

The reverse rule.  `dx/dc = (z^c log z - x)/c`.  With the cotangent `l_bar` of (4),
    z_bar = (x_bar z^c + l_bar (c - 1))/z                                           (6)
    c_bar = x_bar (z^c log z - x)/c + l_bar log z                                   (7)
For the inverse map, let `t = log z = log(1 + c x)/c`, so that `dt/dx = 1/(1 + c x)` and `dt/dc = (x/(1 + c x) - t)/c`; (5) is
`(1 - c) t`.  With the cotangent `l_bar` of (5),
    x_bar = (z_bar z + l_bar (1 - c))/(1 + c x)                                     (8)
    c_bar = z_bar z dt/dc + l_bar ((1 - c) dt/dc - t)                               (9)

Source: Box & Cox, Journal of the Royal Statistical Society B 26 (1964); its inverse, for `c >= 0`, is TensorFlow
Probability's `PowerTransform`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real
from ...core.arithmetic import exact_product, is_normal, quotient, times
from ...core.arrays import doubled, rounded
from ...core.sets import intervals

TERMS = 37                                                                          # (19)
LESS_1 = [1 / math.factorial(j + 1) for j in range(20)]                             # (16)
POWERS = [(j + 1) / math.factorial(j + 2) for j in range(20)]                       # (23)


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def forward(z, power):
        return (z**power - 1) / power                                               # (1)

    def inverse(x, power):
        return (1 + power * x) ** (1 / power)                                       # (2)

    def slope(z, power):
        return z ** (power - 1)                                                     # (3)

    def log_det(z, power):
        return (power - 1) * np.log(z)                                              # (4)

    def inverse_log_det(x, power):
        return (1 / power - 1) * np.log(1 + power * x)                              # (5)

    def vjp(z, power, x_bar, l_bar):
        c, x = power, textbook.forward(z, power)
        z_bar = (x_bar * z**c + l_bar * (c - 1)) / z                                # (6)
        return z_bar, {"power": x_bar * (z**c * np.log(z) - x) / c + l_bar * np.log(z)}     # (7)

    def inverse_vjp(x, power, z_bar, l_bar):
        c, z, t = power, textbook.inverse(x, power), np.log(1 + power * x) / power
        t_c = (x / (1 + c * x) - t) / c
        x_bar = (z_bar * z + l_bar * (1 - c)) / (1 + c * x)                         # (8)
        return x_bar, {"power": z_bar * z * t_c + l_bar * ((1 - c) * t_c - t)}      # (9)


r"""In floating point.

In (2) and (5), `1 + c x` rounds to 1 for a small `c`, where all digits of `x` are lost, and `c x` may overflow where its logarithm
does not.  With `p = c x`, `U = 1 + c x`,
    z = exp t,   log|dz/dx| = (1 - c) t                                             (10)
    t = x                              for |p| < u/2, of which c = 0 is a case      (11)
      = log1p(p)/c                     elsewhere                                    (12)
      = log(U)/c                       for p < -1/2, where U may vanish             (13)
      = (log|c| + log|x|)/c            where p overflows                            (14)
In (13), `U = (1 + p) + r`, where `r` is the rounding error of the product `c x`, found without error.  The end `-1/c` is rounded,
too; `U` is 0 there.

In (1), `z^c - 1` cancels for a small `c`, and overflows for a large one:
    x = expm1(w)/c,   w = c log z                                                   (15)
      = log z sum_(j >= 0) f_j w^j   for |w| <= 1,      (h/c) h,  h = exp(w/2)    where `exp w` overflows           (16)
where `f_j` is 1 over the factorial of `j + 1`: a rounding of `w` hardly moves the sum.  The sum to `w^19` leaves out less than `10^-19`.

In (8), `z` or `U` may overflow where their quotient does not:
    z/U = (g/U) g,   g = exp(t/2),       (g/c)/x g    where p overflows             (17)
    x/U = 1/c                                         where p overflows             (18)

In (9), the terms of `dt/dc` cancel for a small `p`.  With `s = p/(2 + p)`, so that `log(1 + p) = 2 artanh s`,
    dt/dc = -x^2 psi,   psi = 2 (1/(1 + s) + s (1/3 + s^2/5 + s^4/7 + ...))/(2 + p)^2    for -1/2 <= p <= 3         (19)
    (1 - c) dt/dc - t = dt/dc - x/U = -x (x psi + 1/U)     in float64, for float32 too              (20)
`x^2` may underflow where its product does not, so each `x` is a factor on its own.  The sum to `s^72` leaves out less than
`10^-17` of it.

In (6), both terms, each divided by `z`, may overflow next to 0, with opposite signs, so their sum is divided.  Elsewhere `z^c` or
its product with `x_bar` may leave the floats:
    z_bar = (x_bar s) s + l_bar (c - 1)/z,   s = h/sqrt(z)    where exp(w) or x_bar exp(w) is not a normal number    (21)
          = ((x_bar h + l_bar (c - 1)/h)/z) h         likewise, for c < 0 and w > 0     (22)

In (7), the terms cancel for a small `w`, and `z^c` overflows where its product does not:
    dx/dc = (log z)^2 sum_(j >= 0) e_j w^j            for |w| <= 1                  (23)
          = h ((log z + expm1(-w)/c)/c) h                  for w > 1                (24)
where `e_j` is `j + 1` over the factorial of `j + 2`.  The sum to `w^19` leaves out less than `10^-19`.

At the ends `x = -1/c` and `z = 0`, a factor 0, `1 - c` or a cotangent, makes its term 0.  Of two infinite terms, the term of
`l_bar` is larger for `c > 0`, and the other one for `c < 0`; in (7) also for `c = 0`.                      (25)

In (3), (6) and (8), `c - 1` is exact where it is small, and for `c >= 1/2` a rounding of its product with `log z` matters less than
a rounding of `c log z`; for a smaller `c`, `z^c` is nearer 1 than `z^(c - 1)`.  For `c <= 2`, a rounding of `t` moves
`exp((1 - c) t)` no more than `g g`:
    dx/dz = exp((c - 1) log z)   for c >= 1/2,   z/U = exp((1 - c) t)   for 1/2 <= c <= 2,   where they are normal numbers    (26)
          = exp(w)/z             elsewhere, where `exp w` is a normal number        (27)
With `c`, the two terms of (8) may move in opposite directions.  Then a rounding of `c` hardly moves their sum, but their own
roundings do not cancel:
    x_bar    in float64, for float32 too                                            (28)
"""


@bijector(source="Box & Cox 1964", domain=positive, increasing=True, textbook=textbook)
class BoxCox(Bijector):
    """x = (z^power - 1)/power, and log z for power = 0, from (0, inf) to the numbers with 1 + power x > 0."""

    power: Array = real(default=0.0)
    event_ndim = (0, 0)

    @property
    def codomain(self):
        with np.errstate(all="ignore"):
            end = -1 / self.power
        lower, upper = np.where(self.power > 0, end, -np.inf), np.where(self.power < 0, end, np.inf)
        if np.size(end) == 1:
            return intervals(lower, upper)
        drawn = intervals(np.where(self.power == 0, 0, lower), upper)               # a line has no end to draw from
        return replace(intervals(lower, upper), make=drawn.make, anchor=0.0, biject_to=drawn.biject_to)

    @staticmethod
    def definition(m, z, power):
        c, L = power, m.log(z)                      # at c = 0, the terms that give all derivatives asked for there
        return L + c * L * L / 2 + c * c * L * L * L / 6 if c == 0 else m.expm1(c * L) / c          # (1)

    @staticmethod
    def inverse_definition(m, x, power):
        c, near = power, x - power * x * x / 2 + power * power * x * x * x / 3
        return m.exp(near if c == 0 else m.log1p(c * x) / c)                        # (2) (12)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return power_less_1(np.log(z), self.power)                                  # (1) (15)

    def inverse(self, x):
        return np.exp(letters(x, self.power).t)                                     # (2) (10)

    def log_det(self, z):
        return product_with(self.power - 1, np.log(z))                              # (4)

    def slope(self, z):
        L, c = np.log(z), self.power
        power, s = np.exp(product_with(c, L)), np.exp(product_with(c, L) / 2) / np.sqrt(z)          # (21)
        below = np.where(is_normal(power), power / z, s * s)                        # (21) (27)
        return np.where((c >= 0.5) | (z == 0), np.exp(product_with(c - 1, L)), below)       # (3) (25) (26)

    def inverse_and_log_det(self, x):
        t = letters(x, self.power).t
        return np.exp(t), product_with(1 - self.power, t)                           # (2) (5) (10)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        c, L = self.power, np.log(z)
        w = product_with(c, L)                                                      # (15)
        h = np.exp(w / 2)                                                           # (16)
        s, slope = h / np.sqrt(z), np.exp(product_with(c - 1, L))                   # (21) (26)
        direct = (c >= 0.5) & is_normal(slope)                                      # (26)

        def pullback(x_bar, l_bar):
            bend, joint = l_bar * (c - 1), x_bar * h * h + l_bar * (c - 1)
            through_x = np.where(direct | (z == 0), times(x_bar, slope), times(x_bar, s, s))        # (21) (25) (26)
            apart = larger(z == 0, c > 0, quotient(bend, z), through_x)             # (21) (25)
            nested = np.where(x_bar == 0, quotient(bend, z), (times(x_bar, h) + bend / h) / z * h)  # (22)
            beyond = np.where((c < 0) & (w > 0) & (z > 0), nested, apart)           # (21) (22)
            fits = is_normal(np.exp(w)) & np.isfinite(joint) & ((x_bar == 0) | is_normal(np.abs(x_bar * h * h)))
            z_bar = np.where(fits & ~(direct & np.isfinite(apart)), quotient(joint, z), beyond)     # (6) (21) (26)
            c_bar = larger(z == 0, c > 0, times(l_bar, L), times_x_c(x_bar, L, c))  # (7) (25)
            return z_bar, {"power": c_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        (f, wide), dtype = doubled(self, x), x.dtype                                # (20) (28)
        c, v = f.power, letters(wide, f.power)

        def pullback(z_bar, l_bar):
            z_bar, l_bar = doubled(z_bar, l_bar)                                    # (20) (28)
            bend = l_bar * (1 - c)
            through_z, through_l = times_quotient(z_bar, v), quotient(bend, v.U)
            through_l = np.where(np.isinf(v.p), bend / c / v.x, through_l)          # (8) (17)
            x_bar = larger(v.U == 0, c > 0, through_l, through_z)                   # (8) (25)
            c_bar = larger(v.U == 0, c > 0, times_bend(l_bar, v), times_t_c(z_bar, v))      # (9) (20) (25)
            return rounded((x_bar, {"power": c_bar}), dtype)                        # (28)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Small", "1 + c x rounds to 1: x is lost", x=[0.5, -3.0, 1e-300, 700.0], z=[0.5, 3.0, 1e-300, 1.0], power=2.0**-60),
        case("SmallNegative", "the same below 0", x=[0.5, -3.0, -700.0], z=[0.5, 3.0, 1e-300], power=-2.0**-60),
        case("Exponential", "c = 0", x=[5e-324, -2.0, 1.0, 700.0, -2.0**1000], z=[0.0, 5e-324, 1.0, 1e300], power=0.0),
        case("Line", "c = 1: the log-det is 0", x=[-1.0, -0.5, 5e-324, 2.0**1000], z=[0.0, 1.0, 1e-300], power=1.0),
        case("Root", "c = 2: the slope is 0 at the end", x=[-0.5, -0.49999999999999994, 1.0], z=[0.0, 1.0], power=2.0),
        case("Square", "c = 1/2: the slope is infinite at the end", x=[-2.0, -1.9999999999999998, 1.0], z=[0.0, 1.0], power=0.5),
        case("Reciprocal", "c = -1: z grows without bound at x = 1", x=[1.0, 0.9999999999999999, -1.0, -2.0**1000],
             z=[0.0, 5e-324, 1.0, 1e300], power=-1.0),
        case("NearEnd", "c x rounds to -1", x=[-0.3333333333333333, -0.33333333333333326], power=3.0),
        case("SteepEnd", "c = 8: the inverse has an infinite slope at the end", x=[-0.125], z=[0.0], power=8.0),
        case("RoundedEnd", "-1/c is rounded, and still the end", x=[-1 / 7.97], z=[0.0], power=7.97),
        case("BentEnd", "1 < c < 2: the slope of the inverse is infinite at a rounded end", x=[-0.8], z=[0.0], power=1.25),
        case("RoundedUpperEnd", "the same for c < 0", x=[1 / 0.3], z=[0.0], power=-0.3),
        case("SteepUpperEnd", "-1 < c < 0: the inverse is infinite, its slope too", x=[128.0], power=-2.0**-7),
        case("LogarithmEnd", "c = 0: the slope is infinite at 0, for several cotangents", z=[0.0, 0.0, 0.0], power=0.0),
        case("SmallUpperEnd", "c < -1: the end is next to 0", x=[2.0**-45], z=[0.0], power=-2.0**45),
        case("ProductOverflows", "c x overflows, z does not", x=[2.0**1000], z=[2.0**0.5], power=2.0**60),
        case("PowerOverflows", "z^c overflows, x does not", z=[1.0000000000000007], power=2.0**60),
        case("SumOverflows", "z^c fits, x_bar z^c does not, and z_bar fits again", z=[2.0**200, 2.0**25], power=5.1175),
        case("NegativePowerOverflows", "z^c overflows for c < 0, z_bar does not", z=[0.9993230119701173, 0.9999150634],
             power=-2.0**20),
        case("SlopeOnly", "z overflows, z/U does not", x=[2.0**600], power=0.5),
        case("Middle", "the forms of (19) meet, and of (13)", x=[3.0, np.nextafter(3, 4), -0.5, np.nextafter(-0.5, -1)],
             power=1.0),
        case("NearlyTurning", "the two terms of (20) cancel", x=[-3.2887458252648942], power=-0.30406728069946076),
        case("MiddleOfInverse", "the forms of (23) meet", z=[math.e, 1 / math.e, 2.718281828459045, 2.7182818284590455], power=1.0),
        case("OppositeOverflow", "two terms of (6) overflow with opposite signs", z=[5e-324], power=2.0**-9),
        case("Turning", "d log-det/dc passes through 0", x=[-2.0, np.nextafter(-2, 0)], power=0.0),
    )


class Letters(NamedTuple):
    """What (10) to (18) name; A = x/U."""

    x: Array
    c: Array
    p: Array
    U: Array
    t: Array
    A: Array


def letters(x, c):
    p = c * x
    U = np.where(p < -0.5, one_plus_product(c, x), 1 + p)                           # (13)
    logarithm = np.where(p < -0.5, np.log(U), np.where(np.isinf(p), np.log(np.abs(c)) + np.log(np.abs(x)), np.log1p(p)))   # (12) (13) (14)
    t = np.where(np.abs(p) < np.finfo(p.dtype).eps / 4, x, logarithm / c)           # (11) (12)
    return Letters(x, c, p, U, t, np.where(np.isinf(p), 1 / c, x / U))              # (18)


def one_plus_product(c, x):
    """1 + c x for c x near -1, with one rounding; 0 at the end of the domain."""
    (m, e), (n, k) = np.frexp(c), np.frexp(x)                                       # (13)
    product, rest = (np.ldexp(part, np.minimum(e + k, 2)) for part in exact_product(m, n))      # (13)
    return np.where(x == -1 / c, 0, (1 + product) + rest)                           # (13)


def product_with(factor, logarithm):
    """The product, 0 where the factor is 0, even if the logarithm is infinite."""
    return np.where(factor == 0, 0, factor * logarithm)                             # (25)


def power_less_1(L, c):
    """(z^c - 1)/c from L = log z."""
    w = product_with(c, L)
    h, less_1 = np.exp(w / 2), np.expm1(w)                                          # (15) (16)
    inside = np.where(np.isinf(less_1), h / c * h, less_1 / c)                      # (15) (16)
    return np.where(np.abs(w) <= 1, L * power_series(LESS_1, w), inside)                   # (16)


def power_series(coefficients, w):
    """The sum of coefficients times powers of w, for |w| <= 1."""
    near, found = np.clip(w, -1, 1), 0
    for coefficient in reversed(coefficients):
        found = found * near + coefficient                                          # (16) (23)
    return found


def times_quotient(bar, v):
    """bar z/U."""
    g, whole = np.exp(v.t / 2), np.exp(product_with(1 - v.c, v.t))
    inside = np.where(bar == 0, 0, np.where(np.isinf(v.p), bar * g / v.c / v.x, bar * g / v.U) * g)         # (8) (17)
    direct = (v.U == 0) | (v.c >= 0.5) & (v.c <= 2) & is_normal(whole)
    return np.where(direct, times(bar, whole), inside)                              # (25) (26)


def is_middle(p):
    return (p >= -0.5) & (p <= 3)                                                   # (19)


def psi(p):
    p = np.where(is_middle(p), p, 0)
    s, total = p / (2 + p), 0
    for n in reversed(range(TERMS)):
        total = total * s * s + 1 / (2 * n + 3)
    return 2 * (1 / (1 + s) + s * total) / ((2 + p) * (2 + p))                      # (19)


def t_c(v):
    """dt/dc outside the middle."""
    return np.where(v.U == 0, v.A, v.A - v.t) / v.c                                 # (9) (25)


def times_t_c(z_bar, v):
    """z_bar z dt/dc."""
    g = np.exp(v.t / 2)
    middle = -(z_bar * g * v.x) * (v.x * g) * psi(v.p)                              # (19)
    inside = np.where((z_bar == 0) | (g == 0), 0, np.where(is_middle(v.p), middle, z_bar * g * t_c(v) * g))         # (25)
    return np.where((v.U == 0) & (v.c > 0), times_quotient(z_bar, v) * v.x / v.c, inside)      # (25)


def times_bend(l_bar, v):
    """l_bar ((1 - c) dt/dc - t)."""
    end = np.where(v.c == 1, -v.t, (1 - v.c) * v.A / v.c)
    inside = np.where(is_middle(v.p), -v.x * (v.x * psi(v.p) + 1 / v.U), t_c(v) - v.A)              # (20)
    return times(l_bar, np.where(v.U == 0, end, inside))                            # (25)


def times_x_c(x_bar, L, c):
    """x_bar dx/dc, from L = log z."""
    w = product_with(c, L)
    h = np.exp(w / 2)
    below = np.where(h == 0, 0, L * h * h) - power_less_1(L, c)                     # (7) (25)
    far = np.where(w > 1, times(x_bar, h, (L + np.expm1(-w) / c) / c, h), x_bar * below / c)        # (7) (24)
    return np.where(np.abs(w) <= 1, times(x_bar, L, power_series(POWERS, w), L), far)          # (23)


def larger(end, first_is, first, second):
    """The sum of two terms; at an end the larger one alone, the first where it is so marked, if it is not 0."""
    outweighed_first, outweighed_second = end & ~first_is & (second != 0), end & first_is & (first != 0)
    return np.where(outweighed_first, 0, first) + np.where(outweighed_second, 0, second)    # (25)
