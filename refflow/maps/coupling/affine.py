r"""Affine coupling (RealNVP: Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803, section 3).

The mask splits the event into a (passes through) and b (is transformed).  With (s, t) = net(z_a) and sigma = sigma(s) > 0 a
convention of `scales`, exp(s) in the paper,
    x_a = z_a                                                                       (1)
    x_b = z_b sigma(s) + t                                                          (2)
    z_b = (x_b - t) / sigma(s)                   with s, t at x_a = z_a             (3)
    J   = [ I                                      0           ]
          [ diag(z_b sigma'(s)) ds/dz_a + dt/dz_a  diag(sigma) ]                    (4)
    log|det J| = sum_j log sigma(s_j)                                               (5)

Reverse rule, from (2) and (5), l = log_det:
    s_bar   = that of <x_b_bar, z_b sigma> + l_bar sum_j log sigma_j,   t_bar = x_b_bar             (6)
            = x_b_bar z_b exp(s) + l_bar                                for sigma = exp
    z_b_bar = x_b_bar sigma,   z_a_bar = x_a_bar + net*(s_bar, t_bar)               (7)
and for the inverse map, whose log-det is -sum_j log sigma_j, from (3):
    x_b_bar = z_b_bar / sigma                                                       (8)
    s_bar   = that of <z_b_bar, (x_b - t) / sigma> - l_bar sum_j log sigma_j,   t_bar = -x_b_bar    (9)
            = -z_b_bar z_b - l_bar                                      for sigma = exp
    x_a_bar = z_a_bar + net*(s_bar, t_bar)                                          (10)
net* is the conditioner's pullback at z_a.  A convention with parameters of its own gets their cotangents with (6) and (9).

RealNVP's and Glow's code shift first and scale then (`shift_first`); log|det J| is the same:
    x_b = (z_b + t) sigma,   z_b = x_b / sigma - t                                  (11)
    dx_b/dz_a = diag((z_b + t) sigma'(s)) ds/dz_a + diag(sigma) dt/dz_a             (12)
    s_bar = that of <x_b_bar, (z_b + t) sigma> + l_bar sum_j log sigma_j,   t_bar = x_b_bar sigma   (13)
    s_bar = that of <z_b_bar, x_b / sigma> - l_bar sum_j log sigma_j,       t_bar = -z_b_bar        (14)
(13) of the map, (14) of its inverse; (7), (8) and (10) as above.

A convention with gains of channels has in entry j of b that of the channel c_j in which the entry lies:
    gain_j = gains_c for c = c_j,   gains_c_bar = sum_(j: c_j = c) gain_j_bar       (15)
"""

from __future__ import annotations

import numpy as np

from ...core.tree import copied
from ..conditioners import Dense
from ..conditioners.examples import split
from ..conditioners.network import network
from ...core import Array, Conditioner, bijector, case, child, constant, plain, real
from ..elementwise import ExpScale, Scale
from ..elementwise.examples import convention, layout, order
from ..parametrisations.parametrisation import checked_order
from .coupling import MaskedBijector, divided, scale_and_shift, scales, transformed
from .family import lifted, lowered


