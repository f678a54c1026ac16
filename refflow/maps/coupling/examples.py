"""Families of elementwise maps, and sequences, from a `Source`: used to draw couplings and autoregressive maps."""

from __future__ import annotations

import numpy as np

from ..conditioners import BijectorLayer, Sequential, TanhActivation
from ..conditioners.examples import weights
from ..linear import DenseLinear, Pointwise
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


def sequence(source, outputs, b=1):
    """(passes, net, mask) for sequences of `b` channels of b, and so many channels of a that a matrix gives the outputs."""
    passes = source.orders((outputs + b,)) < outputs
    matrix = 3 * np.eye(outputs) + weights(source, (outputs, outputs))
    layer = BijectorLayer(Pointwise(DenseLinear(matrix / 4, weights(source, (outputs,))), 2))
    T = source.count(1, 3)
    return passes[:, None], Sequential((layer, TanhActivation())), source.orders((T,)) < source.count(1, T)
