"""Maps of normflows: its layers at random weights, and whole flows, whose forward leads from latents to data.

normflows' planar and radial flows have no inverse, and the log-det of its residual flows is a random series: what a flow lacks is not asked.
"""

from __future__ import annotations

import normflows
import torch
from normflows import flows as f
from normflows import nets

from .in_torch import module

SPLINE = {"num_input_channels": 4, "num_blocks": 1, "num_hidden_channels": 8, "num_bins": 4}


def mlp(*sizes):
    """A network whose last layer does not begin at 0."""
    return nets.MLP(list(sizes), init_zeros=False)


def alternating(k):
    return torch.tensor([float(i % 2 == k % 2) for i in range(4)])


def masked(k):
    return f.MaskedAffineFlow(alternating(k), mlp(4, 16, 4), mlp(4, 16, 4))


def pair(layer):
    """A layer of [z1, z2] between a split and a merge."""
    return f.Composite([f.Split(), layer, f.Merge()])


def whole(name, size, *layers):
    """A flow with its base, as `NormalizingFlow` calls it."""
    return module(name, lambda: normflows.NormalizingFlow(normflows.distributions.DiagGaussian(size, trainable=False),
                                                          [layer() for layer in layers]),
                  (size,), lambda net, z: net.forward_and_log_det(z), lambda net, x: net.inverse_and_log_det(x),
                  log_prob=lambda net, x: net.log_prob(x), sample=lambda net, n: net.sample(n)[0].detach())


def maps():
    yield module("Planar", lambda: f.Planar((3,)), (3,), inverse=False)
    yield module("Radial", lambda: f.Radial((3,)), (3,), inverse=False)
    yield module("AffineConstFlow", lambda: f.AffineConstFlow((3,)), (3,))
    yield module("InvertibleAffine", lambda: f.InvertibleAffine(3, use_lu=False), (3,))
    yield module("InvertibleAffine [use_lu]", lambda: f.InvertibleAffine(3), (3,))
    yield module("Invertible1x1Conv", lambda: f.Invertible1x1Conv(3), (3, 2, 2))
    yield module("Invertible1x1Conv [use_lu]", lambda: f.Invertible1x1Conv(3, use_lu=True), (3, 2, 2))
    yield module("LULinearPermute", lambda: f.LULinearPermute(4), (4,))
    yield module("Permute", lambda: f.Permute(4), (4,))
    yield module("Squeeze", f.Squeeze, (4, 2, 2))
    yield module("MaskedAffineFlow", lambda: masked(0), (4,))
    for scale_map in ("exp", "sigmoid", "sigmoid_inv"):
        yield module(f"AffineCouplingBlock [{scale_map}]", lambda scale_map=scale_map: f.AffineCouplingBlock(
            mlp(2, 16, 4), scale_map=scale_map), (4,))
    yield module("AffineCouplingBlock [checkerboard]", lambda: f.AffineCouplingBlock(
        mlp(4, 16, 8), split_mode="checkerboard"), (8,))
    yield module("MaskedAffineAutoregressive", lambda: f.MaskedAffineAutoregressive(4, 16, num_blocks=1), (4,))
    yield module("GlowBlock", lambda: f.GlowBlock(4, 8, init_zeros=False), (4, 2, 2))
    yield module("CoupledRationalQuadraticSpline", lambda: f.CoupledRationalQuadraticSpline(**SPLINE), (4,))
    yield module("AutoregressiveRationalQuadraticSpline", lambda: f.AutoregressiveRationalQuadraticSpline(
        **SPLINE, init_identity=False), (4,))
    yield whole("NormalizingFlow of MaskedAffineFlow", 4, *[lambda k=k: masked(k) for k in range(4)])
    yield whole("NormalizingFlow of splines", 4, *[layer for _ in range(2) for layer in (
        lambda: f.CoupledRationalQuadraticSpline(**SPLINE), lambda: f.LULinearPermute(4))])
    yield whole("NormalizingFlow of couplings", 4, *[layer for _ in range(3) for layer in (
        lambda: f.AffineCouplingBlock(mlp(2, 16, 4)), lambda: f.Permute(4, mode="swap"))])
