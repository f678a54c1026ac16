r"""Standard normal density `N(0, I)`.

The map.  `z` is an event of `n` entries, and the sum runs over them:
    log p(z) = -1/2 sum z^2 - (n/2) log 2 pi                                        (1)

The reverse rule.  With the cotangent `b` of `log p`,
    z_bar = -b z                                                                    (2)
"""

from __future__ import annotations

import math

from ...core import Density, case, density, plain
from ...core.bijector import over_event
from .entries import HALF_LOG_2_PI, drawn, entries, over_entries


@density(source="definition")
class StandardNormal(Density):
    """The standard normal density N(0, I) of events of `shape`, () for scalars, an int D for vectors."""

    shape: tuple = plain(())

    @staticmethod
    def definition(m, z, shape):
        return m.fsum(-z_j * z_j / 2 - m.log(2 * m.pi) / 2 for z_j in entries(z, shape))        # (1)

    def log_prob_vjp(self, z):
        n = math.prod(self.shape)
        log_prob = -over_entries(z * (z / 2), self.rank) - n * HALF_LOG_2_PI        # (1)
        return log_prob, lambda b: (-over_event(b, self.rank) * z, {})              # (2)

    def sample_vjp(self, rng, lead):
        return drawn(rng.standard_normal, lead, self.shape, self.dtype), lambda z_bar: {}

    hard_cases = (
        case("Scalar", "an event of one number", z=[0.0, 1.0, 2.0**-537, -38.0]),
        case("Vector", "an event of three", z=[[1.0, -2.0, 0.5]], shape=3),
        case("Image", "an event of one channel", z=[[[[1.0, -2.0], [0.5, 3.0]]]], shape=(1, 2, 2)),
        case("Overflow", "z^2 overflows: log p is -inf, its gradient a number", z=[2.0**600]),
    )
