r"""Batch normalisation: one affine map per channel, made from statistics (Ioffe & Szegedy, arXiv:1502.03167).

The map.  With `c` the channel, `mu_c` and `v_c` a mean and a variance, `p` one of the `n_c` positions of the channel that are
normalised,
    x_cp = gain_c (z_cp - mu_c) / sqrt(v_c + eps) + bias_c                          (1)
Positions that `passes` names are left unchanged, as in RealNVP's couplings (Dinh, Sohl-Dickstein & Bengio,
arXiv:1605.08803), where one part of an event is normalised:
    x_cp = z_cp   where it passes                                                   (2)
With `r = (v + eps)^(-1/2)` and `s = gain r`, or `s = r` without a gain,
    z_cp = (x_cp - bias_c) / s_c + mu_c                                             (3)
    dx_cp/dz_cp = s_c, or 1 where it passes, all else 0                             (4)
    log|det dx/dz| = sum_c n_c log|s_c| = sum_c n_c (log|gain_c| - log(v_c + eps)/2)        (5)

Statistics of a batch.  Over the `N` values of a channel, all positions of all events, `y` is `z`, or 0 for entries
that pass; with `statistics` "all" these count as they are, `y = z`:
    mu = sum y / N,   d = y - mu                                                    (6)
    v = sum d^2 / N                                                                 (7)
With them, each event's log-det is (5), the same for all: the logarithm of the factor by which the map scales volume, if the
event's own part in the statistics is neglected.  Moving statistics follow the statistics of one batch after the other:
    m <- m - decay (m - batch)                                                      (8)
With `unbiased`, the moving variance follows not `v` but its unbiased estimate
    N v / (N - 1)                                                                   (9)
The batch itself is normalised by (7).

The reverse rule.  With `d = z - mu`, the cotangent `l_bar` of (5) and sums over the positions that are normalised, from
`dx = s dz - s dmu + r d dgain + dbias - (gain r^3 d / 2) dv`,
    z_bar_cp   = s_c x_bar_cp, or x_bar_cp where it passes                          (10)
    mu_bar_c   = -s_c sum_p x_bar_cp,   bias_bar_c = sum_p x_bar_cp                 (11)
    gain_bar_c = sum_p (r_c x_bar_cp) d_cp + n_c l_bar / gain_c                     (12)
    v_bar_c    = -(sum_p (s_c r_c^2/2 x_bar_cp) d_cp + n_c r_c^2/2 l_bar)           (13)
and for the inverse map, whose log-det is the negative of (5) and has the cotangent `l_bar`, with `y = x - bias`,
    x_bar_cp   = z_bar_cp / s_c, or z_bar_cp where it passes                        (14)
    mu_bar_c   = sum_p z_bar_cp,   bias_bar_c = -sum_p x_bar_cp                     (15)
    gain_bar_c = -(sum_p (x_bar_cp / gain_c) y_cp + n_c l_bar / gain_c)             (16)
    v_bar_c    = sum_p (r_c^2/2 x_bar_cp) y_cp + n_c r_c^2/2 l_bar                  (17)
For the statistics of a batch, `sum d = 0` and `dv = 2 sum d dy / N`, so that
    y_bar = (mu_bar + 2 v_bar d) / N,   z_bar = y_bar, or 0 where y is 0 for z      (18)
and for (1) and (2) with (6) and (7), as a function of `z` alone, the cotangents (10) and (18) add up; with "all", also where an
entry passes.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Bijector, bijector, case, constant, log_abs_product, plain, real, refusal
from ...core.rules import AT_LEAST_0, FLAG, one_of
from ...core.boundary import checked_event
from ...core.declarations import bind, Field
from ...core.sets import nonnegative, nonzero
from .channels import at_positions, by_channel, sum_products

__all__ = ["batch_statistics"]

LETTERS = ("C", "H", "W")
STATISTICS = ("changed", "all")


class textbook:
    """(1) to (18) as they are printed, for one event, and for the statistics of a batch."""

    def over_positions(values):
        """The sum over the positions of each channel."""
        return values.reshape(len(values), values.size // len(values)).sum(1)

    def either(passes, changed, kept):
        """`changed` where an entry is normalised, `kept` where it passes."""
        found, stays = changed.copy(), np.broadcast_to(passes is not None and passes, changed.shape)
        found[stays] = kept[stays]
        return found

    def r_and_s(var, gain, eps):
        r = 1 / np.sqrt(var + eps)                                                  # (3)
        return r, r if gain is None else gain * r                                   # (3)

    def counts(event, passes):
        """n_c."""
        return textbook.over_positions(textbook.either(passes, 0 * event + 1, 0 * event))

    def forward(z, mean, var, gain, bias, passes, eps, rank, statistics, unbiased):
        _, s = textbook.r_and_s(var, gain, eps)
        x = s * (z.T - mean) + (0 if bias is None else bias)                        # (1)
        return textbook.either(passes, x.T, z)                                      # (2)

    def inverse(x, mean, var, gain, bias, passes, eps, rank, statistics, unbiased):
        _, s = textbook.r_and_s(var, gain, eps)
        z = (x.T - (0 if bias is None else bias)) / s + mean                        # (3)
        return textbook.either(passes, z.T, x)                                      # (2)

    def jacobian(z, mean, var, gain, bias, passes, eps, rank, statistics, unbiased):
        _, s = textbook.r_and_s(var, gain, eps)
        return np.diag(textbook.either(passes, (0 * z.T + s).T, 0 * z + 1).ravel())     # (4)

    def log_det(z, mean, var, gain, bias, passes, eps, rank, statistics, unbiased):
        _, s = textbook.r_and_s(var, gain, eps)
        return (textbook.counts(z, passes) * np.log(np.abs(s))).sum()               # (5)

    def inverse_log_det(x, mean, var, gain, bias, passes, eps, rank, statistics, unbiased):
        return -textbook.log_det(x, mean, var, gain, bias, passes, eps, rank, statistics, unbiased)     # (5)

    def vjp(z, mean, var, gain, bias, passes, eps, rank, statistics, unbiased, x_bar, l_bar):
        (r, s), total, n = textbook.r_and_s(var, gain, eps), textbook.over_positions, textbook.counts(z, passes)
        changed, d = textbook.either(passes, x_bar, 0 * x_bar), (z.T - mean).T
        z_bar = textbook.either(passes, (s * x_bar.T).T, x_bar)                     # (10)
        bars = {"mean": -s * total(changed), "bias": total(changed)}                # (11)
        if gain is not None:
            bars["gain"] = total((r * changed.T).T * d) + n * l_bar / gain          # (12)
        bars["var"] = -(total((s * r ** 2 / 2 * changed.T).T * d) + n * r ** 2 / 2 * l_bar)     # (13)
        return z_bar, textbook.of_fields(bars, bias)

    def inverse_vjp(x, mean, var, gain, bias, passes, eps, rank, statistics, unbiased, z_bar, l_bar):
        (r, s), total, n = textbook.r_and_s(var, gain, eps), textbook.over_positions, textbook.counts(x, passes)
        x_bar = textbook.either(passes, (z_bar.T / s).T, z_bar)                     # (14)
        changed, y = textbook.either(passes, x_bar, 0 * x_bar), (x.T - (0 if bias is None else bias)).T
        bars = {"mean": total(textbook.either(passes, z_bar, 0 * z_bar)), "bias": -total(changed)}      # (15)
        if gain is not None:
            bars["gain"] = -(total((changed.T / gain).T * y) + n * l_bar / gain)    # (16)
        bars["var"] = total((r ** 2 / 2 * changed.T).T * y) + n * r ** 2 / 2 * l_bar    # (17)
        return x_bar, textbook.of_fields(bars, bias)

    def of_fields(bars, bias):
        """The cotangents, without the bias's if the bias is None."""
        return {key: bar for key, bar in bars.items() if key != "bias" or bias is not None}

    def statistics(y):
        """mu, d and v, from the values (C, N) of the channels of a batch."""
        mu = y.sum(1) / y.shape[1]                                                  # (6)
        d = (y.T - mu).T                                                            # (6)
        return mu, d, (d ** 2).sum(1) / y.shape[1]                                  # (7)

    def statistics_vjp(y, mu_bar, v_bar):
        _, d, _ = textbook.statistics(y)
        return ((mu_bar + 2 * v_bar * d.T) / y.shape[1]).T                          # (18)

    def moved(m, batch, decay):
        return m - decay * (m - batch)                                              # (8)

    def unbiased(v, N):
        return N * v / (N - 1)                                                      # (9)


