r"""Weibull cumulative distribution function, `(0, inf) -> (0, 1)`.

The map.  With `s = scale > 0` and `k = concentration > 0`,
    x = 1 - exp(-y),   y = (z/s)^k                                                  (1)
    z = s y^(1/k),   y = -log(1 - x)                                                (2)
    dx/dz = (k/s) (z/s)^(k - 1) exp(-y)                                             (3)
    log|dx/dz| = log(k/s) + (k - 1) log(z/s) - y                                    (4)
    log|dz/dx| = log(s/k) + (1/k - 1) log y + y                                     (5)

The reverse rule.  With `L = log(z/s)`, `dy/dz = k y/z`, `dy/ds = -k y/s` and `dy/dk = y L`.  With the cotangent `l_bar` of (4),
    z_bar = (x_bar k y exp(-y) + l_bar (k - 1 - k y))/z                             (6)
    s_bar = -x_bar (k/s) y exp(-y) + l_bar (k/s) (y - 1)                            (7)
    k_bar = x_bar L y exp(-y) + l_bar/k - l_bar L (y - 1)                           (8)
For the inverse map, let `M = log(y)/k`, so that `z = s exp(M)`, `dz/dy = z/(k y)` and `dM/dk = -M/k`; and `dy/dx = 1/(1 - x)`.
With the cotangent `l_bar` of (5),
    x_bar = ((P exp(M) + Q)/y + l_bar)/(1 - x),   P = z_bar s/k,   Q = l_bar (1 - k)/k      (9)
    s_bar = z_bar exp(M) + l_bar/s                                                  (10)
    k_bar = -P exp(M) M - l_bar (1 + M)/k                                           (11)

Source: Weibull, Journal of Applied Mechanics 18 (1951).
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from ...core import Array, Bijector, bijector, case, interval, positive
from ...core.arithmetic import factors_of_exp, is_normal, log_quotient, quotient, times
from ...core.arrays import doubled
from ...core.bijector import complemented

X_0, X_0_REST = 1 - 1 / math.e, 1.2428753672788363e-17
Q_0, Q_0_REST = 1 / math.e, -X_0_REST


class textbook:
    """(1) to (11) as they are printed, for one event."""

    def forward(z, scale, concentration):
        return 1 - np.exp(-(z / scale) ** concentration)                            # (1)

    def inverse(x, scale, concentration):
        return scale * (-np.log(1 - x)) ** (1 / concentration)                      # (2)

    def slope(z, scale, concentration):
        s, k = scale, concentration
        return k / s * (z / s) ** (k - 1) * np.exp(-(z / s) ** k)                   # (3)

    def log_det(z, scale, concentration):
        s, k = scale, concentration
        return np.log(k / s) + (k - 1) * np.log(z / s) - (z / s) ** k               # (4)

    def inverse_log_det(x, scale, concentration):
        s, k, y = scale, concentration, -np.log(1 - x)
        return np.log(s / k) + (1 / k - 1) * np.log(y) + y                          # (5)

    def vjp(z, scale, concentration, x_bar, l_bar):
        s, k, L, y = scale, concentration, np.log(z / scale), (z / scale) ** concentration
        z_bar = (x_bar * k * y * np.exp(-y) + l_bar * (k - 1 - k * y)) / z          # (6)
        s_bar = -x_bar * k / s * y * np.exp(-y) + l_bar * k / s * (y - 1)           # (7)
        k_bar = x_bar * L * y * np.exp(-y) + l_bar / k - l_bar * L * (y - 1)        # (8)
        return z_bar, {"scale": s_bar, "concentration": k_bar}

    def inverse_vjp(x, scale, concentration, z_bar, l_bar):
        s, k, y = scale, concentration, -np.log(1 - x)
        M, P, Q = np.log(y) / k, z_bar * s / k, l_bar * (1 - k) / k
        x_bar = ((P * np.exp(M) + Q) / y + l_bar) / (1 - x)                         # (9)
        s_bar = z_bar * np.exp(M) + l_bar / s                                       # (10)
        k_bar = -P * np.exp(M) * M - l_bar * (1 + M) / k                            # (11)
        return x_bar, {"scale": s_bar, "concentration": k_bar}


r"""In floating point.

In (1), `x` rounds to 1 where `1 - x` still has all its digits:
    q = 1 - x = exp(-y),   y = -log q,   q_bar = -x_bar                             (12)
