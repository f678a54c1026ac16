r"""GELU on every entry of an event.

The map.  With `phi` and `Phi` the density and the distribution function of the standard normal,
    h = a Phi(a)                                                                    (1)
    dh/da = Phi(a) + a phi(a),   phi(a) = exp(-a^2/2)/sqrt(2 pi)                    (2)

The reverse rule.  By (2),
    a_bar = h_bar (Phi(a) + a phi(a))                                               (3)
The cotangents of tangents, as `jvp` needs them, take the derivative of the slope `s = dh/da`:
    ds/da = phi(a) (2 - a^2)                                                        (4)

Source: Hendrycks & Gimpel, arXiv:1606.08415.
"""

from __future__ import annotations

import numpy as np
import scipy

from ...core import Conditioner, case, conditioner
from ..elementwise.normal_cdf import ROOT_TWO_PI, mills_ratio

DEEP = -12                                      # phi(-12) is a normal number in float32 too, 60 binary orders from its end

STEEPEST = 1.1289041452                         # the largest slope, rounded up


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def forward(a):
        return a * scipy.special.ndtr(a)                                            # (1)

    def slope(a):
        return scipy.special.ndtr(a) + a * np.exp(-a ** 2 / 2) / np.sqrt(2 * np.pi)         # (2)

    def curvature(a):
        return np.exp(-a ** 2 / 2) / np.sqrt(2 * np.pi) * (2 - a ** 2)              # (4)

    def vjp(a, h_bar):
        return h_bar * textbook.slope(a), {}                                        # (3)


r"""In floating point.

In (1), a library's `Phi` is 0 or has few digits far on the left.  For `a < -12`, with Mills' ratio `M(-a) = Phi(a)/phi(a)`,
    h = e^2 a M(-a)/sqrt(2 pi),   e = exp(-a^2/4)                                   (5)

In (3), the two terms cancel for `a < -12`, where `M(-a)` is near `-1/a`; `e^2` may lose digits below the smallest normal number,
or be 0, where its product with a cotangent does neither:
    a_bar = (h_bar e) (e (M(-a) + a)/sqrt(2 pi))                                    (6)
"""


@conditioner(source="arXiv:1606.08415", textbook=textbook)
class GELU(Conditioner):
    """h = a Phi(a), exactly: with the normal distribution function, not its approximation by tanh."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        h = np.asarray(a * scipy.special.ndtr(a))                                   # (1)
        deep = a < DEEP
        if np.any(deep):
            a = a[deep]
            e, M = exponential_and_mills_ratio(a)
            h[deep] = e * (e * (a * M / ROOT_TWO_PI))                               # (5)
        return h

    def slope(self, a):
        return self.vjp(a)[1](np.ones_like(a))[0]

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def curvature(self, a):
        return np.exp(-a * (a / 2)) / ROOT_TWO_PI * (2 - a * a)                     # (4)

    def vjp(self, a):
        def pullback(h_bar):
            phi = np.exp(-a * (a / 2)) / ROOT_TWO_PI
            a_bar = np.asarray(h_bar * (scipy.special.ndtr(a) + a * phi))           # (3)
            deep = a < DEEP
            if np.any(deep):
                e, M = exponential_and_mills_ratio(a[deep])
                a_bar[deep] = h_bar[deep] * e * (e * ((M + a[deep]) / ROOT_TWO_PI))  # (6)
            return a_bar, {}

        return self.forward(a), pullback

    def lipschitz(self):
        """The largest slope, at a = sqrt(2), where the second derivative is 0, rounded up."""
        return STEEPEST

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Turning", "the slope passes through 0", z=[-0.7517915252935827, -0.7517915252935826]),
        case("Switch", "(1) and (5) meet, and (3) and (6)", z=[np.nextafter(-12, -13), -12.0, np.nextafter(-12, 0)]),
        case("Left", "the library's Phi is 0 or has few digits", z=[-13.2, -14.1, -37.6, -38.4, -38.7]),
        case("Right", "h rounds to a, and the slope to 1", z=[8.3, 38.0]),
        case("Beyond", "a^2 overflows", z=[2.0**1000, -2.0**1000]),
    )


def exponential_and_mills_ratio(a):
    """e and M(-a) of (5) and (6)."""
    return np.exp(-((a / 2) ** 2)), mills_ratio(-a)
