r"""Logistic cumulative distribution function, `R -> (0, 1)`.

The map.  With `s = scale > 0`,
    x = 1/(1 + exp(-t)),   t = (z - loc)/s                                          (1)
    z = loc + s t,   t = log x - log(1 - x)                                         (2)
    dx/dz = x (1 - x)/s                                                             (3)
    log|dx/dz| = log x + log(1 - x) - log s                                         (4)
    log|dz/dx| = log s - log x - log(1 - x)                                         (5)

The reverse rule.  `dt/dz = -dt/dloc = 1/s` and `dt/ds = -t/s`, and the derivative of (4) by `t` is `1 - 2 x`.  With the cotangent
`l_bar` of (4),
    z_bar = (x_bar x (1 - x) + l_bar (1 - 2 x))/s                                   (6)
    loc_bar = -z_bar                                                                (7)
    s_bar = -t (x_bar x (1 - x) + l_bar (1 - 2 x))/s - l_bar/s                      (8)
For the inverse map, `dt/dx = 1/(x (1 - x))`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar s + l_bar (2 x - 1))/(x (1 - x))                                 (9)
    loc_bar = z_bar                                                                 (10)
    s_bar = z_bar t + l_bar/s                                                       (11)

Source: the definition of the logistic distribution.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, interval, positive, real
from ...core.arithmetic import quotient, times


class textbook:
    """(1) to (11) as they are printed, for one event."""

    def forward(z, loc, scale):
        return 1 / (1 + np.exp(-(z - loc) / scale))                                 # (1)

    def inverse(x, loc, scale):
        return loc + scale * (np.log(x) - np.log(1 - x))                            # (2)

    def slope(z, loc, scale):
        x = textbook.forward(z, loc, scale)
        return x * (1 - x) / scale                                                  # (3)

    def log_det(z, loc, scale):
        x = textbook.forward(z, loc, scale)
        return np.log(x) + np.log(1 - x) - np.log(scale)                            # (4)

    def inverse_log_det(x, loc, scale):
        return np.log(scale) - np.log(x) - np.log(1 - x)                            # (5)

    def vjp(z, loc, scale, x_bar, l_bar):
        t, x = (z - loc) / scale, textbook.forward(z, loc, scale)                   # (1)
        z_bar = (x_bar * x * (1 - x) + l_bar * (1 - 2 * x)) / scale                 # (6)
        s_bar = -t * (x_bar * x * (1 - x) + l_bar * (1 - 2 * x)) / scale - l_bar / scale    # (8)
        return z_bar, {"loc": -z_bar, "scale": s_bar}                               # (7)

    def inverse_vjp(x, loc, scale, z_bar, l_bar):
        t = np.log(x) - np.log(1 - x)                                               # (2)
        x_bar = (z_bar * scale + l_bar * (2 * x - 1)) / (x * (1 - x))               # (9)
        return x_bar, {"loc": z_bar, "scale": z_bar * t + l_bar / scale}            # (10) (11)


r"""In floating point.

In (1), `exp(-t)` overflows where `x` is not 0.  No exponential of a positive number is taken in
    x = exp(min(t, 0))/(1 + q),   q = exp(-|t|)                                     (12)

In (2) and (5), `1 - x` rounds to 1 for a small `x`, and logarithms of opposite signs cancel where the quotient of their arguments
is near 1:
    t = log x - log1p(-x)                                                           (13)
    log|dz/dx| = log((s/x)/(1 - x))                                                 (14)
               = log s - log x - log1p(-x)    where that quotient overflows         (15)
For a moderate `s`, with `log s` below 50 (20 in float32), `-log x` is there beyond 600 (60 in float32): nothing cancels.

In (3) and (4), `1 - x` loses every digit once `x` rounds to 1:
    dx/dz = r r/s,   r = h/(1 + h^2),   h = exp(-|t|/2)                             (16)
    log|dx/dz| = -|t| - 2 log1p(q) - log s                                          (17)

In (6) and (8), `1 - 2 x` cancels near `t = 0`, and `t` may overflow where its products with cotangents do not.  `d = z - loc` is
finite:
    1 - 2 x = sign(t) w,   w = expm1(-|t|)/(1 + q)                                  (18)
    z_bar = (x_bar/s r) r + (l_bar/s) sign(t) w                                     (19)
    s_bar = -(x_bar/s r) (r d)/s - (l_bar/s/s) |d| w - l_bar/s                      (20)

