r"""Cosine with its sign changed, `(0, pi) -> (-1, 1)`.

The map.  For `0 < z < pi`,
    x = -cos z                                                                      (1)
    z = arccos(-x)                                                                  (2)
    dx/dz = sin z                                                                   (3)
    log|dx/dz| = log sin z                                                          (4)
    log|dz/dx| = -log(1 - x^2)/2                                                    (5)

The reverse rule.  The derivative of (4) is `cos(z)/sin z`, so with the cotangent `l_bar` of (4),
    z_bar = x_bar sin z + l_bar cos(z)/sin z                                        (6)
For the inverse map, `1 - x^2 = sin^2 z`.  With `c = sqrt(1 - x^2)` and the cotangent `l_bar` of (5),
    x_bar = (z_bar + l_bar x/c)/c                                                   (7)

Source: NIST DLMF 4.14, 4.23.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval
from ...core.arithmetic import quotient
from .sin import event_bar, log_inverse_slope


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return -np.cos(z)                                                           # (1)

    def inverse(x):
        return np.arccos(-x)                                                        # (2)

    def slope(z):
        return np.sin(z)                                                            # (3)

    def log_det(z):
        return np.log(np.sin(z))                                                    # (4)

    def inverse_log_det(x):
        return -np.log(1 - x**2) / 2                                                # (5)

    def vjp(z, x_bar, l_bar):
        return x_bar * np.sin(z) + l_bar * np.cos(z) / np.sin(z), {}                # (6)

    def inverse_vjp(x, z_bar, l_bar):
        c = np.sqrt(1 - x**2)
        return (z_bar + l_bar * x / c) / c, {}                                      # (7)


r"""In floating point.

In (4), `sin z` rounds to 1 near `pi/2`.  The nearest float32 number to the end `pi` lies beyond it, where the sine is negative:
    log|dx/dz| = log1p(-cos^2 z)/2    for |cos z| <= 1/2                            (8)
               = log|sin z|           elsewhere                                     (9)

In (5) and (7), the right sides are the same as in `Sin`, and are computed in the forms of that page.  At the ends, which an event
may be, a cotangent 0 makes its term 0.                                                                         (10)
"""


@bijector(source="DLMF 4.14", domain=interval(0, np.pi), codomain=interval(-1, 1), increasing=True, textbook=textbook)
class Cos(Bijector):
    """x = -cos z, from (0, pi) to (-1, 1)."""

    event_ndim = (0, 0)

    @staticmethod
    def inverse_definition(m, x):
        return m.acos(-x)                                                           # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return -np.cos(z)                                                           # (1)

    def inverse(self, x):
        return np.arccos(-x)                                                        # (2)

    def log_det(self, z):
        C = np.cos(z)
        return np.where(np.abs(C) <= 0.5, np.log1p(-C * C) / 2, np.log(np.abs(np.sin(z))))          # (4) (8) (9)

    def slope(self, z):
        return np.sin(z)                                                            # (3)

    def inverse_and_log_det(self, x):
        return self.inverse(x), log_inverse_slope(x)                                # (5) (10)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            return x_bar * np.sin(z) + quotient(log_det_bar * np.cos(z), np.sin(z)), {}     # (6) (10)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return event_bar(x, z_bar, log_det_bar), {}                             # (7) (10)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "x rounds to -1, the log-det is log z", z=[5e-324, 1e-300, 1e-9], x=[np.nextafter(-1, 0)]),
        case("Middle", "the log-det vanishes like -(z - pi/2)^2/2", z=[1.5707963267948966, 1.5707963], x=[5e-324, -1e-160]),
        case("Ends", "in float32 pi is rounded up, and the sine is negative", z=[np.pi, 0.0], x=[1.0, -1.0]),
        case("NearEnd", "x rounds to 1, the slope does not round to 0", z=[3.1415926], x=[np.nextafter(1, 0)]),
    )
