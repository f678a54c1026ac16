r"""Flow++ for vectors (Ho, Chen, Srinivas, Duan & Abbeel, arXiv:1902.00275): couplings by mixtures of logistics.

From data `x` to latents `z`, `h_0 = x`.  Coupling `k = 1, ..., N` divides the entries into two halves, `a` and `b`, which
change places from one coupling to the next.  A mixture of `K` logistic distributions, whose numbers u, m, s come from a
network, and an affine map with a network of its own transform `b`:
    w = softmax(u),   (u, m, s) = net_k(h_a)                                        (1)
    v = logit(sum_i w_i sigmoid((h_{k-1,b} - m_i)/exp(s_i)))                        (2)
    h_k,b = v exp(gain tanh(c) + shift) + t,   (c, t) = net'_k(h_a),   h_k,a = h_{k-1,a}            (3)
    z = h_N,   log p(x) = sum_i log N(z_i; 0, 1) + log|det dz/dx|                   (4)
In the paper, one convolutional network with attention gives the numbers of (2) and (3), images are dequantised by a flow, and
the base is logistic.  Latents to data needs a solver for (2).

At the start the last layers of `net'_k` are 0.  For `net_k`, the weights of the last layer are drawn from `U(-1/1000, 1/1000)`,
so that the components are not all the same, and the flow starts near the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Chain, Flow, Inverse
from ..maps.conditioners import dense_network
from ..maps.coupling import Coupling, Family, affine_family, masks
from ..maps.densities import StandardNormal
from ..maps.elementwise import ExpScale
from ..maps.monotone import LogisticMixtureLogit
from ..maps.parametrisations import Entries, Free, PerPart, SoftmaxWeights
from .autoregressive import starting
from .realnvp import convention
from .sizes import check_sizes

SPREAD = 1e-3


def flow_plus_plus(rng: np.random.Generator, size: int, hidden: Sequence[int] = (128, 128), couplings: int = 8,
                   components: int = 8, activation: str = "relu", context: int = 0, dtype: DTypeLike = np.float64) -> Flow:
    """A Flow++ of vectors of `size` entries.

    `hidden`: the widths of the hidden layers of every network; `couplings`: N; `components`: K; `context`: the number of
    entries of a context that every network sees, filled in with `flow.at(context=...)`.  Weights are drawn from the Generator
    `rng`.  ValueError for fewer than two entries, no coupling, no component, a width below 1, a negative context, an unknown
    activation.
    """
    check_sizes("flow_plus_plus", hidden, size=(size, 2), couplings=(couplings, 1), components=(components, 1),
                context=(context, 0))
    maps = SoftmaxWeights(components), Entries(Free(), components), Entries(ExpScale(), components)
    mixture = Family(LogisticMixtureLogit, PerPart(("weights", "loc", "scale"), maps))              # (1) (2)
    stages = []
    for k in range(couplings):
        passes = masks.halves(size, flip=k % 2 == 1)
        for family in (mixture, affine_family(convention(None, dtype))):            # (2) (3)
            net = dense_network(rng, (int(passes.sum()), *hidden, family.size * int((~passes).sum())), activation,
                                context=context, dtype=dtype)
            net = starting(rng, net, SPREAD) if family is mixture else net
            stages.append(Coupling(passes, net, family))
    return Flow(Inverse(Chain(stages)), StandardNormal(size))                       # (4)