In (9) and (11), a denominator is 0, and `t` infinite, at the ends of (0, 1): a cotangent 0 makes its term 0.   (21)
"""


@bijector(source="definition", domain=real, codomain=interval(0, 1), increasing=True, symmetric=True, textbook=textbook)
class LogisticCDF(Bijector):
    """x = 1/(1 + exp(-(z - loc)/scale)); its inverse is the quantile function."""

    loc: Array = real(default=0.0)
    scale: Array = positive(default=1.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        t = (z - self.loc) / self.scale
        return np.exp(np.minimum(t, 0)) / (1 + np.exp(-np.abs(t)))                  # (1) (12)

    def inverse(self, x):
        return self.loc + self.scale * (np.log(x) - np.log1p(-x))                   # (2) (13)

    def log_det(self, z):
        size = np.abs((z - self.loc) / self.scale)
        return -size - 2 * np.log1p(np.exp(-size)) - np.log(self.scale)             # (4) (17)

    def slope(self, z):
        _, h = self.halved(z)
        r = h / (1 + h * h)                                                         # (16)
        return r / self.scale * r                                                   # (3) (16)

    def inverse_and_log_det(self, x):
        ratio = self.scale / x / (1 - x)                                            # (14)
        far = np.log(self.scale) - np.log(x) - np.log1p(-x)                         # (15)
        return self.inverse(x), np.where(np.isfinite(ratio), np.log(ratio), far)    # (5) (14) (15)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        d, h = self.halved(z)
        r, q = h / (1 + h * h), h * h                                               # (16)
        w = np.expm1(-np.abs(d / self.scale)) / (1 + q)                             # (18)

        def pullback(x_bar, log_det_bar):
            c, l_1 = x_bar / self.scale * r, log_det_bar / self.scale
            z_bar = c * r + l_1 * np.copysign(w, -d)                                # (6) (18) (19)
            s_bar = -c * (r * d) / self.scale - l_1 / self.scale * np.abs(d) * w - l_1      # (8) (20)
            return z_bar, {"loc": -z_bar, "scale": s_bar}                           # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        t = np.log(x) - np.log1p(-x)                                                # (2) (13)

        def pullback(z_bar, log_det_bar):
            x_bar = quotient(z_bar * self.scale + log_det_bar * (2 * x - 1), x * (1 - x))   # (9) (21)
            return x_bar, {"loc": z_bar, "scale": times(z_bar, t) + log_det_bar / self.scale}       # (10) (11) (21)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def halved(self, z):
        """d, h."""
        d = z - self.loc                                                            # (20)
        return d, np.exp(-np.abs(d / self.scale) / 2)                               # (16)

    hard_cases = (
        case("Tiny", "the gradient of the log-det is -t/2: 1 - 2 x returns 0", z=[1e-9, -1e-160, 5e-324], loc=0.0, scale=1.0),
        case("Saturated", "x rounds to 1, slope and log-det keep their digits", z=[36.8, 40.0, 700.0], loc=0.0, scale=1.0),
        case("Subnormal", "x is below the smallest normal number", z=[-708.5, -720.0, -744.0], loc=0.0, scale=1.0),
        case("Beyond", "t overflows, the cotangents' products with it do not", z=[2.0**1000, -2.0**1000], loc=0.0,
             scale=2.0**-60),
        case("LargeScale", "t overflows, the log-det's gradient l d/s^2 does not", z=[2.0**1000], loc=0.0, scale=2.0**-25),
        case("Turning", "d log-det/ds = (|t| tanh(|t|/2) - 1)/s cancels", z=[1.5434046384182085, -3.0868092768364170], loc=0.0,
             scale=1.0),
        case("UnitSlope", "log x (1 - x) and log s cancel", z=[41.0, -41.0], loc=0.0, scale=1.5628821893349888e-18),
        case("Cancelling", "z and loc agree in all digits but the last", z=[np.nextafter(3, 4)], loc=3.0, scale=2.0**-50),
        case("UnitSlopeOfInverse", "log s and log x (1 - x) cancel", x=[2.0**-60, 2.0**-59], loc=0.0, scale=2.0**-60),
        case("Tails", "next to 0, s/x overflows", x=[5e-324, 2.0**-1022, 1e-100, np.nextafter(1, 0)], loc=0.0, scale=2.0**60),
        case("Median", "t passes through 0", x=[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)], loc=0.0, scale=1.0),
    )
