r"""GELU approximated by tanh, on every entry of an event.

The map.  With the logistic `sigma(v) = 1/(1 + exp(-v))`, so that `1/2 (1 + tanh u) = sigma(2 u)`,
    h = 1/2 a (1 + tanh((2/pi)^(1/2) (a + k a^3))) = a sigma(v),   k = 0.044715     (1)
    v = (8/pi)^(1/2) a (1 + k a^2)                                                  (2)
    dh/da = sigma(v) (1 + w sigma(-v)),   w = a dv/da = (8/pi)^(1/2) a (1 + 3 k a^2)        (3)
`h` differs from the exact `a Phi(a)` by less than 5e-4.

The reverse rule.  By (3),
    a_bar = h_bar dh/da                                                             (4)

Source: Hendrycks & Gimpel, arXiv:1606.08415.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Conditioner, case, conditioner

RATE = math.sqrt(8 / math.pi)
CUBIC = 0.044715 * RATE                         # the factor of a^3 in (2)
DEEP = -8                                       # exp(v) is a normal number there, in float32 too
END = 32                                        # (5)


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def forward(a):
        return a * textbook.sigma(a)                                                # (1)

    def sigma(a):
        v = np.sqrt(8 / np.pi) * a * (1 + 44715 * a ** 2 / 10**6)                   # (2)
        return 1 / (1 + np.exp(-v))

    def slope(a):
        w = np.sqrt(8 / np.pi) * a * (1 + 3 * 44715 * a ** 2 / 10**6)               # (3)
        sigma = textbook.sigma(a)
        return sigma * (1 + w * (1 - sigma))                                        # (3)

    def vjp(a, h_bar):
        return h_bar * textbook.slope(a), {}                                        # (4)


r"""In floating point.

In (2) and (3), `a^2` overflows, where `h` is `a` or 0.  For `|a| >= 32`, `|v| > 2000`, so that `exp(-|v|)` is 0 in floats, whatever
multiplies it, and `v` and `w` may be taken at 32 in place of `|a|`.                                            (5)

In (1), `exp(-v)` overflows where `h` need not be 0.  With `t = exp(-|v|)`,
    h = a/(1 + t) for a > 0,   a t/(1 + t) for a <= 0                               (6)

In (3), `1 - sigma(v)` would lose every digit once `sigma(v)` rounds to 1:
    dh/da = (1 + t + w t)/(1 + t)^2       for a > 0                                 (7)
          = t (1 + t + w)/(1 + t)^2       for a <= 0                                (8)
(8) cancels only near its zero, at -0.75.

In (1) and (4), `t` may lose digits below the smallest normal number, or be 0, where the whole product does neither.  Below
`a = -8`, with `m = exp(-|v|/2)`, so that `t = m^2`,
    h = (a m) m/(1 + t),   a_bar = ((h_bar m) (1 + t + w) m)/(1 + t)^2              (9)
Roundings of `v` and `w` are errors of exponents, so that both are computed in float64, for float32 too.
"""


@conditioner(source="arXiv:1606.08415", textbook=textbook)
class TanhGELU(Conditioner):
    """h = a (1 + tanh(sqrt(2/pi) (a + 0.044715 a^3)))/2, which approximates `GELU`."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        _, m, t = parts(a)
        h = np.where(a > 0, a, np.where(a < DEEP, a * m * m, a * t)) / (1 + t)      # (6) (9)
        return h.astype(a.dtype)

    def slope(self, a):
        return self.vjp(a)[1](np.ones_like(a))[0]

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        def pullback(h_bar):
            w, m, t = parts(a)
            right, left = 1 + t + w * t, t * (1 + t + w)                            # (7) (8)
            deep = h_bar * m * (1 + t + w) * m                                      # (9)
            scaled = np.where(a < DEEP, deep, h_bar * np.where(a > 0, right, left))
            return (scaled / (1 + t) ** 2).astype(a.dtype), {}                      # (4)

        return self.forward(a), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Turning", "the slope passes through 0", z=[-0.7524614220710162, -0.7524614220710163]),
        case("Switch", "(6) and (9) meet, and (8) and (9)", z=[np.nextafter(-8, -9), -8.0, np.nextafter(-8, 0)]),
        case("Left", "t alone is subnormal or 0, h and the slope are not", z=[-10.9, -11.3, -21.4, -21.7, -21.83]),
        case("Right", "h rounds to a, and the slope to 1", z=[6.0, 21.5]),
        case("End", "(5) begins", z=[-32.0, np.nextafter(32, 31), 32.0, np.nextafter(32, 33)]),
        case("Beyond", "a^2 overflows", z=[2.0**1000, -2.0**1000]),
    )


def parts(a):
    """w, m and t."""
    near = np.minimum(np.abs(a), END).astype(np.float64)                            # (5)
    square = near * near
    v, w = near * (RATE + CUBIC * square), near * (RATE + 3 * CUBIC * square)       # (2) (3)
    return np.copysign(w, a), np.exp(-v / 2), np.exp(-v)                            # (6) (9)
