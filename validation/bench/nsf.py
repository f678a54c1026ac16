"""Neural spline flow: the negative log-likelihood and its gradient in all parameters, float64, compared with torch eager and
jax.jit.

The same maths, numbers and summation in each library: 8 steps of a permutation, an LU map and a coupling of rational-quadratic
splines of 8 bins, whose networks are residual, of width 128 with one block; 512 events.  "refflow" is the tuned gradient with
stored activations, "refflow page" the gradient of the pages.
"""

from __future__ import annotations

import math

from .rounds import compiled_step, timed, timing_rows

SIZES = (6, 21)
STEPS_OF_FLOW, HIDDEN, BINS, BOUND, BATCH = 8, 128, 8, 3.0, 512
FLOOR = 1e-3                            # of widths and heights, as a part of the interval, and of slopes
REPETITIONS = 20
WHAT = (f"RQ-NSF (C), {STEPS_OF_FLOW} steps, residual networks of width {HIDDEN}, {BINS} bins, batch {BATCH}, float64: "
        "negative log-likelihood and all gradients")
rows = timing_rows


def flow_of(size):
    """The flow with moved parameters: at its start its splines are the identity."""
    import numpy as np

    from refflow.models import nsf
    from refflow.training import Unconstrained
    rng = np.random.default_rng(1)
    space = Unconstrained(nsf(rng, size, HIDDEN, 1, STEPS_OF_FLOW, BINS, BOUND, unconditional=False))
    return space.value_at(space.vector + 0.05 * rng.standard_normal(space.vector.size))


def events(size):
    import numpy as np
    return np.random.default_rng(0).standard_normal((BATCH, size))


def steps_of(flow):
    """([(order, [lower, upper, scale, shift], passes or None, network or None) of each step], the last without a coupling).

    A network is its layers' [(W, b), ...]: the first, the two of the block, the last.
    """
    found, stages = [], list(flow.bijector.inner.stages)
    while stages:
        permutation, plu, *stages = stages
        passes = net = None
        if stages:
            coupling, *stages = stages
            first, block, last = coupling.net.layers
            passes, net = coupling.passes, [(layer.W, layer.b) for layer in (first, *block.inner.layers[1::2], last)]
        found.append((permutation.order, [plu.lower, plu.upper, plu.scale, plu.shift], passes, net))
    return found


def refflow_step(size, threads):
    """A function that returns (loss, gradients shaped as `params()`, whose leaves have the order of `steps_of`)."""
    import numpy as np

    from refflow.training import LikelihoodGradient
    flow, x = flow_of(size), events(size)
    gradient, b = LikelihoodGradient(threads=threads), np.full(BATCH, -1 / BATCH)

    def step():
        log_prob, params_bar = gradient(flow, x, b)
        return b @ log_prob, params_bar

    return step


def page_step(size, threads):
    """The same by `Flow.log_prob_vjp`, which is not tuned."""
    import numpy as np
    flow, x = flow_of(size), events(size)

    def step():
        log_prob, pullback = flow.log_prob_vjp(x)
        return -log_prob.mean(), pullback(np.full(BATCH, -1 / BATCH))[1]

    return step


def torch_step(size, threads):
    import torch
    from torch.nn import functional

    from .torch_scripts.splines import spline
    torch.set_num_threads(threads)
    x, flow, leaves = torch.from_numpy(events(size)), [], []

    def leaf(array):
        leaves.append(torch.tensor(array, requires_grad=True))
        return leaves[-1]

    for order, plu, passes, net in steps_of(flow_of(size)):
        plu = [leaf(array) for array in plu]
        net = net and [(leaf(W), leaf(b)) for W, b in net]
        parts = None if passes is None else [torch.from_numpy(part.nonzero()[0]) for part in (passes, ~passes)]
        flow.append((torch.tensor(order), plu, parts, net))
    eye = torch.eye(size, dtype=torch.float64)

    def loss():
        z, log_det = x, 0
        for order, (lower, upper, scale, shift), parts, net in flow:
            z = z[:, order] @ (torch.triu(upper, 1) + torch.diag(scale)).T @ (eye + torch.tril(lower, -1)).T + shift
            log_det = log_det + torch.log(torch.abs(scale)).sum()
            if net is not None:
                (first, inner, outer, last), a = net, z[:, parts[0]]
                v = functional.linear(a, *first)
                v = v + functional.linear(torch.relu(functional.linear(torch.relu(v), *inner)), *outer)
                theta = functional.linear(v, *last).reshape(BATCH, len(parts[1]), -1)
                b, log_slopes = spline(z[:, parts[1]], theta, BINS, BOUND, HIDDEN)
                z = z.index_copy(1, parts[1], b)
                log_det = log_det + log_slopes.sum(-1)
        return -(log_det - (z * z).sum(-1) / 2 - size / 2 * math.log(2 * math.pi)).mean()

    def step():
        value = loss()
        return value.item(), torch.autograd.grad(value, leaves)

    return step


