r"""Standard logistic density.

The map.  `z` is an event of any shape, and the sum runs over its entries:
    log p(z) = -sum (z + 2 log(1 + exp(-z)))                                        (1)

The reverse rule.  With the cotangent `b` of `log p`,
    z_bar = -b tanh(z/2)                                                            (2)
"""

from __future__ import annotations

import numpy as np

from ...core import Density, case, density, plain
from ...core.bijector import over_event
from .entries import drawn, over_entries


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def log_prob(z, shape):
        return -np.sum(z + 2 * np.log(1 + np.exp(-z)))                              # (1)

    def log_prob_vjp(z, shape, b):
        return -b * np.tanh(z / 2), {}                                              # (2)


r"""In floating point.

In (1), `exp(-z)` overflows on the left, where the two terms cancel.  The density is even, and both terms of this sum are `>= 0`:
    log p(z) = -sum (|z| + 2 log1p(exp(-|z|)))                                      (3)

In (2), `z/2` loses the last digit of the smallest `z`:
    z_bar = sign(z) b expm1(-|z|)/(1 + exp(-|z|))                                   (4)
"""


@density(source="definition", textbook=textbook)
class StandardLogistic(Density):
    """The standard logistic density of events of `shape`, () for scalars, an int D for vectors; it has no parameters."""

    shape: tuple = plain(())

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_prob_vjp(self, z):
        far = np.abs(z)
        q = np.exp(-far)
        log_prob = -over_entries(far + 2 * np.log1p(q), self.rank)                  # (1) (3)

        def pullback(b):
            return np.sign(z) * (over_event(b, self.rank) * np.expm1(-far)) / (1 + q), {}    # (2) (4)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        return drawn(rng.logistic, lead, self.shape, self.dtype), lambda z_bar: {}

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Scalar", "exp(-|z|) is a rounded 1, or below u", z=[0.0, 1e-20, -40.0, 760.0]),
        case("Vector", "an event of three", z=[[1.0, -2.0, 0.5]], shape=3),
        case("Image", "an event of one channel", z=[[[[1.0, -2.0], [0.5, 3.0]]]], shape=(1, 2, 2)),
    )
