r"""Exponential linear unit as a map, `R -> (-1, inf)`.

The map.  For every real `z`,
    x = z               for z >= 0
      = exp(z) - 1      for z <  0                                                  (1)
    z = x               for x >= 0
      = log(1 + x)      for x <  0                                                  (2)
    dx/dz = 1   for z >= 0,   exp z   for z < 0                                     (3)
    log|dx/dz| = 0   for z >= 0,   z   for z < 0                                    (4)
    log|dz/dx| = 0   for x >= 0,   -log(1 + x)   for x < 0                          (5)
The second derivative jumps at 0, which belongs to the right branch.

The reverse rule.  With the cotangent `l_bar` of (4),
    z_bar = x_bar                    for z >= 0
          = x_bar exp z + l_bar      for z <  0                                     (6)
For the inverse map, `dz/dx = 1/(1 + x)` for `x < 0`, and with the cotangent `l_bar` of (5),
    x_bar = z_bar                        for x >= 0
          = (z_bar - l_bar) / (1 + x)    for x <  0                                 (7)

Source: Clevert, Unterthiner and Hochreiter, arXiv:1511.07289, with alpha = 1.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval, real
from ...core.arithmetic import quotient


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def forward(z):
        return z if z >= 0 else np.exp(z) - 1                                       # (1)

    def inverse(x):
        return x if x >= 0 else np.log(1 + x)                                       # (2)

    def slope(z):
        return 1 + 0 * z if z >= 0 else np.exp(z)                                   # (3)

    def log_det(z):
        return 0 * z if z >= 0 else z                                               # (4)

    def inverse_log_det(x):
        return 0 * x if x >= 0 else -np.log(1 + x)                                  # (5)

    def vjp(z, x_bar, l_bar):
        return x_bar if z >= 0 else x_bar * np.exp(z) + l_bar, {}                   # (6)

    def inverse_vjp(x, z_bar, l_bar):
        return z_bar if x >= 0 else (z_bar - l_bar) / (1 + x), {}                   # (7)


r"""In floating point.

In (1), `exp(z) - 1` cancels for a small `z`, as do (2) and (5) for a small `x`, where `1 + x` rounds to 1.  All are taken as in
`Expm1`, at the negative part of the event, which is 0 on the right:
    x = expm1(min(z, 0)),   z = log1p(min(x, 0))                                    (8)

In (6), `exp z` may lose digits below the smallest normal number, where `x_bar exp z` does not:
    z_bar = (x_bar h) h + l_bar,   h = exp(min(z, 0)/2)                             (9)

In (7), `1 + x` is 0 at the end `x = -1`, which an event may be; equal cotangents cancel there to 0.            (10)
"""


@bijector(source="arXiv:1511.07289", domain=real, codomain=interval(-1, np.inf), increasing=True, textbook=textbook)
class ELUTransform(Bijector):
    """x = z for z >= 0, exp(z) - 1 for z < 0, from R to (-1, inf); the layer of networks is `ELU`.

    `Chain([ELUTransform(), LeakyReLU(alpha)])` has `alpha (exp(z) - 1)` for z < 0, and `BijectorLayer` makes a layer of it.
    """

    event_ndim = (0, 0)

    @staticmethod
    def inverse_definition(m, x):
        return x if x >= 0 else m.log(1 + x)                                        # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def breaks(self):
        """The break 0; the derivative there is the one from the right."""
        return np.zeros(1)

    def forward(self, z):
        return np.where(z >= 0, z, np.expm1(np.minimum(z, 0)))                      # (1) (8)

    def inverse(self, x):
        return np.where(x >= 0, x, np.log1p(np.minimum(x, 0)))                      # (2) (8)

    def log_det(self, z):
        return np.minimum(z, 0)                                                     # (4)

    def slope(self, z):
        return np.exp(np.minimum(z, 0))                                             # (3)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -np.log1p(np.minimum(x, 0))                         # (5) (8)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        h = np.exp(np.minimum(z, 0) / 2)                                            # (9)

        def pullback(x_bar, log_det_bar):
            return x_bar * h * h + np.where(z >= 0, 0, log_det_bar), {}             # (6) (9)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return np.where(x >= 0, z_bar, quotient(z_bar - log_det_bar, 1 + x)), {}        # (7) (10)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Break", "the derivative of the log-det jumps from 1 to 0", z=[0.0, -5e-324, 5e-324], x=[0.0, -5e-324, 5e-324]),
        case("Tiny", "x is z: exp(z) - 1 returns 0", z=[-1e-160, -1e-17, -1e-12]),
        case("Saturated", "x rounds to -1, the slope does not round to 0", z=[-37.0, -50.0, -700.0]),
        case("Subnormal", "exp z is below the smallest normal number, x_bar exp z need not be", z=[-709.0, -740.0, -745.0]),
        case("Beyond", "exp z overflows or vanishes on the side that is not asked", z=[2.0**1000, -2.0**1000], x=[2.0**1000]),
        case("NearEnd", "the first floats above -1", x=[np.nextafter(-1, 0), -0.9999999]),
    )
