r"""From coordinates to own volume: the identity of a set of lower dimension, with another measure.

The map.  Some entries `u` of a member `x` of the set are its coordinates, and `T = dx/du` has a row for each entry of `x`.  By the
area formula, the image of a small region of volume `du` has the volume `sqrt(det T^T T) du` in the space around the set: its own volume.
The map moves nothing.  It measures `z` by its coordinates, and `x` by its own volume:
    x = z                                                                           (1)
    log|det dx/dz| = 1/2 log det T^T T                                              (2)
    dx/dz = I                                                                       (3)
On the simplex, the coordinates are all entries before the last, and `T` is `I` above a row of `-1`.  With `K` entries,
`T^T T = I + 1 1^T`, whose determinant is `K`.  The same holds on the plane of the vectors that sum to 0:
    1/2 log det T^T T = 1/2 log K                                                   (4)
The coordinates of a symmetric matrix are the entries on and below its diagonal.  An entry below moves its mirror image, too, so that
`T^T T` is diagonal, with D ones and `D (D - 1) / 2` twos:
    1/2 log det T^T T = D (D - 1) / 4 log 2                                         (5)
The same holds for a correlation matrix, whose diagonal does not move.
In a Cholesky factor `L` of a correlation matrix, every row has norm 1.  The coordinates are the entries below the diagonal, and
`dL_ii = -sum_{j<i} L_ij dL_ij / L_ii`.  With `s_i = sum_{j<i} L_ij^2`, row `i` has `det T^T T = 1 + s_i / L_ii^2`:
    1/2 log det T^T T = 1/2 sum_i log(1 + s_i / L_ii^2)                             (6)
(4) and (5) are constants, but (6) depends on `L`, so that for factors the choice of the volume changes a posterior.

The reverse rule.  With the cotangent `l_bar` of (2), except for factors
    z_bar = x_bar                                                                   (7)
and for a factor, from (6) with `n_i = s_i + L_ii^2`,
    z_ij_bar = x_ij_bar + l_bar L_ij / n_i  for j < i,   z_ii_bar = x_ii_bar - l_bar s_i / (n_i L_ii)       (8)
For the inverse map, `l_bar` is the cotangent of minus (2), so that (7) and (8) hold with `-l_bar`.

Source: Federer (1969), "Geometric measure theory", 3.2.3, the area formula.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, plain
from ...core.rules import one_of
from ...core.sets import TWICE_MEASURED


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def forward(z, where):
        return z                                                                    # (1)

    def inverse(x, where):
        return x                                                                    # (1)

    def squares(L):
        return np.sum(np.tril(L, -1)**2, -1)

    def log_det(z, where):
        if where != "correlation_cholesky":
            return np.log(len(z)) / 2 if z.ndim == 1 else len(z) * (len(z) - 1) / 4 * np.log(2)     # (4) (5)
        return np.sum(np.log(1 + textbook.squares(z) / np.diagonal(z)**2)) / 2      # (6)

    def inverse_log_det(x, where):
        return -textbook.log_det(x, where)                                          # (2)

    def jacobian(z, where):
        return np.eye(z.size)                                                       # (3)

    def vjp(z, where, x_bar, l_bar):
        if where != "correlation_cholesky":
            return x_bar, {}                                                        # (7)
        s, d = textbook.squares(z), np.diagonal(z)
        n = s + d**2
        return x_bar + l_bar * (np.tril(z, -1) / n[:, None] - np.diag(s / (n * d))), {}         # (8)

    def inverse_vjp(x, where, z_bar, l_bar):
        return textbook.vjp(x, where, z_bar, -l_bar)                                # (7) (8)


r"""In floating point.

In (6), `1 + s_i / L_ii^2` rounds to 1 where `s_i` is small, and overflows where `L_ii` is:
    1/2 log(1 + q),   q = sum_{j<i} (L_ij / L_ii)^2         for s_i <= L_ii^2       (9)
    1/2 log n_i - log L_ii                                  elsewhere               (10)
"""


@bijector(source="Federer (1969), 3.2.3", textbook=textbook)
class IntrinsicVolume(Bijector):
    """x = z on the set named `where`; log_det is the logarithm of its own volume over that of its coordinates.

    Put it after a map onto the simplex, or onto the factors of correlation matrices, whose density another source measures by own
    volume; its inverse goes back.  ValueError for another name, and for events that are not members.
    """

    where: str = plain("simplex", one_of(*TWICE_MEASURED))

    domain = property(lambda self: TWICE_MEASURED[self.where])
    codomain = property(lambda self: self.domain.intrinsic)
    event_ndim = property(lambda self: (self.domain.rank, self.domain.rank))
    constant_log_det = property(lambda self: self.where != "correlation_cholesky")

    def output_shape(self, shape):
        if min(shape) < 1 or len(set(shape)) > 1:
            raise ValueError(f"a member of {self.where} has at least one entry along each axis, and as many along all")
        return shape

    input_shape = output_shape

    @staticmethod
    def inverse_definition(m, x, where):
        return x                                                                    # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return np.array(z)                                                          # (1)

    def inverse(self, x):
        return np.array(x)                                                          # (1)

    def log_det(self, z):
        return self.domain.log_ratio(z)[0]                                          # (2) (4) (5) (6) (9) (10)

    def jacobian(self, z):
        size = int(np.prod(self._event(z, 0)))
        batch = z.shape[:z.ndim - self.event_ndim[0]]
        return np.broadcast_to(np.eye(size, dtype=z.dtype), (*batch, size, size))   # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        log_det, pulled_back = self.domain.log_ratio(z)

        def pullback(x_bar, log_det_bar):
            return x_bar + pulled_back(log_det_bar), {}                             # (7) (8)

        return (self.forward(z), log_det), pullback

    def inverse_vjp(self, x):
        log_det, pulled_back = self.domain.log_ratio(x)

        def pullback(z_bar, log_det_bar):
            return z_bar - pulled_back(log_det_bar), {}                             # (7) (8)

        return (self.inverse(x), -log_det), pullback

    hard_cases = (
        case("Vertex", "all of the stick but a little", z=[[1.0, 2.0**-140, 2.0**-149]], x=[[1.0, 2.0**-140, 2.0**-149]],
             where="simplex"),
        case("Plane", "(4) holds on every plane of a known sum", z=[[1.0, -3.0, 2.0]], x=[[0.25, -0.25]], where="zero_sum"),
        case("Symmetric", "an entry below the diagonal moves two", z=[[[2.0, 0.5], [0.5, 1.0]]], x=[[[3.0]]], where="positive_definite"),
        case("Correlations", "the diagonal does not move", z=[[[1.0, 0.5], [0.5, 1.0]]], x=[[[1.0]]], where="correlation"),
        case("Identity", "1 + s rounds to 1", z=[[[1.0, 0.0], [2.0**-40, 1.0]]], x=[[[1.0, 0.0], [2.0**-40, 1.0]]],
             where="correlation_cholesky"),
        case("Edge", "(L_ij / L_ii)^2 overflows", z=[[[1.0, 0.0], [-1.0, 2.0**-90]]], x=[[[1.0, 0.0], [1.0, 2.0**-149]]],
             where="correlation_cholesky"),
        case("Switch", "(9) and (10) meet: s_i = L_ii^2", z=[[[1.0, 0.0], [0.5**0.5, 0.5**0.5]]], where="correlation_cholesky"),
    )
