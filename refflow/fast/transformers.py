r"""Causal networks of tokens, tuned: tokens are the rows of matrices, and attention goes through its queries in blocks.

A signal `(B, C, T)` becomes rows `(B, T, C)`, so that a layer of single tokens is one product of matrices, without a transpose before
and after it.  The pages give the maps and their reverse rules.  Three layers are computed in another form.

Attention.  The queries `i` of a block see no key after the last of them.  With `m_i` the largest score of a query,
    s_ij = <q_i, k_j> / d^(1/2),   n_i = sum_j exp(s_ij - m_i)      for j <= i      (1)
    P_ij = exp(s_ij - m_i) / n_i,   h_i = sum_j P_ij v_j                            (2)
Only `m_i` and `n_i` are kept.  The pullback computes (1) and (2) again, so that memory grows with `T`, and not with `T^2`.  With
`g = h_bar`,
    c_ij = <g_i, v_j>,   c_ij <- c_ij - sum_l P_il c_il   twice,   s_bar_ij = P_ij c_ij         (3)
If one `P_ij` is near 1, rounding the first difference leaves an error that is large beside the result.  The second difference removes
that error.

Layer normalisation.  Where squares are far inside the floats, with the mean `mu` of the `N` entries,
    r = N^(1/2) / (sum_j (a_j - mu)^2 + N eps)^(1/2),   n = r (a - mu)              (4)
and (4) to (8) of its page.  The rounding of `mu` counts as if `a` had been rounded; the page subtracts it again.

GELU in float32.  With a polynomial `p` of degree 6,
    Phi(a) = 1 / (1 + exp(-a p(a^2)))                                               (5)
Of all these polynomials, `p` has the least error of `max(|a|, 1) Phi(a)` for `a^2 <= 30`.  Beyond 30 it increases, and `Phi` is 0 or 1 up
to rounding.  With the unit roundoff `u`, the error of
    h = a Phi(a)                is at most 4 u max(|a|, 1)                          (6)
    dh/da = Phi(a) + a phi(a)   is at most 6 u                                      (7)

A pullback keeps its arrays in a `Room`, which the next step of training uses again.  The system would fill newly allocated memory with
zeros first.  A pass without a pullback keeps one sum for all layers that add to it.

Where scores are so large that their page computes differences exactly, squares leave this range, or a sum overflows, the pages take over.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..core.products import event_sum, outer_sum, product
from ..maps.conditioners import GELU, Dense, LayerNorm, Positionwise, RelativeAttention, ReshapedNetwork, Residual, Sequential
from ..maps.conditioners.positionwise import as_signal, as_vectors
from ..maps.elementwise.normal_cdf import ROOT_TWO_PI

ROWS = 64                               # queries of a block
AT_ONCE = 2**15                         # numbers in one pass of GELU, so that they stay in the processor's cache
LEAST = 2.0**-100                       # of eps of a layer normalisation by (4); its inverse, of the largest variance
MINUS_LOGIT = tuple(np.array(number, np.float32) for number in (                # -p of (5); of all forms, NumPy is fastest with arrays
    -1.5957689, -0.072667822, 6.5909502e-05, 0.00011055589, -7.946227e-06, 2.6729379e-07, -3.6187275e-09))
ONE = np.array(1, np.float32)


class Room:
    """The arrays that one pullback keeps.  The next one takes them over in the same order, where their shapes are the same.

    Of a pass without a pullback it `keeps` nothing longer than a layer needs it.
    """

    def __init__(self, keeps=True):
        self.arrays, self.count, self.keeps = [], 0, keeps

    def array(self, shape, dtype):
        """An array that holds any numbers."""
        i, self.count = self.count, self.count + 1
        if i == len(self.arrays):
            self.arrays.append(np.empty(shape, dtype))
        elif self.arrays[i].shape != shape or self.arrays[i].dtype != dtype:
            self.arrays[i] = np.empty(shape, dtype)
        return self.arrays[i]

    def emptied(self):
        """The same room, whose arrays may be overwritten."""
        self.count = 0
        return self


class TunedNetwork(ReshapedNetwork):
    """A network of tokens that `tokens.is_read` accepts.  `rooms` lists the free rooms of pullbacks."""

    def forward(self, a):
        h = vectors_of(rows_vjp(self.net, rows_of(a, self.shape[1]), Room(keeps=False))[0])
        return h if np.isfinite(h).all() else super().forward(a)

    def vjp(self, a):
        T = self.shape[1]
        rows = rows_of(a, T)
        h, *once = self.passed(rows)
        if not np.isfinite(h).all():
            return super().vjp(a)
        unused = [once]

        def pullback(h_bar):
            rows_pullback, room = unused.pop() if unused else self.passed(rows)[1:]
            a_bar, net_bar = rows_pullback(rows_of(h_bar, T))
            self.rooms.append(room.emptied())
            return vectors_of(a_bar), self.reduce({"net": net_bar})

        return vectors_of(h), pullback

    def passed(self, rows):
        """(h, its pullback, the room of both)."""
        room = self.rooms.pop() if self.rooms else Room()
        return *rows_vjp(self.net, rows, room), room


def rows_of(vectors, T):
    """Vectors (*batch, C T) as rows (*batch, T, C)."""
    return as_vectors(vectors.reshape(*vectors.shape[:-1], vectors.shape[-1] // T, T))


def vectors_of(rows):
    """The reverse, a copy: the rows may be in a room."""
    return as_signal(rows).copy().reshape(*rows.shape[:-2], rows.shape[-2] * rows.shape[-1])


def rows_vjp(layer, a, room):
    """(h, pullback) of a layer on rows (*batch, T, C); `pullback` is called at most once, while h and what it keeps are in `room`."""
    if type(layer) is Sequential:
        return sequential_vjp(layer, a, room)
    if type(layer) is Residual:
        return residual_vjp(layer, a, room)
    if type(layer) is Positionwise:
        return positionwise_vjp(layer, a, room)
    if type(layer) is RelativeAttention and not far(*of_heads(a, layer.heads)[:2]):
        return attention_vjp(layer, a, room)
    if type(layer) is LayerNorm:
        return normalised_vjp(layer, a, room)
    if type(layer) is Dense and layer.W.ndim == 2 and layer.b.ndim == 1:
        return dense_vjp(layer, a, room)
    if type(layer) is GELU and a.dtype == np.float32:
        return gelu_vjp(a, room)
    return layer.vjp(a) if layer.event_ndim < (2, 2) else signals_vjp(layer, a)


def sequential_vjp(net, a, room):
    pullbacks = []
    for layer in net.layers:
        a, layer_pullback = rows_vjp(layer, a, room)
        if room.keeps:
            pullbacks.append(layer_pullback)

    def pullback(h_bar):
        bars = {}
        for i in reversed(range(len(pullbacks))):
            h_bar, bars[str(i)] = pullbacks.pop()(h_bar)
        return h_bar, net.reduce({"layers": {str(i): bars[str(i)] for i in range(len(bars))}})

    return a, pullback


def residual_vjp(net, a, room):
    start, total = room.count, room.array(a.shape, a.dtype)
    h, inner_pullback = rows_vjp(net.inner, a, room)
    if not room.keeps:
        room.count = start

    def pullback(h_bar):
        a_bar, inner_bar = inner_pullback(h_bar)
        return h_bar + a_bar, net.reduce({"inner": inner_bar})

    return np.add(a, h, out=total), pullback


def positionwise_vjp(net, a, room):
    h, layer_pullback = rows_vjp(net.layer, a, room)

    def pullback(h_bar):
        a_bar, layer_bar = layer_pullback(h_bar)
        return a_bar, net.reduce({"layer": layer_bar})

    return h, pullback


def signals_vjp(layer, a):
    """By the page, which sees rows as signals."""
    h, page_pullback = layer.vjp(a.mT)

    def pullback(h_bar):
        a_bar, bars = page_pullback(h_bar.mT)
        return a_bar.mT, bars

    return h.mT, pullback


def dense_vjp(layer, a, room):
    """The page's, for a product without an overflow: one that overflows is not finite, and so are the outputs of the network."""
    h = room.array((*a.shape[:-1], len(layer.W)), a.dtype)
    np.matmul(a.reshape(-1, a.shape[-1]), layer.W.T, out=h.reshape(-1, h.shape[-1]))
    h += layer.b

    def pullback(h_bar):
        return product(layer.W.T, h_bar), {"W": outer_sum(h_bar, a, layer.W), "b": event_sum(h_bar, layer.b)}

    return h, pullback


