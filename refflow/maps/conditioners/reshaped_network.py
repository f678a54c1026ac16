r"""A network of signals as a network of vectors, `R^(C S) -> R^(M T)`.

The map.  The vector is read as a signal of `C` channels and `S` positions, in C order, and the network's output, of `M` channels
and `T` positions, is flattened likewise:
    h = vec(net(mat(a)))                                                            (1)
    dh/da = J,   J = dnet at mat(a)                                                 (2)
Maps of vectors, such as couplings and autoregressive maps, thus take networks of tokens.  Which entry of `h` may depend on which
entry of `a` follows from their positions alone:
    entry (m, t) on (c, s)   where the network's output at t may depend on its input at s       (3)

The reverse rule.  With the network's pullback `net*` at `mat(a)`,
    a_bar = vec(net*(mat(h_bar)))                                                   (4)

Source: the definition.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Conditioner, case, child, conditioner, plain, refusal
from ..shape.reshape import flattened, nested
from .conv1d import Conv1d
from .delay import Delay
from .dense import Dense
from .examples import dense
from .positionwise import Positionwise
from .sequential import Sequential


@conditioner(source="definition")
class ReshapedNetwork(Conditioner):
    """h = net(a), with a (*batch, C S) seen by `net` as (*batch, C, S), the shape `shape`, and its output flattened.

    ValueError for a network that is not of signals or does not fit the shape, and for one with a sequence mask: a vector has no
    positions.
    """

    net: Conditioner = child()
    shape: tuple = plain()

    normwise = property(lambda self: self.net.normwise)
    smooth = property(lambda self: self.net.smooth)
    fixed_shape = property(lambda self: (math.prod(self.shape),))

    def __post_init__(self):
        self._set("shape", tuple(int(n) for n in self.shape))
        super().__post_init__()

    def _validate(self):
        if self.net.event_ndim != (2, 2):
            raise ValueError(f"ReshapedNetwork: net must be of signals, event ranks (2, 2), not {self.net.event_ndim}")
        if len(self.shape) != 2:
            raise ValueError(f"ReshapedNetwork: shape must be (channels, positions), not {self.shape}")
        if self.net.held("mask"):
            raise ValueError("ReshapedNetwork: net must have no sequence mask")
        super()._validate()
        if not self.net.needs("context"):
            self.output_shape(self.fixed_shape)

    def output_shape(self, shape):
        if tuple(shape) != self.fixed_shape:
            raise ValueError(f"its events have {self.fixed_shape[0]} entries, a signal of shape {self.shape}")
        return (math.prod(self.of_net()),)

    def of_net(self):
        """(M, T)."""
        try:
            return tuple(self.net.output_shape(self.shape))
        except ValueError as error:
            raise ValueError(f"ReshapedNetwork: net does not take signals of shape {self.shape}: {error}") from None

    def depends(self, shape):
        positions, M = self.net.depends_on_positions(self.shape), self.of_net()[0]
        return np.tile(positions, (M, self.shape[0]))                               # (3)

    @staticmethod
    def definition(m, a, net, shape):
        return flattened(net.definition(m, nested(a, shape)))                       # (1)

    def as_signal(self, a):
        return a.reshape(*a.shape[:-1], *self.shape)

    def forward(self, a):
        h = self.net.forward(self.as_signal(a))                                     # (1)
        return h.reshape(*h.shape[:-2], h.shape[-2] * h.shape[-1])

    def jacobian(self, a):
        return self.net.jacobian(self.as_signal(a))                                 # (2)

    def vjp(self, a):
        h, net_pullback = self.net.vjp(self.as_signal(a))                           # (1)

        def pullback(h_bar):
            a_bar, net_bar = net_pullback(h_bar.reshape(h.shape))                   # (4)
            return a_bar.reshape(*a_bar.shape[:-2], math.prod(self.shape)), {"net": net_bar}        # (4)

        return h.reshape(*h.shape[:-2], h.shape[-2] * h.shape[-1]), pullback

    def initialised(self, data, rng):
        """Its network, initialised on `data`."""
        return self.replace(net=self.net.initialised(self.as_signal(np.asarray(data)), rng))

    @classmethod
    def examples(cls, source):
        C, T, M = (source.count(1, 2) for _ in range(3))
        layer = Positionwise(dense(source, M, C, 2))
        return cls(Sequential((layer, Delay())) if source.chance(0.5) else layer, (C, T)), (C * T,)

    hard_cases = (
        case("Delayed", "two channels of three positions: the first position of h is 0", z=[[1.0, 2.0, -0.5, 3.0, 1e-9, 0.25]],
             net=Sequential((Positionwise(Dense([[2.0, 1.0]], [0.5])), Delay())), shape=(2, 3)),
        case("Position", "one position: channels alone", z=[[1.0, -2.0]], net=Positionwise(Dense([[2.0, 1.0]], [0.5])), shape=(2, 1)),
    )
    refused = (
        refusal("net must be of signals", net=Dense([[1.0]]), shape=(1, 1)),
        refusal("shape must be (channels, positions)", net=Delay(), shape=(2,)),
        refusal("net must have no sequence mask", net=Delay(mask=[True]), shape=(1, 1)),
        refusal("its events have 2 entries", [1.0, 2.0, 3.0], net=Delay(), shape=(1, 2)),
        refusal("net does not take signals of shape (1, 2)", net=Conv1d([[[1.0], [2.0]]]), shape=(1, 2)),
    )
