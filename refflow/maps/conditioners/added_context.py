r"""A conditioner with the outputs of a network of the context `c` added.

The map.  The outputs of two networks are added, one of the event and one of the context:
    h = inner(a) + net(c)                                                           (1)
    dh/da = J,   J = d inner/da                                                     (2)

The reverse rule.  A sum hands its cotangent to both terms.  With the pullbacks `inner*` at `a` and `net*` at `c`,
    a_bar = inner*(h_bar),   c_bar = net*(h_bar)                                    (3)
The parameters of each network get their cotangents from its own pullback.

Source: the masked networks of nflows (Durkan, Bekasov, Murray & Papamakarios).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, child, conditioner, context
from ...core.arrays import sum_to_shape
from .dense import Dense
from .examples import WIDTHS, dense
from .network import network


@conditioner(source="nflows")
class AddedContext(Conditioner):
    """h = inner(a) + net(context); context (*batch, C), filled in by `at(context=...)`."""

    inner: Conditioner = child()
    net: Conditioner = child()
    context: Array = context("C")

    fixed_shape = property(lambda self: self.inner.fixed_shape)
    normwise = property(lambda self: any(c.normwise for c in self.components()))
    smooth = property(lambda self: all(c.smooth for c in self.components()))

    def output_shape(self, shape):
        return self.inner.output_shape(shape)

    def depends(self, shape):
        return self.inner.depends(shape)

    @staticmethod
    def definition(m, a, inner, net, context):
        return [h + e for h, e in zip(inner.definition(m, a), net.definition(m, context))]      # (1)

    def of_context(self):
        if self.context is None:
            raise ValueError("AddedContext: there is no context; fill it in with at(context=...)")
        return self.context

    def forward(self, a):
        return self.inner.forward(a) + self.net.forward(self.of_context())          # (1)

    def jacobian(self, a):
        return self.inner.jacobian(a)                                               # (2)

    def vjp(self, a):
        h, inner_pullback = self.inner.vjp(a)
        e, net_pullback = self.net.vjp(self.of_context())

        def pullback(h_bar):
            a_bar, inner_bar = inner_pullback(h_bar)                                # (3)
            context_bar, net_bar = net_pullback(sum_to_shape(h_bar, e.shape))       # (3)
            return a_bar, {"inner": inner_bar, "net": net_bar, "context": context_bar}

        return h + e, pullback                                                      # (1)

    def initialised(self, data, rng):
        """Its inner network, initialised on `data`."""
        return self.replace(inner=self.inner.initialised(np.asarray(data), rng))

    @classmethod
    def examples(cls, source):
        size, width = source.choice(WIDTHS), source.choice(WIDTHS)
        return cls(network(source, size, width), dense(source, width, 2), source.signed((2,), -4, 4)), (size,)

    hard_cases = (
        case("Cancelling", "the context all but cancels the network", z=[[1.0]], inner=Dense([[1.0]], [0.0]),
             net=Dense([[2.0**-20 - 1]], [0.0]), context=[1.0]),
    )
