r"""A network's outputs, multiplied by a constant.

The map.  With the constant `c`, the field `factor`,
    h = c net(a)                                                                    (1)
    dh/da = c J,   J = dnet at a                                                    (2)

The reverse rule.  From `dh = c dnet`, with the network's pullback `net*` at `a`,
    a_bar, net_bar = net*(c h_bar)                                                  (3)
The tangents of the network, and the cotangents that it is given for them, are multiplied by `c`, too.          (4)
"""

from __future__ import annotations

from ...core import Conditioner, case, child, conditioner, plain
from ...core.rules import FINITE
from .dense import Dense
from .examples import WIDTHS
from .network import network


@conditioner(source="definition")
class Times(Conditioner):
    """h = factor net(a), factor a constant."""

    net: Conditioner = child()
    factor: float = plain(rule=FINITE)

    event_ndim = property(lambda self: self.net.event_ndim)
    fixed_shape = property(lambda self: self.net.fixed_shape)
    normwise = property(lambda self: self.net.normwise)
    smooth = property(lambda self: self.net.smooth)

    def meets_first(self, side):
        return self.net, side

    def output_shape(self, shape):
        return self.net.output_shape(shape)

    def depends(self, shape):
        return self.net.depends(shape)

    @staticmethod
    def definition(m, a, net, factor):
        return [factor * h for h in net.definition(m, a)]                           # (1)

    def forward(self, a):
        return self.factor * self.net.forward(a)                                    # (1)

    def jacobian(self, a):
        return self.factor * self.net.jacobian(a)                                   # (2)

    def vjp(self, a):
        h, net_pullback = self.net.vjp(a)

        def pullback(h_bar):
            a_bar, net_bar = net_pullback(self.factor * h_bar)                      # (3)
            return a_bar, {"net": net_bar}

        return self.factor * h, pullback

    def jvp(self, a, A_dot):
        (h, H_dot), net_pullback = self.net.jvp(a, A_dot)

        def pullback(h_bar, H_bar):
            a_bar, A_dot_bar, net_bar = net_pullback(self.factor * h_bar, self.factor * H_bar)      # (3) (4)
            return a_bar, A_dot_bar, {"net": net_bar}

        return (self.factor * h, self.factor * H_dot), pullback                     # (1) (4)

    def lipschitz(self):
        """|c| times the network's."""
        return abs(self.factor) * self.net.lipschitz()

    def initialised(self, data, rng):
        """Its network, initialised on `data`."""
        return self.replace(net=self.net.initialised(data, rng))

    @classmethod
    def examples(cls, source):
        size = source.choice(WIDTHS)
        return cls(network(source, size, source.choice(WIDTHS)), float(source.signed((), -4, 4))), (size,)

    hard_cases = (
        case("Small", "a factor that is not a power of 2", z=[[1.0, -2.0]], net=Dense([[1.0, 0.5]], [0.25]), factor=0.1),
        case("Zero", "the factor is 0: nothing is left of the network", z=[[1.0]], net=Dense([[3.0]], [1.0]), factor=0.0),
    )