With `y` and `1 - x = q` from (12), (2), (5) and (9) to (11) hold as they stand, and `log|dz/dq| = log|dz/dx|`.

In (1), `1 - exp(-y)` cancels for a small `y`, and the error of `L` is magnified by `k`, then by the exponential:
    x = -expm1(-y),   y = exp(w),   w = k L                                         (13)
    log(a/b) = log a - log b       where a/b is not a normal number                 (14)
             = log1p((a - b)/b)    for 1/2 <= a/b <= 2: there a - b is exact        (15)
Every logarithm of a quotient, here `L`, is taken in this way.  A difference of logarithms may cancel; in
(14) it does not, because the logarithms have opposite signs, or one is much smaller than the other.

In (2), `exp(M)` may leave the floats where `z` does not.  A small `k` magnifies the error of `log y`, and `log y` passes through 0
at `x_0 = 1 - 1/exp(1)`.  There `1 - x = exp(-1) (1 - exp(1) (x - x_0))`, hence
    z = s e e,   e = exp(M/2),   y = -log1p(-x)                                     (16)
    log y = log1p(-log1p(-exp(1) (x - x_0)))    for |x - x_0| < 1/8                 (17)
with `x_0` in two parts; `x` minus the first part is exact.  In (12), `x - x_0 = q_0 - q` with `q_0 = 1/exp(1)`, likewise in two parts.

In (3) and (4), `log(k/s)` and `-log(z/s)` cancel for a small `k`, where the answer is nearly `log(k/z)`; for a large `k`, that
form would cancel:
    dx/dz = (k/c) exp(p - y),   log|dx/dz| = log(k/c) + p - y,   y/z = exp(p)/c
    where  c = z,  p = w          for k <  1/2
    and    c = s,  p = (k - 1) L  for k >= 1/2                                      (18)
Each row is used where `|p| <= |w|`: the unit of error contains the rounding of `w`, because a rounding of `k` changes `w` by as
much.  Since three terms may cancel, (4) is computed in float64, for float32 too, and rounded once.

In (5), `s/k` may be far from 1 where `(s/k)/y` is not, and at the ends infinite terms meet:
    log|dz/dx| = log((s/k)/y) + M + y                                               (19)
               = log(s/k) + (1/k - 1) log y   at x = 0,   inf   at x = 1            (20)

In (3) and (6) to (11), a factor may be subnormal, or infinite, where the product is not.  A product `(a b) b` keeps its digits
unless it underflows itself, so half of each exponent goes into each `b`:
    (k/c) exp(p - y) = k g g,     g = exp((p - y)/2)/sqrt(c)                        (21)
                     = k (exp(p - y)/c)    where these two are normal numbers: fewer roundings
    y exp(-y) = h i,              h = i = exp((w - y)/2)                            (22)
              = h,                h = exp(w - y),   i = 1    where that is a normal number
    y/z = v v,                    v = exp(p/2)/sqrt(c)                              (23)
    exp(M)/y = r r,               r = e/sqrt(y)                                     (24)

In (7) and (8), `y - 1` cancels where `y` is near 1:
    y - 1 = expm1(w/2) (1 + exp(w/2))                                               (25)

In (6), both terms may overflow at the smallest `z`, with opposite signs, where their sum does not.  So (6), with one division,
is used for `k < 1/2` and `z < s`, where `h i` cannot underflow, as `w > -400` (-60 in float32).  Elsewhere `y` may overflow
where `y/z` does not:
    z_bar = x_bar k g g + (l_bar (k - 1)/z - l_bar k v v)    for k >= 1/2 or z >= s         (26)

In (9), `exp(M)` underflows only for `k < 2`, while `P r r` and `Q/y` both overflow only for `k > 2`:
    x_bar = (P r r + Q/y + l_bar)/(1 - x)    for k < 2                              (27)

At the ends `z = 0`, `x = 0` and `x = 1`, which events may be, all values are limits, with `0 log 0 = 0`.  A factor 0 makes its
term 0: `k - 1` for `k = 1`, even times `1/z` or `1/y`; `h` or `e`, even times their logarithms; a cotangent.  Of two infinite
terms, the larger one at 0 is the term of `l_bar` in (26) and `Q/y` in (27).  At `x = 1` it is the term of `P` in (11), and
`1/(1 - x)` outweighs all powers of `y`.                                                                        (28)
    r r = y^(1/k - 1) = 1 for k = 1    at both ends                                 (29)
