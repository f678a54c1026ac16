r"""Hyperbolic sine, `R -> R`; its inverse is arsinh.

The map.  For every real `z`,
    x = sinh z                                                                      (1)
    z = arsinh x                                                                    (2)
    dx/dz = cosh z                                                                  (3)
    log|dx/dz| = log cosh z                                                         (4)
    log|dz/dx| = -log(1 + x^2)/2                                                    (5)

The reverse rule.  The derivative of (4) is `tanh z`, so with the cotangent `l_bar` of (4),
    z_bar = x_bar cosh z + l_bar tanh z                                             (6)
For the inverse map, with `h = sqrt(1 + x^2)`, `dz/dx = 1/h`, and the derivative of (5) is `-x/h^2`.  With the cotangent `l_bar` of
(5),
    x_bar = (z_bar - l_bar x/h)/h                                                   (7)

Source: NIST DLMF 4.28, 4.37.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, real
from ...core.arithmetic import times
from .leaky_tanh import unchecked_tanh


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return np.sinh(z)                                                           # (1)

    def inverse(x):
        return np.arcsinh(x)                                                        # (2)

    def slope(z):
        return np.cosh(z)                                                           # (3)

    def log_det(z):
        return np.log(np.cosh(z))                                                   # (4)

    def inverse_log_det(x):
        return -np.log(1 + x**2) / 2                                                # (5)

    def vjp(z, x_bar, l_bar):
        return x_bar * np.cosh(z) + l_bar * np.tanh(z), {}                          # (6)

    def inverse_vjp(x, z_bar, l_bar):
        h = np.sqrt(1 + x**2)
        return (z_bar - l_bar * x / h) / h, {}                                      # (7)


r"""In floating point.

In (4), `cosh z` overflows for a large `z`, and rounds to 1 for a small one: it is minus half the log-det of `Tanh`.            (8)

In (5) and (7), `x^2` may overflow, and `1 + x^2` rounds to 1 for a small `x`:
    log|dz/dx| = -log1p(x^2)/2    for |x| <= 1                                      (9)
               = -log h           for |x| >  1,   h = hypot(1, x)                   (10)

In (6), `cosh z` may overflow where its product with a cotangent does not:
    x_bar cosh z = (x_bar e) ((1 + exp(-2|z|))/2 e),   e = exp(|z|/2)               (11)
"""


@bijector(source="DLMF 4.28", domain=real, codomain=real, increasing=True, textbook=textbook)
class Sinh(Bijector):
    """x = sinh z; its inverse is arsinh x."""

    event_ndim = (0, 0)

    @staticmethod
    def inverse_definition(m, x):
        return m.asinh(x)                                                           # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.sinh(z)                                                           # (1)

    def inverse(self, x):
        return np.arcsinh(x)                                                        # (2)

    def log_det(self, z):
        return -unchecked_tanh(z).log_det(z) / 2                                    # (4) (8)

    def slope(self, z):
        return np.cosh(z)                                                           # (3)

    def inverse_and_log_det(self, x):
        near, far = -np.log1p(np.minimum(np.abs(x), 1) ** 2) / 2, -np.log(np.hypot(1, x))           # (9) (10)
        return self.inverse(x), np.where(np.abs(x) <= 1, near, far)                 # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        e, half = np.exp(np.abs(z) / 2), (1 + np.exp(-2 * np.abs(z))) / 2           # (11)

        def pullback(x_bar, log_det_bar):
            return times(x_bar, e, half * e) + log_det_bar * np.tanh(z), {}         # (6) (11)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        h = np.hypot(1, x)                                                          # (10)

        def pullback(z_bar, log_det_bar):
            return (z_bar - log_det_bar * (x / h)) / h, {}                          # (7)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "the log-det is z^2/2: the logarithm of a rounded cosh is 0", z=[5e-324, -1e-160, 1e-9], x=[5e-324, -1e-160, 1e-9]),
        case("Overflow", "the last z whose x is finite, and the next ones", z=[710.4, -710.48, 745.0]),
        case("Beyond", "cosh z overflows, the log-det is |z| - log 2", z=[2.0**1000, -2.0**1000]),
        case("Switch", "(9) and (10) meet, as do the forms of the log-det", z=[1.0, np.nextafter(1, 2)], x=[1.0, np.nextafter(-1, -2)]),
        case("SquareOverflows", "x^2 overflows, h does not", x=[1.4e154, -2.0**1000]),
    )