@bijector(source="arXiv:1605.08803", domain=real, codomain=real)
class AffineCoupling(MaskedBijector):
    """x_a = z_a, x_b = z_b scale(s) + t, or with `shift_first` x_b = (z_b + t) scale(s), with (s, t) = net(z_a).

    `mask`: a boolean array, True where the event passes through, as `masks` makes them; `net`: from the event's part a to
    two outputs for each entry of b; `scale`: a convention, whose gains of channels, if it has them, are those of the
    channels in which b has entries, in order.  `order` says which of s ("scale") and t ("shift") comes first in net's
    outputs, `layout` whether they are two "halves" or "interleaved".  ValueError where mask, net, scale and event do not
    fit.
    """

    mask: Array = constant()
    net: Conditioner = child()
    scale: Scale = child()
    order: tuple = plain(("scale", "shift"))
    layout: str = plain("halves")
    shift_first: bool = plain(False)

    def _validate(self):
        self._set("order", checked_order("AffineCoupling", self.order))
        super()._validate()
        self._set("channels", None if self.scale.gains is None else self.channels_of_gains())

    def channels_of_gains(self):
        """Which of the scale's gains each entry of b has."""
        (channels, count), given = self.split.channels(), self.scale.gains.shape[-1]
        if given != count:
            raise ValueError(f"AffineCoupling: scale must have a gain for each of the {count} channels of b, not {given}")
        return channels

    @staticmethod
    def definition(m, z, mask, net, scale, order, layout, shift_first):
        def entry(z_j, sigma_j, t_j):
            return (z_j + t_j) * sigma_j if shift_first else z_j * sigma_j + t_j    # (2) (11)

        a, b, whole = divided(z, mask)                                              # (1)
        s, t = scale_and_shift(net.definition(m, a), len(b), order, layout)
        return whole(transformed(entry, b, scales(m, scale, s, mask), t))           # (2)

    def s_and_t(self, h):
        pieces = self.pieces(h)
        return pieces[self.order.index("scale")], pieces[self.order.index("shift")]

    def outputs_bar(self, s_bar, t_bar):
        return self.joined((s_bar, t_bar) if self.order[0] == "scale" else (t_bar, s_bar))

    def sigma(self, s):
        scale = lifted(self.scale, -self.split.axis)
        if self.channels is not None:
            scale = copied(scale, gains=self.scale.gains[..., self.channels])       # (15)
        return scale.at_values(s)

    def scale_bar(self, bars):
        if self.channels is not None:
            gains_bar = np.zeros_like(self.scale.gains)
            np.add.at(gains_bar, (..., self.channels), bars["gains"])               # (15)
            bars = bars | {"gains": gains_bar}
        return lowered(bars, self.scale.params())

    def scaled_and_shifted(self, sigma, z_b, t):
        return sigma.times(z_b + t) if self.shift_first else sigma.times(z_b) + t   # (2) (11)

    def unscaled(self, sigma, x_b, t):
        return sigma.over(x_b) - t if self.shift_first else sigma.over(x_b - t)     # (3) (11)

    def forward_and_log_det(self, z):
        z_a, z_b = self.parts(z)
        s, t = self.s_and_t(self.net.forward(z_a))
        sigma = self.sigma(s)
        x_b = self.scaled_and_shifted(sigma, z_b, t)                                # (2)
        return self.split.whole(z_a, x_b, z.shape), self.total(sigma.log)           # (1) (5)

    def inverse_and_log_det(self, x):
        x_a, x_b = self.parts(x)
        s, t = self.s_and_t(self.net.forward(x_a))
        sigma = self.sigma(s)
        return self.split.whole(x_a, self.unscaled(sigma, x_b, t), x.shape), -self.total(sigma.log)     # (3) (5)

    def jacobian(self, z):
        z_a, z_b = self.parts(z)
        s, t = self.s_and_t(self.net.forward(z_a))
        slopes = self.output_slopes(z, z_a)
        ds, dt = slopes[self.order.index("scale")], slopes[self.order.index("shift")]
        sigma = self.sigma(s)
        slope = self.flat(sigma.times(z_b * 0 + 1))
        if self.shift_first:
            lower = self.flat(sigma.slope_times(z_b + t))[..., None] * ds + slope[..., None] * dt   # (12)
        else:
            lower = self.flat(sigma.slope_times(z_b))[..., None] * ds + dt          # (4)
        return self.assembled(z, lower, slope)                                      # (4)

    def vjp(self, z):
        z_a, z_b = self.parts(z)
        h, net_pullback = self.net.vjp(z_a)
        s, t = self.s_and_t(h)
        sigma = self.sigma(s)
        scaled = z_b + t if self.shift_first else z_b

        def pullback(x_bar, log_det_bar):
            x_a_bar, x_b_bar = self.parts(x_bar)
            z_b_bar = sigma.times(x_b_bar)                                          # (7)
            s_bar, scale_bar = sigma.cotangents(scaled, x_b_bar, self.each(log_det_bar))            # (6) (13)
            t_bar = z_b_bar if self.shift_first else x_b_bar                        # (6) (13)
            net_a_bar, net_bar = net_pullback(self.outputs_bar(s_bar, t_bar))
            z_bar = self.split.whole(x_a_bar + net_a_bar, z_b_bar, z.shape)         # (7)
            return z_bar, {"net": net_bar, "scale": self.scale_bar(scale_bar)}

        x_b = self.scaled_and_shifted(sigma, z_b, t)                                # (2)
        return (self.split.whole(z_a, x_b, z.shape), self.total(sigma.log)), pullback       # (5)

    def inverse_vjp(self, x):
        x_a, x_b = self.parts(x)
        h, net_pullback = self.net.vjp(x_a)
        s, t = self.s_and_t(h)
        sigma = self.sigma(s)
        scaled = x_b if self.shift_first else x_b - t

        def pullback(z_bar, log_det_bar):
            z_a_bar, z_b_bar = self.parts(z_bar)
            x_b_bar = sigma.over(z_b_bar)                                           # (8)
            s_bar, scale_bar = sigma.inverse_cotangents(scaled, z_b_bar, self.each(log_det_bar))    # (9) (14)
            t_bar = -z_b_bar if self.shift_first else -x_b_bar                      # (9) (14)
            net_a_bar, net_bar = net_pullback(self.outputs_bar(s_bar, t_bar))
            x_bar = self.split.whole(z_a_bar + net_a_bar, x_b_bar, x.shape)         # (10)
            return x_bar, {"net": net_bar, "scale": self.scale_bar(scale_bar)}

        z_b = self.unscaled(sigma, x_b, t)                                          # (3)
        return (self.split.whole(x_a, z_b, x.shape), -self.total(sigma.log)), pullback      # (5)

    @classmethod
    def examples(cls, source):
        mask, a, b = split(source)
        return cls(mask, network(source, a, 2 * b), convention(source), **order(source), **layout(source)), mask.shape

    hard_cases = (
        case("MaskAll", "an empty b: the identity, log-det 0", z=[[1.0, -2.0]], mask=[True, True],
             net=Dense(np.zeros((0, 2)), []), scale=ExpScale()),
        case("MaskNone", "an empty a: a map that depends on nothing", z=[[1.0, -2.0]], x=[[1.0, -2.0]], mask=[False, False],
             net=Dense(np.zeros((4, 0)), [0.5, -2.0, 1.0, 3.0]), scale=ExpScale()),
        case("Contracted", "sigma is small beside t: x_b no longer remembers z_b", z=[[1.0, 3.0]], x=[[1.0, 3.0]],
             mask=[True, False], net=Dense([[-50.0], [0.5]], [0.0, 1.0]), scale=ExpScale()),
        case("Beyond", "sigma overflows, its product with z_b does not", z=[[1.0, 5e-324], [1.0, 0.0]], x=[[1.0, 2.0**1000]],
             mask=[True, False], net=Dense([[720.0], [0.0]], [0.0, 0.0]), scale=ExpScale()),
        case("Small", "log-det is s: the logarithm of a rounded scale returns 0", z=[[1.0, 2.0]], x=[[1.0, 2.0]],
             mask=[True, False], net=Dense([[1e-20], [0.5]], [0.0, 0.0]), scale=ExpScale()),
        case("ShiftFirst", "the shift is scaled too", z=[[1.0, 3.0]], x=[[1.0, 3.0]], mask=[True, False],
             net=Dense([[0.7], [0.5]], [0.0, 1.0]), scale=ExpScale(), shift_first=True),
        case("Cancelling", "z_b + t is small beside its terms", z=[[1.0, 1.0 + 2.0**-20]], x=[[1.0, 2.0**-20]],
             mask=[True, False], net=Dense([[0.7], [0.0]], [0.0, -1.0]), scale=ExpScale(), shift_first=True),
    )
