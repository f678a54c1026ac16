r"""Normal density with independent entries.

The map.  `z` is an event of `n` entries, over which sums and products run; `e` is drawn from the standard normal density:
    t = (z - loc)/scale                                                             (1)
    log p(z) = -sum (t^2/2 + (1/2) log 2 pi + log scale)                            (2)
    z = loc + scale e                               a sample                        (3)

The reverse rule.  With the cotangent `b` of `log p`, and the cotangent `z_bar` of a sample,
    a = b/scale                                                                     (4)
    z_bar = -a t,   loc_bar = a t,   scale_bar = a t^2 - a                          (5)
    loc_bar = z_bar,   scale_bar = z_bar e          of (3)                          (6)
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Density, case, density, plain, positive, real
from ...core.bijector import over_event
from ...core.arithmetic import times
from .entries import HALF_LOG_2_PI, location_scale, log_product, over_entries, times_quotient


class textbook:
    """(1) to (6) as they are printed, for one event."""

    def log_prob(z, loc, scale, shape):
        t = (z - loc) / scale                                                       # (1)
        return -np.sum(t ** 2 / 2 + np.log(2 * np.pi) / 2 + np.log(scale))          # (2)

    def log_prob_vjp(z, loc, scale, shape, b):
        t, a = (z - loc) / scale, b / scale                                         # (1) (4)
        return -a * t, {"loc": a * t, "scale": a * t ** 2 - a}                      # (5)

    def sample(e, loc, scale, shape):
        return loc + scale * e                                                      # (3)

    def sample_vjp(e, loc, scale, shape, z_bar):
        return {"loc": z_bar, "scale": z_bar * e}                                   # (6)


r"""In floating point.

In (2), a sum of logarithms loses the digits of the largest of them; the product is taken first:
    sum log scale = log prod scale                                                  (7)

In (5), `t` may overflow where its product with a small `a` does not:
    a t = a (z - loc)/scale                                                         (8)
"""


@density(source="definition", textbook=textbook)
class DiagonalNormal(Density):
    """The normal density with independent entries z = loc + scale e.

    loc and scale > 0 broadcast with (*batch, *shape); without `shape` events are vectors of their last axis.
    """

    loc: Array = real()
    scale: Array = positive()
    shape: tuple = plain(None)

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_prob_vjp(self, z):
        t = (z - self.loc) / self.scale                                             # (1)
        squares = over_entries(t * (t / 2), self.rank)
        constant = math.prod(self.shape) * HALF_LOG_2_PI
        log_prob = -squares - constant - log_product(self.scale, self.parameter_batch, self.shape)    # (2) (7)

        def pullback(b):
            a = over_event(b, self.rank) / self.scale                               # (4)
            a_t = times_quotient(a, z - self.loc, self.scale)                       # (8)
            return -a_t, {"loc": a_t, "scale": times(a_t, t) - a}                   # (5)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        return location_scale(self, rng.standard_normal, lead)                      # (3) (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Scalar", "an event of one number", z=[0.5, -3.0], shape=(), loc=0.5, scale=0.25),
        case("Vector", "the logarithms of the scales, +-20 log 2, cancel",
             z=[[1.0, 1.0]], shape=2, loc=[0.0, 0.5], scale=[2.0**20, 2.0**-20]),
        case("Opposite", "the logarithms of four scales cancel, and leave the rounding of each", z=[[0.0] * 4], shape=4,
             loc=[0.0] * 4, scale=[1.5e15, 3.0e13, 6.9e-16, 1.7e-14]),
        case("Image", "an event of one channel", z=[[[[1.0, -2.0]]]], shape=(1, 1, 2)),
        case("Beyond", "t overflows, its product with a small b need not", z=[2.0**1000], shape=(), loc=0.0, scale=2.0**-30),
    )
