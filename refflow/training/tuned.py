r"""Couplings with dense networks, tuned: the one place where speed is bought with text.

The map and its reverse rule are those of the pages `coupling.affine`, `coupling.additive`, `conditioners.dense` and
`conditioners.activations`; a law holds the two equal.  What differs:
- events are the columns of matrices, (D, n) for n events, so that the parts of an event are rows, contiguous;
- every array is made once, in a `Workspace`, and written again for the next chunk of events and the next step;
- sums over events go into the gradient itself.

Where a number may leave the range in which the pages' plain formulas hold, `Unusual` is raised, and the pages take over.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import scipy.linalg

from ..conditioners import Dense, ReLU, Sequential
from ..core.fields import flatten
from ..coupling import AdditiveCoupling, AffineCoupling
from ..elementwise.scales import SAFE, ExpScale


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

    def layers(self, name, sizes, n, dtype):
        """`Layers` by this name for n events; chunks of one call differ by at most one event, so that two are kept."""
        key = name, sizes, n % 2
        held = self.arrays.get(key)
        if held is None or (held.n, held.dtype) != (n, dtype):
            held = self.arrays[key] = Layers(sizes, n, dtype)
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


class Layers:
    """For n events the (M, n) values of a network's input and layers, M in `sizes`; `whole` has a row of ones below."""

    def __init__(self, sizes, n, dtype):
        self.n, self.dtype = n, dtype
        self.whole = [np.ones((M + 1, n), dtype) for M in sizes]
        self.values = [whole[:-1] for whole in self.whole]


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
        self.total, self.factor = s.sum(0), np.exp(s, out=s)

    def times(self, z):
        return np.multiply(z, self.factor, out=z)

    def over(self, y):
        return np.divide(y, self.factor, out=y)

    def cotangents(self, z, product_bar, b, s_bar):
        """(that of z, those of the convention), for z sigma; that of s is written.  b is the log-det's."""
        product_bar *= self.factor
        np.multiply(product_bar, z, out=s_bar)
        s_bar += b
        return product_bar, {}

    def inverse_cotangents(self, y, quotient_bar, b, s_bar):
        """The same for y / sigma and -b."""
        quotient_bar /= self.factor
        np.multiply(quotient_bar, y, out=s_bar)
        s_bar += b
        np.negative(s_bar, out=s_bar)
        return quotient_bar, {}


class Conventional:
    """Any other convention, by its own page."""

    def __init__(self, stage, s):
        self.sigma, self.own = stage.sigma(s), stage.scale_bar
        self.times, self.over = self.sigma.times, self.sigma.over
        self.total = np.broadcast_to(self.sigma.log, s.shape).sum(0)

    def cotangents(self, z, product_bar, b, s_bar):
        s_bar[...], own = self.sigma.cotangents(z, product_bar, b)
        return self.sigma.times(product_bar), self.own(own)

    def inverse_cotangents(self, y, quotient_bar, b, s_bar):
        s_bar[...], own = self.sigma.inverse_cotangents(y, quotient_bar, b)
        return self.sigma.over(quotient_bar), self.own(own)


