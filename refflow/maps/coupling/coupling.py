"""What couplings share: a split, a conditioner, and the layout of its outputs."""

from __future__ import annotations

import numpy as np

from ..conditioners.words import each
from ...core import Bijector
from .masks import Split

LAYOUTS = ("halves", "interleaved")


# -- definitions ------------------------------------------------------------------------------------------------------

def divided(z, passes):
    """(a, b, whole) of nested lists: lists of entries, or of channels, and the function that joins an event again."""
    inner, by_channel = passes[0], True
    while isinstance(inner, list):
        inner, by_channel = inner[0], by_channel and len(inner) == 1
    passes, cells = flat_list(passes), list(z) if by_channel else flat_list(z)
    a = [cell for cell, through in zip(cells, passes) if through]
    b = [cell for cell, through in zip(cells, passes) if not through]

    def whole(x_b):
        x_b = iter(x_b)
        x = [cell if through else next(x_b) for cell, through in zip(cells, passes)]
        return x if by_channel else like(z, iter(x))

    return a, b, whole


def flat_list(nested):
    return [entry for part in nested for entry in flat_list(part)] if isinstance(nested, list) else [nested]


def like(nested, entries):
    """The entries in the shape of `nested`."""
    return [like(part, entries) for part in nested] if isinstance(nested, list) else next(entries)


def pieces_of(h, count, layout):
    """The P outputs for each of `count` cells."""
    P = len(h) // count if count else 0
    return [h[k * count:(k + 1) * count] if layout == "halves" else h[k::P] for k in range(P)]


def scale_and_shift(h, count, order, layout):
    """(s, t) for each of `count` cells."""
    pieces = pieces_of(h, count, layout) or [[], []]
    return pieces[order.index("scale")], pieces[order.index("shift")]


def transformed(f, *cells):
    """f on every entry of cells of the same shape."""
    return [each(f, *together) for together in zip(*cells)]


def scales(m, scale, s, passes):
    """scale(s) for the cells of b; with gains of channels, for each that of its channel among those of b."""
    if scale.gains is None:
        return transformed(lambda s_j: scale.definition(m, s_j), s)
    numbers = [c for c, row in enumerate(passes) for through in flat_list([row]) if not through]
    distinct = sorted(set(numbers))

    def of_channel(k):
        return lambda s_j: scale.definition(m, [s_j] * len(distinct))[k]

    return [each(of_channel(distinct.index(c)), cell) for c, cell in zip(numbers, s)]


# -- the base ---------------------------------------------------------------------------------------------------------

class MaskedBijector(Bijector):
    """A map that leaves the part a of an event as it is and transforms the part b given net(a).

    Pages declare `passes`, `net` and `layout`, and `outputs`, the number P of the conditioner's outputs for each entry of b.
    net takes the part a as its event, (|a|,) or, split by channels, (|a|, *rest), and gives (P |b|,) or (P |b|, *rest):
    P blocks of |b| channels (layout "halves"), or P neighbours for each of |b| ("interleaved").
    """

    outputs = 2

    event_ndim = property(lambda self: (self.passes.ndim, self.passes.ndim))

    @property
    def parameter_batch(self):
        return np.broadcast_shapes(*(c.parameter_batch for c in self.components()))

    def _validate(self):
        name = type(self).__name__
        if self.passes.ndim < 1:
            raise ValueError(f"{name}: passes must have at least one axis")
        if self.layout not in LAYOUTS:
            raise ValueError(f"{name}: layout must be one of {LAYOUTS}, not {self.layout!r}")
        self._set("split", Split(self.passes))
        if self.net.event_ndim[0] != self.split.rest + 1:
            raise ValueError(f"{name}: net must take events of {self.split.rest + 1} axes, not {self.net.event_ndim[0]}")
        super()._validate()
        if self.net.fixed_shape is not None and not self.split.rest:
            try:
                self.output_shape(self.passes.shape)
            except ValueError as error:
                raise ValueError(f"{name}: passes and net do not fit: {error}") from None

    def output_shape(self, shape):
        self.split.fits(shape)
        a, b = self.split.part_shapes(shape)
        given, wanted = tuple(self.net.output_shape(a)), (self.outputs * b[0], *b[1:])
        if given != wanted:
            raise ValueError(f"its net gives outputs of shape {given} for {a}, {self.outputs} for each entry of {b} "
                             f"are needed")
        return shape

    def input_shape(self, shape):
        return self.output_shape(shape)

    def initialised(self, data, rng):
        """Its network, initialised on the part of `data` that passes through."""
        return self.replace(net=self.net.initialised(self.parts(np.asarray(data))[0], rng))

    def inverse_initialised(self, data, rng):
        return self.initialised(data, rng)                                          # x_a = z_a

    # -- events and outputs in parts ---------------------------------------------------------------------------------

    def parts(self, event):
        """(a, b): what passes through, what is transformed."""
        return self.split.parts(event)

    def pieces(self, h):
        """The P outputs for each entry of b: arrays of b's shape."""
        axis, P = self.split.axis, self.outputs
        if self.layout == "halves":
            return np.split(h, P, axis)
        tail = (slice(None),) * self.split.rest
        return [h[(Ellipsis, slice(k, None, P), *tail)] for k in range(P)]

    def joined(self, pieces):
        """The adjoint of `pieces`."""
        axis = self.split.axis
        if self.layout == "halves":
            return np.concatenate(pieces, axis)
        first = pieces[0]
        lead, count, rest = first.shape[:first.ndim + axis], first.shape[axis], first.shape[first.ndim + axis + 1:]
        return np.stack(pieces, axis).reshape(*lead, count * self.outputs, *rest)

    def total(self, values):
        """The sum over the entries of b."""
        return values.sum(self.split.axes)

    def each(self, log_det_bar):
        """A number for each event, to multiply b."""
        return log_det_bar.reshape(log_det_bar.shape + (1,) * -self.split.axis)

    # -- Jacobians ---------------------------------------------------------------------------------------------------

    def output_slopes(self, z, z_a):
        """d(piece)/dz_a of each of the P pieces, (*batch, size of b, size of a)."""
        slopes = self.net.jacobian(z_a)
        b = self.split.part_shapes(z.shape[z.ndim - self.passes.ndim:])[1]
        rows = np.arange(slopes.shape[-2]).reshape(self.outputs * b[0], *b[1:])
        return [slopes[..., piece.ravel(), :] for piece in self.pieces(rows)]

    def assembled(self, z, lower, slope):
        """The Jacobian from dx_b/dz_a = `lower` and the diagonal of dx_b/dz_b, flat."""
        batch, shape = z.shape[:z.ndim - self.passes.ndim], z.shape[z.ndim - self.passes.ndim:]
        a, b = self.split.entries(shape)
        J = np.zeros((*batch, a.size + b.size, a.size + b.size), z.dtype)
        J[..., a, a] = 1
        J[..., b[:, None], a] = lower
        J[..., b, b] = slope
        return J

    def flat(self, part):
        """A part as (*batch, size)."""
        batch = part.shape[:part.ndim + self.split.axis]
        return part.reshape(*batch, int(np.prod(part.shape[len(batch):])))
