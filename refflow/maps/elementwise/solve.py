"""Words of the pages whose inverse is found by a solver."""

from __future__ import annotations

import numpy as np

from ...core import chosen


def increasing_root(function, lower, upper):
    """The root in [lower, upper] of an increasing function for each entry, to the last unit; arrays have one axis.

    `function(x, i)` is the value at x of the functions numbered i.  The bracket is narrowed by Chandrupatla's method until
    no float is left between its ends, or the function is 0.  An end beyond the floats is moved to the last float; a root that
    is then beyond an end is infinite.  Raises ArithmeticError if the ends do not bracket a root.
    """
    from scipy.optimize import elementwise              # here, because this takes as long as importing refflow

    limits = np.finfo(lower.dtype)
    lower, upper = (np.clip(end, limits.min, limits.max) for end in (lower, upper))
    far = beyond(function, lower, upper)
    if far.any():
        near = np.flatnonzero(far == 0)
        far[near] = increasing_root(lambda x, i: function(x, near[i]), lower[near], upper[near])
        return far
    # a bracket must be narrower than these: the neighbours of a power of 2 are apart by exactly x times eps, subnormal numbers by the
    # smallest one
    width = np.nextafter(limits.eps, lower.dtype.type(1))
    tolerances = {"xatol": 2 * limits.smallest_subnormal, "xrtol": width, "fatol": 0, "frtol": 0}
    found = elementwise.find_root(function, (lower, upper), args=(np.arange(lower.size),), tolerances=tolerances)
    if not np.all(found.success):
        i = int(np.argmin(found.success))
        raise ArithmeticError(f"no root between {lower[i]} and {upper[i]}")
    return found.x


def beyond(function, lower, upper):
    """inf or -inf for each entry whose root is beyond the floats, else 0; only an end at the last float is checked."""
    found = np.zeros_like(lower)
    for end, last, way in ((lower, np.finfo(lower.dtype).min, -1), (upper, np.finfo(lower.dtype).max, 1)):
        at_last = np.flatnonzero(end == last)
        if at_last.size:
            found[at_last[way * function(end[at_last], at_last) < 0]] = way * np.inf
    return found


def root_above_floor(mean_slope, x, floor):
    """The z with z mean_slope(z, i) = x for each entry of flat arrays, where the slope is at least `floor`.

    z lies between 0 and x/floor.  If x/floor is not finite, the solver searches all floats of x's sign, where the slope may
    overflow; z is infinite if it is beyond them.
    """
    widest, z = x / floor, np.empty_like(x)
    near, far = np.flatnonzero(np.isfinite(widest)), np.flatnonzero(~np.isfinite(widest))

    def excess(part, i):
        return part * mean_slope(part * widest[near[i]], near[i]) / floor[near[i]] - 1

    def distance(z, i):
        found = z * mean_slope(z, far[i]) - x[far[i]]
        return np.where(np.isnan(found), np.copysign(np.inf, x[far[i]]), found)

    z[near] = widest[near] * increasing_root(excess, np.zeros(near.size), np.full(near.size, 1 + 2.0**-10))
    if far.size:
        root = increasing_root(distance, np.where(x[far] < 0, -np.inf, 0), np.where(x[far] < 0, 0, np.inf))
        held = np.abs(distance(root, np.arange(far.size))) <= 2.0**-10 * np.abs(x[far])
        z[far] = np.where(held, root, np.copysign(np.inf, x[far]))
    return z


def newton_step(z, step):
    """z - step in pairs; z itself where the step has left the floats."""
    return chosen(np.isfinite(step.high), z - step, z)
