r"""GELU on every entry of an event.

With `phi` and `Phi` the density and the distribution function of the standard normal,
    h = a Phi(a)                                                                    (1)
    dh/da = Phi(a) + a phi(a),   phi(a) = exp(-a^2/2)/sqrt(2 pi)                    (2)
and for `a < -12`, with Mills' ratio `M(-a) = Phi(a)/phi(a)` and `e = exp(-a^2/4)`,
    h = e^2 a M(-a)/sqrt(2 pi)                                                      (3)
    dh/da = e^2 (M(-a) + a)/sqrt(2 pi)                                              (4)
    a_bar = h_bar dh/da                                                             (5)

`M(-a)` is near `-1/a` below -12: (4) does not cancel.  The product with `e^2` is taken as `(h_bar e) e`: `e^2` may lose
digits below the smallest normal number, or be 0, where the whole product does neither.

Source: Hendrycks & Gimpel, arXiv:1606.08415.
"""

from __future__ import annotations

import numpy as np
import scipy

from ...core import Conditioner, case, conditioner
from ..elementwise.normal_cdf import ROOT_TWO_PI, mills_ratio

DEEP = -12                                      # phi(-12) is a normal number in float32 too, 60 binary orders from its end


@conditioner(source="arXiv:1606.08415")
class GELU(Conditioner):
    """h = a Phi(a), exactly: with the normal distribution function, not its approximation by tanh."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, a):
        return a * m.ncdf(a)                                                        # (1)

    def forward(self, a):
        h = np.asarray(a * scipy.special.ndtr(a))                                   # (1)
        deep = a < DEEP
        if np.any(deep):
            a = a[deep]
            e, M = exponential_and_mills_ratio(a)
            h[deep] = e * (e * (a * M / ROOT_TWO_PI))                               # (3)
        return h

    def slope(self, a):
        return self.vjp(a)[1](np.ones_like(a))[0]

    def vjp(self, a):
        def pullback(h_bar):
            phi = np.exp(-a * (a / 2)) / ROOT_TWO_PI
            a_bar = np.asarray(h_bar * (scipy.special.ndtr(a) + a * phi))           # (2) (5)
            deep = a < DEEP
            if np.any(deep):
                e, M = exponential_and_mills_ratio(a[deep])
                a_bar[deep] = h_bar[deep] * e * (e * ((M + a[deep]) / ROOT_TWO_PI)) # (4) (5)
            return a_bar, {}

        return self.forward(a), pullback

    hard_cases = (
        case("Turning", "the slope passes through 0", z=[-0.7517915252935827, -0.7517915252935826]),
        case("Switch", "(1) and (3) meet, and (2) and (4)", z=[np.nextafter(-12, -13), -12.0, np.nextafter(-12, 0)]),
        case("Left", "the library's Phi is 0 or has few digits", z=[-13.2, -14.1, -37.6, -38.4, -38.7]),
        case("Right", "h rounds to a, and the slope to 1", z=[8.3, 38.0]),
        case("Beyond", "a^2 overflows", z=[2.0**1000, -2.0**1000]),
    )


def exponential_and_mills_ratio(a):
    """e and M(-a) of (12) and (13)."""
    return np.exp(-((a / 2) ** 2)), mills_ratio(-a)
