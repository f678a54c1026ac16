r"""Activation normalisation as in Glow-TTS: a scale, then a shift, for each entry of a vector.

The map.  With `c` the channel and `w = logs`, the logarithm of the scale,
    x_c = bias_c + exp(w_c) z_c                                                     (1)
    z_c = (x_c - bias_c) exp(-w_c)                                                  (2)
    dx_c/dz_c = exp(w_c), all else 0                                                (3)
    log|det dx/dz| = sum_c w_c                                                      (4)
The vectors of a sequence are mapped one by one: `Pointwise` with a mask of its valid positions.

Data-dependent initialisation.  Let `m_c` be the mean of a channel over all vectors of a batch (at valid positions, if they are
sequences), and `v_c` its variance, at least `floor`, the source's `1e-6`:
    m = E[z],   v = max(E[(z - m)^2], floor),   u = log sqrt(v)                     (5)
The output of forward has mean 0 and variance 1, or less where the floor holds, with
    bias = -m exp(-u),   logs = -u                                                  (6)
and the output of inverse, which the source does not cover, with
    bias = m,   logs = u                                                            (7)

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    z_bar_c = exp(w_c) x_bar_c,   w_bar_c = exp(w_c) x_bar_c z_c + l_bar,   bias_bar_c = x_bar_c        (8)
and for the inverse map, whose log-det is `-log|det dx/dz|` and has the cotangent `l_bar`, from (2),
    x_bar_c = exp(-w_c) z_bar_c,   w_bar_c = -exp(-w_c) z_bar_c (x_c - bias_c) - l_bar,   bias_bar_c = -x_bar_c     (9)

Source: Kim, Kim, Kong & Yoon, arXiv:2005.11129, section 3.2; the parameters are in the authors' code, `ActNorm`.
"""

from __future__ import annotations


import numpy as np

from ...core import Array, Bijector, bijector, case, plain, real
from ...core.rules import AT_LEAST_0
from ..elementwise.scale import scaled
from .channels import mean_and_deviation, refuse_constant, scaled_values


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def forward(z, logs, bias, floor):
        return bias + np.exp(logs) * z                                              # (1)

    def inverse(x, logs, bias, floor):
        return (x - bias) * np.exp(-logs)                                           # (2)

    def jacobian(z, logs, bias, floor):
        return np.diag(np.exp(logs))                                                # (3)

    def log_det(z, logs, bias, floor):
        return logs.sum()                                                           # (4)

    def inverse_log_det(x, logs, bias, floor):
        return -logs.sum()                                                          # (4)

    def vjp(z, logs, bias, floor, x_bar, l_bar):
        z_bar = np.exp(logs) * x_bar                                                # (8)
        return z_bar, {"logs": z_bar * z + l_bar, "bias": x_bar}                    # (8)

    def inverse_vjp(x, logs, bias, floor, z_bar, l_bar):
        x_bar = np.exp(-logs) * z_bar                                               # (9)
        return x_bar, {"logs": -x_bar * (x - bias) - l_bar, "bias": -x_bar}         # (9)

    def statistics(values, floor):
        """Of the values (C, N) of the channels of a batch."""
        return values.mean(1), np.log(np.sqrt([max(v, floor) for v in values.var(1)]))          # (5)

    def initialised(values, floor):
        m, u = textbook.statistics(values, floor)                                   # (5)
        return {"logs": -u, "bias": -m * np.exp(-u)}                                # (6)

    def inverse_initialised(values, floor):
        m, u = textbook.statistics(values, floor)                                   # (5)
        return {"logs": u, "bias": m}                                               # (7)


