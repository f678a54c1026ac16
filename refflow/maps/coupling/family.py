"""Families: an elementwise bijector `x = f(z; fields(h))` whose fields are functions of an unconstrained vector `h`.

For each entry of an event: `z` of `(*batch, *event)`, `h` of `(*batch, *event, P)`, `P` last.  A family is a class of
bijectors and a map from `h` to its fields.  The two are apart because libraries share the first and differ in the second.
"""

from __future__ import annotations

import numpy as np

from ...core import Value, child, plain, tree
from ..elementwise import ScaledAffine
from ..parametrisations import LocationScale
from ..parametrisations.parametrisation import Map, value

__all__ = ["affine_family"]


def lifted(given, ndim):
    """An unchecked copy whose fields' batch axes stand in front of `ndim` more axes: those of an event of scalars."""
    def lift(path, field, held, _):
        split = held.ndim - len(field.shape)
        return held if field.constant else held.reshape(held.shape[:split] + (1,) * ndim + held.shape[split:])

    return tree.mapped(given, lift)


def lowered(bars, params):
    """Cotangents of a lifted view's fields in the shapes of `params`."""
    return {key: lowered(bar, params[key]) if isinstance(bar, dict) else np.reshape(bar, params[key].shape)
            for key, bar in bars.items()}


@value
class Family(Value):
    """The bijectors of one elementwise class, indexed by h through a map."""

    bijector: type = plain()
    map: Map = child()

    size = property(lambda self: self.map.size)
    domain = property(lambda self: self.bijector.domain)
    codomain = property(lambda self: self.bijector.codomain)

    def _validate(self):
        super()._validate()
        if self.bijector.event_ndim != (0, 0):
            raise ValueError(f"Family: bijector must be a map of scalars, {self.bijector.__name__} is not")

    @staticmethod
    def definition(m, z, h, bijector, map):
        return bijector.definition(m, z, **map.definition(m, h))

    def at_values(self, h, ndim):
        """(f, pullback): the unchecked bijector at h (*batch, *event, P), `ndim` the axes of the event.

        `pullback(fields_bar)` -> (h_bar, params_bar), params_bar with the shapes of this family's parameters.
        """
        fields, map_pullback = lifted(self.map, ndim).vjp(h)
        f = tree.bare(self.bijector, **fields)

        def pullback(fields_bar):
            h_bar, map_bar = map_pullback(fields_bar)
            return h_bar, {"map": lowered(map_bar, self.map.params())}

        return f, pullback


def affine_family(scale, order=("scale", "shift")):
    """x = scale(s) z + shift with h = (s, shift), or the other order."""
    return Family(ScaledAffine, LocationScale(scale, order))
