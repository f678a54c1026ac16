r"""Couplings of images with convolutional networks, tuned, as `tuned` is for dense ones.

The map and its reverse rule are those of the pages `coupling.affine`, `coupling.additive`, `conditioners.conv2d` and
`normalization.glow_actnorm`; a law holds the two equal.  What differs:
- the channels come first, (C, n, H, W) for n images, and inside networks a channel is one row of numbers: the first lines of
  all images, each followed by a zero, then their second lines, and so on.  The neighbour at (dy, dx) of every position is
  dy n (W + 1) + dx further on, and what lies outside an image is a zero or beyond the ends of the row;
- where a convolution has fewer channels in than out, the nine shifted copies are made of its input, one product K G(a); where
  it has more, of its output, the sum of nine shifted products: always on the side with fewer rows;
- the scales of an activation normalisation are taken into the kernels before it: (K a + bias) sigma is
  (sigma K) a + sigma bias.

Where a number leaves the range in which the pages' plain formulas hold, `Unusual` is raised, and the pages take over.
"""

from __future__ import annotations

import math

import numpy as np

from ..conditioners import BijectorLayer, Conv2d, ReLU, Sequential
from ..coupling import AdditiveCoupling, AffineCoupling
from ..elementwise.scales import SAFE
from ..linear import DenseLinear, Pointwise
from ..normalization import GlowActNorm
from .tuned import LARGEST, Unusual, norm

SIZES = ((1, 1), (3, 3))


# -- what can be tuned ------------------------------------------------------------------------------------------------

def tunable_images(stage):
    """Is a stage's view a coupling of whole channels whose network is convolutions, each with a ReLU but the last?"""
    if type(stage) not in (AffineCoupling.page, AdditiveCoupling.page) or stage.mask.ndim != 3 or stage.split.rest != 2:
        return False
    if type(stage.net) is not Sequential.page or not stage.split.sizes[0] or stage.parameter_batch != ():
        return False
    if type(stage) is AffineCoupling.page and stage.channels is not None:           # here they come first
        return False
    units = units_of(stage.net.layers)
    return units is not None and all(relu for _, _, relu in units[:-1]) and not units[-1][2]


def units_of(layers):
    """[(index of the convolution, index of its normalisation or None, is there a ReLU?)], None for other networks."""
    units, i = [], 0
    while i < len(layers):
        conv = layers[i]
        if type(conv) is not Conv2d.page or conv.W.ndim != 4 or conv.W.shape[2:] not in SIZES or 0 in conv.W.shape:
            return None
        norm = i + 1 if i + 1 < len(layers) and is_norm(layers[i + 1]) else None
        after = i + 1 if norm is None else norm + 1
        relu = after < len(layers) and type(layers[after]) is ReLU.page
        units.append((i, norm, relu))
        i = after + relu
    return units


def is_norm(layer):
    f = layer.f if type(layer) is BijectorLayer.page else None
    return type(f) is GlowActNorm.page and not f.direct and f.rank == 3


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


