"""The one table of tuned pages: page -> its twins.

A twin of a map is a class with the same fields and `takes(map)`, which says whether it can replace that map; `tuned` puts such
twins into a flow.  A twin of a stage is a class with `takes(stage, side)`, which says whether it can replace that stage's view,
for side 1 its inverse, and is constructed as `twin(stage, side, path, number, space)`, a step of `likelihood`.
"""

from __future__ import annotations

from typing import TypeVar

from ..core import Flow, Value, tree
from ..maps.autoregressive import Autoregressive
from ..maps.coupling import AdditiveCoupling, AffineCoupling, Coupling
from ..maps.densities import StandardNormal
from ..maps.linear import Pointwise
from ..maps.normalization import GlowActNorm
from ..maps.residual import Planar, Radial
from .autoregressive import TunedAutoregressive
from .couplings import TunedCoupling, TunedNormal
from .flows import TunedFlow
from .images import TunedImageCoupling, TunedMatrix, TunedNorm
from .residual import TunedPlanar, TunedRadial
from .splines import SplineCoupling, TunedSplineCoupling
from .tokens import KeptInput, TokenByToken
from .unit_by_unit import UnitByUnit

Tuned = TypeVar("Tuned", bound=Value)
COUPLINGS = (TunedCoupling, TunedImageCoupling, TunedSplineCoupling)
TWINS = {AdditiveCoupling: COUPLINGS, AffineCoupling: COUPLINGS, Coupling: COUPLINGS,
         Autoregressive: (TunedAutoregressive, KeptInput), GlowActNorm: (TunedNorm,), Pointwise: (TunedMatrix,)}
BASES = {StandardNormal: TunedNormal}
MAPS = {Autoregressive: (UnitByUnit, TokenByToken), Coupling: (SplineCoupling,), Planar: (TunedPlanar,), Radial: (TunedRadial,)}


def tuned(value: Tuned) -> Tuned:
    """A flow, or a map, that computes the same in less time: samples and inverses of autoregressive maps, of single entries or of
    tokens, in one pass each, gradients of couplings and autoregressive maps of splines, and everything of planar and radial flows.

    Its fields and methods are the same; files and training take the original.
    """
    found = exchanged(value, {})
    return tree.copied(found, TunedFlow) if type(found) is Flow else found


def exchanged(value, made):
    """The value, or a copy with twins in place of maps; a component that stands in several places stays one."""
    if id(value) not in made:
        new, same = {}, True
        for (key, *index), component in tree.components(value):
            inner = exchanged(component, made)
            new[key], same = (*new.get(key, ()), inner) if index else inner, same and inner is component
        found = next((kind for kind in MAPS.get(type(value), ()) if kind.takes(value)), None)
        made[id(value)] = value if same and not found else tree.copied(value, found, **new)
    return made[id(value)]


def twin(stage, side):
    """The twin that can replace a stage's view, or None."""
    return next((found for found in TWINS.get(type(stage), ()) if found.takes(stage, side)), None)


def tuned_base(base, z, space):
    """The twin of a base density's view, or the view itself if no twin accepts z."""
    found = BASES.get(type(base))
    return base if found is None or not found.takes(z) else found(base, space)
