"""The network of Glow-TTS's couplings, tuned: all valid positions of a batch side by side.

Signals (B, C, T) become one matrix (C, N): the sequences one after the other, each up to its last valid position, with as many
columns of 0 between two of them as a kernel can reach across.  A convolution over the whole batch is then one matrix product
with shifted copies, a kernel of one entry one product without copies.  The equations are in `wave_net`, `conv1d` and
`weight_norm`.  The networks of texts have such convolutions too, and the layer normalisation of `transformers`.
"""

from __future__ import annotations

import numpy as np

from ..core import halves, tree
from ..core.arrays import sum_to_shape
from ..maps.conditioners import Conv1d, Dropout, LayerNorm, Sequential, WaveNet, WeightNormConv1d
from ..maps.conditioners.weight_norm import Directions
from .transformers import Room, normalised_vjp

LEAST = 2.0**-30                        # of the lengths that plain formulas take


class Columns:
    """Where the positions of sequences (B, T) stand in a matrix; `reach`: how many columns of 0 are between sequences."""

    def __init__(self, mask, B, T, reach, dtype):
        holds = np.ones((B, T), bool) if mask is None else np.broadcast_to(mask, (B, T))
        self.T, self.reach = T, reach
        self.sizes = np.where(holds.any(1), T - holds[:, ::-1].argmax(1), 0).tolist()
        self.starts = np.concatenate(([0], np.cumsum(np.array(self.sizes) + reach)[:-1])).tolist()
        self.N = self.starts[-1] + self.sizes[-1]
        self.valid = self.packed(holds[:, None].astype(dtype))[0]
        self.owner = np.repeat(np.arange(B), np.array(self.sizes) + reach)[:self.N]

    def parts(self):
        return enumerate(zip(self.starts, self.sizes))

    def packed(self, signals):
        """(B, C, T) as (C, N)."""
        matrix = np.zeros((signals.shape[1], self.N), signals.dtype)
        for b, (start, size) in self.parts():
            matrix[:, start:start + size] = signals[b, :, :size]
        return matrix

    def unpacked(self, matrix):
        """The reverse, 0 at all other positions."""
        signals = np.zeros((len(self.sizes), len(matrix), self.T), matrix.dtype)
        for b, (start, size) in self.parts():
            signals[b, :, :size] = matrix[:, start:start + size]
        return signals

    def sums(self, matrix):
        """The sum over the columns of each sequence, (B, C); columns between sequences are 0."""
        return np.stack([matrix[:, start:start + size].sum(1) for _, (start, size) in self.parts()])

    def wide(self, matrix):
        """The matrix between columns of 0."""
        wide = np.zeros((len(matrix), self.N + 2 * self.reach), matrix.dtype)
        wide[:, self.reach:self.reach + self.N] = matrix
        return wide

    def offsets(self, K, dilation):
        """The first column that each entry of a kernel reads in a wide matrix."""
        return [self.reach + dilation * k - dilation * (K - 1) // 2 for k in range(K)]

    def copies(self, wide, K, dilation):
        """The columns that a kernel reads, (C K, N)."""
        if K == 1:
            return wide[:, self.reach:self.reach + self.N]
        copies = np.empty((len(wide), K, self.N), wide.dtype)
        for k, first in enumerate(self.offsets(K, dilation)):
            copies[:, k] = wide[:, first:first + self.N]
        return copies.reshape(-1, self.N)

    def scattered(self, copies, K, dilation):
        """The adjoint of `copies`, without the margins."""
        if K == 1:
            return copies
        copies = copies.reshape(-1, K, self.N)
        wide = np.zeros((len(copies), self.N + 2 * self.reach), copies.dtype)
        for k, first in enumerate(self.offsets(K, dilation)):
            wide[:, first:first + self.N] += copies[:, k]
        return wide[:, self.reach:self.reach + self.N]


class PlainDirections:
    """`Directions` by plain formulas: rows g v / s, where no square of v overflows or vanishes."""

    def __init__(self, v, g, s):
        self.v, self.s, self.has_gain = v, s, g is not None
        self.scale = (g[:, None] if self.has_gain else 1) / s

    def weights(self):
        return self.v * self.scale

    def pullback(self, W_bar):
        along = np.einsum("mn,mn->m", W_bar, self.v)[:, None] / self.s
        v_bar = self.v * (-along / self.s)
        v_bar += W_bar
        v_bar *= self.scale
        return {"v": v_bar} | ({"g": along[:, 0]} if self.has_gain else {})


def directions_of(v, g):
    """(weights, the pullback of their cotangent)."""
    s = np.sqrt(np.einsum("mn,mn->m", v, v))[:, None]
    if ((LEAST < s) & (s < 1 / LEAST)).all():
        plain = PlainDirections(v, g, s)
        return plain.weights(), plain.pullback
    careful = Directions(v, g)
    return careful.weights(), lambda W_bar: careful.pullback(W_bar, 0)


class Gate:
    """tanh a sigma(b) of the two halves of a matrix's rows."""

    def __init__(self, both):
        a, b = halves(both, 0)
        self.tanh, self.sigma, self.rest = np.tanh(a), np.exp(np.minimum(b, 0)), np.exp(np.minimum(-b, 0))
        u = 1 / (self.sigma + self.rest)                # of two exponentials, one is 1 and the other at most 1
        self.sigma *= u                                 # sigma(b)
        self.rest *= u                                  # sigma(-b)
        self.h = self.tanh * self.sigma

    def pullback(self, h_bar):
        bar = np.empty((2 * len(h_bar), h_bar.shape[1]), h_bar.dtype)
        to_a, to_b = halves(bar, 0)
        np.multiply(h_bar, self.sigma, out=to_a)
        np.multiply(to_a, self.tanh, out=to_b)
        to_b *= self.rest
        to_a *= 1 - self.tanh * self.tanh
        return bar


class Kernels:
    """The kernels of a convolution as a matrix (M, C K), normalised or not."""

    def __init__(self, layer):
        self.normalised = type(layer) is WeightNormConv1d
        self.shape = (layer.v if self.normalised else layer.W).shape
        self.b, self.K, self.dilation = layer.b, self.shape[-1], layer.dilation
        if self.normalised:
            self.W, self.weights_pullback = directions_of(layer.v.reshape(self.shape[0], -1), layer.g)
        else:
            self.W = layer.W.reshape(self.shape[0], -1)

    def bars(self, W_bar, h_bar):
        """The cotangents of the layer's parameters."""
        b = {} if self.b is None else {"b": h_bar.sum(1)}
        if not self.normalised:
            return {"W": W_bar.reshape(self.shape)} | b
        bars = self.weights_pullback(W_bar)
        return bars | {"v": bars["v"].reshape(self.shape)} | b

    def applied(self, copies):
        h = self.W @ copies
        if self.b is not None:
            h += self.b[:, None]
        return h


class TunedConvolution(Conv1d):
    """A convolution without a batch of kernels, by one product for all sequences."""

    def forward(self, a):
        return self.vjp(a)[0]

    def vjp(self, a):
        kernels = Kernels(self)
        columns = Columns(self.mask, len(a), a.shape[-1], kernels.dilation * (kernels.K - 1), a.dtype)
        A = columns.packed(a) * columns.valid
        A = A if kernels.K == 1 else columns.copies(columns.wide(A), kernels.K, kernels.dilation)

        def pullback(h_bar):
            h_bar = columns.packed(h_bar) * columns.valid
            a_bar = columns.scattered(kernels.W.T @ h_bar, kernels.K, kernels.dilation) * columns.valid
            return columns.unpacked(a_bar), kernels.bars(h_bar @ A.T, h_bar)

        return columns.unpacked(kernels.applied(A) * columns.valid), pullback


class TunedLayerNorm(LayerNorm):
    """A layer normalisation by the formula of `transformers`."""

    def forward(self, a):
        return self.vjp(a)[0]

    def vjp(self, a):
        return normalised_vjp(tree.copied(self, LayerNorm), a, Room())


def with_tuned_layers(net):
    """A copy of a network with tuned convolutions and layer normalisations."""
    if is_convolution(net):
        return tree.copied(net, TunedConvolution) if type(net) is Conv1d else net
    if type(net) is LayerNorm:
        return tree.copied(net, TunedLayerNorm)
    new = {}
    for (key, *index), component in tree.components(net):
        found = with_tuned_layers(component)
        new[key] = (*new.get(key, ()), found) if index else found
    return tree.copied(net, **new) if new else net


def convolution_of(layer):
    """The convolution of a layer of a wave net, and its dropout or None; (None, None) for other layers."""
    if type(layer) is Sequential and len(layer.layers) == 2 and type(layer.layers[1]) is Dropout:
        return layer.layers[0], layer.layers[1]
    return layer, None


def is_convolution(layer, point=False):
    kernels = {WeightNormConv1d: "v", Conv1d: "W"}.get(type(layer))
    return kernels is not None and getattr(layer, kernels).ndim == 3 and (not point or getattr(layer, kernels).shape[-1] == 1)


class TunedNetwork(Sequential):
    """A kernel of one entry, a wave net, a kernel of one entry, with the same mask."""

    @staticmethod
    def takes(net):
        if type(net) is not Sequential or len(net.layers) != 3 or type(net.layers[1]) is not WaveNet:
            return False
        first, wave, last = net.layers
        return (all(is_convolution(layer, True) for layer in (first, last, *wave.res_skips))
                and all(is_convolution(convolution_of(layer)[0]) for layer in wave.in_layers))

    def forward(self, a):
        return Run(self, a).forward(a)

    def vjp(self, a):
        run = Run(self, a)
        return run.forward(a), run.pullback


class Run:
    """One pass of a network forwards, and what its pullback needs.

    Between sequences, the numbers of gates are not 0: `x`, `s` and all cotangents are.
    """

    def __init__(self, net, a):
        first, self.wave, last = net.layers
        layers = [convolution_of(layer) for layer in self.wave.in_layers]
        self.into = [Kernels(convolution) for convolution, _ in layers]
        self.start, self.end, self.out = Kernels(first), Kernels(last), [Kernels(layer) for layer in self.wave.res_skips]
        reach = max(kernels.dilation * (kernels.K - 1) for kernels in self.into)
        self.columns = Columns(self.wave.mask, len(a), a.shape[-1], reach, a.dtype)
        self.valid, self.factors = self.columns.valid, [self.factor(dropout, a.dtype) for _, dropout in layers]
        self.c, self.conditioned_pullback = self.wave.conditioned()
        self.kept = []

    def factor(self, dropout, dtype):
        """What dropout multiplies the numbers of a layer by, or None."""
        if dropout is None or dropout.rate == 0 and dropout.keep.all():
            return None
        return self.columns.packed(np.asarray(dropout.keep)) * dtype.type(1 / (1 - dropout.rate))

    def forward(self, a):
        self.A, s = self.columns.packed(a), 0
        x = self.start.applied(self.A) * self.valid
        for i in range(len(self.into)):
            r = self.layer(i, x)
            if i < len(self.into) - 1:
                x = (x + r[:len(x)]) * self.valid
            s = s + r[-len(x):]
        self.s = s * self.valid
        return self.columns.unpacked(self.end.applied(self.s) * self.valid)

    def layer(self, i, x):
        kernels, wide = self.into[i], self.columns.wide(x)
        p = kernels.applied(self.columns.copies(wide, kernels.K, kernels.dilation))
        p = p if self.factors[i] is None else p * self.factors[i]
        if self.wave.cond:
            p += np.broadcast_to(self.c[i][..., 0], (len(self.columns.sizes), len(p)))[self.columns.owner].T
        gate = Gate(p)
        self.kept.append((wide, gate))
        return self.out[i].applied(gate.h)

    def pullback(self, h_bar):
        h_bar = self.columns.packed(h_bar) * self.valid
        s_bar, x_bar, bars = self.end.W.T @ h_bar, None, []
        for i in reversed(range(len(self.into))):
            x_bar, *bar = self.layer_pullback(i, x_bar, s_bar)
            bars.insert(0, bar)
        wave_bar, context_bar = self.of_wave_net(bars)
        layers = {"0": self.start.bars(x_bar @ self.A.T, x_bar), "1": wave_bar, "2": self.end.bars(h_bar @ self.s.T, h_bar)}
        return self.columns.unpacked(self.start.W.T @ x_bar), {"layers": layers} | context_bar

    def layer_pullback(self, i, x_bar, s_bar):
        """(x_bar before the layer, the cotangents of its two convolutions, of what is added for the context)."""
        kernels, (wide, gate) = self.into[i], self.kept[i]
        r_bar = s_bar if x_bar is None else np.concatenate((x_bar, s_bar))
        p_bar = gate.pullback(self.out[i].W.T @ r_bar)
        c_bar = self.columns.sums(p_bar) if self.wave.cond else None
        p_bar = p_bar if self.factors[i] is None else p_bar * self.factors[i]
        copies = self.columns.copies(wide, kernels.K, kernels.dilation)
        through = self.columns.scattered(kernels.W.T @ p_bar, kernels.K, kernels.dilation) * self.valid
        bars = kernels.bars(p_bar @ copies.T, p_bar), self.out[i].bars(r_bar @ gate.h.T, r_bar)
        return through if x_bar is None else x_bar + through, *bars, c_bar

    def of_wave_net(self, bars):
        """The wave net's cotangents, and its context's apart."""
        into = {str(i): {"layers": {"0": bar, "1": {}}} if type(layer) is Sequential else bar
                for i, ((bar, *_), layer) in enumerate(zip(bars, self.wave.in_layers))}
        found = {"in_layers": into, "res_skips": {str(i): bar for i, (_, bar, _) in enumerate(bars)}}
        found |= self.conditioned_pullback([c_bar for *_, c_bar in bars])
        context = {"context": found.pop("context")} if "context" in found else {}
        return found, {key: sum_to_shape(bar, self.wave.context.shape) for key, bar in context.items()}
