r"""Residual connection.

The map.  A network's output is added to its input:
    h = a + inner(a)                                                                (1)
    dh/da = I + J,   J = d inner/da                                                 (2)

The reverse rule.  In (1), `a` stands twice, and its cotangents are added.  With the pullback `inner*` at `a`,
    a_bar = h_bar + inner*(h_bar)                                                   (3)
All parameters belong to `inner`, and `inner*` gives their cotangents.  Tangents and their cotangents are added likewise:
    H_dot = A_dot + J A_dot,   A_dot_bar = H_bar + J^T H_bar                        (4)

Source: He, Zhang, Ren & Sun, arXiv:1512.03385.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, child, conditioner
from ...core.words import each
from .dense import Dense
from .examples import WIDTHS, activation, dense
from .sequential import Sequential


@conditioner(source="arXiv:1512.03385")
class Residual(Conditioner):
    """h = a + inner(a), for a conditioner `inner` whose output has the shape of its input."""

    inner: Conditioner = child()

    event_ndim = property(lambda self: self.inner.event_ndim)
    fixed_shape = property(lambda self: self.inner.fixed_shape)
    normwise = property(lambda self: self.inner.normwise)
    smooth = property(lambda self: self.inner.smooth)

    def meets_first(self, side):
        return self.inner, side

    def output_shape(self, shape):
        out = tuple(self.inner.output_shape(shape))
        if out != shape:
            raise ValueError(f"a residual connection keeps the shape, {type(self.inner).__name__} makes it {out}")
        return out

    def depends(self, shape):
        pattern = self.inner.depends(shape)
        return pattern | np.eye(len(pattern), dtype=bool)

    def depends_on_positions(self, shape):
        return self.inner.depends_on_positions(shape) | np.eye(shape[1], dtype=bool)

    @staticmethod
    def definition(m, a, inner):
        return each(lambda a_i, h_i: a_i + h_i, a, inner.definition(m, a))          # (1)

    def forward(self, a):
        return a + self.inner.forward(a)                                            # (1)

    def jacobian(self, a):
        J = np.array(self.inner.jacobian(a))
        i = np.arange(J.shape[-1])
        J[..., i, i] += 1                                                           # (2)
        return J

    def vjp(self, a):
        h, inner_pullback = self.inner.vjp(a)

        def pullback(h_bar):
            a_bar, inner_bar = inner_pullback(h_bar)
            return h_bar + a_bar, {"inner": inner_bar}                              # (3)

        return a + h, pullback                                                      # (1)

    def jvp(self, a, A_dot):
        (h, H_dot), inner_pullback = self.inner.jvp(a, A_dot)

        def pullback(h_bar, H_bar):
            a_bar, A_dot_bar, inner_bar = inner_pullback(h_bar, H_bar)
            return h_bar + a_bar, H_bar + A_dot_bar, {"inner": inner_bar}           # (3) (4)

        return (a + h, A_dot + H_dot), pullback                                     # (1) (4)

    def lipschitz(self):
        """1 and the inner network's."""
        return 1 + self.inner.lipschitz()

    def initialised(self, data, rng):
        """Its inner network, initialised on `data`."""
        return self.replace(inner=self.inner.initialised(data, rng))

    @classmethod
    def examples(cls, source):
        size = source.choice(WIDTHS)
        return cls(Sequential((dense(source, size, size, 2), activation(source)))), (size,)

    hard_cases = (
        case("Cancelling", "inner(a) is -a but for its last digits", z=[[1.0, -3.0]],
             inner=Dense([[2.0**-20 - 1, 0.0], [0.0, 2.0**-20 - 1]], [0.0, 0.0])),
    )
