r"""A softplus as a scale, `R -> (floor, ceiling)`.

With `v = rate s, t = exp(-|v|), L = log(1 + t)` and `softplus v = max(v, 0) + L`,
    sigma = min(gain softplus v + floor, ceiling)                                   (1)
          = gain (L/t) exp(v)                               for floor = 0, v < 0    (2)
    log sigma = log gain + log softplus v + log(1 + floor / (gain softplus v))      (3)
where `gain softplus v > floor > 0` or `softplus v` is near 1; `log softplus v` is then
    log(1 + (max(v, 0) + (log 2 - 1) + log(1 + (exp(-|v|) - 1)/2)))                 (4)
    d(log sigma)/ds = gain rate sigmoid(v) / sigma, 0 beyond the ceiling            (5)

(2) keeps the exponent `v` apart, `m = gain L/t`.  (3) and (4) keep the digits of a logarithm near 0.
"""

from __future__ import annotations

from math import inf, log

import numpy as np

from ...core import case, plain, refusal
from ...core.rules import ABOVE_0, AT_LEAST_0, number
from .scale import Scale, scale


@scale(source="FlowTorch, nflows, FrEIA")
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

    @staticmethod
    def definition(m, s, floor, ceiling, gain, rate):
        sigma = floor + gain * m.log1p(m.exp(rate * s))                             # (1)
        return m.mpf(ceiling) if ceiling < inf and sigma > ceiling else sigma

    def evaluate(self, s):
        v = self.rate * s
        t = np.exp(-np.abs(v))
        soft = np.maximum(v, 0) + np.log1p(t)
        m, w = self.floor + self.gain * soft, np.zeros_like(s)                      # (1)
        if self.floor == 0:
            below = v < 0
            m, w = np.where(below, self.gain * log1p_ratio(t), m), np.minimum(v, 0)     # (2)
        near = (soft >= 0.5) & (soft <= 2)
        excess = np.maximum(v, 0) + (log(2) - 1 + np.log1p(np.expm1(-np.abs(v)) / 2))
        log_soft = np.where(near, np.log1p(excess), np.log(soft)) + log(self.gain)  # (4)
        above = log_soft + np.log1p(self.floor / (self.gain * soft))                # (3)
        log_sigma = np.where(near | (self.gain * soft > self.floor) & (self.floor > 0), above, np.log(m) + w)
        if self.ceiling == inf:
            return m, w, log_sigma
        beyond = self.beyond(s)
        return (np.where(beyond, self.ceiling, m).astype(s.dtype), np.where(beyond, 0, w),
                np.where(beyond, log(self.ceiling), log_sigma).astype(s.dtype))

    def beyond(self, s):
        """Where the ceiling is exceeded."""
        v = self.rate * s
        return self.floor + self.gain * (np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))) > self.ceiling

    def log_slope(self, s):
        v = self.rate * s
        t = np.exp(-np.abs(v))
        soft = np.maximum(v, 0) + np.log1p(t)
        if self.floor == 0:
            n = self.rate / ((1 + t) * np.where(v < 0, log1p_ratio(t), soft))       # (5)
            q = np.zeros_like(s)
        else:
            n, q = self.gain * self.rate / ((1 + t) * (self.floor + self.gain * soft)), np.minimum(v, 0)    # (5)
        return (n, q) if self.ceiling == inf else (np.where(self.beyond(s), 0, n), q)

    hard_cases = (
        case("Left", "sigma is exp v: softplus without log1p returns 0", z=[-40.0, -760.0]),
        case("One", "log sigma passes through 0 where softplus v is 1", z=[0.5413248546129181, 0.5413248546129182]),
        case("Floor", "sigma rounds to floor on the left", z=[-40.0, 0.5, 40.0], floor=1e-3),
        case("Ceiling", "constant beyond the ceiling", z=[2.9, 2.95, 3.0, 2.0**60], floor=1e-3, ceiling=3.0),
        case("Gain", "a gain and a rate", z=[-50.0, 0.0, 60.0], gain=0.2, rate=0.5),
    )
    refused = (
        refusal("floor must be < ceiling", floor=1.0, ceiling=1.0),
    )


def log1p_ratio(t):
    """log(1 + t) / t for 0 <= t <= 1; 1 at 0."""
    return np.where(t == 0, 1, np.log1p(t) / t)
