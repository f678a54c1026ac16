r"""Couplings of images with convolutional networks, tuned, as `couplings` does for dense networks.

The map and its reverse rule are the same as on the pages `coupling.affine`, `coupling.additive`, `conditioners.conv2d` and
`normalization.glow_actnorm`; a law checks that the two agree.  The differences are:
- the channels come first, (C, n, H, W) for n images, and inside networks a channel is one row of numbers: the first lines of
  all images, each followed by a zero, then their second lines, and so on.  The neighbour at (dy, dx) of every position is
  dy n (W + 1) + dx further on, and what lies outside an image is a zero or lies beyond the ends of the row;
- if a convolution has fewer channels in than out, the nine shifted copies are made of its input, in one product K G(a);
  if it has more, of its output, as the sum of nine shifted products: always on the side with fewer rows;
- the scales of an activation normalisation are multiplied into the preceding kernels: (K a + bias) sigma is
  (sigma K) a + sigma bias.

Where a number leaves the range in which the pages' plain formulas hold, `Unusual` is raised, and the pages take over.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy

from ..maps.conditioners import BijectorLayer, Conv2d, ReLU, Sequential
from ..maps.elementwise.scale import SAFE
from ..maps.linear import DenseLinear
from ..maps.normalization import GlowActNorm
from .couplings import LARGEST, Unusual, norm, with_numbers_of

SIZES = ((1, 1), (3, 3))


# -- what can be tuned ------------------------------------------------------------------------------------------------

def is_convolutional(net):
    """Does a network's view consist of convolutions, each but the last followed by a ReLU?"""
    units = units_of(net.layers) if type(net) is Sequential else None
    return units is not None and all(relu for _, _, relu in units[:-1]) and not units[-1][2]


def units_of(layers):
    """[(index of the convolution, index of its normalisation or None, is there a ReLU?)], or None for other networks."""
    units, i = [], 0
    while i < len(layers):
        conv = layers[i]
        if type(conv) is not Conv2d or conv.W.ndim != 4 or conv.W.shape[2:] not in SIZES or 0 in conv.W.shape:
            return None
        norm = i + 1 if i + 1 < len(layers) and is_norm(layers[i + 1]) else None
        after = i + 1 if norm is None else norm + 1
        relu = after < len(layers) and type(layers[after]) is ReLU
        units.append((i, norm, relu))
        i = after + relu
    return units


def is_norm(layer):
    f = layer.f if type(layer) is BijectorLayer else None
    return type(f) is GlowActNorm and not f.direct and f.rank == 3


# -- images in rows ---------------------------------------------------------------------------------------------------