class Unit:
    """A convolution, the normalisation of its output and a ReLU, at the paths of their layers."""

    def __init__(self, layers, indices, path, space, name):
        i, norm, self.relu = indices
        self.conv, self.norm = layers[i], None if norm is None else layers[norm].f
        self.conv_path, self.norm_path = f"{path}.{i}", f"{path}.{norm}.f"
        self.space, self.name = space, name
        self.pointwise = self.conv.W.shape[2:] == (1, 1)
        self.outside = not self.pointwise and self.conv.padding != "zeros"
        self.W = self.conv.W[:, :-1] if self.outside and self.conv.padding == "edge" else self.conv.W
        self.M, self.C = self.W.shape[:2]
        self.few_in = self.C <= self.M

    def scale_kernels(self):
        """sigma, sigma K as a matrix, and what is added to all positions."""
        self.sigma, total = None, 0 if self.conv.b is None else self.conv.b
        if self.norm is not None:
            w = self.norm.factor * self.norm.s
            if not (np.abs(w) <= SAFE[w.dtype]).all():
                raise Unusual
            self.sigma = np.exp(w).astype(self.W.dtype, copy=False)
            total = (total if self.norm.bias is None else total + self.norm.bias) * self.sigma
        self.shift = None if np.ndim(total) == 0 else total[:, None]
        M, C = self.M, self.C
        if self.pointwise or self.few_in:
            K, shape = self.W, (M, self.W[0].size)
        else:
            K, shape = self.W.transpose(2, 3, 0, 1), (9 * M, C)
        self.K = self.space.array(("kernels", self.name), shape, self.W.dtype)
        scale = 1 if self.sigma is None else self.sigma.reshape((M, 1, 1, 1) if K is self.W else (M, 1))
        np.multiply(K, scale, out=self.K.reshape(K.shape))

    def border_kernels(self):
        """(M, 9): what the outside adds."""
        E = self.conv.W[:, -1] if self.conv.padding == "edge" else self.conv.W.sum(1)
        E = E.reshape(self.M, 9)
        return E if self.sigma is None else E * self.sigma[:, None]

    def forward(self, a, rows, clear):
        """Rows (M, length) from rows (C, length) with zeros between the lines; `clear`: so are those of the result."""
        self.scale_kernels()
        out = self.space.array(self.name, (self.M, rows.length), a.dtype)
        if self.pointwise:
            np.matmul(self.K, a, out=out)
        elif self.few_in:
            np.matmul(self.K, self.copies(a, rows, 1), out=out)
        else:
            self.sum_of_products(self.K, a, out, rows, 1)
        if self.outside:
            out += self.border_kernels() @ rows.border(a.dtype)
        if self.shift is not None:
            out += self.shift
        if self.relu:
            np.maximum(out, self.space.array("zero", (1, rows.length), a.dtype), out=out)        # faster than a number
        if clear:
            rows.clear(out)
        return out

    def bound(self, bound, rows):
        """What the norm of the result, and any of its partial sums, cannot exceed where that of `a` is within a bound.

        The nine copies of a have three times its norm; a shift has that of one position times the root of their number.
        """
        constant = 0 if self.shift is None else norm(self.shift)
        if self.outside:
            constant += 3 * norm(self.border_kernels())
        return 3 * norm(self.K) * bound + constant * math.sqrt(rows.length)

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

    def pullback(self, a, h, bar, rows, sums, wanted):
        """The cotangent of a, (C, length), from that of h, both of which are overwritten."""
        if self.relu:
            bar *= np.greater(h, 0, out=self.space.array("positive", h.shape, bool))
        self.add_shifts(h, bar, rows, sums)
        shape = self.C, rows.length
        if self.C <= self.M:
            a_bar = self.space.array(self.name, shape, bar.dtype)                   # over h
        else:
            a_bar = self.space.apart("cotangent", shape, bar.dtype, bar)
        if self.pointwise:
            W_bar = (bar @ a.T).reshape(self.W.shape)
            np.matmul(self.K.T, bar, out=a_bar)
        elif self.few_in:
            W_bar = (self.copies(a, rows, 1) @ bar.T).T.reshape(self.W.shape)
            if wanted:
                self.sum_of_products(self.K.T, bar, a_bar, rows, -1)
        else:
            copies = self.copies(bar, rows, -1)
            W_bar = (copies @ a.T).reshape(3, 3, self.M, self.C).transpose(2, 3, 0, 1)
            np.matmul(self.K.T, copies, out=a_bar)
        self.add_kernels(W_bar, bar, rows, sums)
        return a_bar

    def add_shifts(self, h, bar, rows, sums):
        """The cotangents of biases and of the normalisation."""
        total = bar @ self.space.ones(rows.length, bar.dtype)
        total = total if self.sigma is None else total * self.sigma
        if self.norm is not None:
            if self.norm.bias is not None:
                sums.add(f"{self.norm_path}.bias", total)
            sums.add(f"{self.norm_path}.s", self.norm.factor * np.vecdot(h, bar))
        if self.conv.b is not None:
            sums.add(f"{self.conv_path}.b", total)

    def add_kernels(self, W_bar, bar, rows, sums):
        if self.sigma is not None:
            W_bar *= self.sigma[:, None, None, None]
        if self.outside:
            E_bar = (bar @ rows.border(bar.dtype).T).reshape(self.M, 1, 3, 3)
            E_bar = E_bar if self.sigma is None else E_bar * self.sigma[:, None, None, None]
            W_bar = np.concatenate((W_bar, E_bar), 1) if self.conv.padding == "edge" else W_bar + E_bar
        sums.add(f"{self.conv_path}.W", W_bar)


def new_event(space, slot, E):
    """An array like E that shares no memory with it."""
    return space.apart(("event", slot), (len(E), E[0].size), E.dtype, E).reshape(E.shape)


def own_bar(space, B):
    """The cotangent of an event in the one array that pullbacks write into."""
    own = space.array("bar", (len(B), B[0].size), B.dtype).reshape(B.shape)
    if own.ctypes.data != B.ctypes.data or own.strides != B.strides:
        np.copyto(own, B)
    return own


