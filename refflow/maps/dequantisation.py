r"""Dequantisation: from pixels, which are integers, to real numbers with a density, and back.

From pixels `v` in `0 .. levels - 1`, first reduced to `bins` values (a divisor of levels: Glow's `2^n_bits`), and noise
`u in (0, 1)`,
    k = floor(v bins / levels)                                                      (1)
    x = low + (high - low) (k + u) / bins                                           (2)
RealNVP has `(v + u) / 256` (Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803), NICE's Dequantizer has `low` and `high` (Dinh,
Krueger & Bengio, arXiv:1410.8516), Glow `low = -1/2, high = 1/2` (Kingma & Dhariwal, arXiv:1807.03039).  The way back is Glow's:
    v = clip(floor(bins (x - low) / (high - low)) levels / bins, 0, levels - 1)     (3)
`u` is uniform on the odd multiples of `2^-m`, with the largest `m` for which `k + u` is exact.  Then (3) undoes (2) where (2) is
exact, as it is for the three above.                                                (4)

A density `p` of `x` gives a density of `y = k + u`; with `D` entries in an event and `e = (high - low) / bins`,
    log p_y(y) = log p(x) + D log e                                                 (5)
    log P(k) = log int p_y(k + u) du >= E log p_y(k + u)      of uniform u          (6)
    bits/dim = -(log p(x) + D log e) / (D log 2)                                    (7)
(6) is due to Theis, van den Oord & Bethge, arXiv:1511.01844.

Variational dequantisation (Ho, Chen, Srinivas, Duan & Abbeel, arXiv:1902.00275, section 3.1) draws `u` from a flow `q` given
`v`:
    log P(k) >= E_q(u|v) [log p_y(k + u) - log q(u|v)]                              (8)
Reverse rule of the mean of (8) over `n` draws, with `b` for its cotangent at an event: `u` moves `x`, and `x` moves both
terms, so
    log_p_bar = b / n,   u_bar = e x_bar,   log_q_bar = -b / n                      (9)
and q's pullback of a reparameterised sample gives the rest.
"""

from __future__ import annotations

import numpy as np

from ..core import Flow
from ..core.arrays import FLOATS

__all__ = ["bits_per_dim", "dequantised", "quantised", "variational_bound_vjp"]


def dequantised(v, rng, levels=256, bins=None, low=0.0, high=1.0, dtype=np.float64):
    """x of (2) in `dtype`, from pixels v of any shape, with uniform noise from the Generator `rng`.

    ValueError, with index and value, for pixels that are not integers in 0 .. levels - 1; for bins that do not divide
    levels; unless low < high; for an `rng` that is not a Generator; for a dtype other than float32 and float64.
    """
    k, bins = binned(v, levels, bins, low, high)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"dequantised: rng must be a numpy.random.Generator, not {type(rng).__name__}")
    if np.dtype(dtype) not in FLOATS:
        raise ValueError(f"dequantised: dtype must be float32 or float64, not {np.dtype(dtype)}")
    m = np.finfo(dtype).nmant + 1 - int(bins - 1).bit_length()
    u = np.ldexp(2.0 * rng.integers(0, 2 ** (m - 1), k.shape) + 1, -m)              # (4)
    return placed(k, u, bins, low, high).astype(dtype)


def placed(k, u, bins, low, high):
    return low + (high - low) * ((k + u) / bins)                                    # (2)


def binned(v, levels, bins, low, high):
    """(k, bins), with all arguments checked."""
    bins = levels if bins is None else bins
    for name, n in (("levels", levels), ("bins", bins)):
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"dequantisation: {name} must be an int >= 1, not {n!r}")
    if levels % bins:
        raise ValueError(f"dequantisation: bins must divide levels = {levels}, not {bins}")
    checked_range(low, high)
    v = np.asarray(v)
    if v.dtype.kind not in "iuf":
        raise ValueError(f"dequantisation: pixels must be numbers, not {v.dtype}")
    with np.errstate(invalid="ignore"):
        wrong = ~((v >= 0) & (v <= levels - 1) & (v == np.floor(v)))
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"dequantisation: pixels must be integers in 0 .. {levels - 1}; v{list(index)} = {v[index]}")
    return np.floor_divide(v.astype(np.int64), levels // bins), bins                # (1)


def checked_range(low, high):
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"dequantisation: low and high must be finite, low < high, not {low} and {high}")


