r"""Power, `(0, inf) -> (0, inf)`.

The map.  With `a = exponent`, which is not 0,
    x = z^a                                                                         (1)
    z = x^b,   b = 1/a                                                              (2)
    dx/dz = a z^(a-1)                                                               (3)
    log|dx/dz| = log|a| + (a - 1) log z                                             (4)
    log|dz/dx| = log|b| + (b - 1) log x                                             (5)

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    z_bar = x_bar a z^(a-1) + l_bar (a - 1) / z                                     (6)
    a_bar = x_bar z^a log z + l_bar (1/a + log z)                                   (7)
The inverse map is the same map with `b` and `x` in the place of `a` and `z`.  So (6) and (7) give its `x_bar` and `b_bar`, and
from `b = 1/a`
    a_bar = -b^2 b_bar                                                              (8)

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, nonzero, positive


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def forward(z, exponent):
        return z**exponent                                                          # (1)

    def inverse(x, exponent):
        return x ** (1 / exponent)                                                  # (2)

    def slope(z, exponent):
        return exponent * z ** (exponent - 1)                                       # (3)

    def log_det(z, exponent):
        return np.log(np.abs(exponent)) + (exponent - 1) * np.log(z)                # (4)

    def inverse_log_det(x, exponent):
        b = 1 / exponent                                                            # (2)
        return np.log(np.abs(b)) + (b - 1) * np.log(x)                              # (5)

    def vjp(z, exponent, x_bar, l_bar):
        a = exponent
        z_bar = x_bar * a * z ** (a - 1) + l_bar * (a - 1) / z                      # (6)
        a_bar = x_bar * z**a * np.log(z) + l_bar * (1 / a + np.log(z))              # (7)
        return z_bar, {"exponent": a_bar}

    def inverse_vjp(x, exponent, z_bar, l_bar):
        b = 1 / exponent                                                            # (2)
        x_bar, bars = textbook.vjp(x, b, z_bar, l_bar)
        return x_bar, {"exponent": -(b**2) * bars["exponent"]}                      # (8)


r"""In floating point.

In (4), the terms may cancel: near `a = 1`, where the answer is small, and for a tiny `a` with `z` near `a`:
    log|dx/dz| = log(1 + d) + d log z,   d = a - 1      for 1/2 <= a <= 2           (9)
               = log(a / sqrt z) + (a - 1/2) log z      for 1/4 <= a < 1/2          (10)
               = log|a/z| + a log z                     elsewhere                   (11)
Both terms of (9) are small near `a = 1`.  The terms of (11) do not cancel: `log|a/z|` is small, or `a log z` is large and a
rounding of `a` alone moves the answer as far.  (10) serves between (9) and (11); `d` and `a - 1/2` are exact.  Where `a/z` leaves
the normal floats, `log z` is so large that (4) cannot cancel, and it is used.  The inverse is the same map with exponent `b`, so
(5) is computed as (4) is.

In (3), the power may leave the floats where its product with `a` does not.  (3) is used for `1/2 <= a <= 2`, and elsewhere
    dx/dz = a h^2 / z,   h = z^(a/2)                    for a <  1/2                (12)
          = a h^2,       h = z^((a-1)/2)                for a >= 1/2                (13)
(13) would lose digits for small `a`: `a - 1` rounds, and `log z` may be large.  (12) would overflow for large `z`; at `z = 0`,
where (12) is undefined, (13) serves all `a`.

In (6) and (7), the power may overflow where its product with `x_bar` does not.  `x_bar` therefore stands inside the products of
(12), (13) and
    z^a = g^2,   g = z^(a/2)                                                        (14)
Where (12) is used, both terms of (6) are divided by `z` at the end, and `b^2` of (8) is multiplied into `z_bar` and `l_bar`
first.  A cotangent 0 stays 0 whatever `h` and `g` are: `0 inf` would be NaN.

