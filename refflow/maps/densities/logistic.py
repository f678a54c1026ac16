r"""Logistic density with independent entries.

`z` is an event of `n` entries, `b` the cotangent of `log p`, `z_bar` the cotangent of a sample; sums and products run over the
event's entries.
    t = (z - loc) / scale,   a = b / scale                                          (1)
    log p(z) = -sum (|t| + 2 log(1 + exp(-|t|))) - log prod scale                   (2)
    z_bar = -a h,   loc_bar = a h,   scale_bar = a t h - a,   h = tanh(t/2)         (3)
and a sample, with `e` drawn from the standard logistic density,
    z = loc + scale e,   loc_bar = z_bar,   scale_bar = z_bar e                     (4)

`exp` is never taken of a positive number, and both terms of the sum in (2) are `>= 0`.  `t` may overflow although its
product with a small `a` does not: `a t = a (z - loc) / scale`.  `prod scale` is taken before its logarithm: a sum of
logarithms loses the digits of the largest of them.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Density, case, density, plain, positive, real
from ...core.bijector import over_event
from ...core.arithmetic import times
from .entries import entries, location_scale, log_product, over_entries, times_quotient


@density(source="definition")
class Logistic(Density):
    """The logistic density with independent entries z = loc + scale log(u / (1 - u)), u uniform on (0, 1).

    loc and scale > 0 broadcast with (*batch, *shape); without `shape` events are vectors of their last axis.
    """

    loc: Array = real()
    scale: Array = positive()
    shape: tuple = plain(None)

    @staticmethod
    def definition(m, z, loc, scale, shape):
        log_prob = 0
        for z_j, loc_j, scale_j in zip(*(entries(nested, shape) for nested in (z, loc, scale))):
            t = (z_j - loc_j) / scale_j                                             # (1)
            log_prob = log_prob - abs(t) - 2 * m.log(1 + m.exp(-abs(t))) - m.log(scale_j)       # (2)
        return log_prob

    def log_prob_vjp(self, z):
        t = (z - self.loc) / self.scale                                             # (1)
        far = np.abs(t)
        terms = over_entries(far + 2 * np.log1p(np.exp(-far)), self.rank)
        log_prob = -terms - log_product(self.scale, self.parameter_batch, self.shape)       # (2)

        def pullback(b):
            a, h = over_event(b, self.rank) / self.scale, np.tanh(t / 2)
            a_t = times_quotient(a, z - self.loc, self.scale)
            return -a * h, {"loc": a * h, "scale": times(a_t, h) - a}               # (3)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        return location_scale(self, rng.logistic, lead)                             # (4)

    hard_cases = (
        case("Scalar", "an event of one number", z=[0.5, -3.0, 40.0], shape=(), loc=0.5, scale=0.25),
        case("Vector", "the logarithms of the scales, +-20 log 2, cancel",
             z=[[1.0, 1.0]], shape=2, loc=[0.0, 0.5], scale=[2.0**20, 2.0**-20]),
        case("Image", "an event of one channel", z=[[[[1.0, -2.0]]]], shape=(1, 1, 2)),
        case("Beyond", "t overflows, its product with a small b need not", z=[2.0**1000], shape=(), loc=0.0, scale=2.0**-30),
    )
