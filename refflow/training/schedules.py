r"""Schedules: factors of the learning rate, functions of the step `t = 1, 2, ...`

Constant:
    f_t = 1                                                                         (1)
Linear warm-up over `n` steps, then another schedule `f'` (Glow: Kingma & Dhariwal, arXiv:1807.03039, starts at `k = 0`):
    f_t = min(1, (t - 1 + k) / n) f'_t                                              (2)
Exponential decay to a lowest factor (NICE: Dinh, Krueger & Bengio, arXiv:1410.8516; in its code `r = 1/1.0005`, every step):
    f_t = max(r^(t-1), lowest)                                                      (3)
Cosine decay over `n` steps (Loshchilov & Hutter, arXiv:1608.03983, section 3):
    f_t = lowest + (1 - lowest) (1 + cos(pi min((t-1)/n, 1))) / 2                   (4)
Linear warm-up from the lowest factor over `m` steps, then (4) down to it at step `n` (TarFlow's code, Zhai et al., arXiv:2412.06329):
    f_t = lowest + (1 - lowest) (t - 1)/m   for t <= m + 1,   (4) of t - m and n - m steps after        (9)
Noam (Vaswani et al., arXiv:1706.03762, section 5.3), for a network of `d` entries, warmed up over `n` steps:
    f_t = d^(-1/2) min(t^(-1/2), t n^(-3/2))                                        (5)
Momentum of NICE's code, constant within each epoch `e` of `n` steps, going from `mu_0` to `mu_1` between epochs a and
`b`:
    e = ceil(t / n)                                                                 (6)
    mu_t = mu_0 (1 - q) + mu_1 q,   q = min(max((e - a) / (b - a), 0), 1)           (7)
The power of a density in reverse Kullback-Leibler training, which grows over `n` steps (Rezende & Mohamed, arXiv:1505.05770,
section 6.1, with `beta_0 = 0.01` and `n = 10000`):
    beta_t = min(1, beta_0 + t/n)                                                   (8)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.rules import ABOVE_0, count, hold, number, one_of

FRACTION = number(0, 1, low_included=True, high_included=True)


@dataclass(frozen=True)
class Constant:
    """The learning rate, unchanged."""

    def __call__(self, t):
        return 1.0                                                                  # (1)


@dataclass(frozen=True)
class WarmUp:
    """Linear growth over `steps`, not necessarily whole, times the schedule `then`; the first factor is start/steps."""

    steps: float
    then: object = Constant()
    start: int = 1

    def __post_init__(self):
        hold(self, steps=ABOVE_0, start=one_of(0, 1))

    def __call__(self, t):
        return min(1.0, (t - 1 + self.start) / self.steps) * self.then(t)           # (2)


@dataclass(frozen=True)
class Exponential:
    """The factor `rate` every step, until `lowest`."""

    rate: float
    lowest: float = 0.0

    def __post_init__(self):
        hold(self, rate=FRACTION, lowest=FRACTION)

    def __call__(self, t):
        return max(self.rate ** (t - 1), self.lowest)                               # (3)


@dataclass(frozen=True)
class Cosine:
    """Half a period of a cosine, from 1 to `lowest` over `steps`."""

    steps: int
    lowest: float = 0.0

    def __post_init__(self):
        hold(self, steps=count(), lowest=FRACTION)

    def __call__(self, t):
        part = min((t - 1) / self.steps, 1.0)
        return self.lowest + (1 - self.lowest) * (1 + math.cos(math.pi * part)) / 2         # (4)


@dataclass(frozen=True)
class WarmedCosine:
    """Linear growth from `lowest` to 1 over `warm_up` steps, then half a period of a cosine, back to `lowest` at step `steps`."""

    warm_up: int
    steps: int
    lowest: float = 0.0

    def __post_init__(self):
        hold(self, warm_up=count(), steps=count(), lowest=FRACTION)
        if self.steps <= self.warm_up:
            raise ValueError(f"WarmedCosine: steps must be > warm_up = {self.warm_up}, not {self.steps!r}")

    def __call__(self, t):
        if t <= self.warm_up:
            return self.lowest + (1 - self.lowest) * (t - 1) / self.warm_up         # (9)
        return Cosine(self.steps - self.warm_up, self.lowest)(t - self.warm_up)     # (4) (9)


@dataclass(frozen=True)
class Noam:
    """Growth over `warm_up` steps, then decay with the root of the step; `width` is the network's."""

    width: int
    warm_up: int = 4000

    def __post_init__(self):
        hold(self, width=count(), warm_up=count())

    def __call__(self, t):
        return self.width**-0.5 * min(t**-0.5, t * self.warm_up**-1.5)              # (5)


@dataclass(frozen=True)
class MomentumRamp:
    """A momentum that grows linearly between two epochs, constant within each of `steps_per_epoch` steps."""

    steps_per_epoch: int
    initial: float = 0.0
    final: float = 0.5
    start: int = 5
    saturate: int = 6

    def __post_init__(self):
        hold(self, steps_per_epoch=count(), start=count(0), saturate=count())
        if self.saturate <= self.start:
            raise ValueError(f"MomentumRamp: saturate must be > start = {self.start}, not {self.saturate!r}")

    def __call__(self, t):
        epoch = math.ceil(t / self.steps_per_epoch)                                 # (6)
        q = min(max((epoch - self.start) / (self.saturate - self.start), 0.0), 1.0)         # (7)
        return self.initial * (1 - q) + self.final * q                              # (7)


@dataclass(frozen=True)
class Annealing:
    """A power that grows from `start` to 1, by 1/`steps` each step: a flat density becomes steep."""

    steps: int = 10000
    start: float = 0.01

    def __post_init__(self):
        hold(self, steps=count(), start=FRACTION)

    def __call__(self, t):
        return min(1.0, self.start + t / self.steps)                                # (8)
