r"""Attention of a signal to a context: queries `(C, T)` and a context `c` of `S` positions, `(E, S)`.

The map.  The event holds queries `q`.  A network `net` makes keys and values of the context, `2 C` channels at its `S` positions.
Heads share the channels, `d = C / heads` each, in order.  For one head, with `q_i`, `k_j` and `v_j` in `R^d`,
    (k, v) = net(c)                                                                 (1)
    s_ij = <q_i, k_j> / d^(1/2)                                                     (2)
    P_ij = exp(s_ij) / sum_l exp(s_il)                                              (3)
    h_i  = sum_j P_ij v_j                                                           (4)
Every query sees all positions of the context, and no other query.  The blocks of the Jacobian that are not 0 are
    dh_i/ds_ij = P_ij (v_j - h_i)                                                   (5)
    dh_i/dq_i  = sum_j dh_i/ds_ij k_j^T / d^(1/2)                                   (6)
With one position in the context, `P` is 1, and `h` does not depend on the queries.

The reverse rule.  With `g = h_bar`, and `u_ij` for the derivative with respect to `P_ij`,
    u_ij = <g_i, v_j>,   s_bar_ij = P_ij (u_ij - sum_l P_il u_il)                   (7)
    q_bar_i = sum_j s_bar_ij k_j / d^(1/2)                                          (8)
    k_bar_j = sum_i s_bar_ij q_i / d^(1/2),   v_bar_j = sum_i P_ij g_i              (9)
and with the pullback `net*` at `c`,
    c_bar = net*(k_bar, v_bar)                                                      (10)
By (7), `sum_j s_bar_ij = 0`, so that a part that all keys share, such as the bias of a layer, has the cotangent 0 and leaves (8)
unchanged.  A part that all values share leaves (7) and (8) unchanged, too.  The unit of error excuses no rounding of a cotangent
that is 0, so the nets of the certificate are linear.

Source: Vaswani et al., arXiv:1706.03762, section 3.2.3; of queries to a context, Jet's code (arXiv:2412.15129).
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, child, conditioner, context, plain, refusal
from ...core.arrays import rounded, sum_to_shape
from ...core.rules import count
from ...core.words import intermediate
from .conv1d import Conv1d
from .dense import Dense
from .examples import weights
from .positionwise import Positionwise
from .relative_attention import power, score_bar


class textbook:
    """(1) to (10) as they are printed, for one event; net gives its own map and pullback."""

    def head(n, a, k_and_v, heads):
        """Of one head: q (T, d), k and v (S, d), P (T, S), and the root of d."""
        C = len(a)
        d = C // heads
        own = slice(n * d, (n + 1) * d)
        q, k, v = a[own].T, k_and_v[:C][own].T, k_and_v[C:][own].T
        root = np.sqrt(a.dtype.type(d))
        shares = np.exp(q @ k.T / root)                                             # (2)
        return q, k, v, shares / shares.sum(-1, keepdims=True), root                # (3)

    def forward(a, net, heads, context):
        k_and_v, h = net.forward(context), []                                       # (1)
        for n in range(heads):
            _, _, v, P, _ = textbook.head(n, a, k_and_v, heads)
            h.append((P @ v).T)                                                     # (4)
        return np.concatenate(h)

    def jacobian(a, net, heads, context):
        k_and_v, (C, T) = net.forward(context), a.shape                             # (1)
        d = C // heads
        J = np.zeros((heads, d, T, heads, d, T), a.dtype)
        for n in range(heads):
            _, k, v, P, root = textbook.head(n, a, k_and_v, heads)
            for i in range(T):
                ds = (P[i] * (v - P[i] @ v).T).T                                    # (5)
                J[n, :, i, n, :, i] = ds.T @ k / root                               # (6)
        return J.reshape(C * T, C * T)

    def vjp(a, net, heads, context, h_bar):
        (k_and_v, net_pullback), C = net.vjp(context), len(a)                       # (1)
        d = C // heads
        a_bar, bars = 0 * a, 0 * k_and_v
        for n in range(heads):
            own, (q, k, v, P, root) = slice(n * d, (n + 1) * d), textbook.head(n, a, k_and_v, heads)
            g = h_bar[own].T
            u = g @ v.T                                                             # (7)
            s_bar = P * (u - (P * u).sum(-1, keepdims=True))                        # (7)
            a_bar[own] = (s_bar @ k / root).T                                       # (8)
            bars[:C][own], bars[C:][own] = (s_bar.T @ q / root).T, (P.T @ g).T      # (9)
        context_bar, net_bar = net_pullback(bars)                                   # (10)
        return a_bar, {"net": net_bar, "context": context_bar}


r"""In floating point.

In (2), scores overflow, and in (3) their exponentials.  With `q_i = 2^(e_i) q'_i` and `k = 2^f k'`, where `q'_i` and `k'` are at most 1,
and with the largest score `s_im`, neither does:
    P_ij = exp(s_ij - s_im) / sum_l exp(s_il - s_im),   s_ij - s_im = 2^(e_i + f) (s'_ij - s'_im)       (11)