def quantised(x, levels=256, bins=None, low=0.0, high=1.0):
    """The pixels v of (3), as integers: uint8 for up to 256 levels, else int64.  ValueError for NaN and infinities."""
    _, bins = binned(0, levels, bins, low, high)
    x = np.asarray(x, np.float64)
    if not np.isfinite(x).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"quantised: x must be finite; x{list(index)} = {x[index]}")
    k = np.floor((x - low) / (high - low) * bins)
    return np.clip(k * (levels // bins), 0, levels - 1).astype(np.uint8 if levels <= 256 else np.int64)     # (3)


def bits_per_dim(log_prob, size, bins=256, low=0.0, high=1.0):
    """(7), from log_prob = log p(x) in nats (any shape), for events of `size` entries, an int or a shape."""
    checked_range(low, high)
    D = int(np.prod(size))
    return -(np.asarray(log_prob) + D * np.log((high - low) / bins)) / (D * np.log(2.0))        # (5) (6) (7)


def variational_bound_vjp(p, q, v, rng, n=1, levels=256, bins=None, low=0.0, high=1.0):
    """(bound, pullback): the mean of (8) over n draws, in nats, for each event of the pixels v (*batch, *event).

    `p`: the flow of x.  `q`: the flow of u; its events have the shape of x and lie in (0, 1), and its context, computed from v,
    is filled in by `q.at(context=...)`; a q whose parameters have no batch serves all events.  `pullback(bound_bar)` ->
    (p_bar, q_bar), keys and shapes of `p.params()` and `q.params()`; the cotangent of the context is in q_bar["context"].
    ValueError as `dequantised`, and if q's draws have another shape.
    """
    k, bins = binned(v, levels, bins, low, high)
    if not isinstance(p, Flow) or not isinstance(q, Flow):
        raise ValueError(f"variational_bound_vjp: p and q must be flows, not {type(p).__name__} and {type(q).__name__}")
    e = (high - low) / bins
    batch = k.shape[:max(0, k.ndim - p.rank)]
    count = n * int(np.prod(batch)) if q.parameter_batch == () else n
    (drawn, log_q), q_pullback = q.sample_and_log_prob_vjp(rng, count)
    if drawn.size != n * k.size or drawn.shape[drawn.ndim - p.rank:] != k.shape[len(batch):]:
        raise ValueError(f"variational_bound_vjp: q draws noise of shape {drawn.shape[1:]} for pixels of shape {k.shape}")
    u, log_q = drawn.reshape(n, *k.shape), log_q.reshape(n, *batch)
    if not ((u >= 0) & (u <= 1)).all():
        raise ValueError("variational_bound_vjp: q must draw noise in (0, 1): let its bijector end in a Sigmoid")
    log_p, p_pullback = p.log_prob_vjp(placed(k, u, bins, low, high).astype(u.dtype))
    D = int(np.prod(k.shape[len(batch):]))
    bound = (log_p + D * float(np.log(e)) - log_q).mean(0)                                 # (8)

    def pullback(bound_bar):
        b = np.broadcast_to(np.asarray(bound_bar, log_p.dtype) / n, log_p.shape)
        x_bar, p_bar = p_pullback(b)                                                # (9)
        return p_bar, q_pullback(e * x_bar.reshape(drawn.shape), -b.reshape(drawn.shape[:drawn.ndim - p.rank]))     # (9)

    return bound, pullback
