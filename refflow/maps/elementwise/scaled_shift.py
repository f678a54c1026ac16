r"""Affine map of a line that shifts before it scales, `R -> R`.

The map.  With `sigma = sigma(s) > 0` one of the conventions of `scale`, and in the order of the code of RealNVP and of Glow,
    x = (z + shift) sigma(s)                                                        (1)
    z = x / sigma(s) - shift                                                        (2)
    dx/dz = sigma(s)                                                                (3)
    log|dx/dz| = log sigma(s)                                                       (4)
It equals a `ScaledAffine` with the shift `sigma(s) shift`.  `scale` says how products with `sigma` keep their digits where
`sigma` itself leaves the floats.

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    z_bar = x_bar sigma,   shift_bar = x_bar sigma                                  (5)
    s_bar = (x_bar (z + shift) sigma + l_bar) d(log sigma)/ds                       (6)
For the inverse map, from (2), with the cotangent `l_bar` of its log-det `-log sigma`,
    x_bar = z_bar / sigma,   shift_bar = -z_bar                                     (7)
    s_bar = -(z_bar x / sigma + l_bar) d(log sigma)/ds                              (8)
For a parameter `p` of the convention, (6) and (8) hold with `d(log sigma)/dp`.

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, child, real, refusal
from .examples import convention
from .exp_scale import ExpScale
from .rescaled_tanh_exp_scale import RescaledTanhExpScale
from .scale import Scale, elementwise


@bijector(source="definition", domain=real, codomain=real, increasing=True, constant_log_det=True)
class ScaledShift(Bijector):
    """x = (z + shift) scale(s)."""

    s: Array = real()
    scale: Scale = child()
    shift: Array = real(default=0.0)
    event_ndim = (0, 0)

    def _validate(self):
        elementwise("ScaledShift", self.scale)
        super()._validate()

    @staticmethod
    def definition(m, z, s, scale, shift):
        return (z + shift) * scale.definition(m, s)                                 # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def sigma(self, z):
        return self.scale.at_values(np.broadcast_to(self.s, z.shape))

    def forward_and_log_det(self, z):
        sigma = self.sigma(z)
        return sigma.times(z + self.shift), np.broadcast_to(sigma.log, z.shape)     # (1) (4)

    def inverse_and_log_det(self, x):
        sigma = self.sigma(x)
        return sigma.quotient(x) - self.shift, np.broadcast_to(-sigma.log, x.shape)     # (2) (4)

    def slope(self, z):
        return self.sigma(z).times(np.ones_like(z))                                 # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        sigma, y = self.sigma(z), z + self.shift

        def pullback(x_bar, log_det_bar):
            z_bar = sigma.times(x_bar)                                              # (5)
            s_bar, scale_bar = sigma.cotangents(y, x_bar, log_det_bar)              # (6)
            return z_bar, {"s": s_bar, "scale": scale_bar, "shift": z_bar}          # (5)

        return (sigma.times(y), np.broadcast_to(sigma.log, z.shape)), pullback      # (1) (4)

    def inverse_vjp(self, x):
        sigma = self.sigma(x)

        def pullback(z_bar, log_det_bar):
            x_bar = sigma.quotient(z_bar)                                           # (7)
            s_bar, scale_bar = sigma.inverse_cotangents(x, z_bar, log_det_bar)      # (8)
            return x_bar, {"s": s_bar, "scale": scale_bar, "shift": -z_bar}         # (7)

        return (sigma.quotient(x) - self.shift, np.broadcast_to(-sigma.log, x.shape)), pullback     # (2) (4)

    @classmethod
    def examples(cls, source):
        return cls(source.signed((), -4, 2), convention(source), source.signed((), -4, 4)), ()

    hard_cases = tuple(case(name, reason, z=z, x=x, s=s, scale=ExpScale(), shift=shift) for name, reason, z, x, s, shift in (
        ("Small", "log-det is s: the logarithm of a rounded scale returns 0", [1.0], [1.0], 1e-20, 0.0),
        ("Beyond", "sigma overflows, its product with z does not", [5e-324, 0.0], [2.0**1000], 720.0, 0.0),
        ("Vanishing", "sigma underflows, its product with z does not", [2.0**1000], [5e-324, 0.0], -760.0, 0.0),
        ("Cancelling", "z + shift is small beside its terms", [1.0 + 2.0**-20], [2.0**-20], 0.7, -1.0),
        ("Contracted", "the shift is scaled with z", [1.0, 5e-324], [1.0], -50.0, 1.0),
        ("Saturated", "every clamp and every sigmoid has ended", [1.0, -3.0], [0.5], 2.0**40, 0.5),
    ))
    refused = (
        refusal("scale must be elementwise", s=0.0, scale=RescaledTanhExpScale(None, None, [1.0])),
    )
