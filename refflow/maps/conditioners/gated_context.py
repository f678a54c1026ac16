r"""A conditioner whose outputs are multiplied by a gate, the sigmoid of a network of the context `c`.

The map.  With `v = net(c)` and `sigma` the logistic sigmoid, entry by entry,
    h = inner(a) sigma(v)                                                           (1)
    sigma(v) = 1 / (1 + exp(-v))                                                    (2)
    dh/da = diag(sigma(v)) J,   J = d inner/da                                      (3)

The reverse rule.  With `dsigma/dv = sigma(v) sigma(-v)`,
    a_bar = inner*(h_bar sigma(v)),   c_bar = net*(h_bar inner(a) sigma(v) sigma(-v))       (4)
`inner*` and `net*` are the pullbacks at `a` and at `c`.

Source: the residual networks of nflows (Durkan, Bekasov, Murray & Papamakarios) with a context.
"""

from __future__ import annotations

import numpy as np
import scipy

from ...core import Array, Conditioner, case, child, conditioner, context
from ...core.arrays import sum_to_shape
from .dense import Dense
from .examples import WIDTHS, dense
from .network import network


def sigma(v):
    """(2), in which no exponential overflows."""
    return scipy.special.expit(v)


@conditioner(source="nflows")
class GatedContext(Conditioner):
    """h = inner(a) sigmoid(net(context)); context (*batch, C), filled in by `at(context=...)`."""

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
        return [y / (1 + m.exp(-v)) for y, v in zip(inner.definition(m, a), net.definition(m, context))]    # (1) (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def of_context(self):
        if self.context is None:
            raise ValueError("GatedContext: there is no context; fill it in with at(context=...)")
        return self.context

    def forward(self, a):
        return self.inner.forward(a) * sigma(self.net.forward(self.of_context()))   # (1)

    def jacobian(self, a):
        gate = sigma(self.net.forward(self.of_context()))
        return gate[..., None] * self.inner.jacobian(a)                             # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        y, inner_pullback = self.inner.vjp(a)
        v, net_pullback = self.net.vjp(self.of_context())
        gate = sigma(v)

        def pullback(h_bar):
            a_bar, inner_bar = inner_pullback(h_bar * gate)                         # (4)
            context_bar, net_bar = net_pullback(sum_to_shape(h_bar * y * gate * sigma(-v), v.shape))     # (4)
            return a_bar, {"inner": inner_bar, "net": net_bar, "context": context_bar}

        return y * gate, pullback                                                   # (1)

    def initialised(self, data, rng):
        """Its inner network, initialised on `data`."""
        return self.replace(inner=self.inner.initialised(np.asarray(data), rng))

    @classmethod
    def examples(cls, source):
        size, width = source.choice(WIDTHS), source.choice(WIDTHS)
        return cls(network(source, size, width), dense(source, width, 2), source.signed((2,), -4, 4)), (size,)

    hard_cases = (
        case("Closed", "the gate is exp(v), far below u; what it multiplies is large", z=[[2.0**100], [1.0]],
             inner=Dense([[1.0]], [0.0]), net=Dense([[1.0]], [0.0]), context=[-60.0]),
        case("Open", "the gate rounds to 1, its slope does not round to 0", z=[[1.0]], inner=Dense([[1.0]], [0.5]),
             net=Dense([[1.0]], [0.0]), context=[40.0]),
    )
