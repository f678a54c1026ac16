r"""Couplings with dense networks, tuned: the one place where speed is bought with text.

The map and its reverse rule are those of the pages `coupling.affine`, `coupling.additive`, `conditioners.dense` and
`conditioners.activations`; a law holds the two equal.  What differs:
- events are the columns of matrices, (D, n) for n events, so that the parts of an event are rows, contiguous;
- every array is made once, in a `Workspace`, and written again for the next chunk of events and the next step;
- products of matrices are stacks of small ones, as `products` says;
- sums over events go into the gradient itself.

Where a number may leave the range in which the pages' plain formulas hold, `Unusual` is raised, and the pages take over.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
import scipy.linalg

from ..conditioners import Dense, ReLU, Sequential
from ..core.fields import flatten
from ..coupling import AdditiveCoupling, AffineCoupling
from ..elementwise.scales import SAFE, ExpScale
from . import products


LARGEST = {np.dtype(dtype): float(np.finfo(dtype).max) / 2 for dtype in (np.float32, np.float64)}


class Unusual(Exception):
    """Events that need the pages' own care."""


class Workspace:
    """Arrays by name, made once; each is overwritten by the next that asks for its name."""

    def __init__(self):
        self.arrays, self.views, self.bar = {}, {}, None

    def array(self, name, shape, dtype):
        view = self.views.get(name)
        if view is not None and view.shape == shape and view.dtype == dtype:
            return view
        size = shape[0] * shape[1]
        held = self.arrays.get(name)
        if held is None or held.size < size or held.dtype != dtype:
            held = self.arrays[name] = np.zeros(size, dtype)
        view = self.views[name] = held[:size].reshape(shape)
        return view

    def apart(self, name, shape, dtype, *others):
        """An array by this name that shares no memory with some others, of at most two."""
        for i in range(3):
            array = self.array((name, i), shape, dtype)
            if not any(np.may_share_memory(array, other) for other in others):
                return array
        raise AssertionError("two arrays cannot overlap with three")

    def kept(self, name, make):
        """What `make` made when this name first came."""
        if name not in self.arrays:
            self.arrays[name] = make()
        return self.arrays[name]

    def columns(self, kind, name, form, n, dtype):
        """`kind` by this name for n events; chunks of one call differ by at most one event, so that two are kept."""
        key = name, form, n % 2
        held = self.arrays.get(key)
        if held is None or held.n != n or held.dtype != dtype:
            held = self.arrays[key] = kind(form, n, dtype)
        return held

    def ones(self, size, dtype):
        held = self.arrays.get("ones")
        if held is None or held.size < size or held.dtype != dtype:
            held = self.arrays["ones"] = np.ones(size, dtype)
        return held[:size]

    def own_bar(self, bar):
        """The cotangent of events, its first two axes exchanged, in the one array that pullbacks write into.

        `bar` is the same array with the axes as they were, to be given on.
        """
        if bar is not self.bar:
            given = bar.swapaxes(0, 1)
            self.exchanged = self.array("bar", (len(given), given[0].size), bar.dtype).reshape(given.shape)
            np.copyto(self.exchanged, given)
            self.bar = self.exchanged.swapaxes(0, 1)
        return self.exchanged


