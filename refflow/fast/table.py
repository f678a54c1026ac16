"""The one table of tuned pages: page -> its twins.

A twin of a stage is a class with `takes(stage, side)`, which says whether it can replace that stage's view, for side 1 its
inverse, and is constructed as `twin(stage, side, path, number, space)`, a step of `likelihood`.
"""

from __future__ import annotations

from ..maps.coupling import AdditiveCoupling, AffineCoupling, Coupling
from ..maps.densities import StandardNormal
from ..maps.linear import Pointwise
from ..maps.normalization import GlowActNorm
from .couplings import TunedCoupling, TunedNormal
from .images import TunedImageCoupling, TunedMatrix, TunedNorm

COUPLINGS = (TunedCoupling, TunedImageCoupling)
TWINS = {AdditiveCoupling: COUPLINGS, AffineCoupling: COUPLINGS, Coupling: COUPLINGS,
         GlowActNorm: (TunedNorm,), Pointwise: (TunedMatrix,)}
BASES = {StandardNormal: TunedNormal}


def twin(stage, side):
    """The twin that can replace a stage's view, or None."""
    return next((found for found in TWINS.get(type(stage), ()) if found.takes(stage, side)), None)


def tuned_base(base, z, space):
    """The twin of a base density's view, or the view itself if no twin accepts z."""
    found = BASES.get(type(base))
    return base if found is None or not found.takes(z) else found(base, space)
