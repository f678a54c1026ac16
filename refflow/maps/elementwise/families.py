r"""Families: an elementwise bijector whose fields are functions of an unconstrained vector h.

    x = f(z; fields(h)),   h in R^P                                                 (1)
    h_bar = (d fields/dh)* fields_bar                                               (2)

The gated map of inverse autoregressive flows (Kingma et al., arXiv:1606.04934; "stable" in Pyro), v = s + offset:
    x = sigma z + (1 - sigma) m,   sigma = sigmoid v                                (3)
    shift = m (1 - sigma),   1 - sigma = sigmoid(-v) = exp(min(-v, 0)) / (1 + exp(-|v|))    (4)
    s_bar = s_bar of `ScaledAffine` - shift_bar m sigma (1 - sigma),   m_bar = shift_bar (1 - sigma)       (5)

(1) and (2) are for each entry of an event: z (*batch, *event), h (*batch, *event, P), P last.  A family is a class of
bijectors and a map from h to its fields.  The two are apart because libraries share the first and differ in the second.
"""

from __future__ import annotations

import numpy as np

from ...core import Value, child, children, plain, real, tree
from ...core.values import declare
from .scaled_affine import ScaledAffine
from .scales import Scale, SigmoidScale, elementwise, scaled

__all__ = ["Map", "affine_family"]


def value(cls):
    """Declare a value that is used by pages alone, behind their checks."""
    return declare(cls)


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


class Map(Value):
    """From vectors h (..., P) to fields {name: (...)}.

    `size` is P; `vjp(h)` -> (fields, pullback), `pullback(fields_bar)` -> (h_bar, params_bar); `definition(m, h, **own)`
    -> {name: number}, h being a list of P numbers.
    """


@value
class LocationScale(Map):
    """(s, shift) of `ScaledAffine`, in the given order in h."""

    scale: Scale = child()
    order: tuple = plain(("scale", "shift"))
    size = 2

    def _validate(self):
        super()._validate()
        self._set("order", checked_order("LocationScale", self.order))
        elementwise("LocationScale", self.scale)

    @staticmethod
    def definition(m, h, scale, order):
        return {"s": h[order.index("scale")], "shift": h[order.index("shift")], "scale": scale}     # (1)

    def vjp(self, h):
        s, shift = (h[..., self.order.index(name)] for name in ("scale", "shift"))

        def pullback(bars):
            by_name = {"scale": bars["s"], "shift": bars["shift"]}
            return np.stack([by_name[name] for name in self.order], -1), {"scale": bars["scale"]}   # (2)

        return {"s": s, "shift": shift, "scale": self.scale}, pullback


def checked_order(name, order):
    """("scale", "shift") or ("shift", "scale")."""
    order = tuple(order)
    if sorted(order) != ["scale", "shift"]:
        raise ValueError(f"{name}: order must be ('scale', 'shift') or ('shift', 'scale'), not {order}")
    return order


class Gate:
    """sigmoid(s + offset), as definitions see a scale."""

    def __init__(self, offset):
        self.offset = offset

    def definition(self, m, s):
        return SigmoidScale.definition(m, s, self.offset, 0)                        # (3)


@value
class GatedLocationScale(Map):
    """s and shift = (1 - sigmoid(s + offset)) m of `ScaledAffine`.

    In h, s stands where `order` has "scale", m where it has "shift".
    """

    offset: float = plain(2.0)
    order: tuple = plain(("scale", "shift"))
    size = 2

    def _validate(self):
        super()._validate()
        self._set("order", checked_order("GatedLocationScale", self.order))
        self._set("scale", SigmoidScale(self.offset))

    @staticmethod
    def definition(m, h, offset, order):
        s, mean = h[order.index("scale")], h[order.index("shift")]
        return {"s": s, "scale": Gate(offset), "shift": mean / (1 + m.exp(s + offset))}       # (3)

    def vjp(self, h):
        s, m = (h[..., self.order.index(name)] for name in ("scale", "shift"))
        v = s + self.offset
        gate, w = 1 / (1 + np.exp(-np.abs(v))), np.minimum(-v, 0)

        def pullback(bars):
            s_bar = bars["s"] - scaled(m, bars["shift"] * gate * gate, -np.abs(v))  # (5)
            by_name = {"scale": s_bar, "shift": scaled(bars["shift"], gate, w)}     # (5)
            return np.stack([by_name[name] for name in self.order], -1), {}

        return {"s": s, "shift": scaled(m, gate, w), "scale": self.scale}, pullback         # (4)


@value
class PerField(Map):
    """Entry i of h is the field `names[i]`: of its own scale, `scales[i]`, or as it is, where that is a `Free`."""

    names: tuple = plain()
    scales: tuple[Value, ...] = children()

    size = property(lambda self: len(self.names))

    def _validate(self):
        super()._validate()
        self._set("names", tuple(self.names))
        for scale in self.scales:
            elementwise("PerField", scale)
        if len(self.names) != len(self.scales):
            raise ValueError(f"PerField: {len(self.names)} names need as many scales, not {len(self.scales)}")

    @staticmethod
    def definition(m, h, names, scales):
        return {name: scale.definition(m, h_i) for name, scale, h_i in zip(names, scales, h)}       # (1)

    def vjp(self, h):
        found = [scale.vjp(h[..., i]) for i, scale in enumerate(self.scales)]

        def pullback(bars):
            pulled = [back(bars[name], np.zeros_like(bars[name])) for name, (_, back) in zip(self.names, found)]
            return (np.stack([bar for bar, _ in pulled], -1),
                    {"scales": {str(i): own for i, (_, own) in enumerate(pulled)}})                 # (2)

        return {name: values[0] for name, (values, _) in zip(self.names, found)}, pullback


@value
class Free(Value):
    """A field that may be any number: h itself."""

    domain = real
    @staticmethod
    def definition(m, s):
        return s

    def vjp(self, s):
        return (s, None), lambda bar, _: (bar, {})


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
        return bijector.definition(m, z, **map.definition(m, h))                    # (1)

    def at_values(self, h, ndim):
        """(f, pullback): the unchecked bijector at h (*batch, *event, P), `ndim` the axes of the event.

        `pullback(fields_bar)` -> (h_bar, params_bar), params_bar with the shapes of this family's parameters.
        """
        fields, map_pullback = lifted(self.map, ndim).vjp(h)                        # (1)
        f = tree.bare(self.bijector, **fields)

        def pullback(fields_bar):
            h_bar, map_bar = map_pullback(fields_bar)                               # (2)
            return h_bar, {"map": lowered(map_bar, self.map.params())}

        return f, pullback


def affine_family(scale, order=("scale", "shift")):
    """x = scale(s) z + shift with h = (s, shift), or the other order."""
    return Family(ScaledAffine, LocationScale(scale, order))
