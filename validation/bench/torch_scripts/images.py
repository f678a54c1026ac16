"""Glow, in the authors' convention, and TarFlow, at the sizes of `refflow fit` for small images.

A model maps images (N, C, H, W) to latents: `model(x)` is (a list of latents, log-det).  Parameters stand in the order of refflow's.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from . import torch_tarflow

GLOW_HIDDEN, TARFLOW_CHANNELS, HEADS = 32, 64, 2


# -- Glow -------------------------------------------------------------------------------------------------------------

class ActNorm(nn.Module):
    """(h + bias) exp(3 s) in each channel; the first batch chooses both."""

    def __init__(self, channels):
        super().__init__()
        self.s, self.bias = (nn.Parameter(torch.zeros(channels)) for _ in range(2))
        self.register_buffer("started", torch.tensor(False))

    def start(self, h):
        with torch.no_grad():
            self.bias.copy_(-h.mean((0, 2, 3)))
            self.s.copy_(-torch.log(h.std((0, 2, 3), correction=0) + 1e-6) / 3)
            self.started.fill_(True)

    def forward(self, h):
        if not self.started:
            self.start(h)
        return (h + self.bias[:, None, None]) * torch.exp(3 * self.s)[:, None, None]


class EdgeConv(nn.Conv2d):
    """A convolution of 3 x 3; one more channel is 1 around the image, where the others are 0."""

    def __init__(self, inputs, outputs, bias=True):
        super().__init__(inputs + 1, outputs, 3, bias=bias)

    def forward(self, h):
        h, edge = F.pad(h, (1, 1, 1, 1)), F.pad(h.new_zeros(len(h), 1, *h.shape[2:]), (1, 1, 1, 1), value=1.0)
        return super().forward(torch.cat((h, edge), 1))


def starting_at_0(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ChannelScale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.s = nn.Parameter(torch.zeros(channels))

    def forward(self, h):
        return h * torch.exp(3 * self.s)[:, None, None]


def last(inputs, outputs):
    """A convolution that starts at 0, times exp(3 s)."""
    return nn.Sequential(starting_at_0(EdgeConv(inputs, outputs)), ChannelScale(outputs))


class InvertibleConv(nn.Module):
    """A 1 x 1 convolution that starts as a rotation."""

    def __init__(self, channels):
        super().__init__()
        self.W = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])

    def forward(self, h):
        return F.conv2d(h, self.W[:, :, None, None])


class Step(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.conv, half = ActNorm(channels), InvertibleConv(channels), channels // 2
        first, second = EdgeConv(half, GLOW_HIDDEN, bias=False), nn.Conv2d(GLOW_HIDDEN, GLOW_HIDDEN, 1, bias=False)
        for conv in (first, second):
            nn.init.normal_(conv.weight, std=0.05)
        self.net = nn.Sequential(first, ActNorm(GLOW_HIDDEN), nn.ReLU(), second, ActNorm(GLOW_HIDDEN), nn.ReLU(),
                                 *last(GLOW_HIDDEN, channels))

    def forward(self, h):
        positions = h.shape[2] * h.shape[3]
        a, b = self.conv(self.norm(h)).chunk(2, 1)
        out = self.net(a)
        t, scale = out[:, 0::2], torch.sigmoid(out[:, 1::2] + 2)
        log_det = positions * (3 * self.norm.s.sum() + torch.linalg.slogdet(self.conv.W)[1]) + torch.log(scale).sum((1, 2, 3))
        return torch.cat((a, (b + t) * scale), 1), log_det


class Glow(nn.Module):
    def __init__(self, channels, levels, steps):
        super().__init__()
        self.levels = nn.ModuleList()
        for level in range(levels):
            channels *= 4
            prior = last(channels // 2, channels) if level < levels - 1 else last(0, 2 * channels)
            self.levels.append(nn.ModuleList([*(Step(channels) for _ in range(steps)), prior]))
            channels //= 2

    def forward(self, h):
        latents, log_det = [], 0
        for i, (*steps, prior) in enumerate(self.levels):
            h = F.pixel_unshuffle(h, 2)
            for step in steps:
                h, more = step(h)
                log_det = log_det + more
            if i < len(self.levels) - 1:
                h, b = h.chunk(2, 1)
                out = prior(h)
                m, q = out[:, 0::2], out[:, 1::2]
            else:
                b, (m, q) = h, prior(h[:, :0]).chunk(2, 1)
            latents.append(((b - m) * torch.exp(-q)).flatten(1))
            log_det = log_det - q.sum((1, 2, 3))
        return torch.cat(latents, 1), log_det


def glow(shape, levels=3, steps=4):
    return Glow(shape[0], levels, steps)


# -- TarFlow ----------------------------------------------------------------------------------------------------------

class Layer(torch_tarflow.Layer):
    def attended(self, q, k, v, seen):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Block(torch_tarflow.Block):
    layer = Layer


class TarFlow(torch_tarflow.TarFlow):
    def __init__(self, shape, blocks=4, layers=2, patch=2):
        C, H, W = shape
        self.patch, features, tokens = patch, C * patch**2, H * W // patch**2
        super().__init__([Block(features, tokens, TARFLOW_CHANNELS, HEADS, layers, k % 2 == 1) for k in range(blocks)])
        for block in self.blocks:
            starting_at_0(block.out)

    def forward(self, x):
        z, log_det = super().forward(F.pixel_unshuffle(x, self.patch).flatten(2).mT)
        return z.flatten(1), log_det


def tarflow(shape):
    return TarFlow(shape)
