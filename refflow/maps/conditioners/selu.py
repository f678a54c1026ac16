r"""Scaled exponential linear unit on every entry of an event.

The map.  For every entry `a`,
    h = lambda a    for a > 0,   lambda alpha (exp(a) - 1)    for a <= 0            (1)
    dh/da = lambda    for a > 0,   lambda alpha exp(a)    for a <= 0                (2)
with the constants
    lambda = 1.0507009873554804934193349852946,   alpha = 1.6732632423543772848170429916717        (3)
With them, a layer of `n` inputs whose weights have mean 0 and variance `1/n` keeps the mean 0 and the variance 1 of normal entries.

The reverse rule.  By (2),
    a_bar = h_bar dh/da                                                             (4)
The cotangents of tangents, as `jvp` needs them, take the derivative of the slope `s = dh/da`:
    ds/da = 0    for a > 0,   lambda alpha exp(a)    for a <= 0                     (5)

Source: Klambauer, Unterthiner, Mayr & Hochreiter, arXiv:1706.02515.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner

DIGITS = 10**31
LAMBDA, ALPHA = 10507009873554804934193349852946, 16732632423543772848170429916717       # (3), times DIGITS
RIGHT, LEFT = LAMBDA / DIGITS, LAMBDA * ALPHA / DIGITS**2
STEEPEST = 1.7580993409


class textbook:
    """(1) to (5) as they are printed, for one event."""

    def right(v):
        return v * 10507009873554804934193349852946 / 10**31                        # (3)

    def left(v):
        return textbook.right(v) * 16732632423543772848170429916717 / 10**31        # (3)

    def forward(a):
        return textbook.right(a) if a > 0 else textbook.left(np.exp(a) - 1)         # (1)

    def slope(a):
        return textbook.right(1 + 0 * a) if a > 0 else textbook.left(np.exp(a))     # (2)

    def curvature(a):
        return 0 * a if a > 0 else textbook.left(np.exp(a))                         # (5)

    def vjp(a, h_bar):
        return h_bar * textbook.slope(a), {}                                        # (4)


r"""In floating point.

In (1), `exp(a) - 1` cancels for small `a`:
    h = lambda alpha expm1(a)    for a <= 0                                         (6)

In (4), the slope may lose digits below the smallest normal number, or be 0, where its product with a cotangent does neither:
    a_bar = ((h_bar m) m) s,   m = exp(min(a, 0)/2)                                 (7)
where `s` is `lambda` for `a > 0`, else `lambda alpha`.
"""


@conditioner(source="arXiv:1706.02515", smooth=False, textbook=textbook)
class SELU(Conditioner):
    """h = lambda a for a > 0, lambda alpha (exp(a) - 1) for a <= 0."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        return np.where(a > 0, RIGHT * a, LEFT * np.expm1(np.minimum(a, 0)))        # (1) (6)

    def slope(self, a):
        return np.where(a > 0, RIGHT, LEFT * np.exp(np.minimum(a, 0)))              # (2)

    def lipschitz(self):
        """|dh/da| <= lambda alpha, rounded up."""
        return STEEPEST

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def curvature(self, a):
        return self.slope(a) * (a <= 0)                                             # (5)

    def vjp(self, a):
        def pullback(h_bar):
            m = np.exp(np.minimum(a, 0) / 2)                                        # (7)
            return h_bar * m * m * np.where(a > 0, RIGHT, LEFT).astype(a.dtype), {}         # (4) (7)

        return self.forward(a), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Zero", "both forms are 0 there, and the slope jumps", z=[0.0, -0.0, 5e-324, -5e-324]),
        case("Tiny", "exp(a) - 1 cancels", z=[-1e-9, -1e-160]),
        case("Left", "h is -lambda alpha, the slope is subnormal or 0, h_bar m^2 need not be", z=[-40.0, -709.0, -745.0]),
        case("Beyond", "exp a overflows, h does not", z=[2.0**1000, -2.0**1000]),
    )

