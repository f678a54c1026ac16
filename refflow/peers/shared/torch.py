"""Adapters of maps on torch, with gradients by autograd."""

from __future__ import annotations

import functools

import numpy as np
import torch

from ...core.tree import flatten, nest
from ...oracle import adapter
from . import Lazily, by_rows, evaluated, is_real
from .numbers import WEIGHTS

torch.set_num_threads(1)


def leaf(array):
    """A separate tensor that records its gradient."""
    return torch.from_numpy(array).clone().requires_grad_()


def values(tensor):
    return tensor.detach().numpy()


def pulled_back(outputs, bars, event, parameters):
    """(event_bar, params_bar) of sum <bar, output>; an output that depends on nothing has gradient 0."""
    bars = [torch.from_numpy(b) for b in bars]
    for output, bar in zip(outputs, bars):
        if output.shape != bar.shape:
            raise ValueError(f"an output of shape {tuple(output.shape)} for a cotangent of shape {tuple(bar.shape)}")
    outputs, bars = zip(*[(o, b) for o, b in zip(outputs, bars) if o.requires_grad])
    leaves = [event, *parameters.values()]
    found = torch.autograd.grad(outputs, leaves, bars, allow_unused=True)
    event_bar, *params_bar = [values(torch.zeros_like(v) if g is None else g) for v, g in zip(leaves, found)]
    return event_bar, nest(dict(zip(parameters, params_bar)))


def function(build, gradients=True, fixed=()):
    """The adapter function of the map that `build(params)` makes from tensors.

    `build` returns (forward, inverse), where forward(z) is (x, log_det) or (x, a function that computes log_det), and inverse
    the same of the other direction, or None.  Fields in `fixed` are not parameters of the library's: they stay arrays; a field of a
    part is named "part.field".
    """
    fixed = {WEIGHTS, *(tuple(name.split(".")) for name in fixed)}

    @functools.wraps(build)
    def mine(params, z):
        parameters = {path: leaf(v) for path, v in flatten(params) if path not in fixed and is_real(v)}
        rest = {path: v for path, v in flatten(params) if path not in parameters}
        forward, inverse = build(nest(parameters | rest))
        z = leaf(z)
        x, log_det = forward(z)
        found = {"forward": values(x)}
        if gradients:
            found["vjp"] = lambda x_bar, l_bar: pulled_back(evaluated(forward(z)), (x_bar, l_bar), z, parameters)
        if inverse is not None:
            found["inverse"] = lambda x: values(inverse(torch.from_numpy(x))[0])
            found["inverse_log_det"] = lambda x: values(evaluated(inverse(torch.from_numpy(x)))[1])
        if gradients and inverse is not None:
            def inverse_vjp(x, z_bar, l_bar):
                x = leaf(x)
                return pulled_back(evaluated(inverse(x)), (z_bar, l_bar), x, parameters)

            found["inverse_vjp"] = inverse_vjp
        return Lazily(found, log_det=lambda: values(evaluated((x, log_det))[1]))

    return mine


def declaring(prefix):
    """A function `declare(page, name, build, **options)` for a library whose names start with `prefix`."""

    def declare(page, name, build, gradients=True, fixed=(), **options):
        adapter(page, theirs=prefix + name, **options)(function(build, gradients, fixed))

    return declare


def declaring_values(prefix):
    """A function `declare(page, name, make)` for transforms of matrices that read a triangle and have no log-det.

    The page's events are the triangle's entries, row by row; `below` is -1 for the strict triangle.
    """
    def declare(page, name, make, below=0, **options):
        def triangle(size):
            return tuple(torch.tril_indices(size, size, below))

        def matrix(z):
            size = next(size for size in range(z.shape[-1] + 2) if len(triangle(size)[0]) == z.shape[-1])
            held = z.new_zeros(*z.shape[:-1], size, size)
            held[..., *triangle(size)] = z
            return held

        @functools.wraps(make)                          # of the library's module, by which its adapters are found
        def mine(params, z):
            return {"forward": values(make()(matrix(torch.from_numpy(z)))),
                    "inverse": lambda x: values(make().inv(torch.from_numpy(x))[..., *triangle(x.shape[-1])])}

        adapter(page, theirs=prefix + name, **options)(mine)

    return declare


def rows_of(module, event_ndim=0, forward="forward", inverse="inverse"):
    """(forward, inverse) of a module whose methods return (image, log_det) of a batch of rows.

    `event_ndim` is a pair if it differs between the sides.
    """
    ndims = event_ndim if isinstance(event_ndim, tuple) else (event_ndim, event_ndim)

    def direction(name, ndim):
        def call(rows):
            image, log_det = getattr(module, name)(rows)
            return image, torch.as_tensor(log_det, dtype=image.dtype)           # some return 0, a Python number

        return lambda event: by_rows(call, event, ndim)

    return direction(forward, ndims[0]), direction(inverse, ndims[1])


def second_entry(call):
    """A map of pairs whose first entry passes, from `call(column)` -> (image, log_det of each row) of the second."""

    def both(event):
        image, log_det = by_rows(call, event[..., 1:])
        return torch.cat([event[..., :1], image], -1), log_det

    return both


class Tanh(torch.autograd.Function):
    """tanh with the slope 1/cosh^2, since torch's 1 - tanh^2 cancels: its digits would be taken for the library's."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return torch.tanh(a)

    @staticmethod
    def backward(ctx, h_bar):
        (a,) = ctx.saved_tensors
        r = 1 / torch.cosh(a)
        return h_bar * r * r


class Network(torch.nn.Module):
    """The network of a composite of `networks`, in the place of a library's; it takes a context and reads none."""

    def __init__(self, params, connects=None):
        super().__init__()
        layer = params["net"]["layers"]["1"]
        self.weight = layer["W"] if connects is None else layer["W"] * torch.from_numpy(connects)
        self.bias = layer["b"]

    def forward(self, inputs, context=None):
        return Tanh.apply(inputs) @ self.weight.T + self.bias


def shifting(base):
    """nflows' base class of couplings, or of autoregressive maps, or its copy in another library, with x + h of each entry."""

    class Shifting(base):
        def _transform_dim_multiplier(self):
            return 1

        def _elementwise_forward(self, inputs, transform_params):
            return inputs + transform_params, inputs.new_zeros(len(inputs))

        def _elementwise_inverse(self, inputs, transform_params):
            return inputs - transform_params, inputs.new_zeros(len(inputs))

        _coupling_transform_forward, _coupling_transform_inverse = _elementwise_forward, _elementwise_inverse

    return Shifting


def holding(module, **values):
    """A module whose parameters or buffers are tensors, so that gradients reach them; it is put into evaluation mode."""
    for name, value in values.items():
        module._parameters.pop(name, None)
        module._buffers.pop(name, None)
        setattr(module, name, value)
    return module.eval()
