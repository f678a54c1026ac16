r"""A flow in time of pairs of points, by a reversible scheme: its steps are undone by a formula, `R^(2D) -> R^(2D)`.

The map.  An event is a pair of points `y` and `w`, one half each.  A network gives the velocity `v(z, t)` at a place and a time.  From the
time `start` to the time `end` go `n` steps of the length `h = (end - start)/n`.  With a dash for what a step from time `t` arrives at, the
reversible Heun scheme has two estimates of one point,
    w' = 2 y - w + h v(w, t)                                                        (1)
    y' = y + h/2 (v(w, t) + v(w', t + h))                                           (2)
The asynchronous leapfrog has a point `y` and its velocity `w`, and a coupling `c`, which is -1 in the undamped scheme and `1 - 2 eta` for
the source's damping `eta`,
    w' = c w + (1 - c) v(y + h/2 w, t + h/2)                                        (3)
    y' = y + h/2 (w + w')                                                           (4)
McCallum and Foster couple two estimates by any Runge-Kutta scheme, whose step of the length `h` from `z` at time `t` adds `P(z, t, h)`;
`c`, their lambda, is near 1,
    y' = c y + (1 - c) w + P(w, t, h)                                               (5)
    w' = w - P(y', t + h, -h)                                                       (6)
The middle of a step, `m = y + h/2 v(w, t)` in the first scheme and `m = y + h/2 w` in the second, shows what the three have in common:
    w' = -w + 2 m,   y' = m + h/2 v(w', t + h)                                      (7)
    w' = c w + (1 - c) v(m, t + h/2),   y' = m + h/2 w'                             (8)
In (5) to (8), one half moves at a time, by what the other one says.  These are shears, which `shear.py` undoes, from the last to the
first.  The half that moves is multiplied by 1, but once in a step by `c`, or by -1 in (7), where `c` is -1.  For every velocity,
    log|det dx/dz| = n D log|c|                                                     (9)
    log|det dz/dx| = -n D log|c|                                                    (10)

A flow hands over `y` alone, and there no scheme is reversible.  A way that begins with `w = y`, or in the leapfrog with `w = v(y, t)`, ends
with a `w` that is only near it.  A way back that begins, at the end, with just such a `w` misses the start, by a multiple of `h^4` in
reversible Heun and the undamped leapfrog, and of `|c|^(-n) h^q` in a coupled scheme of order `p`, where `q` is the odd one of `p` and
`p + 1`.  (9) is the log-det of the map of pairs; of the map from `y` to `y'` it says nothing.

The reverse rule.  `shear.py` derives the pullback of a shear, which needs the pair behind it.  The way back finds the pairs again, from the
last to the first, so that no pair is stored.  It ends near the pair at the start: each rounding on the way grows by up to `1/|c|` a
step.  If it misses that pair by more
    than n 2^-51 of the largest entry at either end                                 (11)
a second way from the start stores its pairs, and the pullback takes those.  The inverse map is a sequence of shears, too.

Source: Kidger et al., arXiv:2105.13493; Zhuang et al., arXiv:2102.04668; McCallum & Foster, arXiv:2410.11648.
"""

from __future__ import annotations

import itertools

import numpy as np

from ...core import Bijector, Conditioner, bijector, case, child, plain, real, refusal
from ...core.arrays import rounded
from ...core.rules import FINITE, count, number, one_of
from ..conditioners import Dense, Sequential, TanhActivation
from ..conditioners.examples import dense
from .log_density import refuse_no_velocity, refuse_other_ranks
from .schemes import SCHEMES
from .shear import Shear, back, led
from .step import Step

ROUNDING = 2.0**-51


