r"""Activation normalisation as in Glow's code: a shift, then a scale, per channel (Kingma & Dhariwal, arXiv:1807.03039,
section 3.1).

The map.  With `c` the channel, `p` one of its `n` positions and `sigma_c` the scale,
    x_cp = (z_cp + bias_c) sigma_c                                                  (1)
    z_cp = x_cp / sigma_c - bias_c                                                  (2)
    dx_cp/dz_cp = sigma_c, all else 0                                               (3)
    log|det dx/dz| = n sum_c log|sigma_c|                                           (4)
With `k = factor`, which is 3 in the authors' code and 1 in one port, the gradients are with respect to the parameters `s_c`:
    sigma_c = exp(k s_c),   log sigma_c = k s_c                                     (5)
In another port (`direct`) the parameter is the scale itself, which may be negative:
    sigma_c = s_c                                                                   (6)

Data-dependent initialisation.  Over the `N` values `v` of a channel, all positions of all events of a batch, let `mu` be the mean
and `d^2 = sum (v - mu)^2 / N`, or over `N - 1` with `unbiased`.  `eps` is the source's `1e-6`.  The output of forward has mean 0
and variance near 1 with
    bias = -mu,   sigma = 1 / (d + eps)                                             (7)
and the output of inverse, which the sources do not cover, with
    sigma = d + eps,   bias = mu / sigma                                            (8)

The reverse rule.  From (1) and (4), with `y = z + bias`, and `l_bar` and `L_c` for the cotangents of (4) and of `log sigma_c`,
    z_bar_cp = sigma_c x_bar_cp,   bias_bar_c = sigma_c sum_p x_bar_cp              (9)
    L_c = sigma_c sum_p x_bar_cp y_cp + n l_bar                                     (10)
and for the inverse map, whose log-det is `-log|det dx/dz|` and has the cotangent `l_bar`, from (2),
    x_bar_cp = z_bar_cp / sigma_c,   bias_bar_c = -sum_p z_bar_cp                   (11)
    L_c = -(sum_p z_bar_cp x_cp / sigma_c + n l_bar)                                (12)
from which
    s_bar_c = k L_c        where (5) holds                                          (13)
    s_bar_c = L_c / s_c    where (6) holds                                          (14)
"""

from __future__ import annotations


import numpy as np

from ...core import Array, Bijector, bijector, case, log_abs_product, plain, real, refusal
from ...core.rules import ABOVE_0, AT_LEAST_0, FLAG, one_of, optional
from ...core.declarations import Field
from ..elementwise.scale import scaled
from .channels import at_positions, by_channel, mean_and_deviation, positions, refuse_constant, scaled_values, sum_products


