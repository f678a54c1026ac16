r"""Coupling with any family of elementwise maps (for instance Mueller et al., arXiv:1808.03856, section 3.2).

The map.  `passes` splits the event into `a` (passes through) and `b` (is transformed).  With `h = net(z_a)`, and for each entry
`b_j` the map `f_j` = f(.; `fields(h_j)`) of a family, where `h_j` holds `P` of the outputs,
    x_a = z_a                                                                       (1)
    x_b = f(z_b; fields(h))                                                         (2)
    z_b = f^-1(x_b; fields(h))                   with h at x_a = z_a                (3)
    J   = [ I                        0           ]
          [ dx_b/dh dh/dz_a          diag(f'_j)  ]                                  (4)
    log|det J| = sum_j log|f'_j(z_j)|                                               (5)

The reverse rule.  From (2) and (5), by the pullbacks `f*` of the elementwise map, `fields*` of the family and `net*` of the
conditioner at `z_a`,
    z_b_bar, fields_bar = f*(x_b_bar, l_bar),   h_bar = fields*(fields_bar)         (6)
    z_a_bar = x_a_bar + net*(h_bar)                                                 (7)
and for the inverse map, from (3), by the pullback of the inverse of the elementwise map,
    x_b_bar, fields_bar = (f^-1)*(z_b_bar, l_bar)                                   (8)
from which `h_bar` and `x_a_bar` follow as in (6) and (7).  `dx_b/dh` in (4) is (6) for `l_bar = 0, x_b_bar = 1`, because each
`x_j` depends only on its own `h_j`.

A scale of the family may have a gain for each channel in which `b` has entries.  Entry `j` uses the gain of its channel `c_j`,
and a gain gets the sum of the cotangents of all entries that use it:
    gain_j = gains_c for c = c_j,   gains_c_bar = sum_(j: c_j = c) gain_j_bar       (9)

Sequences of different lengths stand in one batch with a mask of their valid positions.  At every other position
    x = 0,   z_bar = 0                                                              (10)
and (1) to (9) hold for the valid positions alone: the sum (5) is over these, and `l_bar` in (6) and (8) is 0 elsewhere.
"""

from __future__ import annotations

import numpy as np

from ..conditioners import BijectorLayer, Dense
from ..conditioners.examples import split
from ..conditioners.network import network
from ...core import Array, Conditioner, bijector, case, child, constant, plain, refusal, sequence_mask
from ...core.rules import one_of
from ...core.arrays import masked
from ...core.words import each, zero_where_invalid
from ..elementwise import ExpScale, RescaledTanhExpScale, SigmoidScale
from ..elementwise.examples import layout
from ..linear import DenseLinear, Pointwise
from .coupling import LAYOUTS, MaskedBijector, channels_of_cells, divided, pieces_of
from .examples import any_family, sequence
from .family import Family, affine_family


