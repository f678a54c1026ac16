r"""Rational-quadratic splines of a network's numbers, tuned: knots of the one bin that holds an event, and one dense pass back.

The numbers of the splines of all entries are the columns of a matrix, `a_j` for the widths of the `K` bins and `a'_j` for their
heights; what follows for widths holds for heights too:
    p_j = exp(rate a_j) / sum_i exp(rate a_i),   w_j = floor + c p_j,   c = high - low - K floor        (1)
    x_k = low + k floor + c V_k,   V_k = sum_{j<k} p_j                              (2)
    k = the number of x_1, ..., x_(K-1) that are at most z                          (3)
Only in this bin, of width w and height h, at `t = (z - x_k)/w`, with the slopes `d_0` and `d_1` at its ends and `s = h/w`,
    x = y_k + h r (s t^2 + d_0 q),   q = t (1 - t),   r = 1/(s + (d_0 + d_1 - 2 s) q)                   (4)
    l = log(s^2 g r^2),   g = d_1 t^2 + 2 s q + d_0 (1 - t)^2                       (5)
is the map of `maps.splines.rational_quadratic_spline`, in the plain form of its source.  Its derivatives follow line by line,
and with `x_k_bar` and `w_bar` the cotangents of all numbers are
    a_j_bar = rate c p_j ([j < k] x_k_bar + [j = k] w_bar - x_k_bar V_k - w_bar p_k)                    (6)

The page takes over where a number is too large for plain exponentials, and for inverses.
"""

from __future__ import annotations

import math

import numpy as np

from ..core import real, tree
from ..maps.conditioners import Dense, ReLU, Residual, Sequential
from ..maps.coupling import Coupling
from ..maps.elementwise import SoftplusScale
from ..maps.parametrisations import KnotSlopes, PerPart, SoftmaxKnots
from ..maps.splines import RationalQuadraticSpline
from .couplings import Unusual, with_numbers_of

FIELDS, MAPS = ("input_knots", "output_knots", "slopes"), (SoftmaxKnots, SoftmaxKnots, KnotSlopes)
LARGEST = {np.dtype(np.float64): 300.0, np.dtype(np.float32): 40.0}     # exponents of plain exponentials


def is_spline(family):
    """Is it a family of such splines, the identity or a shift beyond its knots, with fixed slopes at the ends?"""
    form = family.map
    if family.bijector is not RationalQuadraticSpline or type(form) is not PerPart:
        return False
    if form.constants != (("tails", "identity"),) or form.names != FIELDS or tuple(map(type, form.maps)) != MAPS:
        return False
    widths, heights, slopes = form.maps
    plain = all(knots.clip is None and not knots.halved for knots in (widths, heights)) and widths.rate == heights.rate
    softplus = type(slopes.scale) is SoftplusScale and slopes.scale.ceiling == math.inf
    return plain and softplus and not any(isinstance(end, str) for end in slopes.ends)


