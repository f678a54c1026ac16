r"""Sine, `(-pi/2, pi/2) -> (-1, 1)`.

The map.  For `|z| < pi/2`,
    x = sin z                                                                       (1)
    z = arcsin x                                                                    (2)
    dx/dz = cos z                                                                   (3)
    log|dx/dz| = log cos z                                                          (4)
    log|dz/dx| = -log(1 - x^2)/2                                                    (5)

The reverse rule.  The derivative of (4) is `-sin(z)/cos z`, so with the cotangent `l_bar` of (4),
    z_bar = x_bar cos z - l_bar sin(z)/cos z                                        (6)
For the inverse map, with `c = sqrt(1 - x^2)`, `dz/dx = 1/c`, and the derivative of (5) is `x/c^2`.  With the cotangent `l_bar` of
(5),
    x_bar = (z_bar + l_bar x/c)/c                                                   (7)

Source: NIST DLMF 4.14, 4.23.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval
from ...core.arithmetic import quotient


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return np.sin(z)                                                            # (1)

    def inverse(x):
        return np.arcsin(x)                                                         # (2)

    def slope(z):
        return np.cos(z)                                                            # (3)

    def log_det(z):
        return np.log(np.cos(z))                                                    # (4)

    def inverse_log_det(x):
        return -np.log(1 - x**2) / 2                                                # (5)

    def vjp(z, x_bar, l_bar):
        return x_bar * np.cos(z) - l_bar * np.sin(z) / np.cos(z), {}                # (6)

    def inverse_vjp(x, z_bar, l_bar):
        c = np.sqrt(1 - x**2)
        return (z_bar + l_bar * x / c) / c, {}                                      # (7)


r"""In floating point.

In (4), `cos z` rounds to 1 for a small `z`.  The nearest float32 number to an end of the domain lies beyond it, where the cosine is
negative:
    log|dx/dz| = log1p(-sin^2 z)/2    for |z| <= 1/2                                (8)
               = log|cos z|           elsewhere                                     (9)

In (5) and (7), `1 - x^2` has lost its digits where `|x|` is near 1, and rounds to 1 for a small `x`:
    log|dz/dx| = -log1p(-x^2)/2                    for |x| <= 1/2                   (10)
               = -(log1p(-x) + log1p(x))/2         elsewhere                        (11)
    c = sqrt(1 - x) sqrt(1 + x)                                                     (12)

In (7), `c = 0` at the ends, which an event may be: a cotangent 0 makes its term 0.                             (13)
"""


@bijector(source="DLMF 4.14", domain=interval(-np.pi / 2, np.pi / 2), codomain=interval(-1, 1), increasing=True, textbook=textbook)
class Sin(Bijector):
    """x = sin z, from (-pi/2, pi/2) to (-1, 1)."""

    event_ndim = (0, 0)

    @staticmethod
    def inverse_definition(m, x):
        return m.asin(x)                                                            # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.sin(z)                                                            # (1)

    def inverse(self, x):
        return np.arcsin(x)                                                         # (2)

    def log_det(self, z):
        near = np.log1p(-np.sin(np.clip(z, -0.5, 0.5)) ** 2) / 2                    # (8)
        return np.where(np.abs(z) <= 0.5, near, np.log(np.abs(np.cos(z))))          # (4) (9)

    def slope(self, z):
        return np.cos(z)                                                            # (3)

    def inverse_and_log_det(self, x):
        return self.inverse(x), log_inverse_slope(x)                                # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            return x_bar * np.cos(z) - log_det_bar * (np.sin(z) / np.cos(z)), {}    # (6)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return event_bar(x, z_bar, log_det_bar), {}                             # (7)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "the log-det is -z^2/2: the logarithm of a rounded cosine is 0", z=[5e-324, -1e-160, 1e-9], x=[5e-324, -1e-160]),
        case("NearEnds", "x rounds to 1, the slope does not round to 0", z=[1.5707963, -1.57079632679], x=[np.nextafter(1, 0)]),
        case("Ends", "in float32 pi/2 is rounded up, and the cosine is negative", z=[np.pi / 2, -np.pi / 2], x=[1.0, -1.0]),
        case("Switches", "(8) and (9) meet, and (10) and (11)", z=[0.5, np.nextafter(-0.5, -1)], x=[0.5, np.nextafter(-0.5, -1)]),
    )


def log_inverse_slope(x):
    """-log(1 - x^2)/2."""
    near, far = -np.log1p(-x * x) / 2, -(np.log1p(-x) + np.log1p(x)) / 2            # (10) (11)
    return np.where(np.abs(x) <= 0.5, near, far)


def event_bar(x, z_bar, log_det_bar):
    """x_bar."""
    c = np.sqrt(1 - x) * np.sqrt(1 + x)                                             # (12)
    return quotient(z_bar + quotient(log_det_bar * x, c), c)                        # (7) (13)
