"""The contract of a parametrisation: a map from unconstrained vectors to the fields of a bijector.

Libraries agree on the bijectors and differ in these maps; there is one for each convention.
"""

from __future__ import annotations

import numpy as np

from ...core import Value, real
from ...core.arrays import as_floating
from ...core.boundary import own_function, published
from ...core.registry import registered
from ...core.values import declare

__all__ = ["Map"]


def value(cls):
    """Declare a value that only pages use, behind their checks."""
    return declare(cls)


VJP_DOC = """(fields, pullback) of vectors h (..., P); `pullback(fields_bar)` -> (h_bar, params_bar)."""


def of_numbers(function, self, h):
    """The public form of `vjp`: it refuses by name what is not vectors of P numbers, and its pullback keeps a copy of them."""
    name = type(self).__name__
    given, _ = as_floating(f"{name}: h", h)
    if given.shape[-1:] != (self.size,):
        raise ValueError(f"{name}: h must be (..., {self.size}), the {self.size} numbers that a network gives for one map, not of "
                         f"shape {given.shape}; a Coupling or an Autoregressive with a Family of this map passes them")
    dtype = np.result_type(given, self.dtype or given)
    with np.errstate(all="ignore"):
        fields, pullback = function(self.unchecked(dtype), given.astype(dtype))

    def quiet(fields_bar):
        with np.errstate(all="ignore"):
            return pullback(fields_bar)

    return {key: held.copy() if isinstance(held, np.ndarray) else held for key, held in fields.items()}, quiet


def parametrisation(*, source="", register=True, **facts):
    """Declare a page: a parametrisation, who uses it, and facts about it."""

    def publish(page):
        page = value(page)
        for fact, held in {"source": source, **facts}.items():
            setattr(page, fact, held)
        page.vjp = published(own_function(page, "vjp"), of_numbers, VJP_DOC)
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
