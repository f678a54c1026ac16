r"""Affine map of a line with an unconstrained scale, `R -> R`.

The map.  With `sigma = sigma(s) > 0` one of the conventions of `scale`,
    x = sigma(s) z + shift                                                          (1)
    z = (x - shift) / sigma(s)                                                      (2)
    dx/dz = sigma(s)                                                                (3)
    log|dx/dz| = log sigma(s)                                                       (4)
This is `Affine` with another parameter.  The log-det has the digits of `s`, which the logarithm of a rounded scale lacks.
`scale` says how products with `sigma` keep their digits where `sigma` itself leaves the floats.

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    z_bar = x_bar sigma,   shift_bar = x_bar                                        (5)
    s_bar = (x_bar z sigma + l_bar) d(log sigma)/ds                                 (6)
For the inverse map, from (2), with the cotangent `l_bar` of its log-det `-log sigma`,
    x_bar = z_bar / sigma,   shift_bar = -x_bar                                     (7)
    s_bar = -(z_bar (x - shift) / sigma + l_bar) d(log sigma)/ds                    (8)
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
class ScaledAffine(Bijector):
    """x = scale(s) z + shift."""

    s: Array = real()
    scale: Scale = child()
    shift: Array = real(default=0.0)
    event_ndim = (0, 0)

    def _validate(self):
        elementwise("ScaledAffine", self.scale)
        super()._validate()

    @staticmethod
    def definition(m, z, s, scale, shift):
        return scale.definition(m, s) * z + shift                                   # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def sigma(self, z):
        return self.scale.at_values(np.broadcast_to(self.s, z.shape))

    def forward_and_log_det(self, z):
        sigma = self.sigma(z)
        return sigma.times(z) + self.shift, np.broadcast_to(sigma.log, z.shape)     # (1) (4)

    def inverse_and_log_det(self, x):
        sigma = self.sigma(x)
        return sigma.quotient(x - self.shift), np.broadcast_to(-sigma.log, x.shape)     # (2) (4)

    def slope(self, z):
        return self.sigma(z).times(np.ones_like(z))                                 # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        sigma = self.sigma(z)

        def pullback(x_bar, log_det_bar):
            s_bar, scale_bar = sigma.cotangents(z, x_bar, log_det_bar)              # (6)
            return sigma.times(x_bar), {"s": s_bar, "scale": scale_bar, "shift": x_bar}     # (5)

        return (sigma.times(z) + self.shift, np.broadcast_to(sigma.log, z.shape)), pullback     # (1) (4)

    def inverse_vjp(self, x):
        sigma, y = self.sigma(x), x - self.shift

        def pullback(z_bar, log_det_bar):
            s_bar, scale_bar = sigma.inverse_cotangents(y, z_bar, log_det_bar)      # (8)
            x_bar = sigma.quotient(z_bar)                                           # (7)
            return x_bar, {"s": s_bar, "scale": scale_bar, "shift": -x_bar}         # (7)

        return (sigma.quotient(y), np.broadcast_to(-sigma.log, x.shape)), pullback  # (2) (4)

    @classmethod
    def examples(cls, source):
        return cls(source.signed((), -4, 2), convention(source), source.signed((), -4, 4)), ()

    hard_cases = tuple(case(name, reason, z=z, x=x, s=s, scale=ExpScale(), shift=shift) for name, reason, z, x, s, shift in (
        ("Small", "log-det is s: the logarithm of a rounded scale returns 0", [1.0], [1.0], 1e-20, 0.0),
        ("Beyond", "sigma overflows, its product with z does not", [5e-324, 0.0], [2.0**1000], 720.0, 0.0),
        ("Vanishing", "sigma underflows, its product with z does not", [2.0**1000], [5e-324, 0.0], -760.0, 0.0),
        ("Contracted", "x no longer remembers z: the shift is all that is left", [1.0, 5e-324], [], -50.0, 1.0),
        ("Saturated", "every clamp and every sigmoid has ended", [1.0, -3.0], [0.5], 2.0**40, 0.5),
    ))
    refused = (
        refusal("scale must be elementwise", s=0.0, scale=RescaledTanhExpScale(None, None, [1.0])),
    )
