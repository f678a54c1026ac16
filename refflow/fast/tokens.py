r"""Autoregressive maps of tokens, tuned: an inverse that computes every token once, and a gradient that recomputes.

The network of such a map ends in a delay: the outputs for token `t` are those that its layers have at token `t - 1`.  Most layers
act on one token.  Attention alone sees others, and in a causal network only earlier ones.  With its keys and values kept,
    s_j = <q_t, k_j> / d^(1/2)      for j <= t                                      (1)
    h_t = sum_j exp(s_j - s_m) v_j / sum_j exp(s_j - s_m),   s_m the largest        (2)
The page passes all `T` tokens through the network `T` times.  By (1) and (2), the inverse passes each token once, and attention
costs `O(T^2)` altogether.  With guidance, two networks are read, each with its own keys and values.  Layer normalisation is computed
by plain sums, as (1) to (4) of its page print it, where these are far inside the floats.

A step of `likelihood` keeps the events that enter such a map, and in "reversible" memory recomputes everything else from them: the
inverse, from which other maps are reconstructed, would cost far more than a pass of the network.

The map is the one of `maps.autoregressive`; a law checks that the two agree.  Where scores are so large that the page of attention
computes their differences exactly, the page takes over.
"""

from __future__ import annotations

import math

import numpy as np

from ..core import sets
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import (ClassEmbedding, Delay, LayerNorm, LearnedPositions, Positionwise, RelativeAttention, ReshapedNetwork,
                                 Residual, Sequential, Times)
from ..maps.conditioners.relative_attention import far
from ..models.tarflow import Guided
from .couplings import Unusual

LEAST = 2.0**-100                       # of eps of a layer normalisation by plain sums; their largest variance is its inverse

# -- networks that can be read token by token --------------------------------------------------------------------------

def is_read(net):
    """Can a network be computed token by token?"""
    if type(net) is Times:
        return is_read(net.net)
    if type(net) is not ReshapedNetwork or type(net.net) is not Sequential:
        return False
    *layers, last = net.net.layers
    return type(last) is Delay and last.start is None and all(map(is_of_tokens, layers))


def is_of_tokens(layer):
    """Does a layer see one token at a time, or with causal attention the tokens before it too?"""
    if type(layer) in (Sequential, Residual):
        return all(map(is_of_tokens, layer.components()))
    if type(layer) is RelativeAttention:
        return layer.causal and all(given is None for given in (layer.E_k, layer.block_length, layer.keep, layer.sees))
    return type(layer) in (Positionwise, LearnedPositions, ClassEmbedding) or layer.event_ndim == (0, 0) and not layer.declared


