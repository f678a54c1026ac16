"""Maps in JAX as boxes: compiled, in 64 bits where asked.

XLA compiles a function anew for every size of a batch: a batch is therefore filled up to a few sizes, by repeating its first event.
On a processor it flushes subnormal numbers to 0.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from refflow.testing import BlackBox

from .entry import entry

jax.config.update("jax_enable_x64", True)
SIZES = (2**6, 2**12, 2**15, 2**18)     # of a batch
SHAKEN = 0.25                           # how far weights are moved, so that nothing stays at the 0 of its initialisation


def filled(events, value):
    """The batch filled up with copies of its first event, or of `value` if it is empty."""
    size = next(size for size in SIZES if size >= len(events))
    more = events[:1] if len(events) else np.full((1, *events.shape[1:]), value, events.dtype)
    return np.concatenate((events, np.repeat(more, size - len(events), 0)))


def compiled(call):
    """A function of a batch and of a list of parameters, compiled."""
    jitted = jax.jit(call)

    def of(events, parameters=()):
        events = np.asarray(events)
        answer = jitted(filled(events, 0.5), list(parameters))
        return tuple(np.asarray(part)[:len(events)] for part in answer) if isinstance(answer, tuple) \
            else np.asarray(answer)[:len(events)]

    return of


def pullback_of(call):
    """Its pullback by JAX, compiled; what fills the batch up has the cotangent 0."""
    @jax.jit
    def jitted(z, x_bar, log_det_bar, parameters):
        answer, back = jax.vjp(call, z, parameters)
        bars = (x_bar, log_det_bar) if isinstance(answer, tuple) else (x_bar,)
        outputs = answer if isinstance(answer, tuple) else (answer,)
        cast = tuple(bar.astype(of.dtype) for bar, of in zip(bars, outputs))
        return back(cast if isinstance(answer, tuple) else cast[0])

    def of(z, x_bar, log_det_bar, parameters=()):
        z, count = filled(np.asarray(z), 0.5), len(z)

        def zeros(bar):
            bar = np.asarray(bar)
            return np.concatenate((bar, np.zeros((len(z) - count, *bar.shape[1:]), bar.dtype)))

        z_bar, bars = jitted(z, zeros(x_bar), zeros(log_det_bar), list(parameters))
        return np.asarray(z_bar)[:count], bars

    return of


def arguments(forward, inverse, parameters, free):
    """The arguments of a box: functions of (events, parameters), whose parameters are constants if they are not free."""
    def given(make, call):
        return make(call) if free else make(lambda events, _: call(events, parameters))

    return {"forward": given(compiled, forward), "inverse": None if inverse is None else given(compiled, inverse),
            "pullback": given(pullback_of, forward), "parameters": parameters if free else None, "flush_to_zero": True}


def of_weights(weights, forward, inverse, event, seed, dtype, **more):
    """A box of functions of (events, weights), each weight moved by a normal number over the root of the number of inputs.

    In float32 with its copy in float64 beside it.
    """
    rng = np.random.default_rng(seed)
    moved = [np.asarray(w + SHAKEN * rng.standard_normal(w.shape) / max(w.shape[-1] if w.ndim else 1, 1) ** 0.5, dtype) for w in weights]

    def of(dtype):
        held = [jnp.asarray(w, dtype) for w in moved]
        return BlackBox(event=event, dtype=dtype, backend="jax", **arguments(forward, inverse, held, True), **more)

    return of(dtype) if dtype == "float64" else replace(of(dtype), wider=of("float64"))


def cast(tree, dtype):
    """Numbers that are not trained, in the dtype of the events."""
    return jax.tree_util.tree_map(lambda leaf: leaf.astype(dtype) if inexact(leaf) else leaf, tree)


def inexact(leaf):
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def wrapped(build, parameters, free):
    def side(k):
        return lambda events, held: with_log_dets(build(*held)[k](events), events)

    return arguments(side(0), None if build(*parameters)[1] is None else side(1), parameters, free)


def with_log_dets(answer, events):
    """(image, log-det), where a constant log-det stands for the whole batch."""
    if not isinstance(answer, tuple):
        return answer
    image, log_det = answer
    return image, jnp.broadcast_to(log_det, events.shape[:1]) if jnp.ndim(log_det) == 0 else log_det


one = functools.partial(entry, "jax", wrapped)


def distribution(d):
    """(distribution function, quantile) with the log-dets that the log-density gives."""
    def quantile(q):
        x = d.quantile(q) if hasattr(d, "quantile") else d.icdf(q)
        return x, -d.log_prob(x)

    return lambda x: (d.cdf(x), d.log_prob(x)), quantile


def of_distribution(name, make, support, *draws, **more):
    """Two maps: a distribution function, and its quantile."""
    yield one(f"{name}.cdf", lambda *p: distribution(make(*p)), *draws, domain=support, codomain=(0, 1), **more)
    yield one(f"{name}.quantile", lambda *p: distribution(make(*p))[::-1], *draws, domain=(0, 1), codomain=support, **more)