r"""In floating point.

In (1), (2), (6), (8) and (9), `exp(w)` may leave the floats where its product with a number `q` does not.  With `e` for the
number nearest to `w` whose exponential is far from both ends of the floats, and the powers of 2 of all factors apart (`scaled`
in `elementwise/scale.py`),
    q exp(w) = q exp(e) h h,   h = exp((w - e)/2)                                   (10)

In (5), the source computes the variance as `E[z^2] - m^2`, which cancels, and squares of the values may overflow or vanish where
`m` and `sqrt(v)` do not.  With `m'` and `v'` for the mean and the variance (channels.py) of `2^-e z`, whose largest number is in
`[1/2, 1)`,
    m = 2^e m',   sqrt(v) = max(2^e sqrt(v'), sqrt(floor))                          (11)
"""


@bijector(source="arXiv:2005.11129", domain=real, codomain=real, constant_log_det=True, textbook=textbook)
class GlowTTSActNorm(Bijector):
    """x = bias + exp(logs) z for each entry; z, x (*batch, C), logs and bias (C,).

    `floor`: the least variance that data-dependent initialisation divides by.  ValueError if it is not finite and >= 0.
    """

    logs: Array = real("C")
    bias: Array = real("C", default=0.0)
    floor: float = plain(1e-6, AT_LEAST_0)
    event_ndim = (1, 1)
    event_shape = ("C",)
    rank = 1

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return scaled(z, 1, self.logs) + self.bias                                  # (1) (10)

    def inverse(self, x):
        return scaled(x - self.bias, 1, -self.logs)                                 # (2) (10)

    def log_det(self, z):
        return np.broadcast_to(self.logs.sum(-1), z.shape[:-1])                     # (4)

    def jacobian(self, z):
        J, c = np.zeros((*z.shape, z.shape[-1]), z.dtype), np.arange(z.shape[-1])
        J[..., c, c] = np.exp(self.logs)                                            # (3)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            logs_bar = scaled(z, x_bar, self.logs) + log_det_bar[..., None]         # (8) (10)
            return scaled(x_bar, 1, self.logs), {"logs": logs_bar, "bias": x_bar}   # (8) (10)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            x_bar = scaled(z_bar, 1, -self.logs)                                    # (9) (10)
            logs_bar = -scaled(x - self.bias, z_bar, -self.logs) - log_det_bar[..., None]       # (9) (10)
            return x_bar, {"logs": logs_bar, "bias": -x_bar}                        # (9)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def initialised(self, data, rng):
        """A new value, in the dtype of `data`, whose forward output on `data` has mean 0 and variance 1 per channel.

        The variance is smaller where `floor` holds.  ValueError if floor is 0 and a channel is constant.
        """
        m, u = self.statistics(data, 0)
        return self.replace(bias=-scaled(m, 1, -u), logs=-u)                        # (6) (10)

    def inverse_initialised(self, data, rng):
        """As `initialised`, for the output of inverse: `data` are events of `inverse`."""
        m, u = self.statistics(data, 1)
        return self.replace(bias=m, logs=u)                                         # (7)

    def statistics(self, data, side):
        """(m, u) of each channel, shaped as the parameters."""
        values, e = scaled_values(self, data, side)
        m, deviation = mean_and_deviation(values)
        root = np.maximum(np.ldexp(deviation, e), np.sqrt(values.dtype.type(self.floor)))           # (5) (11)
        refuse_constant(self, root == 0, values.shape[-1])
        return np.ldexp(m, e), np.log(root)                                         # (5) (11)

    hard_cases = (
        case("Cancelling", "exp(logs) z and -bias agree in all digits but the last", z=[[1.0 + 2.0**-20]], x=[[-1.0]],
             bias=[-1.0], logs=[0.0]),
        case("UnitDeterminant", "log-det is 0", z=[[1.0, 1.0]], x=[[1.0, 1.0]], bias=[0.0, 0.0], logs=[0.75, -0.75],
             floor=0.0),
        case("Beyond", "exp(logs) overflows, its product with z does not", z=[[2.0**-500]], x=[[2.0**1000]], bias=[0.0],
             logs=[720.0]),
        case("Small", "log-det is logs: the logarithm of a rounded scale returns 0", z=[[1.0, 2.0]], x=[[1.0, 2.0]],
             bias=[0.0, 0.0], logs=[1e-20, 0.0]),
    )
