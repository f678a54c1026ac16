r"""Residual flow of vectors (Chen, Behrmann, Duvenaud & Jacobsen, arXiv:1906.02735), in the sizes for densities in the plane.

From data `x` to latents `z`, `h_0 = x`, with a network of bounded layers in each of `K` blocks,
    h_k = h_(k-1) + g_k(h_(k-1)),   k = 1, ..., K                                   (1)
    g_k: LipSwish and a dense layer of norm at most c, in turn                      (2)
    z = h_K,   log p(x) = sum_i log N(z_i; 0, 1) + sum_k log det(I + dg_k/dh)       (3)
Each `g_k` stretches distances by less than 1, because LipSwish does and `c < 1`, so (1) is invertible.  The log-dets are exact
here, by elimination; the source estimates them by series, as `refflow.maps.residual.series` does.  Data to latents is one pass;
latents to data needs a solver.

LipSwish starts with `beta = log(1 + e^0.5)`; weights and biases are drawn from `U(-r, r)` with `r = N^(-1/2)`, for a layer of `N`
inputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Chain, Flow, Inverse
from ..maps.conditioners import LipSwish, Sequential, SpectralDense, uniform
from ..maps.densities import StandardNormal
from ..maps.residual import InvertibleResidual
from .sizes import check_sizes

BETA = math.log(1 + math.exp(0.5))              # at the start


def residual_flow(rng: np.random.Generator, size: int, hidden: Sequence[int] = (128, 128, 128, 128), blocks: int = 100,
                  coefficient: float = 0.9, dtype: DTypeLike = np.float64) -> Flow:
    """A residual flow of vectors of `size` entries.

    `hidden`: the widths of the hidden layers of each network; `blocks`: K; `coefficient`: c.  Weights are drawn from the
    Generator `rng`.  ValueError for no entry, no block, a width below 1, a coefficient that is not between 0 and 1.
    """
    check_sizes("residual_flow", hidden, size=(size, 1), blocks=(blocks, 1))
    if not 0 < coefficient < 1:
        raise ValueError(f"residual_flow: coefficient must be in (0, 1), not {coefficient!r}")
    widths = (size, *hidden, size)
    stages = [InvertibleResidual(bounded_network(rng, widths, coefficient, dtype)) for _ in range(blocks)]          # (1)
    return Flow(Inverse(Chain(stages)), StandardNormal(size))                       # (3)


def bounded_network(rng, widths, coefficient, dtype=np.float64):
    """A network (2) of these widths, from its input to its output."""
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        r = inputs**-0.5
        W, b = uniform(rng, (outputs, inputs), r, dtype), uniform(rng, (outputs,), r, dtype)
        layers += [LipSwish(np.asarray(BETA, dtype)), SpectralDense(W, b, coefficient=coefficient)]         # (2)
    return Sequential(layers)
