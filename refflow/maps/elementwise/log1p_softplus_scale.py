r"""One plus a softplus, under a logarithm, as a scale, `R -> (0, inf)`.

The map.  With `softplus s = log(1 + exp s)`,
    sigma = log(1 + softplus s)                                                     (1)
It grows like `log s` for a large `s`, and falls to 0 like `exp s` far below 0.

The reverse rule.  The slope of `softplus s` is `sigmoid s = 1/(1 + exp(-s))`, so that
    d(log sigma)/ds = sigmoid(s)/((1 + softplus s) sigma)                           (2)

Source: FlowJAX, the constraint of its planar flows.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import case
from .scale import Scale, scale
from .softplus_scale import log1p_ratio

E, E_REST = math.e, 1.4456468917292502e-16                                          # in two parts (5)


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s):
        return np.log(1 + np.log(1 + np.exp(s)))                                    # (1)

    def log(s):
        return np.log(textbook.forward(s))                                          # (1)

    def vjp(s, sigma_bar, l_bar):
        sigma = textbook.forward(s)
        slope = 1 / (1 + np.exp(-s)) / ((1 + np.log(1 + np.exp(s))) * sigma)        # (2)
        return (sigma_bar * sigma + l_bar) * slope, {}


r"""In floating point.

In (1), `exp s` overflows for a large `s`, and `1 + exp s` rounds to 1 for a small one.  With `t = exp(-|s|), L = log1p(t)`,
    S = max(s, 0) + L,   sigma = log1p(S)                                           (3)
    sigma = (log1p(S)/S) (L/t) exp(s)    for s < -8                                 (4)
(4) keeps the exponent `s` apart.

In (1), a rounded `sigma` near 1 has few digits of its logarithm.  With `E = exp(1)` in two parts,
    log sigma = log1p(log1p((S - (E - 1))/E))    for 3/4 <= sigma <= 2              (5)

In (2), numerator and denominator underflow far below 0 where their quotient does not, and the quotient of `1/(1 + S)` by `sigma` is
subnormal where its product with `sigma` is not.  With the factor `m` of (4), or `m = sigma`,
    d(log sigma)/ds = (1/(1 + S)) (a/((1 + t) m)),   a = t for -8 <= s < 0,   else a = 1            (6)
"""


@scale(source="FlowJAX", textbook=textbook)
class Log1pSoftplusScale(Scale):
    """sigma = log(1 + softplus(s))."""

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        _, S, m, w = parts(s)
        near = np.log1p(np.log1p(((S - (E - 1)) - E_REST) / E))                     # (5)
        log_sigma = np.where((m >= 0.75) & (m <= 2) & (s > 0), near, np.log(m) + w)     # (5)
        return m.astype(s.dtype), w.astype(s.dtype), log_sigma.astype(s.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        t, S, m, w = parts(s)
        a = np.where((s < 0) & (w == 0), t, 1)                                      # (6)
        return tuple(factor.astype(s.dtype) for factor in (1 / (1 + S), a / ((1 + t) * m))), np.zeros_like(s)       # (2) (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Left", "sigma is exp s: softplus without log1p returns 0", z=[-40.0, -760.0]),
        case("One", "log sigma passes through 0 where softplus s is exp(1) - 1", z=[1.5202, 1.52019, 1.5203, 1.5]),
        case("Switch", "(4) ends at -8, (5) at 3/4 and 2", z=[0.0, -5e-324, -8.0, np.nextafter(-8, -9), 0.72, 6.38]),
        case("Right", "sigma is log s", z=[40.0, 1e30]),
    )


def parts(s):
    """t, S, and m and w with sigma = m exp(w), in float64."""
    s = np.float64(s)
    t, far = np.exp(-np.abs(s)), s < -8
    S = np.maximum(s, 0) + np.log1p(t)                                              # (3)
    m = np.where(far, log1p_ratio(np.where(far, S, 0)) * log1p_ratio(t), np.log1p(S))           # (3) (4)
    return t, S, m, np.where(far, s, 0)
