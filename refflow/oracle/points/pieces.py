"""Points of a piecewise page of numbers: at its breaks, such as the knots of a spline, and all through its bins.

At a break a derivative may jump, and a library may take it from either side, or something between, as a mean is.  The truth there
is an interval, whose ends are the page's own values a few roundings below and above the break.  kappa is taken further away, where its
differences do not cross the break: it is what rounding moves on each side.

Next to a knot that is much flatter than its bin, the square root of an inverse cancels, at some floats and not at others.  A spline is
asked at many numbers of each bin, at all distances from its knots.  Every other knot is flat, by the 4th and by the 10th power of
drawn slopes, as if their unconstrained parameters were so much larger.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from ...accuracy.drawing import SIDES, Point, plain_choices, set_of, with_cotangents
from ...core.declarations import Field
from ...core.sets import positive
from .page_points import COTANGENTS, drawn_bijector, run_time_truth, source_of, stacked

SPREAD = 2                              # of fields: bins from 2^-2 to 2^2
FEW, BINS = 3, 10                       # of a spline asked at its breaks, and in its bins
POWERS = 4, 10                          # of slopes
BESIDE = 4                              # roundings of the largest break's size, by which a break may be moved
AWAY = 2.0**-14                         # the distance at which kappa is taken, far more than a step of its differences
FAINT = np.float32(2.0**-10)            # makes a log-det's cotangent so small that its jump hides no error of the slope
INSIDE, NEXT = 16, 8                    # numbers of a bin from each of its knots: drawn, and neighbouring floats
BINADES = 16                            # of the drawn distances


@functools.lru_cache(16)
def piecewise_points(page, dtype) -> tuple:
    """Points of a page of numbers that has breaks; the same points each time."""
    return tuple(drawing(page, np.dtype(dtype)))


def drawing(page, dtype):
    source = source_of(f"{page.__name__} pieces {dtype.name}")
    for plain in plain_choices(page) if page.event_ndim == (0, 0) else ():
        f = drawn_bijector(page, dtype, source, FEW, SPREAD, plain)
        if not f.breaks().size:
            continue
        for side in SIDES:
            yield from break_points(f, dtype, side, source)
        for steep in steeper(drawn_bijector(page, dtype, source, BINS, SPREAD, plain)):
            for side in SIDES:
                yield from bin_points(steep, dtype, side, source)


# -- breaks -----------------------------------------------------------------------------------------------------------

@np.errstate(all="ignore")
def breaks_on(f, side):
    """The breaks as numbers of one side, float64 and finite, in their order."""
    z = np.unique(f.breaks().astype(np.float64))
    found = z if side == "forward" else np.unique(f.astype(np.float64).forward(z[f.domain.members(z, 0)]))
    return found[np.isfinite(found)]


@np.errstate(all="ignore")
def break_points(f, dtype, side, source):
    """Two questions at each break, with cotangents, and the intervals in which answers may be."""
    events = breaks_on(f, side).astype(dtype)
    near = BESIDE * float(np.finfo(dtype).eps)
    steps = np.array([0, -near, near, -2 * near, 2 * near, -AWAY, AWAY]) * (np.max(np.abs(events), initial=0) or 1)
    events = events[set_of(f, side).members(events.astype(np.float64) + steps[:, None], 0).all(0)]
    points = [with_cotangents(Point(f, side, event, case="a break"), source, COTANGENTS) for event in events]
    points += [replace(point, log_det_bar=point.log_det_bar * FAINT) for point in points]
    for point, truth in zip(points, truths_between(points, steps) if points else ()):
        yield replace(point, truth=truth)


def truths_between(points, steps):
    """For each point {quantity: Truth} between the limits from both sides."""
    wide = [replace(point, event=np.float64(point.event + step), form=point.dtype.name) for point in points for step in steps]
    found = run_time_truth(stacked(wide), derivatives=True)
    for i in range(len(points)):
        each = range(i * len(steps), (i + 1) * len(steps))
        yield {name: between([truth.part(k) for k in each]) for name, truth in found.items()}


def between(around):
    """The truth of one quantity from those at the steps: each side goes on in a line to where rounding may move the break."""
    here, *sides = (one.high for one in around[:5])
    ends = np.stack([here, *sides[:2], *(3 * near - 2 * far for near, far in zip(sides[:2], sides[2:]))])
    unit = np.maximum(around[5].unit, around[6].unit)
    return replace(around[0], unit=unit, least=ends.min(0), most=ends.max(0))


# -- bins -------------------------------------------------------------------------------------------------------------

def steeper(f):
    """The page with each power of its slopes, where it has a slope for each knot: every other knot is flat."""
    slopes = {key: getattr(f, key) for key, field in f.declared.items()
              if isinstance(field, Field) and field.set.name == positive.name and field.shape and getattr(f, key) is not None}
    changed = [{key: alternating(value) ** power for key, value in slopes.items()} for power in POWERS]
    return [f.replace(**fields) for fields in changed] if slopes else [f]


def alternating(slopes):
    """Slopes whose logarithms have the same size, and every other sign."""
    size = np.maximum(slopes, 1 / slopes)
    return np.where(np.arange(len(slopes)) % 2 == 0, size, 1 / size)


@np.errstate(all="ignore")
def bin_points(f, dtype, side, source):
    """One question at many numbers of all bins."""
    ends = breaks_on(f, side).astype(dtype).astype(np.float64)
    found = np.array([number for low, high in zip(ends, ends[1:]) for number in numbers_of(low, high, dtype, source)])
    event = np.unique(found.astype(dtype))
    event = event[set_of(f, side).members(event, 0)] if event.size else event
    if event.size:
        yield Point(f, side, event, case="a bin", reason="numbers all through it, and next to its knots", lead=1)


def numbers_of(low, high, dtype, source):
    """Numbers of a bin: drawn, at all distances from its ends, and the floats at and next to them."""
    shares = (high - low) * source.numbers((2, INSIDE), -BINADES, 0)
    floats = np.spacing(np.abs(np.array([low, high], dtype))).astype(np.float64)[:, None] * np.arange(NEXT)
    return np.concatenate((low + shares[0], high - shares[1], low + floats[0], high - floats[1]))
