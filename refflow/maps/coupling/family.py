"""Families: an elementwise bijector `x = f(z; fields(h))` whose fields are functions of an unconstrained vector `h`.

For each entry of an event: `z` (*batch, *event), `h` (*batch, *event, `P`), `P` last.  A family is a class of bijectors and
a map from `h` to its fields.  They are separate because libraries agree on the first and differ in the second.

A scale may have a gain for each channel of an event; an entry then uses its channel's gain.

If the ends of a bijector's domain follow from its fields, as for a spline without tails, the map must give the same ends at
every h.
"""

from __future__ import annotations

import functools

import numpy as np

from ...core import Value, child, plain, tree
from ...core.declarations import Child, Field
from ...core.words import each, passed_on
from ..elementwise import Affine, ScaledAffine, ScaledShift
from ..parametrisations import Free, LocationScale, PerField
from ..parametrisations.parametrisation import Map, value
from .coupling import AffineForm

__all__ = ["additive_family", "affine_family"]

CHANNELS = ("C",)           # the shape of a field that has a number for each channel of an event


def lifted(given, ndim, channels=None):
    """An unchecked copy whose fields' batch axes are followed by `ndim` more axes, the axes of an event of scalars.

    A field with a number for each channel gets one for each entry: the number of its channel, given by `channels`.
    """
    def lift(path, field, held, _):
        if field.shape == CHANNELS:
            return held[..., channels]
        split = held.ndim - len(field.shape)
        return held if field.constant else held.reshape(held.shape[:split] + (1,) * ndim + held.shape[split:])

    plain = channels is None and given.parameter_batch == ()        # single numbers already broadcast
    return given if plain else tree.mapped(given, lift)


def lowered(bars, given, channels=None):
    """Cotangents of a lifted view's fields in the shapes of the fields of `given`."""
    return {key: lowered_field(bar, given.declared[key], getattr(given, key), channels) for key, bar in bars.items()}


def lowered_field(bar, field, held, channels):
    if isinstance(field, Child):
        return ({i: lowered(inner, held[int(i)], channels) for i, inner in bar.items()} if field.many
                else lowered(bar, held, channels))
    if field.shape != CHANNELS:
        return np.reshape(bar, held.shape)
    total = np.zeros_like(held)
    np.add.at(total, (..., channels), bar)
    return total


class OfChannel:
    """A scale with gains, as the definition of an entry of channel `k` sees it."""

    def __init__(self, scale, k):
        self.scale, self.k = scale, k

    def definition(self, m, s):
        return self.scale.definition(m, [s] * self.scale.gains.shape[-1])[self.k]


@value
class Family(Value):
    """The bijectors of one elementwise class, indexed by h through a map."""

    bijector: type = plain()
    map: Map = child()

    size = property(lambda self: self.map.size)
    channels = property(lambda self: self.map.channels)         # how many channels have gains, None for a family without gains

    @functools.cached_property
    def domain(self):
        return self.reached("domain")

    @functools.cached_property
    def codomain(self):
        return self.reached("codomain")

    def _validate(self):
        super()._validate()
        if self.bijector.event_ndim != (0, 0):
            raise ValueError(f"Family: bijector must be a map of scalars, {self.bijector.__name__} is not")
        for side in ("domain", "codomain"):
            here, there = (self.reached(side, i) for i in (0, 1))
            if (here.lower, here.upper) != (there.lower, there.upper):
                raise ValueError(f"Family: the {side} of {self.bijector.__name__} must not depend on h, because a map of "
                                 f"events has one {side}; it is {here} at h = 0 and {there} elsewhere")

    def reached(self, side, h=0):
        """The set on a side of the family's bijectors, from the one at h, if it follows from their fields."""
        where = getattr(self.bijector, side)
        if not isinstance(where, property):
            return where
        fields, _ = self.map.vjp(np.full(self.size, float(h)) * (-1.0) ** np.arange(self.size))
        return getattr(tree.bare(self.bijector, **fields), side)

    def affine_form(self, layout, channels=None):
        """The maps' affine form, with a scale of a convention or without a scale; None if the maps are not affine."""
        if self.bijector is Affine and self.map.names == ("shift",) and isinstance(self.map.scales[0], Free):
            return AffineForm(None, None, 0, layout)
        if self.bijector not in (ScaledAffine, ScaledShift) or not isinstance(self.map, LocationScale):
            return None
        s, t = (self.map.order.index(name) for name in ("scale", "shift"))
        return AffineForm(self.map.scale, s, t, layout, self.bijector is ScaledShift, channels, ("family", "map", "scale"))

    @staticmethod
    def definition(m, z, h, channel=None, *, bijector, map):
        fields = {key: passed_on(m, v) for key, v in unmapped(bijector, map).items()}
        fields |= {key: each(lambda v: passed_on(m, v), v) if key in map.names else v for key, v in map.definition(m, h).items()}
        if map.channels is not None:
            fields["scale"] = OfChannel(fields["scale"], channel)
        return bijector.definition(m, z, **fields)

    def handed_on(self, fields):
        """The fields, as the bijector gets them."""
        return fields

    def at_values(self, h, ndim, channels=None):
        """(f, pullback): the unchecked bijector at h (*batch, *event, P), where `ndim` counts the axes of the event.

        `channels`: the number of each entry's channel, an array that broadcasts with the event, if channels have gains.
        `pullback(fields_bar)` -> (h_bar, params_bar), params_bar with the shapes of this family's parameters.
        """
        fields, map_pullback = lifted(self.map, ndim, channels).vjp(h)
        constants = {key: np.asarray(default, h.dtype) for key, default in unmapped(self.bijector, self.map).items()}
        f = tree.bare(self.bijector, **self.handed_on(constants | fields))

        def pullback(fields_bar):
            h_bar, map_bar = map_pullback(fields_bar)
            return h_bar, {"map": lowered(map_bar, self.map, channels)}

        return f, pullback


def unmapped(bijector, map):
    """{name: default} of a bijector's numbers that a map does not give."""
    return {key: field.default for key, field in bijector.declared.items()
            if isinstance(field, Field) and field.default is not None and key not in map.names}


def additive_family():
    """x = z + shift; h = (shift,)."""
    return Family(Affine, PerField(("shift",), (Free(),)))


def affine_family(scale, order=("scale", "shift"), shift_first=False):
    """x = scale(s) z + shift, or with `shift_first` x = scale(s) (z + shift); h = (s, shift) or the other order."""
    return Family(ScaledShift if shift_first else ScaledAffine, LocationScale(scale, order))
