r"""Uniform density, on `low < z < high`.

The map.  `z` is an event, the product runs over its entries, and `e` is drawn from `[0, 1)`:
    log p(z) = -log prod (high - low)                                               (1)
    z = low + (high - low) e                        a sample                        (2)
A sample that rounds to an end is moved to the neighbouring float inside the open interval.

The reverse rule.  With the cotangent `b` of `log p`, and the cotangent `z_bar` of a sample,
    z_bar = 0,   low_bar = b / (high - low),   high_bar = -low_bar     of (1)       (3)
    low_bar = (1 - e) z_bar,   high_bar = e z_bar     of (2)                        (4)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Density, case, density, interval, plain, real, refusal
from ...core.bijector import over_event
from .entries import drawn, entries, log_product


@density(source="definition")
class Uniform(Density):
    """The uniform density on low < z < high, entry by entry; -inf at the ends and beyond.

    low and high broadcast with (*batch, *shape); without `shape` events are vectors of their last axis.  ValueError if
    no float lies between low and high, or their difference overflows.
    """

    low: Array = real()
    high: Array = real()
    shape: tuple = plain(None)

    @staticmethod
    def definition(m, z, low, high, shape):
        return -m.fsum(m.log(high_j - low_j) for low_j, high_j in zip(entries(low, shape), entries(high, shape)))   # (1)

    @property
    def support(self):
        return interval(self.low.min(initial=np.inf), self.high.max(initial=-np.inf))

    def _validate(self):
        super()._validate()
        low, high = np.broadcast_arrays(self.low, self.high)
        with np.errstate(over="ignore"):
            wrong = ~((np.nextafter(low, high) < high) & np.isfinite(high - low))
        if wrong.any():
            i = tuple(int(k) for k in np.argwhere(wrong)[0])
            raise ValueError(f"Uniform: high must exceed low by a finite difference, with a float between; "
                             f"low = {low[i]} and high = {high[i]} at index {i}")

    def inside(self, z):
        return ((z > self.low) & (z < self.high)).all(axis=tuple(range(-self.rank, 0)))

    def log_prob_vjp(self, z):
        width = self.high - self.low
        log_prob = -log_product(width, self.parameter_batch, self.shape)            # (1)

        def pullback(b):
            low_bar = over_event(b, self.rank) / width                              # (3)
            return np.zeros_like(z), {"low": low_bar, "high": -low_bar}             # (3)

        return np.broadcast_to(log_prob, z.shape[:z.ndim - self.rank]), pullback

    def sample_vjp(self, rng, lead):
        e = drawn(rng.random, lead, self.shape, self.low.dtype)
        z = self.low + (self.high - self.low) * e                                   # (2)
        first, last = np.nextafter(self.low, self.high), np.nextafter(self.high, self.low)
        return np.minimum(np.maximum(z, first), last), lambda z_bar: {"low": (1 - e) * z_bar, "high": e * z_bar}    # (4)

    hard_cases = (
        case("Scalar", "an event of one number", z=[0.5], shape=(), low=0.0, high=1.0),
        case("Vector", "the logarithms of the widths, +-20 log 2, cancel",
             z=[[1.0, 2.0**-21]], shape=2, low=[0.0, 0.0], high=[2.0**20, 2.0**-20]),
        case("Narrow", "one float lies between the ends",
             z=[np.nextafter(1, 2)], shape=(), low=1.0, high=np.nextafter(np.nextafter(1, 2), 2)),
    )
    refused = (
        refusal("low = 1.0 and high = 1.0 at index (0,)", low=[1.0], high=[1.0]),
        refusal("low = 1.0 and high = 1.0000000000000002 at index (1,)", low=[0.0, 1.0], high=[1.0, 1.0 + 2.0**-52]),
        refusal("high must exceed low by a finite difference", low=-1.5e308, high=1.5e308),
    )
