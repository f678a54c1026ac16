r"""Gated convolutions with residual and skip connections, `(H, T) -> (H, T)`: the network of Glow-TTS's couplings.

The map.  Layer `i` of `n` has the convolutions `f_i` and `q_i`, the fields `in_layers` and `res_skips`; `q_n` gives `H`
channels, all other convolutions give `2 H`.  A network makes `2 H n` numbers of the context `c`, and layer `i` gets its own
part of them, `c_i`; without a network, `c_i = 0`.  With `mask` 1 at valid positions and 0 elsewhere,
    x_1 = a,   s_0 = 0,   [c_1  ...  c_n] = cond(c)                                 (1)
    p_i = f_i(x_i) + c_i     at every position                                      (2)
    g_i = mask tanh(p_i') sigma(p_i'')                                              (3)
    r_i = q_i(g_i)                                                                  (4)
    x_(i+1) = mask (x_i + r_i'),   s_i = s_(i-1) + r_i''       for i < n            (5)
    h = mask (s_(n-1) + r_n)                                                        (6)
where one prime marks the first half of the channels, two the second, `sigma` is the logistic sigmoid, and `a` is 0 at invalid
positions.  Dropout on the pre-activations is part of a layer, `Sequential((convolution, Dropout(...)))`.

Jacobians are multiplied forwards.  With `X_1 = I`, `S_0 = 0`, and `A_i` and `B_i` the Jacobians of `f_i` and `q_i`,
    P_i = A_i X_i,   G_i = mask (diag(dg_i/dp_i') P_i' + diag(dg_i/dp_i'') P_i'')   (7)
    R_i = B_i G_i,   X_(i+1) = mask (X_i + R_i'),   S_i = S_(i-1) + R_i'',   dh/da = mask (S_(n-1) + R_n)      (8)
and 0 in the columns of invalid positions.

The reverse rule.  From the last layer to the first, with every cotangent of a signal 0 at invalid positions, (6) and (5) give
(9), (4) and (3) give (10), (2) and (5) give (11), and (2) and (1) give (12):
    s_bar = h_bar,   r_n_bar = s_bar,   r_i_bar = [x_(i+1)_bar, s_bar]   for i < n       (9)
    g_i_bar = q_i*(r_i_bar),   p_i_bar = (g_i_bar dg_i/dp_i', g_i_bar dg_i/dp_i'')        (10)
    x_n_bar = f_n*(p_n_bar),   x_i_bar = x_(i+1)_bar + f_i*(p_i_bar)   for i < n    (11)
    c_i_bar = sum_t p_i_bar(t),   c_bar = cond*([c_1_bar  ...  c_n_bar])            (12)

Source: Kim, Kim, Kong & Yoon, arXiv:2005.11129, and their code.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, children, conditioner, context, halves, refusal, sequence_mask
from ...core.arrays import masked, masked_jacobian, sum_to_shape
from ...core.words import each, zero_where_invalid
from .conv1d import Conv1d, held_to_mask
from .dense import Dense
from .examples import dense, signal_convolution
from .gated_activation import Gate, GatedActivation

CHANNELS = -2                                   # the axis of channels


@conditioner(source="arXiv:2005.11129")
class WaveNet(Conditioner):
    """h of (*batch, H, T) from a (*batch, H, T), with a gated convolution and a skip connection for each layer.

    `in_layers`: conditioners (H, T) -> (2 H, T), as many as there are layers; `res_skips`: (H, T) -> (2 H, T), the last one
    (H, T) -> (H, T); `cond`: one conditioner of the context, (G,) -> (2 H n,), or none; `context` (*batch, G) and the valid
    positions `mask` (*batch, T) are filled in by `at(context=..., mask=...)`.
    """

    in_layers: tuple = children()
    res_skips: tuple = children()
    cond: tuple = children()
    context: Array = context("G")
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("H", "T")

    normwise = property(lambda self: any(c.normwise for c in self.components()))
    smooth = property(lambda self: all(c.smooth for c in self.components()))

    def _validate(self):
        n, given = len(self.in_layers), (len(self.in_layers), len(self.res_skips), len(self.cond))
        if not n or given[1] != n or given[2] > 1:
            raise ValueError(f"WaveNet: there must be as many in_layers as res_skips, at least one, and at most one cond, "
                             f"not {given[0]}, {given[1]} and {given[2]}")
        super()._validate()

    def output_shape(self, shape):
        H, T = shape
        held_to_mask(self.mask, T)
        n = len(self.in_layers)
        for name, layers, last in (("in_layers", self.in_layers, 2 * H), ("res_skips", self.res_skips, H)):
            for i, layer in enumerate(layers):
                given, wanted = tuple(layer.output_shape(shape)), (last if i == n - 1 else 2 * H, T)
                if given != wanted:
                    raise ValueError(f"{name}[{i}], {type(layer).__name__}, gives signals of shape {given}, {wanted} is needed")
        for net in self.cond:
            size = net.fixed_shape if self.context is None else self.context.shape[-1:]
            if size is not None and tuple(net.output_shape(size)) != (2 * H * n,):
                raise ValueError(f"its cond gives {net.output_shape(size)[0]} numbers, 2 H n = {2 * H * n} are needed")
        return shape

    @staticmethod
    def definition(m, a, in_layers, res_skips, cond, context, mask):
        H, n, x, s = len(a), len(in_layers), zero_where_invalid(m, a, mask), None   # (1)
        c = cond[0].definition(m, context) if cond else [m.mpf(0)] * (2 * H * n)    # (1)
        for i, (in_layer, res_skip) in enumerate(zip(in_layers, res_skips)):
            p = [[v + c_k for v in channel] for channel, c_k in zip(in_layer.definition(m, x), c[2 * H * i:])]      # (2)
            g = zero_where_invalid(m, GatedActivation.definition(m, p, 2), mask)    # (3)
            r = res_skip.definition(m, g)                                           # (4)
            if i < n - 1:
                x = zero_where_invalid(m, each(lambda x_j, r_j: x_j + r_j, x, r[:H]), mask)         # (5)
            s = r[-H:] if s is None else each(lambda s_j, r_j: s_j + r_j, s, r[-H:])        # (5) (6)
        return zero_where_invalid(m, s, mask)                                       # (6)

    # -- the recursion -----------------------------------------------------------------------------------------------

    def conditioned(self):
        """([c_1, ..., c_n], each (*batch, 2 H, 1) or 0 without a network, the pullback of their cotangents)."""
        n = len(self.in_layers)
        if not self.cond:
            nothing = {} if self.context is None else {"context": np.zeros_like(self.context)}
            return [0] * n, lambda c_bars: {"cond": {}, **nothing}
        if self.context is None:
            raise ValueError("WaveNet: there is no context; fill it in with at(context=...)")
        c, cond_pullback = self.cond[0].vjp(self.context)                           # (1)

        def pullback(c_bars):
            context_bar, cond_bar = cond_pullback(sum_to_shape(np.concatenate(c_bars, -1), c.shape))    # (12)
            return {"cond": {"0": cond_bar}, "context": context_bar}

        return [part[..., None] for part in np.split(c, n, -1)], pullback

    def stepped(self, i, x, s, r):
        """(x_(i+1), s_i) for the layer of index i."""
        if i < len(self.in_layers) - 1:
            to_x, r = halves(r, CHANNELS)
            x = masked(x + to_x, self.mask)                                         # (5)
        return x, r if s is None else s + r                                         # (5) (6)

    def layers(self):
        return enumerate(zip(self.in_layers, self.res_skips))

    def forward(self, a):
        x, s, (c, _) = a, None, self.conditioned()                                  # (1)
        for i, (in_layer, res_skip) in self.layers():
            gate = Gate(in_layer.forward(x) + c[i], CHANNELS)                       # (2)
            x, s = self.stepped(i, x, s, res_skip.forward(masked(gate.h, self.mask)))       # (3) (4)
        return masked(s, self.mask)                                                 # (6)

    def jacobian(self, a):
        x, s, (c, _) = a, None, self.conditioned()
        X, S = np.eye(math.prod(a.shape[-2:]), dtype=a.dtype), 0
        for i, (in_layer, res_skip) in self.layers():
            gate = Gate(in_layer.forward(x) + c[i], CHANNELS)
            P, g = in_layer.jacobian(x) @ X, masked(gate.h, self.mask)              # (7)
            slopes = (slope.reshape(*slope.shape[:-2], X.shape[-1], 1) for slope in gate.slopes(np.ones_like(g)))
            G = sum(slope * half for slope, half in zip(slopes, halves(P, -2)))     # (7)
            R = res_skip.jacobian(g) @ masked_jacobian(G, self.mask)                # (7) (8)
            x, s = self.stepped(i, x, s, res_skip.forward(g))
            if i < len(self.in_layers) - 1:
                to_X, R = halves(R, -2)
                X = masked_jacobian(X + to_X, self.mask)                            # (8)
            S = S + R                                                               # (8)
        return masked_jacobian(S, self.mask)                                        # (8)

    def vjp(self, a):
        x, s, steps, (c, conditioned_pullback) = a, None, [], self.conditioned()    # (1)
        for i, (in_layer, res_skip) in self.layers():
            p, in_pullback = in_layer.vjp(x)
            gate = Gate(p + c[i], CHANNELS)                                         # (2)
            r, res_pullback = res_skip.vjp(masked(gate.h, self.mask))               # (3) (4)
            steps.append((in_pullback, gate, res_pullback))
            x, s = self.stepped(i, x, s, r)

        def pullback(h_bar):
            s_bar, x_bar, bars, c_bars = masked(h_bar, self.mask), None, [], []     # (9)
            for in_pullback, gate, res_pullback in reversed(steps):
                r_bar = s_bar if x_bar is None else np.concatenate((x_bar, s_bar), CHANNELS)        # (9)
                g_bar, res_bar = res_pullback(r_bar)                                # (10)
                p_bar = gate.pullback(masked(g_bar, self.mask))                     # (10)
                through, in_bar = in_pullback(p_bar)
                through = masked(through, self.mask)
                x_bar = through if x_bar is None else x_bar + through               # (11)
                bars.insert(0, (in_bar, res_bar))
                c_bars.insert(0, p_bar.sum(-1))                                     # (12)
            in_bars, res_bars = ({str(i): bar for i, bar in enumerate(layers)} for layers in zip(*bars))
            return x_bar, {"in_layers": in_bars, "res_skips": res_bars, **conditioned_pullback(c_bars)}

        return masked(s, self.mask), pullback                                       # (6)

    def initialised(self, data, rng):
        """Each layer, initialised on its own input."""
        x, s, (c, _), in_layers, res_skips = masked(np.asarray(data), self.mask), None, self.conditioned(), [], []
        for i, (in_layer, res_skip) in self.layers():
            in_layer = in_layer.initialised(x, rng)
            g = masked(Gate(in_layer.forward(x) + c[i], CHANNELS).h, self.mask)
            res_skip = res_skip.initialised(g, rng)
            x, s = self.stepped(i, x, s, res_skip.forward(g))
            in_layers.append(in_layer)
            res_skips.append(res_skip)
        return self.replace(in_layers=tuple(in_layers), res_skips=tuple(res_skips))

    @classmethod
    def examples(cls, source):
        """One or two layers on one channel, or one on two channels, with a context and a mask or without."""
        (H, n), T, G = source.choice(((1, 2), (1, 1), (2, 1))), source.count(1, 3), 1
        in_layers = [signal_convolution(source, 2 * H, H, source.count(1, 2)) for _ in range(n)]
        res_skips = [signal_convolution(source, H if i == n - 1 else 2 * H, H, 1) for i in range(n)]
        if source.chance(0.5):
            return cls(in_layers, res_skips, ()), (H, T)
        net = cls(in_layers, res_skips, (dense(source, 2 * H * n, G),), source.signed((G,), -4, 4))
        return net.at(mask=source.booleans((T,), 0.75)), (H, T)

    hard_cases = (
        case("Alone", "one layer: nothing is added to a", z=[[[1.0, -2.0, 0.5]]], cond=(),
             in_layers=(Conv1d([[[0.5, 1.0, -1.0]], [[1.0, 0.0, 2.0]]], [0.5, 0.25]),), res_skips=(Conv1d([[[2.0]]], [1.0]),)),
        case("Unread", "a context that no layer reads", z=[[[1.0, -2.0]]], cond=(), context=[3.0],
             in_layers=(Conv1d([[[0.5]], [[1.0]]], [0.5, 0.25]),), res_skips=(Conv1d([[[2.0]]], [1.0]),)),
        case("Masked", "biases do not leak through an invalid position", z=[[[1.0, 2.0**100, 0.5]]], mask=[True, False, True],
             cond=(Dense(np.ones((4, 1))),), context=[0.5],
             in_layers=(Conv1d([[[0.5, 1.0, -1.0]], [[1.0, 0.0, 2.0]]], [0.5, 0.25]), Conv1d([[[1.0, -2.0]], [[0.5, 3.0]]])),
             res_skips=(Conv1d([[[2.0, 1.0, 0.5]], [[1.0, 0.25, 3.0]]], [1.0, 2.0]), Conv1d([[[2.0]]], [1.0]))),
        case("Closed", "the gate of the first layer is closed: the second sees a alone", z=[[[1.0, -2.0]]], cond=(),
             in_layers=(Conv1d([[[1.0]], [[0.0]]], [0.0, -50.0]), Conv1d([[[0.5]], [[1.0]]], [0.0, 0.0])),
             res_skips=(Conv1d([[[2.0]], [[1.0]]]), Conv1d([[[1.0]]]))),
    )
    refused = (
        refusal("as many in_layers as res_skips", in_layers=(), res_skips=(), cond=()),
        refusal("as many in_layers as res_skips", in_layers=(Conv1d([[[1.0]], [[1.0]]]),), res_skips=(), cond=()),
        refusal("at most one cond", in_layers=(Conv1d([[[1.0]], [[1.0]]]),), res_skips=(Conv1d([[[1.0]]]),),
                cond=(Dense([[1.0]], [0.0]),) * 2),
    )
