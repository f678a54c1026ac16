r"""Heavy tails by Lambert's W (Goerg's h), `R -> R`.

The map.  With `delta = tailweight >= 0`, and 0 the identity,
    x = z exp(b/2),   b = delta z^2                                                 (1)
    z = x exp(-b/2),   b = W(y),   y = delta x^2                                    (2)
The square of (1), times `delta`, is the equation `b exp(b) = y`, whose solution is Lambert's function `W`.  Newton's rule starts
from `log(1 + y)`, which is at least `W(y)`, and falls to `W(y)`, because `b exp(b)` is convex:
    b <- b - (b exp(b) - y) / ((1 + b) exp(b))                                      (3)
    dx/dz = (1 + b) exp(b/2)                                                        (4)
    log|dx/dz| = log(1 + b) + b/2                                                   (5)
    log|dz/dx| = -log(1 + b) - b/2    at b of (2)                                   (6)

The reverse rule.  The derivative of (5) by `b` is the `c` of (7); `db/dz = 2 delta z` and `db/ddelta = z^2`.  With the cotangent
`l_bar` of (5),
    z_bar = x_bar (1 + b) exp(b/2) + 2 l_bar delta z c,   c = 1/2 + 1/(1 + b)       (7)
    delta_bar = x_bar z^3 exp(b/2)/2 + l_bar z^2 c                                  (8)
For the inverse map, whose log-det (6) has the cotangent `l_bar`,
    x_bar = (z_bar - 2 l_bar delta z c) / (dx/dz)                                   (9)
and the cotangent of `delta` is (8), with the signs of `x_bar` and `l_bar` reversed.                            (10)

Source: Goerg, The Lambert Way to Gaussianize heavy-tailed data, arXiv:1010.2265; Fritsch, Shafer & Crowley, Communications of
the ACM 16 (1973); Iacono & Boyd, Advances in Computational Mathematics 43 (2017).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, log_abs_product, real
from ...core.arithmetic import times
from ...core.arrays import doubled, rounded
from ...core.sets import nonnegative


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def W(y):
        b, last = np.log(1 + y), np.inf
        while b < last:
            b, last = b - (b * np.exp(b) - y) / ((1 + b) * np.exp(b)), b            # (3)
        return last

    def forward(z, tailweight):
        return z * np.exp(tailweight * z**2 / 2)                                    # (1)

    def inverse(x, tailweight):
        return x * np.exp(-textbook.W(tailweight * x**2) / 2)                       # (2)

    def slope(z, tailweight):
        b = tailweight * z**2                                                       # (1)
        return (1 + b) * np.exp(b / 2)                                              # (4)

    def log_det(z, tailweight):
        b = tailweight * z**2                                                       # (1)
        return np.log(1 + b) + b / 2                                                # (5)

    def inverse_log_det(x, tailweight):
        b = textbook.W(tailweight * x**2)                                           # (2)
        return -np.log(1 + b) - b / 2                                               # (6)

    def vjp(z, tailweight, x_bar, l_bar):
        b = tailweight * z**2                                                       # (1)
        c = 1 / 2 + 1 / (1 + b)                                                     # (7)
        z_bar = x_bar * (1 + b) * np.exp(b / 2) + 2 * l_bar * tailweight * z * c    # (7)
        return z_bar, {"tailweight": x_bar * z**3 * np.exp(b / 2) / 2 + l_bar * z**2 * c}   # (8)

    def inverse_vjp(x, tailweight, z_bar, l_bar):
        z = textbook.inverse(x, tailweight)
        c = 1 / 2 + 1 / (1 + tailweight * z**2)                                     # (7)
        x_bar = (z_bar - 2 * l_bar * tailweight * z * c) / textbook.slope(z, tailweight)    # (9)
        return x_bar, textbook.vjp(z, tailweight, -x_bar, -l_bar)[1]                # (10)


r"""In floating point.

