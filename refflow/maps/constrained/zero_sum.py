r"""Vectors whose entries sum to 0, `R^(K-1)` -> the plane of these in `R^K`, without a change of lengths.

The map.  With `s = z_1 + ... + z_{K-1}` and `h` the root of `K`,
    x_k = z_k - s / (K + h)  for k < K,   x_K = -s / h                              (1)
These entries sum to 0, as `(K - 1) / (K + h) = 1 - 1 / h`.  Where they do, `s = -h x_K`, so that
    z_k = x_k - x_K / (h + 1)                                                       (2)
From (1), for `k < K`,
    dx_k/dz_j = [j = k] - 1 / (K + h),   dx_K/dz_j = -1 / h                         (3)
The columns of (3) are orthonormal: the product of two different ones is `-2 / (K + h) + (K - 1) / (K + h)^2 + 1 / K = 0`, and the
product of a column with itself is larger by 1.  The map is a rotation of the first `K - 1` axes into the plane, and keeps lengths and
volumes.  By the plane's own volume,
    log|det dx/dz| = 0                                                              (4)

The reverse rule.  From (3), and for the inverse map from (2),
    z_k_bar = x_k_bar - (x_1_bar + ... + x_{K-1}_bar) / (K + h) - x_K_bar / h       (5)
    x_k_bar = z_k_bar  for k < K,   x_K_bar = -(z_1_bar + ... + z_{K-1}_bar) / (h + 1)                      (6)

Source: PyMC, `ZeroSumTransform`; NumPyro has the same map.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, real
from ...core.sets import zero_sum


@bijector(source="PyMC, ZeroSumTransform", domain=real, codomain=zero_sum, constant_log_det=True)
class ZeroSum(Bijector):
    """x_k = z_k - s / (K + sqrt K), x_K = -s / sqrt K, with s the sum of z.

    z is (*batch, K-1) and real, x is (*batch, K) with entries that sum to 0, K >= 1 (K = 1: an empty z and x = 0).  The log-det is by
    own volume.  ValueError for z that is not finite and for x whose entries do not sum to 0.
    """

    event_ndim = (1, 1)

    def output_shape(self, shape):
        return (shape[0] + 1,)

    def input_shape(self, shape):
        if shape[0] < 1:
            raise ValueError("a vector whose entries sum to 0 needs K >= 1 entries")
        return (shape[0] - 1,)

    @staticmethod
    def definition(m, z):
        K, s = len(z) + 1, sum(z, m.mpf(0))
        h = m.sqrt(K)
        return [z_k - s / (K + h) for z_k in z] + [-s / h]                          # (1)

    @staticmethod
    def inverse_definition(m, x):
        h = m.sqrt(len(x))
        return [x_k - x[-1] / (h + 1) for x_k in x[:-1]]                            # (2)

    def forward(self, z):
        K, h = size_and_root(z.shape[-1] + 1, z.dtype)
        s = z.sum(-1, keepdims=True)
        return np.concatenate((z - s / (K + h), -s / h), -1)                        # (1)

    def inverse(self, x):
        _, h = size_and_root(x.shape[-1], x.dtype)
        return x[..., :-1] - x[..., -1:] / (h + 1)                                  # (2)

    def log_det(self, z):
        return np.zeros(z.shape[:-1], z.dtype)                                      # (4)

    def jacobian(self, z):
        K, h = size_and_root(z.shape[-1] + 1, z.dtype)
        J = np.concatenate((np.eye(z.shape[-1], dtype=z.dtype) - 1 / (K + h), np.full((1, z.shape[-1]), -1 / h, z.dtype)))     # (3)
        return np.broadcast_to(J, z.shape[:-1] + J.shape)

    def vjp(self, z):
        K, h = size_and_root(z.shape[-1] + 1, z.dtype)

        def pullback(x_bar, log_det_bar):
            first, last = x_bar[..., :-1], x_bar[..., -1:]
            return first - first.sum(-1, keepdims=True) / (K + h) - last / h, {}    # (5)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        _, h = size_and_root(x.shape[-1], x.dtype)

        def pullback(z_bar, log_det_bar):
            return np.concatenate((z_bar, -z_bar.sum(-1, keepdims=True) / (h + 1)), -1), {}         # (6)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Centred", "z itself sums to 0: the last entry is 0", z=[[1.0, -1.0], [2.0**60, -(2.0**60)]]),
        case("Two", "K = 2: x = (z, -z) / sqrt 2", z=[[3.0], [-(2.0**-140)]], x=[[1.0, -1.0]]),
        case("Large", "one entry is far larger than the others", z=[[2.0**100, 1.0, -1.0]], x=[[2.0**100, 1.0, -(2.0**100)]]),
    )


def size_and_root(K, dtype):
    """K and h."""
    return dtype.type(K), np.sqrt(dtype.type(K))
