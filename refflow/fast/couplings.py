r"""Couplings with dense networks, tuned: the one place where code is longer to be faster.

The map and its reverse rule are the same as on the pages `coupling.affine`, `coupling.additive`, `conditioners.dense` and
the conditioners' activations; a law checks that the two agree.  The differences are:
- events are the columns of matrices, (D, n) for n events, so that the parts of an event are rows, contiguous;
- every array is allocated once, in a `Workspace`, and overwritten for the next chunk of events and the next step; what a
  network does with its arrays is recorded as `Operations`, because threads wait for each other wherever Python runs;
- products of matrices are stacks of small ones, as described in `products`;
- sums over events are added directly to the gradient.

Where a number may leave the range in which the pages' plain formulas hold, `Unusual` is raised, and the pages take over.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
import operator
from typing import NamedTuple

import numpy as np

from ..maps.conditioners import Dense, MaskedDense, ReLU, Sequential
from ..maps.densities.entries import HALF_LOG_2_PI
from ..core.tree import flatten
from ..maps.elementwise import ExpScale, RescaledTanhExpScale
from ..maps.elementwise.scale import SAFE
from ..maps.elementwise.tanh_exp_scale import tanh_slope
from . import products


LARGEST = {np.dtype(dtype): float(np.finfo(dtype).max) / 2 for dtype in (np.float32, np.float64)}
SIZES = 4                               # numbers of events for which arrays are kept


class Unusual(Exception):
    """Events that need the pages' own care."""


class Workspace:
    """Arrays by name, allocated once; each is overwritten by the next user of its name."""

    def __init__(self):
        self.arrays, self.views, self.sizes, self.bar = {}, {}, {}, None

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
        """An array by this name that does not share memory with the given ones, at most two."""
        for i in range(3):
            array = self.array((name, i), shape, dtype)
            if not any(np.may_share_memory(array, other) for other in others):
                return array
        raise AssertionError("two arrays cannot overlap with three")

    def kept(self, name, make):
        """The result of `make`, which is called when this name is first used."""
        if name not in self.arrays:
            self.arrays[name] = make()
        return self.arrays[name]

    def layers(self, slot, form, n, dtype, kind):
        """The layers of this slot, with the cotangents that the layers of all slots share."""
        return self.columns((slot, form), n, dtype, lambda: kind(form, n, dtype, self.cotangents(form, n, dtype)))

    def cotangents(self, form, n, dtype):
        return self.columns(("bars", form), n, dtype, lambda: Cotangents(form, n, dtype))

    def columns(self, name, n, dtype, make):
        """The `Columns` by this name for n events.

        SIZES are kept: chunks of one call differ by at most one event, and the last batch of an epoch is smaller than the others.
        """
        held = self.sizes.setdefault(name, {})
        found = held.pop((n, dtype), None) or make()
        held[n, dtype] = found                                          # the last one is the most recent
        if len(held) > SIZES:
            del held[next(iter(held))]
        return found

    def ones(self, size, dtype):
        held = self.arrays.get("ones")
        if held is None or held.size < size or held.dtype != dtype:
            held = self.arrays["ones"] = np.ones(size, dtype)
        return held[:size]

    def contiguous(self, name, E):
        """E, or a copy if its rows are not contiguous."""
        if E.flags.c_contiguous:
            return E
        copy = self.array(name, E.shape, E.dtype)
        np.copyto(copy, E)
        return copy

    def new_bar(self, shape, dtype):
        """The one array that pullbacks write cotangents of events into, with the first two axes of `shape`.

        `bar` is the same array with these two axes exchanged, to be passed on.
        """
        array = self.array("bar", (shape[0], math.prod(shape[1:])), dtype)
        self.exchanged = array if array.shape == shape else array.reshape(shape)       # recognised later by identity
        self.bar = self.exchanged.swapaxes(0, 1)
        return self.exchanged

    def own_bar(self, bar):
        """A cotangent of events, its first two axes exchanged, in that array."""
        if bar is not self.bar:
            given = bar.swapaxes(0, 1)
            np.copyto(self.new_bar(given.shape, given.dtype), given)
        return self.exchanged


