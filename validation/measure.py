"""How many units of rounding error a bijector's methods are from the truth, at given points.

    from refflow import Tanh
    measure(Tanh(), z=1e-9, x_bar=1.0, log_det_bar=1.0)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refflow.core.fields import Child, Field
from refflow.oracle.quantities import forward_quantities, inverse_quantities

from .truth import Problem, error, forward_truth, inverse_truth, norm


def problem(f) -> Problem:
    """The believed equation of one bijector with one event's parameters, its fields as exact numbers."""
    fields, constants = {}, set()
    for key, field in f.declared.items():
        value = getattr(f, key)
        if isinstance(field, Child):
            raise ValueError(f"{type(f).__name__}: components are certified on their own, {key} is one")
        if isinstance(field, Field) and value is not None:
            core = value.reshape(value.shape[value.ndim - len(field.shape):])
            fields[key] = core.tolist()
        else:
            fields[key] = value
        if not isinstance(field, Field) or field.constant:
            constants.add(key)
    return Problem(f.definition, fields, frozenset(constants), getattr(f, "inverse_definition", None), None, f.normwise,
                   inside(f.domain))


def inside(domain):
    """Membership of an interval for exact numbers: a definition may extend past its domain, its inverse may not."""
    if domain.lower == -np.inf and domain.upper == np.inf:
        return None
    return lambda z: all(domain.lower < v < domain.upper for v in z)


def charted(f, p, shape):
    """The problem with the chart of an event of this shape, where the dimensions differ."""
    if p.inverse_definition is None:
        return p
    return replace(p, chart=tuple(int(i) for i in f.chart(shape)))


def truth_at_z(f, z, x_bar=None, log_det_bar=None):
    z = np.asarray(z)
    return forward_truth(charted(f, problem(f), z.shape), z, x_bar, log_det_bar, z.dtype)


def truth_at_x(f, x, z_bar=None, log_det_bar=None):
    x = np.asarray(x)
    p = charted(f, problem(f), f.input_shape(x.shape))
    return inverse_truth(p, x, z_bar, log_det_bar, f.inverse(x), x.dtype)


def compared(given, truth, dtype):
    """{quantity: (C, the largest kappa/|q|)}."""
    return {name: (error(given[name], quantity, dtype), conditioning(quantity)) for name, quantity in truth.items()}


def conditioning(quantity):
    """The largest kappa/|q| over the entries; normwise, kappa/||q||."""
    sizes = [norm(quantity.value)] * len(quantity.value) if quantity.normwise else [abs(q) for q in quantity.value]
    return max((float(k / q) if q > 0 else np.inf if k > 0 else 1.0 for q, k in zip(sizes, quantity.kappa)), default=1.0)


def measure(f, z=None, x=None, x_bar=None, z_bar=None, log_det_bar=None, dtype=np.float64) -> dict:
    """{quantity: (C, kappa/|q|)} of one bijector at a z, an x, or both; the parameters are those of one event."""
    f, found = f.astype(dtype), {}
    if z is not None:
        z = np.asarray(z, dtype)
        given = forward_quantities(f, z, x_bar, log_det_bar)
        found |= compared(given, truth_at_z(f, z, x_bar, log_det_bar), dtype)
    if x is not None:
        x = np.asarray(x, dtype)
        given = inverse_quantities(f, x, z_bar, log_det_bar)
        found |= compared(given, truth_at_x(f, x, z_bar, log_det_bar), dtype)
    return found
