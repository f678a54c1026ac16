r"""Gaussianization flow (Meng, Song, Song & Ermon, arXiv:2003.01941): trained rotations and marginal maps to a normal.

From data `x` to latents `z`, `h_0 = x`.  Layer `l = 1, ..., L` turns the entries by an orthogonal matrix `Q`, and makes each of
them more nearly normal by a mixture of `K` normal distribution functions, all of whose numbers are trained:
    v = Q h_(l-1)                                                                   (1)
    h_l,i = Phi^-1(1/K sum_k Phi(a_ik v_i + c_ik)),   a_ik > 0                      (2)
    z = h_L,   log p(x) = sum_i log N(z_i; 0, 1) + log|det dz/dx|                   (3)
In the paper the components are logistic or normal, and the rotations products of reflections.  No layer has a network.  Latents
to data needs a solver for (2).

At the start every `Q` is drawn, the first one being the identity, and every `a_ik` is 1; the `c_ik` are drawn from `U(-s, s)`,
with `s = 1/10`, so that the components are not all the same and the flow starts near a rotation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..core import Chain, Flow, Inverse
from ..maps.conditioners import uniform
from ..maps.densities import StandardNormal
from ..maps.linear import OrthogonalLinear
from ..maps.monotone import Gaussianization
from .sizes import check_sizes

SPREAD = 0.1


def gaussianization_flow(rng: np.random.Generator, size: int, layers: int = 5, components: int = 8,
                         dtype: DTypeLike = np.float64) -> Flow:
    """A Gaussianization flow of vectors of `size` entries.

    `layers`: L; `components`: K.  Rotations and biases are drawn from the Generator `rng`.  ValueError for no entry, no layer,
    no component.
    """
    check_sizes("gaussianization_flow", size=(size, 1), layers=(layers, 1), components=(components, 1))
    stages = []
    for l in range(layers):
        Q = rotation(rng, size) if l else np.eye(size)
        rate, bias = np.ones((size, components), dtype), uniform(rng, (size, components), SPREAD, dtype)
        stages += [OrthogonalLinear(Q.astype(dtype)), Gaussianization(rate, bias)]         # (1) (2)
    return Flow(Inverse(Chain(stages)), StandardNormal(size))                       # (3)


def rotation(rng, size):
    """An orthogonal matrix, from the QR decomposition of normal numbers."""
    Q, R = np.linalg.qr(rng.standard_normal((size, size)))
    return Q * np.sign(np.diagonal(R))
