r"""Bernstein polynomial flow (Ramasinghe, Fernando, Khan & Barnes, arXiv:2102.03509).

From data `x` to latents `z`, `h_0 = x`.  In layer `l = 1, ..., L` a masked network gives the coefficients of a polynomial of
degree `K` for each entry, which depend only on the entries before it: with its numbers `u_0, ..., u_K`,
    c_0 = u_0,   c_j = c_(j - 1) + softplus(u_j)                                    (1)
    h_l,i = sum_j c_j b_j(h_{l-1,i})        in [-B, B], and its tangents beyond     (2)
in the order of the entries for odd l, in the reverse order for even l              (3)
    z = h_L,   log p(x) = sum_i log N(z_i; 0, 1) + log|det dz/dx|                   (4)
with the polynomials `b_j` of Bernstein's basis on [-B, B].  In the paper both intervals are bounded; the tangents are zuko's.
Data to latents is one pass of every network; latents to data is one for each entry, with a solver for (2).

At the start all networks give nearly
    u_0 = -B,   u_j = log(exp(2 B/K) - 1)                                           (5)
for which (2) is the identity.  The weights of the last layer of every network are drawn from `U(-1/1000, 1/1000)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Flow
from ..maps.coupling import Family
from ..maps.elementwise import SoftplusScale
from ..maps.monotone import BernsteinPolynomial
from ..maps.parametrisations import IncreasingEntries, PerPart
from .autoregressive import autoregressive_flow
from .sizes import check_sizes

SPREAD = 1e-3


def bpf(rng: np.random.Generator, size: int, hidden: Sequence[int] = (100, 100), layers: int = 3, degree: int = 16,
        activation: str = "relu", context: int = 0, dtype: DTypeLike = np.float64) -> Flow:
    """A Bernstein polynomial flow of vectors of `size` entries.

    `hidden`: the widths of the hidden layers of every network; `layers`: L; `degree`: K; `context`: the number of entries of a
    context that every network sees, filled in with `flow.at(context=...)`.  B is 5.  Weights are drawn from the Generator
    `rng`.  ValueError for no entry, no layer, a degree or a width below 1, a negative context, an unknown activation.
    """
    check_sizes("bpf", hidden, size=(size, 1), layers=(layers, 1), degree=(degree, 1), context=(context, 0))
    bound = BernsteinPolynomial.declared["bound"].default
    coefficients = IncreasingEntries(SoftplusScale(), degree + 1)                   # (1)
    family = Family(BernsteinPolynomial, PerPart(("coefficients",), (coefficients,)))       # (2)
    start = np.full(degree + 1, math.log(math.expm1(2 * bound / degree)))           # (5)
    start[0] = -bound                                                               # (5)
    return autoregressive_flow(rng, size, hidden, [family] * layers, start, SPREAD, activation, context, dtype)    # (3) (4)