@bijector(source="arXiv:2105.13493", domain=real, codomain=real, constant_log_det=True, normwise=True)
class ReversibleFlow(Bijector):
    """n equal steps of a reversible scheme along dz/dt = net(z, t), on pairs: events (2 D,), whose halves are y and w.

    `net`: a conditioner of vectors, from the D entries of a point and then t to D entries; `scheme`: "reversible-heun", "leapfrog" or, for
    McCallum and Foster's, the name of a Runge-Kutta scheme, as for `DiscreteFlow`; `steps`: n; `start`, `end`: the times; `coupling`: c, -1
    for "reversible-heun", in [-1, 1) and not 0 for "leapfrog", in (0, 1) for a Runge-Kutta scheme.
    """

    net: Conditioner = child()
    scheme: str = plain("reversible-heun", one_of("reversible-heun", "leapfrog", *SCHEMES))
    steps: int = plain(8, count())
    start: float = plain(0.0, FINITE)
    end: float = plain(1.0, FINITE)
    coupling: float = plain(-1.0, number(-1, 1, low_included=True))
    event_ndim = (1, 1)
    event_shape = ("D",)

    smooth = property(lambda self: self.net.smooth)
    terms = property(lambda self: self.steps * SCHEMES.get(self.scheme, SCHEMES["euler"]).terms())

    def _validate(self):
        refuse_other_ranks("ReversibleFlow", self.net)
        fits, rule = {"reversible-heun": (self.coupling == -1, "-1"), "leapfrog": (self.coupling != 0, "in [-1, 1) and not 0")}.get(
            self.scheme, (self.coupling > 0, "in (0, 1)"))
        if not fits:
            raise ValueError(f"ReversibleFlow: coupling must be {rule} for the scheme {self.scheme!r}, not {self.coupling!r}")
        super()._validate()

    def output_shape(self, shape):
        if shape[0] % 2:
            raise ValueError(f"its events are pairs of points, an even number of entries, not {shape[0]}")
        refuse_no_velocity(self.net, (shape[0] // 2,))
        return shape

    input_shape = output_shape

    @staticmethod
    def definition(m, z, net, scheme, steps, start, end, coupling):
        def v(y, t):
            return net.definition(m, [*y, t])

        y, w = z[:len(z) // 2], z[len(z) // 2:]
        h, c = (m.mpf(end) - m.mpf(start)) / steps, m.mpf(coupling)
        for n in range(steps):
            t = m.mpf(start) + n * h
            if scheme == "reversible-heun":
                k = v(w, t)
                w = [2 * y_d - w_d + h * k_d for y_d, w_d, k_d in zip(y, w, k)]     # (1)
                y = [y_d + h / 2 * (k_d + l_d) for y_d, k_d, l_d in zip(y, k, v(w, t + h))]         # (2)
            elif scheme == "leapfrog":
                k, before = v([y_d + h / 2 * w_d for y_d, w_d in zip(y, w)], t + h / 2), w          # (3)
                w = [c * w_d + (1 - c) * k_d for w_d, k_d in zip(w, k)]             # (3)
                y = [y_d + h / 2 * (w_d + l_d) for y_d, w_d, l_d in zip(y, before, w)]              # (4)
            else:
                P = SCHEMES[scheme].increment(m, v, w, t, h)
                y = [c * y_d + (1 - c) * w_d + P_d for y_d, w_d, P_d in zip(y, w, P)]               # (5)
                w = [w_d - P_d for w_d, P_d in zip(w, SCHEMES[scheme].increment(m, v, y, t + h, -h))]           # (6)
        return [*y, *w]

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return joined(led(self.way(), halves(z)), z.dtype)

    def log_det(self, z):
        return np.full(z.shape[:-1], self.steps * (z.shape[-1] // 2) * np.log(abs(self.coupling)), z.dtype)         # (9) (10)

    def jacobian(self, z):
        pair, J = halves(z), tuple(np.split(np.eye(z.shape[-1]), 2))
        for shear in self.way():
            pair, J = shear.image(pair), shear.jacobian(pair, J)
        return np.concatenate([np.broadcast_to(J_i, (*z.shape[:-1], *J_i.shape[-2:])) for J_i in J], -2).astype(z.dtype)

    def inverse(self, x):
        return joined(led(back(self.way()), halves(x)), x.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        x, pullback = self.along(self.way(), z)
        return (x, self.log_det(z)), pullback

    def inverse_vjp(self, x):
        z, pullback = self.along(back(self.way()), x)
        return (z, -self.log_det(x)), pullback

    def along(self, way, event):
        """The event at the end of a way, and the pullback."""
        start = halves(event)
        end = led(way, start)

        def pullback(bar, log_det_bar):
            pair, bars, params_bar = end, halves(bar), {}
            for shear in reversed(way):
                pair, bars, params_bar = shear.taken_back(pair, bars, params_bar)
            if self.misses(pair, start, end):
                pairs = list(itertools.accumulate(way, lambda pair, shear: shear.image(pair), initial=start))       # (11)
                bars, params_bar = halves(bar), {}
                for shear, pair in zip(reversed(way), reversed(pairs)):
                    _, bars, params_bar = shear.taken_back(pair, bars, params_bar)
            return joined(bars, event.dtype), rounded({"net": params_bar}, event.dtype)

        return joined(end, event.dtype), pullback

    def misses(self, found, start, end):
        """Is the pair that the way back has found farther from the start than (11) allows, in any event?"""
        found, start, end = (np.concatenate(pair, -1) for pair in (found, start, end))
        far, size = np.abs(found - start).max(-1, initial=0), np.maximum(np.abs(start), np.abs(end)).max(-1, initial=0)
        return not (far <= self.steps * ROUNDING * size).all()                      # (11)

    # -- the schemes --------------------------------------------------------------------------------------------------

    def way(self):
        """Its shears, in the order in which an event meets them."""
        net, h, c = self.net.unchecked(np.dtype(np.float64)), (self.end - self.start) / self.steps, self.coupling
        there = SCHEMES.get(self.scheme, SCHEMES["euler"]).floats()
        here, way = (there[0], -there[1], there[2]), []
        for t in self.start + h * np.arange(self.steps):
            if self.scheme == "reversible-heun":
                way += [Shear(0, 1, 0, Step(net, there, t, h / 2)), Shear(1, -1, 2), Shear(0, 1, 0, Step(net, there, t + h, h / 2))]    # (7)
            elif self.scheme == "leapfrog":
                way += [Shear(0, 1, h / 2), Shear(1, c, 0, Step(net, there, t + h / 2, 1 - c)), Shear(0, 1, h / 2)]         # (8)
            else:
                way += [Shear(0, c, 1 - c, Step(net, there, t, h)), Shear(1, 1, 0, Step(net, here, t + h, -h))]             # (5) (6)
        return way

    @classmethod
    def examples(cls, source):
        D, width = source.count(1, 2), source.count(1, 2)
        net = Sequential((dense(source, width, D + 1), TanhActivation(), dense(source, D, width)))
        scheme = source.choice(("reversible-heun", "leapfrog", *SCHEMES))
        coupling = {"reversible-heun": (-1.0,), "leapfrog": (-1.0, -0.5, 0.75)}.get(scheme, (0.5, 0.75, 0.99))
        return cls(net, scheme, source.count(1, 3), 0.0, 0.5, source.choice(coupling)), (2 * D,)

    hard_cases = (
        case("Rest", "a velocity of 0: the halves are mixed, or w changes its sign", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=Dense([[0.0, 0.0]]), steps=2),
        case("Equal", "two estimates that are the same", z=[[0.5, 0.5]], x=[[0.5, 0.5]], net=Dense([[1.0, -1.0]], [0.25]), scheme="rk4",
             steps=3, coupling=0.875),
        case("Lost", "the way back multiplies roundings by 2^12: its pairs are kept", z=[[0.75, 0.5]],
             net=Sequential((Dense([[1.0, -1.0]], [0.25]), TanhActivation())), scheme="euler", steps=12, coupling=0.5),
        case("Back", "the end lies before the start", z=[[0.5, 0.25]], x=[[0.5, 0.25]], net=Dense([[1.0, -1.0]], [0.25]),
             scheme="leapfrog", steps=2, start=1.0, end=0.5, coupling=-0.5),
    )
    refused = (
        refusal("net must be of vectors", net=TanhActivation()),
        refusal("its net must give 1 entries from 1 entries and the time, not 2", [1.0, 1.0], net=Dense([[1.0, 0.0], [0.0, 1.0]])),
        refusal("an even number of entries, not 3", [1.0, 1.0, 1.0], net=Dense([[1.0, 0.0]])),
        refusal("coupling must be -1 for the scheme 'reversible-heun', not 0.5", net=Dense([[1.0, 0.0]]), coupling=0.5),
        refusal("coupling must be in [-1, 1) and not 0 for the scheme 'leapfrog'", net=Dense([[1.0, 0.0]]), scheme="leapfrog",
                coupling=0.0),
        refusal("coupling must be in (0, 1) for the scheme 'rk4', not 0.0", net=Dense([[1.0, 0.0]]), scheme="rk4", coupling=0.0),
    )


def halves(event):
    """(y, w) in float64."""
    return tuple(np.split(np.float64(event), 2, -1))


def joined(pair, dtype):
    """The event of a pair."""
    return np.concatenate(pair, -1).astype(dtype)
