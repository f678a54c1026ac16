"""Maps of nflows: its transforms, couplings and autoregressive maps at random weights, and stacks of them.

nflows.flows and nflows.distributions import matplotlib, so that the transforms of flows are asked without their bases."""

from __future__ import annotations

import torch
from nflows import transforms as t
from nflows.nn.nets import ResidualNet
from nflows.transforms.nonlinearities import CauchyCDF, CauchyCDFInverse

from .entry import UNIT
from .in_torch import module

LINEAR_TAILS = {"num_bins": 5, "tails": "linear", "tail_bound": 3.0}
MASK = [1, 0, 1, 0]


def net(inputs, outputs):
    return ResidualNet(inputs, outputs, hidden_features=16, num_blocks=1, activation=torch.tanh)


def coupling(name, **more):
    return module(name, lambda: getattr(t, name)(MASK, net, **more), (4,))


def spline(kind, **more):
    """A spline of one number, in three layouts."""
    made = getattr(t, f"Piecewise{kind}CDF")
    yield module(f"Piecewise{kind}CDF", lambda: made([1], **LINEAR_TAILS, **more), (1,))
    yield module(f"Piecewise{kind}CDF on (0, 1)", lambda: made([1], num_bins=5, **more), (1,), domain=UNIT, codomain=UNIT)


def autoregressive(kind, *bins, **more):
    return module(f"Masked{kind}AutoregressiveTransform", lambda: getattr(t, f"Masked{kind}AutoregressiveTransform")(
        *bins, features=3, hidden_features=16, num_blocks=1, activation=torch.tanh, **more), (3,))


def masked_autoregressive_flow():
    return t.CompositeTransform([layer for _ in range(3) for layer in (
        t.ReversePermutation(4), t.MaskedAffineAutoregressiveTransform(4, 16, num_blocks=1, activation=torch.tanh))])


def spline_coupling_flow():
    return t.CompositeTransform([layer for k in range(2) for layer in (
        t.LULinear(4), t.PiecewiseRationalQuadraticCouplingTransform([k, 1 - k] * 2, net, **LINEAR_TAILS))])


def glow_of_vectors():
    return t.CompositeTransform([layer for k in range(3) for layer in (
        t.ActNorm(4), t.LULinear(4), t.AffineCouplingTransform([k % 2, 1 - k % 2] * 2, net))])


def multiscale():
    made = t.MultiscaleCompositeTransform(2)
    hidden = made.add_transform(t.CompositeTransform([t.SqueezeTransform(), t.ActNorm(4), t.OneByOneConvolution(4)]), (4, 2, 2))
    made.add_transform(t.OneByOneConvolution(hidden[0]), hidden)
    return made


def maps():
    yield module("IdentityTransform", t.IdentityTransform, (3,))
    yield module("PointwiseAffineTransform", lambda: t.PointwiseAffineTransform(torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.25])),
                 (2,))
    yield module("Tanh", t.Tanh, (2,), codomain=(-1, 1))
    yield module("LogTanh", t.LogTanh, (2,))
    yield module("LeakyReLU", t.LeakyReLU, (2,))
    yield module("Sigmoid", t.Sigmoid, (1,), inverse=False, codomain=UNIT)
    yield module("Sigmoid [learn_temperature]", lambda: t.Sigmoid(learn_temperature=True), (2,), inverse=False, codomain=UNIT)
    yield module("CauchyCDF", CauchyCDF, (2,), codomain=UNIT)
    yield module("CauchyCDFInverse", CauchyCDFInverse, (1,), domain=UNIT)
    yield module("ReversePermutation", lambda: t.ReversePermutation(4), (4,))
    yield module("RandomPermutation", lambda: t.RandomPermutation(4), (4,))
    yield module("ActNorm", lambda: t.ActNorm(3), (3,))
    yield module("BatchNorm [eval]", lambda: t.BatchNorm(3), (3,))
    yield module("LULinear", lambda: t.LULinear(3, identity_init=False), (3,))
    yield module("QRLinear", lambda: t.QRLinear(3, num_householder=3), (3,))
    yield module("SVDLinear", lambda: t.SVDLinear(4, num_householder=4, identity_init=False), (4,))
    yield module("HouseholderSequence", lambda: t.HouseholderSequence(4, num_transforms=3), (4,))
    yield module("OneByOneConvolution", lambda: t.OneByOneConvolution(3, identity_init=False), (3, 2, 2))
    yield module("SqueezeTransform", t.SqueezeTransform, (1, 4, 4))
    for kind in ("Linear", "Quadratic", "Cubic", "RationalQuadratic"):
        yield from spline(kind)
        yield coupling(f"Piecewise{kind}CouplingTransform", **LINEAR_TAILS)
    yield coupling("AdditiveCouplingTransform")
    yield coupling("AffineCouplingTransform")
    yield autoregressive("Affine")
    yield autoregressive("PiecewiseRationalQuadratic", **LINEAR_TAILS)
    yield module("MultiscaleCompositeTransform", multiscale, (1, 4, 4))
    yield module("CompositeTransform of MaskedAffineAutoregressiveTransform", masked_autoregressive_flow, (4,))
    yield module("CompositeTransform of LULinear and spline couplings", spline_coupling_flow, (4,))
    yield module("CompositeTransform of ActNorm, LULinear and affine couplings", glow_of_vectors, (4,))
