r"""Open interval, `R -> (a, b)`, by the logistic function.

With `w = b - a` and `e = exp(-|z|)`, which is at most 1:
    x = a + w / (1 + exp(-z)) = a + w e / (1 + e)            for z < -1             (1)
                              = b - w e / (1 + e)            for z >  1             (2)
                              = (a + b)/2 + (w/2) tanh(z/2)  for |z| <= 1           (12)
    z = log((x - a) / (b - x)) = 2 log(sqrt(x - a) / sqrt(b - x))                   (3)
    dx/dz = w e / (1 + e)^2                                                         (4)
          = (w/4) (1 - tanh(z/2)^2)                          for |z| <= 1           (13)
    log|dx/dz| = log w - |z| - 2 log(1 + e)                                         (5)
               = log(w/4) + log(1 - tanh(z/2)^2)               for |z| <= 1           (14)
    log|dz/dx| = -log(d (D / w)),   d, D the smaller and the larger of x - a and b - x      (6)

(1) and (2) keep the digits of the distance to the nearer end; in (12) and (14) what has several roundings is small.
`w = d + D`, so that in (6) `1/2 <= D/w <= 1`: a sum of three logarithms would cancel where `w` is large.

Reverse rule, with `p = 1 / (1 + exp(-z))`:
    z_bar = x_bar dx/dz - log_det_bar tanh(z/2)                                     (7)
    a_bar = x_bar (1 - p) - log_det_bar / w,   b_bar = x_bar p + log_det_bar / w    (8)
where the smaller of `p` and `1 - p` is `e / (1 + e)`, the larger `1 / (1 + e)`.  For the inverse map, from (3) and (6),
    x_bar = (z_bar - log_det_bar) / (x - a) + (z_bar + log_det_bar) / (b - x)       (9)
    a_bar = (log_det_bar (b - x) / w - z_bar) / (x - a)                             (10)
    b_bar = -(log_det_bar (x - a) / w + z_bar) / (b - x)                            (11)
In (7), `tanh(|z|/2) = (1 - e)/(1 + e)`: `z/2` would lose the last digit of a subnormal `z`, which a large cotangent shows.
Products with `e` are taken as `(v h) h`, `h = exp(-|z|/2)`, since `e` may be subnormal or 0 where its product is not.

Source: the definition; Stan reference manual, "Lower and upper bounded scalar".
"""

from __future__ import annotations

from math import log

import numpy as np

from ...core import Array, Bijector, bijector, case, increasing, real
from ...core.sets import intervals


def times_e(v, z):
    """v exp(-|z|)."""
    h = np.exp(-np.abs(z) / 2)
    return v * h * h


@bijector(source="Stan reference manual, lower and upper bounded scalar", domain=real, increasing=True)
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
        """The map onto an interval, or onto that of each entry of `like`."""
        ends = (where.lower, where.upper) if where.alike else where.ends_of(like.shape)
        return cls(np.stack(ends, -1).astype(like.dtype))

    @staticmethod
    def definition(m, z, ends):
        a, b = ends
        return a + (b - a) / (1 + m.exp(-z))                                        # (1)

    def forward(self, z):
        step = times_e(self.width, z) / (1 + np.exp(-np.abs(z)))
        middle = self.a / 2 + self.b / 2 + self.width / 2 * np.tanh(z / 2)          # (12)
        return np.where(np.abs(z) <= 1, middle, np.where(z < 0, self.a + step, self.b - step))      # (1) (2)

    def inverse(self, x):
        return 2 * np.log(np.sqrt(x - self.a) / np.sqrt(self.b - x))                # (3)

    def log_det(self, z):
        size, w = np.abs(z), self.width
        quarter = np.where(w < 1, np.log(w) - log(4), np.log(np.maximum(w, 1) / 4))         # w/4 may be subnormal
        near = quarter + np.log1p(-(np.tanh(z / 2) ** 2))                           # (14)
        return np.where(size <= 1, near, np.log(w) - size - 2 * np.log1p(np.exp(-size)))    # (5)

    def slope(self, z):
        tanh = np.tanh(z / 2)
        beyond = times_e(self.width, z) / (1 + np.exp(-np.abs(z))) ** 2             # (4)
        return np.where(np.abs(z) <= 1, self.width / 4 * (1 - tanh * tanh), beyond)     # (13)

    def inverse_and_log_det(self, x):
        left, right = x - self.a, self.b - x
        d, D = np.minimum(left, right), np.maximum(left, right)
        return self.inverse(x), -np.log(d * (D / self.width))                       # (6)

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            one_e = 1 + np.exp(-np.abs(z))
            small, large = times_e(x_bar, z) / one_e, x_bar / one_e
            of_width = log_det_bar / self.width
            a_bar = np.where(z < 0, large, small) - of_width                        # (8)
            b_bar = np.where(z < 0, small, large) + of_width                        # (8)
            slope_bar = times_e(x_bar * self.width, z) / one_e**2
            bent_bar = log_det_bar * np.copysign(np.expm1(-np.abs(z)), z) / one_e
            return slope_bar - bent_bar, {"ends": np.stack((a_bar, b_bar), -1)}     # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        left, right = x - self.a, self.b - x

        def pullback(z_bar, log_det_bar):
            x_bar = (z_bar - log_det_bar) / left + (z_bar + log_det_bar) / right    # (9)
            a_bar = (log_det_bar * (right / self.width) - z_bar) / left             # (10)
            b_bar = -(log_det_bar * (left / self.width) + z_bar) / right            # (11)
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