class Splines:
    """The splines at numbers h (*batch, *event, P); `page(h)` gives the page's, and the pullback of their fields."""

    def __init__(self, family, h, page):
        self.widths, self.heights, self.slopes = family.map.maps
        self.h, self.at_values = h, page

    # -- by the page --------------------------------------------------------------------------------------------------

    def page(self):
        return self.at_values(self.h)[0]

    def forward_and_log_det(self, z):
        return self.page().forward_and_log_det(z)

    def inverse_and_log_det(self, x):
        return self.page().inverse_and_log_det(x)

    def slope(self, z):
        return self.page().slope(z)

    def inverse_vjp(self, x):
        return self.page().inverse_vjp(x)

    def fields_pullback(self, bars):
        """(h_bar, {}) of what the pullback of `vjp` gives for the fields."""
        return (bars["h"], {}) if "h" in bars else self.at_values(self.h)[1](bars)

    # -- the map and its pullback -------------------------------------------------------------------------------------

    def vjp(self, z):
        H = np.ascontiguousarray(self.h.reshape(-1, self.h.shape[-1]).T)
        if not max(H.max(initial=0), -H.min(initial=0)) * max(1, self.widths.rate) <= LARGEST[H.dtype]:
            return self.page().vjp(z)
        (x, log_slope), back = self.at(H, z.ravel())

        def pullback(x_bar, log_det_bar):
            z_bar, H_bar = back(x_bar.ravel(), log_det_bar.ravel())
            return z_bar.reshape(z.shape), {"h": np.ascontiguousarray(H_bar.T).reshape(self.h.shape)}

        return (x.reshape(z.shape), log_slope.reshape(z.shape)), pullback

    def at(self, H, z):
        K, M, rate = self.widths.bins, len(z), self.widths.rate
        low, high, bottom, top = self.widths.low, self.widths.high, self.heights.low, self.heights.high
        p = (rate * H[:2 * K]).reshape(2, K, M)
        np.exp(p, out=p)
        p /= p.sum(1, keepdims=True)                                                # (1)
        V = np.empty_like(p)                                                        # V_(k+1) in row k
        V[:, 0] = p[:, 0]
        for j in range(1, K):
            np.add(V[:, j - 1], p[:, j], out=V[:, j])                               # (2)
        inside = (z >= low) & (z <= high)
        u, c, c_y = np.clip(z, low, high), self.widths.spread, self.heights.spread
        inner = c * V[0, :-1]
        inner += (low + self.widths.floor * np.arange(1, K)).astype(H.dtype)[:, None]           # (2)
        passed = u >= inner
        k = np.add.reduce(passed, 0, np.intp)                                       # (3)
        before, at = k.astype(H.dtype), k * M + np.arange(M)
        (p_w, p_h), (V_w, V_h) = (each.reshape(2, K * M).take(at, 1) for each in (p, V))
        V_w -= p_w
        V_h -= p_h
        w, h = self.widths.floor + c * p_w, self.heights.floor + c_y * p_h          # (1)
        t = (u - (low + self.widths.floor * before + c * V_w)) / w                       # (2)
        y = bottom + self.heights.floor * before + c_y * V_h                             # (2)
        at += (2 * K - 1) * M
        s_0, s_1 = H.take(at, mode="clip"), H.take(at + M, mode="clip")
        scale, (first, last) = self.slopes.scale, self.slopes.ends
        d_0, e_0 = softplus(scale, s_0, k == 0, first)
        d_1, e_1 = softplus(scale, s_1, k == K - 1, last)
        f, s = 1 - t, h / w
        q, bend = t * f, d_0 + d_1 - 2 * s
        r, tt, ff = 1 / (s + bend * q), t * t, f * f                                # (4)
        n, g = s * tt + d_0 * q, d_1 * tt + 2 * s * q + d_0 * ff                    # (4) (5)
        share = n * r
        x, l = y + h * share, np.log((s * r) ** 2 * g)                              # (4) (5)
        x = np.where(inside, x, z + np.where(z < low, H.dtype.type(bottom - low), H.dtype.type(top - high)))
        l = np.where(inside, l, H.dtype.type(0))

        def back(x_bar, l_bar):
            b, l_b = x_bar * inside, l_bar * inside
            n_bar = b * h * r
            r_bar = -(n_bar * n + 2 * l_b) * r                                      # of 1/r
            g_bar = l_b / g
            s_bar = 2 * l_b / s + n_bar * tt + 2 * g_bar * q + r_bar * (1 - 2 * q)
            q_bar = n_bar * d_0 + 2 * g_bar * s + r_bar * bend
            t_bar = 2 * t * (n_bar * s + g_bar * d_1) - 2 * f * d_0 * g_bar + q_bar * (f - t)
            z_bar, per = t_bar / w, s_bar / w
            w_bar, h_bar = -(z_bar * t + per * s), b * share + per
            H_bar = np.empty_like(H)
            A = H_bar[:2 * K].reshape(2, K, M)
            for A_i, p_i, factor, start, size, V_k, p_k in ((A[0], p[0], rate * c, -z_bar, w_bar, V_w, p_w),
                                                            (A[1], p[1], rate * c_y, b, h_bar, V_h, p_h)):
                np.multiply(passed, factor * start, out=A_i[:-1])
                A_i[-1] = 0
                A_i -= factor * (start * V_k + size * p_k)
                A_i.ravel()[at - (2 * K - 1) * M] += factor * size
                A_i *= p_i                                                          # (6)
            D = H_bar[2 * K:].ravel()
            D[...] = 0
            below, above = k > 0, k < K - 1
            D[at[below] - 2 * K * M] = (e_0 * (n_bar * q + g_bar * ff + r_bar * q))[below]
            D[at[above] - (2 * K - 1) * M] = (e_1 * (g_bar * tt + r_bar * q))[above]
            return np.where(inside, z_bar, x_bar), H_bar

        return (x, l), back


