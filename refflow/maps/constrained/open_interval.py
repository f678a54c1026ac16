r"""Open interval, `R -> (a, b)`, by the logistic function.

The map.  With `w = b - a`,
    x = a + w s,   s = 1 / (1 + exp(-z))                                            (1)
    z = log((x - a) / (b - x))                                                      (2)
    dx/dz = w s (1 - s)                                                             (3)
    log|dx/dz| = log w + log s + log(1 - s)                                         (4)
    log|dz/dx| = log w - log(x - a) - log(b - x)                                    (5)

The reverse rule.  The derivative of (4) by `z` is `1 - 2 s`, and `dw = db - da`.  With the cotangent `l_bar` of (4),
    z_bar = x_bar w s (1 - s) + l_bar (1 - 2 s)                                     (6)
    a_bar = x_bar (1 - s) - l_bar / w,   b_bar = x_bar s + l_bar / w                (7)
For the inverse map, from (2) and (5), with the cotangent `l_bar` of (5),
    x_bar = (z_bar - l_bar) / (x - a) + (z_bar + l_bar) / (b - x)                   (8)
    a_bar = (l_bar (b - x) / w - z_bar) / (x - a)                                   (9)
    b_bar = -(l_bar (x - a) / w + z_bar) / (b - x)                                  (10)

Source: the definition; Stan reference manual, "Lower and upper bounded scalar".
"""

from __future__ import annotations

from math import log

import numpy as np

from ...core import Array, Bijector, bijector, case, increasing, real
from ...core.sets import intervals


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def s(z):
        return 1 / (1 + np.exp(-z))                                                 # (1)

    def forward(z, ends):
        a, b = ends
        return a + (b - a) * textbook.s(z)                                          # (1)

    def inverse(x, ends):
        a, b = ends
        return np.log((x - a) / (b - x))                                            # (2)

    def slope(z, ends):
        (a, b), s = ends, textbook.s(z)
        return (b - a) * s * (1 - s)                                                # (3)

    def log_det(z, ends):
        (a, b), s = ends, textbook.s(z)
        return np.log(b - a) + np.log(s) + np.log(1 - s)                            # (4)

    def inverse_log_det(x, ends):
        a, b = ends
        return np.log(b - a) - np.log(x - a) - np.log(b - x)                        # (5)

    def vjp(z, ends, x_bar, l_bar):
        (a, b), s = ends, textbook.s(z)
        z_bar = x_bar * (b - a) * s * (1 - s) + l_bar * (1 - 2 * s)                 # (6)
        ends_bar = [x_bar * (1 - s) - l_bar / (b - a), x_bar * s + l_bar / (b - a)]         # (7)
        return z_bar, {"ends": np.array(ends_bar)}

    def inverse_vjp(x, ends, z_bar, l_bar):
        a, b = ends
        x_bar = (z_bar - l_bar) / (x - a) + (z_bar + l_bar) / (b - x)               # (8)
        a_bar = (l_bar * (b - x) / (b - a) - z_bar) / (x - a)                       # (9)
        b_bar = -(l_bar * (x - a) / (b - a) + z_bar) / (b - x)                      # (10)
        return x_bar, {"ends": np.array([a_bar, b_bar])}


r"""In floating point.

In (1), `exp(-z)` overflows far below 0, and far above 0 the last digit of `s` is larger than the distance from `b`.  With
`e = exp(-|z|)`, which is at most 1,
    x = a + w e / (1 + e)                                    for z < -1             (11)
      = b - w e / (1 + e)                                    for z >  1             (12)
      = (a + b)/2 + (w/2) tanh(z/2)                          for |z| <= 1           (13)
(11) and (12) keep the digits of the distance to the nearer end; in (13) the term with several roundings is small.

In (2), the quotient may overflow where its logarithm does not:
    z = 2 log(sqrt(x - a) / sqrt(b - x))                                            (14)

In (3), `1 - s` loses every digit once `s` rounds to 1:
    dx/dz = w e / (1 + e)^2                                                         (15)
          = (w/4) (1 - tanh(z/2)^2)                          for |z| <= 1           (16)

In (4), `1 - s` loses its digits, too; in (18) the term with several roundings is small:
    log|dx/dz| = log w - |z| - 2 log(1 + e)                                         (17)
               = log(w/4) + log(1 - tanh(z/2)^2)             for |z| <= 1           (18)

In (5), three logarithms cancel where `w` is large:
    log|dz/dx| = -log(d (D / w)),   d, D the smaller and the larger of x - a and b - x      (19)
`w = d + D`, so that `1/2 <= D/w <= 1`.

In (6), `1 - 2 s` cancels near `z = 0`.  It is `-tanh(z/2)`, but `z/2` would lose the last digit of a subnormal `z`, and a large
cotangent would show it:
    tanh(|z|/2) = (1 - e) / (1 + e)                                                 (20)

In (7), `1 - s` cancels where `s` is nearly 1.  The smaller of `s` and `1 - s` is `e / (1 + e)`, the larger `1 / (1 + e)`.  (21)

In (3), (6) and (7), `e` may be subnormal or 0 where its product is not:
    v e = (v h) h,   h = exp(-|z|/2)                                                (22)
"""


