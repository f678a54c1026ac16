r"""A conditioner of vectors at every position of a signal, `(C, T) -> (M, T)`.

The map.  With `a_t` the vector of the `C` channels at position `t`,
    h_t = layer(a_t)   at valid positions,   0 elsewhere                            (1)
    dh/da: the block d layer(a_t) on the channels of each valid position, all else 0        (2)
With a dense layer, (1) is a convolution with kernels of one entry; with layer normalisation, it normalises over channels.  To
compute it, the channels are moved last and the positions into the batch.

The reverse rule.  All positions share the layer's parameters, whose cotangents are therefore sums over positions.  With the
layer's own pullback at each `a_t`,
    a_t_bar = layer*(h_t_bar),   the parameters' cotangents summed over positions   (3)
with `h_t_bar` and `a_t_bar` 0 at invalid positions.

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, child, conditioner, refusal, sequence_mask
from ...core.arrays import masked
from ..normalization import ActNorm
from .bijector_layer import BijectorLayer
from .conv1d import Conv1d, held_to_mask
from .dense import Dense
from .examples import WIDTHS, dense
from .layer_norm import LayerNorm


@conditioner(source="definition")
class Positionwise(Conditioner):
    """`layer`, a conditioner of vectors, on the channels of each position of (*batch, C, T); `mask` (*batch, T).

    ValueError for a layer that is not a conditioner of vectors, and for one whose parameters have a batch.
    """

    layer: Conditioner = child()
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("C", "T")
    lifted_axes = 1

    normwise = property(lambda self: self.layer.normwise)
    smooth = property(lambda self: self.layer.smooth)

    def _validate(self):
        if not isinstance(self.layer, Conditioner) or self.layer.event_ndim != (1, 1):
            given = self.layer.event_ndim if isinstance(self.layer, Conditioner) else type(self.layer).__name__
            raise ValueError(f"Positionwise: layer must be a conditioner of vectors, event ranks (1, 1), not {given}")
        if self.layer.parameter_batch != ():
            raise ValueError(f"Positionwise: the parameters of layer must have no batch, not {self.layer.parameter_batch}")
        super()._validate()

    def mask_inside(self, mask):
        return None

    def output_shape(self, shape):
        if len(shape) != 2 or shape[:1] != (self.layer.fixed_shape or shape[:1]):
            raise ValueError(f"its layer, {type(self.layer).__name__}, takes vectors of {self.layer.fixed_shape}")
        held_to_mask(self.mask, shape[1])
        return *self.layer.output_shape(shape[:1]), shape[1]

    def depends(self, shape):
        return np.kron(self.layer.depends(shape[:1]), np.eye(shape[1], dtype=bool))

    def depends_on_positions(self, shape):
        return np.eye(shape[1], dtype=bool)

    @staticmethod
    def definition(m, a, layer, mask):
        def at(t):
            if mask is None or mask[t]:
                return layer.definition(m, [channel[t] for channel in a])           # (1)
            return [m.mpf(0) for _ in layer.definition(m, [m.mpf(0) for _ in a])]   # (1)

        vectors = [at(t) for t in range(len(a[0]))]
        return [[vector[k] for vector in vectors] for k in range(len(vectors[0]))]

    def valid(self, h):
        return masked(as_signal(h), self.mask)                                      # (1)

    def forward(self, a):
        return self.valid(self.layer.forward(as_vectors(a)))                        # (1)

    def jacobian(self, a):
        blocks = self.layer.jacobian(as_vectors(a))                                 # (*batch, T, M, C)
        if self.mask is not None:
            blocks = np.where(self.mask[..., None, None], blocks, blocks.dtype.type(0))
        *batch, T, M, C = blocks.shape
        J, t = np.zeros((*batch, M, T, C, T), blocks.dtype), np.arange(T)
        J[..., :, t, :, t] = np.moveaxis(blocks, -3, 0)                             # (2)
        return J.reshape(*batch, M * T, C * T)

    def vjp(self, a):
        h, layer_pullback = self.layer.vjp(as_vectors(a))                           # (1)

        def pullback(h_bar):
            a_bar, layer_bar = layer_pullback(as_vectors(masked(h_bar, self.mask)))         # (3)
            return self.valid(a_bar), {"layer": layer_bar}

        return self.valid(h), pullback

    def initialised(self, data, rng):
        """Its layer, initialised on the vectors at valid positions."""
        vectors = as_vectors(np.asarray(data))
        if self.mask is not None:
            vectors = vectors[np.broadcast_to(self.mask, vectors.shape[:-1])]
        return self.replace(layer=self.layer.initialised(vectors, rng))

    @classmethod
    def examples(cls, source):
        """A dense layer or a layer normalisation."""
        C, T = source.choice(WIDTHS), source.count(1, 3)
        norm = LayerNorm(source.signed((C,), -4, 4), source.signed((C,), -4, 4), 0.5)
        layer = source.choice((dense(source, source.choice(WIDTHS), C, 2), norm))
        return cls(layer, source.booleans((T,), 0.75) if source.chance(0.5) else None), (C, T)

    hard_cases = (
        case("Positions", "three positions of two channels", z=[[[1.0, 2.0, -0.5], [3.0, 1e-9, 0.25]]],
             layer=Dense([[2.0, 1.0], [-1.0, 0.5], [0.25, 3.0]], [0.5, 0.0, 1.0])),
        case("Masked", "an invalid position is not read; the bias is not added there", z=[[[1.0, 2.0**100], [3.0, 1e-9]]],
             layer=Dense([[2.0, 1.0]], [0.5]), mask=[True, False]),
        case("Normalised", "a layer that fits any number of channels", z=[[[1.0, 2.0], [3.0, 0.5]]],
             layer=BijectorLayer(ActNorm([2.0, -0.5], [0.5, 1.0]))),
        case("NothingValid", "h is 0 everywhere", z=[[[1.0, 2.0]]], layer=LayerNorm([2.0], [0.5]), mask=[False, False]),
    )
    refused = (
        refusal("layer must be a conditioner of vectors", layer=Conv1d([[[1.0]]])),
        refusal("event ranks (1, 1), not ActNorm", layer=ActNorm([2.0], [0.5])),
        refusal("layer must be a component", layer=3),
        refusal("the parameters of layer must have no batch", layer=Dense([[[2.0]], [[3.0]]], [0.0])),
    )


def as_vectors(signals):
    """(*batch, C, T) as (*batch, T, C)."""
    return np.ascontiguousarray(signals.swapaxes(-1, -2))


def as_signal(vectors):
    """The reverse."""
    return np.ascontiguousarray(vectors.swapaxes(-1, -2))
