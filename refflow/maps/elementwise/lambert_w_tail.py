r"""Heavy tails by Lambert's W (Goerg's h), `R -> R`.

With `delta = tailweight >= 0`, and 0 the identity,
    x = z exp(b/2),   b = delta z^2                                                 (1)
      = z h i,        h = exp(b/2),   i = 1          for b <  1
                      h = exp(b/4),   i = h          for b >= 1                     (2)
    dx/dz = (1 + b) h i                                                             (3)
    log|dx/dz| = log(1 + b) + b/2                                                   (4)
Where `b < 1`, what has several roundings is small in
    dx/dz = 1 + (b + (1 + b)(exp(b/2) - 1))                                         (18)
A large `h i` may overflow where its product with a small `z` or a small cotangent does not: each is multiplied between the two.
For `b < 1`, two exponentials would round twice.  Where `b` overflows, `b/2` may not, and the logarithm is lost beside it.

Inverse.  The square of (1), times `delta`, is an equation for `b`, whose solution is Lambert's function `W`:
    b exp(b) = y,   y = delta x^2,   b = W(y)                                       (5)
    z = x exp(-b/2)               for b < 1                                         (6)
      = sign(x) sqrt(b/delta)     for b >= 1                                        (7)
For a large `b`, (6) would carry `b/2` times its relative error; for a small one, (7) has no digits where it is subnormal.
`W` is the limit of Fritsch's iteration, from Iacono and Boyd's first guess:
    b <- b (1 + e),   r = log y - log b - b,   q = 2 (1 + b)(1 + b + 2 r/3),
    e = r / (1 + b) (q - r) / (q - 2 r)                                             (8)
    b <- s (1 - log(1 + s)/(2 + s)),   s = log(1 + y)                               (9)
The guess errs by less than 2 parts in 100.  Each step raises the error to its fourth power, so that two steps suffice; the
third leaves the rounding of its own `e` alone.  In `r`, `log(y/b)` keeps the digits of a small `b`, for which both logarithms
are nearly the same.  `y` leaves the floats where `b` does not.  Above them, `s` and `log y` are
    log y = log(delta |x| |x|)                                                      (10)
with the exponents of the product kept apart.  Below half a unit of rounding, where `b = y - y^2 + ...` rounds to `y`,
    b = y                                                                           (11)
and this `y`, even a subnormal one, is 0 next to 1.  `b` is computed in float64, for float32 too.

    dz/dx = (z/x) / (1 + b),   z/x = exp(-b/2)   for b < 1                          (12)
    log|dz/dx| = -log(1 + b) - b/2                                                  (13)

Reverse rule, from (1) and (4), with `l_bar = log_det_bar` and the derivative `1/2 + 1/(1 + b)` of (4) with respect to `b`:
    z_bar = x_bar (1 + b) h i + 2 l_bar delta z c,   c = 1/2 + 1/(1 + b)            (14)
    delta_bar = x_bar z^3 h i/2 + l_bar z^2 c                                       (15)
and for the inverse map, whose `z` has the derivative `-(z^3/2)/(1 + b)` with respect to `delta`,
    x_bar = (z_bar - 2 l_bar delta z c) dz/dx                                       (16)
    delta_bar = -z^2 (z_bar z/2 + l_bar c)/(1 + b)                                  (17)
`z^2` may underflow where its product with a cotangent does not, so `z` multiplies it twice.  Where the first term of (14) or
(15) overflows, it outweighs the second, since `h i` is then far larger than every power of `z`.

Source: Goerg, The Lambert Way to Gaussianize heavy-tailed data, arXiv:1010.2265; Fritsch, Shafer & Crowley, Communications of
the ACM 16 (1973); Iacono & Boyd, Advances in Computational Mathematics 43 (2017).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, log_abs_product, real
from ...core.arithmetic import times
from ...core.arrays import doubled, rounded
from ...core.sets import nonnegative


@bijector(source="arXiv:1010.2265", domain=real, codomain=real, increasing=True)
class LambertWTail(Bijector):
    """x = z exp(tailweight z^2/2), whose tails are heavier than the tails of z."""

    tailweight: Array = nonnegative()
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, tailweight):
        return z * m.exp(tailweight * z * z / 2)                                    # (1)

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        h, i = growth(self.b(z))
        return z * h * i                                                            # (2)

    def b(self, z):
        return self.tailweight * z * z                                              # (1)

    def log_det(self, z):
        b, half = self.b(z), self.tailweight / 2 * z * z
        return np.where(np.isinf(b), half, np.log1p(b) + half)                      # (4)

    def slope(self, z):
        b = self.b(z)
        h, i = growth(b)
        near = 1 + (b + (1 + b) * np.expm1(np.minimum(b, 1) / 2))                   # (18)
        return np.where(b < 1, near, (1 + b) * h * i)                               # (3)

    # -- inverse ------------------------------------------------------------------------------------------------------

    def inverse(self, x):
        return self.origin(x, self.inverse_b(x))

    def origin(self, x, b):
        return np.where(b < 1, x * np.exp(-b / 2), np.copysign(np.sqrt(b / self.tailweight), x))    # (6) (7)

    def inverse_b(self, x):
        """W(y), rounded once."""
        dtype, (x, delta) = x.dtype, doubled(x, self.tailweight)
        y = delta * x * x                                                           # (5)
        above, below = np.isinf(y), y < np.finfo(y.dtype).eps / 4
        y_inside = np.where(above | below, 1, y)
        log_y = log_abs_product(np.stack(np.broadcast_arrays(x, x, np.where(above, delta, 1)), -1))       # (10)
        s = np.where(above, log_y, np.log1p(y_inside))                              # (9) (10)
        b = s * (1 - np.log1p(s) / (2 + s))                                         # (9)
        for _ in range(3):
            r = np.where(above, log_y - np.log(b), np.log(y_inside / b)) - b        # (8)
            q = 2 * (1 + b) * (1 + b + 2 * r / 3)                                   # (8)
            b = b * (1 + r / (1 + b) * (q - r) / (q - 2 * r))                       # (8)
        return rounded(np.where(below, y, b), dtype)                                # (11)

    def inverse_and_log_det(self, x):
        b = self.inverse_b(x)
        return self.origin(x, b), -np.log1p(b) - b / 2                              # (13)

    # -- reverse ------------------------------------------------------------------------------------------------------

    def vjp(self, z):
        b = self.b(z)
        (h, i), c = growth(b), 0.5 + 1 / (1 + b)                                    # (14)

        def pullback(x_bar, log_det_bar):
            z_bar = outweighing(times(x_bar, h, 1 + b, i), log_det_bar * (2 * c) * self.tailweight * z)           # (14)
            delta_bar = outweighing(times(x_bar, z, z, z / 2, h, i), log_det_bar * z * (z * c))     # (15)
            return z_bar, {"tailweight": delta_bar}

        return (z * h * i, self.log_det(z)), pullback                               # (2)

    def inverse_vjp(self, x):
        b = self.inverse_b(x)
        z, c = self.origin(x, b), 0.5 + 1 / (1 + b)                                 # (14)

        def pullback(z_bar, log_det_bar):
            u = (z_bar - log_det_bar * (2 * c) * self.tailweight * z) / (1 + b)       # (12) (16)
            x_bar = np.where(b < 1, u * np.exp(-b / 2), u * z / x)                  # (12)
            delta_bar = -(z_bar * z / 2 + log_det_bar * c) / (1 + b) * z * z        # (17)
            return x_bar, {"tailweight": delta_bar}

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Identity", "a tail weight of 0", z=[3.0, -2.0**1000], x=[3.0, 5e-324], tailweight=0.0),
        case("Tiny", "the log-det is 3 b/2", z=[1e-9, -1e-150], x=[1e-9, 1e-150], tailweight=0.5),
        case("Overflow", "h^2 overflows, x does not", z=[2.0**-25 * 1.49], tailweight=2.0**60),
        case("SlopeOverflow", "x overflows, its product with a small cotangent does not", z=[38.4, -39.0], tailweight=0.96),
        case("SquareUnderflows", "z^2 underflows, b and the tail weight's cotangent do not", z=[2.0**-530], x=[2.0**-530],
             tailweight=2.0**60),
        case("SquareOverflows", "z^2 overflows, b does not", z=[2.0**530], x=[2.0**530, 2.0**1000], tailweight=2.0**-60),
        case("BeyondFloats", "y overflows, b is 1420", x=[2.0**1000, -2.0**900], tailweight=2.0**60),
        case("Switch", "(6) and (7) meet at y = exp(1)", x=[1.648721270700128, 1.6487212707001282, 1.65], tailweight=1.0),
        case("Half", "(11) begins", x=[2.0**-27, 2.0**-27 * (1 - 2.0**-53)], tailweight=1.0),
    )


def growth(b):
    """h and i, with h i = exp(b/2)."""
    i = np.where(b < 1, 1, np.exp(b / 4))                                           # (2)
    return np.where(b < 1, np.exp(b / 2), i), i                                     # (2)


def outweighing(a, b):
    """a + b; a where it is infinite, even if b has the other sign."""
    return np.where(np.isinf(a), a, a + b)