In (1), (4), (7) and (8), a large `exp(b/2)` may overflow where its product with a small `z` or a small cotangent does not.  So
`z`, or the cotangent, stands between the two factors of
    exp(b/2) = h i,   h = exp(b/2),   i = 1    for b <  1
                      h = exp(b/4),   i = h    for b >= 1                           (11)
For `b < 1`, two exponentials would round twice.

In (2), `exp(-b/2)` carries `b/2` times the relative error of a large `b`:
    z = sign(x) sqrt(b/delta)     for b >= 1                                        (12)
For `b < 1`, (2) is used: (12) has no digits where `b` is subnormal.

In (3), `b exp(b) - y` cancels, and both terms leave the floats where `b` does not.  `W` is also the limit of Fritsch's
iteration, here from Iacono and Boyd's first guess:
    b <- b (1 + e),   r = log y - log b - b,   q = 2 (1 + b)(1 + b + 2 r/3),
    e = r / (1 + b) (q - r) / (q - 2 r)                                             (13)
    b <- s (1 - log(1 + s)/(2 + s)),   s = log(1 + y)                               (14)
The guess errs by less than 2 parts in 100.  Each step raises the error to its fourth power, so that two steps suffice; after the
third, only the rounding of its own `e` is left.  For a small `b`, both logarithms of `r` are nearly the same, and `log(y/b)`
keeps the digits.  Where `y` overflows, `s` and `log y` are
    log y = log(delta |x| |x|)                                                      (15)
with the exponents of the product kept apart.  Below half a unit of rounding, where `b = y - y^2 + ...` rounds to `y`,
    b = y                                                                           (16)
and a subnormal `y` errs no more than the rounded `b` does.  For float32 too, `b` is computed in float64 and rounded once.  (17)

In (4), three roundings add up where `b < 1`.  The terms that have several roundings are small in
    dx/dz = 1 + (b + (1 + b)(exp(b/2) - 1))    for b < 1                            (18)

In (5) and (6), `1 + b` rounds to 1 for a small `b`.  Where `b` overflows, `b/2` may not, and the logarithm is too small to count:
    log|dx/dz| = log1p(b) + b/2,   delta/2 z^2 where b overflows                    (19)

In (7) and (8), `z^2` may underflow where its product with a cotangent does not, so `z` multiplies the cotangent twice.  Where the
first term of (7) or (8) overflows, it outweighs the second, since `h i` is then far larger than every power of `z`.     (20)

In (9), `dx/dz` overflows where `dz/dx` is only small, and `exp(-b/2)` carries the error of a large `b`:
    dz/dx = (z/x) / (1 + b),   z/x = exp(-b/2)   for b < 1                          (21)

In (10), the terms of (8) cancel with the parts of `x_bar`:
    delta_bar = -z^2 (z_bar z/2 + l_bar c)/(1 + b)                                  (22)
