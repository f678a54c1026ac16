r"""Activations: maps of one number, on every entry of an event.

With t = exp(-|a|) and m = exp(min(a, 0)/2), both at most 1, sigma the logistic sigmoid, phi and Phi the density and the
distribution function of the standard normal:

ReLU:
    h = max(a, 0)                                                                   (1)
    dh/da = 1 for a > 0, else 0                 at a = 0 the subgradient 0          (2)

Hyperbolic tangent:
    h = tanh a                                                                      (3)
    dh/da = r^2,   r = sech a = 2 p / (1 + p^2),   p = exp(-|a|)                    (4)

Softplus:
    h = log(1 + exp a)                                                              (5)
    dh/da = sigma(a) = m^2 / (1 + t)                                                (6)

SiLU, or swish:
    h = a sigma(a) = a / (1 + t) for a > 0, a t / (1 + t) for a <= 0                (7)
    dh/da = (1 + t + a t) / (1 + t)^2       for a > 0                               (8)
          = t (1 + t + a) / (1 + t)^2       for a <= 0                              (9)

GELU:
    h = a Phi(a)                                                                    (10)
    dh/da = Phi(a) + a phi(a),   phi(a) = exp(-a^2/2)/sqrt(2 pi)                    (11)
and for a < -12, with Mills' ratio M(-a) = Phi(a)/phi(a) and e = exp(-a^2/4),
    h = e^2 a M(-a)/sqrt(2 pi)                                                      (12)
    dh/da = e^2 (M(-a) + a)/sqrt(2 pi)                                              (13)
M(-a) is near -1/a there: (13) does not cancel.  Nor do (8) and (9), but for the zero of (9), near -1.28.

Reverse rule of all of them:
    a_bar = h_bar dh/da                                                             (14)
A square such as r^2 is multiplied as (h_bar r) r, and t = m^2 below a = -12 as (a m) m in (7), (h_bar m) m in (9): the
square may lose digits below the smallest normal number, or be 0, where the product is neither.  (12) and (13) exist for
the same reason.  (4) and (8) are written in exponentials, since 1 - tanh^2 a and 1 - sigma(a) lose every digit once their
functions round to 1.

Source: (1) Nair & Hinton, ICML 2010; (5) Dugas et al., NIPS 2000; (7) and (10) Hendrycks & Gimpel, arXiv:1606.08415.
"""

from __future__ import annotations

import numpy as np
import scipy

from ...core import Conditioner, case, conditioner
from ..elementwise import Softplus
from ..elementwise.normal_cdf import ROOT_TWO_PI, mills_ratio
from .words import from_slope

SOFTPLUS = Softplus().unchecked(np.float64)          # it has no fields, and keeps the dtype of its events
DEEP = -12                                      # phi(-12) is a normal number in float32 too, 60 binary orders from its end


@conditioner(source="Nair & Hinton, ICML 2010", smooth=False)
class ReLU(Conditioner):
    """h = max(a, 0), with gradient 0 at 0."""

    event_ndim = (0, 0)
    jacobian = from_slope

    @staticmethod
    def definition(m, a):
        return a if a > 0 else 0 * a                                                # (1)

    def forward(self, a):
        return np.maximum(a, 0)                                                     # (1)

    def slope(self, a):
        return (a > 0).astype(a.dtype)                                              # (2)

    def vjp(self, a):
        h = self.forward(a)

        def pullback(h_bar):
            return h_bar * (h > 0), {}                          # h > 0 where a > 0, and a need not be kept     (2) (14)

        return h, pullback

    hard_cases = (
        case("Zero", "the kink: the gradient is 0", z=[0.0, -0.0]),
        case("Tiny", "the smallest numbers on both sides of the kink", z=[5e-324, -5e-324]),
    )


@conditioner(source="DLMF 4.28")
class TanhActivation(Conditioner):
    """h = tanh a."""

    event_ndim = (0, 0)
    jacobian = from_slope

    @staticmethod
    def definition(m, a):
        return m.tanh(a)                                                            # (3)

    def forward(self, a):
        return np.tanh(a)                                                           # (3)

    def slope(self, a):
        r = sech(a)
        return r * r                                                                # (4)

    def vjp(self, a):
        def pullback(h_bar):
            r = sech(a)
            return h_bar * r * r, {}                                                # (4) (14)

        return self.forward(a), pullback

    hard_cases = (
        case("Tiny", "h is a", z=[1e-9, 5e-324]),
        case("Saturated", "h rounds to 1, the slope does not round to 0: 1 - h^2 does", z=[19.1, -40.0, 350.0]),
        case("Subnormal", "the slope is below the smallest normal number, h_bar r^2 need not be", z=[355.0, -372.0]),
    )


def sech(a):
    p = np.exp(-np.abs(a))
    return 2 * p / (1 + p * p)                                                      # (4)