class Operations(list):
    """Operations on fixed arrays: `operations(f, *a)` records f(*a), to be executed on every run."""

    def __call__(self, f, *a, **options):
        self.append(functools.partial(f, *a, **options))

    def run(self):
        for operation in self:
            operation()


class Form(NamedTuple):
    """The sizes of a network's input and layers, and where s and t stand in its output, s unless the coupling is additive.

    `activated`: which layers have an activation other than ReLU; `scale`: the class that computes the scale.  Masked layers have blocks, see
    `autoregressive`.
    """

    sizes: tuple
    activated: tuple
    affine: bool
    scale: type | None
    halves: bool
    scale_first: bool
    row_blocks: tuple = ()
    column_blocks: tuple = ()

    def pieces(self, h):
        """(s, t): rows of h."""
        if not self.affine:
            return None, h
        first, second = (h[:len(h) // 2], h[len(h) // 2:]) if self.halves else (h[0::2], h[1::2])
        return (first, second) if self.scale_first else (second, first)


class Columns:
    """Arrays (M, n) for a network's input and each of its layers, M in the sizes of `form`, for n events.

    They are parts of `padded` arrays of zeros, which have one more row; columns that fill up the last block of a product;
    and more columns if rows would lie a multiple of 4096 bytes apart, since a processor keeps such rows in the same few
    places of its cache.
    """

    def __init__(self, form, n, dtype):
        self.n, self.dtype = n, dtype
        block = n if form.row_blocks else products.column_block(n, dtype)
        self.width = -(-n // block) * block
        more = 0 if self.width * dtype.itemsize % 4096 else products.LINE // dtype.itemsize
        self.padded = [products.zeros(M + 1, self.width + more, dtype) for M in form.sizes]
        self.values = [array[:-1, :n] for array in self.padded]
        self.s, self.t = form.pieces(self.values[-1])
        matrices = [(M, N) for N, M in itertools.pairwise(form.sizes)]
        self.blocks = [block if M * (N + 1) * block <= products.SMALL else self.width for M, N in matrices]
        self.row_blocks = [products.row_blocks(M, N, n) for M, N in matrices]

    def in_blocks(self, arrays):
        """For each layer its array in the columns of a product with its matrix."""
        return [products.columns(array[:, :self.width], block) for array, block in zip(arrays, self.blocks)]


class Layers(Columns):
    """The inputs of a network's layers and the output of the last, each with a row of ones below; `matrices` holds [W b] of
    each.

    The matrices belong to the coupling `owner`, which records here what it does with its most recent event, `event`,
    and keeps views of the cotangents of events, `B`.  The operations `forward` compute everything from the first input;
    `backward` are the `LayerPullback`s, from the last layer to the first.
    """

    def __init__(self, form, n, dtype, bars):
        super().__init__(form, n, dtype)
        for array in self.padded:
            array[-1, :n] = 1
        self.owner = self.event = self.B = None
        self.backs, self.bars = {}, bars
        self.matrices = [np.empty((M, N + 1), dtype) for N, M in itertools.pairwise(form.sizes)]
        self.scale = form.scale and form.scale(self.s, form.pieces(self.padded[-1][:-1])[0])
        self.forward = self.noted_forward(form)
        self.backward = [self.noted_pullback(i, form) for i in reversed(range(len(self.matrices)))]

    def noted_forward(self, form):
        """For each layer h = [W b] (a, 1), in blocks of events, and max(h, 0) over it, or else another activation."""
        forward = Operations()
        self.leaving = leaving = [np.zeros_like(array[:-1]) if activated else array[:-1]
                   for array, activated in zip(self.padded[1:], form.activated)]
        self.before = [array[:, :self.n] for array in leaving]
        zeros = np.zeros(self.padded[0].shape[1], self.dtype)
        for i in range(len(leaving)):
            for Wb, a, h in self.products(i, form):
                forward(np.matmul, Wb, a, out=h)
            if form.activated[i]:
                forward(self.activate, i)
            elif i < len(leaving) - 1:
                forward(np.maximum, leaving[i], zeros, out=leaving[i])              # faster than with a scalar
        return forward

    def products(self, i, form):
        """(factor, factor, product) of the matrix products of a layer."""
        return [(self.matrices[i], self.in_blocks(self.padded)[i], self.in_blocks(self.leaving)[i])]

    def noted_activation(self, i, form):
        activation, bars, g = Operations(), self.bars, self.bars.padded[i + 1]
        if form.activated[i]:
            activation(self.pull_activation, i)
        elif i < len(self.matrices) - 1:
            activation(np.greater, self.padded[i + 1], 0, out=bars.positive[i])
            activation(np.multiply, g, bars.positive[i], out=g)
        return activation

    def noted_pullback(self, i, form):
        bars, (M, N), activation = self.bars, self.row_blocks[i], self.noted_activation(i, form)
        entering = functools.partial(np.matmul, self.matrices[i][:, :-1].T, bars.leaving[i], out=bars.entering[i])
        W_factors = products.left(bars.values[i + 1], M), products.right(self.values[i], N)
        return LayerPullback(activation, W_factors, (bars.values[i + 1], bars.ones), entering)

    def activate(self, i):
        self.values[i + 1][...], self.backs[i] = self.owner.dense[i].activation.vjp(self.before[i])
        if self.checked and not self.in_range(i + 1):
            raise Unusual

    def pull_activation(self, i):
        values = self.bars.values[i + 1]
        values[...] = self.backs[i](values)[0]

    def in_range(self, i):
        """Do the layers from the i-th to the next activation other than ReLU stay in range, with all partial sums?"""
        return norm(self.padded[i]) * self.owner.growth[i] <= LARGEST[self.dtype]

    def of(self, owner):
        """The same with the matrices of a coupling."""
        if self.owner is not owner:
            for layer, Wb in zip(owner.dense, self.matrices):
                Wb[:, :-1], Wb[:, -1] = layer.W, layer.b
            self.owner, self.event, self.B = owner, None, None
        return self

    def run(self, checked):
        """A pass, from the contents of the first of `values`."""
        self.checked = checked
        if checked and not self.in_range(0):
            raise Unusual
        self.forward.run()
        if self.scale is not None:
            self.scale.take(self.owner.scale, checked)


class LayerPullback(NamedTuple):
    """`activation` takes the cotangent of max(h, 0) to g, the cotangent of h; `entering` computes the cotangent of a.

    The products of the factors are the cotangents of W and b: g a^T, in blocks, and g 1.
    """

    activation: Operations
    W_factors: tuple
    b_factors: tuple
    entering: functools.partial


class Cotangents(Columns):
    """The cotangents of `Layers`: for each layer of its input a, `entering`, and of its output h, `leaving`."""

    def __init__(self, form, n, dtype):
        super().__init__(form, n, dtype)
        arrays = [array[:-1] for array in self.padded]
        self.entering, self.leaving = self.in_blocks(arrays), self.in_blocks(arrays[1:])
        self.positive = [np.zeros(array.shape, bool) for array in self.padded[1:]]
        self.ones = np.ones(n, dtype)
        if form.row_blocks:
            shapes = [(M, N + 1) for N, M in itertools.pairwise(form.sizes)]
            self.flat = [np.zeros(M * N + 1, dtype) for M, N in shapes]
            self.matrices = [flat[:-1].reshape(shape) for flat, shape in zip(self.flat, shapes)]


def is_dense(net, kind=Dense):
    """Does a network's view consist of dense layers, or masked ones, with activations between them?"""
    if type(net) is not Sequential:
        return False
    dense, between = net.layers[0::2], net.layers[1::2]
    return (len(dense) == len(between) + 1
            and all(type(layer) is kind and layer.W.ndim == 2 and layer.b.ndim == 1 for layer in dense)
            and all(layer.event_ndim == (0, 0) and not layer.declared for layer in between))


def own_numbers(form):
    """Are the scale's own parameters, if it has any, single numbers?"""
    return form.scale is None or not any(v.ndim for _, v in flatten(form.scale.params()))


def is_exponential(scale):
    return isinstance(scale, ExpScale) and scale.offset == 0


def kind_of(scale):
    """The class that computes a scale, or None without one."""
    if scale is None or is_exponential(scale):
        return scale and Exponential
    return ExponentialOfTanh if type(scale) is RescaledTanhExpScale and scale.gains is None else Conventional


class Exponential:
    """sigma = exp(s), overwriting s, which is a part of `padded` zeros; `total` is the sum of s over the entries of b."""

    def __init__(self, s, padded):
        self.factor, self.padded, self.largest = s, padded, SAFE[s.dtype]

    def take(self, scale, checked):
        s = self.factor
        if checked and not (norm(self.padded) <= self.largest or (np.abs(s) <= self.largest).all()):
            raise Unusual
        self.total = np.add.reduce(s, 0)
        np.exp(s, out=s)

    def times(self, z, out):
        np.multiply(z, self.factor, out=out)

    def quotient(self, y, out):
        np.divide(y, self.factor, out=out)

    def cotangents(self, z, product_bar, b, s_bar):
        """The convention's cotangents, for z sigma; also writes z's, over `product_bar`, and s's.  b: the log-det's."""
        product_bar *= self.factor
        np.multiply(product_bar, z, out=s_bar)
        s_bar += b

    def inverse_cotangents(self, y, quotient_bar, b, s_bar):
        """The same for y / sigma and -b."""
        quotient_bar /= self.factor
        np.multiply(quotient_bar, y, out=s_bar)
        np.subtract(-b, s_bar, out=s_bar)


class ExponentialOfTanh(Exponential):
    """sigma = exp(w), w = gain tanh(s) + shift, with trained numbers gain and shift, as `RescaledTanhExpScale` has it."""

    def __init__(self, s, padded):
        self.s, self.largest = s, SAFE[s.dtype]

    def take(self, scale, checked):
        self.gain, self.shift = scale.gain, scale.shift
        if checked and not abs(scale.gain) + abs(scale.shift or 0) <= self.largest:
            raise Unusual
        self.tanh = np.tanh(self.s)
        w = scale.gain * self.tanh if scale.shift is None else scale.gain * self.tanh + scale.shift
        self.total, self.factor = np.add.reduce(w, 0), np.exp(w, out=w)

    def cotangents(self, z, product_bar, b, s_bar):
        super().cotangents(z, product_bar, b, s_bar)
        return self.of_exponent(s_bar)

    def inverse_cotangents(self, y, quotient_bar, b, s_bar):
        super().inverse_cotangents(y, quotient_bar, b, s_bar)
        return self.of_exponent(s_bar)

    def of_exponent(self, bar):
        """The cotangents of gain and shift from w's, over which s's is written."""
        own = {"gain": np.sum(bar * self.tanh)} | ({} if self.shift is None else {"shift": np.sum(bar)})
        n, q = tanh_slope(self.s)
        bar *= self.gain * n * np.exp(q)
        return own


class Conventional:
    """Any other convention, by its own page."""

    def __init__(self, s, padded):
        self.s = s

    def take(self, scale, checked):
        self.sigma = scale.at_values(self.s)
        self.total = np.broadcast_to(self.sigma.log, self.s.shape).sum(0)

    def times(self, z, out):
        out[...] = self.sigma.times(z)

    def quotient(self, y, out):
        out[...] = self.sigma.quotient(y)

    def cotangents(self, z, product_bar, b, s_bar):
        s_bar[...], own = self.sigma.cotangents(z, product_bar, b)
        self.times(product_bar, product_bar)
        return own

    def inverse_cotangents(self, y, quotient_bar, b, s_bar):
        s_bar[...], own = self.sigma.inverse_cotangents(y, quotient_bar, b)
        self.quotient(quotient_bar, quotient_bar)
        return own


def with_numbers_of(self, value):
    """A copy for a stage or layer that differs in numbers alone: `renewed` of the classes whose `take` learns all numbers."""
    new = copy.copy(self)
    new.take(value)
    return new


class TunedDense:
    """A dense layer with its bias as one more column: h = [W b] (a, 1), where the last row of a (N + 1, n) is ones.

    With all partial sums, every entry of h is in absolute value at most |[W b]| |(a, 1)|, for the square norms of whole
    matrices, and |(h, 1)| at most `growth` |(a, 1)|, which a ReLU does not increase; `activation` is any other activation.
    """

    renewed = with_numbers_of

    def __init__(self, layer, after, path):
        self.activation = None if type(after) is ReLU else after
        self.W_path, self.b_path = f"{path}.W", f"{path}.b"
        self.take(layer)

    def take(self, layer):
        """Learn the numbers of a layer."""
        self.W, self.b = layer.weights() if type(layer) is MaskedDense else layer.W, layer.b
        self.growth = 1 + math.hypot(norm(self.W), norm(self.b))


def growths(layers):
    """For each layer, the product of `growth` from it to the next layer with an activation, or to the last."""
    found, product = [], 1.0
    for layer in reversed(layers):
        product = layer.growth if layer.activation is not None else layer.growth * product
        found.append(product)
    return found[::-1]


class TunedCoupling:
    """One coupling of a flow, a step of `likelihood`: number >= 1 of its line, its parameters at `path`.

    Side 0 applies the map, side 1 its inverse.
    """

    same_parts, kind = False, Layers        # are the parts a and b both the whole event?  what holds its layers

    @staticmethod
    def takes(stage, side):
        """Is it affine, of vectors, scaled before it is shifted, with a dense network?"""
        form = stage.affine_form
        return (form is not None and stage.passes.ndim == 1 and not form.shift_first and own_numbers(form)
                and is_dense(stage.net))

    def __init__(self, stage, side, path, number, space):
        self.side, self.path, self.number, self.space = side, path, number, space
        self.a, self.b = self.parts(stage)
        self.is_view = isinstance(self.a, slice) and isinstance(self.b, slice)
        self.sign = -1 if side else 1           # np.negative of NumPy 2.2 to 2.4 errs between columns of rows of 64 bytes
        self.last, affine = None, stage.affine_form
        self.scale_path = ".".join((path, *affine.path))
        self.take(stage, self.layers_of(stage, f"{path}.net.layers"))
        self.form = self.form_of(affine)

    def take(self, stage, dense):
        """Learn the numbers of a stage, with its layers."""
        self.dense, self.scale = dense, stage.affine_form.scale
        self.growth, self.last_first = growths(dense), dense[::-1]

    def renewed(self, stage):
        """The step of a stage that differs in numbers alone."""
        new = copy.copy(self)
        new.take(stage, [layer.renewed(page) for layer, page in zip(self.dense, stage.net.layers[0::2])])
        return new

    def parts(self, stage):
        """Where the parts a and b stand in an event."""
        return stage.split.a[1], stage.split.b[1]

    def layers_of(self, stage, path):
        net = stage.net.layers
        return [TunedDense(layer, after, f"{path}.{2 * i}")
                for i, (layer, after) in enumerate(zip(net[0::2], [*net[1::2], None]))]

    def form_of(self, affine):
        return Form((self.dense[0].W.shape[1], *(len(layer.W) for layer in self.dense)),
                    tuple(layer.activation is not None for layer in self.dense), affine.scale is not None,
                    kind_of(affine.scale), affine.layout == "halves", affine.s == 0)

    # -- the three passes --------------------------------------------------------------------------------------------

    def forward(self, event):
        held = self.passed(event, self.side, 0, True)
        return held.after, self.log_det(held), None

    def stored(self, event):
        """Its arrays stay until the next `stored` of the same number."""
        held = self.passed(event, self.side, self.number, True)
        return (held.after, self.log_det(held)), functools.partial(self.pullback, held, held.b)

    def at(self, event, after, memory):
        held = self.passed(event, self.side, 0, False)
        return functools.partial(self.pullback, held, held.b)

    def reversed(self, after, memory):
        """One pass of the network serves both the inverse and the pullback."""
        held = self.passed(after, 1 - self.side, 0, False)
        return held.after, functools.partial(self.pullback, held, held.new_b)

    def log_det(self, held):
        return np.zeros(held.n, held.dtype) if held.scale is None else self.sign * held.scale.total

    def passed(self, event, side, slot, checked):
        """`Layers` after a pass, and `after`: the event mapped by the map, or for side 1 by its inverse."""
        held = self.layers(slot, len(event), event.dtype).of(self)
        if held.event is not event or not self.is_view:
            self.bind(held, event, side, slot)
        held.enter()
        held.run(checked)
        held.move.run()
        return held

    def layers(self, slot, n, dtype):
        """The `Layers` of a slot; the last ones of this coupling's own slot are remembered."""
        if not slot:
            return self.space.layers(0, self.form, n, dtype, self.kind)
        if self.last is None or self.last.n != n or self.last.dtype != dtype:
            self.last = self.space.layers(slot, self.form, n, dtype, self.kind)
        return self.last

    def bind(self, held, event, side, slot):
        """Records the operations on the parts of an event and of its image."""
        E = self.space.contiguous(("entering", slot), event.T)
        if slot:                                                        # its own array, not E
            new = self.space.array(("event", slot), E.shape, E.dtype)
        else:
            new = self.space.apart(("event", 0), E.shape, E.dtype, E)
        a, held.b, held.new_b = E[self.a], E[self.b], new[self.b]
        held.event = event if slot and event.flags.f_contiguous else None       # other arrays do not come again
        held.after, held.move = new.T, Operations()
        held.enter = functools.partial(np.copyto, held.values[0], a)
        if not self.same_parts:
            held.move(operator.setitem, new, self.a, a)
        self.note_move(held, side)
        if not self.is_view:
            held.move(operator.setitem, new, self.b, held.new_b)

    def note_move(self, held, side):
        move, b, t, scale, out = held.move, held.b, held.t, held.scale, held.new_b
        if side:
            move(np.subtract, b, t, out=out)
            if scale is not None:
                move(scale.quotient, out, out)
        elif scale is None:
            move(np.add, b, t, out=out)
        else:
            move(scale.times, b, out)
            move(np.add, out, t, out=out)

    # -- the pullback ------------------------------------------------------------------------------------------------

    def pullback(self, held, before, bar, b, sums, wanted=True):
        """`before`: the part b of the event before the step."""
        B, bars = self.space.own_bar(bar), held.bars
        if held.B is not B or not self.is_view:
            held.B, held.B_a, held.B_b = B, B[self.a], B[self.b]
        if held.scale is None:
            np.multiply(held.B_b, self.sign, out=bars.t)
        else:
            self.affine_cotangents(before, held.t, held.scale, held.B_b, b, bars, sums)
        if not self.is_view:
            B[self.b] = held.B_b
        self.network_pullback(held, sums, wanted)
        if wanted:
            np.add(held.B_a, bars.values[0], out=held.B_a)
            if not self.is_view:
                B[self.a] = held.B_a
        return self.space.bar

    def affine_cotangents(self, before, t, sigma, part, b, bars, sums):
        """The cotangents of s and t, into `bars`; of the part b, overwriting its own; and of the convention, into the sums."""
        if self.side:
            own = sigma.inverse_cotangents(before - t, part, b, bars.s)
            np.multiply(part, self.sign, out=bars.t)
        else:
            np.copyto(bars.t, part)
            own = sigma.cotangents(before, part, b, bars.s)
        if own:
            sums.add_all(self.scale_path, own)

    def network_pullback(self, held, sums, wanted):
        """The cotangent of the part a, if wanted, into `bars`; the cotangents of weights and biases go into the sums."""
        for layer, (activation, W_factors, b_factors, entering) in zip(self.last_first, held.backward):
            activation.run()
            sums.add_product(layer.W_path, *W_factors)
            sums.add_product(layer.b_path, *b_factors)
            if wanted or layer is not self.dense[0]:
                entering()


class TunedNormal:
    """The standard normal density of vectors, by its page; its cotangents go to the same place as a coupling's."""

    @staticmethod
    def takes(z):
        """Are the events columns of z^T?"""
        return z.ndim == 2 and z.flags.f_contiguous

    def __init__(self, base, space):
        self.constant, self.space = math.prod(base.shape) * HALF_LOG_2_PI, space

    def log_prob_vjp(self, z):
        E = z.T
        squares = np.multiply(E, E, out=self.space.array("squares", E.shape, E.dtype))
        return np.add.reduce(squares, 0) / -2 - self.constant, functools.partial(self.pullback, E)

    def pullback(self, E, b):
        np.multiply(E, -b, out=self.space.new_bar(E.shape, E.dtype))
        return self.space.bar, {}


def norm(a):
    """The root of the sum of squares of a matrix."""
    return math.sqrt(np.vdot(a, a))
