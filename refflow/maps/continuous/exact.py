r"""The exact flow of a velocity, with the error of its integration measured.

A network gives the velocity `v(z, t)`, with `A = dv/dz`.  Along the path of a point `z` in `R^D`,
    dz/dt = v(z, t),   d log|dz/dz_0|/dt = tr A                                     (1)
`n` equal steps of Dormand & Prince's scheme of order 8 take the point and its log-det from the start to the end.  If they err by `E`,
then `2 n` steps err by `E/2^8` up to higher orders, so that their error follows from the difference,
    |y_2n - y| = |y_2n - y_n|/255                                                   (2)
The number of steps is doubled until (2) is less than half a rounding of the larger of what the point was and is, and of the log-det's
own size, the integral of `|tr A|`.  (2) is a measurement and no bound: a velocity that changes only between the times at which both
are asked goes unseen.

In (1), a long sum of small steps would err by a rounding a step: what a sum loses is kept, and added to the next step.         (3)

The flow from the end to the start is the inverse map.  All events of a batch take the same number of steps.

Source: Chen et al., arXiv:1806.07366; Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4 and II.5; Knuth, The Art
of Computer Programming 2, 4.2.2 (sums).
"""

from __future__ import annotations

import numpy as np

from .log_density import LogDensity

FEWEST, MOST = 8, 2**12         # steps


def exact_flow(net, z, start, end):
    """(x, log_det, steps) of points z (n, D) that follow v(z, t) from the time `start` to `end`.

    `net`: a conditioner from (z, t) to D entries, with `jvp`.  Computed in float64, and rounded once to the dtype of z.  ArithmeticError if
    `MOST` steps are too few.
    """
    system = LogDensity(net, z.shape)
    half = np.finfo(z.dtype).eps / 4
    steps, (x, l, _) = FEWEST, steps_of(system, z, start, end, FEWEST)
    while steps < MOST:
        steps, before = 2 * steps, (x, l)
        x, l, size = steps_of(system, z, start, end, steps)
        with np.errstate(invalid="ignore"):
            moved, turned = np.abs(x - before[0]).max(-1), np.abs(l - before[1])
        if (moved <= 255 * half * np.maximum(np.abs(x), np.abs(z)).max(-1)).all() and (turned <= 255 * half * size).all():      # (2)
            return x.astype(z.dtype), l.astype(z.dtype), steps
    raise ArithmeticError(f"exact_flow: {MOST} steps from {start} to {end} are too few for the digits of {z.dtype}: the velocity is too fast")


def steps_of(system, z, start, end, steps):
    """(x, log_det, integral of |tr A|) by equal steps, in float64."""
    from scipy.integrate import DOP853                      # here, because this takes longer than importing refflow
    h, state = (end - start) / steps, system.state(z)
    lost, size = np.zeros_like(state), np.zeros(len(z))
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            rates = []
            for row, c in zip(DOP853.A, DOP853.C):
                place = state + (lost + h * weighted(row, rates))
                rates.append(system.rates_vjp(start + (step + c) * h, place)[0])    # (1)
            size += abs(h) * weighted(np.abs(DOP853.B), [np.abs(system.read(rate)[1]) for rate in rates])
            state, lost = sum_and_loss(state, lost + h * weighted(DOP853.B, rates))         # (3)
    x, l, _ = system.read(state)
    return x, -l, size


def weighted(weights, rates):
    """The sum of weights times rates, 0 for none."""
    return sum((weight * rate for weight, rate in zip(weights, rates) if weight), 0.0)


def sum_and_loss(a, b):
    """(a + b rounded, what was lost), exactly."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
