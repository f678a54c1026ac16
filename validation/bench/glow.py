"""Glow: the negative log-likelihood and its gradient in all parameters, float32, compared with torch eager and jax.jit.

Images 3 x 32 x 32, three levels, hidden 64, 8 images; K steps at each level, with 1 x 1 convolutions by full matrices,
networks without a border channel, and no learned prior at the top.  The same maths and numbers in each library: `mapped` is
the map for the other two libraries, written with the operations of either.  Time at K = 8; extra peak memory at K = 8 and
32, refflow's with reconstruction, image by image.  The peak includes the gradient itself, which each library returns.
"""

from __future__ import annotations

import math
import statistics

from .memory import MEBIBYTE, extra_peak, in_new_process
from .rounds import compiled_step, timed

SHAPE, LEVELS, STEPS, DEEP, HIDDEN, BATCH = (3, 32, 32), 3, 8, 32, 64, 8
REPETITIONS = 10
WHAT = f"Glow, 3 x 32 x 32, L = 3, hidden {HIDDEN}, batch {BATCH}, float32: negative log-likelihood and all gradients"


def flow_of(steps):
    """The flow with moved parameters: at its start it is the identity."""
    import numpy as np

    from refflow.models.glow import glow
    rng = np.random.default_rng(1)
    flow = glow(rng, SHAPE, LEVELS, steps, HIDDEN, learn_top=False, convention="chaiyujin", dtype=np.float32)
    vector = flow.ravel()
    return flow.unravel((vector + 0.01 * rng.standard_normal(vector.size)).astype(np.float32))


def images():
    import numpy as np
    return np.random.default_rng(0).uniform(-0.5, 0.5, (BATCH, *SHAPE)).astype(np.float32)


def refflow_step(steps, threads, memory="stored", rows=BATCH):
    """A function that returns (loss, gradients shaped as `params()`)."""
    import numpy as np

    from refflow.training import LikelihoodGradient
    flow, x = flow_of(steps), images()
    gradient, b = LikelihoodGradient(memory, rows, threads), np.full(BATCH, -1 / BATCH)
    gradient.checked_events(flow, x)                # prepares the flow, as the others compile

    def step():
        log_prob, params_bar = gradient(flow, x, b)
        return -log_prob.mean(), params_bar

    return step