class Attention:
    """Attention of one token after the other, from queries, keys and values (*batch, 3 C)."""

    def __init__(self, layer, tokens):
        self.heads, self.tokens, self.keys, self.values = layer.heads, tokens, None, None

    def __call__(self, t, a):
        *batch, N = a.shape
        q, k, v = np.moveaxis(a.reshape(*batch, 3, self.heads, N // (3 * self.heads)), -3, 0)
        if self.keys is None:
            self.keys, self.values = np.empty((2, *q.shape[:-1], self.tokens, q.shape[-1]), a.dtype)
        self.keys[..., t, :], self.values[..., t, :] = k, v
        keys, values = self.keys[..., :t + 1, :], self.values[..., :t + 1, :]
        if far(q[..., None], keys.mT, None).any():
            raise Unusual
        s = (keys @ q[..., None])[..., 0] / math.sqrt(q.shape[-1])                  # (1)
        shares = np.exp(s - s.max(-1, keepdims=True))                               # (2)
        h = (shares[..., None, :] @ values)[..., 0, :] / shares.sum(-1, keepdims=True)      # (2)
        return h.reshape(*batch, N // 3)


def reader(layer, tokens):
    """The layer as a function (t, its input (*batch, C) at token t) -> its output there, for t = 0, 1, ... in turn."""
    if type(layer) is Sequential:
        return in_turn([reader(inner, tokens) for inner in layer.layers])
    if type(layer) is Residual:
        inner = reader(layer.inner, tokens)
        return lambda t, a: a + inner(t, a)
    if type(layer) is RelativeAttention:
        return Attention(layer, tokens)
    if type(layer) is LearnedPositions:
        return lambda t, a: a + layer.P[..., t]
    if type(layer) is ClassEmbedding:
        of_class = layer.of_class()
        return lambda t, a: a + of_class
    if type(layer) is Positionwise:
        return reader(layer.layer, tokens)
    return (lambda t, a: normalised(layer, a)) if type(layer) is LayerNorm else lambda t, a: layer.forward(a)


def normalised(norm, a):
    """The page of layer normalisation by plain sums, where they are far inside the floats."""
    d = a - a.mean(-1, keepdims=True)
    d -= d.mean(-1, keepdims=True)
    variance = np.vecdot(d, d)[..., None] / a.shape[-1]
    if norm.eps < LEAST or not (variance < 1 / LEAST).all():
        return norm.forward(a)
    d *= 1 / np.sqrt(variance + d.dtype.type(norm.eps))
    return norm.gain * d + norm.bias


def in_turn(readers):
    def read(t, a):
        for layer in readers:
            a = layer(t, a)
        return a

    return read


def outputs(net):
    """A function (t, token t - 1) -> the outputs of a network for token t, (*batch, M), for t = 0, 1, ... in turn."""
    if type(net) is Times:
        inner = outputs(net.net)
        return lambda t, before: net.factor * inner(t, before)
    if type(net) is Guided:
        both = outputs(net.net), outputs(net.free)
        return lambda t, before: net.guided(*(read(t, before) for read in both), net.weights[:, t])
    read, M = in_turn([reader(layer, net.shape[1]) for layer in net.net.layers[:-1]]), net.of_net()[0]
    return lambda t, before: read(t - 1, before) if t else np.zeros(M, before.dtype)


# -- the inverse ------------------------------------------------------------------------------------------------------

class TokenByToken(Autoregressive):
    """An autoregressive map of tokens whose inverse passes each token through its network once."""

    @staticmethod
    def takes(f):
        return f.layout == "halves" and is_read(f.net) and f.family.parameter_batch == ()

    def solved(self, x):
        try:
            return self.solved_in_turn(x)
        except Unusual:
            return super().solved(x)

    def solved_in_turn(self, x):
        T, batch = len(self.levels), x.shape[:-1]
        images = x.reshape(*batch, x.shape[-1] // T, T)
        z, log_slopes = np.zeros(images.shape, x.dtype), np.zeros(images.shape, x.dtype)
        read = outputs(self.net)
        for t in range(T):
            h = read(t, z[..., t - 1])
            f, _ = self.map_at(h.reshape(*h.shape[:-1], self.outputs, images.shape[-2]).mT)
            z[..., t], log_slopes[..., t] = f.inverse_and_log_det(images[..., t])
        return z.reshape(x.shape), log_slopes.reshape(x.shape)


# -- a step of `likelihood` --------------------------------------------------------------------------------------------

class KeptInput:
    """An autoregressive map of tokens on side 0: its own page, which keeps the events that enter it, and nothing else."""

    @staticmethod
    def takes(stage, side):
        return side == 0 and stage.domain is sets.real and TokenByToken.takes(stage)

    def __init__(self, stage, side, path, number, space):
        self.stage, self.path = stage, path

    def forward(self, event):
        return *self.stage.forward_and_log_det(event), event.copy()

    def stored(self, event):
        image, page_pullback = self.stage.vjp(event)

        def pullback(bar, b, sums, wanted=True):
            event_bar, bars = page_pullback(bar, b)
            sums.add_all(self.path, bars)
            return event_bar

        return image, pullback

    def reversed(self, after, memory):
        return memory, self.at(memory, after, memory)

    def at(self, event, after, memory):
        return self.stored(event)[1]
