r"""Permutation of the entries of a vector, `R^D -> R^D`.

The map.  Entry `i` of the output is entry `order_i` of the input:
    x_i = z_{order_i}                                                               (1)
    z_{order_i} = x_i                                                               (2)
    dx_i/dz_j = 1 for j = order_i, else 0                                           (3)
    log|det dx/dz| = 0                                                              (4)
A permutation takes the simplex to itself.  There all entries before the last are coordinates, and the last one is 1 minus their
sum.  In coordinates, the row of the Jacobian that reads the last entry holds -1 everywhere, and the others are rows of a
permutation matrix.  The volume on the simplex is a constant multiple of the volume in the coordinates, so the determinant is the
same for both:
    det = 1 or -1                               on the simplex too                  (5)

The reverse rule.  From (1) and, for the inverse map, from (2),
    z_bar_{order_i} = x_bar_i                                                       (6)
    x_bar_i = z_bar_{order_i}                                                       (7)

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, permutation, real


@bijector(source="definition", domain=real, codomain=real, constant_log_det=True)
class Permutation(Bijector):
    """x_i = z_{order_i}; z and x (*batch, D), `order` each of 0 .. D-1 once.  ValueError otherwise."""

    order: Array = permutation("D")
    event_ndim = (1, 1)

    def image_of(self, where, side=0):
        return where if where.exchangeable else super().image_of(where, side)       # (5)

    @staticmethod
    def definition(m, z, order):
        return [z[i] for i in order]                                                # (1)

    def forward(self, z):
        return reordered(z, self.order)                                             # (1)

    def inverse(self, x):
        return reordered(x, opposite(self.order))                                   # (2)

    def log_det(self, z):
        return np.zeros(z.shape[:-1], z.dtype)                                      # (4)

    def jacobian(self, z):
        J = self.order[..., None] == np.arange(z.shape[-1])                         # (3)
        return np.broadcast_to(J.astype(z.dtype), z.shape + z.shape[-1:])

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            return reordered(x_bar, opposite(self.order)), {}                       # (6)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            return reordered(z_bar, self.order), {}                                 # (7)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Line", "D = 1: the identity", z=[[3.0]], x=[[-5.0]], order=[0]),
        case("Cycle", "an order that is not its own inverse: gathering and scattering differ", z=[[1.0, 2.0, 4.0]],
             x=[[1.0, 2.0, 4.0]], order=[1, 2, 0]),
        case("Reversal", "an order that is its own inverse", z=[[1.0, 2.0, 4.0, 8.0]], x=[[1.0, 2.0, 4.0, 8.0]],
             order=[3, 2, 1, 0]),
        case("Subnormal", "entries are moved, whatever their size", z=[[5e-324, 2.0**1000]], x=[[5e-324, 2.0**1000]],
             order=[1, 0]),
    )


def reordered(y, order):
    """x_i = y_{order_i} over the last axis."""
    if order.ndim == 1:
        return np.take(y, order, -1)
    return np.take_along_axis(y, np.broadcast_to(order, y.shape), -1)


def opposite(order):
    """The order that undoes `order`: where x_i = y_{order_i}, y_i = x_{opposite_i}."""
    return np.argsort(order, -1)
