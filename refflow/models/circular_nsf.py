r"""Circular neural spline flow on a torus (Rezende, Papamakarios, Racaniere, Albergo, Kanwar, Shanahan & Cranmer,
arXiv:2002.02428).

From angles `x` in (-pi, pi) to angles `z`, `h_0 = x`.  Coupling `k = 1, ..., N` divides the entries into two halves, `a` and
`b`, which change places from one coupling to the next.  A network that reads angles as points of circles gives
the rational-quadratic splines `g` of `b`, with `K` bins on [-pi, pi] and equal slopes at both ends; then every entry turns by a
trained fraction `u` of a full turn:
    theta = net_k(cos h_a, sin h_a)                                                 (1)
    v_b = g(h_{k-1,b}; theta),   v_a = h_{k-1,a}                                    (2)
    h_k = v + 2 pi u_k            modulo 2 pi                                       (3)
    z = h_N,   log p(x) = -D log(2 pi) + log|det dz/dx|                             (4)
Since -pi and pi are one point of a circle, (1) to (3) are continuous there: the density has the same limits at both.  At
these ends themselves `log p` is -inf, as it is beyond them.

At the start the last layers of all networks are 0, so that (2) is the identity, and `u` is drawn from `U(-1/2, 1/2)`, so that
the splines of different couplings end at different points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ..core import Chain, Flow, Inverse
from ..maps.conditioners import CircleFeatures, Sequential, dense_network, uniform
from ..maps.coupling import Coupling, Family, masks
from ..maps.densities import Uniform
from ..maps.elementwise import CentredSoftplusScale
from ..maps.parametrisations import KnotSlopes, SoftmaxKnots, spline_fields
from ..maps.parametrisations.knot_slopes import FREE, LOWER
from ..maps.splines import CircularShift, RationalQuadraticSpline
from .sizes import check_sizes

FLOOR = 1e-3                                        # of slopes and, as a part of the circle, of bins


def circular_nsf(rng: np.random.Generator, size: int, hidden: Sequence[int] = (128, 128), couplings: int = 8, bins: int = 8,
                 activation: str = "relu", dtype: DTypeLike = np.float64) -> Flow:
    """A circular neural spline flow of `size` angles, two or more.

    `hidden`: the widths of the hidden layers of every network; `couplings`: N; `bins`: K.  Weights and turns are drawn from the
    Generator `rng`.  The base and the ends of the circles are not to be trained: `fit(..., fixed=["base", "*.ends"])`.
    ValueError for fewer than two entries, no coupling, no bin, a width below 1, an unknown activation.
    """
    check_sizes("circular_nsf", hidden, size=(size, 2), couplings=(couplings, 1), bins=(bins, 1))
    knots = SoftmaxKnots(bins, -math.pi, math.pi, 2 * math.pi * FLOOR)
    slopes = KnotSlopes(CentredSoftplusScale(floor=FLOOR), bins, (FREE, LOWER))
    family = Family(RationalQuadraticSpline, spline_fields(knots, knots, slopes, "none"))           # (2)
    ends, stages = np.array([-math.pi, math.pi], dtype), []
    for k in range(couplings):
        passes = masks.halves(size, flip=k % 2 == 1)
        a = int(passes.sum())
        net = dense_network(rng, (2 * a, *hidden, family.size * (size - a)), activation, dtype=dtype)
        stages.append(Coupling(passes, Sequential((CircleFeatures(), *net.layers)), family))        # (1) (2)
        stages.append(CircularShift(ends, uniform(rng, (size,), 0.5, dtype)))       # (3)
    base = Uniform(np.full(size, ends[0]), np.full(size, ends[1]))
    return Flow(Inverse(Chain(stages)), base)                                       # (4)
