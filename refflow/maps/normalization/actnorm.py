r"""Activation normalisation: one affine map per channel (Glow: Kingma & Dhariwal, arXiv:1807.03039, section 3.1).

With `c` the channel, `p` one of its `n` positions (`n = 1` for vectors, `T` for signals, `H W` for images):
    x_cp = scale_c z_cp + bias_c,   scale_c != 0                                    (1)
    z_cp = (x_cp - bias_c) / scale_c                                                (2)
    dx_cp/dz_cp = scale_c, all else 0                                               (3)
    log|det dx/dz| = n log|scale_1 scale_2 ... scale_C|                             (4)
(4) takes the logarithm of the product, not the sum of the logarithms, which would lose the digits of the largest one.

Reverse rule, from (1) and (4), with `l = log_det`:
    z_bar_cp    = scale_c x_bar_cp                                                  (5)
    scale_bar_c = sum_p x_bar_cp z_cp + n l_bar / scale_c                           (6)
    bias_bar_c  = sum_p x_bar_cp                                                    (7)
and for the inverse map, whose log-det is `-log|det dx/dz|`, from (2):
    x_bar_cp    = z_bar_cp / scale_c                                                (8)
    scale_bar_c = -sum_p (x_bar_cp / scale_c) (x_cp - bias_c) - n l_bar / scale_c   (9)
    bias_bar_c  = -sum_p x_bar_cp                                                   (10)
(9) is `-sum_p x_bar_cp z_cp`, written without `z`, which may overflow where the product does not.  The terms of (6) and (9)
may overflow with opposite signs; their sum is then is taken in units of the largest power of two among them, `a = alpha 2^i`
and `b = beta 2^j` exactly:
    sum_p a_p b_p = 2^E sum_p alpha_p beta_p 2^(i_p + j_p - E),   E = max_p (i_p + j_p)     (11)

Data-dependent initialisation.  The values of a channel, at all positions of all events of a batch, are scaled by a power of
two, `v' = 2^-e v`, `max|v'| in [1/2, 1)`, so that no square overflows or vanishes.  With `m` and `s` their mean and their
standard deviation (channels.py),
    mu = 2^e m,   sigma = 2^e s                                                     (12)
The output of forward has mean 0 and variance 1 with
    scale = 1 / sigma,   bias = -m / s                                              (13)
and the output of inverse with
    scale = sigma,       bias = mu                                                  (14)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, log_abs_product, nonzero, plain, real
from ...core.rules import one_of
from .channels import at_positions, by_channel, mean_and_deviation, positions, refuse_constant, scaled_values, sum_products


@bijector(source="arXiv:1807.03039", domain=real, codomain=real, constant_log_det=True)
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

    @staticmethod
    def definition(m, z, scale, bias, rank):
        def channel(values, axes, a, b):
            return [channel(v, axes - 1, a, b) for v in values] if axes else a * values + b         # (1)

        return [channel(z[c], rank - 1, scale[c], bias[c]) for c in range(len(z))]

    def at_positions(self, per_channel):
        return at_positions(per_channel, self.rank)

    def forward(self, z):
        return self.at_positions(self.scale) * z + self.at_positions(self.bias)     # (1)

    def inverse(self, x):
        return (x - self.at_positions(self.bias)) / self.at_positions(self.scale)   # (2)

    def log_det(self, z):
        return np.broadcast_to(positions(z, self.rank) * log_abs_product(self.scale), z.shape[:-self.rank])    # (4)

    def jacobian(self, z):
        batch, size = z.shape[:-self.rank], int(np.prod(z.shape[-self.rank:]))
        J = np.zeros((*batch, size, size), z.dtype)
        i = np.arange(size)
        J[..., i, i] = np.broadcast_to(self.at_positions(self.scale), z.shape).reshape(*batch, size)     # (3)
        return J

    def vjp(self, z):
        n = positions(z, self.rank)

        def pullback(x_bar, log_det_bar):
            z_bar = self.at_positions(self.scale) * x_bar                           # (5)
            scale_bar = sum_products(x_bar, z, self.rank) + n * log_det_bar[..., None] / self.scale     # (6) (11)
            return z_bar, {"scale": scale_bar, "bias": by_channel(x_bar, self.rank).sum(-1)}    # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        n = positions(x, self.rank)
        scale, bias = self.at_positions(self.scale), self.at_positions(self.bias)

        def pullback(z_bar, log_det_bar):
            x_bar = z_bar / scale                                                   # (8)
            scale_bar = -sum_products(x_bar / scale, x - bias, self.rank) - n * log_det_bar[..., None] / self.scale  # (9) (11)
            return x_bar, {"scale": scale_bar, "bias": -by_channel(x_bar, self.rank).sum(-1)}   # (10)

        return self.inverse_and_log_det(x), pullback

    def initialised(self, data, rng):
        """A new value, in the dtype of `data`, whose forward output on `data` has mean 0 and variance 1 per channel.

        `data` (*batch, *event) are events of `forward`; the mean is over the batch and all positions, apart from the
        axes of a parameter batch.  Raises ValueError for a channel that is constant or has fewer than two values.
        """
        m, s, e = self.statistics(data, 0)
        with np.errstate(over="ignore"):
            return self.replace(scale=np.ldexp(1 / s, -e), bias=-m / s)             # (12) (13)

    def inverse_initialised(self, data, rng):
        """As `initialised`, for the output of inverse: `data` are events of `inverse`."""
        m, s, e = self.statistics(data, 1)
        return self.replace(scale=np.ldexp(s, e), bias=np.ldexp(m, e))              # (12) (14)

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
        case("Image", "log-det counts every position", z=[[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]],
             x=[[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]], scale=[3.0, 0.1], bias=[0.0, 1.0], rank=3),
        case("InverseOverflows", "z overflows where its product with a small z_bar does not", x=[[2.0**126]],
             scale=[2.0**-9], bias=[0.0]),
    )
