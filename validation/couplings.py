"""The truth of bijectors that hold components: couplings with their conditioners, scales with their conventions.

    from refflow.coupling import AffineCoupling
    measure(AffineCoupling(mask, net, ExpScale()), z=[1.0, 2.0], x_bar=[1.0, 0.0], log_det_bar=1.0)

The fields of all components become fields of one problem, named by their paths ("net.0.W"); a context is one field, however
many components share it.
"""

from __future__ import annotations

import numpy as np

from refflow.core.fields import Child, Field, flatten

from .measure import compared, inside
from .truth import Problem, forward_truth, inverse_truth


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
            fields[path] = (held if field.constant else held.reshape(core)).tolist()
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
    """The believed equation of a square bijector with components, at one event's parameters."""
    fields, constants = gathered(f)
    return Problem(lambda m, z, **given: f.definition(m, z, **bound(f, given)), fields, frozenset(constants),
                   normwise=f.normwise, inside=inside(f.domain))


def quantities(f, side, event, image_bar, log_det_bar):
    """What f's own methods say, by the names of the truth."""
    method, event_name = (f.vjp, "vjp.z_bar") if side == "forward" else (f.inverse_vjp, "inverse_vjp.x_bar")
    (image, log_det), pullback = method(event)
    found = {"forward": image, "log_det": log_det, "jacobian": f.jacobian(event)} if side == "forward" else {
        "inverse": image, "inverse_log_det": log_det}
    if image_bar is None:
        return found
    event_bar, params_bar = pullback(image_bar, log_det_bar)
    prefix = event_name.split(".")[0]
    return found | {event_name: event_bar} | {f"{prefix}.{'.'.join(path)}_bar": bar for path, bar in flatten(params_bar)}


def measure(f, z=None, x=None, x_bar=None, z_bar=None, log_det_bar=None, dtype=np.float64) -> dict:
    """{quantity: (C, kappa/|q|)} at a z, an x, or both."""
    f, found = f.astype(dtype), {}
    if z is not None:
        z = np.asarray(z, dtype)
        truth = forward_truth(problem(f), z, x_bar, log_det_bar, dtype)
        found |= compared(quantities(f, "forward", z, x_bar, log_det_bar), truth, dtype)
    if x is not None:
        x = np.asarray(x, dtype)
        truth = inverse_truth(problem(f), x, z_bar, log_det_bar, f.inverse(x), dtype)
        found |= compared(quantities(f, "inverse", x, z_bar, log_det_bar), truth, dtype)
    return found
