r"""Attention of a sequence to itself, causal or not, with relative positions in a window or without.

The map.  An event has `3 C` channels and `T` positions: the first `C` channels are queries, the next keys, the last values.
Heads share the channels, `d = C / heads` each, in order.  For one head, with `q_i`, `k_j` and `v_j` in `R^d` and the vectors
`E_k(r)` and `E_v(r)` of the distance `r`, which are 0 for `|r| > w`, the window,
    s_ij = <q_i, k_j + E_k(j - i)> / d^(1/2)                                        (1)
    P_ij = exp(s_ij) / sum_l exp(s_il)          over the keys that query `i` sees, else 0       (2)
    h_i  = sum_j D_ij P_ij (v_j + E_v(j - i))                                       (3)
Query `i` sees key `j` if both are valid and `|j - i| <= block_length`; with `causal`, it sees no key after its own, `j <= i`; with
`sees`, it sees key `j` only where `sees_ij`.  The factors of dropout are
    D_ij = 1 / (1 - rate)   where keep, else 0;   1 without keep                    (4)
An invalid query sees nothing, so its `P` and its `h` are 0.  The authors' code sets the scores of unseen keys to `-10^4` instead
of leaving them out.  Their weight is then `exp(-10^4 - s_im)`, with the largest score `s_im`, which is 0 in floats unless all
scores are below -9000; an invalid query attends to all positions alike, and its result is set to 0 later.

The Jacobian, with `U_ij = D_ij (v_j + E_v(j - i))`, is
    dh_i/dv_j = D_ij P_ij I,   dh_i/ds_ij = P_ij (U_ij - sum_l P_il U_il)           (5)
    dh_i/dq_i = sum_j dh_i/ds_ij (k_j + E_k(j - i))^T / d^(1/2),   dh_i/dk_j = dh_i/ds_ij q_i^T / d^(1/2)   (6)

The reverse rule.  With `g = h_bar`, and `u_ij` for the derivative with respect to `P_ij`,
    u_ij = D_ij <g_i, v_j + E_v(j - i)>                                             (7)
    s_bar_ij = P_ij (u_ij - sum_l P_il u_il)                                        (8)
    q_bar_i = sum_j s_bar_ij (k_j + E_k(j - i)) / d^(1/2)                           (9)
    k_bar_j = sum_i s_bar_ij q_i / d^(1/2)                                          (10)
    v_bar_j = sum_i D_ij P_ij g_i                                                   (11)
    E_k_bar(r) = sum_i s_bar_i,i+r q_i / d^(1/2),   E_v_bar(r) = sum_i D_i,i+r P_i,i+r g_i          (12)
and (12) is summed over heads if they share `E_k` and `E_v`.

Source: Vaswani et al., arXiv:1706.03762, section 3.2; relative positions, Shaw, Uszkoreit & Vaswani, arXiv:1803.02155; window,
sharing and block_length, the authors' code of Glow-TTS (Kim et al., arXiv:2005.11129).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...core import Array, Conditioner, case, conditioner, constant, plain, real, refusal, sequence_mask
from ...core.rules import FLAG, count, number, optional
from ...core.arithmetic import (NOTHING, apart, at_pair, difference_of_pairs, exact_product, exact_sum, expansion, largest_pair,
                                product_of_pairs, sum_of_pairs)
from ...core.arrays import masked
from ...core.compose import unit_cotangent
from ...core.declarations import Field
from ...core.words import intermediate
from .examples import weights


class textbook:
    """(1) to (12) as they are printed, for one event."""

    def at_distances(E, n, T, d, dtype):
        """E(j - i) of a head, (T, T, d)."""
        found = np.zeros((T, T, d), dtype)
        for i, j, r in textbook.distances(E, T):
            found[i, j] = E[n % len(E)][r]
        return found

    def distances(E, T):
        """(i, j, the row of E for the distance j - i) of all pairs in the window."""
        w = -1 if E is None else len(E[0]) // 2
        return [(i, j, j - i + w) for i in range(T) for j in range(T) if abs(j - i) <= w]

    def dropped(A, n, keep, rate):
        """D_ij A_ij."""
        return A if keep is None else (A.T * keep[n].T).T / (1 - rate)              # (4)

    def seen(T, block_length, mask, causal, sees):
        i = np.arange(T)
        near = (abs(i[:, None] - i) <= (T if block_length is None else block_length)) & (i <= i[:, None] + (0 if causal else T))
        near = near if sees is None else near & sees
        return near if mask is None else near & mask & mask[:, None]

    def head(n, a, E_k, E_v, heads, block_length, keep, rate, mask, causal, sees):
        """Of one head: q (T, d), k_j + E_k(j - i) and U (T, T, d), P and D P (T, T), and the root of d."""
        C, T = len(a) // 3, len(a[0])
        d = C // heads
        q, k, v = (a[part * C + n * d:part * C + (n + 1) * d].T for part in range(3))
        keys = k + textbook.at_distances(E_k, n, T, d, a.dtype)
        root = np.sqrt(a.dtype.type(d))
        s = (q[:, None] * keys).sum(-1) / root                                      # (1)
        P, seen = np.zeros((T, T), a.dtype), textbook.seen(T, block_length, mask, causal, sees)
        for i in range(T):
            shares = np.exp(s[i][seen[i]])
            P[i][seen[i]] = shares / shares.sum()                                   # (2)
        U = textbook.dropped(v + textbook.at_distances(E_v, n, T, d, a.dtype), n, keep, rate)       # (5)
        return q, keys, U, P, textbook.dropped(P, n, keep, rate), root

    def forward(a, E_k, E_v, heads, block_length, keep, rate, mask, causal, sees):
        h = []
        for n in range(heads):
            q, keys, U, P, D_P, root = textbook.head(n, a, E_k, E_v, heads, block_length, keep, rate, mask, causal, sees)
            h.append((P[:, :, None] * U).sum(1).T)                                  # (3)
        return np.concatenate(h)

    def jacobian(a, E_k, E_v, heads, block_length, keep, rate, mask, causal, sees):
        C, T = len(a) // 3, len(a[0])
        d = C // heads
        J = np.zeros((heads, d, T, 3, heads, d, T), a.dtype)
        for n in range(heads):
            q, keys, U, P, D_P, root = textbook.head(n, a, E_k, E_v, heads, block_length, keep, rate, mask, causal, sees)
            ds = P[:, :, None] * (U - (P[:, :, None] * U).sum(1, keepdims=True))    # (5)
            for i in range(T):
                for j in range(T):
                    J[n, :, i, 0, n, :, i] += np.outer(ds[i, j], keys[i, j]) / root     # (6)
                    J[n, :, i, 1, n, :, j] = np.outer(ds[i, j], q[i]) / root        # (6)
                    J[n, :, i, 2, n, :, j] = D_P[i, j] * np.eye(d, dtype=int)       # (5)
        return J.reshape(C * T, 3 * C * T)

    def vjp(a, E_k, E_v, heads, block_length, keep, rate, mask, causal, sees, h_bar):
        C, T = len(a) // 3, len(a[0])
        d = C // heads
        a_bar = np.zeros((3, heads, d, T), a.dtype)
        bars = {} if E_k is None else {"E_k": 0 * E_k, "E_v": 0 * E_v}
        for n in range(heads):
            q, keys, U, P, D_P, root = textbook.head(n, a, E_k, E_v, heads, block_length, keep, rate, mask, causal, sees)
            g = h_bar[n * d:(n + 1) * d].T
            u = (g[:, None] * U).sum(-1)                                            # (7)
            s_bar = P * (u - (P * u).sum(-1, keepdims=True))                        # (8)
            a_bar[0, n] = (s_bar[:, :, None] * keys).sum(1).T / root                # (9)
            a_bar[1, n] = (s_bar[:, :, None] * q[:, None]).sum(0).T / root          # (10)
            a_bar[2, n] = (D_P[:, :, None] * g[:, None]).sum(0).T                   # (11)
            for i, j, r in textbook.distances(E_k, T):
                bars["E_k"][n % len(E_k), r] += s_bar[i, j] * q[i] / root           # (12)
                bars["E_v"][n % len(E_v), r] += D_P[i, j] * g[i]                    # (12)
        return a_bar.reshape(3 * C, T), bars


r"""In floating point.

