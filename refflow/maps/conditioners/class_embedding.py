r"""The vector of a class, added to a signal at every position, `(C, T) -> (C, T)`.

The map.  A table `E` holds a row `E_k` for each of `K` classes; the context `c` has a number for each class:
    h_t = a_t + sum_k c_k E_k   at valid positions,   0 elsewhere                   (1)
    dh/da = I                   at valid positions,   0 elsewhere                   (2)
Class `k` is the unit vector `c = e_k`, which takes row `k`.  The null class is the mean of all classes,
    c_k = 1/K                                                                       (3)
which takes the mean of the table.  It stands for data whose class is not given, as in classifier-free guidance.

The reverse rule.  All valid positions share the sum in (1), so that its cotangent is a sum over them:
    a_bar = h_bar,   e = sum_t h_bar_t,   E_bar_k = c_k e,   c_bar_k = <E_k, e>     (4)
with `h_bar` 0 at invalid positions.

Source: the class embedding of TarFlow's code (Zhai et al., arXiv:2412.06329); the null class, Ho & Salimans, arXiv:2207.12598.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, context, real, refusal, sequence_mask
from ...core.arrays import masked, masked_jacobian, sum_to_shape
from ...core.products import outer_sum, product
from ...core.words import zero_where_invalid
from .conv1d import held_to_mask
from .examples import weights

__all__ = ["context_of_classes"]


@conditioner(source="arXiv:2412.06329")
class ClassEmbedding(Conditioner):
    """h_t = a_t + sum_k c_k E_k; a, h (*batch, C, T), E (K, C), the context c (*batch, K).

    `context_of_classes` makes c of the numbers of classes, or of the null class; `context` and the valid positions `mask`
    (*batch, T) are filled in by `at(context=..., mask=...)`.
    """

    E: Array = real("K", "C")
    context: Array = context("K")
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    def output_shape(self, shape):
        held_to_mask(self.mask, shape[1])
        return shape

    def depends(self, shape):
        return np.eye(shape[0] * shape[1], dtype=bool)

    def depends_on_positions(self, shape):
        return np.eye(shape[1], dtype=bool)

    @staticmethod
    def definition(m, a, E, context, mask):
        rows = [[a_ct + sum(c_k * E_k[c] for c_k, E_k in zip(context, E)) for a_ct in row] for c, row in enumerate(a)]      # (1)
        return zero_where_invalid(m, rows, mask)

    def of_class(self):
        """sum_k c_k E_k, (*batch, C)."""
        if self.context is None:
            raise ValueError("ClassEmbedding: there is no context; fill it in with at(context=...)")
        return product(self.E.mT, self.context)                                     # (1)

    def forward(self, a):
        return masked(a + self.of_class()[..., None], self.mask)                    # (1)

    def jacobian(self, a):
        batch, (C, T) = np.broadcast_shapes(a.shape[:-2], self.of_class().shape[:-1]), a.shape[-2:]
        return masked_jacobian(np.broadcast_to(np.eye(C * T, dtype=a.dtype), (*batch, C * T, C * T)), self.mask)       # (2)

    def vjp(self, a):
        def pullback(h_bar):
            h_bar = masked(h_bar, self.mask)
            e = h_bar.sum(-1)                                                       # (4)
            c = np.broadcast_to(self.context, (*e.shape[:-1], self.context.shape[-1]))
            return h_bar, {"E": outer_sum(c, e, self.E), "context": product(self.E, e)}     # (4)

        return self.forward(a), pullback

    @classmethod
    def examples(cls, source):
        """A class, the null class, or any context."""
        C, T, K = source.count(1, 2), source.count(1, 3), source.count(1, 3)
        c = source.choice((source.signed((K,), -4, 4), np.full(K, 1 / K), np.eye(K)[source.count(0, K - 1)]))
        mask = source.orders((T,)) < source.count(1, T) if source.chance(0.5) else None
        return cls(weights(source, (K, C), 4), c, mask), (C, T)

    hard_cases = (
        case("Class", "the context takes one row", z=[[[1.0, -2.0], [0.5, 3.0]]], E=[[0.1, 2.0], [2.0**60, 5.0], [-1.0, 0.3]],
             context=[0.0, 0.0, 1.0]),
        case("Null", "the mean of the rows cancels the event", z=[[[1.0, 2.0]]], E=[[-3.0], [1.0 - 2.0**-20]], context=[0.5, 0.5]),
        case("Masked", "an invalid position is not read", z=[[[1.0, 2.0**100]]], E=[[2.0]], context=[0.25], mask=[True, False]),
    )
    refused = (refusal("have C=2", [[1.0, 1.0]], E=[[1.0, 2.0]], context=[1.0]),)


def context_of_classes(labels, classes, dtype=np.float64):
    """The context (*batch, classes) of labels (*batch), integers in 0 .. classes - 1; of the null class (classes,) for None.

    ValueError, with index and value, for a label that is not a class.
    """
    if labels is None:
        return np.full(classes, 1 / classes, dtype)                                 # (3)
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"context_of_classes: labels must be integers, not {labels.dtype}")
    for index in map(tuple, np.argwhere((labels < 0) | (labels >= classes))[:1]):
        at = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
        raise ValueError(f"context_of_classes: labels must be in 0 .. {classes - 1}; labels{at} = {labels[index]}")
    return np.eye(classes, dtype=dtype)[labels]
