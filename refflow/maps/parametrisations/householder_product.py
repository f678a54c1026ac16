r"""An orthogonal matrix as a product of Householder reflections.

The map.  The numbers of h are vectors `v_1, ..., v_n`, one after the other.  Each of them gives the reflection in the
hyperplane orthogonal to it:
    H_k = I - 2 e_k e_k^T,   e_k = v_k/|v_k|                                        (1)
    Q_k = H_k Q_(k-1) = Q_(k-1) - 2 e_k w_k^T,   w_k = Q_(k-1)^T e_k,   Q_0 = I     (2)
    Q = Q_n                                                                         (3)
A product of `D` reflections may be any orthogonal matrix whose determinant is `(-1)^D`.

The reverse rule.  From (2), with `G = Q_k_bar`,
    Q_(k-1)_bar = H_k G = G - 2 e_k (G^T e_k)^T                                     (4)
    e_k_bar = -2 (G w_k + Q_(k-1) G^T e_k)                                          (5)
and from (1), where the length of `v_k` has no effect,
    v_k_bar = (e_k_bar - (e_k^T e_k_bar) e_k)/|v_k|                                 (6)

The unit of error is normwise, as for all matrices.  The page is certified at moderate h.

Source: Tomczak and Welling, Improving Variational Auto-Encoders using Householder Flow, arXiv:1611.09630; van den Berg,
Hasenclever, Tomczak and Welling, arXiv:1803.05649.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain, refusal
from ...core.rules import count
from ...core.sets import nonzero_vector
from ..linear.reflections import Reflections
from .parametrisation import Map, parametrisation


@parametrisation(source="arXiv:1803.05649", moderate=True, normwise=True)
class HouseholderProduct(Map):
    """`Q` (dimension, dimension), the product of `reflections` reflections, from a vector for each, the first one first.

    ValueError for a vector that is 0.
    """

    dimension: int = plain(rule=count())
    reflections: int = plain(rule=count())
    names = ("Q",)

    size = property(lambda self: self.dimension * self.reflections)
    cores = property(lambda self: ((self.dimension,) * 2,))

    @classmethod
    def examples(cls, source):
        f = cls(source.count(1, 3), source.count(1, 3))
        return f, (f.size,)

    @staticmethod
    def definition(m, h, dimension, reflections):
        D = range(dimension)
        Q = [[m.mpf(i == j) for j in D] for i in D]
        for k in range(reflections):
            v = h[k * dimension:(k + 1) * dimension]
            size = m.sqrt(sum(v_i * v_i for v_i in v))                              # (1)
            e = [v_i / size for v_i in v]                                           # (1)
            w = [sum(Q[i][j] * e[i] for i in D) for j in D]                         # (2)
            Q = [[Q[i][j] - 2 * e[i] * w[j] for j in D] for i in D]                 # (2)
        return {"Q": Q}                                                             # (3)

    def vjp(self, h):
        vectors = h.reshape(*h.shape[:-1], self.reflections, self.dimension)
        wrong = nonzero_vector.refusal("v", vectors)
        if wrong:
            raise ValueError(f"HouseholderProduct: {wrong}")
        reflections = Reflections(vectors)
        one = np.broadcast_to(np.eye(self.dimension, dtype=h.dtype), (*h.shape[:-1], *self.cores[0]))
        Q, steps = reflections.moved(one)                                           # (1) (2)

        def pullback(bars):
            _, v_bars = reflections.pulled(steps, bars["Q"])                        # (4) (5) (6)
            return v_bars.reshape(h.shape), {}

        return {"Q": Q}, pullback                                                   # (3)

    hard_cases = (
        case("Line", "D = 1: a reflection is -1", z=[[0.25, -3.0]], dimension=1, reflections=2),
        case("Twice", "the same reflection twice: the identity", z=[[1.0, 2.0, -0.5, -1.0]], dimension=2, reflections=2),
        case("Axis", "a sign of one entry", z=[[0.0, 2.0, 0.0]], dimension=3, reflections=1),
        case("Order", "reflections that do not commute", z=[[1.0, 1.0, 1.0, 0.0]], dimension=2, reflections=2),
    )
    refused = (
        refusal("reflections must be an int >= 1", dimension=2, reflections=0),
    )
