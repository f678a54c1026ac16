"""The contract of a parametrisation: a map from unconstrained vectors to the fields of an elementwise bijector.

Libraries share the bijectors and differ in these maps, one for each of their conventions.
"""

from __future__ import annotations

from ...core import Bijector, Value
from ...core.values import declare

__all__ = ["Map"]


def value(cls):
    """Declare a value that is used by pages alone, behind their checks: it is its own unchecked view."""
    cls = declare(cls)
    cls.page = cls
    return cls


def view(self, dtype):
    """The unchecked view in `dtype`."""
    return Bijector.view(self, dtype)


class Map(Value):
    """From vectors h (..., P) to fields {name: (...)}.

    `size` is P; `vjp(h)` -> (fields, pullback), `pullback(fields_bar)` -> (h_bar, params_bar); `definition(m, h, **own)`
    -> {name: number}, h being a list of P numbers.
    """

    view = view


def checked_order(name, order):
    """("scale", "shift") or ("shift", "scale")."""
    order = tuple(order)
    if sorted(order) != ["scale", "shift"]:
        raise ValueError(f"{name}: order must be ('scale', 'shift') or ('shift', 'scale'), not {order}")
    return order
