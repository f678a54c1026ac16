r"""Affine coupling (RealNVP: Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803, section 3).

The map.  `passes` splits the event into `a` (passes through) and `b` (is transformed).  With `(s, t) = net(z_a)`,
    x_a = z_a                                                                       (1)
    x_b = z_b exp(s) + t                                                            (2)
    z_b = (x_b - t) exp(-s)                      with s, t at x_a = z_a             (3)
    J   = [ I                                 0         ]
          [ diag(z_b e^s) ds/dz_a + dt/dz_a   diag(e^s) ]                           (4)
    log|det J| = sum_j s_j                                                          (5)

Other scales, other orders of `s` and `t`, and a shift before the scale are families of `Coupling`.

The reverse rule.  From (2) and (5), with the cotangent `l_bar` of (5),
    s_bar   = x_b_bar z_b exp(s) + l_bar,   t_bar = x_b_bar                         (6)
    z_b_bar = x_b_bar exp(s),   z_a_bar = x_a_bar + net*(s_bar, t_bar)              (7)
and for the inverse map, whose log-det is `-sum_j s_j` and has the cotangent `l_bar`, from (3),
    x_b_bar = z_b_bar exp(-s)                                                       (8)
    s_bar   = -z_b_bar (x_b - t) exp(-s) - l_bar,   t_bar = -x_b_bar                (9)
    x_a_bar = z_a_bar + net*(s_bar, t_bar)                                          (10)
`net*` is the conditioner's pullback at `z_a`; all parameters are the conditioner's.

Sequences of different lengths stand in one batch with a mask of their valid positions.  At every other position
    x = 0,   z_bar = 0                                                              (11)
and (1) to (10) hold for the valid positions alone: the sum (5) is over these, and `l_bar` in (6) and (9) is 0 elsewhere.
"""

from __future__ import annotations

import numpy as np

from ..conditioners import BijectorLayer, Dense
from ..conditioners.examples import split
from ..conditioners.network import network
from ..elementwise import ExpScale
from ..elementwise.scale import scaled
from ..linear import DenseLinear, Pointwise
from ...core import Array, Conditioner, bijector, case, child, constant, real, sequence_mask
from ...core.arrays import masked
from .coupling import AffineForm, MaskedBijector
from .examples import sequence


