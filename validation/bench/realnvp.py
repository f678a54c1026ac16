"""RealNVP: the negative log-likelihood and its gradient in all parameters, float64, compared with torch eager and jax.jit.

The same maths, numbers and summation in each library: 8 couplings, networks of two hidden layers of 128 with ReLU, scale
exp(s), 512 events.  "refflow" is the tuned gradient with stored activations, "refflow page" the gradient of the pages.
"""

from __future__ import annotations

import math

from .rounds import compiled_step, timed, timing_rows

SIZES = (6, 64)
COUPLINGS, HIDDEN, BATCH = 8, (128, 128), 512
REPETITIONS = 40
WHAT = f"RealNVP, {COUPLINGS} couplings, 2 x 128, batch {BATCH}, float64: negative log-likelihood and all gradients"
rows = timing_rows


def flow_of(size, couplings=COUPLINGS):
    """The flow with moved parameters: at its start it is the identity."""
    import numpy as np

    from refflow.maps.elementwise import ExpScale
    from refflow.models import realnvp
    rng = np.random.default_rng(1)
    flow = realnvp(rng, size, HIDDEN, couplings, scale=ExpScale())
    vector = flow.ravel()
    return flow.unravel(vector + 0.01 * math.sqrt(COUPLINGS / couplings) * rng.standard_normal(vector.size))


def events(size, batch=BATCH):
    import numpy as np
    return np.random.default_rng(0).standard_normal((batch, size))


def networks(flow):
    """[[(W, b), ...] for each coupling]."""
    return [[(layer.W, layer.b) for layer in stage.net.layers[0::2]] for stage in flow.bijector.inner.stages]


def parts(z, k):
    """(a, b) of the k-th coupling."""
    d = z.shape[-1] // 2
    return (z[:, :d], z[:, d:]) if k % 2 == 0 else (z[:, d:], z[:, :d])


def refflow_step(size, threads, couplings=COUPLINGS, batch=BATCH, memory="stored"):
    """A function that returns (loss, gradients shaped as `params()`, whose leaves have the order of `networks`)."""
    import numpy as np

    from refflow.training import LikelihoodGradient
    flow, x = flow_of(size, couplings), events(size, batch)
    gradient, b = LikelihoodGradient(memory, threads=threads), np.full(batch, -1 / batch)

    def step():
        log_prob, params_bar = gradient(flow, x, b)
        return b @ log_prob, params_bar

    return step


def page_step(size, threads, couplings=COUPLINGS, batch=BATCH):
    """The same by `Flow.log_prob_vjp`, which is not tuned."""
    import numpy as np
    flow, x = flow_of(size, couplings), events(size, batch)

    def step():
        log_prob, pullback = flow.log_prob_vjp(x)
        return -log_prob.mean(), pullback(np.full(batch, -1 / batch))[1]

    return step


def torch_step(size, threads, couplings=COUPLINGS, batch=BATCH):
    import torch
    torch.set_num_threads(threads)
    x = torch.from_numpy(events(size, batch))
    nets = [[tuple(torch.tensor(p, requires_grad=True) for p in layer) for layer in net]
            for net in networks(flow_of(size, couplings))]
    leaves = [p for net in nets for layer in net for p in layer]

    def loss():
        z, log_det = x, 0
        for k, net in enumerate(nets):
            a, b = parts(z, k)
            h = a
            for i, (W, bias) in enumerate(net):
                h = torch.nn.functional.linear(h, W, bias)
                h = torch.relu(h) if i < len(net) - 1 else h
            s, t = h.chunk(2, -1)
            b, log_det = b * torch.exp(s) + t, log_det + s.sum(-1)
            z = torch.cat((a, b) if k % 2 == 0 else (b, a), -1)
        return -(log_det - (z * z).sum(-1) / 2 - size / 2 * math.log(2 * math.pi)).mean()

    def step():
        value = loss()
        return value.item(), torch.autograd.grad(value, leaves)

    return step


def jax_step(size, threads, couplings=COUPLINGS, batch=BATCH):
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_enable_x64", True)
    x = jnp.asarray(events(size, batch))
    nets = [[tuple(map(jnp.asarray, layer)) for layer in net] for net in networks(flow_of(size, couplings))]

    def loss(nets, x):
        z, log_det = x, 0
        for k, net in enumerate(nets):
            a, b = parts(z, k)
            h = a
            for i, (W, bias) in enumerate(net):
                h = h @ W.T + bias
                h = jax.nn.relu(h) if i < len(net) - 1 else h
            s, t = jnp.split(h, 2, -1)
            b, log_det = b * jnp.exp(s) + t, log_det + s.sum(-1)
            z = jnp.concatenate((a, b) if k % 2 == 0 else (b, a), -1)
        return -(log_det - (z * z).sum(-1) / 2 - size / 2 * math.log(2 * math.pi)).mean()

    return compiled_step(loss, nets, x)


STEPS = {"refflow": refflow_step, "torch": torch_step, "jax": jax_step, "refflow page": page_step}


def worker(library):
    return lambda threads: {f"D = {size}": timed(STEPS[library](size, threads), REPETITIONS) for size in SIZES}


WORKERS = {library: worker(library) for library in STEPS}
