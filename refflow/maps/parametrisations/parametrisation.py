"""The contract of a parametrisation: a map from unconstrained vectors to the fields of an elementwise bijector.

Libraries share the bijectors and differ in these maps, one for each of their conventions.
"""

from __future__ import annotations

from ...core import Value, real
from ...core.registry import registered
from ...core.values import declare

__all__ = ["Map"]


def value(cls):
    """Declare a value that is used by pages alone, behind their checks."""
    return declare(cls)


def parametrisation(*, source="", register=True):
    """Declare a page: a parametrisation, and who has it."""

    def publish(page):
        page = value(page)
        page.source = source
        return registered(page) if register else page

    return publish


class Map(Value):
    """From vectors h (..., P) to fields {name: (...)}.

    `size` is P and `names` the fields that are numbers, made of h; `vjp(h)` -> (fields, pullback), `pullback(fields_bar)` ->
    (h_bar, params_bar); `definition(m, h, **own)` -> {name: number}, h being a list of P numbers.  A field that is a component
    of the map is handed on as it is, and so is its cotangent.
    """

    kind = "parametrisation"
    letters = "h"
    domain = real
    source = ""
    normwise = False
    hard_cases = ()
    channels = None             # how many channels have gains of their own, in a map with such a scale


def checked_order(name, order):
    """("scale", "shift") or ("shift", "scale")."""
    order = tuple(order)
    if sorted(order) != ["scale", "shift"]:
        raise ValueError(f"{name}: order must be ('scale', 'shift') or ('shift', 'scale'), not {order}")
    return order
