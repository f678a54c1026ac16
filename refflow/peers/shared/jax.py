"""Adapters of maps on JAX, with gradients by jax.vjp.  XLA flushes subnormal numbers to zero on a CPU."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ...core.tree import flatten, nest
from ...oracle import adapter
from . import Lazily, evaluated, is_real
from .numbers import WEIGHTS

jax.config.update("jax_enable_x64", True)


def function(build, gradients=True, fixed=(".".join(WEIGHTS),)):
    """As `shared.torch.function`, of arrays of JAX; a field of a part is named "part.field".

    Unless others are named, the weights of a coupling's network are fixed: splines of raw numbers have none.
    """
    fixed = {tuple(name.split(".")) for name in fixed}

    @functools.wraps(build)
    def mine(params, z):
        parameters = {path: jnp.asarray(v) for path, v in flatten(params) if path not in fixed and is_real(v)}
        rest = {path: v for path, v in flatten(params) if path not in parameters}
        names = list(parameters)

        def direction(side):
            return lambda leaves, event: evaluated(build(nest(dict(zip(names, leaves)) | rest))[side](event))

        def pulled_back(side, event, bars):
            outputs, pullback = jax.vjp(direction(side), list(parameters.values()), jnp.asarray(event))
            leaves_bar, event_bar = pullback(tuple(jnp.asarray(bar, out.dtype) for out, bar in zip(outputs, bars)))
            return np.asarray(event_bar), nest({name: np.asarray(bar) for name, bar in zip(names, leaves_bar)})

        forward, inverse = build(nest(parameters | rest))
        x, log_det = forward(jnp.asarray(z))
        found = {"forward": x}
        if gradients:
            found["vjp"] = lambda x_bar, l_bar: pulled_back(0, z, (x_bar, l_bar))
        if inverse is not None:
            found["inverse"] = lambda x: inverse(jnp.asarray(x))[0]
            found["inverse_log_det"] = lambda x: evaluated(inverse(jnp.asarray(x)))[1]
        if gradients and inverse is not None:
            found["inverse_vjp"] = lambda x, z_bar, l_bar: pulled_back(1, x, (z_bar, l_bar))
        return Lazily(found, log_det=lambda: evaluated((x, log_det))[1])

    return mine


def declaring(prefix):
    """A function `declare(page, name, build, **options)` for a library whose names start with `prefix`."""

    def declare(page, name, build, gradients=True, fixed=(".".join(WEIGHTS),), **options):
        adapter(page, theirs=prefix + name, flush_to_zero=True, **options)(function(build, gradients, fixed))

    return declare


def compiled(make):
    """As `declare` wants it, `make(params)` compiled in both directions: for maps of many operations.

    jax.vjp of what is not compiled is traced anew at every call.  An exception of a log-det is then one of its image too.
    """
    calls = [jax.jit(lambda params, event, side=side: evaluated(make(params)[side](event))) for side in (0, 1)]

    @functools.wraps(make)
    def build(params):
        return tuple(functools.partial(call, params) for call in calls)

    return build


def second_entry(call):
    """A map of pairs whose first entry passes, from `call(column)` -> (image, log-det of each entry) of the second."""

    def both(event):
        image, log_det = call(event[..., 1])
        return jnp.stack([event[..., 0], image], -1), log_det

    return both


def of_events(call, event_ndim=0):
    """A map of batches from a map of one event."""

    def both(events):
        batch = events.shape[:events.ndim - event_ndim]
        images, log_dets = jax.vmap(call)(events.reshape(-1, *events.shape[len(batch):]))
        return images.reshape(*batch, *images.shape[1:]), log_dets.reshape(*batch, *log_dets.shape[1:])

    return both
