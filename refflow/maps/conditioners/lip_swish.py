r"""LipSwish on every entry of an event: swish with a temperature, whose slope stays below 1.

The map.  With the logistic `sigma(b) = 1/(1 + exp(-b))` and a number `beta > 0`,
    h = a sigma(b)/1.1,   b = beta a                                                (1)
    dh/da = sigma(b) (1 + b (1 - sigma(b)))/1.1                                     (2)
The largest slope, 0.9998539273..., is at `b = 2.3993572805...` for every `beta`, because (2) depends on `b` alone.

The reverse rule.  By (2), and by `db/dbeta = a` in (1),
    a_bar = h_bar dh/da,   beta_bar = h_bar a^2 sigma(b) (1 - sigma(b))/1.1         (3)
The cotangents of tangents, as `jvp` needs them, take the derivatives of (2):
    ds/da = beta X,   ds/dbeta = a X                                                (4)
    X = sigma(b) (1 - sigma(b)) (2 + b (1 - 2 sigma(b)))/1.1                        (5)

Source: Chen, Behrmann, Duvenaud and Jacobsen, Residual Flows for Invertible Generative Modeling, arXiv:1906.02735, section 3.3.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, positive
from ...core.arrays import doubled, rounded

DEEP = -12                                      # exp(-12) is a normal number
FAR = 4096                                      # exp(-FAR/2) is 0
STEEPEST = 0.9998539274                         # the largest slope, rounded up


class textbook:
    """(1) to (5) as they are printed, for one event."""

    def sigma(a, beta):
        return 1 / (1 + np.exp(-beta * a))                                          # (1)

    def forward(a, beta):
        return 10 * a * textbook.sigma(a, beta) / 11                                # (1)

    def slope(a, beta):
        sigma = textbook.sigma(a, beta)
        return 10 * sigma * (1 + beta * a * (1 - sigma)) / 11                       # (2)

    def vjp(a, beta, h_bar):
        sigma = textbook.sigma(a, beta)
        return h_bar * textbook.slope(a, beta), {"beta": 10 * h_bar * a**2 * sigma * (1 - sigma) / 11}      # (3)

    def curvatures(a, beta):
        """ds/da and ds/dbeta."""
        sigma = textbook.sigma(a, beta)
        X = 10 * sigma * (1 - sigma) * (2 + beta * a * (1 - 2 * sigma)) / 11        # (5)
        return beta * X, a * X                                                      # (4)


r"""In floating point.

In (1), `beta a` may overflow, and `exp(-b)` where `h` need not be 0.  With `b` between -4096 and 4096, where nothing is left to change,
`t = exp(-|b|)` and `m = exp(-|b|/2)`,
    h = a/(1 + t)/1.1 for b > 0,   (a m) m/(1 + t)/1.1 for b <= 0                   (6)

In (2) and (3), `1 - sigma(b)` loses every digit once `sigma(b)` rounds to 1, and `t` may lose digits below the smallest normal number
where the whole product does not.  With `r = 1/(1 + t)`,
    a_bar = h_bar (1 + b t r) r/1.1             for b > 0                           (7)
          = h_bar t (1 + t + b)/(1 + t)^2/1.1   for b <= 0, with (m ..) m for t where b < -12       (8)
    beta_bar = (h_bar (a m)) (a m)/(1 + t)^2/1.1                                    (9)

In (1) to (4), float32 loses a unit at each of ten operations.  It is computed in float64, and rounded once.            (10)

In (5), both differences lose digits where `sigma(b)` rounds to 1 or to 1/2:
    sigma(b) (1 - sigma(b)) = t/(1 + t)^2,   1 - 2 sigma(b) = -tanh(b/2)            (11)
"""


@conditioner(source="arXiv:1906.02735", textbook=textbook)
class LipSwish(Conditioner):
    """h = a/(1 + exp(-beta a))/1.1, with a slope below 1 for every beta > 0."""

    beta: Array = positive()
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        wide, beta = doubled(a, self.beta)                                          # (10)
        b, t, m = exponentials(wide, beta)
        return (np.where(b > 0, wide, wide * m * m) / (1 + t) / 1.1).astype(a.dtype)        # (1) (6)

    def slope(self, a):
        wide, beta = doubled(a, self.beta)                                          # (10)
        return slope_times(1, *exponentials(wide, beta)).astype(a.dtype)            # (2) (7) (8)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        def pullback(h_bar):
            wide, beta, bar = doubled(a, self.beta, h_bar)                          # (10)
            b, t, m = exponentials(wide, beta)
            return rounded((slope_times(bar, b, t, m), {"beta": times_beta_slope(bar, wide, t, m)}), a.dtype)       # (3)

        return self.forward(a), pullback

    def jvp(self, a, A_dot):
        wide, tangents, beta = doubled(a, A_dot, self.beta)                         # (10)
        b, t, m = exponentials(wide, beta)
        slope = slope_times(1, b, t, m)[..., None]                                  # (2) (7) (8)

        def pullback(h_bar, H_bar):
            h_bar, H_bar = doubled(h_bar, H_bar)                                    # (10)
            X = t / (1 + t) ** 2 * (2 - b * np.tanh(b / 2)) / 1.1                   # (5) (11)
            bend = X * (H_bar * tangents).sum(-1)
            a_bar = slope_times(h_bar, b, t, m) + beta * bend                       # (3) (4)
            beta_bar = times_beta_slope(h_bar, wide, t, m) + wide * bend            # (3) (4)
            return rounded((a_bar, H_bar * slope, {"beta": beta_bar}), a.dtype)

        return (self.forward(a), (tangents * slope).astype(a.dtype)), pullback      # (2)

    def lipschitz(self):
        """The largest slope, rounded up."""
        return STEEPEST

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Turning", "the slope passes through 0", z=[-1.2784645427610738, -1.2784645427610740], beta=1.0),
        case("Steepest", "the slope is largest, and its derivative 0", z=[2.3993572805154677], beta=1.0),
        case("Left", "exp b alone is subnormal or 0, h and the slope are not", z=[-709.0, -740.0, -746.0, -751.0], beta=1.0),
        case("Right", "h rounds to a/1.1, and the slope to 1/1.1", z=[37.0, 740.0], beta=1.0),
        case("Beyond", "beta a overflows", z=[2.0**1000, -2.0**1000], beta=2.0**30),
        case("Slow", "a large event where sigma(b) is near 1/2", z=[2.0**40, -2.0**41], beta=2.0**-42),
    )


def exponentials(a, beta):
    """b, t and m."""
    b = np.clip(beta * a, -FAR, FAR)                                                # (1) (6)
    return b, np.exp(-np.abs(b)), np.exp(-np.abs(b) / 2)                            # (6)


def slope_times(h_bar, b, t, m):
    """h_bar dh/da."""
    r = 1 / (1 + t)
    left = np.where(b < DEEP, h_bar * m * (1 + t + b) * m, h_bar * (t * (1 + t + b)))       # (8)
    return np.where(b > 0, h_bar * (1 + b * t * r) * r, left / (1 + t) ** 2) / 1.1          # (7) (8)


def times_beta_slope(h_bar, a, t, m):
    """h_bar dh/dbeta."""
    return h_bar * (a * m) * (a * m) / (1 + t) ** 2 / 1.1                           # (3) (9)
