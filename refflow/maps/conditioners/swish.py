r"""Swish with a temperature, on every entry of an event.

The map.  With the logistic `sigma(b) = 1/(1 + exp(-b))` and a number `beta` of any sign,
    h = a sigma(b),   b = beta a                                                    (1)
    dh/da = sigma(b) (1 + b (1 - sigma(b)))                                         (2)

The reverse rule.  By (2), and by `db/dbeta = a` in (1),
    a_bar = h_bar dh/da,   beta_bar = h_bar a^2 sigma(b) (1 - sigma(b))             (3)
The cotangents of tangents, as `jvp` needs them, take the derivatives of (2):
    ds/da = beta X,   ds/dbeta = a X                                                (4)
    X = sigma(b) (1 - sigma(b)) (2 + b (1 - 2 sigma(b)))                            (5)

Source: Ramachandran, Zoph & Le, Searching for Activation Functions, arXiv:1710.05941.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, real
from ...core.arrays import doubled, rounded
from .lip_swish import DEEP, exponentials


class textbook:
    """(1) to (5) as they are printed, for one event."""

    def sigma(a, beta):
        return 1 / (1 + np.exp(-beta * a))                                          # (1)

    def forward(a, beta):
        return a * textbook.sigma(a, beta)                                          # (1)

    def slope(a, beta):
        sigma = textbook.sigma(a, beta)
        return sigma * (1 + beta * a * (1 - sigma))                                 # (2)

    def vjp(a, beta, h_bar):
        sigma = textbook.sigma(a, beta)
        return h_bar * textbook.slope(a, beta), {"beta": h_bar * a**2 * sigma * (1 - sigma)}        # (3)

    def curvatures(a, beta):
        """ds/da and ds/dbeta."""
        sigma = textbook.sigma(a, beta)
        X = sigma * (1 - sigma) * (2 + beta * a * (1 - 2 * sigma))                  # (5)
        return beta * X, a * X                                                      # (4)


r"""In floating point.

In (1), `beta a` may overflow, and `exp(-b)` where `h` need not be 0.  With `b` between -4096 and 4096, where nothing is left to change,
`t = exp(-|b|)` and `m = exp(-|b|/2)`,
    h = a/(1 + t) for b > 0,   (a m) m/(1 + t) for b <= 0                           (6)

In (2) and (3), `1 - sigma(b)` loses every digit once `sigma(b)` rounds to 1, and `t` may lose digits below the smallest normal number
where the whole product does not.  With `r = 1/(1 + t)`,
    a_bar = h_bar (1 + b t r) r             for b > 0                               (7)
          = h_bar t (1 + t + b)/(1 + t)^2   for b <= 0, with (m ..) m for t where b < -12       (8)
    beta_bar = (h_bar (a m)) (a m)/(1 + t)^2                                        (9)

In (1) to (4), float32 loses a unit at each of ten operations.  It is computed in float64, and rounded once.            (10)

In (5), both differences lose digits where `sigma(b)` rounds to 1 or to 1/2:
    sigma(b) (1 - sigma(b)) = t/(1 + t)^2,   1 - 2 sigma(b) = -tanh(b/2)            (11)
"""


@conditioner(source="arXiv:1710.05941", textbook=textbook)
class Swish(Conditioner):
    """h = a/(1 + exp(-beta a)); beta may be learned."""

    beta: Array = real()
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        wide, beta = doubled(a, self.beta)                                          # (10)
        b, t, m = exponentials(wide, beta)
        return (np.where(b > 0, wide, wide * m * m) / (1 + t)).astype(a.dtype)      # (1) (6)

    def slope(self, a):
        wide, beta = doubled(a, self.beta)                                          # (10)
        return slope_times(1, *exponentials(wide, beta)).astype(a.dtype)            # (2) (7) (8)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        def pullback(h_bar):
            a_bar, beta_bar = self.taken_back(a, h_bar)
            return a_bar, {"beta": beta_bar}

        return self.forward(a), pullback

    def taken_back(self, a, h_bar):
        """The cotangents of a and, for each event, of beta."""
        wide, beta, bar = doubled(a, self.beta, h_bar)                              # (10)
        b, t, m = exponentials(wide, beta)
        beta_bar = bar * (wide * m) * (wide * m) / (1 + t) ** 2                 # (3) (9)
        return rounded((slope_times(bar, b, t, m), beta_bar), a.dtype)              # (3) (7) (8)

    def jvp(self, a, A_dot):
        h, slope = self.forward(a), self.slope(a)[..., None]

        def pullback(h_bar, H_bar):
            b, t, _ = exponentials(a, self.beta)
            X = t / (1 + t) ** 2 * (2 - b * np.tanh(b / 2))                         # (5) (11)
            (a_bar, beta_bar), bend = self.taken_back(a, h_bar), X * (H_bar * A_dot).sum(-1)
            return a_bar + self.beta * bend, H_bar * slope, {"beta": beta_bar + a * bend}       # (3) (4)

        return (h, A_dot * slope), pullback                                         # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Turning", "the slope passes through 0", z=[-1.2784645427610738, -1.2784645427610740], beta=1.0),
        case("Left", "exp b alone is subnormal or 0, h and the slope are not", z=[-709.0, -740.0, -746.0, -751.0], beta=1.0),
        case("Right", "h rounds to a, and the slope to 1", z=[37.0, 740.0], beta=1.0),
        case("Beyond", "beta a overflows", z=[2.0**1000, -2.0**1000], beta=2.0**30),
        case("Turned", "beta < 0 turns the two sides round", z=[2.0, -3.0], beta=-0.5),
        case("Slow", "a large event where sigma(b) is near 1/2", z=[2.0**40, -2.0**41], beta=2.0**-42),
        case("Line", "beta = 0: half of a", z=[2.0, -3.0], beta=0.0),
    )


def slope_times(h_bar, b, t, m):
    """h_bar dh/da."""
    r = 1 / (1 + t)
    left = np.where(b < DEEP, h_bar * m * (1 + t + b) * m, h_bar * (t * (1 + t + b)))       # (8)
    return np.where(b > 0, h_bar * (1 + b * t * r) * r, left / (1 + t) ** 2)        # (7) (8)
