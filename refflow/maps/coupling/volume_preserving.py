r"""Volume-preserving affine coupling (GIN: Sorrenson, Rother & Koethe, arXiv:2001.04872).

The map.  `passes` splits the event into `a` (passes through) and `b` (is transformed).  With `(s, t) = net(z_a)`, `sigma` for
a convention of `scale` and `n` the number of entries of `b`,
    c_j = log sigma(s_j),   r_j = c_j - (c_1 + ... + c_n) / n                       (1)
    x_a = z_a,   x_b = z_b exp(r) + t                                               (2)
    z_b = (x_b - t) exp(-r)                      with r, t at x_a = z_a             (3)
    J   = [ I                                    0            ]
          [ diag(z_b e^r) dr/dz_a + dt/dz_a      diag(exp(r)) ]                     (4)
    log|det J| = sum_j r_j = 0                                                      (5)

The reverse rule.  From (1) and (2), and from (1) and (3) for the inverse map,
    r_bar = x_b_bar z_b exp(r),   t_bar = x_b_bar,   z_b_bar = x_b_bar exp(r)       (6)
    r_bar = -z_b_bar (x_b - t) exp(-r),   t_bar = -x_b_bar,   x_b_bar = z_b_bar exp(-r)     (7)
    c_bar_j = r_bar_j - (r_bar_1 + ... + r_bar_n) / n,   s_bar_j = c_bar_j d(log sigma)/ds  (8)
    z_a_bar = x_a_bar + net*(s_bar, t_bar)                                          (9)
where `x_a_bar` and `z_a_bar` change places for the inverse map.  `net*` is the conditioner's pullback at `z_a`.  The mean (1) is
over the whole of `b`, positions included.  A term that a convention adds equally to every `c_j` cancels in (1): the cotangent of
its parameter is 0 up to rounding.

Sequences of different lengths stand in one batch with a mask of their valid positions.  At every other position
    x = 0,   z_bar = 0                                                              (10)
and (1) to (9) hold for the valid positions alone: `n` in (1) and (8) counts the entries of `b` there, and the sums are over
them.
"""

from __future__ import annotations

import numpy as np

from ..conditioners import BijectorLayer, Dense, Sequential, TanhActivation
from ..conditioners.examples import split
from ..conditioners.network import network
from ..linear import DenseLinear, Pointwise
from ...core import Array, Conditioner, bijector, case, child, constant, plain, real, refusal, sequence_mask
from ...core.arrays import masked
from ...core.rules import one_of
from ..elementwise import ExpScale, RescaledTanhExpScale
from ..elementwise.examples import convention, layout, order
from ..elementwise.scale import Scale, elementwise, scaled
from ..parametrisations.parametrisation import checked_order
from .coupling import LAYOUTS, MaskedBijector
from .examples import sequence
from .family import lifted, lowered


