r"""The solution of a differential equation, with the error of its integration measured.

The parts of a state `y` have rates
    dy/dt = r(t, y)                                                                 (1)
`n` equal steps of Dormand & Prince's scheme of order 8 take them from the start to the end.  If they err by `E`, then `2 n` steps err
by `E/2^8` up to higher orders, so that their error follows from the difference,
    |y_2n - y| = |y_2n - y_n|/255                                                   (2)
The number of steps is doubled until (2) is less than half a rounding of each part's size: the larger of what the part was and is, or,
of an integral, the integral of its rate's size.  (2) is a measurement and not a bound: a rate that changes only between the times at
which both are asked goes unseen.  An equation that carries neighbours apart carries the first steps' roundings apart, too.  There,
however many the steps, (2) stays above the half:
    a difference below 2^-26 that does not fall by half any more consists of roundings          (3)

In (1), a long sum of small steps would err by a rounding a step: what a sum loses is kept, and added to the next step.         (4)

The weights `b_i` of the scheme's rates `r_i` have both signs and sizes up to 6, so that their products would err by several roundings.
They sum to `c`, 1 for a step, and the rates hardly differ:
    sum_i b_i r_i = c r_0 + sum_i b_i (r_i - r_0)                                   (5)

Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4 and II.5; Knuth, The Art of Computer Programming 2,
4.2.2 (sums).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...core.arithmetic import quotient

FEWEST, MOST = 8, 2**12         # steps
RESTS = 2.0**-26                # of (3)


class Part(NamedTuple):
    """What a part of the state is at the start, and the axes of its arrays that belong to one event, whose largest entry is its size."""

    value: np.ndarray
    axes: tuple | None          # None for all of them
    is_integral: bool = False
    lost: np.ndarray | float = 0.0          # what rounding has taken from the value


def solved(rates, parts, start, end, dtype):
    """(the parts at the time `end`, how many steps that took), in float64, right to half a rounding of the dtype.

    `rates(t, values)` gives the rate of each part.  ArithmeticError if `MOST` steps are too few.
    """
    half, steps, (found, _) = np.finfo(dtype).eps / 4, FEWEST, steps_of(rates, parts, start, end, FEWEST)
    moved, settled = [np.inf] * len(parts), False
    while steps < MOST and not settled:
        steps, before, fell_from = 2 * steps, found, moved
        found, sizes = steps_of(rates, parts, start, end, steps)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = [quotient(largest(now.value - was.value, now), size) for now, was, size in zip(found, before, sizes)]
        settled = all(((far <= 255 * half) | (far <= RESTS) & (2 * far >= fell)).all() for far, fell in zip(moved, fell_from))
    if not settled:                                                                 # (2) (3)
        raise ArithmeticError(f"{MOST} steps from {start} to {end} are too few: the velocity is too fast")
    return found, steps


def steps_of(rates, parts, start, end, steps):
    """(the parts at the end of equal steps, the size of each), in float64."""
    from scipy.integrate import DOP853                      # here, because this takes longer than importing refflow
    h, values, lost = (end - start) / steps, [part.value for part in parts], [part.lost for part in parts]
    sums = [np.zeros(largest(part.value, part).shape) for part in parts]
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            found = []
            for row, c in zip(DOP853.A, DOP853.C):
                moves = [h * move for move in weighted(row, c, found)] if found else [0.0] * len(parts)
                places = [y + (rest + move) for y, rest, move in zip(values, lost, moves)]
                found.append(rates(start + (step + c) * h, places))                 # (1)
            sums = [total + abs(h) * np.mean([largest(one[i], part) for one in found], 0)
                    for i, (total, part) in enumerate(zip(sums, parts))]
            moves = [rest + h * move for rest, move in zip(lost, weighted(DOP853.B, 1, found))]
            values, lost = zip(*map(sum_and_loss, values, moves))                   # (4)
    ends = [part._replace(value=value, lost=rest) for part, value, rest in zip(parts, values, lost)]
    return ends, [total if part.is_integral else np.maximum(largest(part.value, part), largest(end.value, end))
                  for total, part, end in zip(sums, parts, ends)]


def largest(array, part):
    """The largest of a part's entries, for each event."""
    return np.abs(array).max(part.axes, initial=0)


def weighted(weights, total, found):
    """The sums of weights times rates, for each part; the weights sum to `total`."""
    return [total * rates[0] + sum(weight * (rate - rates[0]) for weight, rate in zip(weights, rates) if weight)        # (5)
            for rates in zip(*found)]


def sum_and_loss(a, b):
    """(a + b rounded, what was lost), exactly."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
