r"""Autoregressive maps of tokens, tuned: an inverse that computes every token once, and a gradient that recomputes.

The network of such a map ends in a delay: it gives to token `t` what its layers give to token `t - 1`.  Most layers
act on one token.  Attention alone sees others, and in a causal network only earlier ones.  With its keys and values kept,
    s_j = <q_t, k_j> / d^(1/2)      for j <= t                                      (1)
    h_t = sum_j exp(s_j - s_m) v_j / sum_j exp(s_j - s_m),   s_m the largest        (2)
The page passes all `T` tokens through the network `T` times.  By (1) and (2), the inverse passes each token once, and attention
costs `O(T^2)` altogether.  With guidance, two networks are read, each with its own keys and values.  What a normalisation multiplies
and adds is one with the dense layer after it,
    W (gain n + bias) + b = (W diag gain) n + (W bias + b)                          (3)

A step of `likelihood` keeps the events that enter such a map, and in "reversible" memory recomputes everything else from them: the
inverse, from which other maps are reconstructed, would cost far more than a pass of the network.

The map is the one of `maps.autoregressive`; a law checks that the two agree.  Where scores are so large that the page of attention
computes their differences exactly, or where a number is not finite, the page takes over.
"""

from __future__ import annotations

import math

import numpy as np

from ..core import sets, tree
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import (GELU, ClassEmbedding, Delay, Dense, LayerNorm, LearnedPositions, Positionwise, RelativeAttention,
                                 ReshapedNetwork, Residual, Sequential, Times)
