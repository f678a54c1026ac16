r"""The networks of Glow-TTS: compositions of pages for signals `(C, T)`.

With `*` a convolution, LN the normalisation of the channels at each position, and every layer with the same sequence mask,
    coupling:    h = W_2 * wave_net(W_1 * a),   W_1, W_2 with kernels of one entry, W_2 = 0 at the start        (1)
    duration:    two times relu(W * a), LN, dropout; then a dense layer at each position                        (2)
    feed-forward:    h = W_2 * dropout(relu(W_1 * a))                               (3)
    prenet:    h = a + W a_n at each position, a_(i+1) = dropout(relu(LN(W_i * a_i))), W = 0 at the start       (4)
In (1) all kernels but `W_2` are weight-normalised, and the dilation of layer `i` of the wave net is `rate^i`, `i = 0, 1, ...`
At the start, weights and biases of a layer with fan-in `f` (`initialisers.py`) are drawn as in PyTorch:
    U(-bound, bound),   bound = f^(-1/2)                                            (5)
and gains are the lengths of the drawn weights, so that weight normalisation changes nothing at the start.

Dropout is left out as the networks are built; `with_dropout` puts it in, with masks that the caller draws for a step of
training.

Source: Kim, Kim, Kong & Yoon, arXiv:2005.11129, and their code.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import tree
from .conv1d import Conv1d
from .dropout import Dropout
from .initialisers import fans, uniform, zero
from .layer_norm import LayerNorm
from .positionwise import Positionwise
from .relu import ReLU
from .residual import Residual
from .sequential import Sequential
from .signal_context import SignalContext
from .unit_vector import UnitVector
from .wave_net import WaveNet
from .weight_norm import WeightNormDense
from .weight_norm_conv1d import WeightNormConv1d

__all__ = ["wave_net_coupling_network", "duration_network", "feed_forward_network", "prenet", "with_dropout"]

NORM_EPS = 1e-4


def wave_net_coupling_network(rng, inputs, hidden, outputs, layers=4, kernel=5, dilation_rate=1, context=0, dtype=np.float64):
    """(1): from (inputs, T) to (outputs, T) through a `WaveNet` of (hidden, T); its output starts at 0.

    With `context` numbers of context, the vector of a speaker, the wave net takes this vector through `at(context=...)`, divided
    by its length.
    """
    draw = Drawn("wave_net_coupling_network", rng, dtype)
    draw.counts(inputs=inputs, hidden=hidden, outputs=outputs, layers=layers, kernel=kernel, dilation_rate=dilation_rate)
    in_layers = [draw.normalised(2 * hidden, hidden, kernel, dilation_rate**i, Dropout(True, 0.0)) for i in range(layers)]
    res_skips = [draw.normalised(hidden if i == layers - 1 else 2 * hidden, hidden, 1) for i in range(layers)]
    cond = [Sequential((UnitVector(), draw.normalised_dense(2 * hidden * layers, context)))] if context else []
    return Sequential((draw.normalised(hidden, inputs, 1), WaveNet(in_layers, res_skips, cond), draw.zeros(outputs, hidden)))


def duration_network(rng, inputs, hidden, kernel=3, outputs=1, context=0, dtype=np.float64):
    """(2): from (inputs, T) to (outputs, T), the logarithm of the duration at each position.

    With `context` numbers of context, the vector of a speaker, divided by its length, makes that many further inputs.
    """
    draw = Drawn("duration_network", rng, dtype)
    draw.counts(inputs=inputs, hidden=hidden, kernel=kernel, outputs=outputs)
    layers = []
    for channels in (inputs + context, hidden):
        layers += [draw.plain(hidden, channels, kernel), ReLU(), draw.norm(hidden), Dropout(True, 0.0)]
    net = Sequential((*layers, draw.plain(outputs, hidden, 1)))                     # (2)
    return SignalContext(UnitVector(), net) if context else net


def feed_forward_network(rng, inputs, hidden, outputs, kernel=3, activation=ReLU(), dtype=np.float64):
    """(3): from (inputs, T) to (outputs, T)."""
    draw = Drawn("feed_forward_network", rng, dtype)
    draw.counts(inputs=inputs, hidden=hidden, outputs=outputs, kernel=kernel)
    return Sequential((draw.plain(hidden, inputs, kernel), activation, Dropout(True, 0.0),
                       draw.plain(outputs, hidden, kernel)))                        # (3)


def prenet(rng, inputs, hidden, layers=3, kernel=5, dtype=np.float64):
    """(4): from (inputs, T) to (inputs, T); it starts as the identity."""
    draw = Drawn("prenet", rng, dtype)
    draw.counts(inputs=inputs, hidden=hidden, layers=layers, kernel=kernel)
    blocks = []
    for i in range(layers):
        blocks += [draw.plain(hidden, inputs if i == 0 else hidden, kernel), draw.norm(hidden), ReLU(), Dropout(True, 0.0)]
    return Residual(Sequential((*blocks, draw.zeros(inputs, hidden))))              # (4)


def with_dropout(net, keeps, rates):
    """The network with a mask of `keeps` in each of its places for dropout, in the order of its layers.

    A place is a `Dropout`, whose mask is (*batch, C, T), or the weights of a `RelativeAttention`, (*batch, heads, T, T).
    `rates` is a number for each place, or one for all.  ValueError for another number of masks.
    """
    places = [path for path, value in tree.walk(net) if "keep" in value.declared]
    if len(keeps) != len(places):
        raise ValueError(f"with_dropout: the network has {len(places)} dropouts, not {len(keeps)}")
    given = dict(zip(places, zip(keeps, np.broadcast_to(rates, len(places)).tolist())))
    return tree.remade(net, lambda path, value: dict(zip(("keep", "rate"), given[path])) if path in given else {})


class Drawn:
    """The layers of a network, with weights drawn from `rng`."""

    def __init__(self, name, rng, dtype):
        self.name, self.rng, self.dtype = name, rng, dtype

    def counts(self, **given):
        for key, n in given.items():
            if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
                raise ValueError(f"{self.name}: {key} must be an int >= 1, not {n!r}")

    def weights(self, *shape):
        """(W, b) of (5)."""
        bound = 1 / math.sqrt(fans(shape)[0])                                       # (5)
        return uniform(self.rng, shape, bound, self.dtype), uniform(self.rng, shape[:1], bound, self.dtype)

    def plain(self, outputs, inputs, kernel):
        return Conv1d(*self.weights(outputs, inputs, kernel))

    def zeros(self, outputs, inputs):
        return Conv1d(zero(self.rng, (outputs, inputs, 1), self.dtype), zero(self.rng, (outputs,), self.dtype))     # (1)

    def normalised(self, outputs, inputs, kernel, dilation=1, after=None):
        W, b = self.weights(outputs, inputs, kernel)
        layer = WeightNormConv1d(W, np.sqrt((W * W).sum((1, 2))), b, dilation)
        return layer if after is None else Sequential((layer, after))

    def normalised_dense(self, outputs, inputs):
        W, b = self.weights(outputs, inputs)
        return WeightNormDense(W, np.sqrt((W * W).sum(1)), b)

    def norm(self, channels):
        return Positionwise(LayerNorm(np.ones(channels, self.dtype), eps=NORM_EPS))
