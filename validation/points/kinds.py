"""The points at which densities, scales and parametrisations are certified: events and cotangents of their image.

Densities and scales are drawn over the whole range, like the pages of points.py; their plain fields (a shape, a constant of a
source) come from their hard cases.  Parametrisations are drawn by their own `examples`, at every magnitude of h.
"""

from __future__ import annotations

import itertools

import numpy as np

from refflow.accuracy.drawing import OPTIONAL, Point, drawn_fields, set_of

from .drawn import MODERATE, PARAMETERS, Draw, belongs, is_small

MIXTURES = 120                      # whose truth takes a tenth of a second each


class KindDraw(Draw):
    """The generator of the points of a page without an inverse."""

    def __init__(self, page, dtype, side):
        super().__init__(page, dtype, side)
        self.one_sided, self.composed, self.moderate = True, False, page.moderate

    def point(self, f, event, wide, case, reason):
        """The point with drawn cotangents of its image."""
        if f is None or not belongs(set_of(f, self.side), event):
            return
        spread, bar = PARAMETERS[self.dtype.name] if wide else MODERATE, None
        if self.has_cotangents(event):
            bar = self.cast(self.source.signed(self.image_shape(f, event.shape), -spread, spread)) * self.kept(f, event)
        yield Point(f, self.side, event.astype(self.dtype), bar, None, case, reason)

    def ones(self, f, side, shape, count):
        """The cotangents of `count` images, all 1."""
        return np.ones((count, *self.image_shape(f, shape)), self.dtype)

    def has_cotangents(self, event):
        return is_small(event)

    def kept(self, f, event):
        """Factors 0 and 1 of the cotangents."""
        return self.dtype.type(1)


class DensityDraw(KindDraw):
    """Events in the support, with b the cotangent of log p; if a density has a shape, its fields lie along the event."""

    def image_shape(self, f, shape):
        return ()

    def drawn_points(self):
        return itertools.islice(super().drawn_points(), MIXTURES if "weights" in self.page.declared else None)

    def given(self, params, D):
        try:
            return super().given(params, D)
        except ValueError:                  # a hard case of float64 that float32 cannot represent
            return None

    def bijector(self, given, spread, D, optional=OPTIONAL):
        if "weights" in self.page.declared and spread == MODERATE:
            spread = 1                      # components' likelihoods differ by exp(q): moderate means that q is small
        lead = tuple if "shape" not in self.page.declared else lambda: np.broadcast_shapes(given.get("shape"))
        fields = drawn_fields(self.page, self.source, self.dtype, spread, lambda letter: D, given, lead, optional)
        if "high" in self.page.declared and "high" not in given:
            fields["high"] = fields["low"] + np.abs(fields["high"])
        if "df" in self.page.declared and "df" not in given:
            fields["df"] = fields["df"] + self.dtype.type(D - 1)            # degrees of freedom of D x D matrices
        f = self.page(**{key: value for key, value in fields.items() if value is not None or key in given})
        return f.astype(self.dtype) if f.dtype else f

    def event_shapes(self, f, D):
        return f.event_shape, f.event_shape

    def event(self, f, shape, magnitudes):
        if "weights" in self.page.declared and magnitudes == "moderate":
            return np.ldexp(super().event(f, shape, magnitudes), -3)
        if "high" not in self.page.declared:
            return super().event(f, shape, magnitudes)
        return self.cast(f.low + (f.high - f.low) * self.source.rng.random(shape))

    def opposite_event(self, f, shape):
        """The location, if there is one: elsewhere the squares outweigh the logarithms of the scales."""
        return f.loc.reshape(-1, *shape)[0] if "loc" in f.declared else self.event(f, shape, "moderate")

    def end_points(self):
        return [] if "high" in self.page.declared else super().end_points()

    def point(self, f, event, wide, case, reason):
        if f is not None and f.inside(event):
            yield from super().point(f, event, wide, case, reason)


class ScaleDraw(KindDraw):
    """Numbers s, or numbers of channels; cotangents of sigma and of log sigma."""

    def image_shape(self, f, shape):
        return (2, *shape)

    def ones(self, f, side, shape, count):
        return np.ones((2, count, *shape), self.dtype)

    def kept(self, f, event):
        return np.reshape(self.alone(), (2,) + (1,) * event.ndim)

    def bijector(self, given, spread, D, optional=OPTIONAL):
        """One gain, or one for each channel."""
        both = {"gain", "gains"} & set(self.page.declared)
        if len(both) == 2 and optional and not both & set(given):
            given = given | {self.source.choice(("gain", "gains")): None}
        of_channels = "gain" in given and given["gain"] is None     # a sum over channels that overflows has no sign
        return super().bijector(given, MODERATE if of_channels else spread, D, optional)


class ParametrisationDraw(KindDraw):
    """Vectors h with every order and convention; cotangents of the fields."""

    def image_shape(self, f, shape):
        return (sum(int(np.prod(core)) for core in f.cores),)

    def ones(self, f, side, shape, count):
        """None: the fields of many h have no cotangents together."""
        return None

    def has_cotangents(self, event):
        """Always: h holds the numbers of several fields."""
        return True


GENERATORS = {"density": DensityDraw, "scale": ScaleDraw, "parametrisation": ParametrisationDraw}
