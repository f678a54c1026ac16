r"""The all-in-one block of FrEIA: coupling, global affine map, permutation (or rotation), as a composition.

In FrEIA's direction, data `y` to latent, with `a' = a/10` for the conditioner's outputs, where the first half passes through,
    u_b = y_b exp(clamp tanh s') + t',   (s', t') = a'                              (1)
    v_c = psi(g_c) u_c + o_c                            for each channel c          (2)
    z = W v                                             W orthogonal                (3)
or, with `gin`, log-scales of mean 0 in (1) and `psi = 1` in (2).  `psi(g) = (1/10) softplus(g; beta = 1/2)`, which is 1 at
    g = 2 log(exp(5) - 1)                                                           (4)

Source: FrEIA, `AllInOneBlock`; Kingma & Dhariwal, arXiv:1807.03039, for the parts.
"""

from __future__ import annotations

from math import expm1, log

import numpy as np

from ..typing import Numbers
from ..core import Chain, Conditioner, Inverse
from ..maps.conditioners import Times
from ..maps.coupling import Coupling, VolumePreservingCoupling, affine_family
from ..maps.coupling.masks import halves
from ..maps.elementwise import Affine, ScaledAffine, SoftplusScale, TanhExpScale
from ..maps.linear import DenseLinear

GLOBAL_SCALE = 2 * log(expm1(5))                                                    # (4)


def all_in_one(net: Conditioner, W: Numbers, clamp: float = 2.0, gin: bool = False, scale: Numbers = GLOBAL_SCALE,
               offset: Numbers = 0.0) -> Inverse:
    """The block as a bijector from latent to data, its inverse is FrEIA's forward.

    `net`: from the first D - D // 2 entries to 2 (D // 2) outputs, scales first; `W` (D, D): FrEIA's `w_perm`; `scale` and
    `offset`: numbers or (D,), the unconstrained global scale (unused with `gin`) and the offset.
    """
    W = np.asarray(W)
    D = W.shape[-1]
    passes, net, scale_of_s = halves(D, D - D // 2), Times(net, 0.1), TanhExpScale(clamp)
    offset = np.broadcast_to(offset, (D,)).astype(W.dtype)
    if gin:
        block = VolumePreservingCoupling(passes, net, scale_of_s)                   # (1)
        each = Affine(shift=offset)                                                 # (2)
    else:
        block = Coupling(passes, net, affine_family(scale_of_s))                    # (1)
        s = np.broadcast_to(scale, (D,)).astype(W.dtype)
        each = ScaledAffine(s, SoftplusScale(gain=0.2, rate=0.5), offset)           # (2)
    return Inverse(Chain((block, each, DenseLinear(W))))                            # (3)
