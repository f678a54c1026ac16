r"""Additive coupling (NICE: Dinh, Krueger & Bengio, arXiv:1410.8516, section 3.2).

`passes` splits the event into `a` (passes through) and `b` (is transformed).  With `t = net(z_a)`,
    x_a = z_a                                                                       (1)
    x_b = z_b + t                                                                   (2)
    z_b = x_b - t                                with t at x_a = z_a                (3)
    J   = [ I          0 ]
          [ dt/dz_a    I ]                                                          (4)
    log|det J| = 0                                                                  (5)

Reverse rule, from (2):
    z_b_bar = x_b_bar,   z_a_bar = x_a_bar + net*(x_b_bar)                          (6)
and for the inverse map, from (3):
    x_b_bar = z_b_bar,   x_a_bar = z_a_bar - net*(z_b_bar)                          (7)
`net*` is the conditioner's pullback at `z_a`, so `-net*(z_b_bar) = net*(-z_b_bar)`; all parameters are the conditioner's.
"""

from __future__ import annotations

import numpy as np

from ..conditioners import Dense
from ..conditioners.examples import split
from ..conditioners.network import network
from ...core import Array, Conditioner, bijector, case, child, constant, real
from .coupling import AffineForm, MaskedBijector, divided, transformed


@bijector(source="arXiv:1410.8516", domain=real, codomain=real, constant_log_det=True)
class AdditiveCoupling(MaskedBijector):
    """x_a = z_a, x_b = z_b + net(z_a).

    `passes`: a boolean array, True where the event passes through, see `masks`; `net`: from the event's part a to
    one output for each entry of b.  ValueError if passes, net and event do not fit.
    """

    passes: Array = constant()
    net: Conditioner = child()
    outputs = 1
    layout = "halves"

    affine_form = AffineForm(None, None, 0, "halves")

    @staticmethod
    def definition(m, z, passes, net):
        a, b, whole = divided(z, passes)                                            # (1)
        return whole(transformed(lambda z_j, t_j: z_j + t_j, b, net.definition(m, a)))      # (2)

    def forward_and_log_det(self, z):
        z_a, z_b = self.parts(z)
        x = self.split.whole(z_a, z_b + self.net.forward(z_a), z.shape)             # (1) (2)
        return x, self.nothing(z)

    def nothing(self, z):
        return np.zeros(z.shape[:z.ndim - self.passes.ndim], z.dtype)               # (5)

    def inverse_and_log_det(self, x):
        x_a, x_b = self.parts(x)
        return self.split.whole(x_a, x_b - self.net.forward(x_a), x.shape), self.nothing(x)         # (3)

    def jacobian(self, z):
        z_a, _ = self.parts(z)
        return self.assembled(z, self.output_slopes(z, z_a)[0], 1)                  # (4)

    def vjp(self, z):
        z_a, z_b = self.parts(z)
        t, net_pullback = self.net.vjp(z_a)

        def pullback(x_bar, log_det_bar):
            x_a_bar, x_b_bar = self.parts(x_bar)
            net_a_bar, net_bar = net_pullback(x_b_bar)
            return self.split.whole(x_a_bar + net_a_bar, x_b_bar, z.shape), {"net": net_bar}        # (6)

        return (self.split.whole(z_a, z_b + t, z.shape), self.nothing(z)), pullback         # (2)

    def inverse_vjp(self, x):
        x_a, x_b = self.parts(x)
        t, net_pullback = self.net.vjp(x_a)

        def pullback(z_bar, log_det_bar):
            z_a_bar, z_b_bar = self.parts(z_bar)
            net_a_bar, net_bar = net_pullback(-z_b_bar)
            return self.split.whole(z_a_bar + net_a_bar, z_b_bar, x.shape), {"net": net_bar}        # (7)

        return (self.split.whole(x_a, x_b - t, x.shape), self.nothing(x)), pullback         # (3)

    @classmethod
    def examples(cls, source):
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
    )
