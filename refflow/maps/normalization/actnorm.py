r"""Activation normalisation: one affine map per channel (Glow: Kingma & Dhariwal, arXiv:1807.03039, section 3.1).

The map.  With `c` the channel, `p` one of its `n` positions (`n = 1` for vectors, `T` for signals, `H W` for images):
    x_cp = scale_c z_cp + bias_c,   scale_c != 0                                    (1)
    z_cp = (x_cp - bias_c) / scale_c                                                (2)
    dx_cp/dz_cp = scale_c, all else 0                                               (3)
    log|det dx/dz| = n sum_c log|scale_c|                                           (4)

Data-dependent initialisation.  With `mu_c` and `sigma_c` for the mean and the standard deviation of a channel's values, at all
positions of all events of a batch, the output of forward has mean 0 and variance 1 with
    scale_c = 1 / sigma_c,   bias_c = -mu_c / sigma_c                               (5)
and the output of inverse with
    scale_c = sigma_c,   bias_c = mu_c                                              (6)

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    z_bar_cp    = scale_c x_bar_cp                                                  (7)
    scale_bar_c = sum_p x_bar_cp z_cp + n l_bar / scale_c                           (8)
    bias_bar_c  = sum_p x_bar_cp                                                    (9)
and for the inverse map, whose log-det is `-log|det dx/dz|` and has the cotangent `l_bar`, from (2),
    x_bar_cp    = z_bar_cp / scale_c                                                (10)
    scale_bar_c = -sum_p x_bar_cp z_cp - n l_bar / scale_c                          (11)
    bias_bar_c  = -sum_p x_bar_cp                                                   (12)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, log_abs_product, nonzero, plain, real
from ...core.rules import one_of
from .channels import at_positions, by_channel, mean_and_deviation, positions, refuse_constant, scaled_values, sum_products


class textbook:
    """(1) to (12) as they are printed, for one event."""

    def over_positions(values):
        """The sum over the positions of each channel."""
        return values.reshape(len(values), values.size // len(values)).sum(1)

    def forward(z, scale, bias, rank):
        return (scale * z.T + bias).T                                               # (1)

    def inverse(x, scale, bias, rank):
        return ((x.T - bias) / scale).T                                             # (2)

    def jacobian(z, scale, bias, rank):
        return np.diag((0 * z.T + scale).T.ravel())                                 # (3)

    def log_det(z, scale, bias, rank):
        n = z.size // len(z)
        return n * np.log(np.abs(scale)).sum()                                      # (4)

    def inverse_log_det(x, scale, bias, rank):
        return -textbook.log_det(x, scale, bias, rank)                              # (4)

    def vjp(z, scale, bias, rank, x_bar, l_bar):
        n = z.size // len(z)
        z_bar = (scale * x_bar.T).T                                                 # (7)
        scale_bar = textbook.over_positions(x_bar * z) + n * l_bar / scale          # (8)
        return z_bar, {"scale": scale_bar, "bias": textbook.over_positions(x_bar)}  # (9)

    def inverse_vjp(x, scale, bias, rank, z_bar, l_bar):
        n, z = x.size // len(x), textbook.inverse(x, scale, bias, rank)             # (2)
        x_bar = (z_bar.T / scale).T                                                 # (10)
        scale_bar = -textbook.over_positions(x_bar * z) - n * l_bar / scale         # (11)
        return x_bar, {"scale": scale_bar, "bias": -textbook.over_positions(x_bar)}     # (12)

    def initialised(values):
        """From the values (C, N) of the channels of a batch."""
        mu, sigma = values.mean(1), values.std(1)
        return {"scale": 1 / sigma, "bias": -mu / sigma}                            # (5)

    def inverse_initialised(values):
        return {"scale": values.std(1), "bias": values.mean(1)}                     # (6)


r"""In floating point.

In (4), a sum of logarithms loses the digits of the largest one.  The logarithm of the product keeps them:
    sum_c log|scale_c| = log|scale_1 scale_2 ... scale_C|                           (13)

In (8) and (11), terms `a_p b_p` of a sum may overflow with opposite signs.  The sum is then taken in units of the largest power
of two among them, with `a = alpha 2^i` and `b = beta 2^j` exactly:
    sum_p a_p b_p = 2^E sum_p alpha_p beta_p 2^(i_p + j_p - E),   E = max_p (i_p + j_p)     (14)

In (11), `z_cp` may overflow where its product with `x_bar_cp` does not:
    x_bar_cp z_cp = (x_bar_cp / scale_c) (x_cp - bias_c)                            (15)

In (5) and (6), squares of the values may overflow or vanish where `sigma_c` does not.  With `m_c` and `s_c` for the mean and the
standard deviation (channels.py) of `2^-e v`, whose largest number is in `[1/2, 1)`, for a channel's values `v`,
    mu_c = 2^e m_c,   sigma_c = 2^e s_c,   mu_c / sigma_c = m_c / s_c               (16)
