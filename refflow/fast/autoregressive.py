r"""Affine autoregressive maps with masked dense networks, tuned: a step of `likelihood`.

The map and its reverse rule are the same as on the page `autoregressive.autoregressive`: a coupling whose parts a and b are
both the whole event.  In every layer the units stand in the falling order of the r of `unit_by_unit`, in the last layer the
outputs of an entry beside each other.  A mask is then 0 to the left of a staircase,
    M_ij = 0     for i in a block of rows and j before its first column             (1)
    M_ij = 0     for j in a block of columns and i from its end on                  (2)
and the products of the blocks that remain have about two thirds of all multiplications.  A product of a network of a hundred
units is fastest as a whole, not in the small blocks of `products`.
"""

from __future__ import annotations

import numpy as np

from ..core import tree
from ..maps.conditioners import MaskedDense
from .couplings import LayerPullback, Layers, Operations, TunedCoupling, TunedDense, is_dense, own_numbers
from .unit_by_unit import UnitByUnit, known_after, known_entries

BLOCK = 24                              # least rows or columns of a block


class SortedDense(TunedDense):
    """A masked dense layer whose rows and columns stand in other orders.

    `index`: for each entry of W its place in [W b] so ordered, flat, and the place after the end for one that the mask hides.
    """

    def __init__(self, layer, after, path, rows, columns):
        self.rows, self.columns = rows, columns
        super().__init__(layer, after, path)
        connects = layer.connects[rows][:, columns]
        self.row_blocks, self.column_blocks = staircase(connects), falling(connects)
        M, N = connects.shape
        places = np.where(connects, np.arange(M)[:, None] * (N + 1) + np.arange(N), M * (N + 1))
        self.index, self.b_index = np.empty((M, N), int), np.empty(M, int)
        self.index[rows[:, None], columns], self.b_index[rows] = places, np.arange(M) * (N + 1) + N

    def take(self, layer):
        super().take(layer)
        self.W, self.b = np.ascontiguousarray(self.W[self.rows][:, self.columns]), self.b[self.rows]


def blocks(count):
    """The ends of blocks of at least BLOCK."""
    parts = max(1, count // BLOCK)
    ends = [count * i // parts for i in range(parts + 1)]
    return zip(ends, ends[1:])


def staircase(connects):
    """(start, end, first column) of blocks of rows, as in (1)."""
    seen = [(start, end, connects[start:end].any(0)) for start, end in blocks(len(connects))]
    return tuple((start, end, int(np.argmax(columns)) if columns.any() else len(columns)) for start, end, columns in seen)


def falling(connects):
    """(start, end, end of the rows) of blocks of columns, as in (2)."""
    seen = [(start, end, connects[:, start:end].any(1)) for start, end in blocks(connects.shape[1])]
    return tuple((start, end, int(np.flatnonzero(rows).max(initial=-1)) + 1) for start, end, rows in seen)


class SortedLayers(Layers):
    """`Layers` whose products leave out what the masks hide."""

    def products(self, i, form):
        a, h = self.padded[i], self.leaving[i]
        for start, end, first in form.row_blocks[i]:
            yield self.matrices[i][start:end, first:], a[first:], h[start:end]

    def noted_pullback(self, i, form):
        bars, n = self.bars, self.n
        activation, weights, entering = self.noted_activation(i, form), Operations(), Operations()
        g, a_bar, W_bar = bars.padded[i + 1], bars.padded[i], bars.matrices[i]
        for start, end, first in form.row_blocks[i]:
            weights(np.matmul, g[start:end, :n], self.padded[i][first:, :n].T, out=W_bar[start:end, first:])
        for start, end, last in form.column_blocks[i]:
            entering(np.matmul, self.matrices[i][:last, start:end].T, g[:last], out=a_bar[start:end])
        return LayerPullback(activation, weights, None, entering.run)


class TunedAutoregressive(TunedCoupling):
    """An affine autoregressive map on side 0; side 1, which needs all levels, remains the page's."""

    same_parts, kind = True, SortedLayers

    @staticmethod
    def takes(stage, side):
        form = stage.affine_form
        return (side == 0 and form is not None and not form.shift_first and own_numbers(form)
                and is_dense(stage.net, MaskedDense))

    def take(self, stage, dense):
        super().take(stage, dense)
        self.inverse = tree.copied(stage, UnitByUnit).inverse

    def parts(self, stage):
        """The whole event, in the falling order of its levels if this is a view."""
        D = stage.dims["D"]
        order = np.concatenate(stage.levels[::-1])
        view = slice(None, None, -1) if np.array_equal(order, np.arange(D)[::-1]) else slice(None)
        return view, view

    def layers_of(self, stage, path):
        D, net = stage.dims["D"], stage.net.layers
        known, orders = known_entries(stage.levels, D), [np.arange(D)[self.a]]
        for layer in net[0:-1:2]:
            known = known_after(layer.connects, known)
            orders.append(np.argsort(-known, kind="stable"))
        orders.append(stage.rows(D)[orders[0]].ravel())
        return [SortedDense(layer, after, f"{path}.{2 * i}", orders[i + 1], orders[i])
                for i, (layer, after) in enumerate(zip(net[0::2], [*net[1::2], None]))]

    def form_of(self, affine):
        return super().form_of(affine)._replace(halves=False, row_blocks=tuple(layer.row_blocks for layer in self.dense),
                                                column_blocks=tuple(layer.column_blocks for layer in self.dense))

    def reversed(self, after, memory):
        before = self.inverse(after)
        return before, self.at(before, after, memory)

    def network_pullback(self, held, sums, wanted):
        last = len(self.dense) - 1
        for k, (layer, pullback) in enumerate(zip(self.last_first, held.backward)):
            pullback.activation.run()
            pullback.W_factors.run()
            flat = held.bars.flat[last - k]
            sums.add_taken(layer.W_path, flat, layer.index)
            sums.add_taken(layer.b_path, flat, layer.b_index)
            if wanted or k < last:
                pullback.entering()
