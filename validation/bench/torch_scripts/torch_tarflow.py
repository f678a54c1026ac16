"""TarFlow in torch, written from the equations of the paper (arXiv:2412.06329, section 3), as people write it.

Tokens are rows, (B, T, F).  A block maps data to latents, z_t = (h_t - b_t) exp(-a_t), where a causal transformer of the tokens before t
makes a_t and b_t; every second block reverses the tokens.  `of_flow` takes the weights of one of refflow's flows.  Subclasses of `Block`
change its methods: tests plant mistakes, and `validation.bfloat16` plants other dtypes.  Only what takes weights imports refflow, so that
a script that trains a model (`fit.py` here) does not wait for it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Positions(nn.Module):
    """A learned vector for each token."""

    def __init__(self, channels, tokens):
        super().__init__()
        self.P = nn.Parameter(0.01 * torch.randn(channels, tokens))

    def forward(self, g):
        return g + self.P.T


class Layer(nn.Module):
    """Attention and dense layers, each added to its input after a normalisation."""

    def __init__(self, channels, heads, expansion=4):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.proj = nn.LayerNorm(channels), nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.dense = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, expansion * channels), nn.GELU(),
                                   nn.Linear(expansion * channels, channels))

    def size(self, channels):
        """Of a head."""
        return channels // self.heads

    def attended(self, q, k, v, seen):
        s = q @ k.mT / q.shape[-1]**0.5
        return s.masked_fill(~seen, -torch.inf).softmax(-1) @ v

    def forward(self, g, seen, rotated):
        B, T, C = g.shape
        q, k, v = self.qkv(self.norm(g)).reshape(B, T, 3, self.heads, self.size(C)).permute(2, 0, 3, 1, 4)
        h = self.attended(rotated(q), rotated(k), v, seen)
        g = g + self.proj(h.transpose(1, 2).reshape(B, T, C))
        return g + self.dense(g)


class Block(nn.Module):
    layer = Layer

    def __init__(self, features, tokens, channels, heads, layers, reverse=False):
        super().__init__()
        self.reverse = reverse
        self.net = nn.Sequential(nn.Linear(features, channels), Positions(channels, tokens))
        self.layers = nn.ModuleList(self.layer(channels, heads) for _ in range(layers))
        self.out = nn.Linear(channels, 2 * features)

    def seen(self, T):
        """Which tokens j a token i sees."""
        return torch.ones(T, T, dtype=torch.bool).tril()

    def rotated(self, q):
        """Queries or keys (B, heads, T, d), where positions turn them."""
        return q

    def outputs(self, g):
        return self.out(g)

    def parts(self, h):
        """(a, b), 0 for the first token: outputs are delayed by one token."""
        g = self.net(h)
        for layer in self.layers:
            g = layer(g, self.seen(h.shape[1]), self.rotated)
        return F.pad(self.outputs(g)[:, :-1], (0, 0, 1, 0)).chunk(2, -1)

    def turned(self, h):
        return h.flip(1) if self.reverse else h

    def scale(self, a):
        return torch.exp(-a)

    def log_det(self, a):
        return -a.sum((1, 2))

    def forward(self, h):
        h = self.turned(h)
        a, b = self.parts(h)
        return self.turned((h - b) * self.scale(a)), self.log_det(a)

    def inverse(self, z):
        z = self.turned(z)
        h = torch.zeros_like(z)
        for t in range(z.shape[1]):
            a, b = self.parts(h)
            h = torch.cat((h[:, :t], (z * torch.exp(a) + b)[:, t:t + 1], h[:, t + 1:]), 1)
        return self.turned(h)


class TarFlow(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        log_det = 0
        for block in self.blocks:
            x, more = block(x)
            log_det = log_det + more
        return x, log_det

    def inverse(self, z):
        for block in reversed(self.blocks):
            z = block.inverse(z)
        return z


# -- refflow's weights ------------------------------------------------------------------------------------------------

def of_flow(flow, kind=Block):
    """The torch model, of blocks of a kind, with the weights of a flow of `refflow.models.tarflow` given one class, or none; float64."""
    return TarFlow([with_weights(f, kind, k % 2 == 1) for k, f in enumerate(autoregressive(flow))])


def autoregressive(flow):
    from refflow.core import tree
    from refflow.maps.autoregressive import Autoregressive
    return [value for _, value in tree.walk(flow) if isinstance(value, Autoregressive)]


def with_weights(f, kind, reverse):
    """A block of a kind with the weights of an `Autoregressive` block of ours; the vector of its class joins each position."""
    from refflow.core import tree
    from refflow.maps.conditioners import RelativeAttention
    first, positions, *of_class, body, _, _ = f.net.net.net.layers
    heads = next(value.heads for _, value in tree.walk(body) if isinstance(value, RelativeAttention))
    made = kind(first.layer.W.shape[1], *positions.P.shape[::-1], heads, len(body.layers) // 2, reverse).double()
    with torch.no_grad():
        ours = [array for path, array in tree.flatten(f.net.params()) if path[-1] not in ("E", "context")]
        for theirs, array in zip(made.parameters(), ours, strict=True):
            theirs.copy_(torch.tensor(array))
        for layer in of_class:
            made.net[1].P += torch.tensor(layer.of_class().reshape(-1, 1))
    return made


def tokens_of(vectors, T):
    """Vectors (B, F T) of ours as tokens (B, T, F)."""
    return np.swapaxes(vectors.reshape(len(vectors), vectors.shape[1] // T, T), 1, 2)


def vectors_of(tokens):
    """The reverse."""
    return np.swapaxes(tokens, 1, 2).reshape(len(tokens), tokens[0].size if len(tokens) else np.prod(tokens.shape[1:]))
