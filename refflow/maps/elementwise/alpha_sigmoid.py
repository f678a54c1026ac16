r"""The sigmoid whose inverse is the logit of rescaled data (RealNVP: Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803,
section 4.1).

The paper's step takes data `x in [0, 1]` to `z = logit(p)`, with `p` a little inside `(0, 1)`, so that no pixel is at infinity:
    p = low + (high - low) x,   z = log(p / (1 - p))                                (1)
`low = 0.05, high = 0.95` in the authors' code, `p = alpha + (1 - 2 alpha) x`; `low = 0.05, high = 1` in the paper's formula,
`p = alpha + (1 - alpha) x`.  `low = 0, high = 1` is the sigmoid itself.  This page is the map from `z` to `x`,
    x = (s - low) / (high - low),   s = 1 / (1 + exp(-z))                           (2)
onto all `x` whose `p` in (1) lies in `(0, 1)`.  With `w = high - low`,
    a < x < b,   a = -low / w,   b = (1 - low) / w                                  (3)
`low <= 1/8` and `high >= 7/8`: the step (4) cancels where `x` is 0, at `z = logit(low)`.  If that `z` is nearer 0, the unit of
error there, `|z| dx/dz`, does not cover the roundings of `a`, of `w` and of the step.

(2), measured from the ends, with `t = exp(-|z|)` whose exponent is never positive, so that `x` is in `[a, b]` after rounding
too; near the middle `c = (a + b)/2`, measured from there, where that step is smaller:
    x = a + t / (1 + t) / w                              for z <= -5/4              (4)
      = c + tanh(z/2) / (2 w)                            for |z| < 5/4              (5)
      = b - t / (1 + t) / w                              for z >= 5/4               (6)
(1) in the same letters, `p = w (x - a)` and `1 - p = w (b - x)`, which keep their digits near `a` and `b`, where `p` has
none:
    z = log(x - a) - log(b - x)                                                     (7)
The terms of (7) cancel near `p = 1/2`, harmlessly: `x dz/dx` is not small there.

    dx/dz = s (1 - s) / w = t / (1 + t)^2 / w                                       (8)
    log|dx/dz| = log(1 - ((1 - t)/(1 + t))^2) - log(4 w)      for |z| < 1
               = -|z| - 2 log(1 + t) - log w                  elsewhere             (9)
    log|dz/dx| = -log(x - a) - log(b - x) - log w                                   (10)
(10) is RealNVP's cost of this step: by (9) it is `softplus(z) + softplus(-z) + log w`.
The terms of (9)'s second row nearly cancel for small `z`; the terms of its first row have one sign.

Reverse rule, as for the sigmoid:
    r = h / (1 + h^2),   h = exp(-|z|/2),   dx/dz = r^2 / w                         (11)
    z_bar = x_bar r^2 / w - log_det_bar sign(z) (1 - t) / (1 + t)                   (12)
computed as `(x_bar r) r`, since `r^2` may lose digits below the smallest normal number where `x_bar r^2` does not; and for
the inverse map, from `dz/dx = 1 / (w (x - a) (b - x))` and the derivative of (10), `1/(b - x) - 1/(x - a)`,
    x_bar = (z_bar / w + log_det_bar ((x - a) - (b - x))) / ((x - a) (b - x))       (13)
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from ...core import Bijector, Inverse, bijector, case, interval, plain, real
from ...core.rules import number

__all__ = ["AlphaSigmoid", "alpha_logit"]


@bijector(source="arXiv:1605.08803", domain=real, increasing=True)
class AlphaSigmoid(Bijector):
    """x = (sigmoid(z) - low) / (high - low); its inverse, `Inverse(AlphaSigmoid())`, is the paper's logit of rescaled data.

    x lies in (-low/w, (1 - low)/w), w = high - low, which contains the data's (0, 1).  ValueError unless
    0 <= low <= 1/8 and 7/8 <= high <= 1.
    """

    low: float = plain(0.05, number(0, 0.125, True, True))
    high: float = plain(0.95, number(0.875, 1, True, True))
    event_ndim = (0, 0)

    @property
    def ends(self):
        """(a, b), rounded once."""
        low, high = Fraction(self.low), Fraction(self.high)
        return float(-low / (high - low)), float((1 - low) / (high - low))          # (3)

    @property
    def middle(self):
        """c, rounded once."""
        low, high = Fraction(self.low), Fraction(self.high)
        return float((1 - 2 * low) / (high - low) / 2)

    @property
    def codomain(self):
        return interval(*self.ends)

    @property
    def width(self):
        """w."""
        return self.high - self.low

    @staticmethod
    def definition(m, z, low, high):
        s = 1 / (1 + m.exp(-z))
        return (s - low) / (m.mpf(high) - low)                                      # (2)

    @staticmethod
    def inverse_definition(m, x, low, high):
        p = low + (m.mpf(high) - low) * x
        return m.log(p / (1 - p))                                                   # (1)

    def forward(self, z):
        a, b = self.ends
        size = np.abs(z)
        t = np.exp(-size)
        step = t / (1 + t) / self.width
        near = self.middle + np.tanh(z / 2) / (2 * self.width)                      # (5)
        return np.where(size < 1.25, near, np.where(z < 0, a + step, b - step))     # (4) (6)

    def inverse(self, x):
        a, b = self.ends
        return np.log(x - a) - np.log(b - x)                                        # (7)

    def log_det(self, z):
        size = np.abs(z)
        t = np.exp(-size)
        near = np.log1p(-(np.expm1(-size) / (1 + t)) ** 2) - math.log(4 * self.width)       # (9)
        return np.where(size < 1, near, -size - (2 * np.log1p(t) + math.log(self.width)))   # (9)

    def slope(self, z):
        t = np.exp(-np.abs(z))
        return t / (1 + t) ** 2 / self.width                                        # (8)

    def inverse_and_log_det(self, x):
        a, b = self.ends
        log_p, log_rest = np.log(x - a), np.log(b - x)
        return log_p - log_rest, -log_p - log_rest - math.log(self.width)           # (7) (10)

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            size = np.abs(z)
            h = np.exp(-size / 2)
            r = h / (1 + h * h)                                                     # (11)
            bend = log_det_bar * np.copysign(np.expm1(-size), z) / (1 + h * h)
            return x_bar * r * r / self.width - bend, {}                            # (12)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        a, b = self.ends

        def pullback(z_bar, log_det_bar):
            p, rest = x - a, b - x
            return (z_bar / self.width + log_det_bar * (p - rest)) / (p * rest), {}         # (13)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Black", "the first pixel value, and the smallest numbers beside it", x=[0.0, 2.0**-9, 5e-324], low=0.05,
             high=0.95),
        case("White", "the last pixel value and 1", x=[1.0 - 2.0**-9, 1.0], low=0.05, high=0.95),
        case("Paper", "high = 1: x = 1 is at infinity, and 1 - p keeps its digits before it", z=[40.0, -40.0],
             x=[0.0, 0.5, np.nextafter(1, 0)], low=0.05, high=1.0),
        case("Half", "the terms of (7) cancel", x=[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)], low=0.05, high=0.95),
        case("Dark", "z at which x is 0: a + step cancels", z=[-2.9444389791664403, np.nextafter(-2.9444389791664403, 0)],
             low=0.05, high=0.95),
        case("Narrow", "the narrowest width: x is 0 at z = -log 7", z=[-1.9459101490553132, 1.9459101490553132, 0.0],
             x=[0.0, 5e-324, 0.5, 1.0], low=0.125, high=0.875),
        case("Middle", "z where the steps change", z=[-1.25, np.nextafter(-1.25, 0), 1.25, np.nextafter(1.25, 0)], low=0.125,
             high=0.875),
        case("Ends", "x rounds to the ends; the log-det is still -|z| - log w", z=[40.0, -800.0, 2.0**1000], low=0.05,
             high=0.95),
        case("Tiny", "the gradient of the log-det is -z/2", z=[1e-9, -1e-160, 5e-324], low=0.05, high=0.95),
    )


def alpha_logit(low=0.05, high=0.95):
    """The paper's step from data to latents, z = logit(low + (high - low) x): `Inverse(AlphaSigmoid(low, high))`."""
    return Inverse(AlphaSigmoid(low=low, high=high))                                # (1)

