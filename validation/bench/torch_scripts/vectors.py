"""RealNVP, MAF and a neural spline flow of vectors, at the sizes of `refflow fit` for a table of two columns.

A layer maps data towards latents: `layer(x)` is (z, log-det).  Parameters stand in the order of refflow's.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F

from .splines import FLOOR, spline

HIDDEN = 64


class Layers(nn.Module):
    """Layers one after the other."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        total = 0
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total


def starting_at_0(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


# -- RealNVP ----------------------------------------------------------------------------------------------------------

class TanhScale(nn.Module):
    """The logarithm of a scale, gain tanh(s) + shift."""

    def __init__(self):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, s):
        return self.gain * torch.tanh(s) + self.shift


class AffineCoupling(nn.Module):
    """One half passes, and scales and shifts the other half."""

    def __init__(self, size, flip):
        super().__init__()
        self.flip, self.half = flip, size // 2
        passes = size - self.half if flip else self.half
        self.net = nn.Sequential(nn.Linear(passes, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(),
                                 starting_at_0(nn.Linear(HIDDEN, 2 * (size - passes))))
        self.log_scale = TanhScale()

    def forward(self, x):
        a, b = x[:, :self.half], x[:, self.half:]
        a, b = (b, a) if self.flip else (a, b)
        s, t = self.net(a).chunk(2, -1)
        log_scale = self.log_scale(s)
        b = b * torch.exp(log_scale) + t
        return torch.cat((b, a) if self.flip else (a, b), -1), log_scale.sum(-1)


def realnvp(size, couplings=8):
    return Layers([AffineCoupling(size, k % 2 == 1) for k in range(couplings)])


# -- MAF --------------------------------------------------------------------------------------------------------------

class MaskedLinear(nn.Linear):
    def __init__(self, mask):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float())

    def forward(self, h):
        return F.linear(h, self.weight * self.mask, self.bias)


class MaskedLayer(nn.Module):
    """Each entry is scaled and shifted by numbers that depend on the entries before it, in reverse order on those after it."""

    def __init__(self, size, reverse):
        super().__init__()
        entries = torch.arange(size).flip(0) if reverse else torch.arange(size)
        degrees = [entries, *(torch.arange(HIDDEN) % max(1, size - 1) for _ in range(2))]
        masks = [after[:, None] >= before for before, after in itertools.pairwise(degrees)]
        last = starting_at_0(MaskedLinear(entries.repeat(2)[:, None] > degrees[-1]))
        self.net = nn.Sequential(MaskedLinear(masks[0]), nn.Tanh(), MaskedLinear(masks[1]), nn.Tanh(), last)

    def forward(self, x):
        s, t = self.net(x).chunk(2, -1)
        return x * torch.exp(s) + t, s.sum(-1)


def maf(size, layers=5):
    return Layers([MaskedLayer(size, k % 2 == 1) for k in range(layers)])


# -- the neural spline flow -------------------------------------------------------------------------------------------

class LinearLU(nn.Module):
    """A permutation and L U x + c."""

    def __init__(self, size):
        super().__init__()
        self.register_buffer("order", torch.randperm(size))
        self.register_buffer("eye", torch.eye(size))
        self.lower, self.upper = (nn.Parameter(torch.zeros(size, size)) for _ in range(2))
        self.diagonal, self.shift = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x):
        L, U = torch.tril(self.lower, -1) + self.eye, torch.triu(self.upper, 1) + torch.diag(self.diagonal)
        return x[:, self.order] @ U.T @ L.T + self.shift, torch.log(torch.abs(self.diagonal)).sum()


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one, self.other = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.uniform_(self.other.weight, -1e-3, 1e-3)
        nn.init.zeros_(self.other.bias)

    def forward(self, v):
        return v + self.other(F.relu(self.one(F.relu(v))))


class Numbers(nn.Module):
    """Trained numbers, as a network that sees nothing."""

    def __init__(self, start):
        super().__init__()
        self.numbers = nn.Parameter(start)

    def forward(self, a):
        return self.numbers.expand(len(a), -1)


class SplineCoupling(nn.Module):
    """Every second entry passes, and makes the splines of the others; then it goes through splines of its own."""

    def __init__(self, size, flip, bins, bound):
        super().__init__()
        passes = (torch.arange(size) % 2 == 0) ^ flip
        self.bins, self.bound = bins, bound
        self.register_buffer("a", passes.nonzero()[:, 0])
        self.register_buffer("b", (~passes).nonzero()[:, 0])
        start = torch.zeros(3 * bins - 1)
        start[2 * bins:] = math.log(math.expm1(1 - FLOOR))                          # slopes of 1
        last = starting_at_0(nn.Linear(HIDDEN, len(self.b) * len(start)))
        last.bias.data.copy_(start.repeat(len(self.b)))
        self.net = nn.Sequential(nn.Linear(len(self.a), HIDDEN), Block(HIDDEN), Block(HIDDEN), last)
        self.own = Numbers(start.repeat(len(self.a)))

    def spline(self, u, theta):
        return spline(u, theta.unflatten(-1, (u.shape[-1], -1)), self.bins, self.bound, HIDDEN)

    def forward(self, u):
        a = u[:, self.a]
        moved, log_slopes = self.spline(u[:, self.b], self.net(a))
        own, own_log_slopes = self.spline(a, self.own(a))
        z = u.index_copy(1, self.b, moved).index_copy(1, self.a, own)
        return z, log_slopes.sum(-1) + own_log_slopes.sum(-1)


def nsf(size, couplings=8, bins=8, bound=3.0):
    steps = ((LinearLU(size), SplineCoupling(size, k % 2 == 0, bins, bound)) for k in range(couplings))
    return Layers([*itertools.chain(*steps), LinearLU(size)])
