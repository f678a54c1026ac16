r"""Planar and radial flows (Rezende & Mohamed, arXiv:1505.05770): from a Gaussian to a density, one hyperplane or one centre at a time.

From noise to `x`, with a mean and standard deviations that are trained too, and `K` maps with fields of their own,
    h_0 = mu + sigma eps,   eps ~ N(0, I)                                           (1)
    h_k = h_(k-1) + v_k tanh(w_k^T h_(k-1) + b_k),   k = 1, ..., K                  (2)
or h_k = h_(k-1) + beta_k/(alpha_k + r) (h_(k-1) - c_k),   r = |h_(k-1) - c_k|      (3)
    x = h_K,   log p(x) = sum_i log N(eps_i; 0, 1) - sum_i log sigma_i - sum_k log|det dh_k/dh_(k-1)|       (4)
Noise to `x`, as variational inference needs it, has formulas; for `x` to noise, (2) is solved for one number for each `k`.

The flow starts near the identity: `v_k` is small and at a right angle to `w_k`, or `beta_k = 0`; the hyperplanes and centres are
drawn from a standard normal density.
"""

from __future__ import annotations

import numpy as np

from ..core import Chain, Flow
from ..maps.densities import StandardNormal
from ..maps.elementwise import Affine
from ..maps.residual import Planar, Radial
from .sizes import check_sizes

SMALL = 0.01                            # standard deviation of the entries of u


def planar(rng, size, layers=32, dtype=np.float64) -> Flow:
    """A flow of vectors of `size` entries, of that many planar maps (2) with tanh.

    Fields are drawn from the Generator `rng`.  ValueError for no entry or no layer.
    """
    return flow_of("planar", planar_map, rng, size, layers, dtype)


def radial(rng, size, layers=32, dtype=np.float64) -> Flow:
    """A flow of vectors of `size` entries, of that many radial maps (3).

    Centres are drawn from the Generator `rng`.  ValueError for no entry or no layer.
    """
    return flow_of("radial", radial_map, rng, size, layers, dtype)


def flow_of(model, make, rng, size, layers, dtype):
    check_sizes(model, size=(size, 1), layers=(layers, 1))
    start = Affine(shift=np.zeros(size, dtype), scale=np.ones(size, dtype))         # (1)
    stages = [make(rng, size).astype(dtype) for _ in range(layers)]
    return Flow(Chain([start, *stages]), StandardNormal(size))                      # (4)


def planar_map(rng, size):
    w, u = rng.standard_normal((2, size))
    return Planar(w=w, b=0.0, u=SMALL * u, slack=1.0)                               # (2)


def radial_map(rng, size):
    return Radial(centre=rng.standard_normal(size), alpha=1.0, slack=1.0)           # (3)