@conditioner(source="Dugas et al., NIPS 2000")
class SoftplusActivation(Conditioner):
    """h = log(1 + exp a)."""

    event_ndim = (0, 0)
    jacobian = from_slope

    @staticmethod
    def definition(m, a):
        return m.log1p(m.exp(a))                                                    # (5)

    def forward(self, a):
        return SOFTPLUS.forward(a)                                                  # (5)

    def slope(self, a):
        return SOFTPLUS.slope(a)                                                    # (6)

    def vjp(self, a):
        def pullback(h_bar):
            m, t = exponentials(a)
            return h_bar * m * m / (1 + t), {}                                      # (6) (14)

        return self.forward(a), pullback

    hard_cases = (
        case("Left", "h is exp a: log(1 + exp a) without log1p returns 0", z=[-37.0, -700.0]),
        case("Subnormal", "the slope is below the smallest normal number, h_bar m^2 need not be", z=[-709.0, -745.0]),
        case("Beyond", "exp a overflows, h does not", z=[709.8, 2.0**1000, -2.0**1000]),
    )


def exponentials(a):
    """m and t."""
    return np.exp(np.minimum(a, 0) / 2), np.exp(-np.abs(a))


@conditioner(source="arXiv:1606.08415")
class SiLU(Conditioner):
    """h = a / (1 + exp(-a)), also called swish."""

    event_ndim = (0, 0)
    jacobian = from_slope

    @staticmethod
    def definition(m, a):
        return a / (1 + m.exp(-a))                                                  # (7)

    def forward(self, a):
        m, t = exponentials(a)
        return np.where(a > 0, a, np.where(a < DEEP, a * m * m, a * t)) / (1 + t)   # (7)

    def slope(self, a):
        return self.vjp(a)[1](np.ones_like(a))[0]

    def vjp(self, a):
        def pullback(h_bar):
            m, t = exponentials(a)
            right, left = 1 + t + a * t, t * (1 + t + a)                            # (8) (9)
            deep = h_bar * m * (1 + t + a) * m                                      # (9)
            scaled = np.where(a < DEEP, deep, h_bar * np.where(a > 0, right, left))
            return scaled / (1 + t) ** 2, {}                                        # (14)

        return self.forward(a), pullback

    hard_cases = (
        case("Turning", "the slope passes through 0", z=[-1.2784645427610738, -1.2784645427610740]),
        case("Left", "exp a alone is subnormal or 0, h and the slope are not", z=[-709.0, -740.0, -746.0, -751.0]),
        case("Right", "h rounds to a, and the slope to 1", z=[37.0, 740.0]),
        case("Beyond", "exp(-a) overflows, or h is 0", z=[2.0**1000, -2.0**1000]),
    )


@conditioner(source="arXiv:1606.08415")
class GELU(Conditioner):
    """h = a Phi(a), exactly: with the normal distribution function, not its approximation by tanh."""

    event_ndim = (0, 0)
    jacobian = from_slope

    @staticmethod
    def definition(m, a):
        return a * m.ncdf(a)                                                        # (10)

    def forward(self, a):
        h = np.asarray(a * scipy.special.ndtr(a))                                   # (10)
        deep = a < DEEP
        if np.any(deep):
            a = a[deep]
            e, M = exponential_and_mills_ratio(a)
            h[deep] = e * (e * (a * M / ROOT_TWO_PI))                               # (12)
        return h

    def slope(self, a):
        return self.vjp(a)[1](np.ones_like(a))[0]

    def vjp(self, a):
        def pullback(h_bar):
            phi = np.exp(-a * (a / 2)) / ROOT_TWO_PI
            a_bar = np.asarray(h_bar * (scipy.special.ndtr(a) + a * phi))           # (11) (14)
            deep = a < DEEP
            if np.any(deep):
                e, M = exponential_and_mills_ratio(a[deep])
                a_bar[deep] = h_bar[deep] * e * (e * ((M + a[deep]) / ROOT_TWO_PI)) # (13) (14)
            return a_bar, {}

        return self.forward(a), pullback

    hard_cases = (
        case("Turning", "the slope passes through 0", z=[-0.7517915252935827, -0.7517915252935826]),
        case("Switch", "(10) and (12) meet", z=[np.nextafter(-12, -13), -12.0, np.nextafter(-12, 0)]),
        case("Left", "the library's Phi is 0 or has few digits", z=[-13.2, -14.1, -37.6, -38.4, -38.7]),
        case("Right", "h rounds to a, and the slope to 1", z=[8.3, 38.0]),
        case("Beyond", "a^2 overflows", z=[2.0**1000, -2.0**1000]),
    )


def exponential_and_mills_ratio(a):
    """e and M(-a) of (12) and (13)."""
    return np.exp(-((a / 2) ** 2)), mills_ratio(-a)
