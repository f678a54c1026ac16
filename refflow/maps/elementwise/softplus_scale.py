r"""A softplus as a scale, `R -> (floor, ceiling)`.

The map.  With `v = rate s`,
    sigma = min(gain log(1 + exp v) + floor, ceiling)                               (1)

The reverse rule.  With the logistic `sigmoid v = 1/(1 + exp(-v))`,
    d(log sigma)/ds = gain rate sigmoid(v) / sigma, 0 beyond the ceiling            (2)
"""

from __future__ import annotations

import functools
from math import inf, log

import numpy as np

from ...core import case, plain, refusal
from ...core.pairs import LOG_2
from ...core.rules import ABOVE_0, AT_LEAST_0, number
from .scale import Scale, scale, scaled


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def forward(s, floor, ceiling, gain, rate):
        return min(gain * np.log(1 + np.exp(rate * s)) + floor, ceiling)            # (1)

    def log(s, floor, ceiling, gain, rate):
        return np.log(textbook.forward(s, floor, ceiling, gain, rate))              # (1)

    def vjp(s, floor, ceiling, gain, rate, sigma_bar, l_bar):
        sigma = textbook.forward(s, floor, ceiling, gain, rate)
        slope = gain * rate / (1 + np.exp(-rate * s)) / sigma if sigma < ceiling else 0 * s     # (2)
        return (sigma_bar * sigma + l_bar) * slope, {}


r"""In floating point.

In (1), `exp v` overflows for a large `v`, and `1 + exp v` rounds to 1 for a small one.  With `t = exp(-|v|), L = log1p(t)`,
    softplus v = max(v, 0) + L                                                      (3)
    sigma = gain (L/t) exp(v)                               for floor = 0, v < 0    (4)
(4) keeps the exponent `v` apart from `m = gain L/t`.

In (1), a rounded `sigma` near 1 has few digits of its logarithm:
    log sigma = log1p((floor - 1) + gain softplus v)        for 1/2 <= floor, sigma <= 4        (5)
              = log1p((gain log 2 + floor - 1) + gain (softplus v - log 2))     for |v| <= 1, 1/4 <= sigma <= 4     (6)
    softplus v - log 2 = max(v, 0) + log1p((exp(-|v|) - 1)/2)                       (7)

In (2), without a floor, numerator and denominator underflow far below 0 where their quotient does not:
    d(log sigma)/ds = rate n exp(q),   n = gain/((1 + t) sigma),   q = min(v, 0)
                    = rate n,          n = 1/((1 + t) (softplus v) exp(-min(v, 0)))     for floor = 0       (8)
"""