@bijector(source="Stan reference manual, lower and upper bounded scalar", domain=real, increasing=True, textbook=textbook)
class OpenInterval(Bijector):
    """x = a + (b - a) / (1 + exp(-z)), from R to the open interval of its `ends` (a, b), a < b."""

    ends: Array = increasing(2)
    event_ndim = (0, 0)

    codomain = property(lambda self: intervals(self.a, self.b))
    a = property(lambda self: self.ends[..., 0])
    b = property(lambda self: self.ends[..., 1])
    width = property(lambda self: self.b - self.a)

    @classmethod
    def reaching(cls, where, like):
        """The map onto an interval, or onto the interval of each entry of `like`."""
        ends = (where.lower, where.upper) if where.alike else where.ends_of(like.shape)
        return cls(np.stack(ends, -1).astype(like.dtype))

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        step = times_e(self.width, z) / (1 + np.exp(-np.abs(z)))                    # (22)
        middle = self.a / 2 + self.b / 2 + self.width / 2 * np.tanh(z / 2)          # (1) (13)
        return np.where(np.abs(z) <= 1, middle, np.where(z < 0, self.a + step, self.b - step))      # (1) (11) (12)

    def inverse(self, x):
        return 2 * np.log(np.sqrt(x - self.a) / np.sqrt(self.b - x))                # (2) (14)

    def log_det(self, z):
        size, w = np.abs(z), self.width
        quarter = np.where(w < 1, np.log(w) - log(4), np.log(np.maximum(w, 1) / 4))         # w/4 may be subnormal
        near = quarter + np.log1p(-(np.tanh(z / 2) ** 2))                           # (4) (18)
        return np.where(size <= 1, near, np.log(w) - size - 2 * np.log1p(np.exp(-size)))    # (4) (17)

    def slope(self, z):
        tanh = np.tanh(z / 2)
        beyond = times_e(self.width, z) / (1 + np.exp(-np.abs(z))) ** 2             # (3) (15)
        return np.where(np.abs(z) <= 1, self.width / 4 * (1 - tanh * tanh), beyond)         # (3) (16)

    def inverse_and_log_det(self, x):
        left, right = x - self.a, self.b - x
        d, D = np.minimum(left, right), np.maximum(left, right)
        return self.inverse(x), -np.log(d * (D / self.width))                       # (5) (19)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            one_e = 1 + np.exp(-np.abs(z))
            small, large = times_e(x_bar, z) / one_e, x_bar / one_e
            of_width = log_det_bar / self.width
            a_bar = np.where(z < 0, large, small) - of_width                        # (7) (21)
            b_bar = np.where(z < 0, small, large) + of_width                        # (7) (21)
            slope_bar = times_e(x_bar * self.width, z) / one_e**2                   # (15) (22)
            bent_bar = log_det_bar * np.copysign(np.expm1(-np.abs(z)), z) / one_e   # (20)
            return slope_bar - bent_bar, {"ends": np.stack((a_bar, b_bar), -1)}     # (6)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        left, right = x - self.a, self.b - x

        def pullback(z_bar, log_det_bar):
            x_bar = (z_bar - log_det_bar) / left + (z_bar + log_det_bar) / right    # (8)
            a_bar = (log_det_bar * (right / self.width) - z_bar) / left             # (9)
            b_bar = -(log_det_bar * (left / self.width) + z_bar) / right            # (10)
            return x_bar, {"ends": np.stack((a_bar, b_bar), -1)}

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("SmallestEvent", "the log-det's gradient is -z/2 of the smallest numbers, times a large cotangent",
             z=[5e-324, -1.5e-323], ends=[-37271.51725563228, 0.19831144690733965]),
        case("Tiny", "log-det is -z^2/4 beside log(w/4)", z=[1e-9, 5e-324], ends=[-2.0, 2.0]),
        case("NearEnds", "x is one unit away from an end", x=[np.nextafter(1, 2), np.nextafter(3, 2)], ends=[1.0, 3.0]),
        case("Saturated", "the distance from the end is far below its last digit", z=[-60.0, 60.0], ends=[1.0, 2.0]),
        case("Subnormal", "exp(-|z|) is subnormal, the slope is not", z=[-740.0, 740.0], ends=[0.0, 2.0**60]),
        case("Beyond", "exp(-|z|) is 0", z=[2.0**1000, -2.0**1000], ends=[-1.0, 0.5]),
        case("Narrow", "w is subnormal in float32, w/4 loses digits", z=[0.5, -0.25, -3.0], ends=[0.0, 1e-44]),
        case("Wide", "log w and log(b - x) cancel", x=[1.0], ends=[0.0, 2.0**60]),
        case("RightHalf", "x near 0, b just above it: 1/(x - a) - 1/w cancels", x=[2.0**-40], ends=[-1.0, 2.0**-39]),
    )


def times_e(v, z):
    """v exp(-|z|)."""
    h = np.exp(-np.abs(z) / 2)
    return v * h * h                                                                # (22)
