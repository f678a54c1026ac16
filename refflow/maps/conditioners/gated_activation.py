r"""Gated activation: one half of the channels opens or closes the other, `2 H` channels to `H`.

The map.  With `a` the first half of an event along its first axis, `b` the second, and `sigma` the logistic sigmoid,
    h = tanh(a) sigma(b)                                                            (1)
    sigma(b) = 1 / (1 + exp(-b))                                                    (2)
    dh/da = (1 - tanh^2 a) sigma(b)                                                 (3)
    dh/db = tanh(a) sigma(b) (1 - sigma(b))                                         (4)

The reverse rule.  The map acts entry by entry:
    a_bar = h_bar dh/da,   b_bar = h_bar dh/db                                      (5)

Source: van den Oord et al., arXiv:1606.05328, section 2.3.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Conditioner, case, conditioner, halves, plain
from ...core.rules import one_of
from .tanh_activation import sech

DEEP = 64                                       # exp(-64) is a normal number


class textbook:
    """(1) to (5) as they are printed, for one event."""

    def halves(event):
        H = len(event) // 2
        return event[:H], event[H:]

    def sigma(b):
        return 1 / (1 + np.exp(-b))                                                 # (2)

    def slopes(event):
        """dh/da and dh/db."""
        a, b = textbook.halves(event)
        open_to = textbook.sigma(b)
        return (1 - np.tanh(a) ** 2) * open_to, np.tanh(a) * open_to * (1 - open_to)    # (3) (4)

    def forward(a, rank):
        a, b = textbook.halves(a)
        return np.tanh(a) * textbook.sigma(b)                                       # (1)

    def jacobian(a, rank):
        return np.concatenate([np.diag(slope.ravel()) for slope in textbook.slopes(a)], 1)      # (3) (4)

    def vjp(a, rank, h_bar):
        return np.concatenate([h_bar * slope for slope in textbook.slopes(a)]), {}  # (5)


class Gate:
    """(1) at the two halves of an array along an axis: `h`, and `pullback(h_bar)`, the cotangent of the array."""

    def __init__(self, both, axis):
        self.axis = axis
        self.a, self.b = halves(both, axis)
        self.tanh, self.t = np.tanh(self.a), np.exp(-np.abs(self.b))
        self.h = self.tanh * (np.where(self.b > 0, 1, self.t) / (1 + self.t))       # (1) (6)

    def pullback(self, h_bar):
        return np.concatenate(self.slopes(h_bar), self.axis)                        # (5)

    def slopes(self, h_bar):
        """(h_bar dh/da, h_bar dh/db)."""
        r, v = sech(self.a), h_bar / (1 + self.t)
        to_a = v * r * r                                                            # (3) (7) (9)
        return np.where(self.b > 0, to_a, self.times_t(to_a)), self.times_t(v * self.tanh / (1 + self.t))   # (3) (4) (6) (8)

    def times_t(self, v):
        deep = self.t < math.exp(-DEEP)
        if not deep.any():
            return v * self.t
        s = np.exp(-np.abs(self.b) / 2)
        return np.where(deep, v * s * s, v * self.t)                                # (9)


r"""In floating point.

In (2), `exp(-b)` overflows far on the left.  With `t = exp(-|b|)`,
    sigma(b) = 1 / (1 + t) for b > 0,   t / (1 + t) for b <= 0                      (6)

In (3), `1 - tanh^2 a` loses every digit once `tanh a` rounds to 1:
    1 - tanh^2 a = r^2,   r = sech a = 2 p / (1 + p^2),   p = exp(-|a|)             (7)

In (4), `1 - sigma(b)` loses every digit once `sigma(b)` rounds to 1:
    sigma(b) (1 - sigma(b)) = t / (1 + t)^2                                         (8)

In (5), `t` may lose digits below the smallest normal number, or be 0, where its product with a number `v` does neither.  Far
from 0, this product is taken with `s = exp(-|b|/2)`, in this order:
    v t = (v s) s                                                                   (9)
and likewise `v r^2 = (v r) r`.
"""


@conditioner(source="arXiv:1606.05328", textbook=textbook)
class GatedActivation(Conditioner):
    """h = tanh(a) sigma(b) for events whose first axis holds a and then b: (2 H,) with rank 1, (2 H, T) with rank 2 ..."""

    rank: int = plain(1, one_of(1, 2, 3))

    event_ndim = property(lambda self: (self.rank, self.rank))

    def output_shape(self, shape):
        if shape[0] % 2:
            raise ValueError("its events have an even number of channels")
        return shape[0] // 2, *shape[1:]

    def depends(self, shape):
        own = np.eye(math.prod(shape) // 2, dtype=bool)
        return np.concatenate((own, own), 1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def gate(self, a):
        return Gate(a, -self.rank)

    def forward(self, a):
        return self.gate(a).h                                                       # (1) (6)

    def jacobian(self, a):
        gate, batch = self.gate(a), a.shape[:a.ndim - self.rank]
        n = math.prod(gate.h.shape[len(batch):])
        J, i = np.zeros((*batch, n, 2 * n), a.dtype), np.arange(n)
        J[..., i, i], J[..., i, n + i] = (s.reshape(*batch, n) for s in gate.slopes(np.ones_like(gate.h)))     # (3) (4)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        gate = self.gate(a)
        return gate.h, lambda h_bar: (gate.pullback(h_bar), {})                     # (1) (5) (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "h is a / 2", z=[[1e-9, 0.0], [5e-324, 0.0]]),
        case("Saturated", "tanh a rounds to 1, its slope does not round to 0", z=[[19.1, 1.0], [-350.0, 0.5]]),
        case("Open", "sigma(b) rounds to 1, its slope does not round to 0", z=[[1.0, 40.0], [0.5, 700.0]]),
        case("Closed", "exp b is subnormal or 0, h_bar times the slopes need not be", z=[[1.0, -709.0], [0.5, -745.0]]),
        case("Both", "both slopes of a are small", z=[[355.0, -20.0], [20.0, -709.0]]),
        case("Switch", "products with t change their form at b = -64 and 64", z=[[0.5, -64.0], [0.5, 64.0]]),
        case("Beyond", "exp(-b) overflows: h is 0 or tanh a", z=[[2.0**1000, -2.0**1000], [1.0, 2.0**1000]]),
        case("Signals", "the halves are channels of a signal", z=[[[1.0, 2.0], [-0.5, 0.25]]], rank=2),
        case("Images", "the halves are channels of an image", z=[[[[1.0, 2.0]], [[-0.5, 0.25]]]], rank=3),
    )
