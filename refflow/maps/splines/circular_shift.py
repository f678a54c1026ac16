r"""Rotation of a circle, `[a, b) -> [a, b)`.

The map.  The circle is an interval whose ends are one point.  With `ends` `a < b`, `L = b - a`, and the rotation
`u = turns`, between -1 and 1,
    x = z + (u - n) L,   n = 1   for z + u L >= b
                         n = -1  for z + u L < a
                         n = 0   elsewhere                                          (1)
    z = x - (u - n) L,   n = 1   for x - u L < a
                         n = -1  for x - u L >= b
                         n = 0   elsewhere                                          (2)
    dx/dz = 1,   log|dx/dz| = 0                                                     (3)
A spline from the circle to itself, between two rotations, is a `RationalQuadraticSpline` without tails whose end knots are the
ends, and whose slopes at both are equal.

The reverse rule.  Where `x` does not jump, `n` is constant.  From (1), and from (2),
    z_bar = x_bar,   u_bar = x_bar L,   b_bar = -a_bar = x_bar (u - n)              (4)
    x_bar = z_bar,   u_bar = -z_bar L,   b_bar = -a_bar = -z_bar (u - n)            (5)

Source: Rezende, Papamakarios, Racaniere, Albergo, Kanwar, Shanahan and Cranmer, Normalizing Flows on Tori and Spheres,
arXiv:2002.02428, on circular splines and the phase translation.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, exact_product, exact_sum, increasing, interval
from ...core.sets import intervals


class textbook:
    """(1) to (5) as they are printed, for one event."""

    def part(z, ends, turns):
        """u - n of (1)."""
        a, b = ends
        turned = z + turns * (b - a)
        return turns - (1 if turned >= b else -1 if turned < a else 0)              # (1)

    def inverse_part(x, ends, turns):
        """u - n of (2)."""
        a, b = ends
        turned = x - turns * (b - a)
        return turns - (1 if turned < a else -1 if turned >= b else 0)              # (2)

    def forward(z, ends, turns):
        return z + textbook.part(z, ends, turns) * (ends[1] - ends[0])              # (1)

    def inverse(x, ends, turns):
        return x - textbook.inverse_part(x, ends, turns) * (ends[1] - ends[0])      # (2)

    def slope(z, ends, turns):
        return 1                                                                    # (3)

    def log_det(z, ends, turns):
        return 0                                                                    # (3)

    def inverse_log_det(x, ends, turns):
        return 0                                                                    # (3)

    def vjp(z, ends, turns, x_bar, l_bar):
        b_bar = x_bar * textbook.part(z, ends, turns)                               # (4)
        return x_bar, {"ends": np.array([-b_bar, b_bar]), "turns": x_bar * (ends[1] - ends[0])}     # (4)

    def inverse_vjp(x, ends, turns, z_bar, l_bar):
        b_bar = -z_bar * textbook.inverse_part(x, ends, turns)                      # (5)
        return z_bar, {"ends": np.array([-b_bar, b_bar]), "turns": -z_bar * (ends[1] - ends[0])}    # (5)


r"""In floating point.

In (1), `x` jumps from `b` to `a`, and a rounded sum may lie on the wrong side of the jump.  So `n` is found without rounding, from
the signs of sums of exact products:
    z + u b - u a - b,   z + u b - u a - a                                          (6)
and in (2) from the same sums of `x` with `-u`.  `x` and `z` are rounded to numbers from `a` to `b`.
"""


@bijector(source="arXiv:2002.02428", straight_far_out=True, jumps=True, textbook=textbook)
class CircularShift(Bijector):
    """A rotation of the circle [ends_0, ends_1) by a part of a turn; both ends are accepted, as one point."""

    ends: Array = increasing(2)
    turns: Array = interval(-1, 1)()
    event_ndim = (0, 0)
    rounded_breaks = True

    domain = property(lambda self: intervals(self.ends[..., 0], self.ends[..., 1]))
    codomain = property(lambda self: intervals(self.ends[..., 0], self.ends[..., 1]))

    @staticmethod
    def inverse_definition(m, x, ends, turns):
        a, b = ends
        z = x - turns * (b - a)
        if turns >= 0:
            return z + (b - a) if z < a else z                                      # (2)
        return z - (b - a) if z >= b else z                                         # (2)

    def breaks(self):
        """The z at which x jumps, rounded; x takes the value a there."""
        a, b, u = np.broadcast_arrays(self.ends[..., 0], self.ends[..., 1], self.turns)
        return exact_sum([np.where(u >= 0, b, a), *exact_product(-u, b), *exact_product(u, a)])[..., None]  # (6)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.turned(z, self.turns)[0]

    def inverse(self, x):
        return self.turned(x, -self.turns)[0]                                       # (2)

    def log_det(self, z):
        return np.zeros_like(z)                                                     # (3)

    def slope(self, z):
        return np.ones_like(z)                                                      # (3)

    def inverse_and_log_det(self, x):
        return self.inverse(x), np.zeros_like(x)                                    # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        return self.pullback_of(z, self.turns, 1)

    def inverse_vjp(self, x):
        return self.pullback_of(x, -self.turns, -1)

    def pullback_of(self, event, turns, sign):
        image, part = self.turned(event, turns)

        def pullback(bar, log_det_bar):
            return bar, {"ends": np.stack((-bar * part, bar * part), -1),
                         "turns": sign * bar * (self.ends[..., 1] - self.ends[..., 0])}     # (4) (5)

        return (image, np.zeros_like(event)), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def turned(self, event, turns):
        """(the event turned, turns - n)."""
        a, b = self.ends[..., 0], self.ends[..., 1]
        common = [event, *exact_product(*np.broadcast_arrays(turns, b)), *exact_product(*np.broadcast_arrays(-turns, a))]  # (6)
        common = np.broadcast_arrays(*common, a)[:-1]
        above, below = exact_sum([*common, -b]) >= 0, exact_sum([*common, -a]) < 0  # (6)
        part = turns - above + below
        return np.clip(event + part * (b - a), a, b), part                          # (1) (2)

    hard_cases = (
        case("Jump", "the last z before the jump, the jump, and the float after it", z=[np.nextafter(0.75, 0), 0.75, 0.8],
             x=[np.nextafter(0.25, 0), 0.25, 0.3], ends=[0.0, 1.0], turns=0.25),
        case("Back", "a rotation in the other direction", z=[np.nextafter(0.25, 0), 0.25, 0.3], x=[np.nextafter(0.75, 0), 0.75],
             ends=[0.0, 1.0], turns=-0.25),
        case("HalfTurn", "the rotation that is its own inverse", z=[-3.0, -1e-300, 1e-300, 3.0], x=[-3.0, 0.0, 3.0],
             ends=[-np.pi, np.pi], turns=0.5),
        case("Still", "hardly a rotation", z=[1.0, np.nextafter(2, 0)], x=[np.nextafter(1, 2), 1.5], ends=[1.0, 2.0], turns=2.0**-60),
        case("NearlyWhole", "nearly a whole turn", z=[0.5, np.nextafter(0, 1)], x=[0.5, 1e-17], ends=[0.0, 1.0],
             turns=1 - 2.0**-20),
    )
