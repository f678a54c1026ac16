r"""Kumaraswamy cumulative distribution function, `(0, 1) -> (0, 1)`.

The map.  With `a = concentration1 > 0` and `b = concentration0 > 0`,
    x = 1 - (1 - z^a)^b                                                             (1)
    z = (1 - v)^(1/a),   v = (1 - x)^(1/b)                                          (2)
    dx/dz = a b z^(a - 1) (1 - z^a)^(b - 1)                                         (3)
    log|dx/dz| = log(a b) + (a - 1) log z + (b - 1) log(1 - z^a)                    (4)
    log|dz/dx| = (1/a - 1) log(1 - v) + (1/b - 1) log(1 - x) - log(a b)             (5)

The reverse rule.  With `y = z^a`, so that `dy/dz = a y/z` and `dy/da = y log z`, and with the cotangent `l_bar` of (4),
    z_bar = x_bar a b y (1 - y)^(b - 1)/z + l_bar ((a - 1) - (b - 1) a y/(1 - y))/z         (6)
    a_bar = x_bar b y (1 - y)^(b - 1) log z + l_bar (1/a + log z - (b - 1) y log(z)/(1 - y))        (7)
    b_bar = -x_bar (1 - y)^b log(1 - y) + l_bar (1/b + log(1 - y))                  (8)
For the inverse map, `dv/dx = -v/(b (1 - x))`, `dv/db = -v log(v)/b` and `dz/dv = -z/(a (1 - v))`.  With the cotangent `l_bar` of (5),
    x_bar = (z_bar z v/(a b (1 - v)) + l_bar (1 - 1/b + (1/a - 1) v/(b (1 - v))))/(1 - x)   (9)
    a_bar = -(z_bar z log(1 - v)/a + l_bar (1 + log(1 - v)/a))/a                    (10)
    b_bar = (z_bar z v log(v)/(a (1 - v)) - l_bar (1 + log v - (1/a - 1) v log(v)/(1 - v)))/b       (11)

Source: Kumaraswamy, Journal of Hydrology 46 (1980).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...core import Array, Bijector, Inverse, bijector, case, interval, positive, tree
from ...core.arithmetic import is_normal, log_abs_product, product_apart, quotient, ratio
from ...core.arrays import doubled, rounded
from ...core.bijector import complemented
from ...core.words import log_2

SERIES = [over / (under * math.factorial(2 * k)) for k, (over, under) in enumerate((                        # (30)
    (1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510), (43867, 798), (-174611, 330), (854513, 138)), 1)]


class textbook:
    """(1) to (11) as they are printed, for one event."""

    def forward(z, concentration1, concentration0):
        return 1 - (1 - z**concentration1) ** concentration0                        # (1)

    def inverse(x, concentration1, concentration0):
        return (1 - (1 - x) ** (1 / concentration0)) ** (1 / concentration1)        # (2)

    def slope(z, concentration1, concentration0):
        a, b = concentration1, concentration0
        return a * b * z ** (a - 1) * (1 - z**a) ** (b - 1)                         # (3)

    def log_det(z, concentration1, concentration0):
        a, b = concentration1, concentration0
        return np.log(a * b) + (a - 1) * np.log(z) + (b - 1) * np.log(1 - z**a)     # (4)

    def inverse_log_det(x, concentration1, concentration0):
        a, b, v = concentration1, concentration0, (1 - x) ** (1 / concentration0)   # (2)
        return (1 / a - 1) * np.log(1 - v) + (1 / b - 1) * np.log(1 - x) - np.log(a * b)    # (5)

    def vjp(z, concentration1, concentration0, x_bar, l_bar):
        a, b, y, L = concentration1, concentration0, z**concentration1, np.log(z)
        rise = b * y * (1 - y) ** (b - 1)
        z_bar = x_bar * a * rise / z + l_bar * (a - 1 - (b - 1) * a * y / (1 - y)) / z      # (6)
        a_bar = x_bar * rise * L + l_bar * (1 / a + L - (b - 1) * y * L / (1 - y))  # (7)
        b_bar = -x_bar * (1 - y) ** b * np.log(1 - y) + l_bar * (1 / b + np.log(1 - y))     # (8)
        return z_bar, {"concentration1": a_bar, "concentration0": b_bar}

    def inverse_vjp(x, concentration1, concentration0, z_bar, l_bar):
        a, b, v = concentration1, concentration0, (1 - x) ** (1 / concentration0)   # (2)
        z, odds = (1 - v) ** (1 / a), v / (1 - v)                                   # (2)
        x_bar = (z_bar * z * odds / (a * b) + l_bar * (1 - 1 / b + (1 / a - 1) * odds / b)) / (1 - x)       # (9)
        a_bar = -(z_bar * z * np.log(1 - v) / a + l_bar * (1 + np.log(1 - v) / a)) / a      # (10)
        b_bar = (z_bar * z * odds * np.log(v) / a - l_bar * (1 + np.log(v) - (1 / a - 1) * odds * np.log(v))) / b   # (11)
        return x_bar, {"concentration1": a_bar, "concentration0": b_bar}


r"""In floating point.

