"""Right flows in torch, as black boxes: its transforms, and couplings written by hand at random weights.

torch's softplus is the identity from 20 on, which loses exp(-20).  The laws rightly find it, so that SoftplusTransform is left
out, and in float64 the sigmoid and tanh too, whose log-dets use it.  The flows are written as people write them: a network, a
loop over layers, sums over the last axis.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.distributions import transforms as t
from torch.nn import functional as F

from refflow.oracle.boxes.black_box import BlackBox
from refflow.oracle.boxes.gradients import torch_pullback
from validation.foreign.entry import transform

DTYPES = ("float64", "float32", "bfloat16")
BY_SOFTPLUS = ("SigmoidTransform", "TanhTransform")
HALF_LINE, UNIT = (0, np.inf), (0, 1)


# -- its transforms ---------------------------------------------------------------------------------------------------

TRANSFORMS = {
    "AffineTransform": (lambda g: t.AffineTransform(g.standard_normal(), np.exp(g.standard_normal())), None, None),
    "ExpTransform": (lambda g: t.ExpTransform(), None, HALF_LINE),
    "PowerTransform": (lambda g: t.PowerTransform(torch.tensor(np.exp2(g.uniform(-1, 1)))), HALF_LINE, HALF_LINE),
    "SigmoidTransform": (lambda g: t.SigmoidTransform(), None, UNIT),
    "TanhTransform": (lambda g: t.TanhTransform(), None, (-1, 1)),
    "AffineTransform(ExpTransform.inv)": (lambda g: t.ComposeTransform([t.ExpTransform().inv, t.AffineTransform(0.5, 2.0)]),
                                          HALF_LINE, None),
}


def transforms():
    for name in TRANSFORMS:
        for dtype in DTYPES[1:] if name in BY_SOFTPLUS else DTYPES:
            yield f"torch {name}", dtype, lambda seed, dtype, name=name: box_of_transform(name, seed, dtype)


def box_of_transform(name, seed, dtype):
    make, domain, codomain = TRANSFORMS[name]
    forward, inverse = transform(make(np.random.default_rng(seed)))
    return BlackBox(forward, inverse, dtype=dtype, backend="torch", domain=domain, codomain=codomain,
                    pullback=torch_pullback(forward))


# -- flows by hand ----------------------------------------------------------------------------------------------------

class Net(nn.Sequential):
    """A network of one hidden layer."""

    def __init__(self, inputs, outputs, hidden=16):
        super().__init__(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


class Layers(nn.Module):
    """Layers one after the other; the order of the entries is reversed after each."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, z):
        total = z.new_zeros(z.shape[:-1])
        for layer in self.layers:
            z, log_det = layer(z)
            z, total = z.flip(-1), total + log_det
        return z, total

    def inverse(self, x):
        total = x.new_zeros(x.shape[:-1])
        for layer in reversed(self.layers):
            x, log_det = layer.inverse(x.flip(-1))
            total = total + log_det
        return x, total


class AffineCoupling(nn.Module):
    """RealNVP's layer: the first half passes, the rest is scaled and shifted."""

    def __init__(self, D):
        super().__init__()
        self.a, self.b = D // 2, D - D // 2
        self.net = Net(self.a, 2 * self.b)

    def parts(self, v):
        a, b = v[..., :self.a], v[..., self.a:]
        s, shift = self.net(a).chunk(2, -1)
        return a, b, torch.tanh(s), shift

    def forward(self, z):
        a, b, s, shift = self.parts(z)
        return torch.cat((a, b * s.exp() + shift), -1), s.sum(-1)

    def inverse(self, x):
        a, b, s, shift = self.parts(x)
        return torch.cat((a, (b - shift) * (-s).exp()), -1), -s.sum(-1)