def mapped(p, h, steps, ops):
    """(list of the latents, log-det per image) of images h, where `p` holds the parameters as in `params()`."""
    p, latents, log_det = p["bijector"]["inner"], [], 0
    for level in range(LEVELS):
        N, C, H, W = h.shape
        h = ops.permute(h.reshape(N, C, H // 2, 2, W // 2, 2), (0, 1, 3, 5, 2, 4)).reshape(N, 4 * C, H // 2, W // 2)
        C, positions = 4 * C, H * W // 4
        stages = p["stages"]
        for k in range(steps):
            norm, matrix, coupling = (stages[str(1 + 3 * k + i)] for i in range(3))
            h = actnorm(norm["bias"], norm["s"], h, 1, ops)
            weights = matrix["inner"]["W"]
            h = ops.conv(h, weights.reshape(C, C, 1, 1))
            a, b = h[:, :C // 2], h[:, C // 2:]
            out = network(coupling["net"]["layers"], a, ops)
            t, sigma = out[:, 0::2], ops.sigmoid(out[:, 1::2] + 2)
            h = ops.cat((a, (b + t) * sigma), 1)
            log_det = log_det + positions * (norm["s"].sum() + ops.log_abs_det(weights)) + ops.log(sigma).sum((1, 2, 3))
        if level == LEVELS - 1:
            return [*latents, h], log_det
        a, b = h[:, :C // 2], h[:, C // 2:]
        out = last(stages[str(1 + 3 * steps)]["inner"]["net"]["layers"], a, ops)
        m, q = out[:, 0::2], out[:, 1::2]
        latents.append((b - m) * ops.exp(-q))
        log_det, h = log_det - q.sum((1, 2, 3)), a
        p = stages[str(2 + 3 * steps)]["rest"]


def actnorm(bias, s, h, factor, ops):
    return (h + bias.reshape(-1, 1, 1)) * ops.exp(factor * s).reshape(-1, 1, 1)


def network(layers, a, ops):
    for conv, norm in ("01", "34"):
        norm = layers[norm]["f"]
        a = ops.relu(actnorm(norm["bias"], norm["s"], ops.conv(a, layers[conv]["W"]), 1, ops))
    return last({"0": layers["6"], "1": layers["7"]}, a, ops)


def last(layers, h, ops):
    conv = layers["0"]
    return actnorm(conv["b"], layers["1"]["f"]["s"], ops.conv(h, conv["W"]), 3, ops)


def loss(p, x, steps, ops):
    latents, log_det = mapped(p, x, steps, ops)
    log_pi = sum(-(z * z).sum((1, 2, 3)) / 2 for z in latents) - math.prod(SHAPE) / 2 * math.log(2 * math.pi)
    return -(log_pi + log_det).mean()


def torch_step(steps, threads):
    import torch
    torch.set_num_threads(threads)

    class Ops:
        exp, log, sigmoid, relu, cat = torch.exp, torch.log, torch.sigmoid, torch.relu, torch.cat
        permute = torch.permute

        def conv(h, W):
            return torch.nn.functional.conv2d(h, W, padding=W.shape[-1] // 2)

        def log_abs_det(W):
            return torch.linalg.slogdet(W)[1]

    leaves = []

    def leaf(value):
        if isinstance(value, dict):
            return {key: leaf(inner) for key, inner in value.items()}
        leaves.append(torch.tensor(value, requires_grad=True))
        return leaves[-1]

    p, x = leaf(flow_of(steps).params()), torch.from_numpy(images())

    def step():
        value = loss(p, x, steps, Ops)
        return value.item(), torch.autograd.grad(value, leaves)

    return step


def jax_step(steps, threads):
    import jax
    import jax.numpy as jnp

    from refflow.core.tree import flatten, nest

    class Ops:
        exp, log, sigmoid, relu = jnp.exp, jnp.log, jax.nn.sigmoid, jax.nn.relu
        cat, permute = jnp.concatenate, jnp.transpose

        def conv(h, W):
            if W.shape[-1] == 1:
                return jnp.einsum("mc,nchw->nmhw", W[:, :, 0, 0], h)
            return jax.lax.conv_general_dilated(h, W, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))

        def log_abs_det(W):
            return jnp.linalg.slogdet(W)[1]

    paths, arrays = zip(*flatten(flow_of(steps).params()))

    def of_leaves(leaves, x):
        return loss(nest(dict(zip(paths, leaves))), x, steps, Ops)

    leaves, x = [jnp.asarray(a) for a in arrays], jnp.asarray(images())
    return compiled_step(of_leaves, leaves, x)


def reversible_step(steps, threads):
    return refflow_step(steps, threads, "reversible", 1)


TIMED = {"refflow": refflow_step, "torch": torch_step, "jax": jax_step}
SAVING = TIMED | {"refflow": reversible_step}


def peak(library, steps, threads):
    SAVING[library](1, threads)()
    return extra_peak(SAVING[library](steps, threads))[0]


def worker(library):
    def measure(threads):
        peaks = {f"peak, K = {steps}": in_new_process(peak, library, steps, threads) for steps in (STEPS, DEEP)}
        return peaks | {f"K = {STEPS}": timed(TIMED[library](STEPS, threads), REPETITIONS)}

    return measure


WORKERS = {library: worker(library) for library in TIMED}


def rows(rounds):
    median, made = statistics.median, []
    for library in rounds[0]:
        row = {"library": library, "ms": 1e3 * median(r[library][f"K = {STEPS}"]["wall"] for r in rounds)}
        for clock, name in (("wall", "refflow's time / its"), ("cpu", "refflow's CPU / its")):
            row[name] = median(r["refflow"][f"K = {STEPS}"][clock] / r[library][f"K = {STEPS}"][clock] for r in rounds)
        for steps in (STEPS, DEEP):
            row[f"MiB, K = {steps}"] = median(r[library][f"peak, K = {steps}"] for r in rounds) / MEBIBYTE
        row[f"refflow's MiB / its, K = {DEEP}"] = median(r["refflow"][f"peak, K = {DEEP}"] / r[library][f"peak, K = {DEEP}"]
                                                          for r in rounds)
        made.append(row)
    return made
