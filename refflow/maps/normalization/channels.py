"""Parameters of channels and events of `rank` axes, channels first: positions, sums over them, and their statistics.

Over the `N` values `v` of a channel, in two passes:
    m = sum v / N,   d = v - m,   r = sum d / N                                     (1)
    s^2 = sum (d - r)^2 / N, or over N - 1 for the unbiased variance                (2)
`r`, which would be 0 without the rounding of `m`, removes that rounding from `s`.
"""

from __future__ import annotations

import numpy as np

from ...core.arrays import as_floating
from ...core.boundary import checked_event

LOWEST = -10**6                     # the exponent of 0: below that of any product


def at_positions(per_channel, rank):
    """A number for each channel, shaped to meet every position of an event."""
    return per_channel.reshape(per_channel.shape + (1,) * (rank - 1))


def positions(event, rank):
    """n: the number of positions of each channel."""
    return int(np.prod(event.shape[event.ndim - rank + 1:]))


def by_channel(event, rank):
    """(*batch, C, n): the positions as one axis."""
    return event.reshape(*event.shape[:event.ndim - rank + 1], positions(event, rank))


def channel_values(f, data, side):
    """The N values of each channel in the dtype of `data`, (*parameter batch, C, N)."""
    _, event, _ = checked_event(f, data, side)
    values = by_channel(event.astype(as_floating("data", data)[0].dtype, copy=False), f.rank)
    shape = (*f.parameter_batch, values.shape[-2])
    first = values.ndim - 1 - len(shape)
    own = [first + i for i, size in enumerate(shape) if size != 1]                  # axes with a parameter for each index
    values = np.ascontiguousarray(np.moveaxis(values, own, range(len(own))))        # NumPy sums pairwise only along memory
    return values.reshape(*shape, -1)


def scaled_values(f, data, side):
    """(v', e): the values v = 2^e v' of each channel with max|v'| in [1/2, 1), so that no square overflows or vanishes.

    ValueError if there are none.
    """
    v = channel_values(f, data, side)
    if not v.shape[-1]:
        raise ValueError(f"{type(f).__name__}: initialisation needs at least one event of data, not 0")
    _, e = np.frexp(np.abs(v).max(-1, initial=0))
    return np.ldexp(v, -e[..., None]), e


def mean_and_deviation(v, unbiased=False):
    """(m, s) over the last axis."""
    N = v.shape[-1]
    m = v.sum(-1) / N                                                               # (1)
    d = v - m[..., None]                                                            # (1)
    r = d.sum(-1) / N                                                               # (1)
    return m, np.sqrt(np.square(d - r[..., None]).sum(-1) / max(N - unbiased, 1))   # (2)


def refuse_constant(f, constant, N):
    """ValueError that names the first channel whose N values are the same."""
    if constant.any():
        raise ValueError(f"{type(f).__name__}: channel {np.argwhere(constant)[0][-1]} of data is constant "
                         f"({N} value{'s' * (N != 1)}): its variance must be > 0")


def sum_products(a, b, rank):
    """sum_p a_cp b_cp, which overflows only where it must."""
    a, b = by_channel(a, rank), by_channel(b, rank)
    total = np.vecdot(a, b)
    finite = np.isfinite(total)
    return total if finite.all() else np.where(finite, total, sum_scaled_products(a, b))


def sum_scaled_products(a, b):
    """2^E sum_p alpha_p beta_p 2^(i_p + j_p - E) over the last axis, with a = alpha 2^i, b = beta 2^j, E = max_p (i_p + j_p).

    No term overflows before the sum does.
    """
    (alpha, i), (beta, j) = np.frexp(a), np.frexp(b)
    exponent = np.where(alpha * beta == 0, LOWEST, i + j)
    E = exponent.max(-1, initial=LOWEST, keepdims=True)
    return np.ldexp(np.ldexp(alpha * beta, exponent - E).sum(-1), E[..., 0])