# -- attention --------------------------------------------------------------------------------------------------------

def of_heads(a, heads):
    """Rows (*batch, T, 3 C) as queries, keys and values (*batch, heads, T, d): views."""
    *batch, T, N = a.shape
    return np.moveaxis(a.reshape(*batch, T, 3, heads, N // (3 * heads)), (-3, -2), (0, -3))


def far(q, k):
    """May rounding change differences of scores by more than 1/16?  Not if d |q| |k| u, which bounds the error of one, is small."""
    squares = (np.vecdot(part, part).max(initial=0) for part in (q, k))
    return not q.shape[-1]**2 * math.prod(squares) < 4.0 ** (np.finfo(q.dtype).nmant - 4)


def blocks_of(T):
    """The queries of each block, and the keys that they see."""
    return [(slice(start, min(start + ROWS, T)), slice(0, min(start + ROWS, T))) for start in range(0, T, ROWS)]


def scores(q, k):
    """(1) of a block of queries.  The last query sees all these keys."""
    s = q @ k.mT
    s *= q.dtype.type(1 / math.sqrt(q.shape[-1]))
    rows = s.shape[-2]
    s[..., -rows:] += np.triu(np.full((rows, rows), -np.inf, s.dtype), 1)
    return s


def attention_vjp(layer, a, room):
    q, k, v = of_heads(a, layer.heads)
    *batch, H, T, d = q.shape
    h, sums = room.array((*batch, T, H, d), a.dtype), np.empty((2, *batch, H, T, 1), a.dtype)
    for rows, seen in blocks_of(T):
        P, m, n = scores(q[..., rows, :], k[..., seen, :]), *sums[..., rows, :]  # type: ignore[misc]
        P.max(-1, keepdims=True, out=m)                                             # (1)
        P -= m
        np.exp(P, out=P)
        P.sum(-1, keepdims=True, out=n)                                             # (1)
        P /= n
        h[..., rows, :, :] = (P @ v[..., seen, :]).swapaxes(-3, -2)                 # (2)

    def pullback(h_bar):
        g, a_bar = h_bar.reshape(h.shape).swapaxes(-3, -2), np.zeros_like(a)
        q_bar, k_bar, v_bar = of_heads(a_bar, H)
        for rows, seen in blocks_of(T):
            P, m, n = scores(q[..., rows, :], k[..., seen, :]), *sums[..., rows, :]  # type: ignore[misc]
            P -= m
            np.exp(P, out=P)
            P /= n                                                                  # (2)
            c = g[..., rows, :] @ v[..., seen, :].mT                                # (3)
            for _ in range(2):
                c -= np.vecdot(P, c)[..., None]                                     # (3)
            c *= P                                                                  # (3)
            c *= c.dtype.type(1 / math.sqrt(d))
            q_bar[..., rows, :] = c @ k[..., seen, :]
            k_bar[..., seen, :] += c.mT @ q[..., rows, :]
            v_bar[..., seen, :] += P.mT @ g[..., rows, :]
        return a_bar, {}

    return h.reshape(*batch, T, H * d), pullback


# -- normalisation and GELU -------------------------------------------------------------------------------------------

@functools.cache
def averaging(N, dtype):
    """The vector whose products with others are their means."""
    return np.full(N, 1 / N, dtype)


def standardised(a, eps, d):
    """n, into the array d, r and the sum of squares of (4)."""
    N = a.shape[-1]
    np.subtract(a, (a @ averaging(N, a.dtype))[..., None], out=d)
    squares = np.vecdot(d, d)
    r = (math.sqrt(N) / np.sqrt(squares + N * eps))[..., None]                      # (4)
    d *= r                                                                          # (4)
    return d, r, squares


def are_plain(squares, eps):
    """Are these sums, and eps, far inside the floats?"""
    return eps >= LEAST and np.max(squares, initial=0) < 1 / LEAST


def normalised_vjp(norm, a, room):
    """By (4), or by the page: also for two entries, where a_bar cancels."""
    (n, r, squares), N = standardised(a, norm.eps, room.array(a.shape, a.dtype)), a.shape[-1]
    if N == 2 or not are_plain(squares, norm.eps):
        return norm.vjp(a)

    def pullback(h_bar):
        ones, c = np.ones(h_bar.size // N, a.dtype), norm.gain * h_bar
        bars = {"gain": ones @ (h_bar * n).reshape(-1, N), "bias": ones @ h_bar.reshape(-1, N)}
        c -= (c @ averaging(N, a.dtype))[..., None]
        c -= n * (np.vecdot(n, c)[..., None] / N)
        c *= r
        return c, bars

    h = np.multiply(norm.gain, n, out=room.array(a.shape, a.dtype))
    h += norm.bias
    return h, pullback


def gelu_vjp(a, room):
    h, slope = room.array(a.shape, a.dtype), room.array(a.shape, a.dtype) if room.keeps else None
    gelu(a, h, slope)
    return h, lambda h_bar: (h_bar * slope, {})


def gelu(a, h, slope=None):
    """(h, dh/da), or h alone, of float32 numbers, by (5) to (7), into the given arrays."""
    if a.size <= AT_ONCE:
        gelu_of_part(a, h, slope)
    else:
        flat = [None if array is None else array.reshape(-1) for array in (a, h, slope)]
        for start in range(0, a.size, AT_ONCE):
            gelu_of_part(*(array if array is None else array[start:start + AT_ONCE] for array in flat))
    return h if slope is None else (h, slope)


def gelu_of_part(a, h, slope):
    """The same, into arrays."""
    t = a * a
    np.multiply(t, MINUS_LOGIT[-1], out=h)
    for coefficient in MINUS_LOGIT[-2:0:-1]:
        h += coefficient
        h *= t
    h += MINUS_LOGIT[0]
    h *= a
    np.exp(h, out=h)
    h += ONE                                                                        # 1 / Phi of (5)
    if slope is not None:
        t *= np.float32(-0.5)
        np.exp(t, out=t)
        t *= a
        t *= np.float32(1 / ROOT_TWO_PI)
        np.divide(ONE, h, out=slope)
        slope += t                                                                  # (7)
    np.divide(a, h, out=h)                                                          # (6)