In (1), `x` rounds to 1 where `1 - x` still has all its digits:
    q = 1 - x = (1 - z^a)^b,   q_bar = -x_bar                                       (12)
With `1 - x = q` from (12), (2), (5) and (9) to (11) hold as they stand, and `log|dz/dq| = log|dz/dx|`.

In (2), writing `1/b` for `a`, `1/a` for `b` and `1 - z` for `x` gives `q` for `z`.                                 (13)
The cotangents of `b` and `a` are the cotangents of `1/b` and `1/a`, divided by `-b^2` and `-a^2`.                  (14)

In (1) and (2), the same decreasing map `c -> q` is computed, with `alpha = a`, `beta = b` in (1), and `alpha = 1/b`, `beta = 1/a`
in (2):
    q = (1 - c^alpha)^beta,   (c, q) = (z, 1 - x)  or  (1 - x, z)                   (15)
It is computed from `N = log c`, because `c = 1 - x` loses the digits of a small `x`, but `log1p(-x)` does not:
    w = alpha N,   y = exp w,   M = log(1 - y),   T = log q = beta M                (16)
    M = log(-expm1(w))    for w > -log 2,   log1p(-y)    elsewhere                  (17)
      = log(-N) + log alpha    where w is not a normal number                       (18)
    T = -(beta h) h,   h = exp(w/2)    where y is not a normal number: there M = -y         (19)
    x = -expm1(T),   z = exp T                                                      (20)

In (4) and (5), any two of the three terms may cancel.  With `d = (1 - y)/alpha`, which is `-N` where `w` is not a normal number,
    log|dq/dc| = log(beta y/(d c)) + T                                              (21)
               = log(alpha beta) + (alpha - 1) N    where y is not a normal number: there it is small, and T = 0    (22)
               = log(alpha beta) + (beta - 1) M     at c = 1                        (23)
The product in (21) is taken with the exponents apart, and the sums in float64, for float32 too.  An error of `w` moves both terms
of (21), but their sum only by as much as a rounding of `alpha` does, to within one rounding, because `d` holds `alpha`, too.

In (3), (6) and (9), products of large and small factors are taken with the exponents apart, too:
    dq/dc = -beta Y q/d,   Y = y/c                                                  (24)
          = -alpha beta E E    at c = 1,   E = exp((beta - 1) M/2)                  (25)
    Y = v v,   v = exp((alpha - 1) N/2)    for alpha >= 1/2 and at c = 0            (26)
where in (24) `y/c` is used as it stands if `y` is a normal number.  Where `q` is not a normal number, it is `e e`, `e = exp(T/2)`;
where `e` is not one either, it is `(g g)(g g)`, `g = exp(T/4)`.

In (6) and (9), two terms may overflow next to the ends, with opposite signs, where their sum does not:
    c_bar = (l_bar (alpha - 1) - (q_bar beta q + l_bar (beta - 1)) y/d)/c    for alpha < 1/2        (27)
          = l_bar (alpha - 1)/c - (q_bar beta q + l_bar (beta - 1)) Y/d      for alpha >= 1/2, or l_bar = 0     (28)
For `beta >= 1/2` the inner sum is taken apart, as `q` may underflow.

In (7) and (11), `1 + s` cancels for a small `w`:
    alpha alpha_bar = -q_bar beta q y s + l_bar (f - beta y s),   s = w/(1 - y),   f = 1 + s        (29)
    f = w/2 - sum_(k >= 1) b_k w^(2k)    for w > -1                                 (30)
where `b_k` is the Bernoulli number with the index `2k`, divided by the factorial of `2k`.  The sum is taken for `k <= 11`; the rest
is below `10^-17 w`.

In (8) and (10), `q` or `M` may be subnormal where a product is not:
    beta_bar = q_bar M q + l_bar (1/beta + M)                                       (31)
             = -(q_bar h) h + l_bar/beta    where y is not a normal number          (32)

