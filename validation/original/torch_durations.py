"""VITS' stochastic duration predictor in torch, as people write it: convolutions, a softmax, a logarithm of a difference.

`Durations(model)` has the parameters of a refflow model as tensors; `differences(model, batch)` compares bounds, samples and
all gradients.  The second channel's spline is evaluated bin by bin; gradients are autograd's.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from refflow.core import tree
from refflow.maps.coupling import Coupling
from refflow.maps.normalization import GlowTTSActNorm

FLOOR = 1e-3                                    # of widths and heights, in units of the interval, and of slopes


def tensor(array):
    return torch.tensor(np.asarray(array, float))


class Durations:
    """The bound and the samples of a model, of which `leaves` are the parameters, {path: tensor}."""

    def __init__(self, model):
        self.model = model
        self.leaves = {path: tensor(leaf).requires_grad_() for path, leaf in tree.flatten(model.params())}

    def of(self, *path):
        return self.leaves[tuple(map(str, path))]

    # -- networks ----------------------------------------------------------------------------------------------------

    def network(self, net, path, a, mask, context=None):
        """(2) of the networks, by the kinds of layers."""
        for i, layer in enumerate(net.layers):
            here, kind = (*path, "layers", i), type(layer).__name__
            if kind == "Conv1d":
                a = F.conv1d(a, self.of(*here, "W"), self.of(*here, "b"))
            elif kind == "AddedSignal":
                a = a + context
            elif kind == "Residual":
                a = a + self.inside(layer.inner, (*here, "inner"), a * mask)
        return a * mask

    def inside(self, net, path, a):
        W, b = (self.of(*path, "layers", 0, key) for key in "Wb")
        a = F.conv1d(a, W[:, None], b, padding="same", dilation=net.layers[0].dilation, groups=len(W))
        a = F.gelu(self.norm((*path, "layers", 1), a))
        a = F.conv1d(a, self.of(*path, "layers", 3, "W"), self.of(*path, "layers", 3, "b"))
        return F.gelu(self.norm((*path, "layers", 4), a))

    def norm(self, path, a):
        gain, bias = (self.of(*path, "layer", key) for key in ("gain", "bias"))
        return F.layer_norm(a.mT, gain.shape, gain, bias, 1e-5).mT

    # -- flows -------------------------------------------------------------------------------------------------------

    def flow(self, chain, path, y, mask, context):
        """(image, log-det) of a chain's stages."""
        total = torch.zeros(len(y), dtype=y.dtype)
        for i, stage in enumerate(chain.stages):
            here = (*path, "stages", i)
            if isinstance(stage, Coupling):
                h = self.network(stage.net, (*here, "net"), y[:, :1], mask, context)
                b, log_slope = spline(y[:, 1], h, stage)
                y, total = torch.stack((y[:, 0], b), 1) * mask, total + (log_slope * mask[:, 0]).sum(-1)
            elif isinstance(stage.inner, GlowTTSActNorm):
                logs, bias = (self.of(*here, "inner", key)[:, None] for key in ("logs", "bias"))
                y, total = (bias + logs.exp() * y) * mask, total + (logs * mask).sum((1, 2))
            else:
                y = y.flip(1)
        return y, total

    def inverse(self, chain, path, y, mask, context):
        for i, stage in reversed(list(enumerate(chain.stages))):
            here = (*path, "stages", i)
            if isinstance(stage, Coupling):
                h = self.network(stage.net, (*here, "net"), y[:, :1], mask, context)
                y = torch.stack((y[:, 0], inverse_spline(y[:, 1], h, stage)), 1) * mask
            elif isinstance(stage.inner, GlowTTSActNorm):
                logs, bias = (self.of(*here, "inner", key)[:, None] for key in ("logs", "bias"))
                y = (y - bias) * (-logs).exp() * mask
            else:
                y = y.flip(1)
        return y

    # -- the model ---------------------------------------------------------------------------------------------------

    def text(self, x, mask, g):
        e = 0 if g is None else F.linear(g, self.of("speaker", 0, "W"), self.of("speaker", 0, "b"))[..., None]
        return self.network(self.model.text, ("text",), x, mask, e)

    def bound(self, x, mask, d, noise, g=None):
        h, e = self.text(x, mask, g), noise * mask
        k = self.network(self.model.durations, ("durations",), d[:, None] * mask, mask)
        y, l_q = self.flow(self.model.posterior, ("posterior",), e, mask, h + k)
        a, valid = y[:, 0], mask[:, 0]
        log_q = (log_pi(e) * mask).sum((1, 2)) - l_q - ((F.logsigmoid(a) + F.logsigmoid(-a)) * valid).sum(-1)
        w = torch.log(d - torch.sigmoid(a)) * valid
        z, l_p = self.flow(self.model.prior.inner, ("prior", "inner"), torch.stack((w, y[:, 1]), 1), mask, h)
        return (log_pi(z) * mask).sum((1, 2)) + l_p - w.sum(-1) - log_q

    def sample(self, x, mask, noise, g=None):
        h = self.text(x, mask, g)
        return self.inverse(self.model.prior.inner, ("prior", "inner"), noise * mask, mask, h)[:, 0]


