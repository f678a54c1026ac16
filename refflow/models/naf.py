r"""Neural autoregressive flow with deep sigmoidal transformers (Huang, Krueger, Lacoste & Courville, arXiv:1804.00779).

From data `x` to latents `z`, `h_0 = x`.  In layer `l = 1, ..., L` a masked network gives `3 K` numbers for each entry, which
depend only on the entries before it; from the numbers u, v, c of one entry,
    w = softmax(u),   a_k = softplus(v_k + log(exp(1 - delta) - 1)) + delta,   delta = 10^-6        (1)
    h_l,i = logit(sum_k w_k sigmoid(a_k h_{l-1,i} + c_k))                           (2)
in the order of the entries for odd l, in the reverse order for even l              (3)
    z = h_L,   log p(x) = sum_i log N(z_i; 0, 1) + log|det dz/dx|                   (4)
Data to latents is one pass of every network; latents to data is one for each entry, with a solver for (2).

With `dense = N > 1`, (2) is a deep dense sigmoidal flow: the map of `dense_sigmoid` with N layers of K sigmoids.  Its `N K`
rates and biases are made as in (1), and so are the weights of its last layer.  The matrices from the sigmoids of a layer to its
units, and from these units to the next layer, have the rows
    w_ok = exp(W_ok + p_k)/sum_j exp(W_oj + p_j),   u_ko = exp(U_ko + q_o)/sum_j exp(U_kj + q_j)    (5)
with trained logits `W` and `U` that do not depend on the data, and numbers `p` and `q` of the network, which all rows of a
matrix share.  This is the authors' conditioning.

At the start the weights of the last layer of every network are drawn from `U(-1/1000, 1/1000)`, as the authors draw the weights
from their networks to the maps, and so are the logits in (5).  So the flow starts near the identity: (2) is `h` where all `c_k`
are 0 and all `a_k` are 1, and so are dense layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Flow
from ..maps.conditioners import uniform
from ..maps.coupling import Family
from ..maps.elementwise import CentredSoftplusScale
from ..maps.monotone import DeepSigmoid, DenseSigmoid
from ..maps.parametrisations import Entries, Free, MatrixEntries, PerPart, Reshaped, SharedSoftmax, SoftmaxWeights
from .autoregressive import autoregressive_flow
from .sizes import check_sizes

DELTA, SPREAD = 1e-6, 1e-3


def naf(rng: np.random.Generator, size: int, hidden: Sequence[int] = (100, 100), layers: int = 5, components: int = 16,
        activation: str = "relu", context: int = 0, dtype: DTypeLike = np.float64, dense: int = 1) -> Flow:
    """A neural autoregressive flow of vectors of `size` entries.

    `hidden`: the widths of the hidden layers of every network; `layers`: L; `components`: K; `context`: the number of entries
    of a context that every network sees, filled in with `flow.at(context=...)`; `dense`: N, the layers of sigmoids in each
    map.  Weights are drawn from the Generator `rng`.  ValueError for no entry, no layer, no component, a width below 1, a
    negative context, an unknown activation.
    """
    check_sizes("naf", hidden, size=(size, 1), layers=(layers, 1), components=(components, 1), context=(context, 0),
                dense=(dense, 1))
    families = [Family(DeepSigmoid, transformer(components)) if dense == 1
                else Family(DenseSigmoid, dense_transformer(rng, components, dense, dtype)) for _ in range(layers)]
    start = np.zeros(families[0].size)
    return autoregressive_flow(rng, size, hidden, families, start, SPREAD, activation, context, dtype)          # (2) (3) (4)


def transformer(components):
    """The fields of (2) from u, v, c."""
    parts = SoftmaxWeights(components), rates(components), Entries(Free(), components)
    return PerPart(("weights", "rate", "bias"), parts)                              # (1)


def rates(count):
    return Entries(CentredSoftplusScale(floor=DELTA), count)                        # (1)


def dense_transformer(rng, K, N, dtype):
    """The fields of dense layers."""
    matrices = (SharedSoftmax(uniform(rng, (N - 1, K, K), SPREAD, dtype)) for _ in range(2))        # (5)
    parts = Reshaped(rates(N * K), (N, K)), MatrixEntries(N, K), *matrices, SoftmaxWeights(K)
    return PerPart(("rate", "bias", "mixing", "averaging", "weights"), parts)       # (1) (5)