class textbook:
    """(1) to (14) as they are printed, for one event."""

    def over_positions(values):
        """The sum over the positions of each channel."""
        return values.reshape(len(values), values.size // len(values)).sum(1)

    def sigma(s, factor, direct):
        return s if direct else np.exp(factor * s)                                  # (5) (6)

    def y(z, bias):
        return z if bias is None else (z.T + bias).T

    def forward(z, s, bias, factor, direct, eps, unbiased, rank):
        return (textbook.y(z, bias).T * textbook.sigma(s, factor, direct)).T        # (1)

    def inverse(x, s, bias, factor, direct, eps, unbiased, rank):
        y = (x.T / textbook.sigma(s, factor, direct)).T                             # (2)
        return y if bias is None else (y.T - bias).T                                # (2)

    def jacobian(z, s, bias, factor, direct, eps, unbiased, rank):
        return np.diag((0 * z.T + textbook.sigma(s, factor, direct)).T.ravel())     # (3)

    def log_det(z, s, bias, factor, direct, eps, unbiased, rank):
        log_sigma = np.log(np.abs(s)) if direct else factor * s                     # (5) (6)
        return z.size // len(z) * log_sigma.sum()                                   # (4)

    def inverse_log_det(x, s, bias, factor, direct, eps, unbiased, rank):
        return -textbook.log_det(x, s, bias, factor, direct, eps, unbiased, rank)   # (4)

    def vjp(z, s, bias, factor, direct, eps, unbiased, rank, x_bar, l_bar):
        sigma, y, n = textbook.sigma(s, factor, direct), textbook.y(z, bias), z.size // len(z)
        z_bar, bias_bar = (sigma * x_bar.T).T, sigma * textbook.over_positions(x_bar)           # (9)
        L = sigma * textbook.over_positions(x_bar * y) + n * l_bar                  # (10)
        return z_bar, textbook.bars(L, bias_bar, s, bias, factor, direct)

    def inverse_vjp(x, s, bias, factor, direct, eps, unbiased, rank, z_bar, l_bar):
        sigma, n = textbook.sigma(s, factor, direct), x.size // len(x)
        x_bar, bias_bar = (z_bar.T / sigma).T, -textbook.over_positions(z_bar)      # (11)
        L = -(textbook.over_positions(z_bar * x) / sigma + n * l_bar)               # (12)
        return x_bar, textbook.bars(L, bias_bar, s, bias, factor, direct)

    def bars(L, bias_bar, s, bias, factor, direct):
        s_bar = L / s if direct else factor * L                                     # (13) (14)
        return {"s": s_bar} if bias is None else {"s": s_bar, "bias": bias_bar}

    def initialised(values, factor, direct, eps, unbiased):
        """From the values (C, N) of the channels of a batch."""
        mu, d = values.mean(1), values.std(1, ddof=unbiased)
        sigma = 1 / (d + eps)                                                       # (7)
        return {"s": sigma if direct else np.log(sigma) / factor, "bias": -mu}      # (5) (6) (7)

    def inverse_initialised(values, factor, direct, eps, unbiased):
        mu, d = values.mean(1), values.std(1, ddof=unbiased)
        sigma = d + eps                                                             # (8)
        return {"s": sigma if direct else np.log(sigma) / factor, "bias": mu / sigma}           # (5) (6) (8)


r"""In floating point.

In (1) to (3) and (9) to (12), `exp(k s_c)` may leave the floats where its product with a number `q` does not.  With `w = k s_c`,
`e` for the number nearest to `w` whose exponential is far from both ends of the floats, and the powers of 2 of all factors
apart (`scaled` in `elementwise/scale.py`),
    q exp(w) = q exp(e) h h,   h = exp((w - e)/2)                                   (15)

In (4), a sum of the logarithms of (6) loses the digits of the largest one.  The logarithm of the product keeps them:
    sum_c log|s_c| = log|s_1 s_2 ... s_C|                                           (16)

In (10) and (12), terms of a sum may overflow with opposite signs; the sum is then taken in units of the largest power of two
among them, as in `ActNorm`.  Where the sum itself overflows or is subnormal, its product with `sigma_c` need not.  For
`2^-j y_c`, whose largest entry is in `[1/2, 1)`, the sum is of the size of `x_bar`.  Half of `2^j` goes before `sigma_c`, and half after:
    sigma_c sum_p x_bar_cp y_cp = 2^(j - i) (sigma_c (2^i sum_p x_bar_cp (2^-j y_cp))),   i = floor(j/2)            (17)

In (14), `L_c` may overflow or vanish where `L_c / s_c` does not.  From (10) and (12), with `sigma_c = s_c`,
    s_bar_c = sum_p x_bar_cp y_cp + n l_bar / s_c                                   (18)
    s_bar_c = -(sum_p (x_bar_cp / s_c) x_cp + n l_bar / s_c)                        (19)

In (7) and (8), squares of the values may overflow or vanish where `mu` and `d` do not.  With `m'` and `d'` for the mean and the
deviation (channels.py) of `2^-e v`, whose largest number is in `[1/2, 1)`,
    mu = 2^e m',   d = 2^e d'                                                       (20)
"""


@bijector(source="arXiv:1807.03039", domain=real, codomain=real, constant_log_det=True, textbook=textbook)
class GlowActNorm(Bijector):
    """x = (z + bias) exp(factor s) for each channel, or with `direct` (z + bias) s; s (C,), bias (C,) or None.

    `rank` counts the event's axes, channels first: 1 for (*batch, C), 2 for (*batch, C, T), 3 for (*batch, C, H, W).
    `eps` and `unbiased` belong to data-dependent initialisation; eps None means no such initialisation, as for the scaling
    of a network's output.
    """

    s: Array = real("C")
    bias: Array = Field(real, ("C",), optional=True)  # type: ignore[assignment]
    factor: float = plain(3.0, ABOVE_0)
    direct: bool = plain(False, FLAG)
    eps: float = plain(1e-6, optional(AT_LEAST_0))
    unbiased: bool = plain(False, FLAG)
    rank: int = plain(1, one_of(1, 2, 3))

    event_ndim = property(lambda self: (self.rank, self.rank))
    event_shape = property(lambda self: ("C", "H", "W")[:self.rank])

    def _validate(self):
        super()._validate()
        if self.direct and not self.s.all():
            index = np.argwhere(self.s == 0)[0].tolist()
            raise ValueError(f"GlowActNorm: s must not be 0 if it is the scale; s{index} = 0")

    # -- the map ------------------------------------------------------------------------------------------------------

    def by_sigma(self, values, s, inverse=False):
        """values sigma, or values / sigma, for s that broadcasts with them."""
        if self.direct:
            return values / s if inverse else values * s                            # (6)
        return scaled(values, values.dtype.type(1), -self.factor * s if inverse else self.factor * s)       # (5) (15)

    def times(self, event):
        return self.by_sigma(event, at_positions(self.s, self.rank))

    def quotient(self, event):
        return self.by_sigma(event, at_positions(self.s, self.rank), inverse=True)

    def shifted(self, z):
        return z if self.bias is None else z + at_positions(self.bias, self.rank)       # (1)

    def forward(self, z):
        return self.times(self.shifted(z))                                          # (1)

    def inverse(self, x):
        y = self.quotient(x)
        return y if self.bias is None else y - at_positions(self.bias, self.rank)       # (2)

    def log_det(self, z):
        total = log_abs_product(self.s) if self.direct else self.factor * self.s.sum(-1)    # (5) (6) (16)
        return np.broadcast_to(positions(z, self.rank) * total, z.shape[:-self.rank])       # (4)

    def jacobian(self, z):
        batch, size = z.shape[:-self.rank], int(np.prod(z.shape[-self.rank:]))
        J = np.zeros((*batch, size, size), z.dtype)
        i = np.arange(size)
        J[..., i, i] = self.times(np.ones_like(z)).reshape(*batch, size)            # (3)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        y, n = self.shifted(z), positions(z, self.rank)

        def pullback(x_bar, log_det_bar):
            bias_bar = self.by_sigma(by_channel(x_bar, self.rank).sum(-1), self.s)  # (9)
            if self.direct:
                s_bar = sum_products(x_bar, y, self.rank) + n * log_det_bar[..., None] / self.s     # (14) (18)
            else:
                s_bar = self.factor * (self.summed(x_bar, y) + n * log_det_bar[..., None])          # (10) (13)
            return self.times(x_bar), self.bars(s_bar, bias_bar)                    # (9)

        return (self.times(y), self.log_det(z)), pullback                           # (1)

    def inverse_vjp(self, x):
        n = positions(x, self.rank)

        def pullback(z_bar, log_det_bar):
            x_bar = self.quotient(z_bar)                                            # (11)
            bias_bar = -by_channel(z_bar, self.rank).sum(-1)                        # (11)
            if self.direct:
                s_bar = -(sum_products(self.quotient(x_bar), x, self.rank) + n * log_det_bar[..., None] / self.s)   # (14) (19)
            else:
                s_bar = -self.factor * (self.summed(z_bar, x, inverse=True) + n * log_det_bar[..., None])       # (12) (13)
            return x_bar, self.bars(s_bar, bias_bar)

        return self.inverse_and_log_det(x), pullback                                # (2)

    def bars(self, s_bar, bias_bar):
        return {"s": s_bar} if self.bias is None else {"s": s_bar, "bias": bias_bar}

    # -- in floating point --------------------------------------------------------------------------------------------

    def summed(self, bar, event, inverse=False):
        """sigma sum_p bar_p event_p, or the sum divided by sigma.

        Where the sum overflows or is subnormal, it is taken of 2^-k event, whose largest entry is in [1/2, 1), and
        multiplied by 2^k: half before sigma and half after, so that neither overflows or vanishes on the way.
        """
        w = -self.factor * self.s if inverse else self.factor * self.s
        total, one, limits = sum_products(bar, event, self.rank), event.dtype.type(1), np.finfo(event.dtype)        # (17)
        found = scaled(total, one, w)                                               # (5) (15)
        ordinary = np.isfinite(total) & (np.abs(total) >= limits.tiny / limits.eps)
        if ordinary.all():
            return found
        event = by_channel(event, self.rank)
        _, k = np.frexp(np.abs(event).max(-1))                                      # (17)
        smaller = sum_products(by_channel(bar, self.rank), np.ldexp(event, -k[..., None]), 2)       # (17)
        return np.where(ordinary, found, np.ldexp(scaled(np.ldexp(smaller, k // 2), one, w), k - k // 2))       # (15) (17)

    def initialised(self, data, rng):
        """A new value whose forward output on `data` has mean 0 and variance near 1 per channel.

        The new value has the dtype of `data`, and a bias.  If eps is None, this value itself.  ValueError if eps is 0 and a
        channel is constant.
        """
        if self.eps is None:
            return self
        mu, sigma = self.statistics(data, 0)
        return self.replace(bias=-mu, s=self.from_sigma(1 / sigma))                 # (7)

    def inverse_initialised(self, data, rng):
        """As `initialised`, for the output of inverse: `data` are events of `inverse`."""
        if self.eps is None:
            return self
        mu, sigma = self.statistics(data, 1)
        return self.replace(bias=mu / sigma, s=self.from_sigma(sigma))              # (8)

    def from_sigma(self, sigma):
        """s."""
        return sigma if self.direct else np.log(sigma) / sigma.dtype.type(self.factor)      # (5) (6)

    def statistics(self, data, side):
        """(the mean, the standard deviation + eps) of each channel, shaped as the parameters."""
        v, e = scaled_values(self, data, side)
        mu, deviation = mean_and_deviation(v, self.unbiased)
        if self.eps == 0:
            refuse_constant(self, deviation == 0, v.shape[-1])
        return np.ldexp(mu, e), np.ldexp(deviation, e) + deviation.dtype.type(self.eps)     # (20)

    hard_cases = (
        case("Cancelling", "z and -bias agree in all digits but the last", z=[[1.0 + 2.0**-20]], x=[[-1.0]],
             bias=[-1.0], s=[0.5]),
        case("Signal", "log-det counts every position", z=[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]],
             x=[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]], bias=[0.0, 1.0], s=[0.25, -0.5], rank=2),
        case("Image", "so it does for images", z=[[[[1.0, 2.0]], [[4.0, 5.0]]]], x=[[[[1.0, 2.0]], [[4.0, 5.0]]]],
             bias=[0.0, 1.0], s=[0.25, -0.5], rank=3),
        case("UnitDeterminant", "log-det is 0", z=[[1.0, 1.0]], x=[[1.0, 1.0]], bias=[0.0, 0.0], s=[0.75, -0.75]),
        case("Port", "the logarithm itself", z=[[1.0, -2.0]], x=[[1.0, -2.0]], bias=[0.5, 0.25], s=[0.3, -2.0], factor=1.0),
        case("NoBias", "a scale alone", z=[[1.0, -2.0]], x=[[1.0, -2.0]], s=[0.0, -0.5], bias=None),
        case("Beyond", "sigma overflows, its product with z + bias does not", z=[[2.0**-500]], x=[[2.0**1000]], bias=[0.0],
             s=[240.0]),
        case("Reflected", "a negative scale: log-det is of its magnitude", z=[[1.0, -3.0]], x=[[1.0, -3.0]],
             s=[-2.0, 0.5], bias=[0.5, 0.25], direct=True, unbiased=True, eps=0.0),
        case("Scales", "log-det is 0, where the logarithms of the scales, +-20 log 2, cancel", z=[[[[1.0]], [[1.0]]]],
             x=[[[[1.0]], [[1.0]]]], s=[2.0**20, 2.0**-20], bias=[0.0, 0.0], direct=True, rank=3),
        case("Opposite", "the logarithms of four scales cancel, and leave the rounding of each", z=[[1.0] * 4], x=[[1.0] * 4],
             s=[1.5e15, 3.0e13, 6.9e-16, 1.7e-14], bias=[0.0] * 4, direct=True),
    )
    refused = (
        refusal("s must not be 0 if it is the scale; s[1] = 0", s=[1.0, 0.0], bias=None, direct=True),
    )