def log_pi(z):
    return -(z * z + math.log(2 * math.pi)) / 2


# -- the spline -------------------------------------------------------------------------------------------------------

def knots(h, stage):
    """(knots in z, knots in x, slopes at the knots), each (B, T, bins + 1), from a network's numbers (B, P, T)."""
    maps = stage.family.map.maps
    K, low, high = maps[0].bins, maps[0].low, maps[0].high
    widths, heights, slopes = h.mT.split((K, K, K - 1), -1)
    root = math.sqrt(stage.net.layers[0].W.shape[0])
    found = []
    for part in (widths, heights):
        sizes = FLOOR + (1 - FLOOR * K) * F.softmax(part / root, -1)
        found.append(F.pad(low + (high - low) * sizes.cumsum(-1), (1, 0), value=low))
    return *found, F.pad(F.softplus(slopes) + FLOOR, (1, 1), value=1.0)


def bins(at, searched, *arrays):
    """The two ends of each event's bin, for each array, and whether it lies inside the knots."""
    k = (at[..., None] >= searched[..., 1:-1]).sum(-1, keepdim=True)
    inside = (at > searched[..., 0]) & (at < searched[..., -1])
    return inside, [array.gather(-1, k + side)[..., 0] for array in arrays for side in (0, 1)]


def spline(z, h, stage):
    """(image, log-slope)."""
    X, Y, S = knots(h, stage)
    inside, (x0, x1, y0, y1, s0, s1) = bins(z, X, X, Y, S)
    t, mean = torch.where(inside, (z - x0) / (x1 - x0), 0.5), (y1 - y0) / (x1 - x0)
    below = mean + (s0 + s1 - 2 * mean) * t * (1 - t)
    image = y0 + (y1 - y0) * (mean * t * t + s0 * t * (1 - t)) / below
    log_slope = torch.log(mean * mean * (s1 * t * t + 2 * mean * t * (1 - t) + s0 * (1 - t) ** 2)) - 2 * torch.log(below)
    return torch.where(inside, image, z), torch.where(inside, log_slope, 0 * z)


def inverse_spline(x, h, stage):
    X, Y, S = knots(h, stage)
    inside, (x0, x1, y0, y1, s0, s1) = bins(x, Y, X, Y, S)
    above, mean = torch.where(inside, x - y0, 0 * x), (y1 - y0) / (x1 - x0)
    curve = (s0 + s1 - 2 * mean) * above
    A, B, C = (y1 - y0) * (mean - s0) + curve, (y1 - y0) * s0 - curve, -mean * above
    t = 2 * C / (-B - torch.sqrt(B * B - 4 * A * C))
    return torch.where(inside, x0 + t * (x1 - x0), x)


# -- the comparison ---------------------------------------------------------------------------------------------------

def differences(model, x, lengths, d, noise, g=None):
    """{quantity: the largest difference, relative to the largest entry}, of a model that is not detached."""
    theirs, mask = Durations(model), tensor(np.arange(x.shape[-1]) < np.asarray(lengths)[:, None])[:, None]
    inputs = {"x": tensor(x).requires_grad_()} | ({} if g is None else {"g": tensor(g).requires_grad_()})
    bound = theirs.bound(inputs["x"], mask, tensor(d), tensor(noise), inputs.get("g"))
    bars = torch.autograd.grad(bound.sum(), [*inputs.values(), *theirs.leaves.values()])
    their_bars = dict(zip([*inputs, *theirs.leaves], bars))
    ours, pullback = model.bound_vjp(x, lengths, d, noise, g)
    x_bar, g_bar, params_bar = pullback(np.ones_like(ours))
    w = theirs.sample(inputs["x"], mask, tensor(noise), inputs.get("g"))
    found = {"bound": apart(ours, bound), "sample": apart(model.sample(x, lengths, noise, g=g)[0], w),
             "sample by all couplings": apart(model.sample(x, lengths, noise, g=g, skips_first=False)[0], w),
             "gradient by x": apart(x_bar, their_bars["x"])}
    if g is not None:
        found["gradient by g"] = apart(g_bar, their_bars["g"])
    largest = max(bar.abs().max().item() for path, bar in their_bars.items())
    leaves = tree.flatten(params_bar)
    assert [path for path, _ in leaves] == list(theirs.leaves)
    return found | {"gradient by parameters": max(np.abs(bar - their_bars[path].numpy()).max(initial=0) / largest
                                                  for path, bar in leaves)}


def apart(ours, theirs):
    theirs = theirs.detach().numpy()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
