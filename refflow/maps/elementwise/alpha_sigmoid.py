r"""The sigmoid whose inverse is the logit of rescaled data (RealNVP: Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803,
section 4.1).

The map.  The paper's step takes data `x in [0, 1]` to `z = logit(p)`, with `p` a little inside `(0, 1)`, so that no pixel is at
infinity:
    p = low + w x,   w = high - low,   z = log(p / (1 - p))                         (1)
With `alpha = low`, the authors' code has `p = alpha + (1 - 2 alpha) x`, which is `low = 0.05, high = 0.95`, and the paper's formula
has `p = alpha + (1 - alpha) x`, which is `low = 0.05, high = 1`.  `low = 0, high = 1` gives the sigmoid itself.  This page is the
map from `z` to `x`,
    x = (s - low) / w,   s = 1 / (1 + exp(-z))                                      (2)
    dx/dz = s (1 - s) / w                                                           (3)
    log|dx/dz| = log s + log(1 - s) - log w                                         (4)
    log|dz/dx| = log w - log p - log(1 - p)                                         (5)
onto all `x` whose `p` in (1) lies in `(0, 1)`.  (5) is RealNVP's cost of this step: `softplus(z) + softplus(-z) + log w`.

The reverse rule.  The derivative of (4) is `1 - 2 s`, so with the cotangent `l_bar` of (4),
    z_bar = x_bar s (1 - s) / w + l_bar (1 - 2 s)                                   (6)
For the inverse map, `dz/dx = w/(p (1 - p))`, and the derivative of (5) is `w (2 p - 1)/(p (1 - p))`.  With the cotangent `l_bar`
of (5),
    x_bar = w (z_bar + l_bar (2 p - 1)) / (p (1 - p))                               (7)
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from ...core import Bijector, Inverse, bijector, case, interval, plain, real
from ...core.rules import number

__all__ = ["AlphaSigmoid", "alpha_logit"]


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z, low, high):
        s = 1 / (1 + np.exp(-z))                                                    # (2)
        return (s - low) / (high - low)                                             # (2)

    def inverse(x, low, high):
        p = low + (high - low) * x                                                  # (1)
        return np.log(p / (1 - p))                                                  # (1)

    def slope(z, low, high):
        s = 1 / (1 + np.exp(-z))                                                    # (2)
        return s * (1 - s) / (high - low)                                           # (3)

    def log_det(z, low, high):
        s = 1 / (1 + np.exp(-z))                                                    # (2)
        return np.log(s) + np.log(1 - s) - np.log(high - low)                       # (4)

    def inverse_log_det(x, low, high):
        p = low + (high - low) * x                                                  # (1)
        return np.log(high - low) - np.log(p) - np.log(1 - p)                       # (5)

    def vjp(z, low, high, x_bar, l_bar):
        s = 1 / (1 + np.exp(-z))                                                    # (2)
        return x_bar * s * (1 - s) / (high - low) + l_bar * (1 - 2 * s), {}         # (6)

    def inverse_vjp(x, low, high, z_bar, l_bar):
        p = low + (high - low) * x                                                  # (1)
        return (high - low) * (z_bar + l_bar * (2 * p - 1)) / (p * (1 - p)), {}     # (7)


r"""In floating point.

In (1), `p` loses its digits near 0, and `1 - p` near 1, where `x` is next to an end of its interval:
    a < x < b,   a = -low / w,   b = (1 - low) / w                                  (8)
`p = w (x - a)` and `1 - p = w (b - x)` keep their digits there:
    z = log(x - a) - log(b - x)                                                     (9)
The terms of (9) cancel near `p = 1/2`, harmlessly: there a rounding of `x` alone moves `z` as far.

In (2), `exp(-z)` overflows far below 0, and `x` may round to a number outside `[a, b]`.  So `x` is measured from the nearer end,
with `t = exp(-|z|)`, which cannot overflow, and for small `|z|` from the middle `c = (a + b)/2`:
    x = a + t / (1 + t) / w                              for z <= -5/4              (10)
      = c + tanh(z/2) / (2 w)                            for |z| < 5/4              (11)
      = b - t / (1 + t) / w                              for z >= 5/4               (12)
