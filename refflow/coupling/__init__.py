"""Couplings: one part of the event transformed given the other."""

from __future__ import annotations

from . import masks
from .additive import AdditiveCoupling
from .affine import AffineCoupling
from .all_in_one import all_in_one
from .generic import Coupling
from .masked_input import MaskedInput
from .volume_preserving import VolumePreservingCoupling

__all__ = ["AdditiveCoupling", "AffineCoupling", "Coupling", "MaskedInput", "VolumePreservingCoupling", "all_in_one",
           "masks"]
