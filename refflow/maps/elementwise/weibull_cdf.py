r"""Weibull cumulative distribution function, `(0, inf) -> (0, 1)`.

With `s = scale > 0` and `k = concentration > 0`:
    L = log(z/s),   w = k L,   y = exp(w) = (z/s)^k                                 (1)
    x = 1 - exp(-y) = -expm1(-y)                                                    (2)
    z = s exp(M) = s e^2,   M = log(y)/k,   e = exp(M/2),   y = -log(1 - x)         (3)
    dx/dz = (k/c) exp(p - y),   log|dx/dz| = log(k/c) + p - y                       (4)
    where  y/z = exp(p)/c   with  c = z,  p = w            for k <  1/2
                            and   c = s,  p = (k - 1) L    for k >= 1/2             (5)

Each row of (5) is used where `|p| <= |w|`: the unit of error contains the rounding of `w`, because a rounding of `k` changes
`w` by as much. The other row loses digits: for a small `k`, `log(k/s)` and `-L` cancel where the answer is
`log(k/z)`. All logarithms are logarithms of quotients.  A difference of logarithms would lose the digits of the larger one;
it is used only where it cannot lose any, because the other is much smaller. Near `a = b` the rounding of the quotient, times
`k`, may be a large number in an exponent, while the difference of `a` and `b` is exact:
    log(a/b) = log a - log b                  where a/b is not a normal number      (6)
             = log1p((a - b)/b)               for 1/2 <= a/b <= 2                   (7)
The log-det is computed in float64, for float32 too, and rounded once: three of its terms may cancel.

`exp(p - y)` may be subnormal, and `y` infinite, before it meets the factor that makes it a normal number again. A product
`(a b) b` keeps its digits as long as it does not underflow, so half of each exponent goes into each `b`:
    dx/dz = k g^2,          g = exp((p - y)/2)/sqrt(c)                              (8)
          = k (exp(p - y)/c)   where these two are normal numbers: fewer roundings
    y/z = v^2,              v = exp(p/2)/sqrt(c)                                    (9)
    y exp(-y) = h i,        h = i = exp((w - y)/2)                                  (10)
              = h,          h = exp(w - y),   i = 1     where it is a normal number
    y - 1 = expm1(w/2) (1 + exp(w/2))                                               (11)

From the other side `log y/k` is an exponent, so that for a small `k`, `log y` needs its digits where it passes through 0, at
`x = x_0 = 1 - 1/exp(1)`. There `1 - x = exp(-1) (1 - exp(1) (x - x_0))`, hence
    log y = log1p(-log1p(-exp(1) (x - x_0)))                   for |x - x_0| < 1/8  (12)
with `x_0` in two parts; `x` minus the first part is exact. With `dz/dy = z/(k y)` and `-log(1 - x) = y`,
    dz/dx = (s/k) r^2/(1 - x),   r = e/sqrt(y)                                      (13)
    log|dz/dx| = log((s/k)/y) + M + y                                               (14)
               = log(s/k) + (1/k - 1) log x   at x = 0,   inf   at x = 1            (15)
(14) is undefined at the ends; the limits (15) are used there. In (5) and (15) `0 log 0 = 0`.

Reverse rule, from (2), `dy/dz = k y/z, dy/ds = -k y/s, dy/dk = y L`, and from (4), `l = log_det`:
    z_bar = x_bar k g^2 + l_bar ((k - 1)/z - k v^2)                                 (16)
          = (x_bar k h i + l_bar (k - 1 - k y))/z              for k < 1/2, z < s   (17)
    s_bar = -x_bar (k/s) h i + l_bar (k/s) (y - 1)                                  (18)
    k_bar = x_bar L h i + l_bar/k - l_bar L (y - 1)                                 (19)
(17) is (16) with one division: at the smallest `z` both terms of (16) overflow, possibly with opposite signs, where their
sum may not. Its `h i` cannot underflow, as `w > -400` (-60 in float32) there.

For the inverse map, with `P = z_bar s/k` and `Q = l_bar (1 - k)/k`, from (3), (14) and `dM/dk = -M/k`:
    x_bar = (P r^2 + Q/y + l_bar)/(1 - x)                      for k <  2           (20)
          = ((P e^2 + Q)/y + l_bar)/(1 - x)                    for k >= 2           (21)
    s_bar = z_bar e^2 + l_bar/s                                                     (22)
    k_bar = -P e^2 M - l_bar (1 + M)/k                                              (23)
(20) and (21) are one expression: `e^2` underflows only for `k < 2`, `P r^2` and `Q/y` both overflow only for `k > 2`.

At the ends `z = 0, x = 0` and `x = 1`, which events may be, all values are limits.  A factor 0 makes a term 0: `k - 1` for
`k = 1`, even times `1/z` or `1/y`; `h` or `e`, even times their logarithms; a cotangent.  Of two infinite terms, the one of
`log_det_bar` in (16) and `Q/y` in (20) outweigh the other at 0, and the one of `P` in (23) at `x = 1`.  There `1/(1 - x)`
outweighs all powers of `y`.                                                                                (24)
    r^2 = y^(1/k - 1) = 1 for k = 1                            at both ends         (25)

Source: Weibull, Journal of Applied Mechanics 18 (1951).
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from ...core import Array, Bijector, bijector, case, interval, positive
from ...core.arithmetic import quotient, times
from ...core.arrays import doubled

X_0, X_0_REST = 1 - 1 / math.e, 1.2428753672788363e-17


def is_normal(a):
    """Marks of the positive numbers that are finite and not subnormal."""
    return (a >= np.finfo(a.dtype).tiny) & np.isfinite(a)


def log_quotient(a, b):
    """log(a/b) for a, b > 0, also where a/b overflows or is subnormal."""
    quotient = a / b
    near = (quotient >= 0.5) & (quotient <= 2)
    far = np.where(is_normal(quotient), np.log(quotient), np.log(a) - np.log(b))                 # (6)
    return np.where(near, np.log1p((a - b) / b), far)                               # (7)


def log_minus_log1m(x):
    """log(-log(1 - x)) for 0 <= x <= 1."""
    x_0 = x.dtype.type(X_0)
    d = (x - x_0) - x.dtype.type((X_0 - float(x_0)) + X_0_REST)
    near = np.log1p(-np.log1p(-math.e * d))                                         # (12)
    return np.where(np.abs(d) < 0.125, near, np.log(-np.log1p(-x)))                 # (3)


@bijector(source="Weibull 1951", domain=interval(0, np.inf), codomain=interval(0, 1), increasing=True)
class WeibullCDF(Bijector):
    """x = 1 - exp(-(z/scale)^concentration)."""

    scale: Array = positive(default=1.0)
    concentration: Array = positive(default=1.0)
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, scale, concentration):
        return -m.expm1(-m.power(z / scale, concentration))                         # (1) (2)

    def powers(self, z):
        """L, w, y of (1)."""
        L = log_quotient(z, self.scale)
        w = self.concentration * L
        return L, w, np.exp(w)                                                      # (1)

    def row(self, z, L, w):
        """c, p of (5)."""
        k = self.concentration
        power = np.where(k == 1, 0, (k - 1) * L)
        small = (k < 0.5) & (z > 0)
        return np.where(small, z, self.scale), np.where(small, w, power)            # (5)

    def forward(self, z):
        _, _, y = self.powers(z)
        return -np.expm1(-y)                                                        # (2)

    def inverse(self, x):
        e = np.exp(log_minus_log1m(x) / self.concentration / 2)
        return self.scale * e * e                                                   # (3)

    def log_det(self, z):
        f, wide = doubled(self, z)
        L, w, y = f.powers(wide)
        c, p = f.row(wide, L, w)
        return (log_quotient(f.concentration, c) + p - y).astype(z.dtype)           # (4)

    def slope(self, z):
        L, w, y = self.powers(z)
        c, p = self.row(z, L, w)
        exponential, g = np.exp(p - y), np.exp((p - y) / 2) / np.sqrt(c)
        quotient = exponential / c
        normal, k = is_normal(exponential) & is_normal(quotient), self.concentration
        return np.where(normal, k * quotient, k * g * g)                            # (8)

    def inverse_and_log_det(self, x):
        s, k = self.scale, self.concentration
        y = -np.log1p(-x)
        M = log_minus_log1m(x) / k
        inside = log_quotient(s / k, y) + M + y                                     # (14)
        ends = np.where(x > 0, np.inf, np.log(s / k) + scipy.special.xlogy((1 - k) / k, x))     # (15)
        return self.inverse(x), np.where((x > 0) & (x < 1), inside, ends)

    def vjp(self, z):
        s, k = self.scale, self.concentration
        L, w, y = self.powers(z)
        c, p = self.row(z, L, w)
        g = np.exp((p - y) / 2) / np.sqrt(c)                                        # (8)
        v = np.exp(p / 2) / np.sqrt(c)                                              # (9)
        decay, half = np.exp(w - y), np.exp((w - y) / 2)                            # (10)
        h, i = np.where(is_normal(decay), decay, half), np.where(is_normal(decay), 1, half)     # (10)
        minus, plus = np.expm1(w / 2), 1 + np.exp(w / 2)                            # (11)

        def pullback(x_bar, log_det_bar):
            bend = log_det_bar * (k - 1)
            through_x = np.where((z == 0) & (bend != 0), 0, times(x_bar * k, g, g))     # (16) (24)
            apart = through_x + (quotient(bend, z) - times(log_det_bar * k, v, v))  # (16)
            joint = (x_bar * k * h * i + log_det_bar * (k - 1 - k * y)) / z         # (17)
            z_bar = np.where((k < 0.5) & (z > 0) & (z < s), joint, apart)
            s_bar = times(log_det_bar * k / s, minus, plus) - x_bar * k / s * h * i     # (18)
            turning = np.where(log_det_bar == 0, 0, times(log_det_bar * L, minus, plus))
            k_bar = np.where(h == 0, 0, x_bar * L * h * i) + log_det_bar / k - turning  # (19) (24)
            return z_bar, {"scale": s_bar, "concentration": k_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        s, k = self.scale, self.concentration
        y = -np.log1p(-x)
        M = log_minus_log1m(x) / k
        e = np.exp(M / 2)                                                           # (3)
        end = (x == 0) | (x == 1)
        r = np.where(end, np.where(k == 1, 1, np.exp((1 / k - 1) * np.log(y) / 2)), e / np.sqrt(y))     # (13) (25)
        e_M = np.where(e == 0, 0, e * M)                                            # (24)

        def pullback(z_bar, log_det_bar):
            P, Q = z_bar * s / k, log_det_bar * (1 - k) / k
            apart = np.where((x == 0) & (Q != 0), 0, times(P, r, r)) + quotient(Q, y)   # (20) (24)
            joint = (P * e * e + Q) / y                                             # (21)
            slope = np.where((k < 2) | end, apart, joint) + log_det_bar
            x_bar = quotient(np.where((x == 1) & (slope == 0), P, slope), 1 - x)    # (20) (21) (24)
            s_bar = times(z_bar, e, e) + log_det_bar / s                            # (22)
            outweighed = (log_det_bar == 0) | (x == 1) & (P != 0)
            through_M = np.where(outweighed, 0, log_det_bar * M)                    # (24)
            k_bar = -times(P, e, e_M) - (log_det_bar + through_M) / k               # (23)
            return x_bar, {"scale": s_bar, "concentration": k_bar}

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("FirstUlp", "next to z = s the rounding of z/s, times k, is an exponent of 50", z=[0.9626097172744076],
             scale=0.9626097172744082, concentration=2.0**58),
        case("FirstUlpOfLog", "next to 1 - 1/exp(1) the rounding of log y, divided by k, is an exponent of 50",
             x=[np.nextafter(X_0, 0), X_0, np.nextafter(X_0, 1)], scale=1.0, concentration=2.0**-60),
        case("SmallPower", "log(k/s) and (k - 1) log(z/s) cancel: the log-det is log(k/z) + w - y", z=[2.0**-60, 2.0**-1000],
             scale=1.0, concentration=2.0**-60),
        case("Exponential", "k = 1: the slope is exp(-z/s)/s down to the smallest z, and at z = 0",
             z=[0.0, 5e-324, 1e-300, 1.0, 700.0], x=[0.0, 1.0], scale=3.0, concentration=1.0),
        case("SteepEnd", "the slope of the inverse is 0 at x = 0", x=[0.0], scale=0.5, concentration=0.875),
        case("RowsMeet", "the rows of (5) meet", z=[1e-200, 1e200], scale=2.0, concentration=0.5),
        case("RowsMeetBelow", "the rows of (5) meet", z=[1e-200, 1e200], scale=2.0, concentration=np.nextafter(0.5, 0)),
        case("QuotientOverflows", "z/s overflows, (z/s)^k does not", z=[2.0**1000], scale=2.0**-60, concentration=2.0**-9),
        case("PowerUnderflows", "exp(w) is subnormal, its product with k/z is not", z=[7.844431592917801e-141],
             scale=3.094679173739448e-17, concentration=3.602161159497376),
        case("QuotientUnderflows", "z/s and k/z leave the floats, (z/s)^k does not", z=[5e-324], scale=2.0**60,
             concentration=2.0**-9),
        case("PowerOverflows", "y and exp(w/2) overflow, the log-det's gradient l k y/z does not",
             z=[2.0**1000], scale=2.0**-60, concentration=1.9325),
        case("OppositeOverflow", "the two terms of (16) overflow with opposite signs, their sum with one", z=[5e-324],
             scale=1.0, concentration=2.0**-9),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[40.0, 700.0, 740.0], scale=1.0,
             concentration=1.0),
        case("Turning", "y = 1: d log-det/ds passes through 0", z=[np.nextafter(3, 2), 3.0, np.nextafter(3, 4)], scale=3.0,
             concentration=2.0),
        case("Tails", "x next to its ends: y is subnormal or 36.7", x=[5e-324, 1e-310, 1e-30, np.nextafter(1, 0)],
             scale=2.0**60, concentration=2.0**-3),
        case("TailsSteep", "the two terms of (20) overflow with opposite signs", x=[5e-324, 1e-300, np.nextafter(1, 0)],
             scale=2.0**60, concentration=2.0**10),
    )