In (4), (6) and (7), all values are limits at the end `z = 0`, which an event may be.  A factor 0 makes its term 0: `a - 1` for
`a = 1`, even times `log z` or `1/z`; `z^a` for `a > 0`, even times `log z`; a cotangent.  If both terms of (6), or of (7), are
infinite, the term of `l_bar` is the larger one for `a > 0`, and the term of `x_bar` for `a < 0`.               (15)
"""


@bijector(source="definition", domain=positive, codomain=positive, textbook=textbook)
class Power(Bijector):
    """x = z^exponent, from (0, inf) to (0, inf)."""

    exponent: Array = nonzero()
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return z ** self.exponent                                                   # (1)

    def inverse(self, x):
        return x ** (1 / self.exponent)                                             # (2)

    def log_det(self, z):
        return log_slope(z, self.exponent)                                          # (4)

    def slope(self, z):
        a = self.exponent
        product, below = slope_times(np.ones_like(z), z, a)
        return np.where(below, product / z, np.where(a <= 2, a * z ** (a - 1), product))    # (3) (12) (13)

    def inverse_and_log_det(self, x):
        return self.inverse(x), log_slope(x, 1 / self.exponent)                     # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            a = self.exponent
            return event_bar(x_bar, log_det_bar, z, a), {"exponent": exponent_bar(x_bar, log_det_bar, z, a)}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            b = 1 / self.exponent                                                   # (2)
            a_bar = exponent_bar(-b * b * z_bar, -b * b * log_det_bar, x, b)        # (8)
            return event_bar(z_bar, log_det_bar, x, b), {"exponent": a_bar}

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Identity", "both terms of (9) are 0", z=[0.0, 5e-324, 1.0, 2.0**1000], x=[0.0], exponent=1.0),
        case("InfiniteTerms", "at 0 both terms of (6) are infinite, of opposite signs", z=[0.0], exponent=0.25),
        case("InfiniteTermsOfInverse", "at 0 both terms of the inverse's (6) are infinite", x=[0.0], exponent=2.5),
        case("NearIdentity", "the log-det is (a - 1)(1 + log z), and vanishes at z = 1/e",
             z=[np.exp(-1.0), 2.0], x=[np.exp(-1.0), 2.0], exponent=np.nextafter(1, 2)),
        case("Cancelling", "log|a| and (a - 1) log z cancel at z = a: only (11) keeps digits",
             z=[2.0**-60, 2.0**-60 * 1.25], exponent=2.0**-60),
        case("SlopeOnly", "z^a overflows, dx/dz does not", z=[2.0**600], exponent=1.75),
        case("Reciprocal", "a negative exponent: decreasing, log-det of the magnitude", z=[5e-308, 1e-3, 1e300],
             x=[1e-3, 1e300], exponent=-1.0),
        case("Edges", "(9) and (10) meet, and (12) and (13); the log-det vanishes at z = 1/4",
             z=[0.25, 1e-300, 1e300], x=[0.5, 1e-150, 1e150], exponent=0.5),
        case("Steep", "x leaves the floats on both sides of z = 1",
             z=[np.nextafter(1, 0), 1.0, np.nextafter(1, 2), 0.5, 2.0], exponent=2.0**60),
        case("SubnormalRatio", "a/z is not a normal float, nor is its inverse's", z=[2.0**1000], exponent=2.0**-60),
        case("InfiniteRatio", "a/z overflows", z=[5e-324], exponent=2.0**60),
    )


def log_slope(z, a):
    """log|dx/dz| of x = z^a."""
    d, log_z = a - 1, np.log(z)
    near_one, near_half = (a >= 0.5) & (a <= 2), (a >= 0.25) & (a < 0.5)
    bend = np.where(d == 0, 0, d * log_z)                                           # (15)
    apart = np.where(near_one, np.log1p(d), np.log(np.abs(a))) + bend               # (4) (9)
    ratio = np.abs(a) / np.where(near_half, np.sqrt(z), z)
    paired = np.log(ratio) + np.where(near_half, a - 0.5, a) * log_z                # (10) (11)
    limits = np.finfo(z.dtype)                                                      # (11)
    is_normal = (ratio >= limits.tiny) & (ratio <= limits.max)
    return np.where(near_one | ~is_normal, apart, paired)


def slope_times(factor, z, a):
    """(factor dx/dz, or z factor dx/dz where a < 1/2 and z > 0; the mark of these places)."""
    below = (a < 0.5) & (z > 0)
    h = z ** (np.where(below, a, a - 1) / 2)                                        # (12) (13)
    return np.where(factor == 0, 0, factor * a * h * h), below                      # (12) (13)


def event_bar(x_bar, log_det_bar, z, a):
    """z_bar of x = z^a and its log-det."""
    product, below = slope_times(x_bar, z, a)
    bend = log_det_bar * (a - 1)
    both = (z == 0) & (product != 0) & (bend != 0)
    through_x = np.where(both & (a > 0), 0, product)                                # (15)
    through_log_det = np.where((bend == 0) | both & (a < 0), 0, bend / z)           # (15)
    return np.where(below, (product + bend) / z, through_x + through_log_det)       # (6)


def exponent_bar(x_bar, log_det_bar, z, a):
    """a_bar of x = z^a and its log-det."""
    g, log_z = z ** (a / 2), np.log(z)                                              # (14)
    through_x = np.where((x_bar == 0) | (g == 0), 0, x_bar * log_z * g * g)         # (15)
    outweighed = (z == 0) & (a < 0) & (x_bar != 0)
    through_log_det = np.where((log_det_bar == 0) | outweighed, 0, log_det_bar * (1 / a + log_z))   # (15)
    return through_x + through_log_det                                              # (7)
