r"""Householder reflections, one after the other, of the columns of a matrix.

`H_k` reflects in the hyperplane orthogonal to the vector `v_k`.  One reflection after the other moves the columns of `Y_0`:
    H_k = I - 2 e_k e_k^T,   e_k = v_k/|v_k|                                        (1)
    Y_k = H_k Y_(k-1) = Y_(k-1) - 2 e_k w_k^T,   w_k = Y_(k-1)^T e_k                (2)
With `G = Y_k_bar` and `s_k = G^T e_k`,
    Y_(k-1)_bar = H_k G = G - 2 e_k s_k^T                                           (3)
    e_k_bar = -2 (G w_k + Y_(k-1) s_k)                                              (4)
    v_k_bar = (e_k_bar - (e_k^T e_k_bar) e_k)/|v_k|                                 (5)
The length of `v_k` has no effect, so `v_k_bar` is orthogonal to `v_k`.  In (1), `|v|^2` may overflow or vanish.  Vectors are scaled
by powers of two, exactly:
    v_k = 2^(p_k) v_k',   e_k = v_k'/|v_k'|                                         (6)
Columns may be scaled as well.  If columns `j` of `Y` and of `G` stand for `2^(a_j)` and `2^(b_j)` times themselves, the powers
enter (4) relative to the largest one, which is multiplied in after (5).  So nothing overflows unless the result does:
    e_k_bar = -2 sum_j 2^(a_j + b_j - t) (w_kj G_j + s_kj Y_j),   t = max_j (a_j + b_j)         (7)
    v_k_bar = 2^(t - p_k) (e_k_bar - (e_k^T e_k_bar) e_k)/|v_k'|                    (8)
"""

from __future__ import annotations

import numpy as np

from ...core.arithmetic import scaled, unit_scaled

LOWEST = -2**13                                     # below the exponent of any product of two floats


class Reflections:
    """The reflections of vectors (..., K, D) that are not 0, the first one first, or the last one first."""

    def __init__(self, vectors, last_first=False):
        v, self.exponents = unit_scaled(vectors)                                    # (6)
        self.sizes = np.sqrt((v * v).sum(-1, keepdims=True))                        # (1)
        self.units = v / self.sizes                                                 # (1)
        self.order = range(v.shape[-2])[::-1 if last_first else 1]

    def moved(self, Y):
        """Y_n of Y_0 = Y (..., D, N), and for each step k, e_k, w_k and Y_(k-1)."""
        steps = []
        for k in self.order:
            e = self.units[..., k, :, None]
            w = e.mT @ Y                                                            # (2)
            steps.append((k, e, w, Y))
            Y = Y - 2 * e * w                                                       # (2)
        return Y, steps

    def pulled(self, steps, G, exponents=0):
        """The cotangents of Y_0 and of the vectors; `exponents` (..., 1, N) are the a_j + b_j of (7)."""
        top = exponents if type(exponents) is int else exponents.max(-1, keepdims=True, initial=LOWEST)
        bars, below = [None] * len(steps), exponents - top
        for k, e, w, Y in reversed(steps):
            s = e.mT @ G
            e_bar = -2 * (G @ scaled(w, below).mT + Y @ scaled(s, below).mT)        # (4) (7)
            v_bar = (e_bar - (e.mT @ e_bar) * e) / self.sizes[..., k, :, None]      # (5)
            bars[k] = scaled(v_bar, top - self.exponent(k))[..., 0]                 # (8)
            G = G - 2 * e * s                                                       # (3)
        return G, np.stack(bars, -2)

    def exponent(self, k):
        return self.exponents if type(self.exponents) is int else self.exponents[..., k, :, None]
