r"""A network of a point and the time, whose layers all see the time, `R^(D+1) -> R^M`.

The map.  An event is `(z, t)`: its last entry is the time.  With one activation `f` for all entries and all layers,
    y_1 = layer_1(z, t),   y_i = layer_i(f(y_(i-1)), t)                             (1)
    h = y_K                                                                         (2)
The parameters of `f`, if it has any, are shared by all layers.  With `J_i` for the Jacobian of layer `i`, split into columns `Z_i`
of its event and the column `T_i` of the time, and `f'` the slopes of the activation at `y_(i-1)`,
    Y_1 = J_1,   Y_i = Z_i diag(f') Y_(i-1) + T_i e^T,   dh/d(z, t) = Y_K           (3)
where `e` is the unit vector of the time.

The reverse rule.  From the last layer to the first, with the pullbacks `layer_i*` and `f*`,
    (f_bar, t_i_bar) = layer_i*(y_i_bar),   y_(i-1)_bar = f*(f_bar)                 (4)
    t_bar = sum_i t_i_bar                                                           (5)
and the cotangents of what is shared are added up.  The same holds for tangents: each layer is given the tangents of its event and of the
time, and the cotangents of these are added up likewise.                            (6)

Source: Grathwohl et al., FFJORD, arXiv:1810.01367, and its code.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, child, children, conditioner, join, refusal
from ...core.tree import added
from ...core.words import each
from .dense import Dense
from .examples import dense
from .softplus_activation import SoftplusActivation
from .tanh_activation import TanhActivation
from .time_dense import TimeDense


@conditioner(source="arXiv:1810.01367")
class TimeNetwork(Conditioner):
    """h = layer_K(f(... f(layer_1(z, t)) ...), t), of the event (z, t), the time as its last entry.

    `layers`: conditioners of an event and the time, as `TimeDense`, `BlendedDense`, `HyperDense`, or `Dense` with a column for the time;
    `activation`: f, a map of numbers, between them.
    """

    layers: tuple = children()
    activation: Conditioner = child()
    event_shape = ("D+1",)

    normwise = property(lambda self: any(c.normwise for c in self.components()))
    smooth = property(lambda self: all(c.smooth for c in self.components()))
    fixed_shape = property(lambda self: self.layers[0].fixed_shape)

    def _validate(self):
        wrong = [layer for layer in self.layers if layer.event_ndim != (1, 1)]
        if wrong or not self.layers:
            given = wrong[0].event_ndim if wrong else "none"
            raise ValueError(f"TimeNetwork: layers must be of vectors, event ranks (1, 1), at least one, not {given}")
        if self.activation.event_ndim != (0, 0):
            raise ValueError(f"TimeNetwork: activation must be of numbers, event ranks (0, 0), not {self.activation.event_ndim}")
        super()._validate()

    def output_shape(self, shape):
        shape = tuple(self.layers[0].output_shape(shape))
        for layer in self.layers[1:]:
            shape = tuple(layer.output_shape((shape[0] + 1,)))
        return shape

    @staticmethod
    def definition(m, a, layers, activation):
        *_, t = a
        y = layers[0].definition(m, a)                                              # (1)
        for layer in layers[1:]:
            y = layer.definition(m, [*each(lambda v: activation.definition(m, v), y), t])       # (1)
        return y                                                                    # (2)

    def forward(self, a):
        t, y = a[..., -1:], self.layers[0].forward(a)                               # (1)
        for layer in self.layers[1:]:
            y = layer.forward(join(self.activation.forward(y), t))                  # (1)
        return y

    def jacobian(self, a):
        t, y, Y = a[..., -1:], self.layers[0].forward(a), self.layers[0].jacobian(a)
        for layer in self.layers[1:]:
            slopes = self.activation.jacobian(y)[..., 0]
            a = join(self.activation.forward(y), t)
            y, J = layer.forward(a), layer.jacobian(a)
            by_time = J[..., -1:] * np.eye(Y.shape[-1], dtype=J.dtype)[-1]
            Y = J[..., :-1] @ (slopes * Y) + by_time                                # (3)
        return Y

    def vjp(self, a):
        t = a[..., -1:]
        y, first = self.layers[0].vjp(a)
        pullbacks = []
        for layer in self.layers[1:]:
            f, of_activation = self.activation.vjp(y)
            y, of_layer = layer.vjp(join(f, t))                                     # (1)
            pullbacks.append((of_layer, of_activation))

        def pullback(h_bar):
            bars, of_shared, t_bar = {}, {}, 0
            for i, (of_layer, of_activation) in reversed(list(enumerate(pullbacks, 1))):
                bar, bars[str(i)] = of_layer(h_bar)                                 # (4)
                t_bar = t_bar + bar[..., -1:]                                       # (5)
                h_bar, one = of_activation(bar[..., :-1])                           # (4)
                of_shared = added(of_shared, one)
            bar, bars["0"] = first(h_bar)                                           # (4)
            return with_time(bar, t_bar, -1), self.named(bars, of_shared)            # (5)

        return y, pullback

    def jvp(self, a, A_dot):
        t, T = a[..., -1:], A_dot[..., -1:, :]
        (y, Y), first = self.layers[0].jvp(a, A_dot)
        pullbacks = []
        for layer in self.layers[1:]:
            (f, F), of_activation = self.activation.jvp(y, Y)
            (y, Y), of_layer = layer.jvp(join(f, t), np.concatenate([F, T], -2))    # (1) (6)
            pullbacks.append((of_layer, of_activation))

        def pullback(h_bar, H_bar):
            bars, of_shared, t_bar, T_bar = {}, {}, 0, 0
            for i, (of_layer, of_activation) in reversed(list(enumerate(pullbacks, 1))):
                bar, BAR, bars[str(i)] = of_layer(h_bar, H_bar)                     # (4) (6)
                t_bar, T_bar = t_bar + bar[..., -1:], T_bar + BAR[..., -1:, :]      # (5) (6)
                h_bar, H_bar, one = of_activation(bar[..., :-1], BAR[..., :-1, :])  # (4) (6)
                of_shared = added(of_shared, one)
            bar, BAR, bars["0"] = first(h_bar, H_bar)                               # (4) (6)
            return with_time(bar, t_bar, -1), with_time(BAR, T_bar, -2), self.named(bars, of_shared)     # (5) (6)

        return (y, Y), pullback

    def named(self, bars, of_shared):
        return {"layers": {str(i): bars[str(i)] for i in range(len(self.layers))}} | ({"activation": of_shared} if of_shared else {})

    def initialised(self, data, rng):
        """Each layer, initialised on what it meets, and the activation on the output of the first layer."""
        layers, activation, data = [], self.activation, np.asarray(data)
        t = data[..., -1:]
        for i, layer in enumerate(self.layers):
            layers.append(layer.initialised(data, rng))
            y = layers[-1].forward(data)
            activation = activation.initialised(y, rng) if i == 0 else activation
            data = join(activation.forward(y), t)
        return self.replace(layers=tuple(layers), activation=activation)

    @classmethod
    def examples(cls, source):
        D, width = source.count(1, 2), source.count(1, 2)
        layers = cls.layer(source, width, D), cls.layer(source, D, width)
        return cls(layers, source.choice((TanhActivation, SoftplusActivation))()), (D + 1,)

    @staticmethod
    def layer(source, M, N):
        gate, gate_bias, shift = (dense(source, M, 1).b for _ in range(3))
        plain = dense(source, M, N)
        return TimeDense(plain.W, plain.b, gate, gate_bias, shift) if source.chance(0.7) else dense(source, M, N + 1)

    hard_cases = (
        case("Alone", "one layer, and no activation", z=[[1.0, -2.0]], layers=(Dense([[1.0, 0.5]], [0.25]),), activation=TanhActivation()),
        case("Late", "the second layer alone sees the time", z=[[1.0, 3.0]], activation=TanhActivation(),
             layers=(Dense([[0.5, 0.0]], [0.25]), Dense([[2.0, 0.125]], [0.5]))),
    )
    refused = (
        refusal("layers must be of vectors", layers=(), activation=TanhActivation()),
        refusal("layers must be of vectors", layers=(TanhActivation(),), activation=TanhActivation()),
        refusal("activation must be of numbers", layers=(Dense([[1.0]]),), activation=Dense([[1.0]])),
    )


def with_time(bar, more, axis):
    """A cotangent of (z, t), with more for the time, along an axis."""
    of_event, of_time = np.split(bar, [bar.shape[axis] - 1], axis)
    return np.concatenate([of_event, of_time + more], axis)