class Rows:
    """Where the entries of n images stand in the row of their channel."""

    def __init__(self, n, H, W):
        self.shape, self.line = (n, H, W), n * (W + 1)
        self.length = H * self.line
        offsets = [dy * self.line + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        self.neighbours = {sign: [self.ranges(sign * offset) for offset in offsets] for sign in (1, -1)}

    def lines(self, rows):
        n, H, W = self.shape
        return rows.reshape(len(rows), H, n, W + 1)

    def images(self, rows):
        """(M, n, H, W), a view of rows (M, length)."""
        return self.lines(rows)[..., :-1].swapaxes(1, 2)

    def clear(self, rows):
        """Zeros between the lines."""
        self.lines(rows)[..., -1] = 0

    def ranges(self, offset):
        """(positions that have a neighbour at `offset`, the neighbours)."""
        lower = max(0, -offset)
        upper = max(lower, self.length - max(0, offset))        # no position has a neighbour in an image of one row
        return slice(lower, upper), slice(lower + offset, upper + offset)

    def border(self, dtype):
        """(9, length): is the neighbour outside its image?"""
        outside = np.ones((9, self.length), dtype)
        inside = np.zeros((1, self.length), dtype)
        self.images(inside)[...] = 1
        for row, (here, there) in zip(outside, self.neighbours[1]):
            row[here] -= inside[0, there]
        return outside


class Scaled(NamedTuple):
    """A unit's factors and terms: sigma, sigma K as a matrix, a number for each channel; `name` is the name of its arrays."""

    name: tuple
    K: np.ndarray
    sigma: np.ndarray | None
    shift: np.ndarray | None


class Unit:
    """A convolution, the normalisation of its output and a ReLU, at the paths of their layers."""

    def __init__(self, layers, indices, path, space, k):
        i, norm, self.relu = indices
        self.conv, self.norm = layers[i], None if norm is None else layers[norm].f
        self.conv_path, self.norm_path = f"{path}.{i}", f"{path}.{norm}.f"
        self.space, self.k = space, k
        self.pointwise = self.conv.W.shape[2:] == (1, 1)
        self.outside = not self.pointwise and self.conv.padding != "zeros"
        self.W = self.conv.W[:, :-1] if self.outside and self.conv.padding == "edge" else self.conv.W
        self.M, self.C = self.W.shape[:2]
        self.few_in = self.C <= self.M

    def scaled(self, slot):
        """The current kernels, in the arrays of this unit's place in networks of `slot`."""
        name, sigma, total = ("unit", slot, self.k), None, 0 if self.conv.b is None else self.conv.b
        if self.norm is not None:
            w = self.norm.factor * self.norm.s
            if not (np.abs(w) <= SAFE[w.dtype]).all():
                raise Unusual
            sigma = np.exp(w).astype(self.W.dtype, copy=False)
            total = (total if self.norm.bias is None else total + self.norm.bias) * sigma
        if self.pointwise or self.few_in:
            K, shape = self.W, (self.M, self.W[0].size)
        else:
            K, shape = self.W.transpose(2, 3, 0, 1), (9 * self.M, self.C)
        scaled = self.space.array(("kernels", name), shape, self.W.dtype)
        scale = 1 if sigma is None else sigma.reshape((self.M, 1, 1, 1) if K is self.W else (self.M, 1))
        np.multiply(K, scale, out=scaled.reshape(K.shape))
        return Scaled(name, scaled, sigma, None if np.ndim(total) == 0 else total[:, None])

    def border_kernels(self, sigma):
        """(M, 9): the contribution from outside the image."""
        E = self.conv.W[:, -1] if self.conv.padding == "edge" else self.conv.W.sum(1)
        E = E.reshape(self.M, 9)
        return E if sigma is None else E * sigma[:, None]

    def forward(self, a, rows, scaled, clear):
        """Rows (M, length) from rows (C, length) with zeros between the lines; `clear`: the result has zeros there too."""
        out = self.space.array(scaled.name, (self.M, rows.length), a.dtype)
        if self.pointwise:
            np.matmul(scaled.K, a, out=out)
        elif self.few_in:
            np.matmul(scaled.K, self.copies(a, rows, 1), out=out)
        else:
            self.sum_of_products(scaled.K, a, out, rows, 1)
        if self.outside:
            out += self.border_kernels(scaled.sigma) @ rows.border(a.dtype)
        if scaled.shift is not None:
            out += scaled.shift
        if self.relu:
            np.maximum(out, self.space.array("zero", (1, rows.length), a.dtype), out=out)        # faster than a scalar
        if clear:
            rows.clear(out)
        return out

    def bound(self, bound, rows, scaled):
        """A bound on the norm of the result, and on all partial sums, given a bound on the norm of `a`.

        The nine copies of a have three times its norm; a shift has the norm at one position times the root of their number.
        """
        constant = 0 if scaled.shift is None else norm(scaled.shift)
        if self.outside:
            constant += 3 * norm(self.border_kernels(scaled.sigma))
        return 3 * norm(scaled.K) * bound + constant * math.sqrt(rows.length)

    def copies(self, a, rows, sign):
        """The nine neighbours of each row, of (c, dy, dx) in C order for sign 1, of (-dy, -dx, c) for sign -1."""
        C = len(a)
        copies = self.space.array("nine", (9 * C, rows.length), a.dtype)
        each = copies.reshape(C, 9, rows.length).swapaxes(0, 1) if sign == 1 else copies.reshape(9, C, rows.length)
        for copy, (here, there) in zip(each, rows.neighbours[sign]):
            copy[:, here] = a[:, there]
            copy[:, :here.start], copy[:, here.stop:] = 0, 0
        return copies

    def sum_of_products(self, K, a, out, rows, sign):
        """The adjoint of `copies` applied to K a, from (dy, dx, m) for sign 1, from (m, -dy, -dx) for sign -1."""
        products = self.space.array("nine", (len(K), rows.length), a.dtype)
        np.matmul(K, a, out=products)
        if sign == 1:
            each = products.reshape(9, len(out), rows.length)
        else:
            each = products.reshape(len(out), 9, rows.length).swapaxes(0, 1)
        np.copyto(out, each[4])                                 # the position itself
        for k, (here, there) in enumerate(rows.neighbours[sign]):
            if k != 4:
                target = out[:, here]
                target += each[k][:, there]

    def pullback(self, a, h, bar, rows, scaled, sums, wanted):
        """The cotangent of a, (C, length), from the cotangent of h; both a and h's cotangent are overwritten."""
        if self.relu:
            bar *= np.greater(h, 0, out=self.space.array("positive", h.shape, bool))
        self.add_shifts(h, bar, rows, scaled.sigma, sums)
        shape = self.C, rows.length
        if self.C <= self.M:
            a_bar = self.space.array(scaled.name, shape, bar.dtype)                 # over h
        else:
            a_bar = self.space.apart("cotangent", shape, bar.dtype, bar)
        if self.pointwise:
            W_bar = (bar @ a.T).reshape(self.W.shape)
            np.matmul(scaled.K.T, bar, out=a_bar)
        elif self.few_in:
            W_bar = (self.copies(a, rows, 1) @ bar.T).T.reshape(self.W.shape)
            if wanted:
                self.sum_of_products(scaled.K.T, bar, a_bar, rows, -1)
        else:
            copies = self.copies(bar, rows, -1)
            W_bar = (copies @ a.T).reshape(3, 3, self.M, self.C).transpose(2, 3, 0, 1)
            np.matmul(scaled.K.T, copies, out=a_bar)
        self.add_kernels(W_bar, bar, rows, scaled.sigma, sums)
        return a_bar

    def add_shifts(self, h, bar, rows, sigma, sums):
        """The cotangents of biases and of the normalisation."""
        total = bar @ self.space.ones(rows.length, bar.dtype)
        total = total if sigma is None else total * sigma
        if self.norm is not None:
            if self.norm.bias is not None:
                sums.add(f"{self.norm_path}.bias", total)
            sums.add(f"{self.norm_path}.s", self.norm.factor * np.vecdot(h, bar))
        if self.conv.b is not None:
            sums.add(f"{self.conv_path}.b", total)

    def add_kernels(self, W_bar, bar, rows, sigma, sums):
        if sigma is not None:
            W_bar *= sigma[:, None, None, None]
        if self.outside:
            E_bar = (bar @ rows.border(bar.dtype).T).reshape(self.M, 1, 3, 3)
            E_bar = E_bar if sigma is None else E_bar * sigma[:, None, None, None]
            W_bar = np.concatenate((W_bar, E_bar), 1) if self.conv.padding == "edge" else W_bar + E_bar
        sums.add(f"{self.conv_path}.W", W_bar)


def new_event(space, slot, E):
    """An array like E that does not share memory with it."""
    return space.apart(("event", slot), (len(E), E[0].size), E.dtype, E).reshape(E.shape)


# -- the coupling -----------------------------------------------------------------------------------------------------

class TunedImageCoupling:
    """One coupling of a flow of images, a step of `likelihood`; see `TunedCoupling`."""

    renewed = with_numbers_of

    @staticmethod
    def takes(stage, side):
        """Is it affine, of whole channels without gains of their own, with a convolutional network?"""
        form = stage.affine_form
        if form is None or form.channels is not None or stage.passes.ndim != 3 or stage.split.rest != 2:
            return False
        return bool(stage.split.sizes[0]) and stage.parameter_batch == () and is_convolutional(stage.net)

    def __init__(self, stage, side, path, number, space):
        self.side, self.path, self.number, self.space = side, path, number, space
        self.a, self.b = stage.split.a[1], stage.split.b[1]
        self.take(stage)
        self.shift_first, self.scale_path = self.affine.shift_first, ".".join((path, *self.affine.path))
        self.clear = [not following.pointwise for following in self.units[1:]] + [False]

    def take(self, stage):
        self.affine, layers = stage.affine_form, stage.net.layers
        self.units = [Unit(layers, indices, f"{self.path}.net.layers", self.space, k)
                      for k, indices in enumerate(units_of(layers))]

    def forward(self, event):
        after, log_det, _ = self.applied(event, 0, True)
        return after, log_det, None

    def stored(self, event):
        after, log_det, kept = self.applied(event, self.number, True)
        return (after, log_det), self.pulled(event.swapaxes(0, 1), kept)

    def at(self, event, after, memory):
        return self.pulled(event.swapaxes(0, 1), self.applied(event, 0, False)[2])

    def reversed(self, after, memory):
        """One pass of the network serves both the inverse and the pullback."""
        E = after.swapaxes(0, 1)
        t, sigma, _ = kept = self.network(E[self.a], 0, False)
        before = self.moved(E, t, sigma, 1 - self.side, 0)
        return before.swapaxes(0, 1), self.pulled(before, kept)

    def applied(self, event, slot, check):
        E = event.swapaxes(0, 1)
        t, sigma, _ = kept = self.network(E[self.a], slot, check)
        after = self.moved(E, t, sigma, self.side, slot)
        if sigma is None:
            log_det = np.zeros(E.shape[1], E.dtype)
        else:
            log_det = np.broadcast_to(sigma.log, t.shape).sum((0, 2, 3))
        return after.swapaxes(0, 1), -log_det if self.side else log_det, kept

    def moved(self, E, t, sigma, side, slot):
        """The event with its part b mapped by the map, or for side 1 by its inverse."""
        new = new_event(self.space, slot, E)
        new[self.a], b = E[self.a], E[self.b]
        if sigma is None:
            new[self.b] = b - t if side else b + t
        elif side:
            new[self.b] = sigma.quotient(b) - t if self.shift_first else sigma.quotient(b - t)
        else:
            new[self.b] = sigma.times(b + t) if self.shift_first else sigma.times(b) + t
        return new

    def network(self, a, slot, check):
        """(t, sigma, (rows, the inputs of the units and the output of the last, the units' kernels))."""
        rows = self.space.kept(("images", *a.shape[1:]), lambda: Rows(*a.shape[1:]))
        h = self.space.array(("rows", slot), (len(a), rows.length), a.dtype)
        rows.images(h)[...] = a
        rows.clear(h)
        entering, kernels = [h], []
        bound = norm(h) if check else 0
        for unit, clear in zip(self.units, self.clear):
            kernels.append(unit.scaled(slot))
            h = unit.forward(h, rows, kernels[-1], clear)
            bound = unit.bound(bound, rows, kernels[-1]) if check else 0
            if not bound <= LARGEST[h.dtype]:
                raise Unusual
            entering.append(h)
        t, sigma = self.t_and_sigma(rows.images(h))
        return t, sigma, (rows, entering, kernels)

    def t_and_sigma(self, h):
        if self.affine.scale is None:
            return np.ascontiguousarray(h), None
        s, t = (np.ascontiguousarray(piece) for piece in self.pieces(h))
        return t, self.affine.scale.at_values(s)

    def pieces(self, h):
        """(s, t): channels of h."""
        first, second = (h[:len(h) // 2], h[len(h) // 2:]) if self.affine.layout == "halves" else (h[0::2], h[1::2])
        return (first, second) if self.affine.s == 0 else (second, first)

    def pulled(self, before, kept):
        t, sigma, (rows, entering, kernels) = kept

        def pullback(bar, b, sums, wanted=True):
            B = self.space.own_bar(bar)
            bars = self.space.array("h_bar", entering[-1].shape, B.dtype)
            rows.clear(bars)
            h_bar, b_bar = rows.images(bars), B[self.b]
            if sigma is None:
                h_bar[...] = -b_bar if self.side else b_bar
            else:
                pieces = self.pieces(h_bar)
                B[self.b] = self.affine_cotangents(before[self.b], t, sigma, b_bar, b[:, None, None], pieces, sums)
            for k in reversed(range(len(self.units))):
                bars = self.units[k].pullback(entering[k], entering[k + 1], bars, rows, kernels[k], sums, wanted or k > 0)
            if wanted:
                B[self.a] += rows.images(bars)
            return self.space.bar

        return pullback

    def affine_cotangents(self, before, t, sigma, bar, b, pieces, sums):
        """The cotangent of the part b; the cotangents of s and t go into pieces, the convention's into the sums."""
        s_bar, t_bar = pieces
        if self.side:
            new = sigma.quotient(bar)
            s_bar[...], own = sigma.inverse_cotangents(before if self.shift_first else before - t, bar, b)
            t_bar[...] = -bar if self.shift_first else -new
        else:
            new = sigma.times(bar)
            s_bar[...], own = sigma.cotangents(before + t if self.shift_first else before, bar, b)
            t_bar[...] = new if self.shift_first else bar
        sums.add_all(self.scale_path, own)
        return new


# -- the other stages of a step ---------------------------------------------------------------------------------------

def of_images(stage, side):
    """Is it a map of images with one set of parameters, applied in the direction of Glow's paper?"""
    return side == 0 and stage.rank == 3 and stage.parameter_batch == ()


class TunedNorm:
    """x_p = (z_p + bias) sigma at every position p; a step of `likelihood`, of side 0."""

    renewed = with_numbers_of

    @staticmethod
    def takes(stage, side):
        return of_images(stage, side) and not stage.direct and stage.bias is not None

    def __init__(self, stage, side, path, number, space):
        self.path, self.number, self.space = path, number, space
        self.take(stage)

    def take(self, stage):
        self.stage = stage

    def forward(self, event):
        after, log_det, _ = self.applied(event, 0)
        return after, log_det, None

    def stored(self, event):
        after, log_det, sigma = self.applied(event, self.number)
        return (after, log_det), self.pulled(matrix(after), sigma)

    def at(self, event, after, memory):
        known, _, sigma = self.applied(event, 0)                # `after` may have been written over
        return self.pulled(matrix(known), sigma)

    def reversed(self, after, memory):
        X, sigma = matrix(after), self.sigma()
        Z = self.space.apart(("event", 0), X.shape, X.dtype, X)
        np.divide(X, sigma, out=Z)
        Z -= self.stage.bias[:, None]
        return event_of(Z, after), self.pulled(X, sigma)

    def sigma(self):
        w = self.stage.factor * self.stage.s
        if not (np.abs(w) <= SAFE[w.dtype]).all():
            raise Unusual
        return np.exp(w)[:, None]

    def applied(self, event, slot):
        Z, sigma = matrix(event), self.sigma()
        X = self.space.apart(("event", slot), Z.shape, Z.dtype, Z)
        np.add(Z, self.stage.bias[:, None], out=X)
        X *= sigma
        return event_of(X, event), self.stage.factor * self.stage.s.sum() * positions(event), sigma

    def pulled(self, X, sigma):
        def pullback(bar, b, sums, wanted=True):
            B = self.space.own_bar(bar)
            rows = B.reshape(X.shape)
            sums.add(f"{self.path}.s", self.stage.factor * (np.vecdot(X, rows) + over_positions(b, X)))
            rows *= sigma
            sums.add(f"{self.path}.bias", rows @ self.space.ones(X.shape[1], X.dtype))
            return self.space.bar

        return pullback


class TunedMatrix:
    """x_p = W z_p + shift at every position p, the shift perhaps None; a step of `likelihood`, of side 0.

    One elimination of W serves log-det, inverse and gradient.
    """

    renewed = with_numbers_of

    @staticmethod
    def takes(stage, side):
        return of_images(stage, side) and type(stage.inner) is DenseLinear

    def __init__(self, stage, side, path, number, space):
        self.path, self.number, self.space = f"{path}.inner", number, space
        self.take(stage)
        self.getrf, self.getrs, self.getri = scipy.linalg.get_lapack_funcs(("getrf", "getrs", "getri"), (self.W,))

    def take(self, stage):
        self.W, self.shift = stage.inner.W, None if stage.inner.shift is None else stage.inner.shift[:, None]

    def forward(self, event):
        after, log_det, _ = self.applied(event, 0)
        return after, log_det, None

    def stored(self, event):
        after, log_det, factors = self.applied(event, self.number)
        return (after, log_det), self.pulled(matrix(event), factors)

    def at(self, event, after, memory):
        return self.pulled(matrix(event), self.factors())

    def reversed(self, after, memory):
        X, factors = matrix(after), self.factors()
        Z = self.space.apart(("event", 0), X.shape, X.dtype, X)
        moved = X if self.shift is None else np.subtract(X, self.shift, out=Z)
        Z[...] = self.getrs(*factors, moved)[0]
        return event_of(Z, after), self.pulled(Z, factors)

    def factors(self):
        """(L and U in one matrix, pivots)."""
        LU, pivots, singular = self.getrf(self.W)
        if singular:
            raise Unusual
        return LU, pivots

    def applied(self, event, slot):
        Z, factors = matrix(event), self.factors()
        X = self.space.apart(("event", slot), Z.shape, Z.dtype, Z)
        np.matmul(self.W, Z, out=X)
        if self.shift is not None:
            X += self.shift
        log_det = np.log(np.abs(factors[0].diagonal())).sum() * positions(event)
        return event_of(X, event), log_det, factors

    def pulled(self, Z, factors):
        def pullback(bar, b, sums, wanted=True):
            rows = matrix(bar)
            W_bar = rows @ Z.T
            W_bar += over_positions(b, Z) * self.getri(*factors)[0].T
            sums.add(f"{self.path}.W", W_bar)
            if self.shift is not None:
                sums.add(f"{self.path}.shift", rows @ self.space.ones(Z.shape[1], Z.dtype))
            new = self.space.apart("moved bar", Z.shape, Z.dtype, rows)
            return event_of(np.matmul(self.W.T, rows, out=new), bar)

        return pullback


def over_positions(b, rows):
    """The sum over the events of b times the positions of each, where `rows` is the number of rows of all events."""
    return b.sum() * (rows.shape[1] // len(b))


def matrix(event):
    """(C, n H W): the channels of images (n, C, H, W), a view if the channels come first in memory."""
    return event.swapaxes(0, 1).reshape(event.shape[1], event.size // event.shape[1])


def event_of(rows, like):
    """(n, C, H, W) of such a matrix."""
    return rows.reshape(like.shape[1], len(like), *like.shape[2:]).swapaxes(0, 1)


def positions(event):
    return event.shape[-1] * event.shape[-2]
