r"""Logistic density with independent entries.

The map.  `z` is an event of `n` entries, over which sums and products run; `e` is drawn from the standard logistic density:
    t = (z - loc)/scale                                                             (1)
    log p(z) = -sum (t + 2 log(1 + exp(-t)) + log scale)                            (2)
    z = loc + scale e                               a sample                        (3)

The reverse rule.  With the cotangent `b` of `log p`, and the cotangent `z_bar` of a sample,
    a = b/scale,   h = tanh(t/2)                                                    (4)
    z_bar = -a h,   loc_bar = a h,   scale_bar = a t h - a                          (5)
    loc_bar = z_bar,   scale_bar = z_bar e          of (3)                          (6)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Density, case, density, plain, positive, real
from ...core.bijector import over_event
from ...core.arithmetic import times
from .entries import location_scale, log_product, over_entries, times_quotient


class textbook:
    """(1) to (6) as they are printed, for one event."""

    def log_prob(z, loc, scale, shape):
        t = (z - loc) / scale                                                       # (1)
        return -np.sum(t + 2 * np.log(1 + np.exp(-t)) + np.log(scale))              # (2)

    def log_prob_vjp(z, loc, scale, shape, b):
        t, a = (z - loc) / scale, b / scale                                         # (1) (4)
        h = np.tanh(t / 2)                                                          # (4)
        return -a * h, {"loc": a * h, "scale": a * t * h - a}                       # (5)

    def sample(e, loc, scale, shape):
        return loc + scale * e                                                      # (3)

    def sample_vjp(e, loc, scale, shape, z_bar):
        return {"loc": z_bar, "scale": z_bar * e}                                   # (6)


r"""In floating point.

In (2), `exp(-t)` overflows on the left, where the terms cancel.  The density is even, and both terms of this sum are `>= 0`:
    t + 2 log(1 + exp(-t)) = |t| + 2 log1p(exp(-|t|))                               (7)

In (2), a sum of logarithms loses the digits of the largest of them; the product is taken first:
    sum log scale = log prod scale                                                  (8)

In (5), `t` may overflow where its product with a small `a` does not:
    a t = a (z - loc)/scale                                                         (9)
"""


@density(source="definition", textbook=textbook)
class Logistic(Density):
    """The logistic density with independent entries z = loc + scale log(u / (1 - u)), u uniform on (0, 1).

    loc and scale > 0 broadcast with (*batch, *shape); without `shape` events are vectors of their last axis.
    """

    loc: Array = real()
    scale: Array = positive()
    shape: tuple = plain(None)

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_prob_vjp(self, z):
        t = (z - self.loc) / self.scale                                             # (1)
        far = np.abs(t)
        terms = over_entries(far + 2 * np.log1p(np.exp(-far)), self.rank)           # (7)
        log_prob = -terms - log_product(self.scale, self.parameter_batch, self.shape)    # (2) (8)

        def pullback(b):
            a, h = over_event(b, self.rank) / self.scale, np.tanh(t / 2)            # (4)
            a_t = times_quotient(a, z - self.loc, self.scale)                       # (9)
            return -a * h, {"loc": a * h, "scale": times(a_t, h) - a}               # (5)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        return location_scale(self, rng.logistic, lead)                             # (3) (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Scalar", "an event of one number", z=[0.5, -3.0, 40.0], shape=(), loc=0.5, scale=0.25),
        case("Vector", "the logarithms of the scales, +-20 log 2, cancel",
             z=[[1.0, 1.0]], shape=2, loc=[0.0, 0.5], scale=[2.0**20, 2.0**-20]),
        case("Image", "an event of one channel", z=[[[[1.0, -2.0]]]], shape=(1, 1, 2)),
        case("Beyond", "t overflows, its product with a small b need not", z=[2.0**1000], shape=(), loc=0.0, scale=2.0**-30),
    )
