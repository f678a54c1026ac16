r"""A bijector as a layer of a network.

The map.  The log-det of the bijector `f` is not counted:
    h = f(a)                                                                        (1)
    dh/da = J,   J = df/da                                                          (2)
Networks normalise with it: `BijectorLayer(BatchNorm(...))`.

The reverse rule.  With the pullback `f*` at `a`, in which the log-det has the cotangent 0,
    a_bar, f_bar = f* (h_bar, 0)                                                    (3)

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, Chain, Conditioner, case, child, conditioner
from ..elementwise import Tanh
from ..normalization import ActNorm
from .examples import WIDTHS


@conditioner(source="definition")
class BijectorLayer(Conditioner):
    """h = f(a) for a bijector `f` of R^n."""

    f: Bijector = child()

    event_ndim = property(lambda self: self.f.event_ndim)
    normwise = property(lambda self: self.f.normwise)

    def meets_first(self, side):
        return self.f, side

    def output_shape(self, shape):
        return self.f.output_shape(shape)

    @staticmethod
    def definition(m, a, f):
        return f.definition(m, a)                                                   # (1)

    def forward(self, a):
        return self.f.forward(a)                                                    # (1)

    def jacobian(self, a):
        return self.f.jacobian(a)                                                   # (2)

    def vjp(self, a):
        (h, log_det), f_pullback = self.f.vjp(a)                                    # (1)

        def pullback(h_bar):
            a_bar, f_bar = f_pullback(h_bar, np.zeros_like(log_det))                # (3)
            return a_bar, {"f": f_bar}

        return h, pullback

    def initialised(self, data, rng):
        """Its bijector, initialised on `data`."""
        return self.replace(f=self.f.initialised(data, rng))

    @classmethod
    def examples(cls, source):
        size = source.choice(WIDTHS)
        affine = ActNorm(source.signed((size,), -4, 4), source.signed((size,), -4, 4))
        return cls(source.choice((affine, Chain((affine, Tanh()))))), (size,)

    hard_cases = (
        case("Saturated", "tanh has ended, its slope has not", z=[[20.0, -0.5]],
             f=Chain((ActNorm([1.0, 2.0], [0.0, 0.0]), Tanh()))),
    )
