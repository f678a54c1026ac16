"""What couplings share: a split, a conditioner, and the layout of its outputs."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ...core import Bijector, Value, real
from ...core.arrays import masked
from ...core.words import each
from .masks import Split

LAYOUTS = ("halves", "interleaved")


# -- definitions ------------------------------------------------------------------------------------------------------

def divided(z, passes):
    """(a, b, merged) of nested lists: lists of entries, or of channels, and the function that joins an event again."""
    inner, by_channel = passes[0], True
    while isinstance(inner, list):
        inner, by_channel = inner[0], by_channel and len(inner) == 1
    passes, cells = flat_list(passes), list(z) if by_channel else flat_list(z)
    a = [cell for cell, through in zip(cells, passes) if through]
    b = [cell for cell, through in zip(cells, passes) if not through]

    def merged(x_b):
        x_b = iter(x_b)
        x = [cell if through else next(x_b) for cell, through in zip(cells, passes)]
        return x if by_channel else like(z, iter(x))

    return a, b, merged


def flat_list(nested):
    return [entry for part in nested for entry in flat_list(part)] if isinstance(nested, list) else [nested]


def like(nested, entries):
    """The entries, in the shape of `nested`."""
    return [like(part, entries) for part in nested] if isinstance(nested, list) else next(entries)


def pieces_of(h, P, layout):
    """The P outputs for each cell."""
    n = len(h) // P
    return [h[k * n:(k + 1) * n] if layout == "halves" else h[k::P] for k in range(P)]


def transformed(f, *cells):
    """f on every entry of cells of the same shape."""
    return [each(f, *together) for together in zip(*cells)]


def channels_of_cells(passes):
    """For each cell of b, the number of its channel among the channels in which b has entries."""
    channels = [c for c, row in enumerate(passes) for through in flat_list([row]) if not through]
    return [sorted(set(channels)).index(c) for c in channels]


# -- affine couplings -------------------------------------------------------------------------------------------------

class AffineForm(NamedTuple):
    """What an affine coupling is: x_b = sigma(s) z_b + t, or x_b = sigma(s) (z_b + t) with `shift_first`.

    `scale`: the convention sigma, None for 1; `s` and `t`: their places among the outputs for an entry, s None without a scale;
    `layout`: of the outputs; `channels`: the number of each entry's channel, if channels have gains; `path`: where the
    scale stands in `params()`.
    """

    scale: Value | None
    s: int | None
    t: int
    layout: str
    shift_first: bool = False
    channels: object = None
    path: tuple = ()


# -- the base ---------------------------------------------------------------------------------------------------------

class MaskedBijector(Bijector):
    """A map that leaves the part a of an event unchanged and transforms the part b given net(a).

    Pages declare `passes`, `net` and `layout`, and `outputs`, the number P of the conditioner's outputs for each entry of b;
    a page that is affine in z_b says so in `affine_form`, which tells tuned code what the page does.
    net takes the part a as its event, (|a|,) or, split by channels, (|a|, *rest), and gives (P |b|,) or (P |b|, *rest):
    P blocks of |b| channels (layout "halves"), or P neighbours for each of |b| ("interleaved").
    """

    outputs = 2
    affine_form = None  # type: object
    mask = None  # type: np.ndarray | None   # of sequences, for pages that declare one: the valid positions

    event_ndim = property(lambda self: (self.passes.ndim, self.passes.ndim))

    @functools.cached_property
    def parameter_batch(self):
        batches = [c.parameter_batch for c in self.components()]
        return np.broadcast_shapes(*batches, () if self.mask is None else self.mask.shape[:-1])

    def _validate(self):
        name = type(self).__name__
        if self.passes.ndim < 1:
            raise ValueError(f"{name}: passes must have at least one axis")
        self._set("split", Split(self.passes))
        if self.mask is not None and (self.passes.ndim != 2 or not self.split.by_channel):
            raise ValueError(f"{name}: mask is for sequences that passes splits by channels, (C, 1), not {self.passes.shape}")
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
        return self.replace(net=self.net.initialised(self.parts(masked(np.asarray(data), self.mask))[0], rng))

    def inverse_initialised(self, data, rng):
        return self.initialised(data, rng)                                          # x_a = z_a

    # -- events and outputs in parts ---------------------------------------------------------------------------------

    def parts(self, event):
        """(a, b): the part that passes through and the part that is transformed."""
        return self.split.parts(event)

    def merged(self, a, b, shape):
        """The event of the full shape from its parts, 0 at invalid positions."""
        return masked(self.split.merged(a, b, shape), self.mask)

    def members(self, part, where):
        """The part b with the simplest member of a set at invalid positions, since 0 need not be a member."""
        if self.mask is None or where is real:
            return part
        return np.where(self.mask[..., None, :], part, where.plainest(()).astype(part.dtype))

    def vectors(self, h):
        """For each entry of b the vector of its P outputs: a view (*batch, *shape of b, P)."""
        axis, P = h.ndim + self.split.axis, self.outputs
        n, halves = h.shape[axis] // P, self.layout == "halves"
        blocks = h.reshape(*h.shape[:axis], *((P, n) if halves else (n, P)), *h.shape[axis + 1:])
        return np.moveaxis(blocks, axis if halves else axis + 1, -1)

    def pieces(self, h):
        """The P outputs for each entry of b: views of b's shape."""
        vectors = self.vectors(h)
        return [vectors[..., k] for k in range(self.outputs)]

    def joined(self, pieces):
        """The adjoint of `pieces`."""
        axis = self.split.axis
        if self.layout == "halves":
            return np.concatenate(pieces, axis)
        first = pieces[0]
        lead, count, rest = first.shape[:first.ndim + axis], first.shape[axis], first.shape[first.ndim + axis + 1:]
        return np.stack(pieces, axis).reshape(*lead, count * self.outputs, *rest)

    def total(self, values):
        """The sum over the entries of b at valid positions."""
        return masked(values, self.mask).sum(self.split.axes)

    def each(self, log_det_bar):
        """A number for each event, to multiply b; 0 at invalid positions."""
        return masked(log_det_bar.reshape(log_det_bar.shape + (1,) * -self.split.axis), self.mask)

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
        if self.mask is None:
            return J
        valid = masked(np.ones(shape, bool), self.mask).reshape(*self.mask.shape[:-1], a.size + b.size)
        return np.where(valid[..., :, None] & valid[..., None, :], J, J.dtype.type(0))

    def flat(self, part):
        """A part as (*batch, size)."""
        batch = part.shape[:part.ndim + self.split.axis]
        return part.reshape(*batch, int(np.prod(part.shape[len(batch):])))
