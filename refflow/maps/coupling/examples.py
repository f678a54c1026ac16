"""Families of elementwise maps from a `Source`: used to draw couplings and autoregressive maps."""

from __future__ import annotations

from ..elementwise import Affine, ExpScale, Power, ScaledAffine, SoftplusScale
from ..elementwise.examples import convention
from ..parametrisations import Free, GatedLocationScale, PerField
from .family import Family, affine_family


def any_family(source):
    """A scale and a shift of every convention, with or without parameters of its own, or a map with other fields."""
    return source.choice((lambda: affine_family(convention(source, 0)), lambda: affine_family(convention(source, 1)),
                          lambda: Family(ScaledAffine, GatedLocationScale()),
                          lambda: Family(Power, PerField(("exponent",), (SoftplusScale(floor=0.1),))),
                          lambda: Family(Affine, PerField(("scale", "shift"), (ExpScale(), Free())))))()
