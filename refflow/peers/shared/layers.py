"""Couplings and autoregressive maps of one layer, whose matrix and biases are the parameters of a library's map.

Libraries take any function in the place of a network, so that refflow's `W a + b` is given to them as it is.
"""

from __future__ import annotations

import numpy as np

from ...maps.autoregressive import Autoregressive, BlockAutoregressive
from ...maps.conditioners import BlockDense, Dense, MaskedDense, Sequential
from ...maps.coupling import Coupling

PASSES = np.array([True, False])
ENTRIES = len(PASSES)


def drawn(seed, *shapes):
    """Arrays of normal numbers with three decimals."""
    rng = np.random.default_rng(seed)
    return [np.round(rng.standard_normal(shape), 3) for shape in shapes]


def coupling(family, layout="interleaved", passes=PASSES):
    """A coupling of two entries, of which the first passes, or of more, of which those pass that are marked."""
    a, b = passes.sum(), (~passes).sum()
    W, biases = drawn(family.size, (b * family.size, a), b * family.size)
    return Coupling(passes, Sequential((Dense(W, biases),)), family, layout)


def autoregressive(family, layout="interleaved", entries=ENTRIES):
    """An autoregressive map from left to right."""
    P, connects = family.size, np.tril(np.ones((entries, entries), bool), -1)
    seen = np.tile(connects, (P, 1)) if layout == "halves" else np.repeat(connects, P, 0)
    W, biases = drawn(P, (entries * P, entries), entries * P)
    return Autoregressive(Sequential((MaskedDense(np.where(seen, W, 0), seen, biases),)), family, layout)


def layer(p):
    """(W, b) in the parameters of one of these maps."""
    of = p["net"]["layers"]["0"]
    return of["W"], of["b"]


def outputs(W, b):
    """The function a -> W a + b of arrays of a framework."""
    return lambda a: (W @ a[..., None])[..., 0] + b


def masked_layer(p, tril):
    """(W, b) of an autoregressive map in layout "interleaved", with the `tril` of a framework: a gradient reaches only the entries
    of W that are read.
    """
    W, b = layer(p)
    D = W.shape[1]
    return tril(W.reshape(D, -1, D).swapaxes(0, 1), -1).swapaxes(0, 1).reshape(len(W), D), b


def by_entry(h, *counts):
    """Outputs in layout "interleaved" as arrays (*batch, entries, count), one for each kind of numbers of an entry."""
    P, ends = sum(counts), np.cumsum((0, *counts))
    each = h.reshape(*h.shape[:-1], h.shape[-1] // P, P)
    return [each[..., a:b] for a, b in zip(ends, ends[1:])]


# -- block autoregressive networks ------------------------------------------------------------------------------------

def block_autoregressive():
    """Of two entries, with two units for each, and the leak of the libraries."""
    return BlockAutoregressive([
        BlockDense([[[0.5], [1.5]], [[0.75], [2.0]]], [[0, 0], [0, 0], [-0.5, 0], [1.25, 0]], [0.25, -0.5, 1.0, 0.0]),
        BlockDense([[[1.5, 0.5]], [[0.25, 1.0]]], [[0, 0, 0, 0], [0.75, -1.0, 0, 0]], [0.5, -0.25])], leak=0.01)


def block_matrix(of):
    """(the matrix of a block triangular layer, marks of its blocks on the diagonal)."""
    D, A, B = of["within"].shape
    same, before, block = np.eye(D, dtype=bool), np.tri(D, k=-1, dtype=bool), np.ones((A, B), bool)
    blocks = (same[:, None, :, None] * of["within"][:, :, None, :]).reshape(D * A, D * B)
    return blocks + of["below"] * np.kron(before, block), np.kron(same, block)
