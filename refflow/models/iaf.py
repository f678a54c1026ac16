r"""Inverse autoregressive flow (Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling, arXiv:1606.04934).

From noise to `x`, with an encoder's numbers for the first step, which are functions of the context `c` if there is one, and
with a masked network for each step `k = 1, ..., K`, whose outputs for an entry depend only on the entries before it:
    h_0 = mu_0 + sigma_0 eps,   eps ~ N(0, I),   (log sigma_0, mu_0) = net_0(c)      (1)
    (s, m) = net_k(h_(k-1), c)                                                      (2)
    h_k = sigma h_(k-1) + (1 - sigma) m,   sigma = sigmoid(s + 2)                   (3)
in the order of the entries for odd k, in the reverse order for even k              (4)
    x = h_K,   log p(x) = sum_i log N(eps_i; 0, 1) - sum_i log sigma_0,i - sum_k sum_i log sigma_k,i        (5)
Noise to `x` is one pass of every network; `x` to noise is one for each entry.

The last layer of every network starts at 0, with the gate of (3) mostly open, as the paper advises, and with
    log sigma_0 = -K log sigmoid(2)                                                 (6)
so that the flow starts as the identity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Chain, Flow
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import dense_network, masked_dense_network
from ..maps.coupling import Coupling, Family, affine_family
from ..maps.densities import StandardNormal
from ..maps.elementwise import ExpScale, ScaledAffine
from ..maps.parametrisations import GatedLocationScale
from .sizes import check_sizes

ORDERS = ("left-to-right", "right-to-left")                                         # (4)


def iaf(rng: np.random.Generator, size: int, hidden: Sequence[int] = (100, 100), layers: int = 5, activation: str = "relu",
        context: int = 0, dtype: DTypeLike = np.float64) -> Flow:
    """An inverse autoregressive flow of vectors of `size` entries: samples and their densities in one pass of each network.

    `hidden`: the widths of the hidden layers of every network; `layers`: K; `context`: the number of entries of a context that
    every network sees, filled in with `flow.at(context=...)`.  Weights are drawn from the Generator `rng`.  ValueError for no
    entry, no layer, a width below 1, a negative context, an unknown activation.
    """
    check_sizes("iaf", hidden, size=(size, 1), layers=(layers, 1), context=(context, 0))
    stages = [start(rng, size, layers, hidden, activation, context, dtype)]
    for k in range(layers):
        net = masked_dense_network(rng, size, hidden, 2, ORDERS[k % 2], activation=activation, context=context, dtype=dtype)
        stages.append(Autoregressive(net, Family(ScaledAffine, GatedLocationScale())))      # (2) (3) (4)
    return Flow(Chain(stages), StandardNormal(size))                                # (5)


def start(rng, size, layers, hidden, activation, context, dtype):
    """The map (1): no entry passes through, so that its network sees the context alone."""
    sizes = (0, *hidden, 2 * size) if context else (0, 2 * size)
    net = dense_network(rng, sizes, activation, context=context, dtype=dtype)       # (1)
    return Coupling(np.zeros(size, bool), net, affine_family(ExpScale(layers * math.log1p(math.exp(-2)))))      # (1) (6)
