"""Flows written by hand in torch, each with at most one mistake: a 2-D coupling, images, a spline of numbers, a root."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from refflow.testing import BlackBox


class Coupling(nn.Module):
    """Pairs: the second entry is scaled by sigmoid(s + 2) and shifted, by a conditioner of the first."""

    def __init__(self, mistake=None, dtype=torch.float64):
        super().__init__()
        self.mistake = mistake
        self.net = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 2))
        self.unused = nn.Parameter(torch.zeros(1))
        self.to(dtype)

    def parts(self, v):
        a, b = v.split(1, -1)
        s, t = self.net(a).split(1, -1)
        return a, b, s, t

    def forward(self, z):
        if self.mistake == "a batch of one":
            z = z.squeeze()
        a, b, s, t = self.parts(z)
        x = torch.cat((a, b * torch.sigmoid(s + 2) + t), -1)
        if self.mistake == "an input written to":
            z[..., 1:] = x[..., 1:]
        log_det = s if self.mistake == "exp for sigmoid" else F.logsigmoid(s + 2)
        if self.mistake == "a parameter of the log-det alone":
            log_det = log_det + self.unused
        return x, log_det if self.mistake == "an axis is left" else log_det.sum(-1)

    def inverse(self, x):
        a, b, s, t = self.parts(x)
        z = torch.cat((a, (b - t) / (torch.sigmoid(s + 2) + (1e-4 if self.mistake == "an epsilon" else 0))), -1)
        at = self.parts(x.flip(-1))[2] if self.mistake == "the wrong point" else s
        return z, -F.logsigmoid(at + 2).sum(-1)


class Images(nn.Module):
    """Images of two channels: the second is scaled by exp(s) and shifted, by a convolution of the first."""

    def __init__(self, mistake=None, dtype=torch.float64):
        super().__init__()
        self.mistake, self.unused = mistake, nn.Parameter(torch.zeros(2))
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.constant = torch.tensor(0.1, dtype=torch.float32)
        self.to(dtype)

    def parts(self, v):
        a, b = v[:, :1], v[:, 1:]
        s, t = self.conv(a).split(1, 1)
        return a, b, torch.tanh(s), t

    def forward(self, z):
        a, b, s, t = self.parts(z)
        if self.mistake == "a batch form":
            s = s.reshape(len(z), -1, 9).reshape(s.shape)               # -1 of nothing is ambiguous
        scale = torch.sigmoid(s + 2) if self.mistake == "exp for sigmoid" else torch.exp(s)
        if self.mistake == "a float32 constant":
            scale = scale * (self.constant.to(z.dtype) * 10)
        if self.mistake == "an input written to":
            z.mul_(1)[:, 1:].add_(t)
        log_det = s.sum(1) if self.mistake == "a missing sum" else s.sum((1, 2, 3))
        if self.mistake == "a parameter of the log-det alone":
            log_det = log_det + self.unused.sum()
        return torch.cat((a, b * scale + t), 1), log_det

    def inverse(self, x):
        a, b, s, t = self.parts(x)
        at = self.parts(x.flip(1))[2] if self.mistake == "the wrong point" else s
        return torch.cat((a, (b - t) * torch.exp(-s)), 1), -at.sum((1, 2, 3))


class Quadratic(nn.Module):
    """x is z^2 a + z b + c on bins of width 1, z beyond: monotone quadratic splines of each number, with slopes at the knots."""

    def __init__(self, mistake=None, dtype=torch.float64, slopes=(0.0, 0.8, -0.7, 0.4, 0.0)):
        super().__init__()
        self.mistake, self.raw = mistake, nn.Parameter(torch.tensor(slopes))
        self.scale = nn.Parameter(torch.ones(()))
        self.to(dtype)

    def knots(self):
        """Slopes at -2 ... 2, and the images of these knots; the log-slopes are raw numbers."""
        slopes = torch.exp(self.raw)
        rises = (slopes[1:] + slopes[:-1]) / 2
        return slopes, F.pad(rises.cumsum(0), (1, 0)) - 2

    def forward(self, z):
        slopes, images = self.knots()
        inside = (z >= -2) & (z < 2)
        if self.mistake == "a batch of tails":
            z[inside].max()
        k = (z.clamp(-2, 1.999) + 2).floor().long()
        t = z + 2 - k
        x = images[k] + slopes[k] * t + (slopes[k + 1] - slopes[k]) * t * t / 2
        slope = slopes[k] + (slopes[k + 1] - slopes[k]) * t
        if self.mistake == "an epsilon":
            slope = slope + 1e-6
        above, below = z - 2 + images[-1], z
        outside = torch.where(z < -2, below, above)
        log_det = torch.where(inside, slope.log(), torch.zeros_like(z))
        x = torch.where(inside, x, outside)
        if self.mistake == "a float32 constant":
            log_det = log_det + torch.tensor(math.log(2), dtype=torch.float32).to(z.dtype) - math.log(2)
        return x, log_det if self.mistake == "a missing sum" else log_det.sum(-1)

    def inverse(self, x):
        slopes, images = self.knots()
        inside = (x >= -2) & (x < images[-1])
        k = torch.searchsorted(images, x.detach().contiguous(), right=True) - 1
        k = k.clamp(0, 3)
        rise, bend = x - images[k], slopes[k + 1] - slopes[k]
        root = (slopes[k] ** 2 + 2 * bend * rise).clamp(min=0)
        if self.mistake == "an epsilon under the root":
            root = root + 1e-7
        root = root.sqrt()
        t = (root - slopes[k]) / bend if self.mistake == "a single branch" else 2 * rise / (slopes[k] + root)
        z = torch.where(inside, k - 2 + t, torch.where(x < -2, x, x - images[-1] + 2))
        if self.mistake == "the wrong point":
            return z, -self.forward(x)[1]
        return z, -torch.where(inside, root.log(), torch.zeros_like(x)).sum(-1)


class Sinh(nn.Module):
    """x = sinh(z) of one number, whose inverse has a root."""

    def __init__(self, mistake=None, dtype=torch.float64):
        super().__init__()
        self.mistake = mistake

    def forward(self, z):
        return torch.sinh(z), torch.log(torch.cosh(z))

    def inverse(self, x):
        if self.mistake == "a single branch":
            z = torch.log(x + torch.sqrt(x * x + 1))
        elif self.mistake == "a sign is lost":
            z = torch.asinh(x.abs())
        else:
            z = torch.asinh(x + (1e-10 if self.mistake == "an epsilon" else 0))
        slope = x * x + 1 + (1e-9 if self.mistake == "an epsilon under the root" else 0)
        return z, -torch.log(torch.cosh(x)) if self.mistake == "the wrong point" else -torch.log(slope) / 2


EVENTS = {Coupling: (2,), Images: (2, 3, 3), Quadratic: (4,), Sinh: ()}


def box_of(module, mistake=None, dtype="float64", inverse=True, parameters=True):
    torch.manual_seed(0)
    flow = module(mistake, getattr(torch, dtype))
    if (module, mistake) == (Quadratic, "a single branch"):
        flow.raw.data[2] = flow.raw.data[1]                             # equal slopes: the quadratic is a line
    trained = flow.parameters if parameters and list(flow.parameters()) else None
    return BlackBox(flow.forward, flow.inverse if inverse else None, event=EVENTS[module], parameters=trained, dtype=dtype,
                    backend="torch")
