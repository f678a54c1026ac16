"""What adapters of solvers share: a velocity with its numbers, and maps of torch whose log-det is that of their own derivative."""

from __future__ import annotations

import functools

import numpy as np
import torch

from ...core.tree import flatten, nest
from ...maps.conditioners import Dense, Sequential, TanhActivation
from .torch import leaf, pulled_back, values

INTO, OUT = np.array([[0.5, -0.75, 1.0], [-0.25, 0.5, -0.5], [1.0, 0.25, 0.75], [0.5, 1.0, -1.25]]), np.array([[0.5, -1.0, 0.75, 0.25],
                                                                                                           [-0.5, 0.25, 1.0, 0.75]])
NET = Sequential((Dense(INTO, [0.25, -0.5, 0.125, 0.5]), TanhActivation(), Dense(OUT, [0.25, -0.125])))       # of two entries, then t


class Tanh(torch.autograd.Function):
    """tanh with the slope 1/cosh^2, as in `torch.Tanh`, whose own slope is a number for all a."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return torch.tanh(a)

    @staticmethod
    def backward(ctx, h_bar):
        (a,) = ctx.saved_tensors
        e = torch.exp(-torch.abs(a))
        r = 2 * e / (1 + e * e)
        return h_bar * r * r


class Velocity(torch.nn.Module):
    """v(t, z) of the numbers of `NET`."""

    def __init__(self, params):
        super().__init__()
        layers = params["net"]["layers"]
        self.into, self.out = layers["0"], layers["2"]

    def forward(self, t, z):
        y = torch.cat([z, t.to(z.dtype).expand(*z.shape[:-1], 1)], -1)
        return Tanh.apply(y @ self.into["W"].T + self.into["b"]) @ self.out["W"].T + self.out["b"]


def stepped(solve):
    """The adapter function of x = solve(velocity, z), which has no log-det of its own: the Jacobian, and all cotangents, with

    the log-det of the Jacobian, are autograd's through the steps.
    """
    @functools.wraps(solve)
    def mine(params, z):
        parameters = {path: leaf(v) for path, v in flatten(params) if isinstance(v, np.ndarray)}
        velocity, z = Velocity(nest(parameters)), leaf(z)
        x = solve(velocity, z)

        def jacobian():
            return torch.stack([torch.autograd.grad(x[..., i].sum(), z, create_graph=True)[0] for i in range(x.shape[-1])], -2)

        def pullback(x_bar, log_det_bar):
            return pulled_back((x, torch.linalg.slogdet(jacobian())[1]), (x_bar, log_det_bar), z, parameters)

        return {"forward": values(x), "jacobian": values(jacobian()), "vjp": pullback}

    return mine
