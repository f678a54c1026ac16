r"""Signed power, from the numbers other than 0 to themselves.

The map.  With an exponent `a != 0` and `sign z`, which is 1 or -1,
    x = sign(z) |z|^a                                                               (1)
    z = sign(x) |x|^(1/a)                                                           (2)
    dx/dz = a |z|^(a-1)                                                             (3)
`Power` at `|z|` and at `|x|` has the same log-dets.  0 is left out: the slope there is 0 or infinite unless `a = 1`, and for
`a < 0` the map jumps.  `a = -1` is the reciprocal of numbers of both signs.

The reverse rule.  With the pullback `P_z*` of `Power` at `|z|`, which returns the cotangents of its event and of `a`,
    (sign(z) z_bar, a_bar) = P_z*(sign(z) x_bar, l_bar)                             (4)
and for the inverse map, with the pullback `P_x*` of the inverse of `Power` at `|x|`,
    (sign(x) x_bar, a_bar) = P_x*(sign(x) z_bar, l_bar)                             (5)

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, nonzero
from .power import Power


@bijector(source="definition", domain=nonzero, codomain=nonzero, jumps=True)
class SignedPower(Bijector):
    """x = sign(z) |z|^exponent, of numbers other than 0."""

    exponent: Array = nonzero()
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, exponent):
        return m.power(z, exponent) if z > 0 else -m.power(-z, exponent)            # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    @property
    def power(self):
        return Power(self.exponent).unchecked(self.exponent.dtype)

    def forward(self, z):
        return np.copysign(self.power.forward(np.abs(z)), z)                        # (1)

    def inverse(self, x):
        return np.copysign(self.power.inverse(np.abs(x)), x)                        # (2)

    def log_det(self, z):
        return self.power.log_det(np.abs(z))

    def slope(self, z):
        return self.power.slope(np.abs(z))                                          # (3)

    def inverse_and_log_det(self, x):
        z, log_det = self.power.inverse_and_log_det(np.abs(x))
        return np.copysign(z, x), log_det                                           # (2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        _, pullback_at_size = self.power.vjp(np.abs(z))

        def pullback(x_bar, log_det_bar):
            size_bar, fields_bar = pullback_at_size(np.copysign(1, z) * x_bar, log_det_bar)         # (4)
            return np.copysign(1, z) * size_bar, fields_bar

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        _, pullback_at_size = self.power.inverse_vjp(np.abs(x))

        def pullback(z_bar, log_det_bar):
            size_bar, fields_bar = pullback_at_size(np.copysign(1, x) * z_bar, log_det_bar)         # (5)
            return np.copysign(1, x) * size_bar, fields_bar

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Identity", "the log-det is 0", z=[-5e-324, -1.0, 2.0**1000], x=[-1.0], exponent=1.0),
        case("Reciprocal", "the nearest numbers of opposite signs have the farthest images", z=[5e-308, -5e-308, -3.0], x=[-0.25, 1e300],
             exponent=-1.0),
        case("Cube", "the slope at small numbers vanishes", z=[-1e-3, 1e-3, -1e-110], x=[-8.0, -1e-300], exponent=3.0),
        case("Root", "the slope at small numbers is large", z=[-4.0, -1e-300, 5e-324], x=[-1e-3], exponent=0.5),
        case("Steep", "x leaves the floats on both sides of z = -1", z=[-np.nextafter(1, 0), -1.0, -np.nextafter(1, 2)],
             exponent=2.0**60),
    )
