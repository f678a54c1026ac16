r"""The exact flow of a velocity, with the error of its integration measured.

A network gives the velocity `v(z, t)`, with `A = dv/dz`.  Along the path of a point `z` in `R^D`,
    dz/dt = v(z, t),   d log|dz/dz_0|/dt = tr A                                     (1)
`n` equal steps of Dormand & Prince's scheme of order 8 take the point and its log-det from the start to the end.  If they err by `E`,
then `2 n` steps err by `E/2^8` up to higher orders, so that their error follows from the difference,
    |y_2n - y| = |y_2n - y_n|/255                                                   (2)
The number of steps is doubled until (2) is less than half a rounding of the larger of what the point was and is, and of the log-det's
own size, the integral of `|tr A|`.  (2) is a measurement and not a bound: a velocity that changes only between the times at which both
are asked goes unseen.  A flow that carries neighbours apart carries the first steps' roundings apart, too.  There, however many the
steps, (2) stays above the half:
    a difference below 2^-26 that does not fall by half any more consists of roundings          (3)

In (1), a long sum of small steps would err by a rounding a step: what a sum loses is kept, and added to the next step.         (4)

The weights `b_i` of the scheme's rates `r_i` have both signs and sizes up to 6, so that their products would err by several roundings.
They sum to `c`, 1 for a step, and the rates hardly differ:
    sum_i b_i r_i = c r_0 + sum_i b_i (r_i - r_0)                                   (5)

The flow from the end to the start is the inverse map.  All events of a batch take the same number of steps.

Source: Chen et al., arXiv:1806.07366; Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4 and II.5; Knuth, The Art
of Computer Programming 2, 4.2.2 (sums).
"""

from __future__ import annotations

import numpy as np

from ...core import real
from ...core.arithmetic import quotient
from ...core.arrays import as_floating
from ...core.rules import FINITE
from .log_density import LogDensity, refuse_no_velocity, refuse_other_ranks


FEWEST, MOST = 8, 2**12         # steps
RESTS = 2.0**-26                # of (3)


def exact_flow(net, z, start, end):
    """(x, log_det, steps) of points z (*batch, D) that follow v(z, t) from the time `start` to `end`.

    `net`: a conditioner from (z, t) to D entries, with `jvp`.  Computed in float64, and rounded once to the dtype of z.  ValueError for a
    net, points or times that do not fit or are not finite; ArithmeticError if `MOST` steps are too few.
    """
    z, start, end = checked_points(net, z), FINITE.checked("exact_flow", "start", start), FINITE.checked("exact_flow", "end", end)
    x, log_det, steps = flow_of_rows(net, z.reshape(-1, z.shape[-1]), start, end)
    return x.reshape(z.shape), log_det.reshape(z.shape[:-1])[()], steps


def checked_points(net, given):
    """Points as floats, refused by name where the net has no velocity for them."""
    z, _ = as_floating("exact_flow: z", given)
    refuse_other_ranks("exact_flow", net)
    if not z.ndim:
        raise ValueError("exact_flow: z must have at least 1 axes, not shape ()")
    try:
        refuse_no_velocity(net, z.shape[-1:])
    except ValueError as error:
        raise ValueError(f"exact_flow: z has event shape {z.shape[-1:]}: {error}") from None
    if refusal := real.refusal("z", z):
        raise ValueError(f"exact_flow: {refusal}")
    return z


def flow_of_rows(net, z, start, end):
    """The same of points (n, D)."""
    system, half = LogDensity(net, z.shape), np.finfo(z.dtype).eps / 4
    steps, (x, l, _) = FEWEST, steps_of(system, z, start, end, FEWEST)
    settled, moved = np.zeros(len(z), bool), np.full(len(z), np.inf)
    while steps < MOST and not settled.all():
        steps, before, fell_from = 2 * steps, (x, l), moved
        x, l, size = steps_of(system, z, start, end, steps)
        with np.errstate(divide="ignore", invalid="ignore"):
            of_x = quotient(np.abs(x - before[0]).max(-1), np.maximum(np.abs(x), np.abs(z)).max(-1))
            moved = np.maximum(of_x, quotient(np.abs(l - before[1]), size))
        settled = (moved <= 255 * half) | (moved <= RESTS) & (2 * moved >= fell_from)           # (2) (3)
    if not settled.all():
        raise ArithmeticError(f"exact_flow: {MOST} steps from {start} to {end} are too few for the digits of {z.dtype}: the velocity "
                              "is too fast")
    return x.astype(z.dtype), l.astype(z.dtype), steps


def steps_of(system, z, start, end, steps):
    """(x, log_det, about the integral of |tr A|) by equal steps, in float64."""
    from scipy.integrate import DOP853                      # here, because this takes longer than importing refflow
    h, state = (end - start) / steps, system.state(z)
    lost, size = np.zeros_like(state), np.zeros(len(z))
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            rates = []
            for row, c in zip(DOP853.A, DOP853.C):
                place = state + (lost + h * weighted(row, c, rates)) if rates else state + lost
                rates.append(system.rates_vjp(start + (step + c) * h, place)[0])    # (1)
            size += abs(h) * np.mean([np.abs(system.read(rate)[1]) for rate in rates], 0)
            state, lost = sum_and_loss(state, lost + h * weighted(DOP853.B, 1, rates))      # (4)
    x, l, _ = system.read(state)
    return x, -l, size


def weighted(weights, total, rates):
    """The sum of weights times rates; the weights sum to `total`."""
    return total * rates[0] + sum(weight * (rate - rates[0]) for weight, rate in zip(weights, rates) if weight)     # (5)


def sum_and_loss(a, b):
    """(a + b rounded, what was lost), exactly."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
