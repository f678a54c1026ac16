r"""The log-det of a matrix near the identity, `I + E`, without the loss of the digits of a small `E`.

Gauss's elimination, without exchanges of rows, in `E` itself: the pivots are `1 + p_k`, and for `k` from 1 to `D`,
    p_k = E_kk,   E_ij <- E_ij - E_ik E_kj/(1 + p_k)   for i, j > k                 (1)
    log det(I + E) = sum_k log1p(p_k)                                               (2)
It needs no exchange where all `v` have `v^T (I + E) v >= (1 - L) v^T v` with an `L < 1`, as for `|E| <= L`.  What is left after some rows
are eliminated has this property, too: it takes `v` to what `I + E` makes of a longer vector that ends with `v`, whose other products are 0.
So all pivots are at least `1 - L`.
"""

from __future__ import annotations

import numpy as np


def log_det_1_plus(E):
    """log det(I + E) of matrices E (*batch, D, D) with norms below 1."""
    log_det = np.zeros(E.shape[:-2], E.dtype)
    while E.shape[-1]:
        p = E[..., 0, 0]                                                            # (1)
        log_det = log_det + np.log1p(p)                                             # (2)
        row = E[..., :1, 1:] / (1 + p[..., None, None])
        E = E[..., 1:, 1:] - E[..., 1:, :1] * row                                   # (1)
    return log_det
