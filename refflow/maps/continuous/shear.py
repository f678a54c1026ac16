r"""A shear: one half of a pair moves by what the other half says, and is moved back by a formula.

Of the halves `a` and `b`, `a` moves, with numbers `f` and `g`, and with the increment `P` of a step along a velocity, or 0:
    a' = f a + g b + P(b)                                                           (1)
    a = (a' - g b - P(b))/f                                                         (2)
The map has the Jacobian `f I` by `a` and `g I + dP/db` by `b`, so that
    da' = f da + g db + dP/db db,   |det| = |f|^D                                   (3)
`b` stays, but has a part in `a'`: from the cotangents of both after (1),
    a_bar = f a'_bar,   b_bar + g a'_bar + P*(a'_bar)   in the place of b_bar       (4)
with the pullback `P*` of the increment, which also gives the cotangents of the network's parameters.  From the cotangents after (2),
    a'_bar = a_bar/f,   b_bar - g a'_bar - P*(a'_bar)   in the place of b_bar       (5)
Both need `b` alone, which stands unchanged on the other side.  So a pullback along a sequence of shears needs the last pair, from which
it finds the others one by one, and keeps none.
"""

from __future__ import annotations

from typing import NamedTuple

from ...core.tree import added
from .step import Step


class Shear(NamedTuple):
    """The half `half`, 0 or 1, is a of (1), with f `own` and g `other`; if `inverse`, the map is (2)."""

    half: int
    own: float
    other: float
    step: Step | None = None
    inverse: bool = False

    def inverted(self):
        return self._replace(inverse=not self.inverse)

    def in_turn(self, pair):
        """(a, b) of a pair, or the pair of (a, b)."""
        return pair[::-1] if self.half else pair

    def moved(self, a, rest):
        """a after it, with rest for g b + P(b)."""
        return (a - rest) / self.own if self.inverse else self.own * a + rest       # (1) (2)

    def image(self, pair):
        """The pair after it."""
        a, b = self.in_turn(pair)
        P = self.step.increment(b) if self.step else 0.0
        return self.in_turn((self.moved(a, self.other * b + P), b))

    def jacobian(self, pair, J):
        """The Jacobians of both halves after (1), (*batch, D, 2 D) each, from those before it."""
        J_a, J_b = self.in_turn(J)
        E = self.step.with_tangents(self.in_turn(pair)[1])[1] @ J_b if self.step else 0.0
        return self.in_turn((self.own * J_a + self.other * J_b + E, J_b))           # (3)

    def taken_back(self, pair, bars, params_bar):
        """From the pair after it, its cotangents, and the parameters' so far: the pair before it, and the cotangents there."""
        (a, b), (a_bar, b_bar) = self.in_turn(pair), self.in_turn(bars)
        P, pullback = self.step.increment_vjp(b) if self.step else (0.0, lambda bar: (0.0, {}))
        before = self.inverted().moved(a, self.other * b + P)
        a_bar, rest_bar = (a_bar / self.own, -a_bar / self.own) if self.inverse else (self.own * a_bar, a_bar)          # (4) (5)
        of_b, of_net = pullback(rest_bar)
        b_bar = b_bar + self.other * rest_bar + of_b                                # (4) (5)
        return self.in_turn((before, b)), self.in_turn((a_bar, b_bar)), added(params_bar, of_net)


def back(way):
    """The shears that lead back."""
    return [shear.inverted() for shear in reversed(way)]


def led(way, pair):
    """The pair at the end of the way."""
    for shear in way:
        pair = shear.image(pair)
    return pair
