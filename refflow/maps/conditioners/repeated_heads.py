r"""Grouped-query attention: heads of keys and values, each repeated for a group of queries, `(H + 2 G) d -> 3 H d`.

The map.  A vector holds `H` heads of queries, then `G` heads of keys, then `G` heads of values, of `d` entries each, and `G` divides
`H`.  Query head `n` attends to head `g(n)` of keys and values:
    h = (q_1, ..., q_H, k_g(1), ..., k_g(H), v_g(1), ..., v_g(H))                   (1)
    g(n) = ceil(n G/H)                                                              (2)
    dh_i/da_j = 1   where h_i is a_j,   0 elsewhere                                 (3)
Attention with `H` heads to (1) is attention of grouped queries; with `G = 1`, all queries share one head of keys and values.

The reverse rule.  A head that stands in several places gets the sum of their cotangents:
    q_bar_n = h_bar_n,   k_bar_g = sum of the cotangents of k_g(n) over the n with g(n) = g         (4)
and the same for values.

Source: Ainslie, Lee-Thorp, de Jong, Zemlyanskiy, Lebron & Sanghai, arXiv:2305.13245.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner, plain, refusal
from ...core.rules import count


@conditioner(source="arXiv:2305.13245")
class RepeatedHeads(Conditioner):
    """h (*batch, 3 H d) from a (*batch, (H + 2 G) d), H = `heads` of queries, G = `key_heads` of keys and of values.

    ValueError unless G divides H, and for events that do not hold H + 2 G heads.
    """

    heads: int = plain(rule=count())
    key_heads: int = plain(rule=count())
    event_shape = ("N",)

    def _validate(self):
        super()._validate()
        check_groups("RepeatedHeads", self.heads, self.key_heads)

    def output_shape(self, shape):
        return (3 * self.heads * head_size(shape[0], self.heads, self.key_heads),)

    def depends(self, shape):
        N, = shape
        return np.eye(N, dtype=bool)[self.origins(N)]

    def origins(self, N):
        """The entry of a that each entry of h is."""
        H, G = self.heads, self.key_heads
        read = np.arange(H) * G // H                                                # (2)
        heads = np.concatenate((np.arange(H), H + read, H + G + read))              # (1)
        return np.arange(N).reshape(H + 2 * G, N // (H + 2 * G))[heads].ravel()

    @staticmethod
    def definition(m, a, heads, key_heads):
        d = len(a) // (heads + 2 * key_heads)

        def head(n):
            return a[n * d:(n + 1) * d]

        read = [n * key_heads // heads for n in range(heads)]                       # (2)
        taken = [*range(heads), *(heads + g for g in read), *(heads + key_heads + g for g in read)]
        return [entry for n in taken for entry in head(n)]                          # (1)

    def forward(self, a):
        return a[..., self.origins(a.shape[-1])]                                    # (1)

    def jacobian(self, a):
        N = a.shape[-1]
        J = np.eye(N, dtype=a.dtype)[self.origins(N)]                               # (3)
        return np.broadcast_to(J, (*a.shape[:-1], *J.shape))

    def vjp(self, a):
        H, G, N = self.heads, self.key_heads, a.shape[-1]
        d = N // (H + 2 * G)

        def pullback(h_bar):
            batch = h_bar.shape[:-1]
            shared = h_bar[..., H * d:].reshape(*batch, 2 * G, H // G, d).sum(-2)   # (4)
            return np.concatenate((h_bar[..., :H * d], shared.reshape(*batch, 2 * G * d)), -1), {}      # (4)

        return self.forward(a), pullback

    @classmethod
    def examples(cls, source):
        G, group, d = (source.count(1, 2) for _ in range(3))
        return cls(G * group, G), ((G * group + 2 * G) * d,)

    hard_cases = (
        case("Shared", "all queries share one head", z=[[1.0, -2.0, 0.5, 3.0, 1e-9]], heads=3, key_heads=1),
        case("Groups", "two groups of two queries", z=[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]], heads=4, key_heads=2),
        case("Own", "each query has its own head: h is a", z=[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], heads=1, key_heads=1),
    )
    refused = (
        refusal("heads must be a multiple of key_heads = 2, not 3", heads=3, key_heads=2),
        refusal("its events hold 4 heads", [1.0, 2.0, 3.0], heads=2, key_heads=1),
    )


def check_groups(name, heads, key_heads):
    """ValueError unless key_heads divides heads."""
    if heads % key_heads:
        raise ValueError(f"{name}: heads must be a multiple of key_heads = {key_heads}, not {heads}")


def head_size(N, heads, key_heads):
    """d, of N channels of queries, keys and values.  ValueError if they do not hold the heads."""
    if N % (heads + 2 * key_heads) or N == 0:
        raise ValueError(f"its events hold {heads + 2 * key_heads} heads of one size")
    return N // (heads + 2 * key_heads)
