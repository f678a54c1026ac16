r"""Softsign, `R -> (-1, 1)`.

The map.  For every real `z`,
    x = z / (1 + |z|)                                                               (1)
    z = x / (1 - |x|)                                                               (2)
    dx/dz = r^2,   r = 1 / (1 + |z|)                                                (3)
    log|dx/dz| = -2 log(1 + |z|)                                                    (4)
    log|dz/dx| = -2 log(1 - |x|)                                                    (5)
(5) follows from `(1 + |z|) (1 - |x|) = 1`.  At `z = 0` the second derivative jumps from 2 to -2.  All pullbacks give the
derivative from the right there, with
    sign z = 1     for z >= 0
           = -1    for z <  0                                                       (6)

The reverse rule.  The derivative of (4) is `-2 r sign z`, so with the cotangent `l_bar` of (4),
    z_bar = x_bar r^2 - 2 l_bar r sign z                                            (7)
For the inverse map, with `c = 1 - |x|`, `dz/dx = 1/c^2`, and the derivative of (5) is `2 sign(x)/c`.  With the cotangent `l_bar`
of (5),
    x_bar = (z_bar / c + 2 l_bar sign x) / c                                        (8)

Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010).
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval, real
from ...core.arithmetic import quotient


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def sign(v):
        return 1 if v >= 0 else -1                                                  # (6)

    def forward(z):
        return z / (1 + np.abs(z))                                                  # (1)

    def inverse(x):
        return x / (1 - np.abs(x))                                                  # (2)

    def slope(z):
        return 1 / (1 + np.abs(z)) ** 2                                             # (3)

    def log_det(z):
        return -2 * np.log(1 + np.abs(z))                                           # (4)

    def inverse_log_det(x):
        return -2 * np.log(1 - np.abs(x))                                           # (5)

    def vjp(z, x_bar, l_bar):
        r = 1 / (1 + np.abs(z))                                                     # (3)
        return x_bar * r**2 - 2 * l_bar * r * textbook.sign(z), {}                  # (7)

    def inverse_vjp(x, z_bar, l_bar):
        c = 1 - np.abs(x)
        return (z_bar / c + 2 * l_bar * textbook.sign(x)) / c, {}                   # (8)


r"""In floating point.

In (4), `1 + |z|` rounds to 1 for a small `z`, and the logarithm loses all digits of `z`; likewise in (5):
    log(1 + |z|) = log1p(|z|),   log(1 - |x|) = log1p(-|x|)                         (9)
`1 - |x|` is exact for `|x| >= 1/2`, so (2) and (5) keep their digits up to the last float below 1.

In (7), `r^2` may vanish where `x_bar r^2` does not:
    x_bar r^2 = (x_bar r) r                                                         (10)

In (8), `c = 0` at the ends, which an event may be: a cotangent 0 makes its term 0.                             (11)
"""


@bijector(source="Glorot & Bengio 2010", domain=real, codomain=interval(-1, 1), increasing=True, textbook=textbook)
class Softsign(Bijector):
    """x = z / (1 + |z|), from R to (-1, 1)."""

    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def breaks(self):
        """The break 0; the derivative there is the one from the right."""
        return np.zeros(1)

    def forward(self, z):
        return z / (1 + np.abs(z))                                                  # (1)

    def inverse(self, x):
        return x / (1 - np.abs(x))                                                  # (2)

    def log_det(self, z):
        return -2 * np.log1p(np.abs(z))                                             # (4) (9)

    def slope(self, z):
        r = 1 / (1 + np.abs(z))
        return r * r                                                                # (3)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -2 * np.log1p(-np.abs(x))                           # (5) (9)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        r = 1 / (1 + np.abs(z))                                                     # (3)

        def pullback(x_bar, log_det_bar):
            return x_bar * r * r - 2 * log_det_bar * r * side(z), {}                # (7) (10)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        c = 1 - np.abs(x)

        def pullback(z_bar, log_det_bar):
            return quotient(quotient(z_bar, c) + 2 * log_det_bar * side(x), c), {}  # (8) (11)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Tiny", "the log-det is -2|z|: a logarithm of 1 + |z| that rounds first gives 0",
             z=[1e-17, -1e-300, 5e-324], x=[1e-17, -1e-300]),
        case("Break", "the log-det turns from rising to falling", z=[0.0], x=[0.0]),
        case("Saturated", "x rounds to 1, the log-det does not stop; the slope vanishes before x_bar times it does",
             z=[1e17, -1e200, 2.0**1000]),
        case("NearOne", "1 - |x| has one bit", x=[np.nextafter(1, 0), np.nextafter(-1, 0), 0.5]),
    )


def side(v):
    """The sign of v, from the right at 0."""
    return np.where(v >= 0, v.dtype.type(1), v.dtype.type(-1))                      # (6)
