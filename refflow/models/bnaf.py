r"""Block neural autoregressive flow (De Cao, Aziz & Titov, arXiv:1904.04676), without its residual connections.

From data `x` to latents `z`, `h_0 = x`.  Layer `l = 1, ..., L` is one network whose outputs rise each with its own input and
see the inputs before it, with `phi(u) = tanh u + c u` between its layers:
    h_l = f_l(h_(l-1))            in the order of the entries for odd l, in the reverse order for even l    (1)
    z = h_L,   log p(x) = sum_i log N(z_i; 0, 1) + log|det dz/dx|                   (2)
Data to latents is one pass of every network; latents to data is one solver for each entry.  The leak `c > 0`, as in FlowJAX,
makes every real number an image, as the paper's residual connections do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Chain, Flow, Inverse
from ..maps.autoregressive import block_autoregressive_network
from ..maps.densities import StandardNormal
from ..maps.linear import Permutation
from .sizes import check_sizes


def bnaf(rng: np.random.Generator, size: int, units: Sequence[int] = (8, 8), layers: int = 2, leak: float = 0.01,
         dtype: DTypeLike = np.float64) -> Flow:
    """A block neural autoregressive flow of vectors of `size` entries.

    `units`: the units for each entry in each hidden layer of a network; `layers`: L; `leak`: c.  Weights are drawn from the
    Generator `rng` by `block_autoregressive_network`.  ValueError for no entry, no layer, a width below 1, a leak that is not
    positive.
    """
    check_sizes("bnaf", units, size=(size, 1), layers=(layers, 1))
    if not 0 < leak < math.inf:
        raise ValueError(f"bnaf: leak must be positive and finite, not {leak!r}")
    stages = []
    for l in range(layers):
        stages += [Permutation(np.arange(size)[::-1])] * (l > 0)                    # (1)
        stages.append(block_autoregressive_network(rng, size, units, leak, dtype))  # (1)
    return Flow(Inverse(Chain(stages)), StandardNormal(size))                       # (2)
