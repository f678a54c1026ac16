r"""Block triangular dense layer with positive blocks on the diagonal, `R^(D B) -> R^(D A)`.

The map.  The inputs are `D` blocks of `B` units, the outputs `D` blocks of `A` units, a block for each entry of an event.  An
output sees the inputs of its own block with positive weights, and the inputs of the blocks before it with any weights.  With
the block `d(i)` of a unit `i`,
    h_i = sum_j W_ij a_j + b_i                                                      (1)
    W_ij = V_ij > 0    where d(j) = d(i)                                            (2)
    W_ij = U_ij        where d(j) < d(i),   W_ij = 0   where d(j) > d(i)            (3)
    dh_i/da_j = W_ij                                                                (4)
so that `h_i` rises with the inputs of its own block.

Libraries hold unconstrained weights `w` and positive gains `g`; their matrix has the rows
    W_i = g_i P_i / |P_i|,   P_ij = exp(w_ij) or log(1 + exp(w_ij))   within blocks,   P_ij = w_ij   below          (5)

The reverse rule.  As for a dense layer,
    a_bar = W^T h_bar,   W_bar = h_bar a^T,   b_bar = h_bar                         (6)
and the cotangents of `V` and `U` are the entries of `W_bar` at their places; entries of `U` that are not read get 0:
    V_bar_ij = W_bar_ij    where d(j) = d(i)                                        (7)
    U_bar_ij = W_bar_ij    where d(j) < d(i),   U_bar_ij = 0   elsewhere            (8)

Source: De Cao, Aziz & Titov, arXiv:1904.04676, section 3; (5) with the exponential in Pyro and NumPyro, with the softplus in
FlowJAX.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, positive, real
from ...core.products import event_sum, outer_sum, product
from .dense import affine

__all__ = ["weight_normalised_blocks"]


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def places(D, A, B):
        """(i, j, the place of W_ij within the blocks; None below them) of all entries that are not 0."""
        for i in range(D * A):
            for j in range((i // A + 1) * B):
                yield i, j, (i // A, i % A, j % B) if j // B == i // A else None

    def weights(within, below):
        W = 0 * below                                                               # (3)
        for i, j, own in textbook.places(*within.shape):
            W[i, j] = within[own] if own else below[i, j]                           # (2) (3)
        return W

    def of_library(w, g, D, exponential):
        """W from unconstrained weights and gains."""
        P, (M, N) = 0 * w, w.shape
        for i, j, own in textbook.places(D, M // D, N // D):
            P[i, j] = w[i, j] if not own else np.exp(w[i, j]) if exponential else np.log(1 + np.exp(w[i, j]))       # (5)
        return np.array([g_i * P_i / np.sqrt((P_i ** 2).sum()) for g_i, P_i in zip(g, P)])      # (5)

    def forward(a, within, below, b):
        return textbook.weights(within, below) @ a + b                              # (1)

    def jacobian(a, within, below, b):
        return textbook.weights(within, below)                                      # (4)

    def vjp(a, within, below, b, h_bar):
        W_bar, V_bar, U_bar = np.outer(h_bar, a), 0 * within, 0 * below             # (6) (8)
        for i, j, own in textbook.places(*within.shape):
            if own:
                V_bar[own] = W_bar[i, j]                                            # (7)
            else:
                U_bar[i, j] = W_bar[i, j]                                           # (8)
        a_bar = textbook.weights(within, below).T @ h_bar                           # (6)
        return a_bar, {"within": V_bar, "below": U_bar, "b": h_bar}                 # (6)


r"""In floating point.

In (1), a partial sum may overflow where `h_i` does not.  For `2^-e a`, whose largest entry is in `[1/2, 1)`, it does not, as in
`Dense`:
    h = 2^e W (2^-e a) + b                                                          (9)

In (5), `exp(w_ij)` overflows where `log(1 + exp(w_ij))` is nearly `w_ij`, and `1 + exp(w_ij)` rounds to 1 where the logarithm is
nearly `exp(w_ij)`:
    log(1 + exp(w)) = max(w, 0) + log1p(exp(-|w|))                                  (10)
and the squares in `|P_i|` may leave the floats where `W_i` does not.  With the largest `|P_ij|` of the row in `[1/2, 1) 2^e`,
    W_i = g_i (2^-e P_i) / |2^-e P_i|                                               (11)
