r"""Gated linear unit with any activation, as SwiGLU and GEGLU, `(a, b) -> h`, `R^(2 H) -> R^H`.

The map.  The first half of an event is the gate `a`, the second half `b`.  Entry by entry, with an activation `f`,
    h = f(a) b                                                                      (1)
    dh/da = f'(a) b,   dh/db = f(a)                                                 (2)
With `f` SiLU, and a dense layer before and after it, (1) is SwiGLU; with GELU, exact or by tanh, it is GEGLU.

The reverse rule.  From (2), with the pullback `f*` at `a`,
    a_bar = f*(h_bar b),   b_bar = h_bar f(a)                                       (3)

Source: Shazeer, arXiv:2002.05202.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, child, conditioner, halves, refusal
from ...core.words import each
from .dense import Dense
from .elu import ELU
from .examples import WIDTHS, activation
from .silu import SiLU
from .tanh_gelu import TanhGELU


@conditioner(source="arXiv:2002.05202")
class GatedLinearUnit(Conditioner):
    """h = activation(a) b for events (*batch, 2 H) that hold a and then b; `activation`, a conditioner of numbers."""

    activation: Conditioner = child()
    event_ndim = (1, 1)
    event_shape = ("N",)

    smooth = property(lambda self: self.activation.smooth)

    def _validate(self):
        if self.activation.event_ndim != (0, 0):
            raise ValueError(f"GatedLinearUnit: activation must be of numbers, event ranks (0, 0), not {self.activation.event_ndim}")
        super()._validate()

    def output_shape(self, shape):
        if shape[0] % 2:
            raise ValueError("its events have an even number of entries")
        return (shape[0] // 2,)

    def depends(self, shape):
        own = np.eye(shape[0] // 2, dtype=bool)
        return np.concatenate((own, own), 1)

    @staticmethod
    def definition(m, a, activation):
        H = len(a) // 2
        return each(lambda gate, b: activation.definition(m, gate) * b, a[:H], a[H:])       # (1)

    def forward(self, a):
        gate, b = halves(a)
        return self.activation.forward(gate) * b                                    # (1)

    def jacobian(self, a):
        gate, b = halves(a)
        J, i = np.zeros((*b.shape, a.shape[-1]), a.dtype), np.arange(b.shape[-1])
        J[..., i, i] = self.activation.jacobian(gate)[..., 0, 0] * b                # (2)
        J[..., i, i + len(i)] = self.activation.forward(gate)                       # (2)
        return J

    def vjp(self, a):
        gate, b = halves(a)
        f, of_activation = self.activation.vjp(gate)

        def pullback(h_bar):
            gate_bar, activation_bar = of_activation(h_bar * b)                     # (3)
            return np.concatenate((gate_bar, h_bar * f), -1), {"activation": activation_bar}        # (3)

        return f * b, pullback                                                      # (1)

    def initialised(self, data, rng):
        """Its activation, initialised on the gates."""
        return self.replace(activation=self.activation.initialised(halves(np.asarray(data))[0], rng))

    @classmethod
    def examples(cls, source):
        return cls(activation(source)), (2 * source.choice(WIDTHS),)

    hard_cases = (
        case("Swish", "SwiGLU of two channels", z=[[1.0, -0.5, 2.0, 3.0]], activation=SiLU()),
        case("Closed", "the gate is nearly closed, b is large", z=[[-30.0, 2.0**60], [-5.0, 2.0**60]], activation=TanhGELU()),
        case("Zero", "b is 0: the gate has no gradient", z=[[1.0, 0.0]], activation=ELU()),
    )
    refused = (
        refusal("activation must be of numbers", activation=Dense([[1.0]])),
        refusal("its events have an even number of entries", [1.0, 2.0, 3.0], activation=SiLU()),
    )
