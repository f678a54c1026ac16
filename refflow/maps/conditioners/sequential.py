r"""Layers one after the other: `h_0 = a, h_i = layer_i(h_(i-1))`.

The map.  With `J_i` the Jacobian of layer `i` at its own input,
    h = h_K                                                                         (1)
    dh/da = J_K ... J_1                                                             (2)
A scalar map is applied to every entry of an event; its Jacobian is then diagonal.

The reverse rule.  The transpose of (2) has the factors in reverse order.  The pullbacks `J_i*` therefore run from the last
layer to the first:
    a_bar = (J_1* ... J_K*)(h_bar),   each pullback fed the cotangent of its own output     (3)
The same holds for tangents: each layer takes the tangents of its input to tangents of its output, and its pullback takes the cotangents
of its output and of these tangents to cotangents of its input and of the tangents there.                       (4)

Source: the chain rule.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ...core import Bijector, Conditioner, case, children, conditioner, refusal
from ...core.compose import lifts
from ...core.products import boolean_product
from ...core.words import each
from .dense import Dense
from .dropout import Dropout
from .examples import WIDTHS, activation, dense
from .tanh_activation import TanhActivation


ACTIVATIONS = {"Tanh": "TanhActivation()", "Softplus": "SoftplusActivation()"}      # of bijectors


def as_network(f):
    """Which network is meant by a bijector in its place."""
    page = type(f).__name__
    return f"its activation is {ACTIVATIONS[page]}" if page in ACTIVATIONS else f"BijectorLayer({page}(...)) is the network of a bijector"


@conditioner(source="definition")
class Sequential(Conditioner):
    """h = layer_K(... layer_1(a)).

    Raises ValueError for layers that are not conditioners, for sizes that do not fit, and for an empty list.
    """

    layers: tuple = children()

    def __post_init__(self):
        layers = tuple(self.layers) if np.iterable(self.layers) else ()
        wrong = [layer for layer in layers if not isinstance(layer, Conditioner)]
        if wrong and isinstance(wrong[0], Bijector):
            raise ValueError(f"Sequential: layers must be networks, not the bijector {wrong[0]!r}: {as_network(wrong[0])}")
        if wrong or not layers:
            raise ValueError(f"Sequential: layers must be conditioners, at least one, not {wrong[0] if wrong else self.layers!r}")
        self._set("layers", layers)
        super().__post_init__()

    def _validate(self):
        shape = None
        for i, (layer, lift) in enumerate(self.lifted()):
            if lift and layer.event_ndim != (0, 0):
                rank, _ = layer.event_ndim
                raise ValueError(f"Sequential: layers[{i}], {type(layer).__name__}, takes events of {rank} axes, "
                                 f"not {rank + lift}")
            shape = layer.fixed_shape if shape is None else shape
            if shape is not None:
                shape = self.checked_shape(i, layer, lift, shape)
        super()._validate()

    def checked_shape(self, *of_layer):
        try:
            return self.next_shape(*of_layer)
        except ValueError as error:
            raise ValueError(f"Sequential: {error}") from None

    def lifted(self):
        """(layer, the number of axes of the event that it does not see)."""
        return list(zip(self.layers, lifts(self.layers)))

    def meets_first(self, side):
        """(the first layer from a side that sees whole events, the side); None if all layers are scalar maps."""
        layers = [layer for layer in self.layers if layer.event_ndim != (0, 0)]
        return (layers[-side], side) if layers else None

    def next_shape(self, i, layer, lift, shape):
        """The shape after a layer."""
        if lift:
            return lifted_shape(i, layer, lift, shape)
        try:
            return tuple(layer.output_shape(shape))
        except ValueError as error:
            raise ValueError(f"layers[{i}], {type(layer).__name__}: {error}, not {shape}") from None

    event_ndim = property(lambda self: (self.layers[0].event_ndim[0] + self.lifted()[0][1],
                                        self.layers[-1].event_ndim[1] + self.lifted()[-1][1]))
    domain = property(lambda self: self.layers[0].domain)
    normwise = property(lambda self: any(layer.normwise for layer in self.layers))
    smooth = property(lambda self: all(layer.smooth for layer in self.layers))

    @functools.cached_property
    def parameter_batch(self):
        """The batch axes of all layers; for lifted layers, the axes left in front of the event's."""
        batches = [layer.parameter_batch for layer in self.layers]
        return np.broadcast_shapes(*(batch[:max(0, len(batch) - k)] for batch, (_, k) in zip(batches, self.lifted())))

    @property
    def fixed_shape(self):
        for layer in self.layers:
            if layer.event_ndim != (0, 0):
                return layer.fixed_shape
        return None

    def output_shape(self, shape):
        for i, (layer, lift) in enumerate(self.lifted()):
            shape = self.next_shape(i, layer, lift, shape)
        return shape

    def depends(self, shape):
        pattern = np.eye(math.prod(shape), dtype=bool)
        for i, (layer, lift) in enumerate(self.lifted()):
            pattern = pattern if lift else boolean_product(layer.depends(shape), pattern)
            shape = self.next_shape(i, layer, lift, shape)
        return pattern

    def depends_on_positions(self, shape):
        pattern = np.eye(shape[1], dtype=bool)
        for i, (layer, lift) in enumerate(self.lifted()):
            pattern = pattern if lift else boolean_product(layer.depends_on_positions(shape), pattern)
            shape = self.next_shape(i, layer, lift, shape)
        return pattern

    @staticmethod
    def definition(m, a, layers):
        for layer in layers:
            alone = layer.event_ndim == (0, 0) and layer.parameter_batch == ()
            a = each(lambda v: layer.definition(m, v), a) if alone else layer.definition(m, a)      # noqa: B023  (1)
        return a

    def forward(self, a):
        for layer in self.layers:
            a = layer.forward(a)                                                    # (1)
        return a

    def jacobian(self, a):
        J, rank, last = None, self.event_ndim[0], len(self.layers) - 1
        for i, (layer, lift) in enumerate(self.lifted()):
            block = layer.jacobian(a)
            if lift:
                batch, event = a.shape[:a.ndim - rank], a.shape[a.ndim - rank:]
                slopes = block.reshape(*batch, int(np.prod(event)))
                J = diagonal(slopes) if J is None else slopes[..., None] * J        # (2)
            else:
                J = block if J is None else block @ J                               # (2)
            if i < last:
                a, rank = layer.forward(a), layer.event_ndim[1] + lift
        return J

    def vjp(self, a):
        pullbacks = []
        for layer in self.layers:
            a, layer_pullback = layer.vjp(a)                                        # (1)
            pullbacks.append(layer_pullback)

        def pullback(h_bar):
            bars = {}
            for i in reversed(range(len(pullbacks))):
                h_bar, bars[str(i)] = pullbacks[i](h_bar)                           # (3)
            return h_bar, {"layers": {str(i): bars[str(i)] for i in range(len(pullbacks))}}

        return a, pullback

    def jvp(self, a, A_dot):
        pullbacks = []
        for layer in self.layers:
            (a, A_dot), layer_pullback = layer.jvp(a, A_dot)                        # (1) (4)
            pullbacks.append(layer_pullback)

        def pullback(h_bar, H_bar):
            bars = {}
            for i in reversed(range(len(pullbacks))):
                h_bar, H_bar, bars[str(i)] = pullbacks[i](h_bar, H_bar)             # (3) (4)
            return h_bar, H_bar, {"layers": {str(i): bars[str(i)] for i in range(len(pullbacks))}}

        return (a, A_dot), pullback

    def lipschitz(self):
        """The product over the layers."""
        return math.prod(layer.lipschitz() for layer in self.layers)

    def initialised(self, data, rng):
        """Each layer, initialised on the output of the layers before it."""
        layers = []
        for layer in self.layers:
            layers.append(layer.initialised(data, rng))
            data = layers[-1].forward(data)
        return self.replace(layers=tuple(layers))

    @classmethod
    def examples(cls, source):
        size, width = source.choice(WIDTHS), source.choice(WIDTHS)
        first = (activation(source),) if source.chance(0.25) else ()
        layers = (dense(source, width, size, 2), activation(source), Dropout(source.booleans((width,), 0.75), 0.25))
        return cls((*first, *layers, dense(source, 2, width, 2))), (size,)

    hard_cases = (
        case("Alone", "one layer", z=[[1.0, -2.0]], layers=(Dense([[1.0, 0.5]], [0.25]),)),
        case("Saturated", "tanh has ended in the middle: h is nearly constant, its gradient nearly 0", z=[[1.0, -2.0]],
             layers=(Dense([[20.0, 1.0], [0.0, 9.0]], [0.0, 0.0]), TanhActivation(), Dense([[1.0, 2.0]], [0.5]))),
    )
    refused = (
        refusal("layers must be conditioners, at least one", layers=()),
        refusal("layers must be conditioners, at least one, not 1.0", layers=(1.0,)),
        refusal("layers[1], Dense", layers=(Dense([[1.0]], [0.0]), Dense([[1.0, 2.0]], [0.0]))),
        refusal("layers[1], Dropout: it has shape (3,)",
                layers=(Dense([[1.0], [2.0]], [0.0, 0.0]), Dropout([True, False, True], 0.5))),
    )


def lifted_shape(i, layer, lift, shape):
    """The shape of an event after a scalar map on its entries; the map's parameters or masks may vary along its axes."""
    along = layer.parameter_batch[-lift:]
    try:
        fits = np.broadcast_shapes(along, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"layers[{i}], {type(layer).__name__}: it has shape {along} along the axes of an event of {shape}")
    return shape


def diagonal(slopes):
    """diag(slopes), for each event."""
    J = np.zeros(slopes.shape + slopes.shape[-1:], slopes.dtype)
    i = np.arange(slopes.shape[-1])
    J[..., i, i] = slopes
    return J
