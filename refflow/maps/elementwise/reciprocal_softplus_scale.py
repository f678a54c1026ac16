r"""The reciprocal of a softplus as a scale that is 1 at 0, `R -> (0, inf)`.

The map.  With `softplus v = log(1 + exp v)`,
    sigma = 1/softplus(v),   v = c - s,   c = log(exp(1) - 1)                       (1)
An autoregressive map that divides by `softplus(a + c)` has the scale (1) at `s = -a`.  `sigma` grows with `s`.

The reverse rule.  The slope of `softplus v` is `sigmoid v = 1/(1 + exp(-v))`, so that
    d(log sigma)/ds = sigmoid(v)/softplus(v)                                        (2)
"""

from __future__ import annotations

from math import expm1

import numpy as np

from ...core import case
from ...core.pairs import exp, log, pair
from .scale import Scale, scale, shifted
from .softplus_scale import log1p_ratio

C = log(exp(pair(1.0)) - 1)                                                         # (1)


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s):
        return 1 / np.log(1 + np.exp(np.log(np.exp(1) - 1) - s))                    # (1)

    def log(s):
        return np.log(textbook.forward(s))                                          # (1)

    def vjp(s, sigma_bar, l_bar):
        sigma, v = textbook.forward(s), np.log(np.exp(1) - 1) - s
        return (sigma_bar * sigma + l_bar) * sigma / (1 + np.exp(-v)), {}           # (2)


r"""In floating point.

In (1), `exp v` overflows for a large `v`, and `1 + exp v` rounds to 1 for a small one.  With `t = exp(-|v|), L = log1p(t)/t`,
    softplus v = exp(v) L          for v < 0,   so that sigma = (1/L) exp(-v)
               = v + log1p(t)      for v >= 0                                       (3)

In (1), a rounded `sigma` near 1 has few digits of its logarithm:
    log sigma = -log1p(log1p(p (exp(-s) - 1))),   p = sigmoid c = -expm1(-1),   for |s| <= 1        (4)
The inner logarithm of (4) is `softplus(c - s) - softplus(c)`, with `softplus(c) = 1`.

In (2), numerator and denominator underflow together for a small `v`:
    d(log sigma)/ds = 1/((1 + t) L)                 for v < 0
                    = 1/((1 + t) softplus(v))       for v >= 0                      (5)
"""


@scale(source="arXiv:2506.06276", textbook=textbook)
class ReciprocalSoftplusScale(Scale):
    """sigma = 1/softplus(c - s) with c such that sigma is 1 at s = 0."""

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        v, r, t, below, L = self.parts(s)
        m = np.where(below, 1 / (L * (1 + r)), 1 / (np.maximum(v, 0) + np.log1p(t)))        # (1) (3)
        w = np.maximum(-v, 0)
        near = -np.log1p(np.log1p(-expm1(-1) * np.expm1(-np.clip(s, -1, 1))))       # (4)
        return m, w, np.where(np.abs(s) <= 1, near, np.log(m) + w).astype(s.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        v, _, t, below, L = self.parts(s)
        return 1 / ((1 + t) * np.where(below, L, np.maximum(v, 0) + np.log1p(t))), np.zeros_like(s)         # (2) (5)

    # -- in floating point --------------------------------------------------------------------------------------------

    def parts(self, s):
        """(v, r, t, v < 0, L), where v + r is c - s to more digits than v."""
        v, r = shifted(-s, C)                                                       # (1)
        t = np.exp(-np.abs(v))
        t = t - t * r * np.sign(v)
        return v, r, t, v < 0, log1p_ratio(t)                                       # (3)

    hard_cases = (
        case("One", "log sigma is near 0: the logarithm of a rounded sigma returns 0", z=[1e-20, -1e-20, 5e-324]),
        case("Switch", "(4) ends at |s| = 1", z=[1.0, np.nextafter(1, 2), -1.0, np.nextafter(-1, -2)]),
        case("Bend", "v passes through 0 where s is c", z=[0.5413248546129181, 0.5413248546129182]),
        case("Right", "sigma is exp(-v): softplus without log1p returns 0", z=[40.0, 760.0]),
        case("Left", "sigma is 1/v", z=[-40.0, -2.0**60, -2.0**1000]),
    )
