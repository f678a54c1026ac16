r"""Masked autoregressive flow (Papamakarios, Pavlakou & Murray, arXiv:1705.07057).

From data `x` to latents `z`, `h_0 = x`.  In layer `k = 1, ..., K` a masked network gives two numbers for each entry, which
depend only on the entries before it:
    (s, t) = net_k(h_(k-1))                                                         (1)
    h_k,i = h_{k-1,i} exp(s_i) + t_i                                                (2)
where, in the paper's terms, `-s_i` is the logarithm of the standard deviation and `-t_i exp(-s_i)` the mean,
in the order of the entries for odd k, in the reverse order for even k              (3)
and with `batch_norm` each layer is followed by a batch normalisation,
    h_k,i <- g_i (h_k,i - mean_i) + bias_i,   g_i = gain_i / sqrt(var_i + eps),   eps = 10^-5       (4)
where training uses the mean and variance of each batch, and the density their moving averages; without it, `g_i = 1`.
    z = h_K,   log p(x) = sum_i log N(z_i; 0, 1) + sum_k sum_i (s_i + log|g_i|)     (5)
Data to latents is one pass of every network, latents to data is one for each entry.

The last layer of every network starts at 0, so that the flow without (4) starts as the identity.  With `zero_last=False` all
weights of a layer of `N` inputs are drawn as in the authors' code,
    W_ij ~ N(0, 1/(N + 1))                                                          (6)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Chain, Flow, Inverse
from ..core.tree import nest, walk
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import MaskedDense, masked_dense_network
from ..maps.coupling import affine_family
from ..maps.densities import StandardNormal
from ..maps.elementwise import ExpScale
from ..maps.normalization import BatchNorm
from .sizes import check_sizes

ORDERS = ("left-to-right", "right-to-left")                                         # (3)


def maf(rng: np.random.Generator, size: int, hidden: Sequence[int] = (100, 100), layers: int = 5, activation: str = "relu",
        batch_norm: bool = False, zero_last: bool = True, context: int = 0, dtype: DTypeLike = np.float64) -> Flow:
    """A masked autoregressive flow of vectors of `size` entries.

    `hidden`: the widths of the hidden layers of every network; `layers`: K; `batch_norm`: (4); `zero_last`: the start;
    `context`: the number of entries of a context that every network sees, filled in with `flow.at(context=...)`.  Weights
    are drawn from the Generator `rng`.  The paper's flows for tables have 5 or 10 layers of (100, 100) or (512, 512), with
    `batch_norm`.  ValueError for no entry, no layer, a width below 1, a negative context, an unknown activation.
    """
    check_sizes("maf", hidden, size=(size, 1), layers=(layers, 1), context=(context, 0))
    stages = []
    for k in range(layers):
        net = masked_dense_network(rng, size, hidden, 2, ORDERS[k % 2], activation=activation, context=context, dtype=dtype)
        net = net if zero_last else as_the_authors(net, rng, dtype)                        # (6)
        stages.append(Autoregressive(net, affine_family(ExpScale())))       # (1) (2) (3)
        if batch_norm:
            zero, one = np.zeros(size, dtype), np.ones(size, dtype)
            stages.append(BatchNorm(mean=zero, var=one, gain=one, bias=zero))       # (4)
    return Flow(Inverse(Chain(stages)), StandardNormal(size))                       # (5)


def as_the_authors(net, rng, dtype):
    """The network with all weights drawn again."""
    layers = {path: layer for path, layer in walk(net) if isinstance(layer, MaskedDense)}
    drawn = {(*path, "W"): rng.standard_normal(layer.W.shape) / math.sqrt(layer.W.shape[1] + 1) * layer.connects
             for path, layer in layers.items()}                                     # (6)
    return net.replace(**nest({path: W.astype(dtype) for path, W in drawn.items()}))
