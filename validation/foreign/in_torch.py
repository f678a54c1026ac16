"""Maps in torch as boxes: of tensors, and of modules at random weights."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import torch

from refflow.testing import BlackBox, torch_pullback

from .entry import BOTH, entry

torch.set_num_threads(1)
SHAKEN = 0.25                           # how far weights are moved, so that nothing stays at the 0 of its initialisation


def wrapped(build, parameters, free):
    for one in parameters:
        one.requires_grad_(free)

    def forward(z):
        return build(*parameters)[0](z)

    inverse = None if build(*parameters)[1] is None else lambda x: build(*parameters)[1](x)
    return {"forward": forward, "inverse": inverse, "parameters": parameters if free else None,
            "pullback": torch_pullback(forward, parameters if free else ())}


one = functools.partial(entry, "torch", wrapped)


def distribution(d):
    """(cdf, quantile) of a distribution of one number, with the log-dets that its log-density gives."""
    return lambda x: (d.cdf(x), d.log_prob(x)), lambda q: (d.icdf(q), -d.log_prob(d.icdf(q)))


def swapped(pair):
    return pair[::-1]


def of_distribution(name, make, support, *draws, **more):
    """Two maps: a distribution function, and its quantile."""
    yield one(f"{name}.cdf", lambda *p: distribution(make(*p, validate_args=False)), *draws, domain=support, codomain=(0, 1), **more)
    yield one(f"{name}.icdf", lambda *p: swapped(distribution(make(*p, validate_args=False))), *draws, domain=(0, 1),
              codomain=support, **more)


# -- modules ----------------------------------------------------------------------------------------------------------

def module(name, make, event, forward=None, inverse=None, dtypes=BOTH, shaken=SHAKEN, **more):
    """(name, dtypes, make) of a module that `make()` builds; forward(module, z) and inverse(module, x), by default its methods."""
    return name, dtypes, functools.partial(box_of_module, make, event, forward or method("forward"),
                                           method("inverse") if inverse is None else inverse, shaken, more)


def method(name):
    """The method of a module, with a log-det for each event."""
    def call(of, event):
        image, log_det = getattr(of, name)(event)
        return image, torch.as_tensor(log_det, dtype=image.dtype).expand(len(event)) if not getattr(log_det, "shape", ()) else log_det

    return call


def box_of_module(make, event, forward, inverse, shaken, more, seed, dtype):
    """A box of the module at weights drawn from a seed; in float32 with its copy in float64 beside it."""
    def of(net, dtype):
        def called(z):
            return forward(net, z)

        def weights():
            return [p for p in net.parameters() if p.is_floating_point()]

        given = {key: functools.partial(value, net) if key in ("log_prob", "sample") else value for key, value in more.items()}
        return BlackBox(called, None if inverse is False else lambda x: inverse(net, x), event=event, dtype=dtype, backend="torch",
                        pullback=torch_pullback(called, weights), **{"parameters": weights} | given)

    net = weighted(make, seed, shaken, getattr(torch, dtype))
    return replace(of(net, dtype), wider=None if dtype == "float64" else of(copy.deepcopy(net).double(), "float64"))


def weighted(make, seed, shaken, dtype):
    """The module, made in a dtype, each weight moved by a normal number over the root of the number of inputs."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            torch.set_default_dtype(dtype)
            net = make().to(dtype)
        finally:
            torch.set_default_dtype(before)
        for p in net.parameters():
            if p.requires_grad:
                p.data.add_(shaken * torch.randn_like(p) / max(p.shape[-1] if p.ndim else 1, 1) ** 0.5)
    return net.eval()
