r"""Sum-of-squares polynomial flow (Jaini, Selby & Yu, arXiv:1905.02325).

From data `x` to latents `z`, `h_0 = x`.  In layer `l = 1, ..., L` a masked network gives the numbers `a_kj` and `t` for each
entry, which depend only on the entries before it:
    h_l,i = t + d h_{l-1,i} + sum_(k=1)^K int_0^(h_{l-1,i}) (sum_(j=0)^R a_kj u^j)^2 du             (1)
in the order of the entries for odd l, in the reverse order for even l              (2)
    z = h_L,   log p(x) = sum_i log N(z_i; 0, 1) + log|det dz/dx|                   (3)
with a constant least slope `d = 1/1000`, as in zuko; in the paper it is 0.  Data to latents is one pass of every network;
latents to data is one for each entry, with a solver for (1).

At the start all numbers are near 0 except
    a_k0 = ((1 - d)/K)^(1/2)                                                        (4)
with which (1) is the identity.  The weights of the last layer of every network are drawn from `U(-1/1000, 1/1000)`, so that the
polynomials are not all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Flow
from ..maps.coupling import Family
from ..maps.monotone import SumOfSquares
from ..maps.parametrisations import Free, MatrixEntries, PerField, PerPart
from .autoregressive import autoregressive_flow
from .sizes import check_sizes

FLOOR = SumOfSquares.declared["slope_floor"].default
SPREAD = 1e-3


def sospf(rng: np.random.Generator, size: int, hidden: Sequence[int] = (100, 100), layers: int = 3, components: int = 3,
          degree: int = 2, activation: str = "relu", context: int = 0, dtype: DTypeLike = np.float64) -> Flow:
    """A sum-of-squares polynomial flow of vectors of `size` entries.

    `hidden`: the widths of the hidden layers of every network; `layers`: L; `components`: K; `degree`: R; `context`: the
    number of entries of a context that every network sees, filled in with `flow.at(context=...)`.  Weights are drawn from the
    Generator `rng`.  ValueError for no entry, no layer, no component, a negative degree, a width below 1, a negative context,
    an unknown activation.
    """
    check_sizes("sospf", hidden, size=(size, 1), layers=(layers, 1), components=(components, 1), degree=(degree, 0),
                context=(context, 0))
    parts = MatrixEntries(components, degree + 1), PerField(("shift",), (Free(),))
    family = Family(SumOfSquares, PerPart(("coefficients", "shift"), parts))     # (1)
    one = np.zeros((components, degree + 1))
    one[:, 0] = math.sqrt((1 - FLOOR) / components)                                 # (4)
    start = np.append(one.ravel(), 0.0)
    return autoregressive_flow(rng, size, hidden, [family] * layers, start, SPREAD, activation, context, dtype)    # (2) (3)
