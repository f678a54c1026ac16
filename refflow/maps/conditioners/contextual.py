r"""A conditioner of the event and a context `c`.

The map.  The network `inner` reads the event and the context as one vector:
    h = inner([a, c])                                                               (1)
    dh/da = the columns of J that belong to a,   J = d inner/d[a, c]                (2)

The reverse rule.  The pullback `inner*` at `[a, c]` gives the cotangent of that vector; `a` and `c` get their parts of it:
    [a_bar, c_bar] = inner*(h_bar)                                                  (3)

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, child, conditioner, context, join
from .dense import Dense
from .examples import WIDTHS, activation, dense
from .sequential import Sequential


@conditioner(source="definition")
class Contextual(Conditioner):
    """h = inner([a, context]); a (*batch, N), context (*batch, C), filled in by `at(context=...)`."""

    inner: Conditioner = child()
    context: Array = context("C")

    normwise = property(lambda self: self.inner.normwise)
    smooth = property(lambda self: self.inner.smooth)

    @property
    def fixed_shape(self):
        inner = self.inner.fixed_shape
        return None if inner is None or self.context is None else (inner[0] - self.context.shape[-1],)

    def joined_shape(self, shape):
        """The event shape of [a, c]; None while the size of c is unknown."""
        return self.inner.fixed_shape if self.context is None else (shape[0] + self.context.shape[-1],)

    def output_shape(self, shape):
        both = self.joined_shape(shape)
        return shape if both is None else self.inner.output_shape(both)

    def depends(self, shape):
        both = self.joined_shape(shape)
        return super().depends(shape) if both is None else self.inner.depends(both)[:, :shape[0]]

    @staticmethod
    def definition(m, a, inner, context):
        return inner.definition(m, [*a, *context])                                  # (1)

    def joined(self, a):
        """[a, c]."""
        if self.context is None:
            raise ValueError("Contextual: there is no context; fill it in with at(context=...)")
        return join(a, np.broadcast_to(self.context, a.shape[:-1] + self.context.shape[-1:]))

    def forward(self, a):
        return self.inner.forward(self.joined(a))                                   # (1)

    def jacobian(self, a):
        return self.inner.jacobian(self.joined(a))[..., :a.shape[-1]]               # (2)

    def vjp(self, a):
        h, inner_pullback = self.inner.vjp(self.joined(a))                          # (1)

        def pullback(h_bar):
            both_bar, inner_bar = inner_pullback(h_bar)                             # (3)
            a_bar, context_bar = np.split(both_bar, [a.shape[-1]], -1)
            return a_bar, {"inner": inner_bar, "context": context_bar}

        return h, pullback

    def initialised(self, data, rng):
        """Its inner network, initialised on [data, context]."""
        return self.replace(inner=self.inner.initialised(self.joined(np.asarray(data)), rng))

    @classmethod
    def examples(cls, source):
        size, width = source.choice(WIDTHS), source.choice(WIDTHS)
        inner = Sequential((dense(source, width, size + 2, 2), activation(source)))
        return cls(inner, source.signed((2,), -4, 4)), (size,)

    hard_cases = (
        case("Context", "the event follows a small context", z=[[1.0, -2.0]], inner=Dense([[1.0, 2.0, 3.0]], [0.5]),
             context=[2.0**-20]),
    )
