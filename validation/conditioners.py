"""The points at which conditioners are certified: events a and cotangents h_bar.

Pages of numbers, vectors, matrices and images are drawn over the whole range (points.py).  Compositions (Sequential,
Residual, Contextual) are certified on small networks with every activation, at moderate events and parameters: beyond,
intermediate results overflow where the output does not.
"""

from __future__ import annotations

from dataclasses import replace

from refflow.maps import conditioners
from refflow.core.boundary import LETTERS
from refflow.core.declarations import bind, Child, size_of

from .points import KINDS, MODERATE, PARAMETERS, SIZES, Draw

WIDTHS = (1, 2, 2, 3)
COUNTS = {"scalar": 400, "structured": 200, "image": 100, "composed": 40}
PLAIN_KINDS = [kind for kind in KINDS if not kind.startswith("image") and kind != "moderate"]
RHYTHM = [kind for other in PLAIN_KINDS for kind in ("moderate", other)]


class NetDraw(Draw):
    """The generator of a conditioner's points."""

    def __init__(self, page, dtype, side="forward"):
        super().__init__(page, dtype, side)
        self.composed = any(isinstance(field, Child) for field in page.declared.values())
        self.rank = 1 if self.composed else page.event_ndim[0]

    def drawn_points(self):
        kinds = ["moderate"] if self.composed else RHYTHM
        size = "composed" if self.composed else {0: "scalar", 1: "structured"}.get(self.rank, "image")
        for i in range(COUNTS[size]):
            magnitudes, wide = KINDS[kinds[i % len(kinds)]]
            f, shape = self.drawn_bijector(wide)
            yield from self.point(f, self.drawn_event(f, shape, magnitudes), wide, "", kinds[i % len(kinds)])

    def points(self):
        """Of a composition the hard cases come last, so that a new one leaves the drawn points as they are."""
        return [*self.drawn_points(), *self.hard_points()] if self.composed else super().points()

    def end_points(self):
        return [] if self.composed else super().end_points()

    def drawn_bijector(self, wide):
        """A conditioner with drawn parameters, and the shape of its events."""
        if self.composed:
            return composition(self)
        while True:
            f = self.with_optional_fields(PARAMETERS[self.dtype.name] if wide else MODERATE, int(self.rng.choice(SIZES)))
            letters = f.event_shape or LETTERS[f.event_ndim[0]]
            shape = f.fixed_shape or tuple(f.dims.get(letter) or int(self.rng.choice(WIDTHS)) for letter in letters)
            try:
                f.output_shape(shape)
            except ValueError:              # a size that this page refuses
                continue
            return f, shape

    def field(self, field, spread, dims, D):
        """Rectangular matrices, and images and kernels that are small along each axis."""
        for symbol in field.shape:
            if size_of(symbol, dims) is None and (symbol == "M" or self.rank > 1):
                bind(symbol, int(self.rng.choice(WIDTHS)), dims)
        return super().field(field, spread, dims, D)

    def point(self, f, event, wide, case, reason):
        for point in super().point(f, event, wide, case, reason):
            yield replace(point, log_det_bar=None)


def composition(draw):
    """A small network of the composition, with drawn layers and parameters, and the shape of its events."""
    size, width = (int(draw.rng.choice(WIDTHS)) for _ in range(2))
    if draw.page is conditioners.Residual:
        net = conditioners.Residual(conditioners.Sequential((dense(draw, size, size), activation(draw))))
    elif draw.page is conditioners.Contextual:
        inner = conditioners.Sequential((dense(draw, width, size + 2), activation(draw)))
        net = conditioners.Contextual(inner, context=draw.signed((2,), -MODERATE, MODERATE))
    elif draw.page is conditioners.Sequential:
        keep = conditioners.Dropout(draw.rng.random(width) < 0.75, 0.25)
        net = conditioners.Sequential((dense(draw, width, size), activation(draw), keep, dense(draw, 2, width)))
    else:
        raise NotImplementedError(f"{draw.page.__name__}: say in {__name__}.composition how its components are drawn")
    return net.astype(draw.dtype), (size,)


def activation(draw):
    smooth = [conditioners.TanhActivation, conditioners.GELU, conditioners.SiLU, conditioners.SoftplusActivation]
    return [conditioners.ReLU, *smooth][draw.rng.integers(5)]()


def dense(draw, rows, columns, high=2):
    return conditioners.Dense(draw.signed((rows, columns), high - 4, high), draw.signed((rows,), high - 4, high))