@scale(source="FlowTorch, nflows, FrEIA", textbook=textbook)
class SoftplusScale(Scale):
    """sigma = min(gain softplus(rate s) + floor, ceiling); constant, with gradient 0, beyond the ceiling."""

    floor: float = plain(0.0, AT_LEAST_0)
    ceiling: float = plain(inf, number(0, high_included=True))
    gain: float = plain(1.0, ABOVE_0)
    rate: float = plain(1.0, ABOVE_0)

    def _validate(self):
        super()._validate()
        if not self.floor < self.ceiling:
            raise ValueError(f"SoftplusScale: floor must be < ceiling; floor = {self.floor}, ceiling = {self.ceiling}")

    # -- the map ------------------------------------------------------------------------------------------------------

    def evaluate(self, s):
        v = self.rate * s
        t = np.exp(-np.abs(v))
        soft = np.maximum(v, 0) + np.log1p(t)                                       # (3)
        m, w = self.floor + self.gain * soft, np.zeros_like(s)                      # (1)
        if self.floor == 0:
            below = v < 0
            m, w = np.where(below, self.gain * log1p_ratio(t), m), np.minimum(v, 0)     # (4)
        log_sigma = self.near_one(v, soft, np.log(m) + w)
        if self.ceiling == inf:
            return m, w, log_sigma
        beyond = self.beyond(s)
        return (np.where(beyond, self.ceiling, m).astype(s.dtype), np.where(beyond, 0, w),
                np.where(beyond, log(self.ceiling), log_sigma).astype(s.dtype))

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_slope(self, s):
        v = self.rate * s
        t = np.exp(-np.abs(v))
        soft = np.maximum(v, 0) + np.log1p(t)                                       # (3)
        if self.floor == 0:
            n, q = 1 / ((1 + t) * np.where(v < 0, log1p_ratio(t), soft)), np.zeros_like(s)      # (8)
        else:
            n, q = self.gain / ((1 + t) * (self.floor + self.gain * soft)), np.minimum(v, 0)    # (8)
        return (n if self.ceiling == inf else np.where(self.beyond(s), 0, n), self.rate), q     # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    def near_one(self, v, soft, log_sigma):
        """log sigma below the ceiling, from the logarithm of a rounded sigma, which has few digits near 0."""
        sigma = self.floor + self.gain * soft
        if self.floor >= 0.5:
            below = scaled(self.gain * log1p_ratio(np.exp(-np.abs(v))), 1, np.minimum(v, 0))    # (4)
            excess = np.float64(self.floor - 1) + np.where(v < 0, below, self.gain * soft)
            log_sigma = np.where(sigma <= 4, np.log1p(excess), log_sigma).astype(v.dtype)       # (5)
        rise = np.maximum(v, 0) + np.log1p(np.expm1(-np.abs(v)) / 2)                # (7)
        excess = self.excess_at_0 + self.gain * rise
        near = (np.abs(v) <= 1) & (sigma >= 0.25) & (sigma <= 4)
        return np.where(near, np.log1p(np.where(near, excess, 0)), log_sigma)       # (6)

    @functools.cached_property
    def excess_at_0(self):
        """sigma - 1 at s = 0."""
        return float((LOG_2 * self.gain + self.floor - 1).high)

    def beyond(self, s):
        """Where the ceiling is exceeded."""
        v = self.rate * s
        return self.floor + self.gain * (np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))) > self.ceiling        # (1) (3)

    hard_cases = (
        case("Left", "sigma is exp v: softplus without log1p returns 0", z=[-40.0, -760.0]),
        case("One", "log sigma passes through 0 where softplus v is 1", z=[0.5413248546129181, 0.5413248546129182]),
        case("Floor", "sigma rounds to floor on the left", z=[-40.0, 0.5, 40.0], floor=1e-3),
        case("Ceiling", "constant beyond the ceiling", z=[2.9, 2.95, 3.0, 2.0**60], floor=1e-3, ceiling=3.0),
        case("CeilingAlone", "with a gain and a rate", z=[-40.0, 2.9, 3.1, 50.0], ceiling=3.0, gain=0.5, rate=2.0),
        case("Gain", "a gain and a rate", z=[-50.0, 0.0, 60.0], gain=0.2, rate=0.5),
        case("SmallGain", "log gain and log softplus v would cancel", z=[1e20, 3.0, -40.0], floor=1e-9, gain=1e-20),
        case("SmallRate", "the product of gain and rate is subnormal in float32", z=[-1e-3, 2e22], floor=1e-4, gain=1e-17,
             rate=1e-23),
        case("Middle", "sigma is nearly 1 at 0", z=[1e-3, -1e-3, 1.0, np.nextafter(1, 2), -1.0, np.nextafter(-1, -2)],
             floor=0.3),
        case("HighFloor", "log sigma is near 0 on the whole left", z=[-9.0, -4.0, 0.5], floor=0.99, gain=0.8),
        case("FloorOne", "log sigma may be subnormal", z=[-100.0, -3.0], floor=1.0, gain=10.0),
    )
    refused = (
        refusal("floor must be < ceiling", floor=1.0, ceiling=1.0),
    )


def log1p_ratio(t):
    """log(1 + t) / t for 0 <= t <= 1; 1 at 0."""
    return np.where(t == 0, 1, np.log1p(t) / t)                                     # (4)
