"""Claims about maps from sets of lower dimension: their Jacobians and event cotangents are compared along tangents of the set.

How a formula extends beyond the set is the page's choice: a page claims nothing about the components across it.
"""

from __future__ import annotations

import numpy as np
from flint import arb, ctx

from .balls import ball
from .engine import error, norm, short_of


def along(numbers, F, size=lambda f: f):
    """F^T q for each row of numbers q; |F|^T q with size=abs."""
    rows = [numbers[i:i + len(F)] for i in range(0, len(numbers), len(F))]
    return [sum((q * size(f[j]) for q, f in zip(row, F)), arb(0)) for row in rows for j in range(len(F[0]))]


def error_of_claim(given, quantity, dtype):
    """The error of `truth.error` or, if the quantity is claimed along tangents alone, along these."""
    return error_along(given, quantity, dtype) if quantity.tangents else error(given, quantity, dtype)


def error_along(given, quantity, dtype):
    """C with the difference F^T (given - true) and the unit u |F|^T kappa."""
    given, limits = np.asarray(given), np.finfo(dtype)
    if given.shape != quantity.shape:
        raise ValueError(f"shape {given.shape}, expected {quantity.shape}")
    with ctx.workdps(100):
        u, s = ball(limits.eps) / 2, ball(limits.smallest_subnormal)
        overflow = arb(2) ** int(limits.maxexp) * (1 - u / 2)
        apart = []
        for g, true, k in zip(given.ravel().tolist(), quantity.value, quantity.kappa):
            short = None if np.isfinite(g) else short_of(g, true, (u * k).mid(), overflow)
            if short is None and not np.isfinite(g):
                return np.inf
            apart.append(ball(g) - true if short is None else int(np.sign(g)) * short)
        distance = along(apart, quantity.tangents)
        room = along([u * k for k in quantity.kappa], quantity.tangents, abs)
        if quantity.normwise and distance:
            distance, room = [norm(distance)], [max(r.mid() for r in room)]
        return max((float(abs(d).mid() / max(r.mid(), s)) for d, r in zip(distance, room)), default=0.0)


def along_tangents(quantity):
    """(value, kappa) along the tangents of a quantity; what cancels to 0 has no digits that could be lost, and its kappa is 0."""
    value, kappa = along(quantity.value, quantity.tangents), along(quantity.kappa, quantity.tangents, abs)
    return value, [arb(0) if q.contains(0) else k for q, k in zip(value, kappa)]
