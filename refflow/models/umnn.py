r"""Autoregressive flow of unconstrained monotonic networks (UMNN-MAF: Wehenkel & Louppe, arXiv:1908.05164), exactly integrated.

From data `x` to latents `z`, `h_0 = x`.  In layer `l = 1, ..., L` a masked network gives the numbers `a_k, b_k, v_k, c` and `t`
for each entry, which depend only on the entries before it:
    h_l,i = t + int_0^(h_{l-1,i}) (d + 1 + ELU(c + sum_(k=1)^K v_k max(a_k u + b_k, 0))) du         (1)
in the order of the entries for odd l, in the reverse order for even l              (2)
    z = h_L,   log p(x) = sum_i log N(z_i; 0, 1) + log|det dz/dx|                   (3)
In the paper the positive network has several hidden layers, whose weights do not depend on the data: it sees a vector that the
masked network makes.  With one hidden layer that vector is a part of its biases, so (1) has the paper's maps with one hidden
layer, and more.  Here the integral is exact, and the least slope is `d = 1/1000`; in the paper, the integral is a sum over nodes,
and the least slope is 0.  Data to latents is one pass of every network; latents to data is one for each entry, with
a solver for (1).

At the start all networks give nearly
    a_k = (-1)^k,   -b_k/a_k from -2 to 2,   v_k = 0,   c = log(1 - d),   t = 0     (4)
for which (1) is the identity.  The weights of the last layer of every network are drawn from `U(-1/1000, 1/1000)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Flow
from ..maps.coupling import Family
from ..maps.monotone import UnconstrainedMonotonic
from ..maps.parametrisations import Entries, Free, PerField, PerPart
from .autoregressive import autoregressive_flow
from .sizes import check_sizes

FLOOR = UnconstrainedMonotonic.declared["slope_floor"].default
SPREAD = 1e-3
FIELDS = "rate", "bias", "weights", "offset", "shift"


def umnn(rng: np.random.Generator, size: int, hidden: Sequence[int] = (100, 100), layers: int = 5, components: int = 16,
         activation: str = "relu", context: int = 0, dtype: DTypeLike = np.float64) -> Flow:
    """A flow of vectors of `size` entries by autoregressive integrals of positive networks.

    `hidden`: the widths of the hidden layers of every masked network; `layers`: L; `components`: K; `context`: the number of
    entries of a context that every network sees, filled in with `flow.at(context=...)`.  Weights are drawn from the Generator
    `rng`.  ValueError for no entry, no layer, no component, a width below 1, a negative context, an unknown activation.
    """
    check_sizes("umnn", hidden, size=(size, 1), layers=(layers, 1), components=(components, 1), context=(context, 0))
    vectors, numbers = (Entries(Free(), components) for _ in range(3)), (PerField((name,), (Free(),)) for name in FIELDS[3:])
    family = Family(UnconstrainedMonotonic, PerPart(FIELDS, (*vectors, *numbers)))          # (1)
    a, knots = (-1.0) ** np.arange(components), np.linspace(-2, 2, components)
    start = np.concatenate((a, -a * knots, np.zeros(components), [math.log1p(-FLOOR), 0.0]))            # (4)
    return autoregressive_flow(rng, size, hidden, [family] * layers, start, SPREAD, activation, context, dtype)    # (2) (3)
