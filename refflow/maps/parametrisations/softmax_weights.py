r"""Weights of a mixture by a softmax.

The map.  The weights are in proportion to exponentials:
    w_k = exp(h_k)/sum_j exp(h_j)                                                   (1)

The reverse rule.  From `dw_k/dh_j = w_k ([j = k] - w_j)`,
    h_j_bar = w_j (w_j_bar - sum_k w_k w_k_bar)                                     (2)

Source: Huang, Krueger, Lacoste and Courville, Neural Autoregressive Flows, arXiv:1804.00779; Flow++, arXiv:1902.00275.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import count
from .parametrisation import Map, parametrisation


class textbook:
    """(1) and (2) as they are printed, for one event."""

    def fields(h, count):
        return {"weights": np.exp(h) / np.sum(np.exp(h))}                           # (1)

    def vjp(h, count, weights_bar):
        w = textbook.fields(h, count)["weights"]
        return w * (weights_bar - np.sum(w * weights_bar)), {}                      # (2)


r"""In floating point.

In (1), an exponential may overflow, or all of them may underflow.  A factor of all exponentials does not change the weights:
    w_k = r_k^2/S,   S = sum_j r_j^2,   r_k = exp((h_k - max_j h_j)/2)              (3)
where `r_k` is far from the smallest floats as long as `r_k^2` is one of them.

In (2), a large cotangent of a weight near 1 appears twice, with opposite signs, and a small `w_j` loses digits before it is
multiplied by a large cotangent.  With `sum_k w_k = 1`,
    h_j_bar = r_j (r_j sum_k r_k (r_k (w_j_bar - w_k_bar)))/S^2                     (4)
In (4), a rounding of a difference counts no more than roundings of its two cotangents.
"""


@parametrisation(source="arXiv:1804.00779", textbook=textbook)
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

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, h):
        weights, softmax_pullback = softmax(h)
        return {"weights": weights}, lambda bars: (softmax_pullback(bars["weights"]), {})

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("One", "the weight is 1 whatever h is", z=[[3.0]], count=1),
        case("Equal", "h has no effect where all cotangents are equal", z=[[0.0, 0.0, 0.0], [1e9, 1e9, 1e9]], count=3),
        case("Dominant", "one weight rounds to 1, the others are far below u", z=[[50.0, 0.0, -60.0], [0.0, -200.0, -700.0]],
             count=3),
        case("Large", "exponentials that overflow", z=[[1000.0, 999.0, 998.5], [-1e3, -1001.0, -2.0**60]], count=3),
    )


def softmax(h):
    """(w, its pullback), along the last axis."""
    r = np.exp((h - h.max(-1, keepdims=True)) / 2)                                  # (3)
    S = (r * r).sum(-1, keepdims=True)                                              # (3)

    def pullback(w_bar):
        differences = w_bar[..., :, None] - w_bar[..., None, :]
        others = r[..., None, :]
        total = (others * (others * differences)).sum(-1)
        return r * (r * (total / S / S))                                            # (2) (4)

    return r * r / S, pullback                                                      # (1) (3)
