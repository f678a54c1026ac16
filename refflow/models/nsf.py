r"""Neural spline flows with rational-quadratic splines (Durkan, Bekasov, Murray & Papamakarios, arXiv:1906.04032).

From data `x` to latents `z`, `h_0 = x`.  Step `k = 1, ..., N` begins with a linear map, in which `P` is a permutation drawn
once, `L` is unit lower and `U` upper triangular,
    u = L U P h_(k-1) + c                                                           (1)
and goes on with splines `g`, of `K` bins on [-B, B] and the identity beyond.  In RQ-NSF (C) every second entry, `a`, goes
through splines of its own, and determines the splines of the others, `b`; `a` and `b` change places from one step to the next:
    h_k,b = g(u_b; theta),   theta = net_k(u_a)                                     (2)
    h_k,a = g(u_a; theta_k),   theta_k trained numbers                              (3)
In RQ-NSF (AR) the spline of an entry is determined by the entries before it:
    h_k,i = g(u_i; theta_i),   theta = net_k(u) masked                              (4)
    z = L U P h_N + c,   log p(x) = sum_i log N(z_i; 0, 1) + log|det dz/dx|         (5)
net_k is a residual network of one width, of blocks
    v <- v + W' relu(W relu(v) + w) + w'                                            (6)
and the numbers for widths and heights of bins are divided by the root of its width.

At the start `L U = I`, `c = 0`, and every network gives the same numbers for all inputs: 0 for widths and heights, and
for slopes
    log(exp(1 - 1/1000) - 1)                                                        (7)
which make every slope 1, so that the flow starts as the permutations.  The authors draw the last layer.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from ..core import Chain, Flow, Inverse
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import (Contextual, Dense, MaskedDense, ReLU, Residual, Sequential, kaiming_uniform,
                                 masked_dense_network, uniform)
from ..maps.coupling import Coupling, Family, masks
from ..maps.densities import StandardNormal
from ..maps.linear import Permutation, PLULinear
from ..maps.parametrisations import SPLINES
from ..maps.splines import RationalQuadraticSpline
from .sizes import check_sizes

END_OF_BLOCK = 1e-3                     # the bound of the weights W' at the start, in the authors' code
SLOPE_ONE = math.log(math.expm1(1 - 1e-3))                                          # (7)


def nsf(rng: np.random.Generator, size: int, hidden: int = 256, blocks: int = 2, steps: int = 10, bins: int = 8,
        bound: float = 3.0, unconditional: bool = True, context: int = 0, dtype: DTypeLike = np.float64) -> Flow:
    """RQ-NSF (C): a neural spline flow of couplings, of vectors of `size` entries.

    `hidden`, `blocks`: the width of every network and the number of its residual blocks; `steps`: N; `bins`: K; `bound`: B;
    `unconditional`: (3), without which `a` stays as it is; `context`: the number of entries of a context that every network
    sees, filled in with `flow.at(context=...)`.  Weights are drawn from the Generator `rng`.  ValueError for fewer than two
    entries, a width, a number of steps or bins below 1, a negative context, a bound that is not positive.
    """
    check("nsf", hidden, blocks, steps, bins, bound, context, size=(size, 2))
    family, stages = splines(bins, bound, hidden), []
    for k in range(steps):
        passes = masks.alternating(size, flip=k % 2 == 0)
        a, b = int(passes.sum()), int((~passes).sum())
        net = network(rng, a, hidden, blocks, theta(family, bins, b, dtype), context)
        stages += [*linear(rng, size, dtype), Coupling(passes, net, family, "interleaved")]         # (1) (2)
        if unconditional:
            stages.append(Coupling(~passes, constant(theta(family, bins, a, dtype), b), family, "interleaved"))       # (3)
    return Flow(Inverse(Chain([*stages, *linear(rng, size, dtype)])), StandardNormal(size))         # (5)


def autoregressive_nsf(rng: np.random.Generator, size: int, hidden: int = 256, blocks: int = 2, steps: int = 10, bins: int = 8,
                       bound: float = 3.0, context: int = 0, dtype: DTypeLike = np.float64) -> Flow:
    """RQ-NSF (AR): a neural spline flow of autoregressive maps, of vectors of one entry or more.

    It takes the arguments of `nsf`.  Data to latents is one pass of every network, latents to data is one for each entry.
    """
    check("autoregressive_nsf", hidden, blocks, steps, bins, bound, context, size=(size, 1))
    family, stages = splines(bins, bound, hidden), []
    for _ in range(steps):
        net = masked_network(rng, size, hidden, blocks, theta(family, bins, size, dtype), context)
        stages += [*linear(rng, size, dtype), Autoregressive(net, family, "interleaved")]           # (1) (4)
    return Flow(Inverse(Chain([*stages, *linear(rng, size, dtype)])), StandardNormal(size))         # (5)


def check(model, hidden, blocks, steps, bins, bound, context, size):
    check_sizes(model, size=size, hidden=(hidden, 1), blocks=(blocks, 0), steps=(steps, 1), bins=(bins, 1),
                context=(context, 0))
    if not 0 < bound < math.inf:
        raise ValueError(f"{model}: bound must be positive and finite, not {bound!r}")


# -- the maps of a step -----------------------------------------------------------------------------------------------

def splines(bins, bound, hidden):
    return Family(RationalQuadraticSpline, SPLINES["nflows"](bins, bound, hidden))


def linear(rng, size, dtype):
    """The two stages of (1)."""
    zero = np.zeros((size, size), dtype)
    return Permutation(rng.permutation(size)), PLULinear(np.arange(size), zero, zero, np.ones(size, dtype), zero[0])    # (1)


def theta(family, bins, entries, dtype):
    """The numbers of splines of slope 1, for each of the entries in turn."""
    one = np.zeros(family.size, dtype)
    one[2 * bins:] = SLOPE_ONE                                                      # (7)
    return np.tile(one, entries)


# -- networks ---------------------------------------------------------------------------------------------------------

def constant(theta, inputs):
    """Trained numbers, as a network that sees none of its inputs."""
    nothing = np.zeros((len(theta), inputs), bool)
    return MaskedDense(nothing.astype(theta.dtype), nothing, theta)                 # (3)


def network(rng, inputs, hidden, blocks, theta, context):
    """A residual network that starts at the constant theta."""
    dtype, layers = theta.dtype, [Dense(kaiming_uniform(rng, (hidden, inputs + context), theta.dtype))]
    for _ in range(blocks):
        one, other = kaiming_uniform(rng, (hidden, hidden), dtype), uniform(rng, (hidden, hidden), END_OF_BLOCK, dtype)
        layers.append(Residual(Sequential((ReLU(), Dense(one), ReLU(), Dense(other)))))         # (6)
    net = Sequential((*layers, Dense(np.zeros((len(theta), hidden), dtype), theta)))            # (7)
    return Contextual(net) if context else net


def masked_network(rng, size, hidden, blocks, theta, context):
    """The same with masks: the numbers for an entry see only the entries before it, and the context."""
    net = masked_dense_network(rng, size, (hidden,) * (1 + blocks), len(theta) // size, layout="interleaved",
                               residual="pre-activation", context=context, dtype=theta.dtype)       # (4) (6)
    *layers, last = (net.inner if context else net).layers
    starting = Sequential((*layers, last.replace(b=theta)))                         # (7)
    return Contextual(starting) if context else starting
