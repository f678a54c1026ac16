r"""Continuous normalizing flow (Chen et al., arXiv:1806.07366), followed by a Runge-Kutta scheme in equal steps.

A network gives the velocity `v(z, t)` of a point in time, and
    dz/dt = v(z, t),   noise z(0) ~ N(0, I),   data x = z(1)                        (1)
The scheme's steps lead from data at `t = 1` to noise at `t = 0`.  They are the map of this flow, so its density is exact:
    log p(x) = log N(z(0); 0, I) + sum_n log|det J_n|                               (2)
with the Jacobian `J_n` of step `n`, where the source integrates the trace of `dv/dz`, which differs by the error of the scheme.
Samples undo the steps by Newton's method.

The network's input is `z` and then `t`; its last layer starts at 0, so that the flow starts as the identity.  It is trained by its
likelihood (`refflow.fit`), or by matching velocities (`refflow.training.fit_flow_matching`), which needs no solver.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Flow, Inverse
from ..maps.conditioners import dense_network
from ..maps.continuous import DiscreteFlow
from ..maps.densities import StandardNormal
from .sizes import check_sizes


def cnf(rng: np.random.Generator, size: int, hidden: Sequence[int] = (64, 64, 64), scheme: str = "rk4", steps: int = 8,
        activation: str = "silu", dtype: DTypeLike = np.float64) -> Flow:
    """A flow in time of vectors of `size` entries.

    `hidden`: the widths of the hidden layers of the network of velocities; `scheme` and `steps`: as in `DiscreteFlow`; `activation`:
    "silu", "tanh", "softplus" or "relu".  Weights are drawn from the Generator `rng`.  ValueError for no entry, no step, a width
    below 1, an unknown scheme or activation.
    """
    check_sizes("cnf", hidden, size=(size, 1), steps=(steps, 1))
    net = dense_network(rng, (size + 1, *hidden, size), activation, dtype=dtype)
    return Flow(Inverse(DiscreteFlow(net, scheme, steps, 1.0, 0.0)), StandardNormal(size))         # (1) (2)
