"""Maps of nflows: its transforms, couplings and autoregressive maps at random weights, and stacks of them.

nflows.flows and nflows.distributions import matplotlib, so that the transforms of flows are asked without their bases.  Where tails are
linear, splines are asked as modules, too.
"""

from __future__ import annotations

import torch
from nflows import transforms as t
from nflows.nn.nets import ConvResidualNet, ResidualNet
from nflows.transforms import splines
from nflows.transforms.nonlinearities import CauchyCDF, CauchyCDFInverse

from .entry import DOUBLE, UNIT, normal
from .in_torch import method, module, one

BINS = 5
SIZES = {"linear": (BINS,), "quadratic": (BINS, BINS + 1), "cubic": (BINS, BINS, 1, 1), "rational_quadratic": (BINS, BINS, BINS + 1)}
LINEAR_TAILS = {"num_bins": 5, "tails": "linear", "tail_bound": 3.0}
MASK, IMAGE = [1, 0, 1, 0], (4, 2, 2)


def net(inputs, outputs):
    return ResidualNet(inputs, outputs, hidden_features=16, num_blocks=1, activation=torch.tanh)


def convolution(inputs, outputs):
    return ConvResidualNet(inputs, outputs, hidden_channels=8, num_blocks=1, activation=torch.tanh)


def coupling(name, variant="", **more):
    return module(name + variant, lambda: getattr(t, name)(MASK, net, **more), (4,))


def spline(name):
    """A spline of numbers in (0, 1), given its unnormalised parameters one by one."""
    def build(*numbers):
        def side(inverse):
            def call(event):
                parts = (part.expand(*event.shape, -1) for part in torch.stack(numbers).split(SIZES[name]))
                image, log_slope = getattr(splines, f"{name}_spline")(event, *parts, inverse=inverse)
                return image, log_slope.sum(-1)
            return call

        return side(False), side(True)

    return one(f"splines.{name}_spline", build, *[normal()] * sum(SIZES[name]), event=(1,), domain=UNIT, codomain=UNIT)


def number(name, make, inverse=True, **more):
    """A map of single numbers without parameters."""
    def side(direction):
        return lambda event: method(direction)(make(), event)

    return one(name, lambda: (side("forward"), side("inverse") if inverse else None), event=(1,), **more)


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
    yield number("Tanh", t.Tanh, codomain=(-1, 1))
    yield number("LogTanh", t.LogTanh)
    yield number("LeakyReLU", t.LeakyReLU)
    yield number("Sigmoid", t.Sigmoid, inverse=False, codomain=UNIT)
    yield module("Sigmoid [learn_temperature]", lambda: t.Sigmoid(learn_temperature=True), (2,), inverse=False, codomain=UNIT)
    yield number("CauchyCDF", CauchyCDF, codomain=UNIT)
    yield number("CauchyCDFInverse", CauchyCDFInverse, domain=UNIT)
    yield module("CompositeTransform of LogTanh and LeakyReLU", lambda: t.CompositeTransform([t.LogTanh(), t.LeakyReLU()]), (3,))
    yield module("InverseTransform(LogTanh)", lambda: t.InverseTransform(t.LogTanh()), (3,))
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
    for name in SIZES:
        yield spline(name)
    for kind in ("Linear", "Quadratic", "Cubic", "RationalQuadratic"):
        yield module(f"Piecewise{kind}CDF", lambda kind=kind: getattr(t, f"Piecewise{kind}CDF")([1], **LINEAR_TAILS), (1,))
        yield coupling(f"Piecewise{kind}CouplingTransform", **LINEAR_TAILS)
    yield module("CompositeCDFTransform", lambda: t.CompositeCDFTransform(
        CauchyCDF(), t.PiecewiseRationalQuadraticCDF([1], num_bins=BINS)), (1,), dtypes=DOUBLE)
    yield coupling("AdditiveCouplingTransform")
    yield coupling("AffineCouplingTransform")
    yield module("AffineCouplingTransform of images", lambda: t.AffineCouplingTransform(MASK, convolution), IMAGE)
    yield coupling("PiecewiseRationalQuadraticCouplingTransform", " [apply_unconditional_transform]", apply_unconditional_transform=True,
                   **LINEAR_TAILS)
    yield autoregressive("Affine")
    yield autoregressive("PiecewiseRationalQuadratic", **LINEAR_TAILS)
    yield autoregressive("PiecewiseQuadratic", **LINEAR_TAILS)
    yield module("MultiscaleCompositeTransform", multiscale, (1, 4, 4))
    yield module("CompositeTransform of MaskedAffineAutoregressiveTransform", masked_autoregressive_flow, (4,))
    yield module("CompositeTransform of LULinear and spline couplings", spline_coupling_flow, (4,))
    yield module("CompositeTransform of ActNorm, LULinear and affine couplings", glow_of_vectors, (4,))
