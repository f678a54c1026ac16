"""What threads that share events gain: gradients, densities and samples of large batches, by one thread and by as many as --threads says."""

from __future__ import annotations

import os

from . import glow, realnvp, tarflow
from .rounds import timed, timing_rows

IMAGES, EVENTS, SAMPLES, REPETITIONS = 64, 512, 256, 5
WHAT = f"Gradients and densities of {EVENTS} events or {IMAGES} images, {SAMPLES} samples: one thread, and threads that share them"


def cases():
    """{case: (flow, events)}."""
    import numpy as np
    rng = np.random.default_rng(0)

    def images(shape):
        return rng.uniform(-0.5, 0.5, (IMAGES, *shape)).astype(np.float32)

    vectors = {f"RealNVP, D = {size}": (realnvp.flow_of(size), realnvp.events(size, EVENTS)) for size in (2, *realnvp.SIZES)}
    return vectors | {"Glow, 3 x 32 x 32": (glow.flow_of(glow.STEPS), images(glow.SHAPE)),
                      "TarFlow, 3 x 16 x 16": (tarflow.flow_of(tarflow.BLOCKS), images(tarflow.SHAPE))}


def times(threads):
    """{case: times}, on so many cores, where the user has not said a number."""
    import numpy as np

    from refflow.fast import tuned
    from refflow.fast.threads import VARIABLES, chosen
    from refflow.training import LikelihoodGradient
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    found = {}
    for name in VARIABLES:
        os.environ.pop(name, None)
    for name, (flow, x) in cases().items():
        gradient, b, whole = LikelihoodGradient(threads=threads), np.full(len(x), -1 / len(x), x.dtype), tuned(flow)
        work = {"gradient": lambda: gradient(flow, x, b), "densities": lambda: whole.log_prob(x),          # noqa: B023
                "samples": lambda: whole.sample(np.random.default_rng(0), SAMPLES)}                        # noqa: B023
        for what, each in work.items():
            with chosen():
                found[f"{name}: {what}"] = timed(each, REPETITIONS, 1)
    return found


WORKERS = {"refflow": times, "refflow by one thread": lambda threads: times(1)}
rows = timing_rows
