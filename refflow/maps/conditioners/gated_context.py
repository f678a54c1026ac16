r"""A conditioner whose outputs are multiplied by a gate, the sigmoid of a network of the context `c`.

The map.  With `v = net(c)` and `sigma` the logistic sigmoid, entry by entry,
    h = inner(a) sigma(v)                                                           (1)
    sigma(v) = 1 / (1 + exp(-v))                                                    (2)
    dh/da = diag(sigma(v)) J,   J = d inner/da                                      (3)

The reverse rule.  With `dsigma/dv = sigma(v) sigma(-v)`,
    a_bar = inner*(h_bar sigma(v)),   c_bar = net*(h_bar inner(a) sigma(v) sigma(-v))       (4)
`inner*` and `net*` are the pullbacks at `a` and at `c`.

In floating point.  No equation changes here, only the form in which it is computed; at the ends, limits are taken.

In (1), (3) and (4), `sigma(v)` may lose digits below the smallest normal number, or be 0, where its product with a number `y`
does neither.  With `m = 1 / (1 + exp(-|v|))`, and exponents apart (`scaled` in `elementwise/scale.py`),
    y sigma(v) = y m exp(min(v, 0)),   y sigma(v) sigma(-v) = y m m exp(-|v|)       (5)

Source: the residual networks of nflows (Durkan, Bekasov, Murray & Papamakarios) with a context.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, child, conditioner, context
from ...core.arrays import sum_to_shape
from ..elementwise.scale import scaled
from .dense import Dense
from .examples import WIDTHS, dense
from .network import network


class textbook:
    """(1) to (4) as they are printed, for one event; inner and net give their own map, Jacobian and pullback."""

    def sigma(v):
        return 1 / (1 + np.exp(-v))                                                 # (2)

    def forward(a, inner, net, context):
        return inner.forward(a) * textbook.sigma(net.forward(context))              # (1)

    def jacobian(a, inner, net, context):
        return np.diag(textbook.sigma(net.forward(context))) @ inner.jacobian(a)    # (3)

    def vjp(a, inner, net, context, h_bar):
        (y, inner_pullback), (v, net_pullback) = inner.vjp(a), net.vjp(context)
        a_bar, inner_bar = inner_pullback(h_bar * textbook.sigma(v))                # (4)
        c_bar, net_bar = net_pullback(h_bar * y * textbook.sigma(v) * textbook.sigma(-v))       # (4)
        return a_bar, {"inner": inner_bar, "net": net_bar, "context": c_bar}


class Gate:
    """Products with sigma(v) and with its slope."""

    def __init__(self, v):
        self.m, self.w, self.far = 1 / (1 + np.exp(-np.abs(v))), np.minimum(v, 0), -np.abs(v)       # (5)

    def times(self, y):
        """y sigma(v)."""
        return scaled(y, self.m, self.w)                                            # (5)

    def slope_times(self, bar, y):
        """bar y sigma(v) sigma(-v)."""
        return scaled(y, (bar, self.m, self.m), self.far)                           # (5)


@conditioner(source="nflows", textbook=textbook)
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
        return Gate(self.net.forward(self.of_context())).times(self.inner.forward(a))       # (1) (5)

    def jacobian(self, a):
        J = self.inner.jacobian(a)
        return Gate(self.net.forward(self.of_context())[..., None]).times(J)        # (3) (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        y, inner_pullback = self.inner.vjp(a)
        v, net_pullback = self.net.vjp(self.of_context())
        gate = Gate(v)

        def pullback(h_bar):
            a_bar, inner_bar = inner_pullback(gate.times(h_bar))                    # (4) (5)
            context_bar, net_bar = net_pullback(sum_to_shape(gate.slope_times(h_bar, y), v.shape))     # (4) (5)
            return a_bar, {"inner": inner_bar, "net": net_bar, "context": context_bar}

        return gate.times(y), pullback                                              # (1) (5)

    # -- in floating point --------------------------------------------------------------------------------------------

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
