r"""Additive coupling (NICE: Dinh, Krueger & Bengio, arXiv:1410.8516, section 3.2).

The map.  `passes` splits the event into `a` (passes through) and `b` (is transformed).  With `t = net(z_a)`,
    x_a = z_a                                                                       (1)
    x_b = z_b + t                                                                   (2)
    z_b = x_b - t                                with t at x_a = z_a                (3)
    J   = [ I          0 ]
          [ dt/dz_a    I ]                                                          (4)
    log|det J| = 0                                                                  (5)

The reverse rule.  From (2),
    z_b_bar = x_b_bar,   z_a_bar = x_a_bar + net*(x_b_bar)                          (6)
and for the inverse map, from (3):
    x_b_bar = z_b_bar,   x_a_bar = z_a_bar - net*(z_b_bar)                          (7)
`net*` is the conditioner's pullback at `z_a`, so `-net*(z_b_bar) = net*(-z_b_bar)`; all parameters are the conditioner's.

Sequences of different lengths stand in one batch with a mask of their valid positions.  At every other position
    x = 0,   z_bar = 0                                                              (8)
and (1) to (7) hold for the valid positions alone.
"""

from __future__ import annotations

import numpy as np

from ..conditioners import BijectorLayer, Dense
from ..conditioners.examples import split
from ..conditioners.network import network
from ..linear import DenseLinear, Pointwise
from ...core import Array, Conditioner, bijector, case, child, constant, real, refusal, sequence_mask
from ...core.arrays import masked
from ...core.words import zero_where_invalid
from .coupling import AffineForm, MaskedBijector, divided, transformed
from .examples import sequence


@bijector(source="arXiv:1410.8516", domain=real, codomain=real, constant_log_det=True)
class AdditiveCoupling(MaskedBijector):
    """x_a = z_a, x_b = z_b + net(z_a).

    `passes`: a boolean array, True where the event passes through, see `masks`; `net`: from the event's part a to
    one output for each entry of b; `mask`: the valid positions, (*batch, T), of sequences that `passes` (C, 1) splits by
    channels.  ValueError if they and the event do not fit.
    """

    passes: Array = constant()
    net: Conditioner = child()
    mask: Array = sequence_mask("T")
    outputs = 1
    layout = "halves"

    affine_form = AffineForm(None, None, 0, "halves")

    @staticmethod
    def definition(m, z, passes, net, mask):
        a, b, merged = divided(zero_where_invalid(m, z, mask), passes)              # (1)
        x = merged(transformed(lambda z_j, t_j: z_j + t_j, b, net.definition(m, a)))    # (2)
        return zero_where_invalid(m, x, mask)                                       # (8)

    def forward_and_log_det(self, z):
        z_a, z_b = self.parts(z)
        return self.merged(z_a, z_b + self.net.forward(z_a), z.shape), self.nothing(z)      # (1) (2)

    def nothing(self, z):
        return np.zeros(z.shape[:z.ndim - self.passes.ndim], z.dtype)               # (5)

    def inverse_and_log_det(self, x):
        x_a, x_b = self.parts(x)
        return self.merged(x_a, x_b - self.net.forward(x_a), x.shape), self.nothing(x)      # (3)

    def jacobian(self, z):
        z_a, _ = self.parts(z)
        return self.assembled(z, self.output_slopes(z, z_a)[0], 1)                  # (4)

    def vjp(self, z):
        z_a, z_b = self.parts(z)
        t, net_pullback = self.net.vjp(z_a)

        def pullback(x_bar, log_det_bar):
            x_a_bar, x_b_bar = self.parts(masked(x_bar, self.mask))
            net_a_bar, net_bar = net_pullback(x_b_bar)
            return self.merged(x_a_bar + net_a_bar, x_b_bar, z.shape), {"net": net_bar}     # (6)

        return (self.merged(z_a, z_b + t, z.shape), self.nothing(z)), pullback      # (2)

    def inverse_vjp(self, x):
        x_a, x_b = self.parts(x)
        t, net_pullback = self.net.vjp(x_a)

        def pullback(z_bar, log_det_bar):
            z_a_bar, z_b_bar = self.parts(masked(z_bar, self.mask))
            net_a_bar, net_bar = net_pullback(-z_b_bar)
            return self.merged(z_a_bar + net_a_bar, z_b_bar, x.shape), {"net": net_bar}     # (7)

        return (self.merged(x_a, x_b - t, x.shape), self.nothing(x)), pullback      # (3)

    @classmethod
    def examples(cls, source):
        """Entries of a vector, or channels of a sequence with a mask."""
        if source.choice((False, False, True)):
            passes, net, mask = sequence(source, 1)
            return cls(passes, net).at(mask=mask), (len(passes), len(mask))
        passes, a, b = split(source)
        return cls(passes, network(source, a, b)), passes.shape

    hard_cases = (
        case("PassesAll", "an empty b: the identity", z=[[1.0, -2.0]], passes=[True, True], net=Dense(np.zeros((0, 2)), [])),
        case("PassesNone", "an empty a: a shift that depends on nothing", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             passes=[False, False], net=Dense(np.zeros((2, 0)), [0.5, -2.0])),
        case("Forgotten", "t is so large that x_b no longer remembers z_b", z=[[1.0, 1e-20]], x=[[1.0, 3.0]],
             passes=[True, False], net=Dense([[1e6]], [0.25])),
        case("Cancelling", "z_b and t cancel", z=[[3.0, -0.75]], x=[[3.0, 0.75]], passes=[True, False],
             net=Dense([[0.25]], [0.0])),
        case("Padding", "what the net gives at the invalid position does not count", z=[[[1.0, 2.0], [-2.0, 1.0]]],
             x=[[[1.0, 2.0], [-2.0, 1.0]]], passes=[[True], [False]], mask=[True, False],
             net=BijectorLayer(Pointwise(DenseLinear([[0.5]], [-1.0]), 2))),
    )
    refused = (
        refusal("mask is for sequences", passes=[True, False], net=Dense([[0.0]], [0.0]), mask=[True]),
    )
