r"""Leaky rectified linear unit, `R -> R`.

The map.  With `a = negative_slope > 0`,
    x = z            for z >= 0
      = a z          for z <  0                                                     (1)
    z = x            for x >= 0
      = x / a        for x <  0                                                     (2)
    dx/dz = 1   or   a                                                              (3)
    log|dx/dz| = 0   or   log a                                                     (4)
    log|dz/dx| = 0   or   -log a                                                    (5)
The kink at 0 belongs to the right: the slope there is 1.

The reverse rule.  For `z >= 0`, `z_bar = x_bar` and `a_bar = 0`.  For `z < 0`, from (1) and (4), with the cotangent `l_bar` of
(4),
    z_bar = a x_bar                                                                 (6)
    a_bar = x_bar z + l_bar / a                                                     (7)
For the inverse map and `x >= 0`, `x_bar = z_bar` and `a_bar = 0`.  For `x < 0`, from (2) and (5), with the cotangent `l_bar` of
(5),
    x_bar = z_bar / a                                                               (8)
    a_bar = -(z_bar / a) x / a - l_bar / a                                          (9)
`x/a` may be subnormal, and would lose digits that the second division cannot restore: (9) divides `z_bar` twice before it
multiplies by `x`.

Source: Maas, Hannun and Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models (2013).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real


@bijector(source="Maas, Hannun & Ng 2013", domain=real, codomain=real, increasing=True)
class LeakyReLU(Bijector):
    """x = z for z >= 0, negative_slope z for z < 0."""

    negative_slope: Array = positive()
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, negative_slope):
        return z if z >= 0 else negative_slope * z                                  # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def breaks(self):
        """The break 0; the derivative there is the one from the right, 1."""
        return np.zeros(1)

    def forward(self, z):
        return np.where(z >= 0, z, self.negative_slope * z)                         # (1)

    def inverse(self, x):
        return np.where(x >= 0, x, x / self.negative_slope)                         # (2)

    def log_det(self, z):
        return np.where(z >= 0, z.dtype.type(0), np.log(self.negative_slope))       # (4)

    def slope(self, z):
        return np.where(z >= 0, z.dtype.type(1), self.negative_slope)               # (3)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -self.log_det(x)                                    # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        right, a = z >= 0, self.negative_slope

        def pullback(x_bar, log_det_bar):
            z_bar = np.where(right, x_bar, a * x_bar)                               # (6)
            return z_bar, {"negative_slope": np.where(right, 0, x_bar * z + log_det_bar / a)}           # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        right, a = x >= 0, self.negative_slope

        def pullback(z_bar, log_det_bar):
            x_bar = np.where(right, z_bar, z_bar / a)                               # (8)
            a_bar = -(z_bar / a / a * x) - log_det_bar / a                          # (9)
            return x_bar, {"negative_slope": np.where(right, 0, a_bar)}

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Kink", "two slopes meet: the one from the right holds", z=[0.0, -5e-324, 5e-324], x=[0.0, -5e-324],
             negative_slope=0.25),
        case("Identity", "the log-det is 0 on both sides", z=[-1.0, 1.0], negative_slope=1.0),
        case("Usual", "the slope of most libraries", z=[-3.0, 2.0], x=[-3.0, 2.0], negative_slope=0.01),
        case("Flat", "x of ordinary z is subnormal", z=[-1e-300], x=[-1e-320], negative_slope=2.0**-60),
    )
