"""What a page with a solver owes to the solver's last digits: how far its inverse moves when these are missing."""

from __future__ import annotations

import contextlib

import numpy as np
from scipy.optimize import elementwise

from refflow.accuracy.kappa import kappa_inverse

LOOSE, EXACT = 1e-7, 2.0**-52 * (1 + 2.0**-52)      # relative widths of a bracket of float64 at which a solver is content


@contextlib.contextmanager
def solver_of(width):
    """All solvers stop at a bracket of this relative width, whatever their pages ask for."""
    solver = elementwise.find_root

    def content(function, ends, *, args, tolerances):
        return solver(function, ends, args=args, tolerances=tolerances | {"xrtol": width})

    elementwise.find_root = content
    try:
        yield
    finally:
        elementwise.find_root = solver


@np.errstate(all="ignore")
def moved_by_a_loose_solver(f, z):
    """(by how many units the inverse moves, x) where it moves most, among the images x of events z; (0, None) without one."""
    x = f.forward(z)
    inside = f.codomain.members(x, f.event_ndim[1]) & np.isfinite(x).all(tuple(range(1, x.ndim)))
    if not inside.any():
        return 0.0, None
    x = x[inside]
    with solver_of(EXACT):
        exact = f.inverse(x)
    with solver_of(LOOSE):
        loose = f.inverse(x)
    units = np.abs(loose - exact) / (2.0**-53 * kappa_inverse(f, x)["inverse"])
    worst = np.nanmax(units.reshape(len(x), -1), -1, initial=0)
    return float(worst.max()), x[np.argmax(worst)]
