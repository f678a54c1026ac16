"""The search that climbs from the worst points of a page to worse ones nearby.

Each step moves the event, the parameters or the cotangents of a point: all of an array's entries by a random factor near 1,
or one entry to a neighbouring float.  A step is kept if the error grows.  The budget is a number of steps for each starting
point, or a multiple of it; the steps are the same every time.
"""

from __future__ import annotations

import hashlib

import numpy as np

from refflow.accuracy.drawing import Point, set_of

from .drawn import EVENTS, PARAMETERS, belongs

STEPS = {"scalar": 64, "structured": 24}            # for each starting point
NEAR = (2, 6, 10, 16, 24)                           # factors are 1 +- 2^-n


def climbed(point, measure, height, seed, longer=1):
    """(point, its measurement) whenever its `height(point, measured)` exceeds all before; the last is the highest.

    `longer` multiplies the number of steps.
    """
    rng = np.random.default_rng(list(hashlib.sha256(seed.encode()).digest()))
    best, highest = point, height(point, measure(point))
    structured = point.event.ndim or point.f.components() or point.f.moderate
    for _ in range(STEPS["structured" if structured else "scalar"] * longer):
        beside = moved(best, rng)
        if beside is None:
            continue
        measured = measure(beside)
        if height(beside, measured) > highest:
            best, highest = beside, height(beside, measured)
            yield beside, measured


def moved(point, rng) -> Point | None:
    """A point near another one; None if it is outside the certified range."""
    kinds = [with_event] * 2 + [with_parameters] * bool(point.f.ravel().size) + [with_bars] * (point.image_bar is not None)
    return kinds[rng.integers(len(kinds))](point, rng)


def with_event(point, rng):
    """The same with a moved event."""
    event, limits = nudged(point.event, rng), EVENTS["wide"][point.dtype.name]
    return point.changed(event=event) if within(event, *limits) and belongs(set_of(point.f, point.side), event) else None


def with_bars(point, rng):
    """The same with moved cotangents."""
    bars = {key: nudged(getattr(point, key), rng) for key in ("image_bar", "log_det_bar") if getattr(point, key) is not None}
    spread = PARAMETERS[point.dtype.name]
    return point.changed(**bars) if all(within(bar, -spread, spread) for bar in bars.values()) else None


def with_parameters(point, rng):
    """The same with moved parameters, if their sets allow it and the event is still a member."""
    moved_vector, spread = nudged(point.f.ravel(), rng), PARAMETERS[point.dtype.name]
    if not within(moved_vector, -spread, spread):
        return None
    try:
        f = point.f.unravel(moved_vector)
    except ValueError:
        return None
    return point.changed(f=f) if belongs(set_of(f, point.side), point.event) else None


def nudged(array, rng):
    """The array with each entry times a factor near 1, or with one entry at the float above or below it."""
    array = np.asarray(array)
    if rng.random() < 0.5 or not array.size:
        factors = 1 + rng.uniform(-1, 1, array.shape) * 2.0 ** -rng.choice(NEAR)
        return (array * factors).astype(array.dtype)
    flat = array.copy().reshape(-1)
    i = rng.integers(flat.size)
    flat[i] = np.nextafter(flat[i], flat.dtype.type(rng.choice([-np.inf, np.inf])))
    return flat.reshape(array.shape)


def within(array, low, high):
    """Do all nonzero entries have magnitudes 2^low .. 2^high?"""
    size = np.abs(array[array != 0])
    return bool(np.all((size >= 2.0 ** low) & (size <= 2.0 ** high)))
