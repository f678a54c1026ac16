r"""A map of vectors at every position; with a linear map it is Glow's invertible `1 x 1` convolution.

The map.  With `z_p` the vector of the `C` channels of an image or a signal at position `p` of `n`,
    x_p = f(z_p)                                                                    (1)
    log|det dx/dz| = sum_p log|det df(z_p)|                                         (2)
                   = n log|det df|          where it is constant                    (3)
    dx/dz: the block df(z_p) on the channels of each position, all else 0           (4)
The channels are moved last and the positions into the batch, so that a linear `f` is one matrix product.

The reverse rule.  By (2), each position adds its own log-det, so each receives the whole `l_bar` of the event.  All positions share
the parameters.  With the pullback `f*` at each `z_p`,
    z_p_bar = f*(x_p_bar, l_bar),   the parameters' cotangents summed over positions        (5)

Sequences of different lengths stand in one batch with a mask of their valid positions.  At every other position
    x_p = 0,   z_p_bar = 0                                                          (6)
and (1) to (5) hold for the `n` valid positions alone; data-dependent initialisation sees only these.

Source: Kingma & Dhariwal, arXiv:1807.03039, section 3.2.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, Independent, bijector, case, child, invertible, over_event, plain, real, refusal
from ...core.sets import sequence_mask
from ...core.rules import one_of
from ...core.arrays import masked
from ..elementwise import Affine, Softplus
from ..normalization import ActNorm
from .dense import DenseLinear
from .grouped import GroupedLinear


@bijector(source="arXiv:1807.03039")
class Pointwise(Bijector):
    """`inner`, a bijector of vectors, on the channels of each position of (*batch, C, T), rank 2, or (*batch, C, H, W), 3.

    `mask`: the valid positions of sequences, rank 2, (*batch, T).  ValueError for another rank, an inner that is not a
    bijector of vectors, one whose parameters have a batch, and a mask for images.
    """

    inner: Bijector = child()
    rank: int = plain(3, one_of(2, 3))
    mask: Array = sequence_mask("T")  # type: ignore[assignment]

    event_ndim = property(lambda self: (self.rank, self.rank))
    domain = property(lambda self: self.inner.domain)
    codomain = property(lambda self: self.inner.codomain)
    constant_log_det = property(lambda self: self.inner.constant_log_det)
    solver = property(lambda self: self.inner.solver)
    normwise = property(lambda self: self.inner.normwise)
    lifted_axes = 1

    def __post_init__(self):
        if not isinstance(self.inner, Bijector) or self.inner.event_ndim != (1, 1):
            given = self.inner.event_ndim if isinstance(self.inner, Bijector) else type(self.inner).__name__
            raise ValueError(f"Pointwise: inner must be a bijector of vectors, event ranks (1, 1), not {given}")
        super().__post_init__()

    def _validate(self):
        if self.mask is not None and self.rank != 2:
            raise ValueError(f"Pointwise: mask is for sequences, rank 2, not for rank {self.rank}")
        for side in (self.inner.domain, self.inner.codomain):
            if not side.entrywise:
                raise ValueError(f"Pointwise: inner must map vectors whose entries are free, not {side}")
        if self.inner.parameter_batch != ():
            raise ValueError(f"Pointwise: the parameters of inner must have no batch, not {self.inner.parameter_batch}")
        super()._validate()

    def mask_inside(self, mask):
        return None                                 # inner meets one position at a time

    def applied_at(self, shape):
        return [(shape[:1], (int(np.prod(shape[1:])),))]

    def output_shape(self, shape):
        return *self.inner.output_shape(shape[:1]), *shape[1:]

    def input_shape(self, shape):
        return *self.inner.input_shape(shape[:1]), *shape[1:]

    @staticmethod
    def definition(m, z, inner, rank, mask):
        def assembled(parts, axes):
            """Vectors, nested in `axes` axes of positions, with the channels first."""
            if not axes:
                return parts
            parts = [assembled(part, axes - 1) for part in parts]
            return [[part[c] for part in parts] for c in range(len(parts[0]))]

        def each(channels, axes):
            if not axes:
                return inner.definition(m, channels)                                # (1)
            return [each([c[i] for c in channels], axes - 1) for i in range(len(channels[0]))]

        if mask is None:
            return assembled(each(z, rank - 1), rank - 1)
        at = [inner.definition(m, list(z_p)) if valid else [m.mpf(0)] * len(z) for z_p, valid in zip(zip(*z), mask)]    # (6)
        return assembled(at, 1)

    # -- positions in the batch --------------------------------------------------------------------------------------

    def _vectors(self, event):
        """(*batch, C, ...) as (*batch, n, C)."""
        batch, C = event.shape[:-self.rank], event.shape[-self.rank]
        flat = event.reshape(*batch, C, int(np.prod(event.shape[1 - self.rank:])))
        return np.ascontiguousarray(flat.swapaxes(-1, -2))

    def _members(self, event, side):
        """The vectors of an event, with the simplest member of inner's domain (side 0) or codomain at invalid positions."""
        vectors, where = self._vectors(event), self.inner.codomain if side else self.inner.domain
        if self.mask is None or where is real:      # 0 is a member
            return vectors
        return np.where(self.mask[..., None], vectors, where.plainest(vectors.shape[-1:]).astype(vectors.dtype))

    def _image(self, vectors, like):
        """The reverse, with the positions of `like`."""
        moved = np.ascontiguousarray(vectors.swapaxes(-1, -2))
        return masked(moved.reshape(*moved.shape[:-1], *like.shape[1 - self.rank:]), self.mask)     # (6)

    def _count(self, log_det):
        """The number of valid positions."""
        return log_det.shape[-1] if self.mask is None else self.mask.sum(-1).astype(log_det.dtype)

    def _total(self, log_det):
        if self.inner.constant_log_det:
            return self._count(log_det) * log_det[..., :1].sum(-1)                  # (3)
        return self._at_valid(log_det).sum(-1)                                      # (2)

    def _at_valid(self, per_position):
        """Numbers (*batch, n), 0 at invalid positions."""
        return per_position if self.mask is None else np.where(self.mask, per_position, per_position.dtype.type(0))

    def forward(self, z):
        return self._image(self.inner.forward(self._members(z, 0)), z)              # (1)

    def inverse(self, x):
        return self._image(self.inner.inverse(self._members(x, 1)), x)

    def log_det(self, z):
        return self._total(self.inner.log_det(self._members(z, 0)))

    def forward_and_log_det(self, z):
        x, log_det = self.inner.forward_and_log_det(self._members(z, 0))
        return self._image(x, z), self._total(log_det)

    def inverse_and_log_det(self, x):
        z, log_det = self.inner.inverse_and_log_det(self._members(x, 1))
        return self._image(z, x), self._total(log_det)

    def jacobian(self, z):
        blocks = self.inner.jacobian(self._members(z, 0))                           # (*batch, n, C, C)
        if self.mask is not None:
            blocks = np.where(self.mask[..., None, None], blocks, blocks.dtype.type(0))     # (6)
        *batch, n, C, _ = blocks.shape
        J = np.zeros((*batch, C, n, C, n), blocks.dtype)
        p = np.arange(n)
        J[..., :, p, :, p] = np.moveaxis(blocks, -3, 0)                             # (4)
        return J.reshape(*batch, C * n, C * n)

    def vjp(self, z):
        return self._at_positions(z, *self.inner.vjp(self._members(z, 0)))

    def inverse_vjp(self, x):
        return self._at_positions(x, *self.inner.inverse_vjp(self._members(x, 1)))

    def _at_positions(self, event, image_and_log_det, inner_pullback):
        image, log_det = image_and_log_det

        def pullback(image_bar, log_det_bar):
            each = self._at_valid(np.broadcast_to(over_event(log_det_bar, 1), log_det.shape))
            image_bar = masked(image_bar, self.mask)                                # (6)
            event_bar, inner_bar = inner_pullback(self._vectors(image_bar), each)   # (5)
            return self._image(event_bar, event), {"inner": inner_bar}

        return (self._image(image, event), self._total(log_det)), pullback

    # -- initialisation ----------------------------------------------------------------------------------------------

    def _data(self, data):
        """The vectors of data at valid positions."""
        vectors = self._vectors(np.asarray(data))
        return vectors if self.mask is None else vectors[np.broadcast_to(self.mask, vectors.shape[:-1])]

    def initialised(self, data, rng):
        return self.replace(inner=self.inner.initialised(self._data(data), rng))

    def inverse_initialised(self, data, rng):
        return self.replace(inner=self.inner.inverse_initialised(self._data(data), rng))

    @classmethod
    def examples(cls, source):
        """A matrix, of all channels or of groups, a scale and a shift of each, or a map onto positive numbers, on one to three
        positions, with or without a mask.
        """
        C = source.count(1, 3)
        scale, shift = source.signed((C,), -4, 4), source.signed((C,), -4, 4)
        inner = source.choice((ActNorm(scale, shift), DenseLinear(invertible.draw(source, (C, C), spread=1), shift),
                               GroupedLinear(invertible.draw(source, (2, 2), spread=1)), Independent(Softplus(), 1)))
        C = 4 if type(inner) is GroupedLinear else C
        shape, rank = source.choice(((1, 2), (3, 1), (2, 1))), source.choice((3, 2, 2))
        if rank == 3:
            return cls(inner), (C, *shape)
        T = source.count(1, 3 if C < 4 else 2)
        mask = source.orders((T,)) < source.count(1, T)
        return cls(inner, 2, mask if source.chance(0.7) else None), (C, T)

    hard_cases = (
        case("Positions", "three positions of a signal of two channels", z=[[[1.0, 2.0, -0.5], [3.0, 1e-9, 0.25]]],
             x=[[[1.0, 2.0, -0.5], [3.0, 1e-9, 0.25]]], inner=DenseLinear([[2.0, 1.0], [-1.0, 0.5]], [0.5, 0.0]), rank=2),
        case("Padding", "log-det counts the two valid positions, and the other one is 0",
             z=[[[1.0, 2.0, -0.5], [3.0, 1.0, 0.25]]], x=[[[1.0, 2.0, -0.5], [3.0, 1.0, 0.25]]],
             inner=DenseLinear([[2.0, 1.0], [-1.0, 0.5]], [0.5, 0.0]), rank=2, mask=[True, False, True]),
        case("OnePixel", "an image of one pixel", z=[[[[1.0]], [[-2.0]]]], x=[[[[1.0]], [[-2.0]]]],
             inner=ActNorm([2.0, -0.5], [1.0, 0.0]), rank=3),
    )
    refused = (
        refusal("inner must be a bijector of vectors", inner=Affine()),
        refusal("inner must be a bijector of vectors", inner=1.0),
        refusal("mask is for sequences, rank 2", inner=DenseLinear([[2.0]]), rank=3, mask=[True]),
        refusal("the parameters of inner must have no batch", inner=DenseLinear([[[2.0]], [[3.0]]]), rank=2),
    )
