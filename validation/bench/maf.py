"""MAF: the negative log-likelihood with its gradient in all parameters, and samples, compared with torch eager and jax.jit.

The same maths, numbers and summation in each library: 5 masked networks of two hidden layers of 100 with ReLU, scale exp(s),
the order reversed from one to the next, 512 events, float64.  From data to latents is one pass.  For samples torch and jax run
each network once for each entry, as libraries do, jax in a compiled loop.  "refflow" is the tuned gradient and the samples of
`tuned(flow)`, "refflow page" the pages.
"""

from __future__ import annotations

import math

from .rounds import compiled_step, timed, timing_rows

SIZES = (6, 21, 63)
LAYERS, HIDDEN, BATCH = 5, (100, 100), 512
REPETITIONS, SAMPLINGS = 30, 5
WHAT = f"MAF, {LAYERS} networks, 2 x 100, batch {BATCH}, float64: negative log-likelihood and all gradients; {BATCH} samples"
rows = timing_rows


def flow_of(size):
    """The flow with moved parameters: at its start it is the identity."""
    import numpy as np

    from refflow import Chain, Flow, Inverse, StandardNormal
    from refflow.maps.autoregressive import Autoregressive
    from refflow.maps.conditioners import masked_dense_network
    from refflow.maps.coupling import affine_family
    from refflow.maps.elementwise import ExpScale
    rng, orders = np.random.default_rng(1), ("left-to-right", "right-to-left")
    nets = [masked_dense_network(rng, size, HIDDEN, 2, orders[k % 2]) for k in range(LAYERS)]
    flow = Flow(Chain([Inverse(Autoregressive(net, affine_family(ExpScale()))) for net in nets]), StandardNormal(size))
    vector = flow.ravel()
    return flow.unravel(vector + 0.01 * rng.standard_normal(vector.size))


def events(size):
    import numpy as np
    return np.random.default_rng(0).standard_normal((BATCH, size))


def networks(flow):
    """[(levels of entries, [(W, connects, b), ...]) for each map], from latents to data."""
    maps = [stage.inner for stage in flow.bijector.stages]
    return [([int(level[0]) for level in f.levels], [(layer.W, layer.connects, layer.b) for layer in f.net.layers[0::2]])
            for f in maps]


# -- each library: (a function that returns (loss, gradients in the order of `params()`), one from latents to data) -----

def refflow_work(size):
    import numpy as np

    from refflow.fast import tuned
    from refflow.training import LikelihoodGradient
    flow, x = flow_of(size), events(size)
    gradient, b, f = LikelihoodGradient(), np.full(BATCH, -1 / BATCH), tuned(flow).bijector

    def step():
        log_prob, params_bar = gradient(flow, x, b)
        return b @ log_prob, params_bar

    return step, lambda: f.forward(x)


def page_work(size):
    import numpy as np
    flow, x = flow_of(size), events(size)

    def step():
        log_prob, pullback = flow.log_prob_vjp(x)
        return -log_prob.mean(), pullback(np.full(BATCH, -1 / BATCH))[1]

    return step, lambda: flow.bijector.forward(x)


def torch_work(size):
    import torch
    torch.set_num_threads(1)
    x = torch.from_numpy(events(size))
    nets = [(order, [(torch.tensor(W, requires_grad=True), torch.tensor(1.0 * connects), torch.tensor(b, requires_grad=True))
                     for W, connects, b in net]) for order, net in networks(flow_of(size))]
    leaves = [p for _, net in nets for W, _, b in net for p in (W, b)]

    def scale_and_shift(net, a):
        for i, (W, connects, b) in enumerate(net):
            a = torch.nn.functional.linear(a, W * connects, b)
            a = torch.relu(a) if i < len(net) - 1 else a
        return a.chunk(2, -1)

    def loss():
        z, log_det = x, 0
        for _, net in reversed(nets):
            s, t = scale_and_shift(net, z)
            z, log_det = z * torch.exp(s) + t, log_det + s.sum(-1)
        return -(log_det - (z * z).sum(-1) / 2 - size / 2 * math.log(2 * math.pi)).mean()

    def step():
        value = loss()
        return value.item(), torch.autograd.grad(value, leaves)

    def sample():
        y = x
        with torch.no_grad():
            for order, net in nets:
                z = torch.zeros_like(y)
                for j in order:
                    s, t = scale_and_shift(net, z)
                    z[:, j] = (y[:, j] - t[:, j]) * torch.exp(-s[:, j])
                y = z
        return y

    return step, sample


def jax_work(size):
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_enable_x64", True)
    x, given = jnp.asarray(events(size)), networks(flow_of(size))
    orders = [jnp.asarray(order) for order, _ in given]
    masks = [[jnp.asarray(1.0 * connects) for _, connects, _ in net] for _, net in given]
    nets = [[(jnp.asarray(W), jnp.asarray(b)) for W, _, b in net] for _, net in given]

    def scale_and_shift(net, masks, a):
        for i, ((W, b), connects) in enumerate(zip(net, masks)):
            a = a @ (W * connects).T + b
            a = jax.nn.relu(a) if i < len(net) - 1 else a
        return jnp.split(a, 2, -1)

    def loss(nets, x):
        z, log_det = x, 0
        for net, mask in zip(reversed(nets), reversed(masks)):
            s, t = scale_and_shift(net, mask, z)
            z, log_det = z * jnp.exp(s) + t, log_det + s.sum(-1)
        return -(log_det - (z * z).sum(-1) / 2 - size / 2 * math.log(2 * math.pi)).mean()

    def inverse(net, mask, order, y):
        def entry(i, z):
            s, t = scale_and_shift(net, mask, z)
            j = order[i]
            return z.at[:, j].set((y[:, j] - t[:, j]) * jnp.exp(-s[:, j]))

        return jax.lax.fori_loop(0, size, entry, jnp.zeros_like(y))

    def samples(nets, y):
        for net, mask, order in zip(nets, masks, orders):
            y = inverse(net, mask, order, y)
        return y

    sampled = jax.jit(samples).lower(nets, x).compile()
    return compiled_step(loss, nets, x), lambda: jax.block_until_ready(sampled(nets, x))


WORK = {"refflow": refflow_work, "torch": torch_work, "jax": jax_work, "refflow page": page_work}


def worker(library):
    def times(threads):
        if threads != 1:
            raise SystemExit("maf is timed in one thread")
        found = {}
        for size in SIZES:
            step, sample = WORK[library](size)
            found |= {f"D = {size}": timed(step, REPETITIONS), f"D = {size}, samples": timed(sample, SAMPLINGS, 1)}
        return found

    return times


WORKERS = {library: worker(library) for library in WORK}
