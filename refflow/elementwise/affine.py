r"""Affine map of a line, R -> R.

    x = scale z + shift,   scale != 0                                               (1)
    z = (x - shift) / scale                                                         (2)
    dx/dz = scale                                                                   (3)
    log|dx/dz| = log|scale|                                                         (4)

Reverse rule, from (1) and (4):
    z_bar     = x_bar scale                                                         (5)
    scale_bar = x_bar z + log_det_bar / scale                                       (6)
    shift_bar = x_bar                                                               (7)
and for the inverse map, whose log-det is -log|scale|, from (2):
    x_bar     = z_bar / scale                                                       (8)
    scale_bar = -(z_bar z + log_det_bar) / scale                                    (9)
    shift_bar = -z_bar / scale                                                      (10)

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ..core import Array, Bijector, bijector, case, nonzero, real


@bijector(source="definition", domain=real, codomain=real, constant_log_det=True)
class Affine(Bijector):
    """x = scale z + shift."""

    shift: Array = real(default=0.0)
    scale: Array = nonzero(default=1.0)
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, shift, scale):
        return scale * z + shift                                                    # (1)

    def forward(self, z):
        return self.scale * z + self.shift                                          # (1)

    def inverse(self, x):
        return (x - self.shift) / self.scale                                        # (2)

    def log_det(self, z):
        return np.broadcast_to(np.log(np.abs(self.scale)), z.shape)                 # (4)

    def slope(self, z):
        return np.broadcast_to(self.scale, z.shape)                                 # (3)

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            scale_bar = x_bar * z + log_det_bar / self.scale                        # (6)
            return x_bar * self.scale, {"shift": x_bar, "scale": scale_bar}         # (5) (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        z, log_det = self.inverse_and_log_det(x)

        def pullback(z_bar, log_det_bar):
            x_bar = z_bar / self.scale                                              # (8)
            scale_bar = -(z_bar * z + log_det_bar) / self.scale                     # (9)
            return x_bar, {"shift": -x_bar, "scale": scale_bar}                     # (10)

        return (z, log_det), pullback

    hard_cases = (
        case("Cancelling", "scale z and -shift agree in all digits but the last", z=[np.nextafter(1, 2)], shift=-1.0, scale=1.0),
        case("Reflected", "a negative scale: log-det is of its magnitude", z=[1.0, -3.0], shift=0.5, scale=-2.0),
        case("Tiny", "scale near the smallest float of the certified range", z=[1e300], shift=0.0, scale=2.0**-60),
    )
