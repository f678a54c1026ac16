"""32 planar, or radial, flows of the plane: log q of samples with its gradient in all parameters, as in variational inference, and
inverses, compared with normflows in torch eager.

The loss is the mean of `log q(x) + |x|^2/2` over 1024 samples, float64: the divergence from a standard normal, without a constant.
normflows computes it with its own layers, at the same numbers; it has no inverse of these flows.  "refflow" is `tuned(flow)`, made
anew for every gradient as in training; "refflow page" the pages.
"""

from __future__ import annotations

import math
import sys

from validation.defects.environments import made

from .rounds import timed, timing_rows

DEPTH, BATCH = 32, 1024
KINDS = ("planar", "radial")
LIBRARY = "normflows", "1.7.3"
REPETITIONS, SAMPLINGS = 30, 5
WHAT = f"{DEPTH} planar, or radial, flows, D = 2, batch {BATCH}, float64: log q of samples and all gradients; inverses"
rows = timing_rows


def numbers(kind):
    """The raw numbers of each flow, in the order of normflows' parameters: u, w, b, or beta, alpha, z_0."""
    import numpy as np
    rng = np.random.default_rng(1)
    sizes = (2, 2, 1) if kind == "planar" else (1, 1, 2)
    return [tuple(rng.uniform(-1, 1, size) for size in sizes) for _ in range(DEPTH)]


def parametrised(kind):
    """(the page, its map from raw numbers, the numbers in its order)."""
    import numpy as np

    from refflow import PLANARS, RADIALS, Planar, Radial
    order = (1, 0, 2) if kind == "planar" else (2, 1, 0)
    table = PLANARS if kind == "planar" else RADIALS
    convention = next(convention for name, convention in table.items() if "normflows" in name)
    held = np.array([np.concatenate([given[i] for i in order]) for given in numbers(kind)])
    return Planar if kind == "planar" else Radial, convention(2), held


def flow_of(kind):
    import numpy as np

    from refflow import Chain, Flow, StandardNormal
    page, convention, held = parametrised(kind)
    fields = [convention.unchecked(np.dtype(float)).vjp(h)[0] for h in held]
    return Flow(Chain([page(**each) for each in fields]), StandardNormal(2))


# -- each library: (a function that returns (loss, gradients), one from samples to latents or None) ------------------

def gradients(flow, exchange):
    """The gradients are in the pages' fields."""
    import numpy as np
    weight = np.full(BATCH, 1 / BATCH)

    def step():
        (x, log_q), pullback = exchange(flow).sample_and_log_prob_vjp(np.random.default_rng(0), BATCH)
        bars = pullback(x / BATCH, weight)
        return (log_q + (x * x).sum(-1) / 2).mean(), list(bars["bijector"]["stages"].values())

    return step


def work(kind, exchange):
    import numpy as np
    flow = flow_of(kind)
    x, f = flow.sample(np.random.default_rng(0), BATCH), exchange(flow).bijector
    return gradients(flow, exchange), lambda: f.inverse(x)


def refflow_work(kind):
    from refflow.fast import tuned
    return work(kind, tuned)


def page_work(kind):
    return work(kind, lambda flow: flow)


def normflows_work(kind):
    """The gradients are in normflows' parameters."""
    sys.path.insert(0, str(made(*LIBRARY)[1]))
    import normflows
    import numpy as np
    import torch
    torch.set_num_threads(1)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((BATCH, 2)))
    layer = normflows.flows.Planar if kind == "planar" else normflows.flows.Radial
    layers = [layer((2,)).double() for _ in range(DEPTH)]
    with torch.no_grad():
        for flow, given in zip(layers, numbers(kind)):
            for name, held in zip(("u", "w", "b") if kind == "planar" else ("beta", "alpha", "z_0"), given):
                parameter = getattr(flow, name)
                parameter.copy_(torch.from_numpy(held).reshape(parameter.shape))
    leaves = [parameter for flow in layers for parameter in flow.parameters()]

    def step():
        x, log_q = z, -(z * z).sum(-1) / 2 - math.log(2 * math.pi)
        for flow in layers:
            x, log_det = flow(x)
            log_q = log_q - log_det
        loss = (log_q + (x * x).sum(-1) / 2).mean()
        return loss.item(), torch.autograd.grad(loss, leaves)

    return step, None


WORK = {"refflow": refflow_work, "normflows": normflows_work, "refflow page": page_work}


def worker(library):
    def times(threads):
        if threads != 1:
            raise SystemExit("planar is timed in one thread")
        found = {}
        for kind in KINDS:
            step, inverse = WORK[library](kind)
            found[kind] = timed(step, REPETITIONS)
            if inverse is not None:
                found[f"{kind}, inverse"] = timed(inverse, SAMPLINGS, 1)
        return found

    return times


WORKERS = {library: worker(library) for library in WORK}