@bijector(source="arXiv:1808.03856")
class Coupling(MaskedBijector):
    """x_a = z_a, x_b = f(z_b) with the family's map f at net(z_a).

    `passes`: a boolean array, True where the event passes through, see `masks`; `net`: from the event's part a to P
    outputs for each entry of b, in `layout` "halves" (P blocks) or "interleaved" (P neighbours); `family`: an elementwise
    class with a map from P unconstrained numbers to its fields; `mask`: the valid positions, (*batch, T), of sequences that
    `passes` (C, 1) splits by channels.  The event's domain is the family's.  ValueError if they and the event do not fit.
    """

    passes: Array = constant()
    net: Conditioner = child()
    family: Family = child()
    layout: str = plain("halves", one_of(*LAYOUTS))
    mask: Array = sequence_mask("T")

    outputs = property(lambda self: self.family.size)
    domain = property(lambda self: self.family.domain)
    codomain = property(lambda self: self.family.codomain)

    def _validate(self):
        super()._validate()
        self._set("channels", None if self.family.channels is None else self.channels_of_entries())

    def channels_of_entries(self):
        """The family's channel in which each entry of b lies."""
        channels, count = self.split.channels()
        if self.family.channels != count:
            raise ValueError(f"Coupling: family must have a gain for each of the {count} channels of b, not "
                             f"{self.family.channels}")
        return channels                                                             # (9)

    @property
    def affine_form(self):
        return self.family.affine_form(self.layout, channels=self.channels)

    @staticmethod
    def definition(m, z, passes, net, family, layout, mask):
        def cell(k, z_j, *h_j):
            return each(lambda z_j, *h_j: family.definition(m, z_j, h_j, k), z_j, *h_j)

        a, b, merged = divided(zero_where_invalid(m, z, mask), passes)              # (1)
        pieces = pieces_of(net.definition(m, a), family.size, layout)
        x = merged([cell(*together) for together in zip(channels_of_cells(passes), b, *pieces)])    # (2)
        return zero_where_invalid(m, x, mask)                                       # (10)

    def map_at(self, h):
        """(f, pullback of its fields) at the conditioner's outputs."""
        return self.family.at_values(self.vectors(h), -self.split.axis, self.channels)

    def outputs_bar(self, fields_pullback, fields_bar):
        """(cotangent of net's outputs, of the family's own parameters)."""
        h_bar, family_bar = fields_pullback(fields_bar)
        return self.joined([h_bar[..., k] for k in range(self.outputs)]), family_bar

    def forward_and_log_det(self, z):
        z_a, z_b = self.parts(z)
        f, _ = self.map_at(self.net.forward(z_a))
        x_b, log_slopes = f.forward_and_log_det(self.members(z_b, self.domain))     # (2)
        return self.merged(z_a, x_b, z.shape), self.total(log_slopes)               # (1) (5)

    def inverse_and_log_det(self, x):
        x_a, x_b = self.parts(x)
        f, _ = self.map_at(self.net.forward(x_a))
        z_b, log_slopes = f.inverse_and_log_det(self.members(x_b, self.codomain))   # (3)
        return self.merged(x_a, z_b, x.shape), self.total(log_slopes)

    def jacobian(self, z):
        z_a, z_b = self.parts(z)
        f, fields_pullback = self.map_at(self.net.forward(z_a))
        z_b = self.members(z_b, self.domain)
        (_, log_slopes), pullback = f.vjp(z_b)
        _, fields_bar = pullback(np.ones_like(z_b), np.zeros_like(log_slopes))
        h_bar, _ = fields_pullback(fields_bar)
        lower = sum(self.flat(h_bar[..., k])[..., None] * slope for k, slope in enumerate(self.output_slopes(z, z_a)))
        return self.assembled(z, lower, self.flat(f.slope(z_b)))                    # (4)

    def vjp(self, z):
        z_a, z_b = self.parts(z)
        h, net_pullback = self.net.vjp(z_a)
        f, fields_pullback = self.map_at(h)
        (x_b, log_slopes), f_pullback = f.vjp(self.members(z_b, self.domain))       # (2)

        def pullback(x_bar, log_det_bar):
            x_a_bar, x_b_bar = self.parts(masked(x_bar, self.mask))
            z_b_bar, fields_bar = f_pullback(x_b_bar, np.broadcast_to(self.each(log_det_bar), x_b.shape))   # (6)
            h_bar, family_bar = self.outputs_bar(fields_pullback, fields_bar)
            net_a_bar, net_bar = net_pullback(h_bar)
            z_bar = self.merged(x_a_bar + net_a_bar, z_b_bar, z.shape)              # (7)
            return z_bar, {"net": net_bar, "family": family_bar}

        return (self.merged(z_a, x_b, z.shape), self.total(log_slopes)), pullback   # (5)

    def inverse_vjp(self, x):
        x_a, x_b = self.parts(x)
        h, net_pullback = self.net.vjp(x_a)
        f, fields_pullback = self.map_at(h)
        (z_b, log_slopes), f_pullback = f.inverse_vjp(self.members(x_b, self.codomain))     # (3)

        def pullback(z_bar, log_det_bar):
            z_a_bar, z_b_bar = self.parts(masked(z_bar, self.mask))
            x_b_bar, fields_bar = f_pullback(z_b_bar, np.broadcast_to(self.each(log_det_bar), z_b.shape))   # (8)
            h_bar, family_bar = self.outputs_bar(fields_pullback, fields_bar)
            net_a_bar, net_bar = net_pullback(h_bar)
            x_bar = self.merged(z_a_bar + net_a_bar, x_b_bar, x.shape)
            return x_bar, {"net": net_bar, "family": family_bar}

        return (self.merged(x_a, z_b, x.shape), self.total(log_slopes)), pullback

    @classmethod
    def examples(cls, source):
        """Entries of a vector, or channels of a sequence with a mask."""
        family = any_family(source)
        if source.choice((False, False, True)):
            passes, net, mask = sequence(source, family.size)
            return cls(passes, net, family, **layout(source)).at(mask=mask), (len(passes), len(mask))
        passes, a, b = split(source)
        return cls(passes, network(source, a, family.size * b), family, **layout(source)), passes.shape

    hard_cases = (
        case("PassesAll", "an empty b: the identity, log-det 0", z=[[1.0, -2.0]], passes=[True, True],
             net=Dense(np.zeros((0, 2)), []), family=affine_family(ExpScale())),
        case("Padding", "sigma(0) is not 1: its logarithm at the invalid position does not count",
             z=[[[1.0, 2.0], [-2.0, 1.0], [0.5, 3.0]]], x=[[[1.0, 2.0], [-2.0, 1.0], [0.5, 3.0]]],
             passes=[[True], [True], [False]], mask=[True, False], family=affine_family(SigmoidScale(floor=1e-6)),
             net=BijectorLayer(Pointwise(DenseLinear([[0.5, 0.25], [-1.0, 2.0]], None), 2))),
        case("Beyond", "sigma overflows, its product with z_b does not", z=[[1.0, 5e-324]], x=[[1.0, 2.0**1000]],
             passes=[True, False], net=Dense([[720.0], [0.0]], [0.0, 0.0]), family=affine_family(ExpScale())),
    )
    refused = (
        refusal("passes must have at least one axis", passes=True, net=Dense([[0.0]] * 2, [0.0] * 2),
                family=affine_family(ExpScale())),
        refusal("mask is for sequences", passes=[True, False], net=Dense([[0.0]] * 2, [0.0] * 2), mask=[True],
                family=affine_family(ExpScale())),
        refusal("net must take events of 2 axes", passes=[[True], [False]], net=Dense([[0.0]] * 2, [0.0] * 2),
                family=affine_family(ExpScale())),
        refusal("passes and net do not fit", passes=[True, True], net=Dense([[0.0]] * 2, [0.0] * 2),
                family=affine_family(ExpScale())),
        refusal("family must have a gain for each of the 1 channels of b", passes=[True, False],
                net=Dense([[0.0]] * 2, [0.0] * 2), family=affine_family(RescaledTanhExpScale(None, None, [1.0, 2.0]))),
    )