"""


@bijector(source="arXiv:1010.2265", domain=real, codomain=real, increasing=True, textbook=textbook)
class LambertWTail(Bijector):
    """x = z exp(tailweight z^2/2), whose tails are heavier than the tails of z."""

    tailweight: Array = nonnegative()
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        h, i = growth(self.b(z))
        return z * h * i                                                            # (1) (11)

    def inverse(self, x):
        return self.origin(x, self.inverse_b(x))

    def log_det(self, z):
        b, half = self.b(z), self.tailweight / 2 * z * z
        return np.where(np.isinf(b), half, np.log1p(b) + half)                      # (5) (19)

    def slope(self, z):
        b = self.b(z)
        h, i = growth(b)
        near = 1 + (b + (1 + b) * np.expm1(np.minimum(b, 1) / 2))                   # (4) (18)
        return np.where(b < 1, near, (1 + b) * h * i)                               # (4) (11)

    def inverse_and_log_det(self, x):
        b = self.inverse_b(x)
        return self.origin(x, b), -np.log1p(b) - b / 2                              # (6) (19)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        b = self.b(z)
        (h, i), c = growth(b), 0.5 + 1 / (1 + b)                                    # (7)

        def pullback(x_bar, log_det_bar):
            z_bar = outweighing(times(x_bar, h, 1 + b, i), log_det_bar * (2 * c) * self.tailweight * z)     # (7) (20)
            delta_bar = outweighing(times(x_bar, z, z, z / 2, h, i), log_det_bar * z * (z * c))     # (8) (20)
            return z_bar, {"tailweight": delta_bar}

        return (z * h * i, self.log_det(z)), pullback                               # (11)

    def inverse_vjp(self, x):
        b = self.inverse_b(x)
        z, c = self.origin(x, b), 0.5 + 1 / (1 + b)                                 # (7)

        def pullback(z_bar, log_det_bar):
            u = (z_bar - log_det_bar * (2 * c) * self.tailweight * z) / (1 + b)     # (9) (21)
            x_bar = np.where(b < 1, u * np.exp(-b / 2), u * z / x)                  # (9) (21)
            delta_bar = -(z_bar * z / 2 + log_det_bar * c) / (1 + b) * z * z        # (10) (22)
            return x_bar, {"tailweight": delta_bar}

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def b(self, z):
        return self.tailweight * z * z                                              # (1)

    def origin(self, x, b):
        return np.where(b < 1, x * np.exp(-b / 2), np.copysign(np.sqrt(b / self.tailweight), x))    # (2) (12)

    def inverse_b(self, x):
        """W(y), rounded once."""
        dtype, (x, delta) = x.dtype, doubled(x, self.tailweight)                    # (17)
        y = delta * x * x                                                           # (2)
        above, below = np.isinf(y), y < np.finfo(y.dtype).eps / 4                   # (15) (16)
        y_inside = np.where(above | below, 1, y)
        log_y = log_abs_product(np.stack(np.broadcast_arrays(x, x, np.where(above, delta, 1)), -1))         # (15)
        s = np.where(above, log_y, np.log1p(y_inside))                              # (14) (15)
        b = s * (1 - np.log1p(s) / (2 + s))                                         # (14)
        for _ in range(3):
            r = np.where(above, log_y - np.log(b), np.log(y_inside / b)) - b        # (13)
            q = 2 * (1 + b) * (1 + b + 2 * r / 3)                                   # (13)
            b = b * (1 + r / (1 + b) * (q - r) / (q - 2 * r))                       # (13)
        return rounded(np.where(below, y, b), dtype)                                # (16) (17)

    hard_cases = (
        case("Identity", "a tail weight of 0", z=[3.0, -2.0**1000], x=[3.0, 5e-324], tailweight=0.0),
        case("Tiny", "the log-det is 3 b/2", z=[1e-9, -1e-150], x=[1e-9, 1e-150], tailweight=0.5),
        case("Overflow", "h^2 overflows, x does not", z=[2.0**-25 * 1.49], tailweight=2.0**60),
        case("SlopeOverflow", "x overflows, its product with a small cotangent does not", z=[38.4, -39.0], tailweight=0.96),
        case("SquareUnderflows", "z^2 underflows, b and the tail weight's cotangent do not", z=[2.0**-530], x=[2.0**-530],
             tailweight=2.0**60),
        case("SquareOverflows", "z^2 overflows, b does not", z=[2.0**530], x=[2.0**530, 2.0**1000], tailweight=2.0**-60),
        case("BeyondFloats", "y overflows, b is 1420", x=[2.0**1000, -2.0**900], tailweight=2.0**60),
        case("Switch", "(2) and (12) meet at y = exp(1)", x=[1.648721270700128, 1.6487212707001282, 1.65], tailweight=1.0),
        case("Half", "(16) begins", x=[2.0**-27, 2.0**-27 * (1 - 2.0**-53)], tailweight=1.0),
    )


def growth(b):
    """h and i, with h i = exp(b/2)."""
    i = np.where(b < 1, 1, np.exp(b / 4))                                           # (11)
    return np.where(b < 1, np.exp(b / 2), i), i                                     # (11)


def outweighing(a, b):
    """a + b; a where a is infinite, even if b is the other infinity."""
    return np.where(np.isinf(a), a, a + b)