At the ends, a factor 0 makes its term 0, whether it is `alpha - 1`, `beta - 1`, `y`, `q` or a cotangent.  Of two infinite terms,
the term of `l_bar` is the larger one.                                              (33)

In (3), where `y` and `-w` are normal numbers, another form of (24) has fewer roundings:
    dq/dc = -alpha beta q/(c expm1(-w))                                             (34)

In (6) to (11), NumPy's exponentials and logarithms of float32 err by several units, and many follow each other:
    z_bar, x_bar, a_bar and b_bar    in float64, for float32 too                    (35)
"""


@bijector(source="Kumaraswamy 1980", domain=interval(0, 1), codomain=interval(0, 1), increasing=True,
          two_sided=True, textbook=textbook)
class KumaraswamyCDF(Bijector):
    """x = 1 - (1 - z^concentration1)^concentration0."""

    concentration1: Array = positive(default=1.0)
    concentration0: Array = positive(default=1.0)
    event_ndim = (0, 0)

    @staticmethod
    def inverse_definition(m, x, concentration1, concentration0):
        return m.power(-m.expm1(m.log1p(-x) / concentration0), 1 / concentration1)  # (2) (16)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return -np.expm1(self.of_z(z).T)                                            # (1) (20)

    def complement(self, z):
        return np.exp(self.of_z(z).T)                                               # (12) (15)

    def inverse(self, x):
        return np.exp(self.of_x(x).T)                                               # (2) (20)

    def log_det(self, z):
        f, wide = doubled(self, z)                                                  # (21)
        return log_slope(f.of_z(wide)).astype(z.dtype)                              # (4) (21)

    def slope(self, z):
        p = self.of_z(z)
        return times_slope(np.ones_like(p.w), p)                                    # (3) (24)

    def inverse_and_log_det(self, x):
        f, wide = doubled(self, x)                                                  # (21)
        return self.inverse(x), log_slope(f.of_x(wide)).astype(x.dtype)             # (5) (21)

    def inverse_and_log_det_of_complement(self, q):
        f, wide = doubled(self, q)                                                  # (21)
        return np.exp(self.of_q(q).T), log_slope(f.of_q(wide)).astype(q.dtype)      # (12) (21)

    def mirrored(self):
        a, b = self.concentration1, self.concentration0

        def own(params_bar):
            a_bar, b_bar = params_bar["inner"]["concentration1"], params_bar["inner"]["concentration0"]
            return {"concentration1": -b_bar / a / a, "concentration0": -a_bar / b / b}     # (14)

        inner = tree.copied(self, concentration1=1 / b, concentration0=1 / a)       # (13)
        return tree.bare(Inverse, inner=inner, dtype=self.dtype), own

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        f, wide = doubled(self, z)                                                  # (35)
        p, dtype = f.of_z(wide), z.dtype

        def pullback(x_bar, l_bar):
            x_bar, l_bar = doubled(x_bar, l_bar)                                    # (35)
            a_bar = alpha_bar_29(-x_bar / p.alpha, l_bar / p.alpha, p)              # (7) (29)
            b_bar = beta_bar_31(-x_bar, l_bar, p)                                   # (8) (31)
            z_bar = c_bar_27(-x_bar, l_bar, p)                                      # (6) (27)
            return rounded((z_bar, {"concentration1": a_bar, "concentration0": b_bar}), dtype)      # (35)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        f, wide = doubled(self, x)                                                  # (35)
        return self.inverse_and_log_det(x), f.quantile_pullback(f.of_x(wide), x.dtype)

    def inverse_vjp_of_complement(self, q):
        f, wide = doubled(self, q)                                                  # (35)
        found, pullback = self.inverse_and_log_det_of_complement(q), f.quantile_pullback(f.of_q(wide), q.dtype)
        return complemented(found, pullback)                                        # (12)

    def quantile_pullback(self, p, dtype):
        a, b = self.concentration1, self.concentration0

        def pullback(z_bar, l_bar):
            z_bar, l_bar = doubled(z_bar, l_bar)                                    # (35)
            a_bar = beta_bar_31(-z_bar / a / a, -l_bar / a / a, p)                  # (10) (31)
            b_bar = -alpha_bar_29(z_bar / b, l_bar / b, p)                          # (11) (29)
            x_bar = -c_bar_27(z_bar, l_bar, p)                                      # (9) (27)
            return rounded((x_bar, {"concentration1": a_bar, "concentration0": b_bar}), dtype)      # (35)

        return pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def of_z(self, z):
        return parts(np.log(z), z, self.concentration1, self.concentration0)        # (15)

    def of_x(self, x):
        return parts(np.log1p(-x), 1 - x, 1 / self.concentration0, 1 / self.concentration1)         # (15)

    def of_q(self, q):
        return parts(np.log(q), q, 1 / self.concentration0, 1 / self.concentration1)        # (12) (15)

    hard_cases = (
        case("Identity", "log-det is 0 at every z", z=[5e-324, 1e-300, 0.5, np.nextafter(1, 0)],
             x=[5e-324, 0.5, np.nextafter(1, 0)], concentration1=1.0, concentration0=1.0),
        case("NearIdentity", "all terms of (4) are small", z=[0.25, 1e-200], x=[0.25, 1e-200],
             concentration1=np.nextafter(1, 2), concentration0=np.nextafter(1, 0)),
        case("Written", "1 - (1 - z^a)^b returns 0", z=[1e-12, 1e-160], x=[1e-12, 1e-160], concentration1=2.0,
             concentration0=3.0),
        case("Flat", "1 + w/(1 - y) cancels, a drops out of the log-det", z=[0.3, 1e-300], x=[0.3, 1e-300],
             concentration1=2.0**-60, concentration0=2.0**-60),
        case("Steep", "z^a is far below 1, b times it is not", z=[0.36787944117144233, 0.36], x=[0.3, 0.6],
             concentration1=41.0, concentration0=6.39843493530055e17),
        case("PowerUnderflows", "z^a is subnormal, b z^a is not", z=[1e-310, 1e-312], x=[1e-300], concentration1=1.0,
             concentration0=2.0**60),
        case("SlopeOnly", "z^a underflows, dx/dz does not", z=[5e-324, 1e-310], concentration1=1.9, concentration0=2.0),
        case("Root", "x falls below the floats in no step, N/b does", x=[5e-324, 1e-310], concentration1=2.0**60,
             concentration0=2.0**60),
        case("OppositeOverflow", "two terms of (27) overflow with opposite signs", z=[5e-324], x=[5e-324],
             concentration1=2.0**-9, concentration0=2.0**-9),
        case("OppositeOverflowOfInverse", "two terms of (27) overflow with opposite signs", z=[5e-324], x=[5e-324],
             concentration1=2.0**9, concentration0=2.0**9),
        case("NearOne", "1 - z has one bit", z=[np.nextafter(1, 0)], x=[np.nextafter(1, 0)], concentration1=2.0**-40,
             concentration0=2.0**50),
        case("Switch", "the two forms of (17) meet", z=[0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)], concentration1=1.0,
             concentration0=2.0),
        case("SeriesEnds", "(30) ends at w = -1", z=[0.36787944117144233, 0.3678794411714424], concentration1=1.0,
             concentration0=2.0**-30),
    )


class Parts(NamedTuple):
    """The letters of (15) to (19); `far`: y is not a normal number; `d` as in (21)."""

    N: Array
    c: Array
    alpha: Array
    beta: Array
    w: Array
    y: Array
    far: Array
    d: Array
    M: Array
    T: Array


def parts(N, c, alpha, beta):
    w = alpha * N
    y, rest, h = np.exp(w), -np.expm1(w), np.exp(w / 2)                             # (16)
    far, small = ~is_normal(y), ~is_normal(-w) & (w > -1)
    near = np.where(small, np.log(-N) + np.log(alpha), np.log(rest))                # (17) (18)
    M = np.where(w > -log_2(w), near, np.log1p(-y))                                 # (17)
    T = np.where(far, -beta * h * h, beta * M)                                      # (16) (19)
    return Parts(N, c, alpha, beta, w, y, far, np.where(small, -N, rest / alpha), M, T)     # (21)


def log_slope(p):
    """log|dq/dc|."""
    (m, e), (n, k) = product_apart((p.beta, p.y)), product_apart((p.d, p.c))        # (21)
    close = np.abs(e - k) <= 2
    near, far = np.log(np.ldexp(m / n, np.where(close, e - k, 0))), np.log(m / n) + (e - k) * log_2(m)          # (21)
    bend = np.where(p.alpha == 1, 0, (p.alpha - 1) * p.N)                           # (22) (33)
    last = np.where(p.beta == 1, 0, (p.beta - 1) * p.M)                             # (23) (33)
    constant = log_abs_product((p.alpha, p.beta))                                   # (22) (23)
    inside = np.where(p.far, constant + bend, np.where(close, near, far) + p.T)     # (21) (22)
    return np.where(p.N == 0, constant + last, inside)                              # (23)


def roots(T):
    """Four factors of q = exp T."""
    q, e, g = np.exp(T), np.exp(T / 2), np.exp(T / 4)                               # (24)
    one, two = is_normal(q), is_normal(e)
    few = np.where(one, 1, np.where(two, e, g))
    return np.where(one, q, few), few, np.where(one | two, 1, g), np.where(one | two, 1, g)         # (24)


def times_slope(factor, p):
    """factor |dq/dc|."""
    E = np.exp(np.where(p.beta == 1, 0, (p.beta - 1) * p.M) / 2)                    # (25) (33)
    apart = over_d((factor, p.beta, *roots(p.T)), p)                                # (24)
    joint = ratio((factor, p.alpha, p.beta, *roots(p.T)), (p.c, np.expm1(-p.w)))    # (34)
    inside = np.where(p.far | ~is_normal(-p.w), apart, joint)                       # (24) (34)
    return np.where(p.N == 0, ratio((factor, p.alpha, p.beta, E, E)), inside)       # (25)


def over_d(factors, p):
    """The product of the factors and Y/d."""
    v = np.exp(np.where(p.alpha == 1, 0, (p.alpha - 1) * p.N) / 2)                  # (26) (33)
    return ratio((*factors, np.where(p.far, v, p.y), np.where(p.far, v, 1)), (p.d, np.where(p.far, 1, p.c)))    # (24) (26)


def c_bar_27(q_bar, l_bar, p):
    """l_bar (alpha - 1)/c - (q_bar beta q + l_bar (beta - 1)) y/(d c)."""
    first, second = l_bar * (p.alpha - 1), l_bar * (p.beta - 1)
    joint = (p.alpha < 0.5) & (p.c > 0)
    v = np.exp(np.where(p.alpha == 1, 0, (p.alpha - 1) * p.N) / 2)                  # (26) (33)
    shared = joint & (first != 0)
    Y = (np.where(joint, p.y, v), np.where(joint, 1, v))                            # (26) (27)
    C = np.where(joint & ~shared, p.c, 1)                                           # (24)
    together = ratio((q_bar * p.beta * np.exp(p.T) + second, *Y), (p.d, C))         # (27) (28)
    apart = ratio((q_bar, p.beta, *roots(p.T), *Y), (p.d, C)) + ratio((second, *Y), (p.d, C))   # (24) (28)
    term = np.where(p.beta < 0.5, together, apart)
    alone = quotient(first, p.c) - np.where((p.c == 0) & (first != 0), 0, term)     # (28) (33)
    inside = np.where(shared, (first - term) / p.c, alone)                          # (27)
    at_1 = first - np.where(second == 0, times_slope(q_bar, p), second / np.abs(p.N))       # (25) (33)
    return np.where(p.N == 0, at_1, inside)


def alpha_bar_29(q_bar, l_bar, p):
    """alpha alpha_bar."""
    h, q = np.exp(p.w / 2), roots(np.where(p.far, 0, p.T))                          # (24)
    small = ~is_normal(-p.w) & (p.w > -1)
    s = np.where(small, -1, -p.w / np.expm1(p.w))                                   # (29)
    f = np.where(p.w > -1, p.w / 2 - series(p.w), 1 + s)                            # (29) (30)
    y_s = np.where(p.y == 0, 0, p.y * s)                                            # (33)
    vanishes = (q_bar == 0) | (h == 0) | (q[0] == 0)
    y = np.where(p.far, h, p.y), np.where(p.far, h, 1)
    through_q = np.where(vanishes, 0, ratio((q_bar, p.beta, s, *y, *q)))            # (29) (33)
    return np.where(l_bar == 0, 0, l_bar * (f - p.beta * y_s)) - through_q          # (29) (33)


def series(w):
    """The sum in (30)."""
    square, total = np.maximum(w, -1) ** 2, 0
    for coefficient in reversed(SERIES):
        total = (total + coefficient) * square                                      # (30)
    return total


def beta_bar_31(q_bar, l_bar, p):
    """The cotangent of beta."""
    h, q = np.exp(p.w / 2), roots(p.T)                                              # (24)
    near = np.where((q_bar == 0) | (q[0] == 0), 0, ratio((q_bar, p.M, *q)))         # (31) (33)
    return np.where(p.far, -q_bar * h * h, near) + np.where(l_bar == 0, 0, l_bar * (1 / p.beta + p.M))      # (31) (32) (33)
