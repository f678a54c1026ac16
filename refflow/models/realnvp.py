r"""RealNVP: a sequence of affine couplings (Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803).

From data `x` to latents `z`, `h_0 = x`.  Coupling `k = 1, ..., K` divides the entries into two halves, `a` and `b`, which
change places from one coupling to the next, and with `(s, t) = net_k(h_a)`
    h_k,a = h_a                                                                     (1)
    h_k,b = h_b exp(gain tanh(s) + shift) + t,   gain and shift trained             (2)
    z = h_K,   log p(x) = sum_i log N(z_i; 0, 1) + sum_k sum_j (gain tanh(s_j) + shift)     (3)
net_k is a dense network with `K_h` hidden layers; its last layer starts at 0, so the flow starts as the identity.    (4)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..maps.conditioners import dense_network
from ..core import Chain, Flow, Inverse
from ..maps.densities import StandardNormal
from ..maps.coupling import Coupling, affine_family, masks
from ..maps.elementwise import RescaledTanhExpScale, Scale
from .sizes import check_sizes


def realnvp(rng: np.random.Generator, size: int, hidden: Sequence[int] = (128, 128), couplings: int = 8,
            activation: str = "relu", scale: Scale | None = None, context: int = 0, dtype: DTypeLike = np.float64) -> Flow:
    """A RealNVP flow of vectors of `size` entries.

    `hidden`: the widths of the hidden layers of every network; `couplings`: K; `scale`: a scale, such as `ExpScale()`,
    replacing the one in (2); `context`: the number of entries of a context that every network sees, filled in with
    `flow.at(context=...)`.  Weights are drawn from the Generator `rng` by `dense_network`.  ValueError for fewer than two
    entries, no coupling, a width below 1, a negative context, an unknown activation.
    """
    check_sizes("realnvp", hidden, size=(size, 2), couplings=(couplings, 1), context=(context, 0))
    stages = []
    for k in range(couplings):
        passes = masks.halves(size, flip=k % 2 == 1)
        a = int(passes.sum())
        net = dense_network(rng, (a, *hidden, 2 * (size - a)), activation, context=context, dtype=dtype)    # (4)
        stages.append(Coupling(passes, net, affine_family(convention(scale, dtype))))       # (1) (2)
    return Flow(Inverse(Chain(stages)), StandardNormal(size))                       # (3)


def convention(scale, dtype) -> Scale:
    return RescaledTanhExpScale(np.ones((), dtype), np.zeros((), dtype)) if scale is None else scale        # (2)