class textbook:
    """(1) to (10) as they are printed, for one event; net and scale give their own maps, Jacobians and pullbacks."""

    def a_of(passes):
        """Marks of the entries of a; of its channels, where passes splits by channels."""
        return passes.ravel() if passes.size == len(passes) else passes

    def s_and_t(h, order, layout):
        pieces = (h[:len(h) // 2], h[len(h) // 2:]) if layout == "halves" else (h[::2], h[1::2])
        return pieces[order.index("scale")], pieces[order.index("shift")]

    def outputs(s, t, order, layout):
        """h with these s and t."""
        h = np.concatenate((s, t))
        of_s, of_t = textbook.s_and_t(h, order, layout)
        of_s[:], of_t[:] = s, t
        return h

    def valid(event, mask):
        """The event, 0 at invalid positions."""
        return event if mask is None else event * mask                              # (10)

    def centred(c, mask):
        """c minus its mean over the valid entries, 0 at the others."""
        n = textbook.valid(np.ones(c.shape, int), mask).sum()
        return textbook.valid(c - textbook.valid(c, mask).sum() / max(1, n), mask)  # (1) (10)

    def forward(z, passes, net, scale, order, layout, mask):
        x, a = textbook.valid(z, mask).copy(), textbook.a_of(passes)
        s, t = textbook.s_and_t(net.forward(x[a]), order, layout)
        r = textbook.centred(scale.log(s), mask)                                    # (1)
        x[~a] = x[~a] * np.exp(r) + t                                               # (2)
        return textbook.valid(x, mask)

    def inverse(x, passes, net, scale, order, layout, mask):
        z, a = textbook.valid(x, mask).copy(), textbook.a_of(passes)
        s, t = textbook.s_and_t(net.forward(z[a]), order, layout)
        r = textbook.centred(scale.log(s), mask)                                    # (1)
        z[~a] = (z[~a] - t) * np.exp(-r)                                            # (3)
        return textbook.valid(z, mask)

    def jacobian(z, passes, net, scale, order, layout, mask):
        a, valid = textbook.a_of(passes), textbook.valid(np.ones(z.shape, z.dtype), mask)
        h, slopes = net.forward(z[a]), net.jacobian(z[a])
        s, _ = textbook.s_and_t(h, order, layout)
        ds, dt = textbook.s_and_t(slopes.reshape(*h.shape, z[a].size), order, layout)
        (_, c), scale_pullback = scale.vjp(s)
        slope, _ = scale_pullback(0 * s, 0 * s + 1)
        dr = [textbook.centred(slope * ds_i, mask) for ds_i in np.moveaxis(ds, -1, 0)]      # (1)
        stretch, J = np.exp(textbook.centred(c, mask)), np.eye(z.size, dtype=z.dtype)       # (1)
        place = np.arange(z.size).reshape(z.shape)
        of_a, of_b = place[a].ravel(), place[~a].ravel()
        for i, dr_i in zip(of_a, dr):
            J[of_b, i] = (z[~a] * stretch * dr_i).ravel()                           # (4)
        J[of_b[:, None], of_a] += dt.reshape(s.size, z[a].size)                     # (4)
        J[of_b, of_b] = stretch.ravel()                                             # (4)
        return J * np.outer(valid, valid)                                           # (10)

    def log_det(z, passes, net, scale, order, layout, mask):
        return 0                                                                    # (5)

    def inverse_log_det(x, passes, net, scale, order, layout, mask):
        return 0                                                                    # (5)

    def vjp(z, passes, net, scale, order, layout, mask, x_bar, l_bar):
        a, z_bar = textbook.a_of(passes), textbook.valid(x_bar, mask).copy()
        h, net_pullback = net.vjp(z[a])
        s, _ = textbook.s_and_t(h, order, layout)
        (_, c), scale_pullback = scale.vjp(s)
        r, t_bar = textbook.centred(c, mask), z_bar[~a]                             # (1) (6)
        r_bar = t_bar * z[~a] * np.exp(r)                                           # (6)
        c_bar = textbook.centred(r_bar, mask)                                       # (8)
        s_bar, scale_bar = scale_pullback(0 * s, c_bar)                             # (8)
        net_a_bar, net_bar = net_pullback(textbook.outputs(s_bar, t_bar, order, layout))
        z_bar[a], z_bar[~a] = z_bar[a] + net_a_bar, t_bar * np.exp(r)               # (6) (9)
        return textbook.valid(z_bar, mask), {"net": net_bar, "scale": scale_bar}

    def inverse_vjp(x, passes, net, scale, order, layout, mask, z_bar, l_bar):
        a, x_bar = textbook.a_of(passes), textbook.valid(z_bar, mask).copy()
        h, net_pullback = net.vjp(x[a])
        s, t = textbook.s_and_t(h, order, layout)
        (_, c), scale_pullback = scale.vjp(s)
        r = textbook.centred(c, mask)                                               # (1)
        x_b_bar = x_bar[~a] * np.exp(-r)                                            # (7)
        r_bar = -x_bar[~a] * (x[~a] - t) * np.exp(-r)                               # (7)
        c_bar = textbook.centred(r_bar, mask)                                       # (8)
        s_bar, scale_bar = scale_pullback(0 * s, c_bar)                             # (8)
        net_a_bar, net_bar = net_pullback(textbook.outputs(s_bar, -x_b_bar, order, layout))     # (7)
        x_bar[a], x_bar[~a] = x_bar[a] + net_a_bar, x_b_bar                         # (9)
        return textbook.valid(x_bar, mask), {"net": net_bar, "scale": scale_bar}


r"""In floating point.

In (2) to (4), (6) and (7), `exp(r)` may leave the floats where its product with a number `q` does not.  With `e` for the number
nearest to `r` whose exponential is far from both ends of the floats, and the powers of 2 of all factors apart (`scaled` in
`elementwise/scale.py`),
    q exp(r) = q exp(e) h h,   h = exp((r - e)/2)                                   (11)
"""


@bijector(source="arXiv:2001.04872", domain=real, codomain=real, constant_log_det=True, textbook=textbook)
class VolumePreservingCoupling(MaskedBijector):
    """An affine coupling whose log-scales have mean 0.

    `passes`, `net`, `mask`: as for `AffineCoupling`; `scale`: a convention; `order` says which of s ("scale") and t ("shift") comes
    first in net's outputs, `layout` whether they are two "halves" or "interleaved".
    """

    passes: Array = constant()
    net: Conditioner = child()
    scale: Scale = child()
    order: tuple = plain(("scale", "shift"))
    layout: str = plain("halves", one_of(*LAYOUTS))
    mask: Array = sequence_mask("T")

    def _validate(self):
        self._set("order", checked_order("VolumePreservingCoupling", self.order))
        elementwise("VolumePreservingCoupling", self.scale)
        super()._validate()

    # -- the map ------------------------------------------------------------------------------------------------------

    def r_and_t(self, h):
        """(sigma, r, t)."""
        pieces = self.pieces(h)
        s, t = pieces[self.order.index("scale")], pieces[self.order.index("shift")]
        sigma = lifted(self.scale, -self.split.axis).at_values(s)
        c = np.broadcast_to(sigma.log, s.shape)
        return sigma, self.centred(c), t                                            # (1)

    def centred(self, c):
        """c minus its mean over the valid entries of b, 0 at the others."""
        total, n = (masked(values, self.mask).sum(self.split.axes, keepdims=True) for values in (c, np.ones_like(c)))
        return masked(c - total / np.maximum(n, 1), self.mask)

    def valid(self, b):
        """1 for each entry of b at a valid position, else 0."""
        return masked(np.ones_like(b), self.mask)

    def nothing(self, z):
        return np.zeros(z.shape[:z.ndim - self.passes.ndim], z.dtype)               # (5)

    def forward_and_log_det(self, z):
        z_a, z_b = self.parts(z)
        _, r, t = self.r_and_t(self.net.forward(z_a))
        return self.merged(z_a, scaled(z_b, 1, r) + t, z.shape), self.nothing(z)    # (2) (5) (11)

    def inverse_and_log_det(self, x):
        x_a, x_b = self.parts(x)
        _, r, t = self.r_and_t(self.net.forward(x_a))
        return self.merged(x_a, scaled(x_b - t, 1, -r), x.shape), self.nothing(x)   # (3) (5) (11)

    def jacobian(self, z):
        z_a, z_b = self.parts(z)
        sigma, r, _ = self.r_and_t(self.net.forward(z_a))
        slopes = self.output_slopes(z, z_a)
        ds, dt = slopes[self.order.index("scale")], slopes[self.order.index("shift")]
        valid = self.valid(z_b)
        dc, n = self.flat(sigma.log_slope_times(valid))[..., None] * ds, valid.sum(self.split.axes)
        dr = dc - dc.sum(-2, keepdims=True) / np.maximum(n, 1)[..., None, None]
        lower = scaled(self.flat(z_b)[..., None], dr, self.flat(r)[..., None]) + dt     # (4) (11)
        return self.assembled(z, lower, self.flat(np.exp(r)))                       # (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def outputs_bar(self, sigma, r_bar, t_bar):
        """(cotangent of net's outputs, of the convention's own parameters)."""
        s_bar, scale_bar = sigma.log_cotangents(self.centred(r_bar))                # (8)
        pieces = (s_bar, t_bar) if self.order[0] == "scale" else (t_bar, s_bar)
        return self.joined(pieces), lowered(scale_bar, self.scale)

    def vjp(self, z):
        z_a, z_b = self.parts(z)
        h, net_pullback = self.net.vjp(z_a)
        sigma, r, t = self.r_and_t(h)

        def pullback(x_bar, log_det_bar):
            x_a_bar, x_b_bar = self.parts(masked(x_bar, self.mask))
            h_bar, scale_bar = self.outputs_bar(sigma, scaled(z_b, x_b_bar, r), x_b_bar)    # (6) (11)
            net_a_bar, net_bar = net_pullback(h_bar)
            z_bar = self.merged(x_a_bar + net_a_bar, scaled(x_b_bar, 1, r), z.shape)        # (6) (9) (11)
            return z_bar, {"net": net_bar, "scale": scale_bar}

        return (self.merged(z_a, scaled(z_b, 1, r) + t, z.shape), self.nothing(z)), pullback        # (2) (5) (11)

    def inverse_vjp(self, x):
        x_a, x_b = self.parts(x)
        h, net_pullback = self.net.vjp(x_a)
        sigma, r, t = self.r_and_t(h)
        y = x_b - t

        def pullback(z_bar, log_det_bar):
            z_a_bar, z_b_bar = self.parts(masked(z_bar, self.mask))
            x_b_bar = scaled(z_b_bar, 1, -r)                                        # (7) (11)
            h_bar, scale_bar = self.outputs_bar(sigma, -scaled(y, z_b_bar, -r), -x_b_bar)   # (7) (11)
            net_a_bar, net_bar = net_pullback(h_bar)
            x_bar = self.merged(z_a_bar + net_a_bar, x_b_bar, x.shape)
            return x_bar, {"net": net_bar, "scale": scale_bar}

        return (self.merged(x_a, scaled(y, 1, -r), x.shape), self.nothing(x)), pullback     # (3) (5) (11)

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        """b has several entries, and the convention no parameters: otherwise cotangents cancel to 0, which has no unit of error.

        They would also cancel if a network gave several entries with the same weights: of a sequence, one position is valid.
        """
        if source.choice((False, False, True)):
            passes, net, mask = sequence(source, 4, 2)
            f = cls(passes, net, convention(source, 0), **order(source), **layout(source))
            return f.at(mask=mask & (np.cumsum(mask) == 1)), (len(passes), len(mask))
        passes, a, b = split(source, 2)
        return cls(passes, network(source, a, 2 * b), convention(source, 0), **order(source), **layout(source)), passes.shape

    hard_cases = (
        case("PassesAll", "an empty b: the identity", z=[[1.0, -2.0]], passes=[True, True], net=Dense(np.zeros((0, 2)), []),
             scale=ExpScale()),
        case("Alone", "one entry in b: its scale is 1 whatever s is", z=[[1.0, 3.0]], x=[[1.0, 3.0]], passes=[True, False],
             net=Dense([[5.0], [0.5]], [0.0, 1.0]), scale=ExpScale()),
        case("Apart", "scales of e^690 and e^-690, log-scales of mean 0", z=[[1.0, 1e-300, 1e300]], x=[[1.0, 1e300, 1e-300]],
             passes=[True, False, False], net=Dense([[690.0], [-690.0], [0.0], [0.0]], [0.0] * 4), scale=ExpScale()),
        case("Vanishing", "a scale of e^-720 is subnormal, its product with a slope in the Jacobian is not", z=[[1.0, 5e-324, 1.0]],
             passes=[True, False, False], net=Dense([[720.0], [-720.0], [0.0], [0.0]], [0.0] * 4), scale=ExpScale()),
        case("Padding", "what the net gives at the invalid position is not part of the mean", scale=ExpScale(),
             z=[[[1.0, 2.0, -1.0], [-2.0, 1.0, 3.0], [0.5, 3.0, 2.0]]], x=[[[1.0, 2.0, 5.0], [-2.0, 1.0, 3.0], [0.5, 3.0, 2.0]]],
             passes=[[True], [True], [False]], mask=[True, True, False],
             net=Sequential((BijectorLayer(Pointwise(DenseLinear([[0.5, 0.25], [-1.0, 2.0]], [0.5, -1.0]), 2)), TanhActivation()))),
    )
    refused = (
        refusal("order must be", passes=[True, False], net=Dense([[0.0]] * 2, [0.0] * 2), scale=ExpScale(), order=("shift",)),
        refusal("scale must be elementwise", passes=[True, False], net=Dense([[0.0]] * 2, [0.0] * 2),
                scale=RescaledTanhExpScale(None, None, [1.0])),
        refusal("passes must have at least one axis", passes=True, net=Dense([[0.0]] * 2, [0.0] * 2), scale=ExpScale()),
        refusal("mask is for sequences", passes=[True, False], net=Dense([[0.0]] * 2, [0.0] * 2), scale=ExpScale(), mask=[True]),
        refusal("passes and net do not fit", passes=[True, True], net=Dense([[0.0]] * 2, [0.0] * 2), scale=ExpScale()),
    )