r"""In floating point.

In (5), a sum of logarithms loses the digits of the largest one.  The logarithm of the product of all `s_c` whose channels have
the same number `n` of positions keeps them:
    sum_c n_c log|s_c| = n log|s_1 s_2 ... s_C|    for n_c = n                      (19)

In (12), (13), (16) and (17), terms `a_p b_p` of a sum may overflow with opposite signs.  The sum is then taken in units of the
largest power of two among them, as in `ActNorm`, with `a = alpha 2^i` and `b = beta 2^j` exactly:
    sum_p a_p b_p = 2^E sum_p alpha_p beta_p 2^(i_p + j_p - E),   E = max_p (i_p + j_p)     (20)
"""


@bijector(source="arXiv:1502.03167", domain=real, codomain=real, constant_log_det=True, textbook=textbook)
class BatchNorm(Bijector):
    """x = gain (z - mean) / sqrt(var + eps) + bias for each channel, with given mean and var.

    `gain` and `bias` may be None; they are then 1 and 0, and not parameters.  `rank` counts the event's axes, channels
    first: 1 for (*batch, C), 2 for (*batch, C, T), 3 for (*batch, C, H, W).  `passes`: a boolean array of `rank` axes that
    broadcasts to an event, True where an entry is left unchanged.  `statistics` and `unbiased` say how training takes
    statistics: "changed" counts entries that pass as 0, "all" as they are; with `unbiased` the moving variance follows (9).
    """

    mean: Array = real("C")
    var: Array = nonnegative("C")
    gain: Array = Field(nonzero, ("C",), optional=True)  # type: ignore[assignment]
    bias: Array = Field(real, ("C",), optional=True)  # type: ignore[assignment]
    passes: Array = constant(optional=True)
    eps: float = plain(1e-5, AT_LEAST_0)
    rank: int = plain(1, one_of(1, 2, 3))
    statistics: str = plain("changed", one_of(*STATISTICS))
    unbiased: bool = plain(False, FLAG)

    untrained = ("mean", "var")

    event_ndim = property(lambda self: (self.rank, self.rank))
    event_shape = property(lambda self: LETTERS[:self.rank])
    parameter_batch = property(lambda self: batch_of(self, ("mean", "var", "gain", "bias")))

    def _validate(self):
        check(self)
        super()._validate()
        if self.eps == 0 and (self.var == 0).any():
            c = np.argwhere(self.var == 0)[0][-1]
            raise ValueError(f"{type(self).__name__}: var must be > 0 if eps is 0; var[..., {c}] = 0")

    # -- the map ------------------------------------------------------------------------------------------------------

    def r_and_s(self):
        r = 1 / np.sqrt(self.var + self.eps)
        return r, r if self.gain is None else self.gain * r

    def at_positions(self, per_channel):
        return at_positions(per_channel, self.rank)

    def normalised(self, changed, kept):
        """`changed` where an entry is normalised, `kept` where it passes."""
        return changed if self.passes is None else np.where(self.passes, kept, changed)

    def counts(self, event):
        """n_c, a number if it is the same for all channels."""
        n = counted(self.passes, event.shape[event.ndim - self.rank:])
        return n if isinstance(n, int) else n.astype(event.dtype)

    def centred(self, z):
        return z - self.at_positions(self.mean)

    def shifted(self, x, sign):
        return x if self.bias is None else x + sign * self.at_positions(self.bias)

    def forward(self, z):
        s = self.at_positions(self.r_and_s()[1])
        return self.normalised(self.shifted(self.centred(z) * s, 1), z)             # (1) (2)

    def inverse(self, x):
        s = self.at_positions(self.r_and_s()[1])
        return self.normalised(self.shifted(x, -1) / s + self.at_positions(self.mean), x)   # (3)

    def log_det(self, z):
        s, n = np.broadcast_arrays(self.r_and_s()[1], self.counts(z))
        n = n.reshape(-1, n.shape[-1])[0]
        total = sum(int(k) * log_abs_product(s[..., n == k]) for k in np.unique(n))     # (5) (19)
        return np.broadcast_to(np.asarray(total, z.dtype), z.shape[:-self.rank])

    def jacobian(self, z):
        batch, size = z.shape[:-self.rank], math.prod(z.shape[-self.rank:])
        slope = self.normalised(np.broadcast_to(self.at_positions(self.r_and_s()[1]), z.shape), z.dtype.type(1))
        J = np.zeros((*batch, size, size), z.dtype)
        i = np.arange(size)
        J[..., i, i] = slope.reshape(*batch, size)                                  # (4)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        r, s = self.r_and_s()
        half = r * r / 2

        def pullback(x_bar, log_det_bar):
            changed, d = self.normalised(x_bar, 0), self.centred(z)
            n_l_bar = self.counts(z) * log_det_bar[..., None]
            total = by_channel(changed, self.rank).sum(-1)
            var_bar = -(sum_products(changed * self.at_positions(s * half), d, self.rank) + n_l_bar * half)     # (13) (20)
            bars = {"mean": -s * total, "var": var_bar}                             # (11)
            if self.gain is not None:
                bars["gain"] = sum_products(changed * self.at_positions(r), d, self.rank) + n_l_bar / self.gain     # (12) (20)
            if self.bias is not None:
                bars["bias"] = total                                                # (11)
            return self.normalised(x_bar * self.at_positions(s), x_bar), bars       # (10)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        r, s = self.r_and_s()
        half = r * r / 2

        def pullback(z_bar, log_det_bar):
            x_bar = z_bar / self.at_positions(s)                                    # (14)
            changed, y = self.normalised(x_bar, 0), self.shifted(x, -1)
            n_l_bar = self.counts(x) * log_det_bar[..., None]
            bars = {"mean": by_channel(self.normalised(z_bar, 0), self.rank).sum(-1),   # (15)
                    "var": sum_products(changed * self.at_positions(half), y, self.rank) + n_l_bar * half}  # (17) (20)
            if self.gain is not None:
                products = sum_products(changed * self.at_positions(1 / self.gain), y, self.rank)      # (20)
                bars["gain"] = -(products + n_l_bar / self.gain)                    # (16)
            if self.bias is not None:
                bars["bias"] = -by_channel(changed, self.rank).sum(-1)              # (15)
            return self.normalised(x_bar, z_bar), bars                              # (14)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def initialised(self, data, rng):
        """A new value with the statistics of `data`, events of `forward`, over their batch and positions."""
        _, z, _ = checked_event(self, data, 0)
        (mean, var), _ = batch_statistics(z, self.rank, as_zero(self))
        return self.replace(mean=mean, var=var)

    hard_cases = (
        case("Cancelling", "z and the mean agree in all digits but the last", z=[[1.0 + 2.0**-20]], x=[[2.0**-20]],
             mean=[1.0], var=[3.0], gain=[1.0], bias=[0.0]),
        case("Dead", "a channel without variance: eps alone", z=[[1.0, -3.0]], x=[[1.0, -3.0]], mean=[0.5, 0.0],
             var=[0.0, 2.0], gain=[-2.0, 0.5], bias=[0.5, 0.25], eps=1e-4),
        case("NoEps", "the variance alone", z=[[1.0, -3.0]], x=[[1.0, -3.0]], mean=[0.0, 0.0], var=[2.0, 0.5],
             gain=[2.0, 0.5], bias=[0.0, 1.0], eps=0.0),
        case("UnitDeterminant", "log-det is 0, where the logarithms of the scales, +-20 log 2, cancel", z=[[1.0, 1.0]],
             x=[[1.0, 1.0]], mean=[0.0, 0.0], var=[1.0, 1.0], gain=[2.0**20, 2.0**-20], bias=[0.0, 0.0], eps=0.0),
        case("Opposite", "log-det is log 2.1, where a sum of the logarithms of the scales loses its digits", z=[[1.0, 1.0]],
             mean=[0.0, 0.0], var=[1.0, 1.0], gain=[3 * 2.0**500, 0.7 * 2.0**-500], bias=[0.0, 0.0], eps=0.0),
        case("Plain", "no gain and no bias", z=[[1.0, -3.0]], x=[[1.0, -3.0]], mean=[1.0, 2.0], var=[2.0, 0.5], gain=None,
             bias=None),
        case("Image", "log-det counts every position", z=[[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]],
             x=[[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]], mean=[1.0, 2.0], var=[3.0, 0.1], gain=[1.0, 2.0], bias=[0.0, 1.0],
             rank=3),
        case("Checkerboard", "two of the three positions are normalised", z=[[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]],
             x=[[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]], mean=[1.0, 2.0], var=[3.0, 0.1], gain=[1.0, 2.0], bias=[0.0, 1.0],
             passes=[[[False, True, False]]], rank=3),
        case("Channels", "one channel is normalised", z=[[[1.0, 2.0], [4.0, 5.0]]], x=[[[1.0, 2.0], [4.0, 5.0]]],
             mean=[1.0, 2.0], var=[3.0, 0.1], gain=[1.0, 2.0], bias=[0.0, 1.0], passes=[[True], [False]], rank=2),
        case("InverseOverflows", "z overflows where its product with a small z_bar does not", x=[[2.0**126]], mean=[0.0],
             var=[2.0**18], gain=[1.0], bias=[0.0]),
    )
    refused = (
        refusal("var must be > 0 if eps is 0; var[..., 1] = 0", mean=[0.0, 0.0], var=[1.0, 0.0], gain=None, bias=None, eps=0.0),
        refusal("var[..., 1] = 0", mean=[0.0, 0.0], var=[[1.0, 0.0]], gain=None, bias=None, eps=0.0),
        refusal("passes must have 2 axes", mean=[0.0], var=[1.0], gain=None, bias=None, rank=2, passes=[True]),
        refusal("passes must broadcast to events with C=2", mean=[0.0, 0.0], var=[1.0, 1.0], gain=None, bias=None,
                passes=[True, False, True]),
    )


