"""Words of the pages whose inverse is found by a solver."""

from __future__ import annotations

import numpy as np
from scipy.optimize import elementwise


def increasing_root(function, lower, upper):
    """The root in [lower, upper] of an increasing function for each entry, to the last unit; arrays have one axis.

    `function(x, i)` is the value at x of the functions numbered i.  The bracket is narrowed by Chandrupatla's method until
    no float is left between its ends, or the function is 0.  Raises ArithmeticError if the ends do not bracket a root.
    """
    limits = np.finfo(lower.dtype)
    tolerances = {"xatol": limits.smallest_subnormal, "xrtol": limits.eps, "fatol": 0, "frtol": 0}
    found = elementwise.find_root(function, (lower, upper), args=(np.arange(lower.size),), tolerances=tolerances)
    if not np.all(found.success):
        i = int(np.argmin(found.success))
        raise ArithmeticError(f"no root between {lower[i]} and {upper[i]}")
    return found.x


def with_unit_weights(fields):
    """The fields of a mixture after a change of precision: float32 weights must sum to 1 in float64 too."""
    return fields | {"weights": fields["weights"] / fields["weights"].sum(-1, keepdims=True)}


def flattened(x, *fields):
    """x as (n,), and fields (*batch, K) as (n, K)."""
    return x.reshape(-1), *(np.broadcast_to(v, x.shape + v.shape[-1:]).reshape(-1, v.shape[-1]) for v in fields)
