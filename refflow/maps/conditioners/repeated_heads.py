r"""Grouped-query attention: heads of keys and values, each repeated for a group of queries, `((H + 2 G) d, T) -> (3 H d, T)`.

The map.  The channels of a signal are `H` heads of queries, then `G` heads of keys, then `G` heads of values, of `d` channels each,
and `G` divides `H`.  At every position, head `n` of queries gets head `g(n)` of keys and of values:
    h = (q, K, V),   K_n = k_(g(n)),   V_n = v_(g(n))       for n = 1, ..., H       (1)
    g(n) = ceil(n G/H)                                                              (2)
    dh_i/da_j = 1   where h_i is a_j,   0 elsewhere                                 (3)
Attention with `H` heads to (1) is attention of grouped queries.  With `G = 1`, all queries share one head of keys and values.

The reverse rule.  A head that stands in several places gets the sum of their cotangents:
    k_bar_g = sum_n K_bar_n,   v_bar_g = sum_n V_bar_n      over the n with g(n) = g        (4)
Queries stand in one place, and keep theirs.

Source: Ainslie, Lee-Thorp, de Jong, Zemlyanskiy, Lebron & Sanghai, arXiv:2305.13245.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner, plain, refusal
from ...core.rules import count


@conditioner(source="arXiv:2305.13245")
class RepeatedHeads(Conditioner):
    """h (*batch, 3 H d, T) from a (*batch, (H + 2 G) d, T).

    H = `heads` of queries, G = `key_heads` of keys and of values, d = `size` of a head.  ValueError unless G divides H.
    """

    heads: int = plain(rule=count())
    key_heads: int = plain(rule=count())
    size: int = plain(1, count())
    event_ndim = (2, 2)
    event_shape = ("N", "T")

    def _validate(self):
        super()._validate()
        if self.heads % self.key_heads:
            raise ValueError(f"RepeatedHeads: heads must be a multiple of key_heads = {self.key_heads}, not {self.heads}")
        self.dims["N"] = (self.heads + 2 * self.key_heads) * self.size

    def output_shape(self, shape):
        N, T = shape
        if N != self.dims["N"]:
            raise ValueError(f"its {self.heads + 2 * self.key_heads} heads of {self.size} channels have N={self.dims['N']}")
        return 3 * self.heads * self.size, T

    def depends(self, shape):
        return np.kron(np.eye(shape[0], dtype=bool)[self.origins()], self.depends_on_positions(shape))

    def depends_on_positions(self, shape):
        return np.eye(shape[1], dtype=bool)

    def origins(self):
        """The channel of a that each channel of h is."""
        H, G, d = self.heads, self.key_heads, self.size
        read = np.arange(H) * G // H                                                # (2)
        heads = np.concatenate((np.arange(H), H + read, H + G + read))              # (1)
        return (heads[:, None] * d + np.arange(d)).ravel()

    @staticmethod
    def definition(m, a, heads, key_heads, size):
        read = [n * key_heads // heads for n in range(heads)]                       # (2)
        taken = [*range(heads), *(heads + g for g in read), *(heads + key_heads + g for g in read)]
        return [row for n in taken for row in a[n * size:(n + 1) * size]]           # (1)

    def forward(self, a):
        return a[..., self.origins(), :]                                            # (1)

    def jacobian(self, a):
        N, T = a.shape[-2:]
        J = np.kron(np.eye(N, dtype=a.dtype)[self.origins()], np.eye(T, dtype=a.dtype))     # (3)
        return np.broadcast_to(J, (*a.shape[:-2], *J.shape))

    def vjp(self, a):
        H, G, d = self.heads, self.key_heads, self.size

        def pullback(h_bar):
            *batch, _, T = h_bar.shape
            copies = h_bar[..., H * d:, :].reshape(*batch, 2 * G, H // G, d, T)
            return np.concatenate((h_bar[..., :H * d, :], copies.sum(-3).reshape(*batch, 2 * G * d, T)), -2), {}    # (4)

        return self.forward(a), pullback

    @classmethod
    def examples(cls, source):
        G, group, d = source.choice(((1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1)))
        return cls(G * group, G, d), ((G * group + 2 * G) * d, source.count(1, 2))

    hard_cases = (
        case("Shared", "two queries share one head", z=[[[1.0], [-2.0], [0.5], [3.0]]], heads=2, key_heads=1),
        case("Groups", "two groups of two queries", z=[[[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0], [1e-9]]], heads=4, key_heads=2),
        case("Own", "each query has its own head: h is a", z=[[[1.0, 0.5], [2.0, -1.0], [3.0, 4.0]]], heads=1, key_heads=1),
    )
    refused = (
        refusal("heads must be a multiple of key_heads = 2, not 3", heads=3, key_heads=2),
        refusal("have N=4", [[1.0], [2.0], [3.0]], heads=2, key_heads=1),
    )
