r"""Leaky hyperbolic tangent, `R -> R`: beyond `-m` and `m`, its tangent lines.

The map.  With `m = max_val > 0`, `T = tanh m`, the slope `s = 1 - T^2` at `m`, and
    d = |z| - m,   w = (|x| - T)/s                                                  (1)
    x = tanh z                          for d <= 0
      = sign(z) (T + s d)               for d >  0                                  (2)
    z = artanh x                        for w <= 0
      = sign(x) (m + w)                 for w >  0                                  (3)
Between the ends all else is as in `Tanh`.  Beyond them
    dx/dz = s                      for d > 0                                        (4)
    log|dx/dz| = -2 log cosh m     for d > 0                                        (5)
    log|dz/dx| = 2 log cosh m      for w > 0                                        (6)
The second derivative jumps at `|z| = m`, which belongs to the hyperbolic tangent.

The reverse rule.  Between the ends, `Tanh` gives the cotangents, and `m_bar = 0`.  Beyond them, with `ds/dm = -2 s T` and the
cotangent `l_bar` of (5),
    z_bar = x_bar s                              for d > 0                          (7)
    m_bar = -2 T (sign(z) x_bar s d + l_bar)     for d > 0                          (8)
For the inverse map, with the cotangent `l_bar` of (6),
    x_bar = z_bar/s                              for w > 0                          (9)
    m_bar = 2 T (sign(x) z_bar w + l_bar)        for w > 0                          (10)

Source: FlowJAX, LeakyTanh.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real
from ...core.arithmetic import times
from ...core.pairs import expm1, pair
from .tanh import Tanh


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def forward(z, max_val):
        m, T = max_val, np.tanh(max_val)
        d = np.abs(z) - m                                                           # (1)
        return np.tanh(z) if d <= 0 else np.sign(z) * (T + (1 - T**2) * d)          # (2)

    def beyond(x, max_val):
        T = np.tanh(max_val)
        return (np.abs(x) - T) / (1 - T**2)                                         # (1)

    def inverse(x, max_val):
        w = textbook.beyond(x, max_val)
        return np.arctanh(x) if w <= 0 else np.sign(x) * (max_val + w)              # (3)

    def slope(z, max_val):
        return 1 - np.tanh(min(np.abs(z), max_val)) ** 2                            # (4)

    def log_det(z, max_val):
        return -2 * np.log(np.cosh(min(np.abs(z), max_val)))                        # (5)

    def inverse_log_det(x, max_val):
        return -np.log(1 - min(np.abs(x), np.tanh(max_val)) ** 2)                   # (6)

    def vjp(z, max_val, x_bar, l_bar):
        T, d = np.tanh(max_val), np.abs(z) - max_val                                # (1)
        s = 1 - T**2
        if d <= 0:
            return x_bar * (1 - np.tanh(z) ** 2) - 2 * l_bar * np.tanh(z), {"max_val": 0 * z}
        return x_bar * s, {"max_val": -2 * T * (np.sign(z) * x_bar * s * d + l_bar)}        # (7) (8)

    def inverse_vjp(x, max_val, z_bar, l_bar):
        T, w = np.tanh(max_val), textbook.beyond(x, max_val)
        if w <= 0:
            return (z_bar + 2 * l_bar * x) / (1 - x**2), {"max_val": 0 * x}
        return z_bar / (1 - T**2), {"max_val": 2 * T * (np.sign(x) * z_bar * w + l_bar)}    # (9) (10)


r"""In floating point.

In (1) and (4), `1 - T^2` loses every digit once `T` rounds to 1:
    s = 1/C^2,   C = cosh m                                                         (11)
and the rounding of `T` decides on which side of an end a nearby `x` lies.  With `E = exp(-2 m) - 1` in a pair of floats, of twice
the digits,
    w = (|x| (2 + E) + E)/(2 + E) C^2                   for m <  20 and |x| <= 2    (12)
      = (|x| - 1) C^2 + (1 + exp(-2 m))/2               for m >= 20                 (13)
since `T = -E/(2 + E)` and `1 - T = 2/(1 + exp(2 m))`.  `C^2` may overflow, even where `|x| - 1` is 0, and `w` may overflow
where its product with a cotangent does not.  So the factors are multiplied one by one, the cotangent first.