"""


@bijector(source="arXiv:1807.03039", domain=real, codomain=real, constant_log_det=True, textbook=textbook)
class ActNorm(Bijector):
    """x = scale z + bias for each channel.

    `rank` counts the event's axes, channels first: 1 for (*batch, C), 2 for (*batch, C, T), 3 for (*batch, C, H, W).
    """

    scale: Array = nonzero("C")
    bias: Array = real("C", default=0.0)
    rank: int = plain(1, one_of(1, 2, 3))

    @property
    def event_ndim(self):
        return self.rank, self.rank

    @property
    def event_shape(self):
        return ("C", "H", "W")[:self.rank]

    # -- the map ------------------------------------------------------------------------------------------------------

    def at_positions(self, per_channel):
        return at_positions(per_channel, self.rank)

    def forward(self, z):
        return self.at_positions(self.scale) * z + self.at_positions(self.bias)     # (1)

    def inverse(self, x):
        return (x - self.at_positions(self.bias)) / self.at_positions(self.scale)   # (2)

    def log_det(self, z):
        return np.broadcast_to(positions(z, self.rank) * log_abs_product(self.scale), z.shape[:-self.rank])    # (4) (13)

    def jacobian(self, z):
        batch, size = z.shape[:-self.rank], int(np.prod(z.shape[-self.rank:]))
        J = np.zeros((*batch, size, size), z.dtype)
        i = np.arange(size)
        J[..., i, i] = np.broadcast_to(self.at_positions(self.scale), z.shape).reshape(*batch, size)     # (3)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        n = positions(z, self.rank)

        def pullback(x_bar, log_det_bar):
            z_bar = self.at_positions(self.scale) * x_bar                           # (7)
            scale_bar = sum_products(x_bar, z, self.rank) + n * log_det_bar[..., None] / self.scale     # (8) (14)
            return z_bar, {"scale": scale_bar, "bias": by_channel(x_bar, self.rank).sum(-1)}    # (9)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        n = positions(x, self.rank)
        scale, bias = self.at_positions(self.scale), self.at_positions(self.bias)

        def pullback(z_bar, log_det_bar):
            x_bar = z_bar / scale                                                   # (10)
            scale_bar = -sum_products(x_bar / scale, x - bias, self.rank) - n * log_det_bar[..., None] / self.scale  # (11) (15)
            return x_bar, {"scale": scale_bar, "bias": -by_channel(x_bar, self.rank).sum(-1)}   # (12)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def initialised(self, data, rng):
        """A new value, in the dtype of `data`, whose forward output on `data` has mean 0 and variance 1 per channel.

        `data` (*batch, *event) are events of `forward`; the mean is over the batch and all positions, apart from the
        axes of a parameter batch.  Raises ValueError for a channel that is constant or has fewer than two values.
        """
        m, s, e = self.statistics(data, 0)
        with np.errstate(over="ignore"):
            return self.replace(scale=np.ldexp(1 / s, -e), bias=-m / s)             # (5) (16)

    def inverse_initialised(self, data, rng):
        """As `initialised`, for the output of inverse: `data` are events of `inverse`."""
        m, s, e = self.statistics(data, 1)
        return self.replace(scale=np.ldexp(s, e), bias=np.ldexp(m, e))              # (6) (16)

    def statistics(self, data, side):
        """(m, s, e) of each channel, shaped as the parameters."""
        v, e = scaled_values(self, data, side)
        refuse_constant(self, (v == v[..., :1]).all(-1), v.shape[-1])
        return *mean_and_deviation(v), e

    hard_cases = (
        case("Cancelling", "scale z and -bias agree in all digits but the last", z=[[1.0 + 2.0**-20]], x=[[-1.0 - 2.0**-20]],
             scale=[1.0], bias=[-1.0]),
        case("Reflected", "a negative scale: log-det is of its magnitude", z=[[1.0, -3.0]], x=[[1.0, -3.0]],
             scale=[-2.0, 0.5], bias=[0.5, 0.25]),
        case("UnitDeterminant", "log-det is 0, where the logarithms of the scales, +-20 log 2, cancel", z=[[1.0, 1.0]],
             x=[[1.0, 1.0]], scale=[2.0**20, 2.0**-20], bias=[0.0, 0.0]),
        case("Signal", "log-det counts every time", z=[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]], x=[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]],
             scale=[3.0, 0.1], bias=[0.0, 1.0], rank=2),
        case("Image", "log-det counts every position", z=[[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]],
             x=[[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]], scale=[3.0, 0.1], bias=[0.0, 1.0], rank=3),
        case("InverseOverflows", "z overflows where its product with a small z_bar does not", x=[[2.0**126]],
             scale=[2.0**-9], bias=[0.0]),
    )
