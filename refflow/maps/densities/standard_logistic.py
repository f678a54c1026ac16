r"""Standard logistic density.

`z` is an event of any shape, `b` the cotangent of `log p`; the sum runs over the event's entries.
    log p(z) = -sum (|z| + 2 log(1 + exp(-|z|)))                                    (1)
    z_bar = -b tanh(z/2) = sign(z) b (exp(-|z|) - 1) / (1 + exp(-|z|))              (2)
`exp` is never taken of a positive number, and both terms of the sum are `>= 0`.  (2) does not halve the smallest `z`, which
would lose its last digit.
"""

from __future__ import annotations

import numpy as np

from ...core import Density, case, density, plain
from ...core.bijector import over_event
from .entries import drawn, entries, over_entries


@density(source="definition")
class StandardLogistic(Density):
    """The standard logistic density of events of `shape`, () for scalars, an int D for vectors; it has no parameters."""

    shape: tuple = plain(())

    @staticmethod
    def definition(m, z, shape):
        return m.fsum(-abs(z_j) - 2 * m.log(1 + m.exp(-abs(z_j))) for z_j in entries(z, shape))     # (1)

    def log_prob_vjp(self, z):
        far = np.abs(z)
        q = np.exp(-far)
        log_prob = -over_entries(far + 2 * np.log1p(q), self.rank)                  # (1)

        def pullback(b):
            return np.sign(z) * (over_event(b, self.rank) * np.expm1(-far)) / (1 + q), {}       # (2)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        return drawn(rng.logistic, lead, self.shape, self.dtype), lambda z_bar: {}

    hard_cases = (
        case("Scalar", "exp(-|z|) is a rounded 1, or below u", z=[0.0, 1e-20, -40.0, 760.0]),
        case("Vector", "an event of three", z=[[1.0, -2.0, 0.5]], shape=3),
        case("Image", "an event of one channel", z=[[[[1.0, -2.0], [0.5, 3.0]]]], shape=(1, 2, 2)),
    )