class textbook:
    """(1) to (11) as they are printed, for one event; net gives its own map, Jacobian and pullback."""

    def a_of(passes):
        """Marks of the entries of a; of its channels, where passes splits by channels."""
        return passes.ravel() if passes.size == len(passes) else passes

    def s_and_t(h):
        return h[:len(h) // 2], h[len(h) // 2:]

    def valid(event, mask):
        """The event, 0 at invalid positions."""
        return event if mask is None else event * mask                              # (11)

    def forward(z, passes, net, mask):
        x, a = textbook.valid(z, mask).copy(), textbook.a_of(passes)                # (1)
        s, t = textbook.s_and_t(net.forward(x[a]))
        x[~a] = x[~a] * np.exp(s) + t                                               # (2)
        return textbook.valid(x, mask)

    def inverse(x, passes, net, mask):
        z, a = textbook.valid(x, mask).copy(), textbook.a_of(passes)                # (1)
        s, t = textbook.s_and_t(net.forward(z[a]))
        z[~a] = (z[~a] - t) * np.exp(-s)                                            # (3)
        return textbook.valid(z, mask)

    def jacobian(z, passes, net, mask):
        a, valid = textbook.a_of(passes), textbook.valid(0 * z + 1, mask).ravel()
        s, _ = textbook.s_and_t(net.forward(z[a]))
        ds, dt = textbook.s_and_t(net.jacobian(z[a]))
        place, J = np.arange(z.size).reshape(z.shape), np.eye(z.size, dtype=z.dtype)
        of_a, of_b = place[a].ravel(), place[~a].ravel()
        J[of_b[:, None], of_a] = ((z[~a] * np.exp(s)).ravel() * ds.T).T + dt        # (4)
        J[of_b, of_b] = np.exp(s).ravel()                                           # (4)
        return J * np.outer(valid, valid)                                           # (11)

    def log_det(z, passes, net, mask):
        s, _ = textbook.s_and_t(net.forward(z[textbook.a_of(passes)]))
        return textbook.valid(s, mask).sum()                                        # (5)

    def inverse_log_det(x, passes, net, mask):
        return -textbook.log_det(x, passes, net, mask)                              # (5)

    def vjp(z, passes, net, mask, x_bar, l_bar):
        a, z_bar = textbook.a_of(passes), textbook.valid(x_bar, mask).copy()
        h, net_pullback = net.vjp(z[a])
        s, t_bar = textbook.s_and_t(h)[0], z_bar[~a]                                # (6)
        s_bar = t_bar * z[~a] * np.exp(s) + textbook.valid(0 * s + l_bar, mask)     # (6)
        net_a_bar, net_bar = net_pullback(np.concatenate((s_bar, t_bar)))
        z_bar[a], z_bar[~a] = z_bar[a] + net_a_bar, t_bar * np.exp(s)               # (7)
        return textbook.valid(z_bar, mask), {"net": net_bar}

    def inverse_vjp(x, passes, net, mask, z_bar, l_bar):
        a, x_bar = textbook.a_of(passes), textbook.valid(z_bar, mask).copy()
        h, net_pullback = net.vjp(x[a])
        s, t = textbook.s_and_t(h)
        x_b_bar = x_bar[~a] * np.exp(-s)                                            # (8)
        s_bar = -x_bar[~a] * (x[~a] - t) * np.exp(-s) - textbook.valid(0 * s + l_bar, mask)     # (9)
        net_a_bar, net_bar = net_pullback(np.concatenate((s_bar, -x_b_bar)))        # (9)
        x_bar[a], x_bar[~a] = x_bar[a] + net_a_bar, x_b_bar                         # (10)
        return textbook.valid(x_bar, mask), {"net": net_bar}


r"""In floating point.

In (2) to (4) and (6) to (9), `exp(s)` may leave the floats where its product with a number `q` does not.  With `e` for the number
nearest to `s` whose exponential is far from both ends of the floats, and the powers of 2 of all factors apart (`scaled` in
`elementwise/scale.py`),
    q exp(s) = q exp(e) h h,   h = exp((s - e)/2)                                   (12)
"""


@bijector(source="arXiv:1605.08803", domain=real, codomain=real, textbook=textbook)
class AffineCoupling(MaskedBijector):
    """x_a = z_a, x_b = z_b exp(s) + t with (s, t) = net(z_a).

    `passes`: a boolean array, True where the event passes through, see `masks`; `net`: from the event's part a to
    two outputs for each entry of b, all s before all t; `mask`: the valid positions, (*batch, T), of sequences that `passes`
    (C, 1) splits by channels.  ValueError if they and the event do not fit.
    """

    passes: Array = constant()
    net: Conditioner = child()
    mask: Array = sequence_mask("T")
    layout = "halves"

    affine_form = AffineForm(ExpScale(), 0, 1, "halves")

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward_and_log_det(self, z):
        z_a, z_b = self.parts(z)
        s, t = self.pieces(self.net.forward(z_a))
        return self.merged(z_a, scaled(z_b, 1, s) + t, z.shape), self.total(s)      # (1) (2) (5) (12)

    def inverse_and_log_det(self, x):
        x_a, x_b = self.parts(x)
        s, t = self.pieces(self.net.forward(x_a))
        return self.merged(x_a, scaled(x_b - t, 1, -s), x.shape), -self.total(s)    # (3) (5) (12)

    def jacobian(self, z):
        z_a, z_b = self.parts(z)
        s, _ = self.pieces(self.net.forward(z_a))
        ds, dt = self.output_slopes(z, z_a)
        lower = scaled(self.flat(z_b)[..., None], ds, self.flat(s)[..., None]) + dt     # (4) (12)
        return self.assembled(z, lower, self.flat(np.exp(s)))                       # (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        z_a, z_b = self.parts(z)
        h, net_pullback = self.net.vjp(z_a)
        s, t = self.pieces(h)

        def pullback(x_bar, log_det_bar):
            x_a_bar, x_b_bar = self.parts(masked(x_bar, self.mask))
            s_bar = scaled(z_b, x_b_bar, s) + self.each(log_det_bar)                # (6) (12)
            net_a_bar, net_bar = net_pullback(self.joined((s_bar, x_b_bar)))        # (6)
            return self.merged(x_a_bar + net_a_bar, scaled(x_b_bar, 1, s), z.shape), {"net": net_bar}   # (7) (12)

        return (self.merged(z_a, scaled(z_b, 1, s) + t, z.shape), self.total(s)), pullback  # (1) (2) (5) (12)

    def inverse_vjp(self, x):
        x_a, x_b = self.parts(x)
        h, net_pullback = self.net.vjp(x_a)
        s, t = self.pieces(h)

        def pullback(z_bar, log_det_bar):
            z_a_bar, z_b_bar = self.parts(masked(z_bar, self.mask))
            x_b_bar = scaled(z_b_bar, 1, -s)                                        # (8) (12)
            s_bar = -scaled(x_b - t, z_b_bar, -s) - self.each(log_det_bar)          # (9) (12)
            net_a_bar, net_bar = net_pullback(self.joined((s_bar, -x_b_bar)))       # (9)
            return self.merged(z_a_bar + net_a_bar, x_b_bar, x.shape), {"net": net_bar}     # (10)

        return (self.merged(x_a, scaled(x_b - t, 1, -s), x.shape), -self.total(s)), pullback    # (3) (5) (12)

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        """Entries of a vector, or channels of a sequence with a mask."""
        if source.choice((False, False, True)):
            passes, net, mask = sequence(source, 2)
            return cls(passes, net).at(mask=mask), (len(passes), len(mask))
        passes, a, b = split(source)
        return cls(passes, network(source, a, 2 * b)), passes.shape

    hard_cases = (
        case("PassesAll", "an empty b: the identity, log-det 0", z=[[1.0, -2.0]], passes=[True, True],
             net=Dense(np.zeros((0, 2)), [])),
        case("PassesNone", "an empty a: a map that depends on nothing", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             passes=[False, False], net=Dense(np.zeros((4, 0)), [0.5, -2.0, 1.0, 3.0])),
        case("Contracted", "exp(s) is small beside t: x_b no longer remembers z_b", z=[[1.0, 3.0]], x=[[1.0, 3.0]],
             passes=[True, False], net=Dense([[-50.0], [0.5]], [0.0, 1.0])),
        case("Beyond", "exp(s) overflows, its product with z_b does not", z=[[1.0, 5e-324], [1.0, 0.0]], x=[[1.0, 2.0**1000]],
             passes=[True, False], net=Dense([[720.0], [0.0]], [0.0, 0.0])),
        case("Vanishing", "exp(s) is subnormal, its product with the slope of s in the Jacobian is not", z=[[1.0, 1.0]],
             passes=[True, False], net=Dense([[-720.0], [0.0]], [0.0, 0.0])),
        case("VanishingSingle", "the same in float32", z=[[1.0, 1.0]], passes=[True, False], net=Dense([[-95.0], [0.0]], [0.0, 0.0])),
        case("Padding", "what the net gives at the invalid position does not count", z=[[[1.0, 2.0], [-2.0, 1.0], [0.5, 3.0]]],
             x=[[[1.0, 2.0], [-2.0, 1.0], [0.5, 3.0]]], passes=[[True], [True], [False]], mask=[True, False],
             net=BijectorLayer(Pointwise(DenseLinear([[0.5, 0.25], [-1.0, 2.0]], [0.5, -1.0]), 2))),
        case("Small", "log-det is s: the logarithm of a rounded scale returns 0", z=[[1.0, 2.0]], x=[[1.0, 2.0]],
             passes=[True, False], net=Dense([[1e-20], [0.5]], [0.0, 0.0])),
    )
