r"""Squeeze of a sequence: neighbouring positions become channels, as in Glow-TTS.

The map.  A sequence `z` of `(C, T)` becomes `x` of `(n C, T/n)`, `n = factor`.  The entry of channel `c` at position `n i + k`
of group `i`, `0 <= k < n`, goes to channel `k C + c`.  The map moves entries and changes none of them, and the inverse
moves them back:
    x_{k C + c, i} = z_{c, n i + k}                                                 (1)
    dx/dz = a permutation matrix,   log|det| = 0                                    (2)
    z_{c, n i + k} = x_{k C + c, i}                                                 (3)

The reverse rule.  The transpose of a permutation matrix is its inverse, so that cotangents move back as entries do:
    z_bar_{c, n i + k} = x_bar_{k C + c, i},   of the inverse map read from right to left       (4)

Source: Kim, Kim, Kong & Yoon, arXiv:2005.11129, section 3.2; the order (1) is in the authors' code, `squeeze`.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, plain, real
from ...core.rules import count


def squeezed(z, n):
    """x of (1)."""
    *batch, C, T = z.shape
    groups = z.reshape(*batch, C, T // n, n)                                        # axes c, i, k
    return np.moveaxis(groups, -1, -3).reshape(*batch, C * n, T // n)               # (1)


def unsqueezed(x, n):
    """z of (3)."""
    *batch, C, T = x.shape
    groups = x.reshape(*batch, n, C // n, T)                                        # axes k, c, i
    return np.moveaxis(groups, -3, -1).reshape(*batch, C // n, T * n)               # (3)


@bijector(source="arXiv:2005.11129", domain=real, codomain=real, constant_log_det=True)
class SqueezeTime(Bijector):
    """Each group of `factor` positions as channels: z (*batch, C, T), x (*batch, factor C, T/factor).

    ValueError for a factor that is not an int >= 1, a length that it does not divide, and channels of x that it does not
    divide.
    """

    factor: int = plain(2, count())
    event_ndim = (2, 2)

    def output_shape(self, shape):
        C, T = shape
        if T % self.factor:
            raise ValueError(f"its length must be a multiple of factor = {self.factor}")
        return C * self.factor, T // self.factor

    def input_shape(self, shape):
        C, T = shape
        if C % self.factor:
            raise ValueError(f"its channels must be a multiple of factor = {self.factor}")
        return C // self.factor, T * self.factor

    @staticmethod
    def definition(m, z, factor):
        return [[z[c][factor * i + k] for i in range(len(z[c]) // factor)] for k in range(factor) for c in range(len(z))]  # (1)

    @staticmethod
    def inverse_definition(m, x, factor):
        C, T = len(x) // factor, len(x[0]) * factor
        return [[x[t % factor * C + c][t // factor] for t in range(T)] for c in range(C)]   # (3)

    def forward(self, z):
        return squeezed(z, self.factor)                                             # (1)

    def inverse(self, x):
        return unsqueezed(x, self.factor)                                           # (3)

    def log_det(self, z):
        return np.zeros(z.shape[:-2], z.dtype)                                      # (2)

    def jacobian(self, z):
        size = int(np.prod(z.shape[-2:]))
        moved = squeezed(np.arange(size).reshape(z.shape[-2:]), self.factor).ravel()
        J = (moved[:, None] == np.arange(size)).astype(z.dtype)                     # (2)
        return np.broadcast_to(J, (*z.shape[:-2], size, size))

    def vjp(self, z):
        return self.forward_and_log_det(z), lambda x_bar, log_det_bar: (self.inverse(x_bar), {})    # (4)

    def inverse_vjp(self, x):
        return self.inverse_and_log_det(x), lambda z_bar, log_det_bar: (self.forward(z_bar), {})    # (4)

    hard_cases = (
        case("OneGroup", "two positions of two channels: the order of the channels is all there is",
             z=[[[1.0, 2.0], [3.0, 4.0]]], x=[[[1.0], [3.0], [2.0], [4.0]]], factor=2),
        case("Three", "groups of three", z=[[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]], x=[[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]],
             factor=3),
        case("One", "a factor of 1: the identity", z=[[[1.0, 2.0]]], x=[[[1.0, 2.0]]], factor=1),
    )