"""


@conditioner(source="arXiv:1904.04676", textbook=textbook)
class BlockDense(Conditioner):
    """h = W a + b; a (*batch, D B), h (*batch, D A).

    `within`: the blocks of W on the diagonal, (D, A, B), positive; `below`: a matrix (D A, D B), read only below these blocks.
    """

    within: Array = positive("D", "A", "B")
    below: Array = real("M", "N")
    b: Array = real("M", default=0.0)
    event_shape = ("N",)

    fixed_shape = property(lambda self: self.below.shape[-1:])
    blocks = property(lambda self: self.within.shape[-3:])             # (D, A, B)
    terms = property(lambda self: self.below.shape[-1])                # in its sums

    def _validate(self):
        super()._validate()
        (D, A, B), given = self.blocks, self.below.shape[-2:]
        if given != (D * A, D * B):
            raise ValueError(f"BlockDense: below must have shape ({D * A}, {D * B}) to fit {D} blocks within of ({A}, {B}), "
                             f"not {given}")

    def output_shape(self, shape):
        if shape != self.fixed_shape:
            raise ValueError(f"its events have N={self.fixed_shape[0]} entries")
        return self.below.shape[-2:-1]

    def depends(self, shape):
        D, A, B = self.blocks
        return np.kron(np.tri(D, dtype=bool), np.ones((A, B), bool))                # (3)

    # -- the map ------------------------------------------------------------------------------------------------------

    def before(self):
        """Marks of the part of `below` that is read."""
        D, A, B = self.blocks
        return np.kron(np.tri(D, k=-1, dtype=bool), np.ones((A, B), bool))          # (3)

    def weights(self):
        """W."""
        (D, A, B), below = self.blocks, np.where(self.before(), self.below, 0)      # (3)
        lead, i = np.broadcast_shapes(self.within.shape[:-3], below.shape[:-2]), np.arange(D)
        W = np.array(np.broadcast_to(below, (*lead, D * A, D * B))).reshape(*lead, D, A, D, B)
        W[..., i, :, i, :] = np.moveaxis(np.broadcast_to(self.within, (*lead, D, A, B)), -3, 0)             # (2)
        return W.reshape(*lead, D * A, D * B)

    def forward(self, a):
        return affine(self.weights(), self.b, a)                                    # (1) (9)

    def jacobian(self, a):
        W = self.weights()
        return np.broadcast_to(W, a.shape[:-1] + W.shape[-2:])                      # (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def parts(self, W_bar):
        """The cotangents of `within` and `below`."""
        (D, A, B), i = self.blocks, np.arange(self.blocks[0])
        blocks = W_bar.reshape(*W_bar.shape[:-2], D, A, D, B)[..., i, :, i, :]      # (7)
        return {"within": np.moveaxis(blocks, 0, -3), "below": np.where(self.before(), W_bar, 0)}       # (7) (8)

    def vjp(self, a):
        W = self.weights()

        def pullback(h_bar):
            return product(W.mT, h_bar), {**self.parts(outer_sum(h_bar, a, W)), "b": event_sum(h_bar, self.b)}     # (6)

        return affine(W, self.b, a), pullback                                       # (1) (9)

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        D, A, B = (source.count(1, 3) for _ in range(3))
        return block_dense(source, D, A, B), (D * B,)

    hard_cases = (
        case("OneBlock", "D = 1: a positive matrix", z=[[1.0, -2.0]], within=[[[3.0, 1.0]]], below=[[9.0, 9.0]], b=[0.5]),
        case("Triangle", "blocks of one number: a triangular matrix", z=[[1.0, -2.0]], within=[[[3.0]], [[0.5]]],
             below=[[9.0, 9.0], [-4.0, 9.0]], b=[0.5, -1.0]),
        case("Cancelling", "what a block sees of its own all but cancels what it sees of another", z=[[1.0, 1.0]],
             within=[[[1.0]], [[1.0]]], below=[[9.0, 9.0], [2.0**-20 - 1, 9.0]], b=[0.0, 0.0]),
        case("Huge", "in (1), the sum of two products overflows, the whole sum does not",
             z=[[2.0**108, 2.0**108, -(2.0**108)], [2.0**1004, 2.0**1004, -(2.0**1004)]],
             within=[[[1.5 * 2.0**19, 1.5 * 2.0**19, 1.5 * 2.0**19]]], below=[[9.0, 9.0, 9.0]], b=[0.0]),
    )


def weight_normalised_blocks(w, g, size, b=None, positive="exp"):
    """The `BlockDense` of a library's raw weights w (M, N), gains g (M,) and biases b (M,), by default 0, with `size` blocks.

    `positive`: "exp" or "softplus".  ValueError for another word, and for shapes that `size` blocks do not divide.
    """
    if positive not in POSITIVE:
        raise ValueError(f"weight_normalised_blocks: positive must be one of {sorted(POSITIVE)}, not {positive!r}")
    w, g = np.asarray(w), np.asarray(g)
    if w.ndim != 2 or g.shape != w.shape[:1] or w.shape[0] % size or w.shape[1] % size:
        raise ValueError(f"weight_normalised_blocks: w must have {size} blocks of rows and columns, g an entry for each row; "
                         f"their shapes are {w.shape} and {g.shape}")
    d, (A, B) = np.arange(size), (n // size for n in w.shape)
    own, before = (np.kron(mask, np.ones((A, B), bool)) for mask in (np.eye(size, dtype=bool), np.tri(size, dtype=bool)))
    P = np.where(own, POSITIVE[positive](w), np.where(before, w, 0))
    P = np.ldexp(P, -np.frexp(np.abs(P).max(1, keepdims=True))[1])                  # (11)
    W = g[:, None] * P / np.sqrt((P * P).sum(1, keepdims=True))                     # (5) (11)
    return BlockDense(W.reshape(size, A, size, B)[d, :, d, :], W, np.zeros_like(g) if b is None else b)


POSITIVE = {"exp": np.exp, "softplus": lambda w: np.maximum(w, 0) + np.log1p(np.exp(-np.abs(w)))}       # (5) (10)


def block_dense(source, D, A, B, least=-4):
    """A layer from a `Source`, with positive weights of at least 2^least."""
    def signed(*shape):
        return source.signed(shape, -4, 0)

    return BlockDense(source.numbers((D, A, B), least, least + 2), signed(D * A, D * B), signed(D * A))
