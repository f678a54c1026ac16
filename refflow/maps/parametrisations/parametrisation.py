"""The contract of a parametrisation: a map from unconstrained vectors to the fields of an elementwise bijector.

Libraries agree on the bijectors and differ in these maps; there is one for each convention.
"""

from __future__ import annotations

from ...core import Value, real
from ...core.registry import registered
from ...core.values import declare

__all__ = ["Map"]


def value(cls):
    """Declare a value that only pages use, behind their checks."""
    return declare(cls)


def parametrisation(*, source="", register=True, **facts):
    """Declare a page: a parametrisation, who uses it, and facts about it."""

    def publish(page):
        page = value(page)
        for fact, held in {"source": source, **facts}.items():
            setattr(page, fact, held)
        return registered(page) if register else page

    return publish


class Map(Value):
    """From vectors h (..., P) to fields {name: (..., *core)}.

    `size` is P; `names` are the fields that are computed from h, and `cores` their core shapes, as in a bijector's declaration:
    () for a number, (K+1,) for knots; `vjp(h)` -> (fields, pullback), `pullback(fields_bar)` -> (h_bar, params_bar);
    `definition(m, h, **own)` -> {name: number or list}, where h is a list of P numbers.  A field that is a component of the
    map, or a plain value, is handed on unchanged; the cotangent of a component comes back unchanged.
    """

    kind = "parametrisation"
    letters = "h"
    domain = real
    source = ""
    normwise = False
    hard_cases = ()  # type: tuple
    cores = property(lambda self: ((),) * len(self.names))
    channels = None             # how many channels have their own gains, if the scale has gains


def checked_order(name, order):
    """("scale", "shift") or ("shift", "scale")."""
    order = tuple(order)
    if sorted(order) != ["scale", "shift"]:
        raise ValueError(f"{name}: order must be ('scale', 'shift') or ('shift', 'scale'), not {order}")
    return order
