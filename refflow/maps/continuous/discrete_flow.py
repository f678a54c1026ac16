r"""A flow in time, followed by a Runge-Kutta scheme in equal steps; the scheme is the map, `R^D -> R^D`.

The map.  A network gives the velocity `v(z, t)` at a place and a time.  From the time `start` to the time `end` go `n` steps of the
length `h = (end - start)/n`.  A step from `z` at time `t` has the stages `i = 1, ..., s` of the scheme, with its numbers `a_ij`, `b_i`
and `c_i`:
    k_i = v(z + h sum_(j < i) a_ij k_j, t + c_i h)                                  (1)
    x = z + h sum_i b_i k_i                                                         (2)
The map takes these steps in turn, each from the `x` of the one before it, so that with the Jacobian `J_n` of step `n`
    dx/dz = J_n ... J_2 J_1                                                         (3)
    log|det dx/dz| = sum_n log|det J_n|                                             (4)
For the inverse map, the steps are undone from the last to the first, each by Newton's method, and
    log|det dz/dx| = -sum_n log|det J_n|    at the z that is found                  (5)
A step is one-to-one where its Jacobian is regular everywhere, as for a small `h`.

In Tsitouras' scheme, the `b_i` sum to an eighth of the sum of their sizes, and the roundings do not cancel likewise: it errs by up
to 22 units.

The reverse rule.  The pullbacks of the steps run from the last to the first.  Each takes the cotangents of its `x` and of the log-det
to the cotangent of its own `z`; the network's parameters have the sum of what all steps give them.        (6)
`step.py` derives the Jacobian and the pullback of one step.

Source: Chen et al., arXiv:1806.07366, section 4, whose log-density `sum_i b_i h tr dv/dz` is not the log-det of the scheme; Hairer, Norsett
& Wanner, Solving Ordinary Differential Equations I.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, Conditioner, bijector, case, child, plain, real, refusal
from ...core.arrays import rounded
from ...core.rules import FINITE, count, one_of
from ..conditioners import Dense, Sequential, TanhActivation
from ..conditioners.examples import dense
from .log_density import refuse_no_velocity, refuse_other_ranks
from .schemes import SCHEMES
from .step import Step, log_abs_det_1_plus


@bijector(source="arXiv:1806.07366", domain=real, codomain=real, solver=True, normwise=True)
class DiscreteFlow(Bijector):
    """n equal steps of a Runge-Kutta scheme along dz/dt = net(z, t).

    `net`: a conditioner of vectors, from the D entries of z and then t to D entries; `scheme`: "euler", "midpoint", "heun", "rk4" (the
    classical one), "three-eighths" (which torchdiffeq calls rk4), "dopri5" or "tsit5"; `steps`: n; `start`, `end`: the times.
    The inverse is Newton's method; ArithmeticError if it finds no z, as where the steps are too long for the map to be one-to-one.
    """

    net: Conditioner = child()
    scheme: str = plain("rk4", one_of(*SCHEMES))
    steps: int = plain(8, count())
    start: float = plain(0.0, FINITE)
    end: float = plain(1.0, FINITE)
    event_ndim = (1, 1)
    event_shape = ("D",)

    smooth = property(lambda self: self.net.smooth)
    terms = property(lambda self: self.steps * SCHEMES[self.scheme].terms())

    def _validate(self):
        refuse_other_ranks("DiscreteFlow", self.net)
        super()._validate()

    def output_shape(self, shape):
        refuse_no_velocity(self.net, shape)
        return shape

    input_shape = output_shape

    @staticmethod
    def definition(m, z, net, scheme, steps, start, end):
        h = (m.mpf(end) - m.mpf(start)) / steps
        for n in range(steps):
            t = m.mpf(start) + n * h
            moved = SCHEMES[scheme].increment(m, lambda y, at: net.definition(m, [*y, at]), z, t, h)        # (1)
            z = [z_d + one for z_d, one in zip(z, moved)]                           # (2)
        return z

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        y = np.float64(z)
        for step in self.way():
            y = step.image(y)
        return y.astype(z.dtype)

    def forward_and_log_det(self, z):
        y, log_det = np.float64(z), np.zeros(z.shape[:-1])
        for step in self.way():
            y, E, _ = step.with_tangents(y)
            log_det = log_det + log_abs_det_1_plus(E)                               # (4)
        return rounded((y, log_det), z.dtype)

    def jacobian(self, z):
        y, J = np.float64(z), np.eye(z.shape[-1])
        for step in self.way():
            y, E, _ = step.with_tangents(y)
            J = J + E @ J                                                           # (3)
        return J.astype(z.dtype)

    def inverse(self, x):
        y = np.float64(x)
        for step in reversed(self.way()):
            y = step.root(y)
        return y.astype(x.dtype)

    def inverse_and_log_det(self, x):
        y, log_det = np.float64(x), np.zeros(x.shape[:-1])
        for step in reversed(self.way()):
            y = step.root(y)
            log_det = log_det - log_abs_det_1_plus(step.with_tangents(y)[1])            # (5)
        return rounded((y, log_det), x.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        y, log_det, pullbacks = np.float64(z), np.zeros(z.shape[:-1]), []
        for step in self.way():
            y, E, pullback = step.with_tangents(y)
            log_det = log_det + log_abs_det_1_plus(E)                               # (4)
            pullbacks.append(pullback)

        def pullback_of_all(x_bar, log_det_bar):
            x_bar, log_det_bar, bars = np.float64(x_bar), np.float64(log_det_bar), {}
            for pullback in reversed(pullbacks):
                x_bar, bars = pullback(x_bar, log_det_bar, bars)                    # (6)
            return rounded((x_bar, {"net": bars}), z.dtype)

        return rounded((y, log_det), z.dtype), pullback_of_all

    def inverse_vjp(self, x):
        values, of_values = vars(Bijector)["inverse_vjp"](self.unchecked(np.dtype(np.float64)), np.float64(x))

        def pullback(z_bar, log_det_bar):
            return rounded(of_values(np.float64(z_bar), np.float64(log_det_bar)), x.dtype)

        return rounded(values, x.dtype), pullback

    def way(self):
        """Its steps."""
        h, net = (self.end - self.start) / self.steps, self.net.unchecked(np.dtype(np.float64))
        return [Step(net, SCHEMES[self.scheme].floats(), self.start + n * h, h) for n in range(self.steps)]

    @classmethod
    def examples(cls, source):
        D, width = source.count(1, 2), source.count(1, 2)
        net = Sequential((dense(source, width, D + 1), TanhActivation(), dense(source, D, width)))
        return cls(net, source.choice(tuple(SCHEMES)), source.count(1, 2), 0.0, 0.125), (D,)

    hard_cases = (
        case("Rest", "a velocity of 0: the identity, in each number", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=Dense([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), steps=2),
        case("Slow", "E is so small that 1 + E forgets it", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=Dense([[2.0**-40, 0.0, 1.0], [2.0**-41, 2.0**-42, 0.0]]), steps=2),
        case("Back", "the end lies before the start", z=[[0.5]], x=[[0.5]], net=Dense([[1.0, -1.0]], [0.25]), scheme="dopri5",
             steps=2, start=1.0, end=0.5),
    )
    refused = (
        refusal("net must be of vectors", net=TanhActivation()),
        refusal("its net must give 1 entries from 1 entries and the time, not 2", [1.0], net=Dense([[1.0, 0.0], [0.0, 1.0]])),
    )
