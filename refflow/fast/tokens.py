r"""Autoregressive maps of tokens, tuned: an inverse that computes every token once, and a gradient that recomputes.

The network of such a map ends in a delay: it gives to token `t` what its layers give to token `t - 1`.  Most layers
act on one token.  Attention alone sees others, and in a causal network only earlier ones.  With its keys and values kept,
    s_j = <q_t, k_j> / d^(1/2)      for j <= t                                      (1)
    h_t = sum_j exp(s_j - m) v_j / sum_j exp(s_j - m)                               (2)
Any `m` gives the same `h_t`.  It is 0 where that keeps the sums far inside the floats, and the largest `s_j` elsewhere.
The page passes all `T` tokens through the network `T` times.  By (1) and (2), the inverse passes each token once, and attention
costs `O(T^2)` altogether.  With guidance, two networks are read, each with its own keys and values.  The dense layer after a
normalisation of `N` entries takes over what the normalisation multiplies by and adds,
    W (gain n + bias) + b = (N^(1/2) W diag gain) (n / N^(1/2)) + (W bias + b)      (3)
The numbers of one token are the rows of a matrix, and the events of the batch its columns, so that dense layers need no transpose.

A step of `likelihood` keeps the events that enter such a map, and in "reversible" memory recomputes everything else from them: the
inverse, from which other maps are reconstructed, would cost far more than a pass of the network.

The map is the one of `maps.autoregressive`; a law checks that the two agree.  Where scores are so large that the page of attention
computes their differences exactly, or where a number is not finite, the page takes over.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np

from ..core import sets, tree
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import (GELU, ClassEmbedding, Delay, Dense, LayerNorm, LearnedPositions, Positionwise, RelativeAttention,
                                 ReshapedNetwork, Residual, Sequential, Times)
from ..models.tarflow import Guided
from .couplings import Unusual, is_exponential, with_numbers_of
from .transformers import TunedNetwork, are_plain, averaging, far, gelu
from .unit_by_unit import exponential, safe

LEAST = 2.0**-60                        # of a sum of (2) without m; the largest is its inverse

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


class Events:
    """A batch of events whose tokens are read in turn: its shape, the number of tokens, is m of (2) 0, and what was made to read them."""

    def __init__(self, batch, tokens, direct):
        self.batch, self.count, self.tokens, self.direct, self.made = batch, math.prod(batch), tokens, direct, []

    def columns(self, vectors):
        """Vectors (*batch, C), or one vector for all events, as columns (C, count)."""
        return np.broadcast_to(vectors, (*self.batch, vectors.shape[-1])).reshape(self.count, vectors.shape[-1]).T.copy()


class Attention:
    """Attention of one token after the other, from columns of queries, keys and values (3 C, count).  It keeps keys and values."""

    def __init__(self, layer, events):
        self.heads, self.tokens, self.direct, self.sums = layer.heads, events.tokens, events.direct, []

    def __call__(self, t, a):
        N, count = a.shape
        parts = a.T.reshape(count, 3, self.heads, N // (3 * self.heads))
        if t == 0:
            self.held = np.zeros((*parts.shape[:-1], self.tokens, parts.shape[-1]), a.dtype)
            self.factor, self.ones = np.array(1 / math.sqrt(parts.shape[-1]), a.dtype), np.ones(self.tokens, a.dtype)
        self.held[..., t, :] = parts
        q, keys, values = parts[:, 0], self.held[:, 1, :, :t + 1], self.held[:, 2, :, :t + 1]
        s = np.matvec(keys, q)
        s *= self.factor                                                            # (1)
        if not self.direct:
            s -= np.maximum.reduce(s, -1, keepdims=True)
        np.exp(s, out=s)
        h, n = np.vecmat(s, values), s.dot(self.ones[:t + 1])
        self.sums.append(n)
        h /= n[..., None]                                                           # (2)
        return h.reshape(count, N // 3).T

    def in_range(self):
        if not self.sums:
            return True
        least, most = np.min(self.sums, initial=1), np.max(self.sums, initial=1)
        return LEAST <= least <= most <= 1 / LEAST and not far(self.held[:, 0], self.held[:, 1])


class Standardised:
    """Layer normalisation, divided by N^(1/2), before its gain and bias: (3)."""

    def __init__(self, norm):
        self.eps, self.squares = norm.eps, []
        self.ones, self.least = np.ones(len(norm.gain), norm.dtype), np.array(len(norm.gain) * norm.eps, norm.dtype)

    def __call__(self, t, a):
        d = a - averaging(len(a), a.dtype).dot(a)
        squares = self.ones.dot(d * d)
        squares += self.least
        self.squares.append(squares)
        d /= np.sqrt(squares)
        return d

    def in_range(self):
        return are_plain(self.squares, self.eps)


def reader(layers, events):
    """Layers as a function (t, their input (C, count) at token t) -> the output of the last, for t = 0, 1, ... in turn.

    What has to be asked at the end whether it stayed `in_range` is added to `events.made`.
    """
    return in_turn([reading(layer, events) for layer in folded(flat(layers))])


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
            root = norm.gain.dtype.type(math.sqrt(len(norm.gain)))
            layer = tree.copied(layer, W=layer.W * (root * norm.gain), b=layer.W @ norm.bias + layer.b)      # (3)
            found.append(Standardised(norm))
        found.append(layer)
    return found


def reading(layer, events):
    """The function of one layer.  It keeps infinite numbers and NaNs, or refuses them."""
    if type(layer) in (Standardised, RelativeAttention):
        events.made.append(layer if type(layer) is Standardised else Attention(layer, events))
        return events.made[-1]
    if type(layer) is Residual:
        inner = reader([layer.inner], events)
        return lambda t, a: a + inner(t, a)
    if type(layer) is LearnedPositions:
        return lambda t, a: a + layer.P[:, t:t + 1]
    if type(layer) is ClassEmbedding:
        of_class = events.columns(layer.of_class())
        return lambda t, a: a + of_class
    if type(layer) is Dense:
        return affine(layer.W, events.columns(layer.b))
    if type(layer) is GELU and layer.dtype == np.float32:
        return lambda t, a: gelu(a, np.empty_like(a))
    return lambda t, a: layer.forward(finite(a).T).T


def affine(W, biases):
    """The function of a dense layer."""
    def read(t, a):
        h = W.dot(a)                # a call takes less time than W @ a
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


def outputs(net, events):
    """A function (t, token t - 1) -> the outputs of a network for token t, (M, count), for t = 1, 2, ... in turn."""
    if type(net) is Times:
        inner = outputs(net.net, events)
        return lambda t, before: net.factor * inner(t, before)
    if type(net) is Guided:
        both = outputs(net.net, events), outputs(net.free, events)
        return lambda t, before: net.guided(*(read(t, before) for read in both), net.weights[:, t:t + 1])
    read = reader(net.net.layers[:-1], events)
    return lambda t, before: read(t - 1, before)


# -- the inverse ------------------------------------------------------------------------------------------------------

class TokenByToken(Autoregressive):
    """An autoregressive map of tokens whose inverse passes each token through its network once; its forward map has the tuned network."""

    @staticmethod
    def takes(f):
        return f.layout == "halves" and is_read(f.net) and f.family.parameter_batch == ()

    def forward_and_log_det(self, z):
        return Autoregressive.forward_and_log_det(with_rows(self, []), z)

    def solved(self, x):
        for direct in (True, False):
            with contextlib.suppress(Unusual):
                return self.solved_in_turn(x, direct)
        return super().solved(x)

    def solved_in_turn(self, x, direct):
        events = Events(x.shape[:-1], len(self.levels), direct)
        images, form = token_by_token(x, events), self.affine_form
        z, log_slopes, (T, features, count) = np.empty_like(images), np.empty_like(images), images.shape
        read, is_plain = outputs(self.net, events), form is not None and is_exponential(form.scale)
        for t, image in enumerate(images):
            h = read(t, z[t - 1]) if t else np.zeros((self.outputs * features, count), x.dtype)
            h = h.reshape(self.outputs, features, count)
            if is_plain:
                z[t], log_slopes[t] = exponential(h, image, form)
            else:
                z[t], log_slopes[t] = (part.T for part in self.map_at(finite(h).T)[0].inverse_and_log_det(image.T))
        if not all(part.in_range() for part in events.made) or is_plain and not safe(log_slopes):
            raise Unusual
        return together(finite(z), events), together(log_slopes, events)


def token_by_token(vectors, events):
    """Vectors (*batch, F T) as an array of tokens (T, F, count)."""
    return np.ascontiguousarray(vectors.reshape(events.count, vectors.shape[-1] // events.tokens, events.tokens).T)


def together(tokens, events):
    """The reverse."""
    T, features, _ = tokens.shape
    return np.ascontiguousarray(tokens.T).reshape(*events.batch, features * T)


# -- a step of `likelihood` --------------------------------------------------------------------------------------------

def with_rows(value, rooms):
    """A map, or its network, with the tuned network of tokens, whose pullbacks share these `rooms`."""
    if type(value) is ReshapedNetwork:
        return tree.copied(value, TunedNetwork, rooms=rooms)
    return tree.copied(value, net=with_rows(value.net, rooms))


class KeptInput:
    """An autoregressive map of tokens on side 0, by its page and a tuned network: it keeps the events that enter it, nothing else."""

    renewed = with_numbers_of

    @staticmethod
    def takes(stage, side):
        return side == 0 and stage.domain is sets.real and TokenByToken.takes(stage)

    def __init__(self, stage, side, path, number, space):
        self.path, self.rooms = path, space.kept("rooms", list)
        self.take(stage)

    def take(self, stage):
        self.stage = with_rows(stage, self.rooms)

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