In (5) and (6), `cosh m` overflows for a large `m`, and rounds to 1 for a small one.  (5) is the log-det of `Tanh` at `m`, and (6)
is its negative.                                                                                                (14)
"""


@bijector(source="FlowJAX", domain=real, codomain=real, increasing=True, textbook=textbook)
class LeakyTanh(Bijector):
    """x = tanh z for |z| <= max_val, its tangent lines beyond."""

    max_val: Array = positive()
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def breaks(self):
        """-max_val and max_val, where the second derivative jumps; the derivative there is that of tanh."""
        return np.stack((-self.max_val, self.max_val), -1)

    def inside(self, z):
        """z where it is between the ends, else the nearer end."""
        return np.clip(z, -self.max_val, self.max_val)

    def forward(self, z):
        d, C = np.abs(z) - self.max_val, np.cosh(self.max_val)                      # (1) (11)
        return np.where(d <= 0, np.tanh(z), np.copysign(np.tanh(self.max_val) + d / C / C, z))      # (2) (11)

    def inverse(self, x):
        w = excess(x, self.max_val)
        return np.where(w <= 0, np.arctanh(x), np.copysign(self.max_val + w, x))    # (3)

    def log_det(self, z):
        return unchecked_tanh(z).log_det(self.inside(z))                            # (5) (14)

    def slope(self, z):
        return unchecked_tanh(z).slope(self.inside(z))                              # (4) (11)

    def inverse_and_log_det(self, x):
        _, between = unchecked_tanh(x).inverse_and_log_det(x)
        beyond = -unchecked_tanh(x).log_det(self.max_val)                           # (6) (14)
        return self.inverse(x), np.where(excess(x, self.max_val) <= 0, between, beyond)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        m, side, d = self.max_val, np.sign(z), np.abs(z) - self.max_val             # (1)
        T, C, (_, pullback_between) = np.tanh(m), np.cosh(m), unchecked_tanh(z).vjp(z)

        def pullback(x_bar, log_det_bar):
            z_bar = np.where(d <= 0, pullback_between(x_bar, log_det_bar)[0], x_bar / C / C)        # (7) (11)
            m_bar = -2 * (side * (T * x_bar) * (d / C) / C + T * log_det_bar)       # (8) (11)
            return z_bar, {"max_val": np.where(d <= 0, 0, m_bar)}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        m, side, w = self.max_val, np.sign(x), excess(x, self.max_val)
        T, C, (_, pullback_between) = np.tanh(m), np.cosh(m), unchecked_tanh(x).inverse_vjp(x)

        def pullback(z_bar, log_det_bar):
            x_bar = np.where(w <= 0, pullback_between(z_bar, log_det_bar)[0], times(z_bar, C, C))   # (9) (11)
            m_bar = 2 * (side * excess(x, m, T * z_bar) + T * log_det_bar)          # (10)
            return x_bar, {"max_val": np.where(w <= 0, 0, m_bar)}

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Usual", "both sides of the ends", z=[-4.0, 2.5, 3.5], x=[-1.1, 0.9, 1.25], max_val=3.0),
        case("Breaks", "the derivative of the log-det jumps", z=[-3.0, 3.0, np.nextafter(3, 4)], x=[0.9950547536867305], max_val=3.0),
        case("LateEnd", "T rounds to 1: only (13) tells on which side 1 lies", z=[30.0, 1e17], x=[1.0, np.nextafter(1, 0)], max_val=25.0),
        case("LaterEnd", "in float32 exp(-2 m) rounds to 0", x=[1.0, -1.0], max_val=60.0),
        case("EarlyEnd", "nearly everything is a line of slope 1", z=[1e-17, -2.0**1000, 5e-324], x=[-1e-17, 2.0**1000],
             max_val=2.0**-60),
        case("Flat", "the slope is below the smallest normal number, d s is not", z=[1e300, -2.0**1000], x=[1.0, 1.5], max_val=360.0),
        case("Switch", "(12) and (13) meet", x=[0.75, -0.5], max_val=0.5493061443340548),
    )


def unchecked_tanh(like):
    return Tanh().unchecked(like.dtype)


def excess(x, m, factor=1):
    """w, or its product with a factor."""
    a, C = np.abs(x), np.cosh(m)                                                    # (11)
    E = expm1(pair(-2 * np.minimum(m, 20).astype(np.float64)))                      # (12)
    beside = ((np.minimum(a, 2).astype(np.float64) * (2 + E) + E) / (2 + E)).astype(x.dtype)        # (12)
    early = times(factor * np.where(a <= 2, beside, a - np.tanh(m)), C, C)          # (1) (12)
    return np.where(m < 20, early, times(factor * (a - 1), C, C) + factor * (1 + np.exp(-2 * m)) / 2)       # (1) (13)
