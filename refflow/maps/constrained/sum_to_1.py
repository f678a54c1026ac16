r"""All entries of a point of the simplex from all but the last one, `{z > 0, sum z < 1}` in `R^(K-1)` -> the simplex in `R^K`.

The map.  The last entry is what the others leave of 1:
    x_k = z_k  for k < K,   x_K = 1 - z_1 - ... - z_{K-1}                           (1)
    z_k = x_k  for k < K                                                            (2)
    dx_k/dz_j = [j = k]  for k < K,   dx_K/dz_j = -1                                (3)
The entries `z` are the coordinates by which volumes of the simplex are measured:
    log|det dx/dz| = 0                                                              (4)
The difference in (1) is rounded once.  Where it cancels, it has no more digits than the entries give it: a unit in the last place
of a `z_k` moves `x_K` by as much.  A map onto the simplex that keeps the digits of a small last entry, as `StickBreaking` does, has
them from numbers that `z` no longer holds.

The reverse rule.  From (3), and for the inverse map from (2),
    z_k_bar = x_k_bar - x_K_bar                                                     (5)
    x_k_bar = z_k_bar  for k < K,   x_K_bar = 0                                     (6)

Source: PyMC, `SumTo1`.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, simplex
from ...core.sets import subsimplex, what_is_left


@bijector(source="PyMC, SumTo1", domain=subsimplex, codomain=simplex, constant_log_det=True)
class SumTo1(Bijector):
    """x = (z, 1 - sum z).

    z is (*batch, K-1) with entries > 0 of a sum < 1, x is (*batch, K) with entries >= 0 that sum to 1, K >= 1 (K = 1: an empty z and
    x = 1).  The log-det is by the first K - 1 entries.  ValueError for z and x that are not in these sets.
    """

    event_ndim = (1, 1)

    def output_shape(self, shape):
        return (shape[0] + 1,)

    def input_shape(self, shape):
        if shape[0] < 1:
            raise ValueError("a point of the simplex needs K >= 1 entries")
        return (shape[0] - 1,)

    @staticmethod
    def definition(m, z):
        return [*z, 1 - sum(z, m.mpf(0))]                                           # (1)

    @staticmethod
    def inverse_definition(m, x):
        return x[:-1]                                                               # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.concatenate((z, what_is_left(z)[..., -1:]), -1)                   # (1)

    def inverse(self, x):
        return x[..., :-1].copy()                                                   # (2)

    def log_det(self, z):
        return np.zeros(z.shape[:-1], z.dtype)                                      # (4)

    def jacobian(self, z):
        J = np.concatenate((np.eye(z.shape[-1], dtype=z.dtype), np.full((1, z.shape[-1]), -1, z.dtype)))        # (3)
        return np.broadcast_to(J, z.shape[:-1] + J.shape)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            return x_bar[..., :-1] - x_bar[..., -1:], {}                            # (5)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return np.concatenate((z_bar, np.zeros(z_bar.shape[:-1] + (1,), z_bar.dtype)), -1), {}          # (6)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Face", "the difference in (1) has few digits, or none", z=[[0.5, 0.5 - 2.0**-24], [0.25, 0.25, 0.5 - 2.0**-20]],
             x=[[0.5, 0.5, 2.0**-80], [1.0, 2.0**-149]]),
        case("Corner", "the entries are far below 1", z=[[2.0**-140, 2.0**-149], [2.0**-1074]], x=[[2.0**-149, 2.0**-100, 1.0]]),
        case("None", "no entry is given: the last is 1", x=[[1.0]]),
    )