from ..models.tarflow import Guided
from .couplings import Unusual, is_exponential
from .transformers import TunedNetwork, are_plain, far, gelu, standardised
from .unit_by_unit import exponential, safe

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
    """Attention of one token after the other, from queries, keys and values (*batch, 3 C), all of which are kept."""

    def __init__(self, layer, tokens):
        self.heads, self.tokens, self.held = layer.heads, tokens, None

    def __call__(self, t, a):
        *batch, N = a.shape
        parts = a.reshape(*batch, 3, self.heads, N // (3 * self.heads))
        if self.held is None:
            self.held = np.zeros((*parts.shape[:-1], self.tokens, parts.shape[-1]), a.dtype)
            self.factor, self.ones = np.array(1 / math.sqrt(parts.shape[-1]), a.dtype), np.ones(self.tokens, a.dtype)
        self.held[..., t, :] = parts
        s = np.matvec(self.held[..., 1, :, :t + 1, :], parts[..., 0, :, :])
        s *= self.factor                                                            # (1)
        s -= np.maximum.reduce(s, -1, keepdims=True)
        np.exp(s, out=s)
        h = np.vecmat(s, self.held[..., 2, :, :t + 1, :])
        h /= np.vecdot(s, self.ones[:t + 1])[..., None]                             # (2)
        return h.reshape(*batch, N // 3)

    def in_range(self):
        return self.held is None or not far(self.held[..., 0, :, :, :], self.held[..., 1, :, :, :])


class Standardised:
    """Layer normalisation before its gain and bias, which belong to the dense layer after it."""

    def __init__(self, eps):
        self.eps, self.squares = eps, []

    def __call__(self, t, a):
        n, _, squares = standardised(a, self.eps)
        self.squares.append(squares)
        return n

    def in_range(self):
        return are_plain(self.squares, self.eps)


def reader(layers, tokens, made):
    """Layers as a function (t, their input (*batch, C) at token t) -> the output of the last, for t = 0, 1, ... in turn.

    What has to be asked at the end whether it stayed `in_range` is added to `made`.
    """
    return in_turn([reading(layer, tokens, made) for layer in folded(flat(layers))])


def flat(layers):
    """The layers that stand one after the other, whatever holds them."""
    for layer in layers:
        if type(layer) in (Sequential, Positionwise):
            yield from flat(layer.components())
        else:
            yield layer


def folded(layers):
    """The same, where the gain and the bias of a normalisation belong to the dense layer after it: (3)."""
    found = []
    for layer in layers:
        if type(layer) is Dense and found and type(found[-1]) is LayerNorm:
            norm = found.pop()
            layer = tree.copied(layer, W=layer.W * norm.gain, b=layer.W @ norm.bias + layer.b)      # (3)
            found.append(Standardised(norm.eps))
        found.append(layer)
    return found


def reading(layer, tokens, made):
    """The function of one layer.  It keeps infinite numbers and NaNs, or refuses them."""
    if type(layer) in (Standardised, RelativeAttention):
        made.append(layer if type(layer) is Standardised else Attention(layer, tokens))
        return made[-1]
    if type(layer) is Residual:
        inner = reader([layer.inner], tokens, made)
        return lambda t, a: a + inner(t, a)
    if type(layer) is LearnedPositions:
        vectors = np.ascontiguousarray(layer.P.T)
        return lambda t, a: a + vectors[t]
    if type(layer) is ClassEmbedding:
        of_class = layer.of_class()
        return lambda t, a: a + of_class
    if type(layer) is Dense:
        return affine(layer.W.T, layer.b)
    if type(layer) is GELU and layer.dtype == np.float32:
        return lambda t, a: gelu(a)
    return lambda t, a: layer.forward(finite(a))


def affine(W_T, b):
    """The function of a dense layer."""
    biases = None

    def read(t, a):
        nonlocal biases
        h = a @ W_T
        if t == 0:
            biases = np.broadcast_to(b, h.shape).copy()         # arrays of the same shape are added in half of the time
        h += biases
        return h

    return read


def finite(a):
    if not np.isfinite(a).all():
        raise Unusual
    return a


def in_turn(readers):
    def read(t, a):
        for layer in readers:
            a = layer(t, a)
        return a

    return read


def outputs(net, made):
    """A function (t, token t - 1) -> the outputs of a network for token t, (*batch, M), for t = 1, 2, ... in turn."""
    if type(net) is Times:
        inner = outputs(net.net, made)
        return lambda t, before: net.factor * inner(t, before)
    if type(net) is Guided:
        both = outputs(net.net, made), outputs(net.free, made)
        return lambda t, before: net.guided(*(read(t, before) for read in both), net.weights[:, t])
    read = reader(net.net.layers[:-1], net.shape[1], made)
    return lambda t, before: read(t - 1, before)


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
        images, form, made = token_by_token(x, len(self.levels)), self.affine_form, []
        z, log_slopes, features = np.empty_like(images), np.empty_like(images), images.shape[-1]
        read, is_plain = outputs(self.net, made), form is not None and is_exponential(form.scale)
        for t, image in enumerate(images):
            h = read(t, z[t - 1]) if t else np.zeros(self.outputs * features, x.dtype)
            h = h.reshape(*h.shape[:-1], self.outputs, features)
            if is_plain:
                z[t], log_slopes[t] = exponential([h[..., i, :] for i in range(2)], image, form)
            else:
                z[t], log_slopes[t] = self.map_at(finite(h).mT)[0].inverse_and_log_det(image)
        if not all(part.in_range() for part in made) or is_plain and not safe(log_slopes):
            raise Unusual
        return together(finite(z)), together(log_slopes)


def token_by_token(vectors, T):
    """Vectors (*batch, F T) as an array of tokens (T, *batch, F)."""
    signals = vectors.reshape(*vectors.shape[:-1], vectors.shape[-1] // T, T)
    return np.ascontiguousarray(np.moveaxis(signals, -1, 0))


def together(tokens):
    """The reverse."""
    T, *batch, features = tokens.shape
    return np.moveaxis(tokens, 0, -1).reshape(*batch, features * T)


# -- a step of `likelihood` --------------------------------------------------------------------------------------------

def with_rows(value):
    """A map, or its network, with the tuned network of tokens."""
    return tree.copied(value, TunedNetwork) if type(value) is ReshapedNetwork else tree.copied(value, net=with_rows(value.net))


class KeptInput:
    """An autoregressive map of tokens on side 0, by its page and a tuned network: it keeps the events that enter it, nothing else."""

    @staticmethod
    def takes(stage, side):
        return side == 0 and stage.domain is sets.real and TokenByToken.takes(stage)

    def __init__(self, stage, side, path, number, space):
        self.stage, self.path = with_rows(stage), path

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