def softplus(scale, s, is_end, end):
    """(the slope, its derivative with respect to s) at a knot: `end`, and 0, where it is an end of the spline."""
    v = scale.rate * s
    q = np.exp(-np.abs(v))
    d = scale.gain * (np.maximum(v, 0) + np.log1p(q)) + scale.floor
    return np.where(is_end, d.dtype.type(end), d), scale.gain * scale.rate * np.where(v > 0, 1, q) / (1 + q)


# -- couplings of vectors ----------------------------------------------------------------------------------------------

class SplineCoupling(Coupling):
    """A coupling of such splines, whose domain is known."""

    domain = codomain = real

    @staticmethod
    def takes(f):
        return is_spline(f.family) and f.passes.ndim == 1 and f.mask is None

    def map_at(self, h):
        splines = Splines(self.family, self.vectors(h), lambda h: self.family.at_values(h, -self.split.axis))
        return splines, splines.fields_pullback

    def outputs_bar(self, fields_pullback, fields_bar):
        h_bar, family_bar = fields_pullback(fields_bar)
        if self.layout == "halves":
            h_bar = np.moveaxis(h_bar, -1, -2)
        return h_bar.reshape(*h_bar.shape[:-2], h_bar.shape[-1] * h_bar.shape[-2]), family_bar