The page asks for `low <= 1/8` and `high >= 7/8`: (10) cancels where `x = 0`, at `z = logit(low)`.  If this `z` were nearer 0, the
unit of error there, `|z| dx/dz`, would not cover the roundings of `a`, of `w` and of the step.

In (3), `1 - s` loses every digit once `s` rounds to 1:
    dx/dz = t / (1 + t)^2 / w                                                       (13)

In (4), `1 - s` loses its digits, too:
    log|dx/dz| = log(1 - ((1 - t)/(1 + t))^2) - log(4 w)      for |z| < 1
               = -|z| - 2 log(1 + t) - log w                  elsewhere             (14)
The terms of the second row nearly cancel for small `z`; the terms of the first row have one sign.

In (5), as in (9),
    log|dz/dx| = -log(x - a) - log(b - x) - log w                                   (15)

In (6), `1 - 2 s` cancels near `z = 0`, and `s (1 - s)` may lose digits below the smallest normal number where its product with
`x_bar` does not.  With `1 - 2 s = -sign(z) (1 - t)/(1 + t)`,
    z_bar = (x_bar r) r / w - l_bar sign(z) (1 - t) / (1 + t)                       (16)
    r^2 = s (1 - s),   r = h / (1 + h^2),   h = exp(-|z|/2)                         (17)

In (7), as in (9),
    x_bar = (z_bar / w + l_bar ((x - a) - (b - x))) / ((x - a) (b - x))             (18)
"""


@bijector(source="arXiv:1605.08803", domain=real, increasing=True, textbook=textbook)
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
        return float(-low / (high - low)), float((1 - low) / (high - low))          # (8)

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
    def inverse_definition(m, x, low, high):
        p = low + (m.mpf(high) - low) * x
        return m.log(p / (1 - p))                                                   # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        a, b = self.ends
        size = np.abs(z)
        t = np.exp(-size)
        step = t / (1 + t) / self.width
        near = self.middle + np.tanh(z / 2) / (2 * self.width)                      # (2) (11)
        return np.where(size < 1.25, near, np.where(z < 0, a + step, b - step))     # (2) (10) (12)

    def inverse(self, x):
        a, b = self.ends
        return np.log(x - a) - np.log(b - x)                                        # (1) (9)

    def log_det(self, z):
        size = np.abs(z)
        t = np.exp(-size)
        near = np.log1p(-(np.expm1(-size) / (1 + t)) ** 2) - math.log(4 * self.width)       # (4) (14)
        return np.where(size < 1, near, -size - (2 * np.log1p(t) + math.log(self.width)))   # (4) (14)

    def slope(self, z):
        t = np.exp(-np.abs(z))
        return t / (1 + t) ** 2 / self.width                                        # (3) (13)

    def inverse_and_log_det(self, x):
        a, b = self.ends
        log_p, log_rest = np.log(x - a), np.log(b - x)
        return log_p - log_rest, -log_p - log_rest - math.log(self.width)           # (1) (5) (9) (15)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            size = np.abs(z)
            h = np.exp(-size / 2)
            r = h / (1 + h * h)                                                     # (17)
            bend = log_det_bar * np.copysign(np.expm1(-size), z) / (1 + h * h)      # (16)
            return x_bar * r * r / self.width - bend, {}                            # (6) (16)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        a, b = self.ends

        def pullback(z_bar, log_det_bar):
            p, rest = x - a, b - x
            return (z_bar / self.width + log_det_bar * (p - rest)) / (p * rest), {}         # (7) (18)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Black", "the first pixel value, and the smallest numbers beside it", x=[0.0, 2.0**-9, 5e-324], low=0.05,
             high=0.95),
        case("White", "the last pixel value and 1", x=[1.0 - 2.0**-9, 1.0], low=0.05, high=0.95),
        case("Paper", "high = 1: x = 1 is at infinity, and 1 - p keeps its digits before it", z=[40.0, -40.0],
             x=[0.0, 0.5, np.nextafter(1, 0)], low=0.05, high=1.0),
        case("Half", "the terms of (9) cancel", x=[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)], low=0.05, high=0.95),
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

