r"""Weights of a mixture by a softmax.

    w_k = r_k^2/S,   S = sum_j r_j^2,   r_k = exp((h_k - max_j h_j)/2)              (1)
where `r_k` is far from the smallest floats as long as `r_k^2` is one of them.
Reverse rule.  From `dw_k/dh_j = w_k ([j = k] - w_j)` and `sum_k w_k = 1`,
    h_j_bar = r_j (r_j sum_k r_k (r_k (w_j_bar - w_k_bar)))/S^2                     (2)
in which every difference counts as much as its own cotangents do.  In `w_j_bar - sum_k w_k w_k_bar` a large cotangent of a
weight near 1 would count twice, with both signs.

Source: Huang, Krueger, Lacoste and Courville, Neural Autoregressive Flows, arXiv:1804.00779; Flow++, arXiv:1902.00275.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import count
from .parametrisation import Map, parametrisation


@parametrisation(source="arXiv:1804.00779")
class SoftmaxWeights(Map):
    """`weights` (count,) on the simplex: a softmax of h.  Raises ValueError for count < 1."""

    count: int = plain(rule=count())
    names = ("weights",)

    size = property(lambda self: self.count)
    cores = property(lambda self: ((self.count,),))

    @classmethod
    def examples(cls, source):
        f = cls(source.count(1, 3))
        return f, (f.count,)

    @staticmethod
    def definition(m, h, count):
        e = [m.exp(h_k) for h_k in h]                                               # (1)
        return {"weights": [e_k / m.fsum(e) for e_k in e]}                          # (1)

    def vjp(self, h):
        weights, softmax_pullback = softmax(h)
        return {"weights": weights}, lambda bars: (softmax_pullback(bars["weights"]), {})

    hard_cases = (
        case("One", "the weight is 1 whatever h is", z=[[3.0]], count=1),
        case("Equal", "h has no effect where all cotangents are equal", z=[[0.0, 0.0, 0.0], [1e9, 1e9, 1e9]], count=3),
        case("Dominant", "one weight rounds to 1, the others are far below u", z=[[50.0, 0.0, -60.0], [0.0, -200.0, -700.0]],
             count=3),
        case("Large", "exponentials that overflow", z=[[1000.0, 999.0, 998.5], [-1e3, -1001.0, -2.0**60]], count=3),
    )


def softmax(h):
    """(w, its pullback), along the last axis."""
    r = np.exp((h - h.max(-1, keepdims=True)) / 2)                                  # (1)
    S = (r * r).sum(-1, keepdims=True)                                              # (1)

    def pullback(w_bar):
        differences = w_bar[..., :, None] - w_bar[..., None, :]
        others = r[..., None, :]
        total = (others * (others * differences)).sum(-1)
        return r * (r * (total / S / S))                                            # (2)

    return r * r / S, pullback                                                      # (1)
