r"""Hyperbolic tangent with logarithmic tails, `R -> R`.

The map.  With `c = cut_point > 0`, `T = tanh c`, the slope `s = 1 - T^2` at `c`, and `A = c s`,
    L = log(|z|/c),   w = (|x| - T)/A                                               (1)
    x = tanh z                          for |z| <= c
      = sign(z) (T + A L)               for |z| >  c                                (2)
    z = artanh x                        for w <= 0
      = sign(x) c exp(w)                for w >  0                                  (3)
`A L` is `alpha log(beta |z|) - T` in the letters of the source, with the `alpha = A` for which the slope does not jump at `c`.
Within the cut points all else is as in `Tanh`.  Beyond them
    dx/dz = A/|z|                     for |z| > c                                   (4)
    log|dx/dz| = -2 log cosh c - L    for |z| > c                                   (5)
    log|dz/dx| = 2 log cosh c + w     for w > 0                                     (6)
The second derivative jumps at `|z| = c`, which belongs to the hyperbolic tangent.

The reverse rule.  Within the cut points, `Tanh` gives the cotangents, and `c_bar = 0`.  Beyond them, `dL/dz = 1/z`,
`dL/dc = -1/c` and `dA/dc = A r`.  With the cotangent `l_bar` of (5),
    z_bar = (x_bar sign(z) A - l_bar)/z        for |z| > c                          (7)
    c_bar = (sign(z) x_bar A L + l_bar) r      for |z| > c,   r = (1 - 2 c T)/c     (8)
For the inverse map, with the cotangent `l_bar` of (6),
    x_bar = (z_bar |z| + l_bar sign x)/A       for w > 0                            (9)
    c_bar = -(z_bar z w + l_bar (1 + w)) r     for w > 0                            (10)

Source: nflows, LogTanh.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real
from ...core.arithmetic import times
from .leaky_tanh import excess, unchecked_tanh


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def letters(cut_point):
        """T and A."""
        T = np.tanh(cut_point)
        return T, cut_point * (1 - T**2)

    def forward(z, cut_point):
        T, A = textbook.letters(cut_point)
        L = np.log(np.abs(z) / cut_point)                                           # (1)
        return np.tanh(z) if np.abs(z) <= cut_point else np.sign(z) * (T + A * L)   # (2)

    def inverse(x, cut_point):
        T, A = textbook.letters(cut_point)
        w = (np.abs(x) - T) / A                                                     # (1)
        return np.arctanh(x) if w <= 0 else np.sign(x) * cut_point * np.exp(w)      # (3)

    def slope(z, cut_point):
        _, A = textbook.letters(cut_point)
        return 1 - np.tanh(z) ** 2 if np.abs(z) <= cut_point else A / np.abs(z)     # (4)

    def log_det(z, cut_point):
        if np.abs(z) <= cut_point:
            return -2 * np.log(np.cosh(z))
        return -2 * np.log(np.cosh(cut_point)) - np.log(np.abs(z) / cut_point)      # (5)

    def inverse_log_det(x, cut_point):
        T, A = textbook.letters(cut_point)
        w = (np.abs(x) - T) / A                                                     # (1)
        return -np.log(1 - x**2) if w <= 0 else 2 * np.log(np.cosh(cut_point)) + w  # (6)

    def vjp(z, cut_point, x_bar, l_bar):
        if np.abs(z) <= cut_point:
            return x_bar * (1 - np.tanh(z) ** 2) - 2 * l_bar * np.tanh(z), {"cut_point": 0 * z}
        c, (T, A) = cut_point, textbook.letters(cut_point)
        L, r, side = np.log(np.abs(z) / c), (1 - 2 * c * T) / c, np.sign(z)         # (1) (8)
        return (x_bar * side * A - l_bar) / z, {"cut_point": (side * x_bar * A * L + l_bar) * r}    # (7) (8)

    def inverse_vjp(x, cut_point, z_bar, l_bar):
        c, (T, A) = cut_point, textbook.letters(cut_point)
        w, z = (np.abs(x) - T) / A, textbook.inverse(x, cut_point)                  # (1) (3)
        if w <= 0:
            return (z_bar + 2 * l_bar * x) / (1 - x**2), {"cut_point": 0 * x}
        x_bar = (z_bar * np.abs(z) + l_bar * np.sign(x)) / A                        # (9)
        return x_bar, {"cut_point": -(z_bar * z * w + l_bar * (1 + w)) * (1 - 2 * c * T) / c}       # (8) (10)


r"""In floating point.

In (1) and (4), `1 - T^2` loses every digit once `T` rounds to 1, and `|x| - T` loses the digits of `1 - T`.  `w` is the `w` of
`LeakyTanh` divided by `c`, and
    A = c/(1 + sinh^2 c)     for c <= 1
      = c/C^2,   C = cosh c  for c >  1                                             (11)
The first row adds fewer roundings.  `C` may overflow: the factors are multiplied one by one.  `|z|/c` may overflow, too:
    L = log|z| - log c                                  where |z|/c overflows       (12)