class SplineCoupling(nn.Module):
    """A neural spline coupling: the second part goes through rational-quadratic splines on [-3, 3], with straight tails."""

    def __init__(self, D, bins=5):
        super().__init__()
        self.a, self.b, self.bins = D // 2, D - D // 2, bins
        self.net = Net(self.a, self.b * (3 * bins - 1))

    def splines(self, a):
        """(knots in z, knots in x, slopes at the knots), each (*batch, b, bins + 1)."""
        h = self.net(a).unflatten(-1, (self.b, 3 * self.bins - 1))
        widths, heights, slopes = h.split((self.bins, self.bins, self.bins - 1), -1)
        knots = [F.pad(6 * F.softmax(part, -1).cumsum(-1), (1, 0)) - 3 for part in (widths, heights)]
        return *knots, F.pad(F.softplus(slopes) + 1e-3, (1, 1), value=1.0)

    def bin(self, knots, at):
        """The number of the bin."""
        return (at.unsqueeze(-1) >= knots[..., 1:-1]).sum(-1, keepdim=True)

    def ends(self, k, *arrays):
        for array in arrays:
            yield array.gather(-1, k).squeeze(-1)
            yield array.gather(-1, k + 1).squeeze(-1)

    def forward(self, z):
        a, b = z[..., :self.a], z[..., self.a:]
        X, Y, S = self.splines(a)
        k = self.bin(X, b)
        x0, x1, y0, y1, s0, s1 = self.ends(k, X, Y, S)
        mean = (y1 - y0) / (x1 - x0)
        r = ((b - x0) / (x1 - x0)).clamp(0, 1)
        q = r * (1 - r)
        below = mean + (s0 + s1 - 2 * mean) * q
        image = y0 + (y1 - y0) * (mean * r * r + s0 * q) / below
        log_slope = 2 * (mean / below).log() + (s1 * r * r + 2 * mean * q + s0 * (1 - r) ** 2).log()
        inside = (b > -3) & (b < 3)
        return torch.cat((a, torch.where(inside, image, b)), -1), torch.where(inside, log_slope, 0 * b).sum(-1)

    def root(self, A, B, C):
        return 2 * C / (-B - (B * B - 4 * A * C).clamp(min=0).sqrt())

    def inverse(self, x):
        a, b = x[..., :self.a], x[..., self.a:]
        X, Y, S = self.splines(a)
        k = self.bin(Y, b)
        x0, x1, y0, y1, s0, s1 = self.ends(k, X, Y, S)
        mean, curve = (y1 - y0) / (x1 - x0), s0 + s1 - 2 * (y1 - y0) / (x1 - x0)
        above = (b - y0).clamp(min=0)
        A, B, C = (y1 - y0) * (mean - s0) + above * curve, (y1 - y0) * s0 - above * curve, -mean * above
        r = self.root(A, B, C)
        q = r * (1 - r)
        below = mean + curve * q
        log_slope = 2 * (mean / below).log() + (s1 * r * r + 2 * mean * q + s0 * (1 - r) ** 2).log()
        inside = (b > -3) & (b < 3)
        z = torch.where(inside, x0 + r * (x1 - x0), b)
        return torch.cat((a, z), -1), -torch.where(inside, log_slope, 0 * b).sum(-1)


FLOWS = {"RealNVP of 2": lambda: Layers([AffineCoupling(2) for _ in range(3)]),
         "RealNVP of 5": lambda: Layers([AffineCoupling(5) for _ in range(6)]),
         "neural spline flow of 3": lambda: Layers([SplineCoupling(3) for _ in range(3)])}


def flows():
    for name in FLOWS:
        for dtype in DTYPES:
            yield name, dtype, lambda seed, dtype, name=name: box_of_flow(name, seed, dtype)


def box_of_flow(name, seed, dtype):
    """A flow at random weights; in float32 with its copy in float64 beside it."""
    flow, D = flow_of(name, seed), int(name[-1])
    one = flow.to(getattr(torch, dtype))
    wide = flow_of(name, seed).to(getattr(torch, dtype)).double()
    wider = BlackBox(*methods(wide), event=(D,), parameters=wide.parameters) if dtype != "float64" else None
    base = torch.distributions.Normal(torch.zeros(D), torch.ones(D))

    def log_prob(x):
        z, log_det = one.inverse(x)
        return (-z**2 / 2 - 0.5 * np.log(2 * np.pi)).sum(-1) + log_det

    return BlackBox(*methods(one), event=(D,), parameters=one.parameters, pullback=torch_pullback(one.forward, one.parameters),
                    log_prob=log_prob, sample=lambda n: one(base.sample((n,)).to(getattr(torch, dtype)))[0], wider=wider)


def methods(flow):
    return flow.forward, flow.inverse


def flow_of(name, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FLOWS[name]()
