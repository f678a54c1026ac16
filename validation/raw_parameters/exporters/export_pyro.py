"""Models of Pyro with drawn parameters: run by `validation.raw_parameters` in an environment of its own."""

from importlib.metadata import version

import torch
from pyro.distributions import Normal, TransformedDistribution
from pyro.distributions.transforms import (AffineAutoregressive, AffineCoupling, BatchNorm, Permute, SplineAutoregressive,
                                           SplineCoupling)
from pyro.nn import AutoRegressiveNN, DenseNN
from recording import SIZE, save
from with_torch import recorded

HIDDEN, BINS, SPLIT = 3, 3, 1
REST = SIZE - SPLIT


def numbers(order, entries=1):
    """How many numbers the widths, heights, slopes and, for order "linear", lambdas of some entries have."""
    return [entries * count for count in (BINS, BINS, BINS - 1, *([BINS] if order == "linear" else []))]


def spline_coupling(order, identity=False):
    net = DenseNN(SPLIT, [HIDDEN], numbers(order, REST))
    return SplineCoupling(SIZE, SPLIT, net, BINS, order=order, identity=identity)


def autoregressive_net(param_dims):
    return AutoRegressiveNN(SIZE, [HIDDEN], param_dims, permutation=torch.tensor([1, 2, 0]))


def spline_autoregressive(order):
    return SplineAutoregressive(SIZE, autoregressive_net(numbers(order)), BINS, order=order)


def affine_coupling():
    return AffineCoupling(SPLIT, DenseNN(SPLIT, [HIDDEN], [REST, REST]))


def batch_norm():
    """With moving statistics of its own."""
    norm = BatchNorm(SIZE)
    norm.moving_mean.copy_(torch.tensor([1.0, -1.0, 2.0]))
    norm.moving_variance.copy_(torch.tensor([1.0, 4.0, 2.0]))
    return norm


def shift():
    return Permute(torch.tensor([1, 2, 0]))


MODELS = {
    "spline coupling": lambda: [spline_coupling("quadratic"), shift(), spline_coupling("quadratic", True)],
    "spline autoregressive": lambda: [spline_autoregressive("quadratic")],
    "linear spline coupling": lambda: [spline_coupling("linear")],
    "linear spline autoregressive": lambda: [spline_autoregressive("linear")],
    "affine autoregressive": lambda: [AffineAutoregressive(autoregressive_net([1, 1])),
                                      AffineAutoregressive(autoregressive_net([1, 1]), stable=True)],
    "affine coupling": lambda: [affine_coupling(), shift(), affine_coupling()],
    "batch norm": lambda: [batch_norm()],
}


def made(name):
    transforms = MODELS[name]()
    module = torch.nn.ModuleList(t for t in transforms if isinstance(t, torch.nn.Module))
    modules, kinds = iter(range(len(module))), []
    for t in transforms:
        kind = type(t).__name__ + (", stable" if getattr(t, "stable", False) else "")
        kinds.append([kind, next(modules) if isinstance(t, torch.nn.Module) else None])

    def flow():
        return TransformedDistribution(Normal(torch.zeros(SIZE), torch.ones(SIZE)).to_event(1), transforms)

    def to_data(z):
        for t in transforms:
            z = t(z)
        return z

    config = {"transforms": kinds, "bins": BINS, "split": SPLIT, "order": "linear" if "linear" in name else "quadratic"}
    return recorded(f"pyro {name}", module, lambda x: flow().log_prob(x), to_data, config)


save("pyro", {name: version(name) for name in ("pyro-ppl", "torch", "numpy")}, {name: made(name) for name in MODELS})
