r"""NICE (Dinh, Krueger & Bengio, arXiv:1410.8516), as in the authors' code.

The paper's `f` runs from data `x` to latent `z`; with `h` for the event between two steps, `D` for its size and
`d = floor(D/2)`,
    h = (x_0, x_2, x_4, ..., x_1, x_3, ...)                     with `reorder`      (1)
and for each coupling `k = 1, ..., K`, with `m_k` for a network of dense layers, with a ReLU after each but the last,
    (a, b) = (h_0 .. h_(d-1), h_d .. h_(D-1))                                       (2)
    y = (a, b + m_k(a))                                                             (3)
    h = (y_(D-1), ..., y_1, y_0)                                                    (4)
so that the parts exchange their roles, also after the last coupling, and
    z = h exp(s)                                                                    (5)
    log p(x) = log pi(z) + sum s                                                    (6)
At the start weights are drawn from `U(-1/100, 1/100)`, biases and `s` are 0.       (7)

The log-likelihood is that of the rescaled data, in nats.  For pixels `v` and `x = (v + u) / 256`, with `u` uniform on `[0, 1)`,
the log-likelihood of `v + u` is smaller by `D log 256`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..maps.conditioners import Dense, ReLU, Sequential, uniform
from ..core import Chain, Flow, Inverse
from ..maps.densities import StandardLogistic, StandardNormal
from ..maps.coupling import AdditiveCoupling, masks
from ..maps.elementwise import Homothety
from ..maps.linear import Permutation

PRIORS = {"logistic": StandardLogistic, "normal": StandardNormal}
BOUND = 0.01                                                                        # (7)


def nice(rng: np.random.Generator, size: int, hidden: int, layers: Sequence[int] = (5, 5, 5, 5), prior: str = "logistic",
         reorder: bool = True, dtype: DTypeLike = np.float64) -> Flow:
    """A NICE flow of vectors of `size` entries, with one coupling for each entry of `layers`.

    `hidden`: the width of the hidden layers; `layers`: their number in each coupling; `prior`: "logistic" or "normal";
    `reorder`: entries of even index first, (1).  The authors' models:

        MNIST       nice(rng, 784, 1000)
        TFD         nice(rng, 2304, 2000, (3, 3, 2, 2, 1, 1, 1, 1))
        SVHN        nice(rng, 3072, 2000, (3, 3, 3, 3), "normal", False)
        CIFAR-10    nice(rng, 3072, 2400, (1, 1, 3, 3, 2, 2, 1, 1), "normal", False)

    Weights are drawn from the Generator `rng`.  ValueError for fewer than two entries, a width or number of layers below 1,
    no coupling, an unknown prior.
    """
    check(size, hidden, layers, prior)
    stages = [Permutation(evens_first(size))] if reorder else []                    # (1)
    for depth in layers:
        stages.append(AdditiveCoupling(masks.halves(size), network(rng, size, hidden, depth, dtype)))       # (2) (3)
        stages.append(Permutation(np.arange(size)[::-1]))                           # (4)
    stages.append(Homothety(np.zeros(size, dtype)))                                 # (5) (7)
    return Flow(Inverse(Chain(stages)), PRIORS[prior](size))                        # (6)


def check(size, hidden, layers, prior):
    if np.ndim(layers) != 1:
        raise ValueError(f"nice: layers must be the depths of the couplings, such as (5, 5, 5, 5), not {layers!r}")
    depths = [(f"layers[{i}]", n, 1) for i, n in enumerate(layers)]
    for name, given, least in (("size", size, 2), ("hidden", hidden, 1), *depths):
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
            raise ValueError(f"nice: {name} must be an int >= {least}, not {given!r}")
    if not depths:
        raise ValueError("nice: layers must hold the depth of at least one coupling")
    if prior not in PRIORS:
        raise ValueError(f"nice: prior must be one of {tuple(PRIORS)}, not {prior!r}")


def evens_first(size):
    """0, 2, 4, ..., 1, 3, ..."""
    return np.concatenate([np.arange(0, size, 2), np.arange(1, size, 2)])           # (1)


def network(rng, size, hidden, depth, dtype):
    """m_k, from a to one output for each entry of b."""
    d, stages = size // 2, []                                                       # (2)
    for inputs in (d, *(hidden,) * (depth - 1)):
        stages += [Dense(uniform(rng, (hidden, inputs), BOUND, dtype)), ReLU()]     # (7)
    return Sequential([*stages, Dense(uniform(rng, (size - d, hidden), BOUND, dtype))])     # (7)
