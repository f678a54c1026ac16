"""Flows whose densities and samples of many events are computed by threads, a part of the events in each.

The parts follow from the sizes of the flow and of its events alone, so that results do not depend on the number of threads; an
event's own numbers may depend on the size of its part by a rounding, as the linear algebra library forms products of matrices.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.arrays import rows_at_once
from ..core.boundary import checked_event
from ..core.density import checked_draw
from ..core.flow import Flow
from ..core.tree import leaves
from .threads import Threads, available, on_one_thread

WORK = 35 * 10**6                       # of a part: parameters times events, times positions of images; less is not worth a thread
FEWEST = 16                             # events of a part
LEAST, MOST = 4, 16                     # parts, if there are several; unless they would be too large
FEWEST_SAMPLES = 64                     # of a part, since tokens are sampled in many small products


def work_of(value, shape):
    """About how many products an event of this shape costs: one for each parameter, of images and sequences at each position."""
    parameters = sum(array.size for path, _, _, array in leaves(value) if path[-1] != "context")
    return max(1, parameters) * math.prod(shape[1:])


@on_one_thread
def in_parts(f, value, *events, fewest=FEWEST):
    """f(*events), computed for parts of the rows by threads; `value`: the flow or map that f applies to the first of them."""
    n = len(events[0])
    count = max(fewest, WORK // work_of(value, events[0].shape[1:]), -(-n // MOST))
    count = min(rows_at_once(*events), count if n >= LEAST * count else max(1, n))
    starts = range(0, max(1, n), count)
    workers = min(available(), len(starts))

    def work(worker):
        with np.errstate(all="ignore"):                             # which a new thread does not inherit
            return [f(*(rows[start:start + count] for rows in events)) for start in starts[worker::workers]]

    found = Threads(workers).run(work, workers)
    return np.concatenate([found[i % workers][i // workers] for i in range(len(starts))])


class TunedFlow(Flow):
    """A flow whose `log_prob` and `sample` of many events use all cores, and in which maps have their twins."""

    @on_one_thread
    def log_prob(self, x):
        if not self.checked:
            return Flow.log_prob(self, x)
        copy, event, _ = checked_event(self, x, 1)
        if event.ndim != 1 + self.rank or copy.parameter_batch:
            return Flow.log_prob(self, x)
        return in_parts(copy.log_prob, copy, event)

    @on_one_thread
    def sample(self, rng, n, context=None, temperature=1.0):
        if not self.checked or context is not None or temperature != 1:
            return Flow.sample(self, rng, n, *((context, temperature) if self.checked else ()))
        copy, lead = checked_draw(self, rng, n)
        if len(lead) > 1:
            return Flow.sample(self, rng, n)
        with np.errstate(all="ignore"):
            z = copy.of_the_domain(copy.base.sample(rng, lead))
        return in_parts(copy.bijector.forward, copy, z, fewest=FEWEST_SAMPLES)
