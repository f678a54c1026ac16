"""Models of nflows with drawn parameters: run by `validation.raw_parameters` in an environment of its own."""

from importlib.metadata import version

import torch
from recording import SIZE, save
from with_torch import recorded

from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.nn.nets import ResidualNet
from nflows.transforms import (AffineCouplingTransform, BatchNorm, CompositeTransform, LULinear,
                               MaskedAffineAutoregressiveTransform, MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
                               Permutation, PiecewiseCubicCouplingTransform, PiecewiseLinearCouplingTransform,
                               PiecewiseQuadraticCouplingTransform, PiecewiseRationalQuadraticCouplingTransform)

HIDDEN, BINS = 3, 3
FIRST, SECOND = [1, 0, 1], [0, 1, 0]                    # 1: transformed


def residual(inputs, outputs):
    return ResidualNet(inputs, outputs, hidden_features=HIDDEN, num_blocks=1)


def spline_coupling(mask):
    return PiecewiseRationalQuadraticCouplingTransform(mask, residual, num_bins=BINS, tails="linear", tail_bound=3.0)


def spline_autoregressive():
    return MaskedPiecewiseRationalQuadraticAutoregressiveTransform(SIZE, HIDDEN, num_bins=BINS, tails="linear", tail_bound=3.0,
                                                                  num_blocks=1)


def order(*entries):
    return Permutation(torch.tensor(entries))


def other_coupling(make, mask):
    return make(mask, residual, num_bins=BINS, tails="linear", tail_bound=3.0)


def batch_norm():
    """With moving statistics of its own."""
    norm = BatchNorm(SIZE)
    norm.running_mean.copy_(torch.tensor([1.0, -1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([1.0, 4.0, 2.0]))
    return norm


MODELS = {
    "batch norm": lambda: [batch_norm()],
    "linear spline coupling": lambda: [other_coupling(PiecewiseLinearCouplingTransform, FIRST)],
    "quadratic spline coupling": lambda: [other_coupling(PiecewiseQuadraticCouplingTransform, FIRST)],
    "cubic spline coupling": lambda: [other_coupling(PiecewiseCubicCouplingTransform, FIRST)],
    "spline coupling": lambda: [spline_coupling(FIRST), spline_coupling(SECOND)],
    "spline autoregressive": lambda: [spline_autoregressive(), order(2, 0, 1), spline_autoregressive()],
    "affine autoregressive": lambda: [MaskedAffineAutoregressiveTransform(SIZE, HIDDEN, num_blocks=1), order(2, 1, 0),
                                      MaskedAffineAutoregressiveTransform(SIZE, HIDDEN, num_blocks=1)],
    "affine coupling": lambda: [AffineCouplingTransform(FIRST, residual), AffineCouplingTransform(SECOND, residual)],
    "LU linear": lambda: [LULinear(SIZE)],
    "LU linear and spline coupling": lambda: [LULinear(SIZE), spline_coupling(FIRST)],
}


def made(name):
    transforms = MODELS[name]()
    flow = Flow(CompositeTransform(transforms), StandardNormal([SIZE]))
    config = {"transforms": [type(t).__name__ for t in transforms], "bins": BINS, "bound": 3.0, "hidden": HIDDEN}
    return recorded(f"nflows {name}", flow, flow.log_prob, lambda z: flow._transform.inverse(z)[0], config)


save("nflows", {name: version(name) for name in ("nflows", "torch", "numpy")}, {name: made(name) for name in MODELS})
