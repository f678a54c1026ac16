r"""Causal networks of tokens, tuned: tokens are the rows of matrices, and attention goes through its queries in blocks.

A signal `(B, C, T)` becomes rows `(B, T, C)`, so that a layer of single tokens is one product of matrices, without a transpose before
and after it.  Maps and reverse rules are those of the pages.  Three are computed otherwise.

Attention.  The queries `i` of a block see no key after the last of them.  With `m_i` the largest score of a query,
    s_ij = <q_i, k_j> / d^(1/2),   n_i = sum_j exp(s_ij - m_i)      for j <= i      (1)
    P_ij = exp(s_ij - m_i) / n_i,   h_i = sum_j P_ij v_j                            (2)
Only `m_i` and `n_i` are kept.  The pullback computes (1) and (2) again, so that memory grows with `T`, and not with `T^2`.  With
`g = h_bar`,
    c_ij = <g_i, v_j>,   c_ij <- c_ij - sum_l P_il c_il   twice,   s_bar_ij = P_ij c_ij         (3)
The second time removes the rounding of the first, which is large beside the result where one `P_ij` is near 1.

Layer normalisation.  Equations (1) to (9) of its page as they are printed, where squares are far inside the floats.      (4)

GELU in float32.  With a polynomial `p` of degree 6, for `t = min(a^2, 30)`,
    Phi(a) = 1 / (1 + exp(-a p(t)))                                                 (5)
Of these polynomials, `p` has the smallest largest error of `a max(|a|, 1) Phi(a)`.  With the unit roundoff `u`, the error of
    h = a Phi(a)                is at most 4 u max(|a|, 1)                          (6)
    dh/da = Phi(a) + a phi(a)   is at most 6 u                                      (7)

Where scores or cotangents are so large, or cotangents so small, that the pages scale them, the pages take over.
"""

from __future__ import annotations

import math

import numpy as np

from ..maps.conditioners import GELU, LayerNorm, Positionwise, RelativeAttention, ReshapedNetwork, Residual, Sequential
from ..maps.conditioners.positionwise import as_signal, as_vectors
from ..maps.elementwise.normal_cdf import ROOT_TWO_PI

ROWS = 64                               # queries of a block
AT_ONCE = 2**14                         # numbers of which GELU is computed at a time, in the processor's cache
LEAST = 2.0**-100                       # of eps of a layer normalisation by (4); its inverse, of the largest variance
FAR = 2.0**64                           # the largest cotangent, and the inverse of the smallest
LOGIT = (1.5957689, 0.072667822, -6.5909502e-05, -0.00011055589, 7.946227e-06, -2.6729379e-07, 3.6187275e-09)
END = 30


class TunedNetwork(ReshapedNetwork):
    """A network of tokens that `tokens.is_read` accepts."""

    def forward(self, a):
        return self.vjp(a)[0]

    def vjp(self, a):
        h, rows_pullback = rows_vjp(self.net, as_vectors(self.as_signal(a)))
        if not np.isfinite(h).all():
            return super().vjp(a)

        def pullback(h_bar):
            largest = np.abs(h_bar).max(initial=0)
            if largest and not 1 / FAR < largest < FAR:
                return ReshapedNetwork.vjp(self, a)[1](h_bar)
            a_bar, net_bar = rows_pullback(as_vectors(h_bar.reshape(*h_bar.shape[:-1], *h.shape[:-3:-1])))
            return as_signal(a_bar).reshape(a_bar.shape[:-2] + a.shape[-1:]), {"net": net_bar}

        return as_signal(h).reshape(*h.shape[:-2], h.shape[-2] * h.shape[-1]), pullback


def rows_vjp(layer, a):
    """(h, pullback) of a layer on rows (*batch, T, C); `pullback` is called at most once, and keeps nothing that it has used."""
    if type(layer) is Sequential:
        return sequential_vjp(layer, a)
    if type(layer) is Residual:
        return residual_vjp(layer, a)
    if type(layer) is Positionwise:
        h, layer_pullback = rows_vjp(layer.layer, a)
        return h, lambda h_bar: within("layer", *layer_pullback(h_bar))
    if type(layer) is RelativeAttention and not far(*of_heads(a, layer.heads)[:2]):
        return attention_vjp(layer, a)
    if type(layer) is LayerNorm:
        return normalised_vjp(layer, a)
    if type(layer) is GELU and a.dtype == np.float32:
        h, slope = gelu(a, True)
        return h, lambda h_bar: (h_bar * slope, {})
    return layer.vjp(a) if layer.event_ndim < (2, 2) else signals_vjp(layer, a)


def within(key, a_bar, bars):
    return a_bar, {key: bars}