class Form(NamedTuple):
    """The sizes of a network's input and layers, and where s and t stand in its output, s unless the coupling is additive.

    `activated`: which layers have an activation other than ReLU.
    """

    sizes: tuple
    activated: tuple
    affine: bool
    halves: bool
    scale_first: bool

    def pieces(self, h):
        """(s, t): rows of h."""
        if not self.affine:
            return None, h
        first, second = (h[:len(h) // 2], h[len(h) // 2:]) if self.halves else (h[0::2], h[1::2])
        return (first, second) if self.scale_first else (second, first)


class Columns:
    """Arrays (M, n) for a network's input and each of its layers, M in the sizes of `form`, for n events.

    They are parts of `padded` arrays of zeros, which have one row more; columns that fill up the last block of a product;
    and more columns where rows would stand a multiple of 4096 bytes apart, which a processor keeps in the same few places of
    its cache.
    """

    def __init__(self, form, n, dtype):
        self.n, self.dtype = n, dtype
        block = products.column_block(n, dtype)
        self.width = -(-n // block) * block
        more = 0 if self.width * dtype.itemsize % 4096 else products.LINE // dtype.itemsize
        self.padded = [products.zeros(M + 1, self.width + more, dtype) for M in form.sizes]
        self.values = [array[:-1, :n] for array in self.padded]
        self.s, self.t = form.pieces(self.values[-1])
        matrices = [(M, N) for N, M in itertools.pairwise(form.sizes)]
        self.blocks = [block if M * (N + 1) * block <= products.SMALL else self.width for M, N in matrices]
        self.row_blocks = [products.row_blocks(M, N, n) for M, N in matrices]

    def in_blocks(self, arrays):
        """For each layer the columns of its array as those of a product with its matrix."""
        return [products.columns(array[:, :self.width], block) for array, block in zip(arrays, self.blocks)]


class Layers(Columns):
    """What enters the layers and leaves the last, each with a row of ones below.

    Of each layer `entering` is (a, 1) and `leaving` is h, in blocks of events; `before` is h for an activation other than
    ReLU, which writes over it.
    """

    def __init__(self, form, n, dtype):
        super().__init__(form, n, dtype)
        for array in self.padded:
            array[-1, :n] = 1
        leaving = [np.zeros_like(array[:-1]) if activated else array[:-1]
                   for array, activated in zip(self.padded[1:], form.activated)]
        self.before = [array[:, :n] for array in leaving]
        self.entering, self.leaving = self.in_blocks(self.padded), self.in_blocks(leaving)
        self.right = [products.right(values, N) for values, (_, N) in zip(self.values, self.row_blocks)]
        self.padded_s = form.pieces(self.padded[-1][:-1])[0]
        self.zeros = np.zeros(self.padded[0].shape[1], dtype)


class Cotangents(Columns):
    """The cotangents of `Layers`, of each layer that of a, `entering`, and that of h, `leaving`."""

    def __init__(self, form, n, dtype):
        super().__init__(form, n, dtype)
        arrays = [array[:-1] for array in self.padded]
        self.entering, self.leaving = self.in_blocks(arrays), self.in_blocks(arrays[1:])
        self.left = [products.left(values, M) for values, (M, _) in zip(self.values[1:], self.row_blocks)]
        self.positive = [np.zeros(array.shape, bool) for array in self.padded[1:]]
        self.ones = np.ones(n, dtype)


def tunable(stage):
    """Is a stage's view a coupling of vectors with a network of dense layers and activations between them?"""
    affine = type(stage) is AffineCoupling.page
    if not affine and type(stage) is not AdditiveCoupling.page or stage.mask.ndim != 1 or affine and stage.shift_first:
        return False
    if type(stage.net) is not Sequential.page or any(v.ndim for _, v in flatten(stage.scale.params() if affine else {})):
        return False
    dense, between = stage.net.layers[0::2], stage.net.layers[1::2]
    return (len(dense) == len(between) + 1
            and all(type(layer) is Dense.page and layer.W.ndim == 2 and layer.b.ndim == 1 for layer in dense)
            and all(layer.event_ndim == (0, 0) and not layer.declared for layer in between))


class Exponential:
    """sigma = exp(s), written over s; `total` is the sum of s over the entries of b."""

    def __init__(self, s):
        self.total, self.factor = np.add.reduce(s, 0), np.exp(s, out=s)

    def times(self, z, out):
        np.multiply(z, self.factor, out=out)

    def over(self, y, out):
        np.divide(y, self.factor, out=out)

    def cotangents(self, z, product_bar, b, s_bar):
        """Those of the convention, for z sigma; those of z, over `product_bar`, and of s are written; b: the log-det's."""
        product_bar *= self.factor
        np.multiply(product_bar, z, out=s_bar)
        s_bar += b

    def inverse_cotangents(self, y, quotient_bar, b, s_bar):
        """The same for y / sigma and -b."""
        quotient_bar /= self.factor
        np.multiply(quotient_bar, y, out=s_bar)
        np.subtract(-b, s_bar, out=s_bar)


class Conventional:
    """Any other convention, by its own page."""

    def __init__(self, stage, s):
        self.sigma, self.own = stage.sigma(s), stage.scale_bar
        self.total = np.broadcast_to(self.sigma.log, s.shape).sum(0)

    def times(self, z, out):
        out[...] = self.sigma.times(z)

    def over(self, y, out):
        out[...] = self.sigma.over(y)

    def cotangents(self, z, product_bar, b, s_bar):
        s_bar[...], own = self.sigma.cotangents(z, product_bar, b)
        self.times(product_bar, product_bar)
        return self.own(own)

    def inverse_cotangents(self, y, quotient_bar, b, s_bar):
        s_bar[...], own = self.sigma.inverse_cotangents(y, quotient_bar, b)
        self.over(quotient_bar, quotient_bar)
        return self.own(own)


class TunedDense:
    """A dense layer with its bias as one more column: h = [W b] (a, 1), where a (N + 1, n) has a last row of ones.

    With all partial sums, every entry of h is in absolute value at most |[W b]| |(a, 1)|, for the square norms of whole
    matrices, and |(h, 1)| at most `growth` |(a, 1)|.  `relu`: it is followed by one; `activation` is any other.
    """

    def __init__(self, layer, after, path):
        self.relu = type(after) is ReLU.page
        self.activation = None if self.relu else after
        self.W, self.b, self.W_path, self.b_path = layer.W, layer.b, f"{path}.W", f"{path}.b"
        self.shape = len(layer.W), layer.W.shape[1] + 1
        self.growth = 1 + math.hypot(scipy.linalg.norm(layer.W.ravel()), scipy.linalg.norm(layer.b))

    @functools.cached_property
    def kept(self):
        """[W b], for networks whose activations are kept."""
        return self.joined(np.empty(self.shape, self.W.dtype))

    def written(self, space):
        """[W b], until another layer is written."""
        return self.joined(space.array("[W b]", self.shape, self.W.dtype))

    def joined(self, Wb):
        Wb[:, :-1], Wb[:, -1] = self.W, self.b
        return Wb


class TunedCoupling:
    """One coupling of a flow, a step of `reversible`: number >= 1 of its line, its parameters at `path`.

    Side 0 applies the map, side 1 its inverse.
    """

    def __init__(self, stage, side, path, number, space):
        self.stage, self.side, self.path, self.number, self.space = stage, side, path, number, space
        self.a, self.b = stage.split.a[1], stage.split.b[1]
        self.is_view = isinstance(self.b, slice)
        self.sign = -1 if side else 1           # np.negative of NumPy 2.2 to 2.4 errs between columns of rows of 64 bytes
        between = [*stage.net.layers[1::2], None]
        self.dense = [TunedDense(layer, after, f"{path}.net.layers.{2 * i}")
                      for i, (layer, after) in enumerate(zip(stage.net.layers[0::2], between))]
        affine = type(stage) is AffineCoupling.page
        self.plain = affine and type(stage.scale) is ExpScale.page and stage.scale.offset == 0
        self.form = Form((self.dense[0].W.shape[1], *(len(layer.W) for layer in self.dense)),
                         tuple(layer.activation is not None for layer in self.dense), affine,
                         stage.layout == "halves", affine and stage.order[0] == "scale")

    # -- the three passes --------------------------------------------------------------------------------------------

    def forward(self, event):
        after, log_det, _ = self.applied(event, 0, True)
        return after, log_det, None

    def stored(self, event):
        """Its arrays stay until the next `stored` of the same number."""
        after, log_det, kept = self.applied(event, self.number, True)
        return (after, log_det), functools.partial(self.pullback, event.T, kept)

    def at(self, event, after, memory):
        return functools.partial(self.pullback, event.T, self.applied(event, 0, False)[2])

    def reversed(self, after, memory):
        """One pass of the network serves the inverse and the pullback."""
        E = after.T
        kept = self.network(E, 0, False)
        before = self.moved(E, kept, 1 - self.side, 0)
        return before.T, functools.partial(self.pullback, before, kept)

    def applied(self, event, slot, check):
        E = event.T
        held, sigma, _ = kept = self.network(E, slot, check)
        log_det = np.zeros(held.n, held.dtype) if sigma is None else -sigma.total if self.side else sigma.total
        return self.moved(E, kept, self.side, slot).T, log_det, kept

    def moved(self, E, kept, side, slot):
        """The columns with their part b moved by the map, or for side 1 by its inverse."""
        t, sigma = kept[0].t, kept[1]
        if slot:                                                        # its own array, which E is not
            new = self.space.array(("event", slot), E.shape, E.dtype)
        else:
            new = self.space.apart(("event", 0), E.shape, E.dtype, E)
        new[self.a], part = E[self.a], E[self.b]
        out = new[self.b] if self.is_view else np.empty_like(part)
        if side:
            np.subtract(part, t, out=out)
            if sigma is not None:
                sigma.over(out, out)
        elif sigma is None:
            np.add(part, t, out=out)
        else:
            sigma.times(part, out)
            out += t
        if not self.is_view:
            new[self.b] = out
        return new

    # -- the network -------------------------------------------------------------------------------------------------

    def network(self, E, slot, check):
        """What it makes of the part a: (layers, sigma or None, pullbacks of the activations by their numbers)."""
        held, backs = self.space.columns(Layers, slot, self.form, E.shape[1], E.dtype), {}
        held.values[0][...] = E[self.a]
        bound, largest = norm(held.padded[0]) if check else 0, LARGEST[held.dtype]
        for i, layer in enumerate(self.dense):
            np.matmul(layer.kept if slot else layer.written(self.space), held.entering[i], out=held.leaving[i])
            bound *= layer.growth
            if not bound <= largest:
                raise Unusual
            h = held.padded[i + 1]
            if layer.relu:                                              # which does not let a norm grow
                np.maximum(h, held.zeros, out=h)                        # faster than with a number
            elif layer.activation is not None:
                held.values[i + 1][...], backs[i] = layer.activation.vjp(held.before[i])
                bound = norm(h) if check else 0
        return held, self.sigma(held, check) if self.form.affine else None, backs

    def sigma(self, held, check):
        if not self.plain:
            return Conventional(self.stage, held.s)
        if check and not (norm(held.padded_s) <= SAFE[held.dtype] or (np.abs(held.s) <= SAFE[held.dtype]).all()):
            raise Unusual
        return Exponential(held.s)

    # -- the pullback ------------------------------------------------------------------------------------------------

    def pullback(self, before, kept, bar, b, sums, wanted=True):
        held, sigma, backs = kept
        B = self.space.own_bar(bar)
        bars = self.space.columns(Cotangents, "bars", self.form, held.n, held.dtype)
        if sigma is None:
            np.multiply(B[self.b], self.sign, out=bars.t)
        else:
            self.affine_cotangents(before[self.b], held.t, sigma, B, b, bars, sums)
        self.network_pullback(held, backs, bars, sums, wanted)
        if wanted:
            B[self.a] += bars.values[0]
        return self.space.bar

    def affine_cotangents(self, before, t, sigma, B, b, bars, sums):
        """Those of s and t, into `bars`, of the part b, into B, and of the convention, into the sums."""
        part = B[self.b]
        if self.side:
            own = sigma.inverse_cotangents(before - t, part, b, bars.s)
            np.multiply(part, self.sign, out=bars.t)
        else:
            bars.t[...] = part
            own = sigma.cotangents(before, part, b, bars.s)
        if not self.is_view:
            B[self.b] = part
        if own:
            sums.add_all(f"{self.path}.scale", own)

    def network_pullback(self, held, backs, bars, sums, wanted):
        """The cotangent of the part a, into `bars`; those of weights and biases go into the sums."""
        for i in reversed(range(len(self.dense))):
            layer, g = self.dense[i], bars.padded[i + 1]
            if layer.relu:
                np.multiply(g, np.greater(held.padded[i + 1], 0, out=bars.positive[i]), out=g)
            elif i in backs:
                bars.values[i + 1][...] = backs[i](bars.values[i + 1])[0]
            sums.add_product(layer.W_path, bars.left[i], held.right[i])
            sums.add_product(layer.b_path, bars.values[i + 1], bars.ones)
            if i or wanted:
                np.matmul(layer.W.T, bars.leaving[i], out=bars.entering[i])


def norm(a):
    """The root of the sum of squares of a matrix."""
    return math.sqrt(np.vdot(a, a))
