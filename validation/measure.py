"""How many units of rounding error a bijector's methods are from the truth, at given points; a conditioner's likewise.

    from refflow import Tanh
    measure(Tanh(), z=1e-9, x_bar=1.0, log_det_bar=1.0)
    from refflow.maps.conditioners import ReLU
    measure(ReLU(), a=0.5, h_bar=1.0)

Quantities of a conditioner: forward, jacobian, vjp.a_bar and vjp.<field>_bar, at events a and cotangents h_bar.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refflow.core import Bijector
from refflow.core.declarations import Child, Field
from refflow.core.tree import flatten
from refflow.accuracy.quantities import forward_quantities, inverse_quantities

from .truth import Problem, TruthNotFound, error, forward_truth, inverse_truth, norm


class Bound:
    """A component with its fields filled in, as definitions see it."""

    def __init__(self, value, fields):
        self.value, self.fields = value, fields

    def __getattr__(self, name):
        return getattr(self.value, name)

    def definition(self, m, *event):
        return self.value.definition(m, *event, **self.fields)


def path_of(prefix, key):
    return key if key == "context" else f"{prefix}{key}"


def gathered(value, prefix=""):
    """({path: nested numbers}, the paths that are not parameters) of a value and its components."""
    fields, constants = {}, set()
    for key, field in value.declared.items():
        held, path = getattr(value, key), path_of(prefix, key)
        if isinstance(field, Child):
            for name, component in enumerate(held) if field.many else [("", held)]:
                inner, inner_constants = gathered(component, f"{path}.{name}." if field.many else f"{path}.")
                fields, constants = fields | inner, constants | inner_constants
        elif isinstance(field, Field) and held is not None:
            core = held.shape[held.ndim - len(field.shape):]
            fields[path] = (held if field.constant and not field.shape else held.reshape(core)).tolist()
            constants |= {path} if field.constant else set()
    return fields, constants


def bound(value, fields, prefix=""):
    """The keyword arguments of a value's definition, from fields by path."""
    found = {}
    for key, field in value.declared.items():
        held, path = getattr(value, key), path_of(prefix, key)
        if isinstance(field, Child) and field.many:
            found[key] = [Bound(c, bound(c, fields, f"{path}.{i}.")) for i, c in enumerate(held)]
        elif isinstance(field, Child):
            found[key] = Bound(held, bound(held, fields, f"{path}."))
        else:
            found[key] = fields.get(path, held) if isinstance(field, Field) else held
    return found


def problem(f) -> Problem:
    """The believed equation of a bijector or conditioner with one event's parameters, as exact numbers.

    Fields of components are named by their paths ("net.layers.0.W"); a context is one field, however many share it.
    """
    def with_fields(definition):
        return lambda m, event, **given: definition(m, event, **bound(f, given))

    fields, constants = gathered(f)
    inverse = getattr(f, "inverse_definition", None)
    return Problem(with_fields(f.definition), fields, frozenset(constants), inverse and with_fields(inverse), None,
                   f.normwise, inside(f.domain), isinstance(f, Bijector))


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


def truth_at_a(net, a, h_bar=None):
    """The truth of a conditioner; where it is not all settled, TruthNotFound holds what is."""
    def named(found):
        return {name.replace("vjp.z_bar", "vjp.a_bar"): quantity for name, quantity in found.items()}

    try:
        return named(forward_truth(problem(net), a, h_bar, None, a.dtype))
    except TruthNotFound as partly:
        raise TruthNotFound(str(partly), named(partly.settled)) from None


def network_quantities(net, a, h_bar=None):
    """What a conditioner's own methods say, by the names of the truth."""
    h, pullback = net.vjp(a)
    found = {"forward": h, "jacobian": net.jacobian(a)}
    if h_bar is None:
        return found
    a_bar, params_bar = pullback(h_bar)
    return found | {"vjp.a_bar": a_bar} | {f"vjp.{'.'.join(path)}_bar": bar for path, bar in flatten(params_bar)}


def compared(given, truth, dtype):
    """{quantity: (C, the largest kappa/|q|)}."""
    return {name: (error(given[name], quantity, dtype), conditioning(quantity)) for name, quantity in truth.items()}


def conditioning(quantity):
    """The largest kappa/|q| over the entries; normwise, kappa/||q||."""
    sizes = [norm(quantity.value)] * len(quantity.value) if quantity.normwise else [abs(q) for q in quantity.value]
    return max((float(k / q) if q > 0 else np.inf if k > 0 else 1.0 for q, k in zip(sizes, quantity.kappa)), default=1.0)


def measure(f, z=None, x=None, x_bar=None, z_bar=None, log_det_bar=None, a=None, h_bar=None, dtype=np.float64) -> dict:
    """{quantity: (C, kappa/|q|)} of one bijector at a z, an x, or both, or of one conditioner at an a.

    The parameters are those of one event.
    """
    f, found = f.astype(dtype), {}
    if z is not None:
        z = np.asarray(z, dtype)
        given = forward_quantities(f, z, x_bar, log_det_bar)
        found |= compared(given, truth_at_z(f, z, x_bar, log_det_bar), dtype)
    if x is not None:
        x = np.asarray(x, dtype)
        given = inverse_quantities(f, x, z_bar, log_det_bar)
        found |= compared(given, truth_at_x(f, x, z_bar, log_det_bar), dtype)
    if a is not None:
        a = np.asarray(a, dtype)
        found |= compared(network_quantities(f, a, h_bar), truth_at_a(f, a, h_bar), dtype)
    return found
