r"""Normal density with independent entries.

`z` is an event of `n` entries, `b` the cotangent of `log p`, `z_bar` the cotangent of a sample; sums and products run over the
event's entries.
    t = (z - loc) / scale,   a = b / scale                                          (1)
    log p(z) = -1/2 sum t^2 - (n/2) log 2 pi - log prod scale                       (2)
    z_bar = -a t,   loc_bar = a t,   scale_bar = a t^2 - a                          (3)
and a sample, with `e` drawn from the standard normal density,
    z = loc + scale e,   loc_bar = z_bar,   scale_bar = z_bar e                     (4)

`t` may overflow although its product with a small `a` does not: `a t = a (z - loc) / scale`.  `prod scale` is taken before its
logarithm: a sum of logarithms loses the digits of the largest of them.
"""

from __future__ import annotations

import math

from ...core import Array, Density, case, density, plain, positive, real
from ...core.bijector import over_event
from ...core.arithmetic import times
from .entries import HALF_LOG_2_PI, entries, location_scale, log_product, over_entries, times_quotient


@density(source="definition")
class DiagonalNormal(Density):
    """The normal density with independent entries z = loc + scale e.

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
            log_prob = log_prob - t * t / 2 - m.log(2 * m.pi) / 2 - m.log(scale_j)  # (2)
        return log_prob

    def log_prob_vjp(self, z):
        t = (z - self.loc) / self.scale                                             # (1)
        squares = over_entries(t * (t / 2), self.rank)
        constant = math.prod(self.shape) * HALF_LOG_2_PI
        log_prob = -squares - constant - log_product(self.scale, self.parameter_batch, self.shape)      # (2)

        def pullback(b):
            a = over_event(b, self.rank) / self.scale                               # (1)
            a_t = times_quotient(a, z - self.loc, self.scale)
            return -a_t, {"loc": a_t, "scale": times(a_t, t) - a}                   # (3)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        return location_scale(self, rng.standard_normal, lead)                      # (4)

    hard_cases = (
        case("Scalar", "an event of one number", z=[0.5, -3.0], shape=(), loc=0.5, scale=0.25),
        case("Vector", "the logarithms of the scales, +-20 log 2, cancel",
             z=[[1.0, 1.0]], shape=2, loc=[0.0, 0.5], scale=[2.0**20, 2.0**-20]),
        case("Opposite", "the logarithms of four scales cancel, and leave the rounding of each", z=[[0.0] * 4], shape=4,
             loc=[0.0] * 4, scale=[1.5e15, 3.0e13, 6.9e-16, 1.7e-14]),
        case("Image", "an event of one channel", z=[[[[1.0, -2.0]]]], shape=(1, 1, 2)),
        case("Beyond", "t overflows, its product with a small b need not", z=[2.0**1000], shape=(), loc=0.0, scale=2.0**-30),
    )
