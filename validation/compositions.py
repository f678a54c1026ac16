"""The points at which pages with components are certified: couplings with small networks, every convention of scale.

Events and weights are small: beyond, a network's outputs overflow where the map does not, and saturated log-scales, which
no longer depend on anything, cancel in their sum.  Hard cases are the page's own.
"""

from __future__ import annotations

import numpy as np

from refflow import Affine, Power
from refflow.core import tree
from refflow.maps.conditioners import Sequential, masked_dense_network
from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS, ExpScale, ScaledAffine, SoftplusScale
from refflow.maps.parametrisations import Free, GatedLocationScale, PerField

from .conditioners import activation, dense
from .points import MODERATE, Draw

COUNT = 80
# Beyond its clamp a straight-through convention's gradient is no derivative.
SCALES = [scale for scale in CONVENTIONS.values() if not getattr(scale, "straight_through", False)]


class CompositionDraw(Draw):
    """The generator of the points of a page with components."""

    def drawn_points(self):
        for _ in range(COUNT):
            f, shape = self.drawn_bijector(False)
            event = np.ldexp(self.event(f, shape, "moderate"), -2)
            yield from self.point(f, event, False, "", "moderate")

    def end_points(self):
        return []

    def drawn_bijector(self, wide):
        name = self.page.__name__
        if name not in COMPONENTS:
            raise NotImplementedError(f"{name}: say in {__name__}.COMPONENTS how its components are drawn")
        f, shape = COMPONENTS[name](self)
        return f.astype(self.dtype), shape

    def point(self, f, event, wide, case, reason):
        """Nested lists, which definitions read, do not show the shape of an empty matrix."""
        if f is not None and not any(array.size == 0 for array in arrays(f)):
            yield from super().point(f, event, wide, case, reason)


def arrays(value):
    """The real fields of a value and its components."""
    yield from tree.arrays(value).values()
    for component in value.components():
        yield from arrays(component)


# -- components -------------------------------------------------------------------------------------------------------

def network(draw, inputs, outputs):
    width = int(draw.rng.integers(1, 4))
    return Sequential((dense(draw, width, inputs, 0), activation(draw), dense(draw, outputs, width, 0)))


def mask_of(draw, size, passing):
    return draw.rng.permutation(np.arange(size) < passing)


def chosen(draw, choices):
    return choices[draw.rng.integers(len(choices))]


def convention(draw, own=1 / 3):
    """A share `own` of them have parameters of their own."""
    with_own = draw.rng.random() < own
    return chosen(draw, [scale for scale in SCALES if bool(scale.params()) == with_own])


def layout(draw):
    return {"layout": chosen(draw, ["halves", "interleaved"])}


def order(draw):
    return {"order": chosen(draw, [("scale", "shift"), ("shift", "scale")])}


def split(draw, least=1):
    """(mask, entries that pass, entries that do not), at least so many of the latter."""
    size = int(draw.rng.integers(least + 1, 4))
    passing = int(draw.rng.integers(1, size - least + 1))
    return mask_of(draw, size, passing), passing, size - passing


def additive_coupling(draw):
    mask, a, b = split(draw)
    return draw.page(mask, network(draw, a, b)), mask.shape


def affine_coupling(draw):
    mask, a, b = split(draw)
    return draw.page(mask, network(draw, a, 2 * b)), mask.shape


def volume_preserving_coupling(draw):
    """With one entry in b, or a convention of its own parameters, cotangents cancel to 0, which has no unit of error."""
    mask, a, b = split(draw, 2)
    scale = chosen(draw, [scale for scale in SCALES if not scale.params()])
    return draw.page(mask, network(draw, a, 2 * b), scale, **order(draw), **layout(draw)), mask.shape


def any_family(draw):
    return chosen(draw, [affine_family(convention(draw, 0)), affine_family(convention(draw, 1)),
                         Family(ScaledAffine, GatedLocationScale()),
                         Family(Power, PerField(("exponent",), (SoftplusScale(floor=0.1),))),
                         Family(Affine, PerField(("scale", "shift"), (ExpScale(), Free())))])


def coupling(draw):
    mask, a, b = split(draw)
    family = any_family(draw)
    return draw.page(mask, network(draw, a, family.size * b), family, **layout(draw)), mask.shape


def masked_network(draw, size, outputs, layout):
    """A masked network with every weight and bias drawn."""
    order, degrees = draw.rng.permutation(size), chosen(draw, ["sequential", "random"])
    width = int(draw.rng.integers(1, 4))
    first, _, last = masked_dense_network(draw.rng, size, (width,), outputs, order, degrees, layout).layers
    first, last = (layer.replace(W=draw.signed(layer.W.shape, -4, 0), b=draw.signed(layer.b.shape, -4, 0))
                   for layer in (first, last))
    return Sequential((first, activation(draw), last))


def autoregressive(draw):
    size, family, arranged = int(draw.rng.integers(1, 4)), any_family(draw), layout(draw)
    return draw.page(masked_network(draw, size, family.size, **arranged), family, **arranged), (size,)


def scaled_affine(draw):
    s, shift = draw.signed((), -MODERATE, 2), draw.signed((), -MODERATE, MODERATE)
    return draw.page(s, convention(draw), shift), ()


COMPONENTS = {"AdditiveCoupling": additive_coupling, "AffineCoupling": affine_coupling,
              "Autoregressive": autoregressive, "Coupling": coupling, "ScaledAffine": scaled_affine,
              "ScaledShift": scaled_affine, "VolumePreservingCoupling": volume_preserving_coupling}
