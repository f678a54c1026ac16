"""Words of the pages whose inverse is found by a solver."""

from __future__ import annotations

import numpy as np
from scipy.optimize import elementwise


def increasing_root(function, lower, upper):
    """The root in [lower, upper] of an increasing function for each entry, to its last unit; arrays of one axis.

    `function(x, i)` is the value of the functions number i at x.  The bracket is narrowed by Chandrupatla's method until
    no float but its ends is left, or the function is 0.  Raises ArithmeticError where the ends do not bracket a root.
    """
    limits = np.finfo(lower.dtype)
    tolerances = {"xatol": limits.smallest_subnormal, "xrtol": limits.eps, "fatol": 0, "frtol": 0}
    found = elementwise.find_root(function, (lower, upper), args=(np.arange(lower.size),), tolerances=tolerances)
    if not np.all(found.success):
        i = int(np.argmin(found.success))
        raise ArithmeticError(f"no root between {lower[i]} and {upper[i]}")
    return found.x