class TunedDense:
    """A dense layer with its bias as one more column: h = [W b] (a, 1), where a (N + 1, n) has a last row of ones.

    With all partial sums, every entry of h is in absolute value at most |[W b]| |(a, 1)|, for the square norms of whole
    matrices, and |(h, 1)| at most `growth` |(a, 1)|.
    """

    def __init__(self, layer, path):
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
        self.between = stage.net.layers[1::2]
        self.is_relu = [type(layer) is ReLU.page for layer in self.between] + [False]
        self.dense = [TunedDense(layer, f"{path}.net.layers.{2 * i}")
                      for i, layer in enumerate(stage.net.layers[0::2])]
        self.sizes = self.dense[0].W.shape[1], *(len(layer.W) for layer in self.dense)
        self.affine = type(stage) is AffineCoupling.page
        self.plain = self.affine and type(stage.scale) is ExpScale.page and stage.scale.offset == 0
        self.halves, self.scale_first = stage.layout == "halves", self.affine and stage.order[0] == "scale"

    # -- the three passes --------------------------------------------------------------------------------------------

    def forward(self, event):
        after, log_det, _ = self.applied(event, 0, True)
        return after, log_det, None

    def stored(self, event):
        """Its arrays stay until the next `stored` of the same number."""
        after, log_det, kept = self.applied(event, self.number, True)
        return (after, log_det), self.pulled(event.T, kept)

    def at(self, event, after, memory):
        return self.pulled(event.T, self.applied(event, 0, False)[2])

    def reversed(self, after, memory):
        """One pass of the network serves the inverse and the pullback."""
        E = after.T
        t, sigma, _ = kept = self.network(E[self.a], 0, False)
        before = self.moved(E, t, sigma, 1 - self.side, 0)
        return before.T, self.pulled(before, kept)

    def applied(self, event, slot, check):
        E = event.T
        t, sigma, _ = kept = self.network(E[self.a], slot, check)
        log_det = np.zeros(E.shape[1], E.dtype) if sigma is None else sigma.total
        return self.moved(E, t, sigma, self.side, slot).T, -log_det if self.side else log_det, kept

    def moved(self, E, t, sigma, side, slot):
        """The columns with their part b moved by the map, or for side 1 by its inverse."""
        if slot:                                                        # its own array, which E is not
            new = self.space.array(("event", slot), E.shape, E.dtype)
        else:
            new = self.space.apart(("event", 0), E.shape, E.dtype, E)
        np.copyto(new, E)
        part = new[self.b]
        if side:
            part -= t
            new[self.b] = part if sigma is None else sigma.over(part)
        else:
            part = part if sigma is None else sigma.times(part)
            part += t
            new[self.b] = part
        return new

    # -- the network -------------------------------------------------------------------------------------------------

    def network(self, a, slot, check):
        """(t, sigma, (what enters each layer and leaves the last, the activations' pullbacks)).

        sigma is None for an additive coupling, a pullback None for ReLU, whose values tell its slopes.
        """
        held = self.space.layers(slot, self.sizes, a.shape[1], a.dtype)
        h, values, backs = held.whole[0], [held.values[0]], []
        np.copyto(held.values[0], a)
        bound, largest = norm(h) if check else 0, LARGEST[h.dtype]
        for i, layer in enumerate(self.dense):
            out = held.whole[i + 1]
            np.matmul(layer.kept if slot else layer.written(self.space), h, out=held.values[i + 1])
            bound *= layer.growth
            if not bound <= largest:
                raise Unusual
            h, back = out, None
            if self.is_relu[i]:                                         # which does not let a norm grow
                np.maximum(out, self.space.array("zero", out.shape, out.dtype), out=out)        # faster than with a number
            elif i < len(self.between):
                h, back = self.activated(self.between[i], out)
                bound = norm(h) if check else 0
            values.append(h[:-1])
            backs.append(back)
        t, sigma = self.t_and_sigma(values[-1], check)
        return t, sigma, (values, backs)

    def activated(self, layer, out):
        """((h, 1), the pullback of h)."""
        h, back = layer.vjp(out[:-1])
        return np.concatenate((h, out[-1:])), back

    def t_and_sigma(self, h, check):
        if not self.affine:
            return h, None
        s, t = self.pieces(h)
        if not self.plain:
            return t, Conventional(self.stage, s)
        if check and not (norm(s) <= SAFE[s.dtype] or (np.abs(s) <= SAFE[s.dtype]).all()):
            raise Unusual
        return t, Exponential(s)

    def pieces(self, h):
        """(s, t): rows of h."""
        first, second = (h[:len(h) // 2], h[len(h) // 2:]) if self.halves else (h[0::2], h[1::2])
        return (first, second) if self.scale_first else (second, first)

    # -- the pullback ------------------------------------------------------------------------------------------------

    def pulled(self, before, kept):
        t, sigma, (values, backs) = kept

        def pullback(bar, b, sums, wanted=True):
            B = self.space.own_bar(bar)
            bars = self.space.layers("bars", self.sizes, B.shape[1], B.dtype).values
            if sigma is None:
                (np.negative if self.side else np.positive)(B[self.b], out=bars[-1])
            else:
                self.affine_cotangents(before[self.b], t, sigma, B, b, bars[-1], sums)
            a_bar = self.network_pullback(values, backs, bars, sums, wanted)
            if wanted:
                B[self.a] += a_bar
            return self.space.bar

        return pullback

    def affine_cotangents(self, before, t, sigma, B, b, h_bar, sums):
        """Those of the network's outputs, into h_bar, of the part b, into B, and of the convention, into the sums."""
        s_bar, t_bar = self.pieces(h_bar)
        if self.side:
            part, own = sigma.inverse_cotangents(before - t, B[self.b], b, s_bar)
            np.negative(part, out=t_bar)
        else:
            t_bar[...] = B[self.b]
            part, own = sigma.cotangents(before, B[self.b], b, s_bar)
        B[self.b] = part
        if own:
            sums.add_all(f"{self.path}.scale", own)

    def network_pullback(self, values, backs, bars, sums, wanted):
        """The cotangent of the part a; those of weights and biases go into the sums."""
        g = bars[-1]
        ones = self.space.ones(g.shape[1], g.dtype)
        for i in reversed(range(len(self.dense))):
            if self.is_relu[i]:
                g = self.masked(g, values[i + 1])
            elif backs[i] is not None:
                g = backs[i](g)[0]
            layer = self.dense[i]
            sums.add_product(layer.W_path, g, values[i].T)
            sums.add_product(layer.b_path, g, ones)
            if i == 0 and not wanted:
                return None
            g = np.matmul(layer.W.T, g, out=bars[i])
        return g

    def masked(self, g, h):
        """The pullback of ReLU."""
        positive = self.space.array("positive", h.shape, bool)
        return np.multiply(g, np.greater(h, 0, out=positive), out=g)


def norm(a):
    return math.sqrt(np.vdot(a, a))