In (2), exponentials overflow.  With the largest score `s_im`, none does:
    P_ij = exp(s_ij - s_im) / sum_l exp(s_il - s_im)                                (13)

In (1), large scores lose the digits of their differences, from which `P` is made.  Where a rounding error in (1) is more
than 1/16, differences are summed exactly, terms that cancel first, with exponents apart:
    s_ij - s_im = <q_i, k_j - k_m + E_k(j - i) - E_k(m - i)> / d^(1/2)              (14)
The `m` of the largest score is then found by its differences: none is positive.

In (5) and (8), the difference loses its digits where `P_ij` is near 1.  Because `P_il` sums to 1 over `l`, it is the same with
`U_ij - U_im` in place of `U_ij`, where `m` is the key with the largest `P_im`; the sum then has no term `l = m`, and every other
`P_il` is at most 1/2:
    dh_i/ds_ij = P_ij (c_ij - sum_l P_il c_il),   c_ij = U_ij - U_im                (15)
    s_bar_ij = P_ij (c_ij - sum_l P_il c_il),   c_ij = u_ij - u_im                  (16)

In (5) to (12), a subnormal product loses digits before it is multiplied by `q_i` or `k_j`.  All these are linear in `U` and `g`:
    s_bar(g) = 2^-K s_bar(2^K g)            with K so large that no product is subnormal    (17)