def check(norm):
    """The part that BatchNorm and BatchStatisticsNorm share: `passes`."""
    name = type(norm).__name__
    if norm.passes is None:
        return
    if norm.passes.ndim != norm.rank:
        raise ValueError(f"{name}: passes must have {norm.rank} axes, not shape {norm.passes.shape}")
    for letter, size in zip(norm.event_shape, norm.passes.shape):
        if size != 1 and not bind(letter, size, norm.dims):
            raise ValueError(f"{name}: passes must broadcast to events with {letter}={norm.dims[letter]}, not shape "
                             f"{norm.passes.shape}")


def batch_of(norm, keys):
    """The leading axes of the fields `keys`."""
    return np.broadcast_shapes(*(getattr(norm, key).shape[:-1] for key in keys if getattr(norm, key) is not None))


def as_zero(norm):
    """Marks the entries that count as 0 in the statistics of a batch; None if there are none."""
    return None if norm.statistics == "all" else norm.passes


def counted(passes, shape):
    """The number of positions of each channel that are normalised, one number if all channels have the same."""
    n = math.prod(shape[1:])
    return n if passes is None else n - np.broadcast_to(passes, shape).reshape(shape[0], n).sum(-1)


# -- statistics of a batch --------------------------------------------------------------------------------------------

def batch_statistics(z, rank=1, passes=None):
    """((mean, var), pullback) of each channel of events z (*batch, C, ...) of `rank` axes, over the batch and all positions.

    The variance is the biased one.  Entries where `passes` holds count as 0.  `pullback(mean_bar, var_bar)` -> z_bar.
    """
    y = z if passes is None else np.where(passes, z.dtype.type(0), z)
    axes = tuple(i for i in range(y.ndim) if i != y.ndim - rank)
    N = math.prod(y.shape[i] for i in axes)
    if not N:
        raise ValueError(f"batch_statistics: z of shape {z.shape} holds no value")
    mean = y.mean(axes)                                                             # (6)
    d = y - at_positions(mean, rank)                                                # (6)
    var = (d * d).mean(axes)                                                        # (7)

    def pullback(mean_bar, var_bar):
        y_bar = at_positions(2 / N * var_bar, rank) * d                             # (18)
        y_bar += at_positions(mean_bar / N, rank)                                   # (18)
        return y_bar if passes is None else np.where(passes, y.dtype.type(0), y_bar)    # (18)

    return (mean, var), pullback


