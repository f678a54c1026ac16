r"""Softsign, `R -> (-1, 1)`.

    x = z / (1 + |z|)                                                               (1)
    z = x / (1 - |x|)                                                               (2)
    dx/dz = r^2,   r = 1 / (1 + |z|)                                                (3)
    log|dx/dz| = -2 log(1 + |z|)                                                    (4)
    log|dz/dx| = -2 log(1 - |x|)                                                    (5)

(5) follows from `(1 + |z|) (1 - |x|) = 1`.  `1 - |x|` is exact for `|x| >= 1/2`, so (2) and (5) keep their digits up to
the last float below 1.

At `z = 0` the second derivative jumps from 2 to -2.  All pullbacks give the derivative from the right there, with
    sign z = 1     for z >= 0
           = -1    for z <  0                                                       (6)

Reverse rule.  `d/dz` of (4) is `-2 r sign z`, so
    z_bar = x_bar r^2 - 2 log_det_bar r sign z                                      (7)
and for the inverse map, with `c = 1 - |x|`, from `dz/dx = 1/c^2` and `d/dx` of (5) = `2 sign(x) / c`,
    x_bar = (z_bar / c + 2 log_det_bar sign x) / c                                  (8)
At the ends `c = 0`; a cotangent 0 makes its term 0 there.
(7) is computed as `(x_bar r) r`: `r^2` may vanish where `x_bar r^2` does not.

Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010).
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval, real
from ...core.arithmetic import quotient


@bijector(source="Glorot & Bengio 2010", domain=real, codomain=interval(-1, 1), increasing=True)
class Softsign(Bijector):
    """x = z / (1 + |z|), from R to (-1, 1)."""

    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z):
        return z / (1 + z) if z >= 0 else z / (1 - z)                               # (1) (6)

    def breaks(self):
        """The break 0; the derivative there is the one from the right."""
        return np.zeros(1)

    def forward(self, z):
        return z / (1 + np.abs(z))                                                  # (1)

    def inverse(self, x):
        return x / (1 - np.abs(x))                                                  # (2)

    def log_det(self, z):
        return -2 * np.log1p(np.abs(z))                                             # (4)

    def slope(self, z):
        r = 1 / (1 + np.abs(z))
        return r * r                                                                # (3)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -2 * np.log1p(-np.abs(x))                           # (5)

    def vjp(self, z):
        r = 1 / (1 + np.abs(z))                                                     # (3)

        def pullback(x_bar, log_det_bar):
            return x_bar * r * r - 2 * log_det_bar * r * side(z), {}                # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        c = 1 - np.abs(x)

        def pullback(z_bar, log_det_bar):
            return quotient(quotient(z_bar, c) + 2 * log_det_bar * side(x), c), {}  # (8)

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