"""


@bijector(source="Weibull 1951", domain=interval(0, np.inf), codomain=interval(0, 1), increasing=True,
          two_sided=True, textbook=textbook)
class WeibullCDF(Bijector):
    """x = 1 - exp(-(z/scale)^concentration)."""

    scale: Array = positive(default=1.0)
    concentration: Array = positive(default=1.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        _, _, y = self.powers(z)
        return -np.expm1(-y)                                                        # (1) (13)

    def complement(self, z):
        _, _, y = self.powers(z)
        return np.exp(-y)                                                           # (12)

    def inverse(self, x):
        return self.quantile(log_minus_log1m(x) / self.concentration)

    def quantile(self, M):
        e = np.exp(M / 2)                                                           # (16)
        return self.scale * e * e                                                   # (2) (16)

    def slope(self, z):
        L, w, y = self.powers(z)
        c, p = self.row(z, L, w)
        return times_exp_over(self.concentration, p - y, c)                         # (3) (18)

    def log_det(self, z):
        f, wide = doubled(self, z)                                                  # (18)
        L, w, y = f.powers(wide)
        c, p = f.row(wide, L, w)
        return (log_quotient(f.concentration, c) + p - y).astype(z.dtype)           # (4) (18)

    def inverse_and_log_det(self, x):
        return self.quantile_and_log_det(*letters_of_x(x))

    def inverse_and_log_det_of_complement(self, q):
        return self.quantile_and_log_det(*letters_of_q(q))

    def quantile_and_log_det(self, q, y, log_y):
        s, k = self.scale, self.concentration
        M = log_y / k
        inside = log_quotient(s / k, y) + M + y                                     # (5) (19)
        at_0 = np.log(s / k) + scipy.special.xlogy((1 - k) / k, y)                  # (20)
        return self.quantile(M), np.where(q == 0, np.inf, np.where(y == 0, at_0, inside))       # (20)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        s, k = self.scale, self.concentration
        L, w, y = self.powers(z)
        c, p = self.row(z, L, w)
        h, i = factors_of_exp(w - y)
        lower, upper = np.expm1(w / 2), 1 + np.exp(w / 2)                           # (25)

        def pullback(x_bar, l_bar):
            joint = (x_bar * k * h * i + l_bar * (k - 1 - k * y)) / z               # (6) (22)
            z_bar = np.where((k < 0.5) & (z > 0) & (z < s), joint, z_bar_apart(x_bar, l_bar, k, z, c, p, y))        # (26)
            s_bar = times(l_bar * k / s, lower, upper) - x_bar * k / s * h * i      # (7) (22) (25)
            l_bar_y = np.where(l_bar == 0, 0, times(l_bar * L, lower, upper))       # (25) (28)
            k_bar = np.where(h == 0, 0, x_bar * L * h * i) + l_bar / k - l_bar_y    # (8) (22) (28)
            return z_bar, {"scale": s_bar, "concentration": k_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        return self.quantile_vjp(*letters_of_x(x))

    def inverse_vjp_of_complement(self, q):
        return complemented(*self.quantile_vjp(*letters_of_q(q)))                   # (12)

    def quantile_vjp(self, q, y, log_y):
        s, k = self.scale, self.concentration
        M = log_y / k
        e = np.exp(M / 2)                                                           # (16)
        e_M = np.where(e == 0, 0, e * M)                                            # (28)

        def pullback(z_bar, l_bar):
            P, Q = z_bar * s / k, l_bar * (1 - k) / k                               # (9)
            x_bar = x_bar_of(P, Q, l_bar, k, q, y, e)                               # (9) (27)
            s_bar = times(z_bar, e, e) + l_bar / s                                  # (10) (16)
            outweighed = (l_bar == 0) | (q == 0) & (P != 0)                         # (28)
            k_bar = -times(P, e, e_M) - (l_bar + np.where(outweighed, 0, l_bar * M)) / k        # (11) (16)
            return x_bar, {"scale": s_bar, "concentration": k_bar}

        return self.quantile_and_log_det(q, y, log_y), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def powers(self, z):
        """L, w, y."""
        L = log_quotient(z, self.scale)                                             # (14) (15)
        w = self.concentration * L
        return L, w, np.exp(w)                                                      # (13)

    def row(self, z, L, w):
        """c, p of (18)."""
        k = self.concentration
        power = np.where(k == 1, 0, (k - 1) * L)
        small = (k < 0.5) & (z > 0)
        return np.where(small, z, self.scale), np.where(small, w, power)            # (18)

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
        case("RowsMeet", "the rows of (18) meet", z=[1e-200, 1e200], scale=2.0, concentration=0.5),
        case("RowsMeetBelow", "the rows of (18) meet", z=[1e-200, 1e200], scale=2.0, concentration=np.nextafter(0.5, 0)),
        case("QuotientOverflows", "z/s overflows, (z/s)^k does not", z=[2.0**1000], scale=2.0**-60, concentration=2.0**-9),
        case("PowerUnderflows", "exp(w) is subnormal, its product with k/z is not", z=[7.844431592917801e-141],
             scale=3.094679173739448e-17, concentration=3.602161159497376),
        case("QuotientUnderflows", "z/s and k/z leave the floats, (z/s)^k does not", z=[5e-324], scale=2.0**60,
             concentration=2.0**-9),
        case("PowerOverflows", "y and exp(w/2) overflow, the log-det's gradient l k y/z does not",
             z=[2.0**1000], scale=2.0**-60, concentration=1.9325),
        case("OppositeOverflow", "the two terms of (6) overflow with opposite signs, their sum with one", z=[5e-324],
             scale=1.0, concentration=2.0**-9),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[40.0, 700.0, 740.0], scale=1.0,
             concentration=1.0),
        case("Turning", "y = 1: d log-det/ds passes through 0", z=[np.nextafter(3, 2), 3.0, np.nextafter(3, 4)], scale=3.0,
             concentration=2.0),
        case("Tails", "x next to its ends: y is subnormal or 36.7", x=[5e-324, 1e-310, 1e-30, np.nextafter(1, 0)],
             scale=2.0**60, concentration=2.0**-3),
        case("TailsSteep", "the first two terms of (27) overflow with opposite signs", x=[5e-324, 1e-300, np.nextafter(1, 0)],
             scale=2.0**60, concentration=2.0**10),
    )


def letters_of_x(x):
    """(1 - x, y, log y)."""
    return 1 - x, -np.log1p(-x), log_minus_log1m(x)                                 # (2) (16)


def letters_of_q(q):
    """The same of q = 1 - x."""
    y = -np.log(q)                                                                  # (12)
    return q, y, log_near_1(-distance(q, Q_0, Q_0_REST), y)


def log_minus_log1m(x):
    """log(-log(1 - x)) for 0 <= x <= 1."""
    return log_near_1(distance(x, X_0, X_0_REST), -np.log1p(-x))                    # (16)


def distance(v, v_0, rest):
    """v minus a number in two parts."""
    first = v.dtype.type(v_0)
    return (v - first) - v.dtype.type((v_0 - float(first)) + rest)                  # (17)


def log_near_1(d, y):
    """log y, for d = x - x_0."""
    return np.where(np.abs(d) < 0.125, np.log1p(-np.log1p(-math.e * d)), np.log(y))         # (17)


def times_exp_over(k, exponent, c):
    """k exp(exponent)/c."""
    exponential, g = np.exp(exponent), root_of_exp_over(exponent, c)
    quotient = exponential / c
    return np.where(is_normal(exponential) & is_normal(quotient), k * quotient, k * g * g)      # (21)


def root_of_exp_over(exponent, c):
    """g, or v: the root of exp(exponent)/c."""
    return np.exp(exponent / 2) / np.sqrt(c)                                        # (21) (23)


def z_bar_apart(x_bar, l_bar, k, z, c, p, y):
    """(6), with each term divided by z on its own."""
    g, v, bend = root_of_exp_over(p - y, c), root_of_exp_over(p, c), l_bar * (k - 1)
    of_x = np.where((z == 0) & (bend != 0), 0, times(x_bar * k, g, g))              # (26) (28)
    return of_x + (quotient(bend, z) - times(l_bar * k, v, v))                      # (26)


def x_bar_of(P, Q, l_bar, k, q, y, e):
    """((P e e + Q)/y + l_bar)/q."""
    end = (y == 0) | (q == 0)
    r = np.where(end, np.where(k == 1, 1, np.exp((1 / k - 1) * np.log(y) / 2)), e / np.sqrt(y))     # (24) (29)
    apart = np.where((y == 0) & (Q != 0), 0, times(P, r, r)) + quotient(Q, y)       # (27) (28)
    y_bar = np.where((k < 2) | end, apart, (P * e * e + Q) / y) + l_bar             # (9) (27)
    return quotient(np.where((q == 0) & (y_bar == 0), P, y_bar), q)                 # (9) (28)