def jax_step(size, threads):
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_enable_x64", True)
    x, plan, leaves = jnp.asarray(events(size)), [], []
    for order, plu, passes, net in steps_of(flow_of(size)):
        plan.append((order, None if passes is None else (passes.nonzero()[0], (~passes).nonzero()[0])))
        leaves.append(([jnp.asarray(array) for array in plu], net and [tuple(map(jnp.asarray, layer)) for layer in net]))

    def knots(numbers):
        share = FLOOR + (1 - FLOOR * BINS) * jax.nn.softmax(numbers / math.sqrt(HIDDEN), -1)
        inner = 2 * BOUND * jnp.cumsum(share, -1)[..., :-1] - BOUND
        ends = jnp.full((*inner.shape[:-1], 1), BOUND)
        return jnp.concatenate((-ends, inner, ends), -1)

    def spline(u, theta):
        inside = (u >= -BOUND) & (u <= BOUND)
        v = jnp.where(inside, u, 0)
        x_k, y_k = knots(theta[..., :BINS]), knots(theta[..., BINS:2 * BINS])
        slopes = jnp.pad(jax.nn.softplus(theta[..., 2 * BINS:]) + FLOOR, ((0, 0), (0, 0), (1, 1)), constant_values=1.0)
        k = jnp.sum(v[..., None] >= x_k[..., 1:-1], -1, keepdims=True)
        (x_0, x_1), (y_0, y_1), (d_0, d_1) = ((jnp.take_along_axis(a, k, -1)[..., 0], jnp.take_along_axis(a, k + 1, -1)[..., 0])
                                              for a in (x_k, y_k, slopes))
        w, h = x_1 - x_0, y_1 - y_0
        s, t = h / w, (v - x_0) / w
        q = t * (1 - t)
        under = s + (d_0 + d_1 - 2 * s) * q
        y = y_0 + h * (s * t * t + d_0 * q) / under
        log_slope = 2 * jnp.log(s) + jnp.log(d_1 * t * t + 2 * s * q + d_0 * (1 - t) ** 2) - 2 * jnp.log(under)
        return jnp.where(inside, y, u), jnp.where(inside, log_slope, 0)

    def loss(leaves, x):
        z, log_det = x, 0
        for (order, parts), ((lower, upper, scale, shift), net) in zip(plan, leaves):
            z = z[:, order] @ (jnp.triu(upper, 1) + jnp.diag(scale)).T @ (jnp.eye(size) + jnp.tril(lower, -1)).T + shift
            log_det = log_det + jnp.log(jnp.abs(scale)).sum()
            if net is not None:
                (W, b), *block, last = net
                v = z[:, parts[0]] @ W.T + b
                (W, b), (W_2, b_2) = block
                v = v + jax.nn.relu(jax.nn.relu(v) @ W.T + b) @ W_2.T + b_2
                theta = (v @ last[0].T + last[1]).reshape(BATCH, len(parts[1]), -1)
                moved, log_slopes = spline(z[:, parts[1]], theta)
                z, log_det = z.at[:, parts[1]].set(moved), log_det + log_slopes.sum(-1)
        return -(log_det - (z * z).sum(-1) / 2 - size / 2 * math.log(2 * math.pi)).mean()

    return compiled_step(loss, leaves, x)


STEPS = {"refflow": refflow_step, "torch": torch_step, "jax": jax_step, "refflow page": page_step}


def worker(library):
    return lambda threads: {f"D = {size}": timed(STEPS[library](size, threads), REPETITIONS) for size in SIZES}


WORKERS = {library: worker(library) for library in STEPS}
