r"""Coupling with any family of elementwise maps (for instance Mueller et al., arXiv:1808.03856, section 3.2).

The mask splits the event into `a` (passes through) and `b` (is transformed).  With `h = net(z_a)`, and for each entry `b_j`
the map `f_j = f(.; fields(h_j))` of a family, `h_j` being `P` of the outputs,
    x_a = z_a                                                                       (1)
    x_b = f(z_b; fields(h))                                                         (2)
    z_b = f^-1(x_b; fields(h))                   with h at x_a = z_a                (3)
    J   = [ I                        0           ]
          [ dx_b/dh dh/dz_a          diag(f'_j)  ]                                  (4)
    log|det J| = sum_j log|f'_j(z_j)|                                               (5)

Reverse rule, from (2) and (5), by the pullbacks `f*` of the elementwise map and of its inverse, and that of the family:
    z_b_bar, fields_bar = f*(x_b_bar, l_bar),   h_bar = fields*(fields_bar)         (6)
    z_a_bar = x_a_bar + net*(h_bar)                                                 (7)
    x_b_bar, fields_bar = (f^-1)*(z_b_bar, l_bar)                                   (8)
`net*` is the conditioner's pullback at `z_a`.  `dx_b/dh` in (4) is (6) for `l_bar = 0, x_b_bar = 1`, each `x_j` depending on
its own `h_j` alone.
"""

from __future__ import annotations

import numpy as np

from ..conditioners import Dense
from ..conditioners.examples import split
from ..conditioners.network import network
from ...core import Array, Conditioner, bijector, case, child, constant, plain
from ..elementwise import ExpScale
from ..elementwise.examples import layout
from .examples import any_family
from .coupling import MaskedBijector, divided, pieces_of, transformed
from .family import Family, affine_family


@bijector(source="arXiv:1808.03856")
class Coupling(MaskedBijector):
    """x_a = z_a, x_b = f(z_b) with the family's map f at net(z_a).

    `mask`: a boolean array, True where the event passes through, as `masks` makes them; `net`: from the event's part a to P
    outputs for each entry of b, in `layout` "halves" (P blocks) or "interleaved" (P neighbours); `family`: an elementwise
    class with a map from P unconstrained numbers to its fields.  The event's domain is the family's.  ValueError where mask,
    net, family and event do not fit.
    """

    mask: Array = constant()
    net: Conditioner = child()
    family: Family = child()
    layout: str = plain("halves")

    outputs = property(lambda self: self.family.size)
    domain = property(lambda self: self.family.domain)
    codomain = property(lambda self: self.family.codomain)

    @staticmethod
    def definition(m, z, mask, net, family, layout):
        a, b, whole = divided(z, mask)                                              # (1)
        pieces = pieces_of(net.definition(m, a), len(b), layout)
        return whole(transformed(lambda z_j, *h_j: family.definition(m, z_j, h_j), b, *pieces))     # (2)

    def map_at(self, h):
        """(f, pullback of its fields) at the conditioner's outputs."""
        return self.family.at_values(np.stack(self.pieces(h), -1), -self.split.axis)

    def outputs_bar(self, fields_pullback, fields_bar):
        """(cotangent of net's outputs, of the family's own parameters)."""
        h_bar, family_bar = fields_pullback(fields_bar)
        return self.joined([h_bar[..., k] for k in range(self.outputs)]), family_bar

    def forward_and_log_det(self, z):
        z_a, z_b = self.parts(z)
        f, _ = self.map_at(self.net.forward(z_a))
        x_b, log_slopes = f.forward_and_log_det(z_b)                                # (2)
        return self.split.whole(z_a, x_b, z.shape), self.total(log_slopes)          # (1) (5)

    def inverse_and_log_det(self, x):
        x_a, x_b = self.parts(x)
        f, _ = self.map_at(self.net.forward(x_a))
        z_b, log_slopes = f.inverse_and_log_det(x_b)                                # (3)
        return self.split.whole(x_a, z_b, x.shape), self.total(log_slopes)

    def jacobian(self, z):
        z_a, z_b = self.parts(z)
        f, fields_pullback = self.map_at(self.net.forward(z_a))
        (_, log_slopes), pullback = f.vjp(z_b)
        _, fields_bar = pullback(np.ones_like(z_b), np.zeros_like(log_slopes))
        h_bar, _ = fields_pullback(fields_bar)
        lower = sum(self.flat(h_bar[..., k])[..., None] * slope for k, slope in enumerate(self.output_slopes(z, z_a)))
        return self.assembled(z, lower, self.flat(f.slope(z_b)))                    # (4)

    def vjp(self, z):
        z_a, z_b = self.parts(z)
        h, net_pullback = self.net.vjp(z_a)
        f, fields_pullback = self.map_at(h)
        (x_b, log_slopes), f_pullback = f.vjp(z_b)                                  # (2)

        def pullback(x_bar, log_det_bar):
            x_a_bar, x_b_bar = self.parts(x_bar)
            z_b_bar, fields_bar = f_pullback(x_b_bar, np.broadcast_to(self.each(log_det_bar), x_b.shape))   # (6)
            h_bar, family_bar = self.outputs_bar(fields_pullback, fields_bar)
            net_a_bar, net_bar = net_pullback(h_bar)
            z_bar = self.split.whole(x_a_bar + net_a_bar, z_b_bar, z.shape)         # (7)
            return z_bar, {"net": net_bar, "family": family_bar}

        return (self.split.whole(z_a, x_b, z.shape), self.total(log_slopes)), pullback      # (5)

    def inverse_vjp(self, x):
        x_a, x_b = self.parts(x)
        h, net_pullback = self.net.vjp(x_a)
        f, fields_pullback = self.map_at(h)
        (z_b, log_slopes), f_pullback = f.inverse_vjp(x_b)                          # (3)

        def pullback(z_bar, log_det_bar):
            z_a_bar, z_b_bar = self.parts(z_bar)
            x_b_bar, fields_bar = f_pullback(z_b_bar, np.broadcast_to(self.each(log_det_bar), z_b.shape))   # (8)
            h_bar, family_bar = self.outputs_bar(fields_pullback, fields_bar)
            net_a_bar, net_bar = net_pullback(h_bar)
            x_bar = self.split.whole(z_a_bar + net_a_bar, x_b_bar, x.shape)
            return x_bar, {"net": net_bar, "family": family_bar}

        return (self.split.whole(x_a, z_b, x.shape), self.total(log_slopes)), pullback

    @classmethod
    def examples(cls, source):
        mask, a, b = split(source)
        family = any_family(source)
        return cls(mask, network(source, a, family.size * b), family, **layout(source)), mask.shape

    hard_cases = (
        case("MaskAll", "an empty b: the identity, log-det 0", z=[[1.0, -2.0]], mask=[True, True],
             net=Dense(np.zeros((0, 2)), []), family=affine_family(ExpScale())),
        case("Beyond", "sigma overflows, its product with z_b does not", z=[[1.0, 5e-324]], x=[[1.0, 2.0**1000]],
             mask=[True, False], net=Dense([[720.0], [0.0]], [0.0, 0.0]), family=affine_family(ExpScale())),
    )
