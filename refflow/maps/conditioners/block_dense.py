r"""Block triangular dense layer with positive blocks on the diagonal, `R^(D B) -> R^(D A)`.

The inputs are `D` blocks of `B` units, the outputs `D` blocks of `A` units, a block for each entry of an event.  An output sees
the inputs of its own block with positive weights, and the inputs of the blocks before it with any weights.  With the block
`d(i)` of a unit `i`,
    h_i = sum_j W_ij a_j + b_i                                                      (1)
    W_ij = V_ij > 0    where d(j) = d(i)                                            (2)
    W_ij = U_ij        where d(j) < d(i),   W_ij = 0   where d(j) > d(i)            (3)
    dh_i/da_j = W_ij                                                                (4)
so that `h_i` rises with the inputs of its own block.  Reverse rule:
    a_bar = W^T h_bar,   W_bar = h_bar a^T,   b_bar = h_bar                         (5)
and the cotangents of `V` and `U` are the entries of `W_bar` at their places; what is not read of `U` gets 0.

Libraries hold unconstrained weights `w` and positive gains `g`; their matrix has the rows
    W_i = g_i P_i / |P_i|,   P_ij = exp(w_ij) or log(1 + exp(w_ij))   within blocks,   P_ij = w_ij   below          (6)

Source: De Cao, Aziz & Titov, arXiv:1904.04676, section 3; (6) with the exponential in Pyro and NumPyro, with the softplus in
FlowJAX.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, positive, real
from ...core.products import event_sum, outer_sum, product
from .dense import affine

__all__ = ["weight_normalised_blocks"]


@conditioner(source="arXiv:1904.04676")
class BlockDense(Conditioner):
    """h = W a + b; a (*batch, D B), h (*batch, D A).

    `within`: the blocks of W on the diagonal, (D, A, B), positive; `below`: a matrix (D A, D B), of which only the part below
    these blocks is read.
    """

    within: Array = positive("D", "A", "B")
    below: Array = real("M", "N")
    b: Array = real("M", default=0.0)
    event_shape = ("N",)

    fixed_shape = property(lambda self: self.below.shape[-1:])
    blocks = property(lambda self: self.within.shape[-3:])             # (D, A, B)

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

    @staticmethod
    def definition(m, a, within, below, b):
        A, B, h = len(within[0]), len(within[0][0]), []
        for i, b_i in enumerate(b):
            for j, a_j in enumerate(a):
                if j // B == i // A:
                    b_i = b_i + within[i // A][i % A][j % B] * a_j                  # (1) (2)
                elif j // B < i // A:
                    b_i = b_i + below[i][j] * a_j                                   # (1) (3)
            h.append(b_i)
        return h

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

    def parts(self, W_bar):
        """The cotangents of `within` and `below`."""
        (D, A, B), i = self.blocks, np.arange(self.blocks[0])
        blocks = W_bar.reshape(*W_bar.shape[:-2], D, A, D, B)[..., i, :, i, :]
        return {"within": np.moveaxis(blocks, 0, -3), "below": np.where(self.before(), W_bar, 0)}

    def forward(self, a):
        return affine(self.weights(), self.b, a)                                    # (1)

    def jacobian(self, a):
        W = self.weights()
        return np.broadcast_to(W, a.shape[:-1] + W.shape[-2:])                      # (4)

    def vjp(self, a):
        W = self.weights()

        def pullback(h_bar):
            return product(W.mT, h_bar), {**self.parts(outer_sum(h_bar, a, W)), "b": event_sum(h_bar, self.b)}     # (5)

        return affine(W, self.b, a), pullback                                       # (1)

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
    )



def weight_normalised_blocks(w, g, size, b=0.0, positive="exp"):
    """The `BlockDense` of a library's raw weights w (M, N) and gains g (M,), with `size` blocks.

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
    W = g[:, None] * P / np.sqrt((P * P).sum(1, keepdims=True))                     # (6)
    return BlockDense(W.reshape(size, A, size, B)[d, :, d, :], W, b)


POSITIVE = {"exp": np.exp, "softplus": lambda w: np.maximum(w, 0) + np.log1p(np.exp(-np.abs(w)))}


def block_dense(source, D, A, B, least=-4):
    """A layer from a `Source`, with positive weights of at least 2^least."""
    def signed(*shape):
        return source.signed(shape, -4, 0)

    return BlockDense(source.numbers((D, A, B), least, least + 2), signed(D * A, D * B), signed(D * A))
