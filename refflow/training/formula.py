r"""Is a function the gradient of a log density?  Both are functions that a user has written.

At a few events, every entry of the gradient is compared with differences of the log density, which know their own error; they are
taken in float64.  Along lines between the events, the log density must not jump: no gradient knows of a jump.  A cell of a line in
which the log density changes is halved, and of both halves the one with the larger change is kept; in the last cell, from `x` to
`x + d`, a jump is left if the change exceeds LEAST and what the slope and rounding explain,
    |g(x) . d| + |g(x + d) . d| + c eps (|log p(x)| + sum_k |x_k g_k(x)|),   c = ROUNDINGS                    (1)
with the gradient `g`, and with the eps of the log density's dtype: rounded entries move the log density by the second term in
parentheses.  Corners, as of `|x|`, do no harm: samples do not meet them.
"""

from __future__ import annotations

import numpy as np

from ..accuracy.differences import ridders

RUNGS, LARGEST = 24, 1 / 16             # steps of differences, the largest for an entry of size 1
EVENTS, ENTRIES = 8, 512                # how many events are asked, of large events fewer
CELLS, HALVINGS = 256, 32
ALLOWED, OF_EVENT = 1e-3, 1e-6          # of an entry of the gradient, and of the largest of its event
LEAST = 1e-3                            # the smallest jump that counts
ROUNDINGS = 4                           # c of (1); normals of 2 to 512 entries, a mixture and a bent valley in float32 reach 1.3


def refuse_other_gradient(name, log_density, gradient, x):
    """ValueError unless `gradient` is that of `log_density` at the events x (n, *event) and the latter does not jump between them."""
    x = x[:max(2, min(EVENTS, ENTRIES // max(x[0].size, 1)))].astype(np.float64)
    given = np.asarray(gradient(x), np.float64).reshape(len(x), -1)
    least = OF_EVENT * np.abs(given).max(1, initial=0)
    for j in range(given.shape[1]):
        slope, error = differences(log_density, x, j)
        unsure = 10 * error + ALLOWED * np.maximum(np.abs(given[:, j]), np.abs(slope)) + least
        wrong = np.flatnonzero(np.isfinite(unsure) & (np.abs(given[:, j] - slope) > unsure))
        if len(wrong):
            i, index = wrong[0], ", ".join(map(str, np.unravel_index(j, x.shape[1:])))
            raise ValueError(f"{name}: gradient must be that of log_density; its entry [{index}] is {given[i, j]:.6g} at "
                             f"x = {np.array2string(x[i], separator=', ')}, where differences of log_density give {slope[i]:.6g}")
    if len(x) > 1:
        refuse_jump(name, log_density, gradient, x)


def differences(log_density, x, j):
    """(dlog p/dx_j, its error) at each event."""
    size = np.maximum(np.abs(x.reshape(len(x), -1)[:, j]), 1) * LARGEST
    h = size * 2.0 ** -np.arange(RUNGS)[:, None]
    moved = np.tile(x, (2, RUNGS, *(1,) * x.ndim))
    flat = moved.reshape(2, RUNGS, len(x), -1)
    flat[..., j] += np.stack([h, -h])
    values = total(log_density, moved.reshape(-1, *x.shape[1:])).reshape(2, RUNGS, len(x))
    with np.errstate(all="ignore"):
        slopes = (values[0] - values[1]) / (flat[0, ..., j] - flat[1, ..., j])
        u = np.finfo(values.dtype).eps
        return ridders(slopes.astype(np.float64), u * np.abs(values).max(0) / h)


def total(log_density, x):
    """log p of each of the events x, summed where an event is of several flows, in the user's dtype."""
    values = np.asarray(log_density(x))
    values = values if values.dtype.kind == "f" else values.astype(np.float64)
    return values.reshape(len(x), -1).sum(1)


def refuse_jump(name, log_density, gradient, x):
    """ValueError where the log density jumps on a line from one event to the next."""
    start = np.repeat(x[:-1], CELLS, 0)
    along = np.repeat(x[1:] - x[:-1], CELLS, 0)
    part = np.tile(np.arange(CELLS) / CELLS, len(x) - 1).reshape(-1, *(1,) * (x.ndim - 1))
    low, high = start + part * along, start + (part + 1 / CELLS) * along
    with np.errstate(all="ignore"):
        ends = [total(log_density, end) for end in (low, high)]
        for _ in range(HALVINGS):
            middle = low + (high - low) / 2
            value = total(log_density, middle)
            right = np.abs(ends[1] - value) > np.abs(value - ends[0])
            wide = right.reshape(part.shape)
            low, high = np.where(wide, middle, low), np.where(wide, high, middle)
            ends = [np.where(right, value, ends[0]), np.where(right, ends[1], value)]
        jump = np.abs(ends[1] - ends[0])
    found = np.flatnonzero(np.isfinite(jump) & (jump > LEAST))
    if len(found):
        explained = np.finfo(jump.dtype).eps, *(part[found] for part in (low, high, np.maximum(*np.abs(ends))))
        found = found[jump[found] > LEAST + change_without_jump(gradient, *explained)]
    if len(found):
        i = found[0]
        raise ValueError(f"{name}: log_density must be differentiable; it jumps by {jump[i]:.6g} at "
                         f"x = {np.array2string(low[i], separator=', ')}")


def change_without_jump(gradient, eps, low, high, size):
    """(1) of cells from `low` to `high` (n, *event), at whose ends the log density is at most of this size."""
    flat = [end.reshape(len(end), -1) for end in (low, high)]
    with np.errstate(all="ignore"):
        slopes = [np.asarray(gradient(end), np.float64).reshape(len(end), -1) for end in (low, high)]
        by_slope = sum(np.abs(((flat[1] - flat[0]) * g).sum(1)) for g in slopes)
        return by_slope + ROUNDINGS * eps * (size + np.abs(flat[0] * slopes[0]).sum(1))           # (1)
