r"""Standard normal density N(0, I).

z is an event of n entries, b the cotangent of log p; sums run over the event's entries.
    log p(z) = -1/2 sum z^2 - (n/2) log 2 pi                                        (1)
    z_bar = -b z                                                                    (2)
"""

from __future__ import annotations

from ...core import Density, density, plain
from ...core.bijector import over_event
from .words import HALF_LOG_2_PI, drawn, over_entries, size_of


@density
class StandardNormal(Density):
    """The standard normal density N(0, I) of events of `shape`, () for scalars, an int D for vectors."""

    shape: tuple = plain(())

    def log_prob_vjp(self, z):
        n = size_of(self.shape)
        log_prob = -over_entries(z * (z / 2), self.rank) - n * HALF_LOG_2_PI        # (1)
        return log_prob, lambda b: (-over_event(b, self.rank) * z, {})              # (2)

    def sample_vjp(self, rng, lead):
        return drawn(rng.standard_normal, lead, self.shape, self.dtype), lambda z_bar: {}