class TunedSplineCoupling:
    """A coupling of splines with a residual network as a step of `likelihood`, side 0: events are columns, arrays are kept.

    The rows of the last layer are taken in the order in which `Splines` needs them, all entries of each number.
    """

    renewed = with_numbers_of

    @staticmethod
    def takes(stage, side):
        return side == 0 and SplineCoupling.takes(stage) and is_residual(stage.net)

    def __init__(self, stage, side, path, number, space):
        self.path, self.number, self.space = path, number, space
        self.a, self.b = stage.split.a[1], stage.split.b[1]
        outputs = np.arange(len(stage.net.layers[-1].W))
        P = stage.family.size
        self.order = outputs if stage.layout == "halves" else outputs.reshape(-1, P).T.ravel()
        self.take(stage)

    def take(self, stage):
        self.page, self.splines = tree.copied(stage, SplineCoupling), Splines(stage.family, None, None)
        self.operations = list(operations(stage.net.layers, f"{self.path}.net.layers"))

    def array(self, slot, i, shape, dtype):
        return self.space.array(("spline", slot, i), shape, dtype)

    # -- the passes --------------------------------------------------------------------------------------------------

    def forward(self, event):
        (after, log_det), _ = self.passed(event, 0)
        return after, log_det, None

    def stored(self, event):
        """Its arrays stay until the next `stored` of the same number."""
        return self.passed(event, self.number)

    def at(self, event, after, memory):
        return self.passed(event, 0)[1]

    def reversed(self, after, memory):
        before = self.page.inverse(after)
        return before, self.at(before, after, memory)

    def passed(self, event, slot):
        E = event.T
        values = self.network(E[self.a], slot)
        H = values[-1]
        if not (H.size and np.abs(H).max() * max(1, self.splines.widths.rate) <= LARGEST[H.dtype]):
            raise Unusual
        z = E[self.b]
        (x, l), spline_back = self.splines.at(H.reshape(-1, z.size), z.ravel())
        after = np.empty_like(E)
        after[self.a], after[self.b] = E[self.a], x.reshape(z.shape)

        def pullback(bar, b, sums, wanted=True):
            B = bar.T
            z_bar, H_bar = spline_back(B[self.b].ravel(), np.broadcast_to(b, z.shape).ravel())
            a_bar = self.network_pullback(values, H_bar.reshape(H.shape), sums)
            new = np.empty_like(B)
            new[self.a], new[self.b] = B[self.a] + a_bar, z_bar.reshape(z.shape)
            return new.T

        return (after.T, l.reshape(z.shape).sum(0)), pullback

    # -- the network -------------------------------------------------------------------------------------------------

    def network(self, a, slot):
        """The values after each operation, the first before all; what a dense layer gives is overwritten, unless it begins a
        residual connection, for no pullback needs it.
        """
        values, begun = [np.ascontiguousarray(a)], []
        for i, (kind, layer, _) in enumerate(self.operations):
            v = values[-1]
            if kind == "begin":
                begun.append(v)
                values.append(v)
                continue
            size = len(layer.W) if kind == "dense" else len(v)
            out = v if kind != "dense" and self.follows_dense(i) else self.array(slot, i, (size, v.shape[1]), v.dtype)
            if kind == "dense":
                W, b = self.weights(i, layer)
                np.matmul(W, v, out=out)
                out += b[:, None]
            elif kind == "relu":
                np.maximum(v, 0, out=out)
            else:
                np.add(v, begun.pop(), out=out)
            values.append(out)
        return values

    def follows_dense(self, i):
        return i > 0 and self.operations[i - 1][0] == "dense"

    def weights(self, i, layer):
        """(W, b) of a layer, of the last one with its rows in order."""
        last = i == len(self.operations) - 1
        return (layer.W[self.order], layer.b[self.order]) if last else (layer.W, layer.b)

    def network_pullback(self, values, g, sums):
        """The cotangent of a; the cotangents of weights and biases go into the sums."""
        ended = []
        for i in reversed(range(len(self.operations))):
            (kind, layer, path), v = self.operations[i], values[i]
            if kind == "dense":
                self.add(i, path, g, v, sums)
                g = np.matmul(self.weights(i, layer)[0].T, g, out=self.array("bar", i, v.shape, v.dtype))
            elif kind == "relu":
                g *= values[i + 1] > 0
            elif kind == "end":
                ended.append(g)
                g = g if self.follows_dense(i) else g.copy()
            else:
                g += ended.pop()
        return g

    def add(self, i, path, g, v, sums):
        if i < len(self.operations) - 1:
            sums.add_product(f"{path}.W", g, v.T)
            sums.add(f"{path}.b", g.sum(1))
            return
        W_bar, b_bar = np.empty((len(g), len(v)), g.dtype), np.empty(len(g), g.dtype)
        W_bar[self.order], b_bar[self.order] = g @ v.T, g.sum(1)
        sums.add(f"{path}.W", W_bar)
        sums.add(f"{path}.b", b_bar)


def is_residual(net):
    """Does a network's view consist of dense layers, ReLUs and residual connections of them, with a dense layer at the end?"""
    def known(layer):
        if type(layer) is Residual:
            return type(layer.inner) is Sequential and all(map(known, layer.inner.layers))
        return type(layer) is ReLU or type(layer) is Dense and layer.W.ndim == 2 and layer.b.ndim == 1

    return type(net) is Sequential and all(map(known, net.layers)) and type(net.layers[-1]) is Dense


def operations(layers, path):
    """(kind, layer, path) of what a network does in turn; a residual connection begins and ends."""
    for i, layer in enumerate(layers):
        if type(layer) is Residual:
            yield "begin", None, None
            yield from operations(layer.inner.layers, f"{path}.{i}.inner.layers")
            yield "end", None, None
        else:
            yield "dense" if type(layer) is Dense else "relu", layer, f"{path}.{i}"