def sequential_vjp(net, a):
    pullbacks = []
    for layer in net.layers:
        a, layer_pullback = rows_vjp(layer, a)
        pullbacks.append(layer_pullback)

    def pullback(h_bar):
        bars = {}
        for i in reversed(range(len(pullbacks))):
            h_bar, bars[str(i)] = pullbacks.pop()(h_bar)
        return h_bar, {"layers": {str(i): bars[str(i)] for i in range(len(bars))}}

    return a, pullback


def residual_vjp(net, a):
    h, inner_pullback = rows_vjp(net.inner, a)

    def pullback(h_bar):
        a_bar, inner_bar = inner_pullback(h_bar)
        return h_bar + a_bar, {"inner": inner_bar}

    return a + h, pullback


def signals_vjp(layer, a):
    """By the page, which sees rows as signals."""
    h, page_pullback = layer.vjp(a.mT)

    def pullback(h_bar):
        a_bar, bars = page_pullback(h_bar.mT)
        return a_bar.mT, bars

    return h.mT, pullback


# -- attention --------------------------------------------------------------------------------------------------------

def of_heads(a, heads):
    """Rows (*batch, T, 3 C) as queries, keys and values (*batch, heads, T, d): views."""
    *batch, T, N = a.shape
    return np.moveaxis(a.reshape(*batch, T, 3, heads, N // (3 * heads)), (-3, -2), (0, -3))


def far(q, k):
    """Are there scores so large that rounding changes their differences by more than 1/16?"""
    return not q.shape[-1] * np.abs(q).max(initial=0) * np.abs(k).max(initial=0) < 2.0 ** (np.finfo(q.dtype).nmant - 4)


def blocks_of(T):
    """The queries of each block, and the keys that they see."""
    return [(slice(start, min(start + ROWS, T)), slice(0, min(start + ROWS, T))) for start in range(0, T, ROWS)]


def scores(q, k):
    """(1) of a block of queries, the last of which sees all these keys."""
    s = q @ k.mT
    s *= q.dtype.type(1 / math.sqrt(q.shape[-1]))
    rows = s.shape[-2]
    s[..., -rows:] += np.triu(np.full((rows, rows), -np.inf, s.dtype), 1)
    return s


def attention_vjp(layer, a):
    q, k, v = of_heads(a, layer.heads)
    *batch, H, T, d = q.shape
    h, sums = np.empty((*batch, T, H, d), a.dtype), np.empty((2, *batch, H, T, 1), a.dtype)
    for rows, seen in blocks_of(T):
        P, m, n = scores(q[..., rows, :], k[..., seen, :]), *sums[..., rows, :]
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
            P, m, n = scores(q[..., rows, :], k[..., seen, :]), *sums[..., rows, :]
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

def mean(rows):
    return np.add.reduce(rows, -1, keepdims=True) / rows.dtype.type(rows.shape[-1])


def normalised_vjp(norm, a):
    """(4)."""
    d, N = a - mean(a), a.shape[-1]
    d -= mean(d)
    variance = np.vecdot(d, d)[..., None] / a.dtype.type(N)
    if N == 2 or norm.eps < LEAST or not (variance < 1 / LEAST).all():
        return norm.vjp(a)
    r = 1 / np.sqrt(variance + a.dtype.type(norm.eps))
    d *= r

    def pullback(h_bar):
        ones, c = np.ones(h_bar.size // N, a.dtype), norm.gain * h_bar
        bars = {"gain": ones @ (h_bar * d).reshape(-1, N), "bias": ones @ h_bar.reshape(-1, N)}
        c -= mean(c)
        c -= d * (np.vecdot(d, c)[..., None] / a.dtype.type(N))
        c *= r
        return c, bars

    h = norm.gain * d
    h += norm.bias
    return h, pullback


def gelu(a, sloped=False):
    """(h, dh/da), or h alone, of float32 numbers, by (5) to (7)."""
    h, slope, flat = np.empty_like(a), np.empty_like(a) if sloped else None, a.reshape(-1)
    for start in range(0, a.size, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        gelu_of_part(flat[part], h.reshape(-1)[part], slope.reshape(-1)[part] if sloped else None)
    return (h, slope) if sloped else h


def gelu_of_part(a, h, slope):
    t = a * a
    np.minimum(t, END, out=t)
    q = t * np.float32(LOGIT[-1])
    for coefficient in LOGIT[-2:0:-1]:
        q += np.float32(coefficient)
        q *= t
    q += np.float32(LOGIT[0])
    q *= a
    np.negative(q, out=q)
    np.exp(q, out=q)
    q += np.float32(1)                                                              # 1 / Phi
    np.divide(a, q, out=h)                                                          # (6)
    if slope is not None:
        np.multiply(a, a, out=t)
        t *= np.float32(-0.5)
        np.exp(t, out=t)
        t *= a
        t *= np.float32(1 / ROOT_TWO_PI)
        np.divide(1, q, out=slope)
        slope += t                                                                  # (7)
