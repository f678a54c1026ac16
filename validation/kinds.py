"""The points at which densities, scales and parametrisations are certified: events and cotangents of their image.

Densities and scales are drawn over the whole range, as the pages of points.py; their plain fields (a shape, a constant of a
source) are those of their hard cases.  Parametrisations are drawn with every convention, at every magnitude of h.
"""

from __future__ import annotations

import numpy as np

from refflow.core.declarations import Field
from refflow.core.sets import positive, real
from refflow.maps.elementwise import CONVENTIONS, ExpScale
from refflow.maps.parametrisations import Free, GatedLocationScale, LocationScale, PerField

from .points import COUNTS, KINDS, MODERATE, PARAMETERS, Draw, Point, belongs, is_small

EVENT_KINDS = [kind for kind in KINDS if not kind.startswith("image") and kind != "moderate"]
MIXTURES = 120                      # whose truth takes a tenth of a second
RHYTHM = [kind for other in EVENT_KINDS for kind in ("moderate", other)]


class KindDraw(Draw):
    """The generator of the points of a page without an inverse."""

    def drawn_points(self):
        for i in range(self.count):
            kind = RHYTHM[i % len(RHYTHM)]
            magnitudes, wide = KINDS[kind]
            f, shape = self.drawn_bijector(wide)
            yield from self.point(f, self.drawn_event(f, shape, magnitudes), wide, "", kind)

    def point(self, f, event, wide, case, reason):
        """The point with drawn cotangents of its image."""
        if f is None or not belongs(f.domain, event):
            return
        spread = PARAMETERS[self.dtype.name] if wide else MODERATE
        bar = self.signed(self.image_shape(f, event.shape), -spread, spread) if is_small(event) else None
        yield Point(f, self.side, event.astype(self.dtype), bar, None, case, reason)


class DensityDraw(KindDraw):
    """Events of the support, b the cotangent of log p."""

    def __init__(self, page, dtype, side):
        super().__init__(page, dtype, side)
        self.count = COUNTS["structured"] if "weights" not in page.declared else MIXTURES

    def image_shape(self, f, shape):
        return ()

    def bijector(self, given, spread, D):
        self.event_shape = given.get("shape")
        try:
            return super().bijector(given, spread, D)
        except ValueError:                  # a hard case of float64 that float32 does not have
            return None

    def field(self, field, spread, dims, D):
        """Of a density with a shape, the fields lie along the event."""
        if "shape" not in self.page.declared:
            return super().field(field, spread, dims, D)
        return self.cast(field.set.draw(self.rng, np.broadcast_shapes(self.event_shape), spread))

    def with_optional_fields(self, spread, D):
        """Of a uniform density, the width is drawn."""
        if "high" not in self.page.declared:
            return super().with_optional_fields(spread, D)
        shape = self.plain_values()["shape"]
        low, width = (self.cast(where.draw(self.rng, np.broadcast_shapes(shape), spread)) for where in (real, positive))
        high = low + np.maximum(width, 4 * np.spacing(np.abs(low)))
        return self.page(low, high, shape)

    def event_shapes(self, f, D):
        return f.event_shape, f.event_shape

    def spread_of_page(self, spread):
        """The likelihoods of a mixture's components lie apart by exp(q): moderate is what keeps q small."""
        return 1 if "weights" in self.page.declared and spread == MODERATE else super().spread_of_page(spread)

    def event(self, f, shape, magnitudes):
        if "weights" in self.page.declared and magnitudes == "moderate":
            return np.ldexp(super().event(f, shape, magnitudes), -3)
        if "high" not in self.page.declared:
            return super().event(f, shape, magnitudes)
        return self.cast(f.low + (f.high - f.low) * self.rng.random(shape))

    def end_points(self):
        return [] if "high" in self.page.declared else super().end_points()

    def point(self, f, event, wide, case, reason):
        if f is not None and f.inside(event):
            yield from super().point(f, event, wide, case, reason)


class ScaleDraw(KindDraw):
    """Numbers s, or moderate ones of channels; cotangents of sigma and of log sigma.

    A sum over channels of numbers beyond the floats has no sign.
    """

    count = COUNTS["scalar"]

    def image_shape(self, f, shape):
        return (2, *shape)

    def with_optional_fields(self, spread, D):
        """One gain, or one for each channel."""
        optional = [key for key, field in self.page.declared.items() if isinstance(field, Field) and not field.usual]
        self.chosen = {key for key in optional if self.rng.random() < 0.5}
        of_channels = "gains" in self.chosen
        f = self.bijector(self.plain_values() | {"gain": None} if of_channels else self.plain_values(),
                          MODERATE if of_channels else spread, D)
        self.chosen = set()
        return f


class ParametrisationDraw(KindDraw):
    """Vectors h with every order and convention; cotangents of the fields."""

    count = COUNTS["structured"]

    def image_shape(self, f, shape):
        return (len(f.names),)

    def drawn_bijector(self, wide):
        made = DRAWN.get(self.page, lambda draw: draw.page(**draw.plain_values()))
        f = made(self).astype(self.dtype)
        return f, (f.size,)


def order(draw):
    return [("scale", "shift"), ("shift", "scale")][draw.rng.integers(2)]


def gated_location_scale(draw):
    return GatedLocationScale([2.0, 0.0, -1.5][draw.rng.integers(3)], order(draw))


def per_field(draw):
    """A convention, one with parameters of its own, and a free field."""
    conventions = [c for c in CONVENTIONS.values() if not getattr(c, "straight_through", False)]
    chosen = [conventions[draw.rng.integers(len(conventions))], CONVENTIONS["RealNVP"], Free()]
    return PerField(("scale", "exponent", "shift"), chosen)


DRAWN = {LocationScale: lambda draw: LocationScale(ExpScale(), order(draw)), GatedLocationScale: gated_location_scale,
         PerField: per_field}
GENERATORS = {"density": DensityDraw, "scale": ScaleDraw, "parametrisation": ParametrisationDraw}
