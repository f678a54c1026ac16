r"""The text side of Glow-TTS (Kim, Kim, Kong & Yoon, arXiv:2005.11129), as in the authors' code.

From tokens `a` of a text to columns `x` of `C` channels, one for each token:
    x <- C^(1/2) E_a                              the embedding                     (1)
    x <- prenet(x)                                if there is a prenet              (2)
and then in each layer, with `N` for a layer norm over channels, which follows what it normalises, and `D` for dropout,
    x <- N(x + D(attention(x)))                                                     (3)
    x <- N(x + D(net(x)))                         a feed-forward network            (4)
    attention(x) = W heads(W_q x, W_k x, W_v x)                                     (5)
where `heads` is `RelativeAttention` and everything else in (5) happens at every position alone.  From `x`, at every position,
    mu = W_mu x + b_mu,   q = W_sigma x + b_sigma   or 0, if only means are predicted       (6)
are the mean and the logarithm of the scale of a frame of speech.  The logarithm of the number of frames at a position is, given
the speaker `g` if there are several,
    w = durations([x, g])                                                           (7)
No gradient flows from `w` back to `x`: durations are read off the text's encoding and do not shape it.     (8)

At the start weights and biases are as in `speech_networks.py`, but `W_q`, `W_k` and `W_v` have Xavier's bound, `E` is
`N(0, 1/C)` and the relative positions of (5) are `N(0, 1/d)`, `d` the number of channels of a head.        (9)

The order of the layers that drop entries: three in the prenet, and in each layer the weights of the attention, (3), inside
the network of (4), (4).                                                            (10)
"""

from __future__ import annotations

import math

import numpy as np

from ..maps.conditioners import (Conv1d, Dropout, Embedding, RelativeAttention, Residual, Sequential, feed_forward_network,
                                 prenet, xavier_uniform)
from ..maps.conditioners.speech_networks import Drawn

PRENET_RATE, RATE = 0.5, 0.1            # of dropout, in the authors' runs


def text_encoder(rng, tokens=148, channels=192, filters=768, heads=2, layers=6, kernel=3, window=4, block_length=None,
                 has_prenet=True, dtype=np.float64):
    """A `Sequential` from tokens (*batch, T), whole numbers below `tokens`, to columns (*batch, channels, T); (1) to (5).

    `filters`: the width of the network of (4); `kernel`: the length of its convolutions; `window`: how far relative positions
    reach, None for none; `block_length`: how far a token sees, None for everywhere.  The mask is filled in by `at(mask=...)`,
    dropout by `with_dropout`, in the order of (10).  Weights are drawn from the Generator `rng`.
    """
    draw = Drawn("text_encoder", rng, dtype)
    draw.counts(tokens=tokens, channels=channels, filters=filters, heads=heads, kernel=kernel)
    stack = [Embedding(normal(rng, (tokens, channels), channels, dtype), math.sqrt(channels))]      # (1)
    stack += [prenet(rng, channels, channels, dtype=dtype)] if has_prenet else []   # (2)
    for _ in range(layers):
        for block in (attention(rng, channels, channels, heads, window, block_length, dtype),
                      feed_forward_network(rng, channels, filters, channels, kernel, dtype=dtype)):
            stack += [Residual(Sequential((*block.layers, Dropout(True, 0.0)))), draw.norm(channels)]       # (3) (4) (10)
    return Sequential(stack)


def attention(rng, inputs, outputs, heads=2, window=4, block_length=None, dtype=np.float64):
    """(5): a `Sequential` from (inputs, T) to (outputs, T).  ValueError if `heads` does not divide `inputs`."""
    draw = Drawn("attention", rng, dtype)
    draw.counts(inputs=inputs, outputs=outputs, heads=heads)
    if inputs % heads:
        raise ValueError(f"attention: heads must divide inputs={inputs}, not {heads}")
    W = [xavier_uniform(rng, (inputs, inputs, 1), dtype) for _ in range(3)]         # (9)
    b = [draw.weights(inputs, inputs, 1)[1] for _ in range(3)]
    d, relative = inputs // heads, (None, None)
    if window is not None:
        relative = [normal(rng, (1, 2 * window + 1, d), d, dtype) for _ in range(2)]        # (9)
    return Sequential((Conv1d(np.concatenate(W), np.concatenate(b)), RelativeAttention(*relative, heads, block_length),
                       draw.plain(outputs, inputs, 1)))                             # (5)


def normal(rng, shape, inverse_variance, dtype):
    return (inverse_variance ** -0.5 * rng.standard_normal(shape)).astype(dtype)    # (9)


def projection(rng, channels=192, outputs=80, dtype=np.float64):
    """One of the two layers of (6), from (channels, T) to (outputs, T)."""
    return Drawn("projection", rng, dtype).plain(outputs, channels, 1)              # (6)


def text_vjp(encoder, mean, log_scale, durations, tokens):
    """((mu, q, w), pullback) for tokens (*batch, T).

    `durations` is a `duration_network`, with the speakers' context filled in if it has one; if `log_scale` is None, q is 0.
    `pullback(mu_bar, q_bar, w_bar)` -> {"encoder", "mean", "log_scale", "durations": their parameters' cotangents}.
    """
    x, encoder_pullback = encoder.vjp(tokens)
    mu, mean_pullback = mean.vjp(x)                                                 # (6)
    q, log_scale_pullback = (np.zeros_like(mu), None) if log_scale is None else log_scale.vjp(x)        # (6)
    w, durations_pullback = durations.vjp(x)                                        # (7)

    def pullback(mu_bar, q_bar, w_bar):
        x_bar, mean_bar = mean_pullback(mu_bar)
        bars = {"mean": mean_bar, "durations": durations_pullback(w_bar)[1]}        # (8)
        if log_scale is not None:
            further, bars["log_scale"] = log_scale_pullback(q_bar)
            x_bar = x_bar + further
        return bars | {"encoder": encoder_pullback(x_bar)[1]}

    return (mu, q, w), pullback