# -- the coupling -----------------------------------------------------------------------------------------------------

class TunedImageCoupling:
    """One coupling of a flow of images, a step of `reversible`; see `TunedCoupling`."""

    def __init__(self, stage, side, path, number, space):
        self.stage, self.side, self.path, self.number, self.space = stage, side, path, number, space
        self.a, self.b = stage.split.a[1], stage.split.b[1]
        self.affine = type(stage) is AffineCoupling.page
        self.shift_first = self.affine and stage.shift_first

    def forward(self, event):
        after, log_det, _ = self.applied(event, 0, True)
        return after, log_det, None

    def stored(self, event):
        after, log_det, kept = self.applied(event, self.number, True)
        return (after, log_det), self.pulled(event.swapaxes(0, 1), kept)

    def at(self, event, after, memory):
        return self.pulled(event.swapaxes(0, 1), self.applied(event, 0, False)[2])

    def reversed(self, after, memory):
        """One pass of the network serves the inverse and the pullback."""
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
        """The event with its part b moved by the map, or for side 1 by its inverse."""
        new = new_event(self.space, slot, E)
        new[self.a], b = E[self.a], E[self.b]
        if sigma is None:
            new[self.b] = b - t if side else b + t
        elif side:
            new[self.b] = sigma.over(b) - t if self.shift_first else sigma.over(b - t)
        else:
            new[self.b] = sigma.times(b + t) if self.shift_first else sigma.times(b) + t
        return new

    def network(self, a, slot, check):
        """(t, sigma, (rows, what enters each unit and leaves the last))."""
        layers, path = self.stage.net.layers, f"{self.path}.net.layers"
        units = [Unit(layers, indices, path, self.space, ("unit", slot, k)) for k, indices in enumerate(units_of(layers))]
        rows = self.space.kept(("images", *a.shape[1:]), lambda: Rows(*a.shape[1:]))
        h = self.space.array(("rows", slot), (len(a), rows.length), a.dtype)
        rows.images(h)[...] = a
        rows.clear(h)
        entering = [h]
        bound = norm(h) if check else 0
        for unit, following in zip(units, [*units[1:], None]):
            h = unit.forward(h, rows, following is not None and not following.pointwise)
            bound = unit.bound(bound, rows) if check else 0
            if not bound <= LARGEST[h.dtype]:
                raise Unusual
            entering.append(h)
        t, sigma = self.t_and_sigma(rows.images(h))
        return t, sigma, (units, rows, entering)

    def t_and_sigma(self, h):
        if not self.affine:
            return np.ascontiguousarray(h), None
        s, t = (np.ascontiguousarray(piece) for piece in self.pieces(h))
        return t, self.stage.sigma(s)

    def pieces(self, h):
        """(s, t): channels of h."""
        first, second = (h[:len(h) // 2], h[len(h) // 2:]) if self.stage.layout == "halves" else (h[0::2], h[1::2])
        return (first, second) if self.stage.order[0] == "scale" else (second, first)

    def pulled(self, before, kept):
        t, sigma, (units, rows, entering) = kept

        def pullback(bar, b, sums, wanted=True):
            B = own_bar(self.space, bar.swapaxes(0, 1))
            bars = self.space.array("h_bar", entering[-1].shape, B.dtype)
            rows.clear(bars)
            h_bar, b_bar = rows.images(bars), B[self.b]
            if sigma is None:
                h_bar[...] = -b_bar if self.side else b_bar
            else:
                pieces = self.pieces(h_bar)
                B[self.b] = self.affine_cotangents(before[self.b], t, sigma, b_bar, b[:, None, None], pieces, sums)
            for k in reversed(range(len(units))):
                bars = units[k].pullback(entering[k], entering[k + 1], bars, rows, sums, wanted or k > 0)
            if wanted:
                B[self.a] += rows.images(bars)
            return B.swapaxes(0, 1)

        return pullback

    def affine_cotangents(self, before, t, sigma, bar, b, pieces, sums):
        """That of the part b; those of s and t go into pieces, those of the convention into the sums."""
        s_bar, t_bar = pieces
        if self.side:
            new = sigma.over(bar)
            s_bar[...], own = sigma.inverse_cotangents(before if self.shift_first else before - t, bar, b)
            t_bar[...] = -bar if self.shift_first else -new
        else:
            new = sigma.times(bar)
            s_bar[...], own = sigma.cotangents(before + t if self.shift_first else before, bar, b)
            t_bar[...] = new if self.shift_first else bar
        sums.add_all(f"{self.path}.scale", self.stage.scale_bar(own))
        return new


# -- the other stages of a step ---------------------------------------------------------------------------------------

def tunable_channels(stage, side):
    """Is it Glow's activation normalisation or 1 x 1 convolution by a full matrix, in the direction of the paper?"""
    if side or stage.parameter_batch != () or getattr(stage, "rank", 0) != 3:
        return False
    return (type(stage) is GlowActNorm.page and not stage.direct and stage.bias is not None
            or type(stage) is Pointwise.page and type(stage.inner) is DenseLinear.page)


class TunedChannels:
    """x_p = W z_p + shift at every position p, W a matrix or diagonal; a step of `reversible`, of side 0.

    The shift of a matrix may be None.
    """

    def __init__(self, stage, side, path, number, space):
        self.stage, self.path, self.number, self.space = stage, path, number, space
        self.diagonal = type(stage) is GlowActNorm.page

    def forward(self, event):
        return *self.applied(event, 0), None

    def stored(self, event):
        after, log_det = self.applied(event, self.number)
        return (after, log_det), self.pulled(matrix(event), matrix(after))

    def at(self, event, after, memory):
        return self.pulled(matrix(event), matrix(after))

    def reversed(self, after, memory):
        X = matrix(after)
        Z = self.space.apart(("event", 0), X.shape, X.dtype, X)
        if self.diagonal:
            np.divide(X, self.sigma()[:, None], out=Z)
            Z -= self.stage.bias[:, None]
        else:
            shift = self.stage.inner.shift
            moved = X if shift is None else np.subtract(X, shift[:, None], out=Z)
            Z[...] = np.linalg.solve(self.stage.inner.W, moved)
        return event_of(Z, after), self.pulled(Z, X)

    def sigma(self):
        w = self.stage.factor * self.stage.s
        if not (np.abs(w) <= SAFE[w.dtype]).all():
            raise Unusual
        return np.exp(w)

    def applied(self, event, slot):
        Z = matrix(event)
        X = self.space.apart(("event", slot), Z.shape, Z.dtype, Z)
        if self.diagonal:
            np.add(Z, self.stage.bias[:, None], out=X)
            X *= self.sigma()[:, None]
            log_det = self.stage.factor * self.stage.s.sum() * positions(event)
        else:
            np.matmul(self.stage.inner.W, Z, out=X)
            if self.stage.inner.shift is not None:
                X += self.stage.inner.shift[:, None]
            log_det = np.linalg.slogdet(self.stage.inner.W)[1] * positions(event)
        return event_of(X, event), log_det

    def pulled(self, Z, X):
        def pullback(bar, b, sums, wanted=True):
            total = b.sum() * (X.shape[1] // len(b))
            return (self.pull_diagonal if self.diagonal else self.pull_matrix)(bar, total, Z, X, sums)

        return pullback

    def pull_diagonal(self, bar, total, Z, X, sums):
        B, factor, sigma = own_bar(self.space, bar.swapaxes(0, 1)), self.stage.factor, self.sigma()
        rows = B.reshape(X.shape)
        sums.add(f"{self.path}.s", factor * (np.vecdot(X, rows) + total))
        rows *= sigma[:, None]
        sums.add(f"{self.path}.bias", rows @ self.space.ones(X.shape[1], X.dtype))
        return B.swapaxes(0, 1)

    def pull_matrix(self, bar, total, Z, X, sums):
        W, rows = self.stage.inner.W, matrix(bar)
        path = f"{self.path}.inner"
        sums.add(f"{path}.W", rows @ Z.T + total * np.linalg.inv(W).T)
        if self.stage.inner.shift is not None:
            sums.add(f"{path}.shift", rows @ self.space.ones(X.shape[1], X.dtype))
        new = self.space.apart("moved bar", X.shape, X.dtype, rows)
        return event_of(np.matmul(W.T, rows, out=new), bar)


def matrix(event):
    """(C, n H W): the channels of images (n, C, H, W), a view where they come first in memory."""
    return event.swapaxes(0, 1).reshape(event.shape[1], event.size // event.shape[1])


def event_of(rows, like):
    """(n, C, H, W) of such a matrix."""
    return rows.reshape(like.shape[1], len(like), *like.shape[2:]).swapaxes(0, 1)


def positions(event):
    return event.shape[-1] * event.shape[-2]