In (3) and (10), `exp(w)` may overflow where its product with `c`, or with a cotangent, does not; where the product is infinite, it
outweighs `w`:
    |z| = (c h) h,   h = exp(w/2)                                                   (13)

In (5) and (6), `cosh c` overflows for a large `c`, and rounds to 1 for a small one: `-2 log cosh c` is the log-det of `Tanh` at
`c`.                                                                                                            (14)
"""


@bijector(source="nflows", domain=real, codomain=real, increasing=True, textbook=textbook)
class LogTanh(Bijector):
    """x = tanh z for |z| <= cut_point, logarithmic beyond, with the same slope where they meet."""

    cut_point: Array = positive(default=1.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def breaks(self):
        """-cut_point and cut_point, where the second derivative jumps; the derivative there is that of tanh."""
        return np.stack((-self.cut_point, self.cut_point), -1)

    def tail(self, v):
        """v A."""
        c, S, C = self.cut_point, np.sinh(self.cut_point), np.cosh(self.cut_point)
        return np.where(c <= 1, v * c / (1 + S * S), v * c / C / C)                 # (11)

    def L(self, z):
        a, c = np.abs(z), self.cut_point
        ratio = a / c
        return np.where(np.isinf(ratio), np.log(a) - np.log(c), np.log(ratio))      # (1) (12)

    def w(self, x):
        return excess(x, self.cut_point) / self.cut_point                           # (1)

    def inside(self, z):
        return np.abs(z) <= self.cut_point

    def forward(self, z):
        beyond = np.tanh(self.cut_point) + self.tail(self.L(z))
        return np.where(self.inside(z), np.tanh(z), np.copysign(beyond, z))         # (2)

    def inverse(self, x):
        w = self.w(x)
        h = np.exp(w / 2)                                                           # (13)
        return np.where(w <= 0, np.arctanh(x), np.copysign(self.cut_point * h * h, x))      # (3) (13)

    def log_det(self, z):
        tanh = unchecked_tanh(z)
        return np.where(self.inside(z), tanh.log_det(z), tanh.log_det(self.cut_point) - self.L(z))  # (5) (14)

    def slope(self, z):
        return np.where(self.inside(z), unchecked_tanh(z).slope(z), self.tail(1) / np.abs(z))       # (4)

    def inverse_and_log_det(self, x):
        w, tanh = self.w(x), unchecked_tanh(x)
        beyond = w - tanh.log_det(self.cut_point)                                   # (6) (14)
        return self.inverse(x), np.where(w <= 0, tanh.inverse_and_log_det(x)[1], beyond)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        c, side, inside, L = self.cut_point, np.sign(z), self.inside(z), self.L(z)
        r, (_, pullback_within) = (1 - 2 * c * np.tanh(c)) / c, unchecked_tanh(z).vjp(z)            # (8)

        def pullback(x_bar, log_det_bar):
            beyond = (side * self.tail(x_bar) - log_det_bar) / z                    # (7)
            z_bar = np.where(inside, pullback_within(x_bar, log_det_bar)[0], beyond)
            c_bar = (side * self.tail(x_bar * L) + log_det_bar) * r                 # (8)
            return z_bar, {"cut_point": np.where(inside, 0, c_bar)}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        c, side, w = self.cut_point, np.sign(x), self.w(x)
        C, h, r = np.cosh(c), np.exp(w / 2), (1 - 2 * c * np.tanh(c)) / c           # (11) (13) (8)
        _, pullback_within = unchecked_tanh(x).inverse_vjp(x)

        def pullback(z_bar, log_det_bar):
            beyond = times(times(z_bar, h, h) + log_det_bar * side / c, C, C)       # (9) (11) (13)
            x_bar = np.where(w <= 0, pullback_within(z_bar, log_det_bar)[0], beyond)
            through_z = side * times(z_bar * c, w, h, h)                            # (13)
            c_bar = -np.where(np.isinf(through_z), through_z, through_z + times(log_det_bar, 1 + w)) * r    # (10) (13)
            return x_bar, {"cut_point": np.where(w <= 0, 0, c_bar)}

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Usual", "both sides of the cut points", z=[-4.0, 0.5, 3.5], x=[-1.1, 0.5, 2.25], cut_point=1.0),
        case("Breaks", "the derivative of the log-det jumps", z=[-1.0, 1.0, np.nextafter(1, 2)], x=[0.7615941559557649], cut_point=1.0),
        case("LateCut", "T rounds to 1: only the digits of 1 - T tell on which side 1 lies", z=[30.0, 1e17], x=[1.0, np.nextafter(1, 0)],
             cut_point=25.0),
        case("EarlyCut", "nearly everything is logarithmic", z=[1e-17, -2.0**1000, 5e-324], x=[-1e-17, 1e-16], cut_point=2.0**-60),
        case("RatioOverflows", "|z|/c overflows in float32, its logarithm does not", z=[2.0**126], cut_point=2.0**-20),
        case("Turning", "the cotangent of c passes through 0", z=[2.0], x=[1.0], cut_point=0.7717023192091396),
        case("Steep", "exp(w) overflows, c exp(w) does not", x=[7.0e-16], cut_point=2.0**-60),
    )