@bijector(source="arXiv:1502.03167", domain=real, codomain=real, register=False)
class BatchStatisticsNorm(Bijector):
    """BatchNorm with the statistics of the batch at hand, as training uses it.

    The image of one event depends on the other events, and the gradient passes through the statistics.  The statistics cannot
    be found from the images of a batch: there is no inverse, and no Jacobian of one event.  `measure`: a function to call
    instead of `batch_statistics`, for a caller who wants to see its results.
    """

    gain: Array = Field(nonzero, ("C",), optional=True)  # type: ignore[assignment]
    bias: Array = Field(real, ("C",), optional=True)  # type: ignore[assignment]
    passes: Array = constant(optional=True)
    eps: float = plain(1e-5, AT_LEAST_0)
    rank: int = plain(1, one_of(1, 2, 3))
    measure: object = plain(None)
    statistics: str = plain("changed", one_of(*STATISTICS))

    event_ndim = property(lambda self: (self.rank, self.rank))
    event_shape = property(lambda self: LETTERS[:self.rank])
    parameter_batch = property(lambda self: batch_of(self, ("gain", "bias")))

    def _validate(self):
        check(self)
        super()._validate()
        if self.parameter_batch:
            raise ValueError(f"{type(self).__name__}: gain and bias must have no batch axes, not {self.parameter_batch}")

    def measured(self, z):
        """(the BatchNorm of the statistics of z, their pullback)."""
        measure = self.measure or batch_statistics
        (mean, var), statistics_pullback = measure(z, self.rank, as_zero(self))
        norm = BatchNorm(mean, var, self.gain, self.bias, self.passes, self.eps, self.rank)
        return norm.unchecked(z.dtype), statistics_pullback

    def forward_and_log_det(self, z):
        return self.measured(z)[0].forward_and_log_det(z)

    def inverse(self, x):
        raise ValueError(f"{type(self).__name__}: there is no inverse, since it would need the statistics of z; "
                         "use the flow with moving statistics")

    def jacobian(self, z):
        raise ValueError(f"{type(self).__name__}: the map of one event depends on the batch and has no Jacobian of its own")

    def vjp(self, z):
        norm, statistics_pullback = self.measured(z)
        image_and_log_det, norm_pullback = norm.vjp(z)

        def pullback(x_bar, log_det_bar):
            z_bar, bars = norm_pullback(x_bar, log_det_bar)
            z_bar = z_bar + statistics_pullback(bars.pop("mean"), bars.pop("var"))  # (10) (18)
            return z_bar, bars

        return image_and_log_det, pullback


def moved(statistic, batch, decay=0.1):
    """A moving statistic, updated by a batch's statistic."""
    return statistic - decay * (statistic - batch)                                  # (8)


def unbiased(var, N):
    """The unbiased estimate of a variance, from the biased variance of N values; ValueError for a single value."""
    if N < 2:
        raise ValueError("BatchNorm: unbiased needs at least two values of a channel in a batch, not 1")
    return var * (N / (N - 1))                                                      # (9)
