r"""A dense layer whose weights are a network of the time, `R^(N+1) -> R^M`.

The map.  An event is `(a, t)`: its last entry is the time.  The network gives `M + M N` numbers for `t`: the `M` of `b`, and then the
matrix `W`, row by row.
    [b, W] = net(t)                                                                 (1)
    h = W a + b                                                                     (2)
    dh/da = W,   dh/dt = W' a + b',   [b', W'] = dnet/dt                            (3)

The reverse rule.  With the pullback `net*` at `t`,
    a_bar = W^T h_bar,   t_bar = net*([h_bar, h_bar a^T])                           (4)
Tangents `A` of `a` and `T` of `t`, a row, make the tangents `B_k`, `W_k` of the weights, and the columns
    H_dot_k = W A_k + W_k a + B_k                                                   (5)
With the cotangents `H_bar_k` of these,
    a_bar = W^T h_bar + sum_k W_k^T H_bar_k,   A_bar_k = W^T H_bar_k                (6)
and the pullback of the network's tangents is given the cotangents of its values, then of its tangents,
    [h_bar, h_bar a^T + sum_k H_bar_k A_k^T],   [H_bar_k, H_bar_k a^T]              (7)

Source: the code of Grathwohl et al., FFJORD, arXiv:1810.01367; Ha, Dai & Le, HyperNetworks, arXiv:1609.09106.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, child, conditioner, plain, refusal
from ...core.rules import count
from .dense import Dense
from .examples import dense
from .sequential import Sequential
from .tanh_activation import TanhActivation


@conditioner(source="arXiv:1810.01367")
class HyperDense(Conditioner):
    """h = W a + b with (b, W) = net(t), of the event (a, t); W has `outputs` rows."""

    net: Conditioner = child()
    outputs: int = plain(rule=count())
    event_shape = ("N+1",)

    normwise = property(lambda self: self.net.normwise)
    smooth = property(lambda self: self.net.smooth)

    def _validate(self):
        if self.net.event_ndim != (1, 1):
            raise ValueError(f"HyperDense: net must be of vectors, event ranks (1, 1), not {self.net.event_ndim}")
        super()._validate()

    @property
    def fixed_shape(self):
        return None if self.net.fixed_shape is None else (self.net.output_shape((1,))[0] // self.outputs,)

    def output_shape(self, shape):
        given, needed = self.net.output_shape((1,))[0], self.outputs * shape[0]
        if given != needed:
            raise ValueError(f"its net must give {needed} numbers for {self.outputs} outputs of {shape[0] - 1} entries, not {given}")
        return (self.outputs,)

    @staticmethod
    def definition(m, a, net, outputs):
        *a, t = a
        numbers = net.definition(m, [t])                                            # (1)
        b, W, N = numbers[:outputs], numbers[outputs:], len(a)
        return [b[i] + sum(W[i * N + j] * a_j for j, a_j in enumerate(a)) for i in range(outputs)]      # (2)

    def parts(self, numbers, axis=-1):
        """(b, W) of the network's numbers, along an axis."""
        b, W = np.split(numbers, [self.outputs], axis)
        axis %= numbers.ndim
        rows = self.outputs, W.shape[axis] // self.outputs
        return b, W.reshape(*W.shape[:axis], *rows, *W.shape[axis + 1:])            # (1)

    def joined(self, b, W):
        """The network's numbers of (b, W)."""
        return np.concatenate([b, W.reshape(*W.shape[:-2], W.shape[-2] * W.shape[-1])], -1)

    def forward(self, a):
        b, W = self.parts(self.net.forward(a[..., -1:]))                            # (1)
        return np.matvec(W, a[..., :-1]) + b                                        # (2)

    def jacobian(self, a):
        a, t = a[..., :-1], a[..., -1:]
        _, W = self.parts(self.net.forward(t))                                      # (1)
        b_dot, W_dot = self.parts(self.net.jacobian(t)[..., 0])                     # (3)
        return np.concatenate([W, (np.matvec(W_dot, a) + b_dot)[..., None]], -1)    # (3)

    def vjp(self, a):
        a, t = a[..., :-1], a[..., -1:]
        numbers, net_pullback = self.net.vjp(t)
        b, W = self.parts(numbers)                                                  # (1)

        def pullback(h_bar):
            t_bar, net_bar = net_pullback(self.joined(h_bar, h_bar[..., None] * a[..., None, :]))       # (4)
            return np.concatenate([np.vecmat(h_bar, W), t_bar], -1), {"net": net_bar}       # (4)

        return np.matvec(W, a) + b, pullback                                        # (2)

    def jvp(self, a, A_dot):
        a, t, A, T = a[..., :-1], a[..., -1:], A_dot[..., :-1, :], A_dot[..., -1:, :]
        (numbers, tangents), net_pullback = self.net.jvp(t, T)
        (b, W), (B, W_dot) = self.parts(numbers), self.parts(tangents, -2)
        H_dot = W @ A + np.einsum("...ijk,...j->...ik", W_dot, a) + B               # (5)

        def pullback(h_bar, H_bar):
            outer = h_bar[..., None] * a[..., None, :] + H_bar @ A.mT               # (7)
            each = H_bar[..., None, :] * a[..., None, :, None]                      # (7)
            *batch, M, N, K = each.shape
            bars = np.concatenate([H_bar, each.reshape(*batch, M * N, K)], -2)      # (7)
            t_bar, T_bar, net_bar = net_pullback(self.joined(h_bar, outer), bars)   # (7)
            a_bar = np.vecmat(h_bar, W) + np.einsum("...ijk,...ik->...j", W_dot, H_bar)         # (6)
            return np.concatenate([a_bar, t_bar], -1), np.concatenate([W.mT @ H_bar, T_bar], -2), {"net": net_bar}          # (6)

        return (np.matvec(W, a) + b, H_dot), pullback                               # (2)

    def initialised(self, data, rng):
        """Its network, initialised on the times of the data."""
        return self.replace(net=self.net.initialised(np.asarray(data)[..., -1:], rng))

    @classmethod
    def examples(cls, source):
        M, N, width = source.count(1, 2), source.count(1, 2), source.count(1, 2)
        net = Sequential((dense(source, width, 1, 1), TanhActivation(), dense(source, M * (N + 1), width, 1)))
        return cls(net, M), (N + 1,)

    hard_cases = (
        case("Rows", "b first, and then W row by row", z=[[2.0, -3.0, 0.5]], outputs=2,
             net=Dense([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]], [0.5, -0.5, 0.25, 1.0, 2.0, 4.0])),
        case("Still", "weights that do not move", z=[[2.0, 0.5]], outputs=1, net=Dense([[0.0], [0.0]], [0.25, 3.0])),
    )
    refused = (
        refusal("its net must give 4 numbers for 2 outputs of 1 entries, not 2", [1.0, 2.0], net=Dense([[1.0], [2.0]]), outputs=2),
    )
