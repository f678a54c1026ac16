"""Words of the pages whose inverse is found by a solver."""

from __future__ import annotations

import numpy as np


def increasing_root(function, lower, upper):
    """The root in [lower, upper] of an increasing function for each entry, to the last unit; arrays have one axis.

    `function(x, i)` is the value at x of the functions numbered i.  The bracket is narrowed by Chandrupatla's method until
    no float is left between its ends, or the function is 0.  Raises ArithmeticError if the ends do not bracket a root.
    """
    from scipy.optimize import elementwise              # here, because this takes as long as importing refflow

    limits = np.finfo(lower.dtype)
    # a bracket must be narrower than x times this: the neighbours of a power of 2 are apart by exactly x times eps
    width = np.nextafter(limits.eps, lower.dtype.type(1))
    tolerances = {"xatol": limits.smallest_subnormal, "xrtol": width, "fatol": 0, "frtol": 0}
    found = elementwise.find_root(function, (lower, upper), args=(np.arange(lower.size),), tolerances=tolerances)
    if not np.all(found.success):
        i = int(np.argmin(found.success))
        raise ArithmeticError(f"no root between {lower[i]} and {upper[i]}")
    return found.x