Where no `K` keeps all products within the floats, (7) to (12) are computed with the exponent of every number apart.    (18)

In (6) and (9), terms cancel where keys are alike.  Since `sum_j s_bar_ij = 0`, a part `r` that all keys have in common may be
left out.  In (19), `r` is 0 unless all keys differ from it by less than a factor of 2, so that `k_j - r` is exact; in (20), with
exponents apart, `r` is the key with the largest weight:
    q_bar_i = sum_j s_bar_ij (k_j - r + E_k(j - i)) / d^(1/2)                       (19)
    q_bar_i = sum_j s_bar_ij (k_j - k_m + E_k(j - i) - E_k(m - i)) / d^(1/2)        (20)
"""


@conditioner(source="arXiv:1803.02155", textbook=textbook)
class RelativeAttention(Conditioner):
    """h (*batch, C, T) from queries, keys and values (*batch, 3 C, T).

    E_k and E_v (G, 2 w + 1, d) for a window w, G = 1 if the heads share them, else G = heads; None: no relative positions.
    `block_length`: how far a query sees, None for everywhere; `keep` (heads, T, T), boolean, with `rate`: dropout of P, None
    for no dropout; `mask` (*batch, T), filled in by `at(mask=...)`; `causal`: does a query see no key after its own?  Then h_t
    depends on no later position, as transformers that generate need it: `RelativeAttention(heads=H, causal=True)`.  `sees` (T, T),
    boolean, a row for each query, None for all keys.  ValueError for a query to which `sees` leaves no key.
    """

    E_k: Array = Field(real, ("G", "R", "K"), optional=True)  # type: ignore[assignment]
    E_v: Array = Field(real, ("G", "R", "K"), optional=True)  # type: ignore[assignment]
    heads: int = plain(1, count())
    block_length: int = plain(None, optional(count(0)))
    keep: Array = constant("H", "T", "T", optional=True)
    rate: float = plain(0.0, number(0, 1, low_included=True))
    mask: Array = sequence_mask("T")
    causal: bool = plain(False, FLAG)
    sees: Array = constant("T", "T", optional=True)
    event_ndim = (2, 2)
    event_shape = ("N", "T")

    def _validate(self):
        if (self.E_k is None) != (self.E_v is None):
            raise ValueError("RelativeAttention: E_k and E_v must both be given, or neither")
        if self.E_k is not None:
            if self.E_k.shape[-3] not in (1, self.heads) or self.E_k.shape[-2] % 2 == 0:
                raise ValueError(f"RelativeAttention: E_k must have shape (1 or heads, 2 w + 1, d) with heads={self.heads}, "
                                 f"not {self.E_k.shape}")
            self.dims["N"] = 3 * self.heads * self.E_k.shape[-1]
        if self.dims.get("H", self.heads) != self.heads:
            raise ValueError(f"RelativeAttention: keep must have shape (heads, T, T) with heads={self.heads}, not "
                             f"{self.keep.shape}")
        super()._validate()
        if self.sees is not None:
            self.refuse_blind()

    def refuse_blind(self):
        """ValueError for a query that sees no key, even if all are valid."""
        T = self.sees.shape[-1]
        if self.sees.ndim != 2:
            raise ValueError(f"RelativeAttention: sees must have shape (T, T), not {self.sees.shape}")
        for i in np.flatnonzero(~self.near(T).any(-1))[:1]:
            raise ValueError(f"RelativeAttention: sees must leave every query a key; sees[{i}] leaves query {i} none")

    def output_shape(self, shape):
        N, T = shape
        if N % (3 * self.heads) or N == 0 or T == 0:
            raise ValueError(f"its events have 3 C channels, C a multiple of heads={self.heads}, and at least one position")
        for letter, size in (("N", N), ("T", T)):
            if self.dims.get(letter, size) != size:
                raise ValueError(f"its fields have {letter}={self.dims[letter]}")
        return N // 3, T

    def depends(self, shape):
        """h_i on the values that query `i` sees and keeps, channel by channel; on its head's queries and keys if it sees two."""
        (N, T), H = shape, self.heads
        d, (kept, moved) = N // (3 * H), self.read(T)
        pattern = np.zeros((H, d, T, 3, H, d, T), bool)
        for n in range(H):
            pattern[n, :, :, 0, n] = (moved[n].any(-1)[:, None] & np.eye(T, dtype=bool))[:, None]
            pattern[n, :, :, 1, n] = moved[n][:, None]
            for c in range(d):
                pattern[n, c, :, 2, n, c] = kept[n]
        return pattern.reshape(H * d * T, N * T)

    def depends_on_positions(self, shape):
        kept, moved = self.read(shape[1])
        return (kept | moved).any(0) | np.diag(moved.any((0, 2)))                   # a query moves its own scores

    def read(self, T):
        """Whose values each query's h reads, and whose scores move it, (heads, T, T) each."""
        seen = self.seen(T)
        kept = seen if self.keep is None else seen & self.keep
        moved = seen & ((seen.sum(-1) > 1) & kept.any(-1))[..., None]               # with one key, P is 1 whatever its score
        return [np.broadcast_to(part, np.broadcast_shapes(part.shape, (1, self.heads, T, T))).reshape(-1, self.heads, T, T).any(0)
                for part in (kept, moved)]

    @staticmethod
    def definition(m, a, E_k, E_v, heads, block_length, keep, rate, mask, causal, sees):
        C, T = len(a) // 3, len(a[0])
        d = C // heads

        def relative(E, n, r):
            w = -1 if E is None else len(E[0]) // 2
            return E[n % len(E)][r + w] if abs(r) <= w else [0] * d

        def seen(i, j):
            valid = (mask is None or mask[i] and mask[j]) and (sees is None or sees[i][j])
            return valid and (block_length is None or abs(j - i) <= block_length) and (j <= i or not causal)

        def factor(n, i, j):
            return 1 if keep is None else 1 / (1 - m.mpf(rate)) if keep[n][i][j] else 0     # (4)

        def score(n, i, j):
            e = relative(E_k, n, j - i)
            return sum(a[n * d + c][i] * (a[C + n * d + c][j] + e[c]) for c in range(d)) / m.sqrt(d)    # (1)

        def attention(n, i):
            keys = [j for j in range(T) if seen(i, j)]
            shares = [m.exp(score(n, i, j)) for j in keys]
            total = sum(shares)
            P_i = [intermediate(m, share / total, exponential=True) for share in shares]    # (2)
            return [(j, P_ij / sum(P_i)) for j, P_ij in zip(keys, P_i)]         # a sum of 1, where the others' rounding counts

        P = [[attention(n, i) for i in range(T)] for n in range(heads)]
        return [[sum(factor(n, i, j) * P_ij * (a[2 * C + n * d + c][j] + relative(E_v, n, j - i)[c]) for j, P_ij in P[n][i])
                 for i in range(T)] for n in range(heads) for c in range(d)]        # (3)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        return self.vjp(a)[0]

    def of_heads(self, a, parts):
        """Events of `parts` C channels as `parts` arrays (*batch, heads, d, T)."""
        *batch, N, T = a.shape
        return np.moveaxis(a.reshape(*batch, parts, self.heads, N // (parts * self.heads), T), -4, 0)

    def seen(self, T):
        """Which keys a query sees, (..., T, T)."""
        near = self.near(T)
        return near if self.mask is None else near & (self.mask[..., :, None] & self.mask[..., None, :])[..., None, :, :]

    def near(self, T):
        """The same if all positions are valid, (T, T)."""
        i = np.arange(T)
        near = np.abs(i[:, None] - i) <= (T if self.block_length is None else self.block_length)
        near = near & (i <= i[:, None]) if self.causal else near
        return near if self.sees is None else near & self.sees

    def attention(self, q, k):
        """P (*batch, heads, T, T)."""
        s, seen = scores(q, k, self.E_k), self.seen(q.shape[-1])                    # (1)
        below, beyond = below_the_largest(s, seen), far(q, k, self.E_k)
        if beyond.any():
            below = np.where(beyond, below_the_largest_exactly(q, k, self.E_k, seen), below)        # (14)
        shares = np.exp(below)                                                      # (13)
        total = shares.sum(-1, keepdims=True)
        return shares / np.where(total > 0, total, 1)                               # (2) (13)

    def dropped(self, P):
        """D P, entry by entry."""
        return P if self.keep is None else np.where(self.keep, P / (1 - self.rate), 0)      # (4)

    def jacobian(self, a):
        q, k, v = self.of_heads(a, 3)
        P, (d, T) = self.attention(q, k), q.shape[-2:]
        K = power(P, np.ones_like(q), (v, self.E_v), (q, k, self.E_k))
        if K is None:
            return self.rows(a)
        keys = without_common(k, self.mask)[..., None, :] + at_distance(self.E_k, T)        # (19)
        values = v[..., None, :] + at_distance(self.E_v, T)
        U = np.moveaxis(self.dropped(np.moveaxis(values, -3, 0)), 0, -3)            # (5)
        A = score_bar(P[..., None, :, :], np.ldexp(U, K)) / math.sqrt(d)            # (15) (17)
        of_q = np.ldexp(np.einsum("...cij,...eij,it->...ciet", A, keys, np.eye(T, dtype=a.dtype)), -K)      # (6) (17)
        of_k = np.ldexp(np.einsum("...cij,...ei->...ciej", A, q), -K)               # (6) (17)
        of_v = np.einsum("...ij,ce->...ciej", self.dropped(P), np.eye(d, dtype=a.dtype))    # (5)
        J = np.einsum("p...nciet,nm->...ncipmet", np.stack((of_q, of_k, of_v)), np.eye(self.heads, dtype=a.dtype))
        return J.reshape(*a.shape[:-2], self.heads * d * T, 3 * self.heads * d * T)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        q, k, v = self.of_heads(a, 3)
        P, root = self.attention(q, k), math.sqrt(q.shape[-2])
        D_P = self.dropped(P)
        h = v @ D_P.mT + relative_sums(D_P, self.E_v)                               # (3)

        def pullback(h_bar):
            (g,) = self.of_heads(masked(h_bar, self.mask), 1)
            K = power(P, g, (v, self.E_v), (q, k, self.E_k))
            if K is None:
                return self.pullback_apart(q, k, v, P, g)
            larger = np.ldexp(g, K)                                                 # (17)
            s_bar = score_bar(P, self.dropped(larger.mT @ v + relative_products(larger, self.E_v))) / root      # (7) (8) (17)
            q_bar = without_common(k, self.mask) @ s_bar.mT + relative_sums(s_bar, self.E_k)        # (9) (19)
            a_bar = np.stack((np.ldexp(q_bar, -K), np.ldexp(q @ s_bar, -K), g @ D_P), -4)   # (10) (11) (17)
            bars = {} if self.E_k is None else {"E_k": np.ldexp(relative_bar(s_bar, q, self.E_k), -K),      # (12) (17)
                                                "E_v": relative_bar(D_P, g, self.E_v)}
            return a_bar.reshape(a.shape), bars

        return h.reshape(*a.shape[:-2], a.shape[-2] // 3, a.shape[-1]), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def rows(self, a):
        """The Jacobian, row by row the pullback of a unit cotangent."""
        h, pullback = self.vjp(a)
        batch, size = a.shape[:-2], h.shape[-2] * h.shape[-1]
        rows = [pullback(unit_cotangent(h, batch, i))[0].reshape(*batch, a.shape[-2] * a.shape[-1]) for i in range(size)]
        return np.stack(rows, -2)

    def pullback_apart(self, *event):
        """The cotangents with all exponents apart, of q, k, v, P and g: event by event, to save memory."""
        batch = event[0].shape[:-3]
        E = [E if E is None else np.broadcast_to(E, batch + E.shape[-3:]) for E in (self.E_k, self.E_v)]
        found = [self.event_pullback_apart(*(part if part is None else part[i] for part in (*event, *E)))
                 for i in np.ndindex(batch)]
        bars = {key: np.stack([one[key] for one in found]) for key in found[0]}
        bars = {key: bar.reshape(*batch, *bar.shape[1:]) for key, bar in bars.items()}
        return bars.pop("a"), bars

    def event_pullback_apart(self, q, k, v, P, g, E_k, E_v):
        """The same of one event: {name: cotangent}; arrays have the axes (heads, d, i, j) until they are summed."""
        m = P.argmax(-1)[..., None]
        keys, values = apart(key_differences(k, E_k, m)[-1]), moved_apart(v, E_v)   # (20)
        D_P = apart(self.dropped(P)[..., None, :, :])                               # (18)
        q, g, weight = apart(q[..., None]), apart(g[..., None]), apart(P)           # (18)
        factor = apart(np.broadcast_to(self.dropped(np.ones_like(P)), P.shape))     # (4) (18)
        u = product_of_pairs(factor, sum_of_pairs(product_of_pairs(g, values), -3))         # (7)
        c = difference_of_pairs(u, at_pair(u, m))                                   # (8) (16)
        mean = tuple(part[..., None] for part in sum_of_pairs(product_of_pairs(weight, c), -1))
        root = apart(np.asarray(1 / math.sqrt(q[0].shape[-3]), P.dtype))            # (18)
        s_bar = product_of_pairs(product_of_pairs(weight, difference_of_pairs(c, mean)), root)      # (8) (16)
        s_bar = tuple(part[..., None, :, :] for part in s_bar)
        of_q, of_g = product_of_pairs(s_bar, q), product_of_pairs(D_P, g)
        q_bar = sum_of_pairs(product_of_pairs(s_bar, keys), -1)                     # (20)
        bars = [np.ldexp(*bar) for bar in (q_bar, sum_of_pairs(of_q, -2), sum_of_pairs(of_g, -2))]      # (9) (10) (11) (18)
        found = {"a": np.stack(bars).reshape(-1, P.shape[-1])}
        return found if E_k is None else found | {"E_k": distance_bar(of_q, E_k), "E_v": distance_bar(of_g, E_v)}       # (12)

    @classmethod
    def examples(cls, source):
        heads, d, T = source.choice(((1, 1), (2, 1), (1, 2))) + (source.count(1, 3),)
        E = [None, None]
        if source.chance(0.75):
            shape = (source.choice((1, heads)), 2 * source.count(0, 2) + 1, d)
            E = [weights(source, shape, 2) for _ in E]
        keep = source.booleans((heads, T, T), 0.75) if source.chance(0.25) else None
        mask = source.booleans((T,), 0.75) if keep is None and source.chance(0.5) else None
        block_length, causal = source.choice((None, None, 1)), source.chance(0.5)
        sees = source.booleans((T, T), 0.5) | np.eye(T, dtype=bool) if source.chance(0.25) else None
        return cls(*E, heads, block_length, keep, 0.25, mask, causal, sees), (3 * heads * d, T)

    hard_cases = (
        case("Alone", "one position: its weight is 1, and scores have no gradient", z=[[[2.0], [-1.0], [3.0]]],
             E_k=[[[0.5]]], E_v=[[[0.25]]]),
        case("Saturated", "one weight is 1 - 2^-30: (5) loses its digits", z=[[[5.0, 0.1], [4.0, 0.0], [1.0, -1.0]]]),
        case("Equal", "all weights are equal, and the scores huge", z=[[[16.0, 16.0], [16.0, 16.0], [1.0, -1.0]]]),
        case("Wide", "the window is wider than the sequence", z=[[[1.0, -0.5], [0.5, 2.0], [1.0, 3.0]]],
             E_k=[[[1.0], [2.0], [0.5], [-1.0], [0.1], [4.0], [8.0]]], E_v=[[[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0]]]),
        case("Masked", "the last key has the largest score, and is invalid", mask=[True, True, False],
             z=[[[1.0, -0.5, 0.0], [0.5, 2.0, 9.0], [1.0, 3.0, 5.0]]]),
        case("Nothing", "no position is valid: h is 0", z=[[[1.0, -0.5], [0.5, 2.0], [1.0, 3.0]]], mask=[False, False]),
        case("Blocked", "every position sees itself alone", z=[[[1.0, -0.5], [0.5, 2.0], [1.0, 3.0]]], block_length=0),
        case("Causal", "the last key has the largest score: the first query does not see it", causal=True,
             z=[[[1.0, -0.5, 2.0], [0.5, 2.0, 9.0], [1.0, 3.0, 5.0]]]),
        case("Seen", "each query sees the other key alone", z=[[[1.0, -0.5], [0.5, 2.0], [1.0, 3.0]]], sees=[[False, True], [True, False]]),
        case("Dropped", "the weight of its own key is dropped, without being distributed over the others",
             z=[[[1.0, -0.5], [0.5, 2.0], [1.0, 3.0]]], keep=[[[False, True], [True, False]]], rate=0.5),
        case("Huge", "a score overflows", z=[[[2.0**600, 1.0], [2.0**600, 2.0**599], [1.0, -1.0]]]),
        case("HugeKeys", "a score overflows, and the scores differ in the last digit of a key",
             z=[[[2.0**20, 1.0], [2.0**1010, 2.0**1010 - 2.0**958], [1.0, -1.0]],
                [[2.0**1010, 1.0], [2.0**20, 2.0**20 - 2.0**-32], [1.0, -1.0]]]),
        case("HugeDistance", "a score overflows by its distance, and keys are small", E_k=[[[2.0**60], [1.0], [0.5]]],
             E_v=[[[1.0], [2.0], [3.0]]], z=[[[2.0**1000, 2.0**1000], [2.0**-1000, 2.0**-1000], [1.0, -1.0]]]),
        case("HugePart", "one product of a score overflows, the other is nearly 0",
             z=[[[2.0**-e], [2.0**e], [1.0], [2.0**(e // 8)], [1.0], [-1.0]] for e in (120, 1000)]),
        case("FarValues", "no power of 2 serves all values; a window", E_k=[[[0.5], [2.0], [1.0]]], E_v=[[[1.0], [2.0], [3.0]]],
             z=[[[1.0, -0.5], [0.5, 2.0], [2.0**e, 2.0**-e]] for e in (100, 1000)]),
        case("TinyValues", "the values are far below the scores",
             z=[[[1.0, -0.5], [0.5, 2.0], [2.0**-e, -2.0**(-e // 2)]] for e in (140, 1060)]),
        case("Subnormal", "the smaller weight is subnormal", z=[[[-740.0, -1.0], [1.0, 0.0], [0.5, 3.0]]]),
    )
    refused = (
        refusal("E_k and E_v must both be given, or neither", E_k=[[[1.0]]], E_v=None),
        refusal("E_k must have shape (1 or heads, 2 w + 1, d)", E_k=[[[1.0], [2.0]]], E_v=[[[1.0], [2.0]]]),
        refusal("E_k must have shape (1 or heads, 2 w + 1, d)", E_k=[[[1.0]]] * 2, E_v=[[[1.0]]] * 2, heads=3),
        refusal("sees must leave every query a key; sees[1] leaves query 1 none", sees=[[True, False], [False, False]]),
        refusal("sees must leave every query a key; sees[0] leaves query 0 none", sees=[[False, True], [True, True]], causal=True),
        refusal("keep must have shape (heads, T, T) with heads=2", heads=2, keep=[[[True]]]),
        refusal("have N=3", [[1.0]] * 6, E_k=[[[1.0]]], E_v=[[[1.0]]]),
        refusal("its events have 3 C channels", [[1.0], [2.0]]),
        refusal("have T=2", [[1.0], [2.0], [3.0]], mask=[True, False]),
    )


# -- relative positions -----------------------------------------------------------------------------------------------

def band(A, R):
    """The entries A_i,i+r of A (..., T, T + R - 1) for r = 0, ..., R - 1: a view (..., T, R)."""
    *steps, row, column = A.strides
    return as_strided(A, (*A.shape[:-1], R), (*steps, row + column, column))


def spread(rows):
    """A (..., T, T) with A_i,i+r-w from rows (..., T, 2 w + 1), 0 beyond the window."""
    *lead, T, R = rows.shape
    A = np.zeros((*lead, T, T + R - 1), rows.dtype)
    band(A, R)[...] = rows
    return A[..., R // 2:R // 2 + T]


def gathered(A, R):
    """The adjoint of `spread`: A_i,i+r-w (..., T, 2 w + 1) from A (..., T, T), 0 outside."""
    *lead, T, _ = A.shape
    wider = np.zeros((*lead, T, T + R - 1), A.dtype)
    wider[..., R // 2:R // 2 + T] = A
    return band(wider, R)


def relative_products(q, E):
    """<q_i, E(j - i)> (..., T, T) for q (..., d, T)."""
    return 0 if E is None else spread(q.mT @ E.mT)


def relative_sums(A, E):
    """sum_j A_ij E(j - i), (..., d, T)."""
    return 0 if E is None else (gathered(A, E.shape[-2]) @ E).mT


def relative_bar(A, g, E):
    """sum_i A_i,i+r g_i (..., G, 2 w + 1, d), summed over heads that share E."""
    bar = (g @ gathered(A, E.shape[-2])).mT                                         # (12)
    return bar.sum(-3, keepdims=True) if E.shape[-3] == 1 else bar


def distance_bar(products, E):
    """The sum over i of products_i,i+r, with exponents apart, and over heads that share E."""
    bar = sum_of_pairs(tuple(gathered(part, E.shape[-2]) for part in products), -2)
    if E.shape[-3] == 1:
        bar = tuple(part[None] for part in sum_of_pairs(bar, -3))
    return np.ldexp(*bar).mT                                                        # (12) (18)


def at_distance(E, T):
    """E(j - i), (..., G, d, T, T)."""
    return 0 if E is None else spread(np.repeat(E.mT[..., None, :], T, -2))


def moved_apart(k, E):
    """k_j + E(j - i), (..., d, T, T), with exponents apart."""
    return apart(k[..., None, :] + at_distance(E, k.shape[-1]))                     # (18)


def scores(q, k, E):
    """s (..., T, T)."""
    return (q.mT @ k + relative_products(q, E)) / math.sqrt(q.shape[-2])            # (1)


def below_the_largest(s, seen):
    """s_ij - s_im, -inf at keys that are not seen."""
    s = np.where(seen, s, -np.inf)
    largest = s.max(-1, keepdims=True)
    return s - np.where(np.isfinite(largest), largest, 0)


def far(q, k, E):
    """Which queries have scores so large that rounding changes their differences by more than 1/16, (..., T, 1)."""
    reach = np.abs(k).max((-2, -1), keepdims=True) + (0 if E is None else np.abs(E).max((-2, -1), keepdims=True))
    bound = q.shape[-2] * np.abs(q).max(-2)[..., None] * reach
    return ~(bound < 2.0 ** (np.finfo(q.dtype).nmant - 4))                          # (14)


def below_the_largest_exactly(q, k, E, seen):
    """The same for scores of any size."""
    seen = np.broadcast_to(seen, (*q.shape[:-2], *seen.shape[-2:]))
    m = seen.argmax(-1)[..., None]
    for _ in range(q.shape[-1]):
        mantissa, e = score_difference(q.astype(np.float64), k.astype(np.float64), E, m)
        mantissa = np.where(seen, mantissa, 0)
        if not np.any(mantissa > 0):
            break
        m = largest_pair((np.where(seen, mantissa, -1), np.where(seen, e, -2 * NOTHING)))
    return np.where(seen, np.ldexp(mantissa, e), -np.inf).astype(q.dtype)           # (14)


def key_differences(k, E, m):
    """k_j - k_m + E(j - i) - E(m - i), (..., d, T, T), as an exact sum."""
    T = k.shape[-1]
    parts = [k[..., None, :]] if E is None else [k[..., None, :], at_distance(E.astype(k.dtype), T)]
    shape = np.broadcast_shapes((*k.shape, T), *(part.shape for part in parts))
    parts = [np.broadcast_to(part, shape) for part in parts]
    at_m = [np.take_along_axis(part, m[..., None, :, :], -1) for part in parts]
    return expansion(np.broadcast_arrays(*parts, *(-part for part in at_m)))        # (14) (20)


def score_difference(q, k, E, m):
    """s_ij - s_im (..., T, T), with exponents apart, to the last digit."""
    q_m, q_e = apart(q[..., None])                                                  # (14)
    terms = []
    for part in key_differences(k, E, m):
        part_m, e = apart(part)                                                     # (14)
        terms += [(term, q_e + e) for term in exact_product(q_m, part_m)]           # (14)
    top = np.max([np.where(term == 0, NOTHING, e).max(-3) for term, e in terms], 0)
    scaled = [np.ldexp(term, np.minimum(e - top[..., None, :, :], 0)) for term, e in terms]    # (14)
    total, carry = np.frexp(exact_sum([term[..., c, :, :] for term in scaled for c in range(q.shape[-2])]))    # (14)
    root = apart(np.float64(1 / math.sqrt(q.shape[-2])))                            # (14)
    return product_of_pairs((total, np.where(total == 0, 0, top + carry)), root)    # (14)


def without_common(k, mask):
    """k_j - r."""
    valid = True if mask is None else mask[..., None, None, :]
    low = np.where(valid, k, np.inf).min(-1, keepdims=True)
    high = np.where(valid, k, -np.inf).max(-1, keepdims=True)
    near, far_end = np.minimum(np.abs(low), np.abs(high)), np.maximum(np.abs(low), np.abs(high))
    alike = (np.sign(low) == np.sign(high)) & (far_end <= 2 * near) & np.isfinite(far_end)
    return np.where(valid & alike, k - (low / 2 + high / 2), k)                     # (19)


def exponents(*arrays):
    """The exponents of the smallest and of the largest number other than 0."""
    found = [np.frexp(array[array != 0])[1] for array in arrays if array is not None]    # (17)
    found = [(e.min(), e.max()) for e in found if e.size]
    return (int(min(low for low, _ in found)), int(max(high for _, high in found))) if found else (0, 0)


def power(P, g, of_values, of_scores):
    """K of (17), as small as possible; None if none serves."""
    limits, terms = np.finfo(P.dtype), 2 * P.shape[-1] * g.shape[-2] * g.shape[-3]  # (17)
    (weight, _), (low, high), (low_value, high_value) = exponents(P), exponents(g), exponents(*of_values)
    above = high + high_value + max(0, exponents(*of_scores)[1]) + math.ceil(math.log2(terms)) + 1
    K = max(0, limits.minexp + 2 * limits.nmant - weight - low - low_value)
    return K if above + K < limits.maxexp else None                                 # (17)


def score_bar(P, U):
    """The derivative with respect to the scores, from the one with respect to the weights."""
    c = U - np.take_along_axis(U, P.argmax(-1)[..., None], -1)
    return P * (c - np.vecdot(P, c)[..., None])                                     # (5) (8) (15) (16)
