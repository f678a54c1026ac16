r"""The exact flow of a velocity, `R^D -> R^D`: where a point is at the end that follows the velocity from the start.

The map.  A network gives the velocity `v(z, t)` at a place and a time, with `A = dv/dz`.  From the time `start` to the time `end`, the
point `z(t)` starts at `z` and ends at `x`,
    dz(t)/dt = v(z(t), t)                                                           (1)
The derivative `J(t) = dz(t)/dz` starts at `I`.  By (1),
    dJ/dt = A J                                                                     (2)
and ends as `dx/dz`.  Of its determinant, `d log|det J| = tr (J^-1 dJ)`, so that
    log|det dx/dz| = integral of tr A dt                                            (3)
along the path.  No other path meets it, whatever the velocity: the inverse map is the flow from the end to the start.          (4)

`exact.py` integrates in float64, by equal steps whose number is doubled until their error, which is measured, is less than a rounding.
All events of a batch take the same number of steps.

The reverse rule.  Let `z_bar(t)` be the cotangent of `z(t)`: what `<x_bar, x> + l_bar l` changes by, if the path is moved at `t` and
follows (1) from there, with the part of (3) that is still to come.  A step from `t` to `t + dt` moves `z(t)` to `z(t) + v dt`, and adds
`tr A dt` to the log-det, so that
    z_bar(t) = z_bar(t + dt) + (A^T z_bar + l_bar d(tr A)/dz) dt
Therefore, from `z_bar = x_bar` at the end back to the start,
    d z_bar/dt = -(A^T z_bar + l_bar d(tr A)/dz)                                    (5)
For the network's parameters, the parts of all steps are summed up,
    net_bar = integral of (dv/dnet)^T z_bar + l_bar d(tr A)/dnet dt                 (6)
The network's pullback for tangents gives what stands in (5) and (6), for the cotangents `z_bar` of `v` and `l_bar I` of `A`.

Source: Chen et al., arXiv:1806.07366, section 2 and theorem 1; Grathwohl et al., arXiv:1810.01367.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, Conditioner, bijector, case, child, plain, real, refusal
from ...core.arrays import rounded
from ...core.rules import FINITE
from ...core.tree import flatten, nest
from ..conditioners import Dense, Sequential, TanhActivation
from ..conditioners.examples import dense
from .exact import Part, solved
from .log_density import refuse_no_velocity, refuse_other_ranks
from .step import timeless
from .taylor import solution


@bijector(source="arXiv:1806.07366", domain=real, codomain=real, normwise=True)
class ContinuousFlow(Bijector):
    """x = z(end) for dz/dt = net(z, t) and z(start) = z, to within rounding.

    `net`: a conditioner of vectors, from the D entries of z and then t to D entries, with `jvp`; `start`, `end`: the times.
    ArithmeticError where the velocity is so fast that 4096 steps of order 8 are too few.
    """

    net: Conditioner = child()
    start: float = plain(0.0, FINITE)
    end: float = plain(1.0, FINITE)
    event_ndim = (1, 1)
    event_shape = ("D",)

    smooth = property(lambda self: self.net.smooth)

    def _validate(self):
        refuse_other_ranks("ContinuousFlow", self.net)
        super()._validate()

    def output_shape(self, shape):
        refuse_no_velocity(self.net, shape)
        return shape

    input_shape = output_shape

    @staticmethod
    def definition(m, z, net, start, end):
        return solution(m, net.definition, z, start, end)                           # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward_and_log_det(self, z):
        return rounded(self.followed(z, self.start, self.end)[0], z.dtype)

    def inverse_and_log_det(self, x):
        return rounded(self.followed(x, self.end, self.start)[0], x.dtype)          # (4)

    def jacobian(self, z):
        def rates(t, state):
            v, A = self.of_net(t, state[0])[0]
            return v, A @ state[1]                                                  # (1) (2)

        J = np.broadcast_to(np.eye(z.shape[-1]), (*z.shape, z.shape[-1]))
        found, _ = solved(rates, [Part(np.float64(z), (-1,)), Part(J, (-2, -1))], self.start, self.end, z.dtype)
        return found[1].value.astype(z.dtype)

    def followed(self, z, start, end):
        """((x, log_det), the part x, which knows what rounding took from it), in float64."""
        def rates(t, state):
            v, A = self.of_net(t, state[0])[0]
            return v, np.trace(A, axis1=-2, axis2=-1)                               # (1) (3)

        parts = [Part(np.float64(z), (-1,)), Part(np.zeros(z.shape[:-1]), (), True)]
        (x, log_det), _ = solved(rates, parts, start, end, z.dtype)
        return (x.value, log_det.value), x

    def of_net(self, t, z):
        """((v, A), pullback) of the network."""
        y = np.concatenate([z, np.full((*z.shape[:-1], 1), t)], -1)
        return self.net.unchecked(np.dtype(np.float64)).jvp(y, timeless(np.broadcast_to(np.eye(z.shape[-1]), (*z.shape, z.shape[-1]))))

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        return self.followed_vjp(z, self.start, self.end)

    def inverse_vjp(self, x):
        return self.followed_vjp(x, self.end, self.start)                           # (4)

    def followed_vjp(self, z, start, end):
        values, x = self.followed(z, start, end)
        names = [path for path, _ in flatten(self.net.params())]

        def pullback(x_bar, log_det_bar):
            I_bar = np.float64(log_det_bar)[..., None, None] * np.eye(z.shape[-1])

            def rates(t, state):
                (v, _), of_net = self.of_net(t, state[0])
                y_bar, _, params_bar = of_net(state[1], I_bar)
                return v, -y_bar[..., :-1], *(-bar for _, bar in flatten(params_bar))           # (1) (5) (6)

            bars = [Part(np.zeros(array.shape), None, True) for _, array in flatten(self.net.params())]
            parts = [x, Part(np.float64(x_bar), (-1,)), *bars]
            (_, z_bar, *bars), _ = solved(rates, parts, end, start, z.dtype)
            net_bar = nest({path: bar.value for path, bar in zip(names, bars)})
            return rounded((z_bar.value, {"net": net_bar}), z.dtype)

        return rounded(values, z.dtype), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        D, width = source.count(1, 2), source.count(1, 2)
        net = Sequential((dense(source, width, D + 1), TanhActivation(), dense(source, D, width)))
        return cls(net, 0.0, 0.125), (D,)

    hard_cases = (
        case("Rest", "a velocity of 0: the identity, in each number", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=Dense([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])),
        case("Slow", "the log-det is far below a rounding of 1", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=Dense([[2.0**-40, 0.0, 1.0], [2.0**-41, 2.0**-42, 0.0]])),
        case("Back", "the end lies before the start", z=[[0.5]], x=[[0.5]], net=Dense([[1.0, -1.0]], [0.25]), start=1.0, end=0.5),
    )
    refused = (
        refusal("net must be of vectors", net=TanhActivation()),
        refusal("its net must give 1 entries from 1 entries and the time, not 2", [1.0], net=Dense([[1.0, 0.0], [0.0, 1.0]])),
    )
