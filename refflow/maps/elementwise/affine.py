r"""Affine map of a line, `R -> R`.

The map.  With a scale that is not 0,
    x = scale z + shift                                                             (1)
    z = (x - shift) / scale                                                         (2)
    dx/dz = scale                                                                   (3)
    log|dx/dz| = log|scale|                                                         (4)

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    z_bar     = x_bar scale                                                         (5)
    scale_bar = x_bar z + l_bar / scale                                             (6)
    shift_bar = x_bar                                                               (7)
Inside a chain `z` may have overflowed; if `x_bar` is 0, as after a saturated map, the product in (6) is 0.  For the inverse map,
from (2), with the cotangent `l_bar` of its log-det `-log|scale|`,
    x_bar     = z_bar / scale                                                       (8)
    scale_bar = -x_bar (x - shift) / scale - l_bar / scale                          (9)
    shift_bar = -x_bar                                                              (10)
(9) is `-(z_bar z + l_bar) / scale`, computed as `(x_bar / scale) (x - shift)`: `z` itself may overflow where its product with a
small `z_bar`, divided by a large scale, does not.

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, nonzero, real
from ...core.arithmetic import times


@bijector(source="definition", domain=real, codomain=real, constant_log_det=True)
class Affine(Bijector):
    """x = scale z + shift."""

    shift: Array = real(default=0.0)
    scale: Array = nonzero(default=1.0)
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, shift, scale):
        return scale * z + shift                                                    # (1)

    @staticmethod
    def inverse_definition(m, x, shift, scale):
        return (x - shift) / scale                                                  # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.scale * z + self.shift                                          # (1)

    def inverse(self, x):
        return (x - self.shift) / self.scale                                        # (2)

    def log_det(self, z):
        return np.broadcast_to(np.log(np.abs(self.scale)), z.shape)                 # (4)

    def slope(self, z):
        return np.broadcast_to(self.scale, z.shape)                                 # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            scale_bar = times(x_bar, z) + log_det_bar / self.scale                  # (6)
            return x_bar * self.scale, {"shift": x_bar, "scale": scale_bar}         # (5) (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            x_bar = z_bar / self.scale                                              # (8)
            scale_bar = -(x_bar / self.scale * (x - self.shift) + log_det_bar / self.scale)     # (9)
            return x_bar, {"shift": -x_bar, "scale": scale_bar}                     # (10)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Cancelling", "scale z and shift agree in all digits but the last",
             z=[np.nextafter(1, 2), np.nextafter(1, 0)], x=[np.nextafter(-1, 0)], shift=-1.0, scale=1.0),
        case("Reflected", "a negative scale: log-det is of its magnitude", z=[1.0, -3.0], x=[0.5, 7.0],
             shift=0.5, scale=-2.0),
        case("Unit", "log-det is 0", z=[0.0, 1.0], x=[0.0, 1.0], shift=0.0, scale=1.0),
        case("NearUnit", "log-det is one unit of rounding", z=[1.0], x=[1.0], shift=0.0, scale=np.nextafter(1, 2)),
        case("Contracted", "x no longer remembers z: the shift is all that is left", z=[1.0, 5e-324], shift=1.0,
             scale=2.0**-60),
        case("Forgotten", "z overflows, its gradient's product with the cotangent need not", x=[2.0**1000, -2.0**1000],
             shift=0.0, scale=2.0**-30),
        case("Subnormal", "x - shift is exact below the smallest normal number, z is not", z=[5e-324, -1e-310],
             x=[5e-324, -1e-310], shift=0.0, scale=3.0),
        case("Large", "the largest events of the certified range", z=[2.0**1000, -2.0**1000], x=[2.0**1000, -2.0**1000],
             shift=2.0**60, scale=0.75),
    )
