r"""Normalisation of the queries and the keys of attention, head by head, `R^N -> R^N`.

The map.  A vector holds `H` heads of queries, then `G` heads of keys, then `G` heads of values, of `d` entries each.  Two
normalisations of `R^d` act on every head of queries and on every head of keys:
    h_n = norm_q(q_n)   for the heads of queries                                    (1)
    h_g = norm_k(k_g)   for the heads of keys                                       (2)
and values stay as they are.  Scores `<q, k>` of attention are then bounded, whatever the layer before it.
    dh/da: the blocks d norm_q(q_n) and d norm_k(k_g), 1 for values                 (3)

The reverse rule.  All heads of queries share one normalisation, and all heads of keys the other.  With their pullbacks,
    q_bar_n = norm_q*(h_bar_n),   k_bar_g = norm_k*(h_bar_g)                        (4)
and the parameters' cotangents are summed over heads.

Source: Henry, Dachapally, Pawar & Chen, arXiv:2010.04245; by the root mean square, STARFlow, Gu et al., arXiv:2506.06276.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, child, conditioner, plain, refusal
from ...core.rules import count
from .conv1d import Conv1d
from .rms_norm import RMSNorm


@conditioner(source="arXiv:2010.04245")
class QueryKeyNorm(Conditioner):
    """h (*batch, (H + 2 G) d) from queries, keys and values: `queries` and `keys`, conditioners of R^d, act on each of their heads.

    H = `heads`, G = `key_heads`.  ValueError for norms that do not keep vectors of d entries, and for norms whose parameters have a
    batch.
    """

    queries: Conditioner = child()
    keys: Conditioner = child()
    heads: int = plain(rule=count())
    key_heads: int = plain(rule=count())
    event_shape = ("N",)
    lifted_axes = 1

    normwise = property(lambda self: any(c.normwise for c in self.components()))
    smooth = property(lambda self: all(c.smooth for c in self.components()))

    def _validate(self):
        for name in ("queries", "keys"):
            norm = getattr(self, name)
            if norm.event_ndim != (1, 1):
                raise ValueError(f"QueryKeyNorm: {name} must be a conditioner of vectors, event ranks (1, 1), not {norm.event_ndim}")
            if norm.parameter_batch != ():
                raise ValueError(f"QueryKeyNorm: the parameters of {name} must have no batch, not {norm.parameter_batch}")
        super()._validate()

    def head_size(self, N):
        """d.  ValueError if N channels do not hold the heads."""
        heads = self.heads + 2 * self.key_heads
        if N % heads or N == 0:
            raise ValueError(f"its events hold {heads} heads of one size")
        return N // heads

    def output_shape(self, shape):
        d = self.head_size(shape[0])
        for name in ("queries", "keys"):
            if tuple(getattr(self, name).output_shape((d,))) != (d,):
                raise ValueError(f"its {name} must keep vectors of {d} entries")
        return shape

    def depends(self, shape):
        d = self.head_size(shape[0])
        blocks = [*[self.queries.depends((d,))] * self.heads, *[self.keys.depends((d,))] * self.key_heads,
                  np.eye(self.key_heads * d, dtype=bool)]
        return block_diagonal(blocks, bool)

    @staticmethod
    def definition(m, a, queries, keys, heads, key_heads):
        d = len(a) // (heads + 2 * key_heads)
        parts = [a[n * d:(n + 1) * d] for n in range(heads + 2 * key_heads)]
        h = [queries.definition(m, q) for q in parts[:heads]]                       # (1)
        h += [keys.definition(m, k) for k in parts[heads:heads + key_heads]]        # (2)
        return [entry for head in h + parts[heads + key_heads:] for entry in head]

    def of_heads(self, a):
        """q (*batch, H, d), k and v (*batch, G, d)."""
        H, G, (*batch, N) = self.heads, self.key_heads, a.shape
        heads = a.reshape(*batch, H + 2 * G, N // (H + 2 * G))
        return heads[..., :H, :], heads[..., H:H + G, :], heads[..., H + G:, :]

    def joined(self, q, k, v):
        h = np.concatenate((q, k, v), -2)
        return h.reshape(*h.shape[:-2], h.shape[-2] * h.shape[-1])

    def forward(self, a):
        q, k, v = self.of_heads(a)
        return self.joined(self.queries.forward(q), self.keys.forward(k), v)        # (1) (2)

    def jacobian(self, a):
        q, k, v = self.of_heads(a)
        blocks = [*np.moveaxis(self.queries.jacobian(q), -3, 0), *np.moveaxis(self.keys.jacobian(k), -3, 0)]
        return block_diagonal([*blocks, np.eye(v.shape[-2] * v.shape[-1], dtype=a.dtype)], a.dtype)         # (3)

    def vjp(self, a):
        q, k, v = self.of_heads(a)
        (q, of_queries), (k, of_keys) = self.queries.vjp(q), self.keys.vjp(k)       # (1) (2)

        def pullback(h_bar):
            q_bar, k_bar, v_bar = self.of_heads(h_bar)
            (q_bar, queries_bar), (k_bar, keys_bar) = of_queries(q_bar), of_keys(k_bar)     # (4)
            return self.joined(q_bar, k_bar, v_bar), {"queries": queries_bar, "keys": keys_bar}

        return self.joined(q, k, v), pullback

    def initialised(self, data, rng):
        """Its normalisations, each initialised on all of its heads."""
        q, k, _ = self.of_heads(np.asarray(data))
        return self.replace(queries=self.queries.initialised(q, rng), keys=self.keys.initialised(k, rng))

    @classmethod
    def examples(cls, source):
        """Gains and eps of root mean squares."""
        H, G, d = (source.count(1, 2) for _ in range(3))
        norms = [RMSNorm(source.signed((d,), -4, 4), 0.5) for _ in range(2)]
        return cls(*norms, H, G), ((H + 2 * G) * d,)

    hard_cases = (
        case("Heads", "two heads of queries share a gain; the values stay", z=[[3.0, 4.0, -1.0, 1.0, 2.0, 2.0, 2.0**100, 1e-9]],
             queries=RMSNorm([2.0, -1.0]), keys=RMSNorm([0.5, 1.0]), heads=2, key_heads=1),
        case("Zero", "a head of zeros stays so", z=[[0.0, 0.0, 1.0, 2.0, 3.0, 4.0]], queries=RMSNorm([2.0, 1.0]), keys=RMSNorm([1.0, 1.0]),
             heads=1, key_heads=1),
    )
    refused = (
        refusal("queries must be a conditioner of vectors", queries=Conv1d([[[1.0]]]), keys=RMSNorm([1.0]), heads=1, key_heads=1),
        refusal("the parameters of keys must have no batch", queries=RMSNorm([1.0]), keys=RMSNorm([[1.0], [2.0]]), heads=1, key_heads=1),
        refusal("its events hold 3 heads", [1.0, 2.0], queries=RMSNorm([1.0]), keys=RMSNorm([1.0]), heads=1, key_heads=1),
    )


def block_diagonal(blocks, dtype):
    """The matrix (*batch, N, N) of square blocks (*batch, n, n) along its diagonal."""
    N, batch = sum(block.shape[-1] for block in blocks), np.broadcast_shapes(*(block.shape[:-2] for block in blocks))
    J, at = np.zeros((*batch, N, N), dtype), 0
    for block in blocks:
        own = slice(at, at + block.shape[-1])
        J[..., own, own] = block
        at += block.shape[-1]
    return J