In (5) and (7), the difference loses its digits where `P_ij` is near 1.  Let `m` be the key of the largest `P_im`.  Because
`P_il` sums to 1 over `l`, the difference is the same for `c_ij = v_j - v_m` in (5) and `c_ij = u_ij - u_im` in (7), and the sum has
no term `l = m`:
    P_ij (c_ij - sum_l P_il c_il)                                                   (12)

In (6), (8) and (9), a subnormal product loses digits before it is multiplied by `k_j` or `q_i`.  All are linear in `v` and `g`:
    s_bar(g) = 2^-K s_bar(2^K g)            with K so large that no product is subnormal    (13)
All of this is computed in float64, for float32 too, and so are the net and its pullback: in (10), what all keys share cancels.
"""


@conditioner(source="arXiv:1706.03762", textbook=textbook)
class CrossAttention(Conditioner):
    """h (*batch, C, T) from queries (*batch, C, T) and the context (*batch, E, S), filled in by `at(context=...)`.

    `net`: a conditioner of signals, from the context to C channels of keys and then C channels of values; `heads`: a divisor of
    C.  ValueError for a context that `net` does not take, and for outputs of it that do not fit the queries.
    """

    net: Conditioner = child()
    heads: int = plain(1, count())
    context: Array = context("E", "S")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    normwise = property(lambda self: self.net.normwise)
    smooth = property(lambda self: self.net.smooth)

    def _validate(self):
        if self.net.event_ndim != (2, 2):
            raise ValueError(f"CrossAttention: net must be of signals, event ranks (2, 2), not {self.net.event_ndim}")
        super()._validate()
        if self.context is not None:
            self.of_net()

    def of_net(self):
        """(2 C, S)."""
        shape = self.context.shape[-2:]
        if shape[1] == 0:
            raise ValueError("CrossAttention: context must have at least one position")
        try:
            return tuple(self.net.output_shape(shape))
        except ValueError as error:
            raise ValueError(f"CrossAttention: net does not take a context of shape {shape}: {error}") from None

    def output_shape(self, shape):
        if shape[0] % self.heads or shape[0] == 0:
            raise ValueError(f"its channels must be a multiple of heads={self.heads}")
        if self.context is not None and self.of_net()[0] != 2 * shape[0]:
            raise ValueError(f"its net gives {self.of_net()[0]} channels of keys and values, twice its channels are needed")
        return shape

    def depends(self, shape):
        """h_i on the channels of its head in its own query, unless the context has one position."""
        d = shape[0] // self.heads
        of_channels = np.kron(np.eye(self.heads, dtype=bool), np.ones((d, d), bool))
        return np.kron(of_channels, self.depends_on_positions(shape))

    def depends_on_positions(self, shape):
        alone = self.context is not None and self.context.shape[-1] == 1
        return np.eye(shape[1], dtype=bool) & (not alone)

    @staticmethod
    def definition(m, a, net, heads, context):
        C, T, k_and_v = len(a), len(a[0]), net.definition(m, context)               # (1)
        d, S = C // heads, len(k_and_v[0])

        def attention(n, i):
            own = range(n * d, (n + 1) * d)
            shares = [m.exp(sum(a[c][i] * k_and_v[c][j] for c in own) / m.sqrt(d)) for j in range(S)]       # (2)
            total = sum(shares)
            P_i = [intermediate(m, share / total, exponential=True) for share in shares]        # (3)
            return [P_ij / sum(P_i) for P_ij in P_i]            # a sum of 1, where the others' rounding counts

        P = [[attention(n, i) for i in range(T)] for n in range(heads)]
        return [[sum(P_ij * k_and_v[C + c][j] for j, P_ij in enumerate(P[c // d][i])) for i in range(T)] for c in range(C)]     # (4)

    # -- the map ------------------------------------------------------------------------------------------------------

    def of_context(self):
        if self.context is None:
            raise ValueError("CrossAttention: there is no context; fill it in with at(context=...)")
        return np.float64(self.context)

    def net64(self):
        """The net in float64."""
        return self.net.unchecked(np.dtype(np.float64))

    def of_heads(self, a, parts):
        """Signals of `parts` C channels as `parts` arrays (*batch, heads, d, T), in float64."""
        *batch, N, T = a.shape
        return np.moveaxis(a.reshape(*batch, parts, self.heads, N // (parts * self.heads), T).astype(np.float64), -4, 0)

    def forward(self, a):
        return self.vjp(a)[0]

    def jacobian(self, a):
        (q,), (k, v) = self.of_heads(a, 1), self.of_heads(self.net64().forward(self.of_context()), 2)  # (1)
        P, (d, T) = attention(q, k), q.shape[-2:]
        K, v = power_of(P, np.ones_like(q), v), np.broadcast_to(v, (*P.shape[:-2], *v.shape[-2:]))
        A = score_bar(P[..., None, :, :], np.ldexp(v, K)[..., None, :]) / math.sqrt(d)      # (5) (12) (13)
        blocks = np.ldexp(np.einsum("...nciS,...neS->...ncei", A, k), -K)           # (6) (13)
        *batch, H = blocks.shape[:-3]
        J, n, i = np.zeros((*batch, H, d, T, H, d, T), a.dtype), np.arange(H)[:, None], np.arange(T)
        J[..., n, :, i, n, :, i] = np.moveaxis(blocks, (-4, -1), (0, 1))
        return J.reshape(*batch, H * d * T, H * d * T)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        k_and_v, net_pullback = self.net64().vjp(self.of_context())                 # (1)
        (q,), (k, v) = self.of_heads(a, 1), self.of_heads(k_and_v, 2)
        P, root = attention(q, k), math.sqrt(q.shape[-2])
        h = v @ P.mT                                                                # (4)
        shape = (*h.shape[:-3], *a.shape[-2:])

        def pullback(h_bar):
            (g,) = self.of_heads(h_bar, 1)
            K = power_of(P, g, v)
            s_bar = score_bar(P, np.ldexp(g, K).mT @ v) / root                      # (7) (12) (13)
            q_bar = np.ldexp(k @ s_bar.mT, -K)                                      # (8) (13)
            scaled, e = unit_queries(q)
            terms = np.ldexp(s_bar[..., None, :, :] * scaled[..., None], (e - K)[..., None])        # (11) (13)
            k_bar, v_bar = terms.sum(-2), g @ P                                     # (9)
            bars = np.stack(np.broadcast_arrays(k_bar, v_bar), -4)
            bars = bars.reshape(*bars.shape[:-4], *k_and_v.shape[-2:])
            context_bar, net_bar = net_pullback(sum_to_shape(bars, k_and_v.shape))  # (10)
            return q_bar.reshape(shape).astype(a.dtype), rounded({"net": net_bar, "context": context_bar}, a.dtype)

        return h.reshape(shape).astype(a.dtype), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        heads, d, T, S, E = source.choice(((1, 1), (2, 1), (1, 2), (2, 2))) + tuple(source.count(1, most) for most in (2, 3, 2))
        net = Conv1d(weights(source, (2 * heads * d, E, 1), 2))
        return cls(net, heads, source.signed((E, S), -4, 4)), (heads * d, T)

    hard_cases = (
        case("Alone", "one position in the context: its weight is 1, and scores have no gradient", z=[[[2.0, -1.0]]],
             net=Conv1d([[[0.5]], [[2.0]]]), context=[[3.0]]),
        case("Saturated", "one weight is 1 - 2^-30: (5) loses its digits", z=[[[5.0, 0.1]]], net=Conv1d([[[1.0]], [[2.0]]]),
             context=[[4.0, 0.1]]),
        case("Alike", "keys and values are nearly equal", z=[[[3.0, -16.0]]], net=Conv1d([[[1.0]], [[0.5]]]),
             context=[[4.0, 4.0 + 2.0**-20]]),
        case("Huge", "a score overflows", z=[[[2.0**1000, -2.0**1000, 2.0**-1000]]], net=Conv1d([[[2.0**60]], [[2.0]]]),
             context=[[4.0, 1.0, -1.0]]),
        case("Heads", "each head has its own weights", z=[[[1.0, -2.0], [0.5, 3.0]]], heads=2, context=[[1.0, -0.5], [0.25, 2.0]],
             net=Conv1d([[[1.0], [0.5]], [[-1.0], [2.0]], [[0.5], [0.25]], [[3.0], [-1.0]]])),
        case("Subnormal", "the smaller weight is subnormal", z=[[[-740.0, -1.0]]], context=[[2.0, 1.0]], net=Conv1d([[[1.0]], [[2.5]]])),
    )
    refused = (
        refusal("net must be of signals", net=Dense([[1.0], [1.0]])),
        refusal("net does not take a context of shape (2, 1)", net=Positionwise(Dense([[1.0], [1.0]])), context=[[1.0], [2.0]]),
        refusal("context must have at least one position", net=Positionwise(Dense([[1.0], [1.0]])), context=np.zeros((1, 0))),
        refusal("its net gives 2 channels of keys and values", [[1.0], [2.0]], net=Positionwise(Dense([[1.0], [1.0]])), context=[[1.0]]),
        refusal("its channels must be a multiple of heads=2", [[1.0]], net=Positionwise(Dense([[1.0], [1.0]])), heads=2, context=[[1.0]]),
    )


def unit_queries(q):
    """q' and e, with q = 2^e q' at every position."""
    e = np.frexp(np.abs(q).max(-2, keepdims=True))[1]                               # (11)
    return np.ldexp(q, -e), e                                                       # (11)


def attention(q, k):
    """P (*batch, heads, T, S)."""
    f = np.frexp(np.abs(k).max((-2, -1), keepdims=True))[1]                         # (11)
    scaled, e = unit_queries(q)
    s = scaled.mT @ np.ldexp(k, -f) / math.sqrt(q.shape[-2])                        # (2) (11)
    shares = np.exp(np.ldexp(s - s.max(-1, keepdims=True), e.mT + f))               # (11)
    return shares / shares.sum(-1, keepdims=True)                                   # (3)


def power_of(P, g, v):
    """K of (13), 0 if none serves."""
    return power(P, g, (v,), ()) or 0                                               # (13)
