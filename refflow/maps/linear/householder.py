r"""Orthogonal linear map by Householder reflections, `R^D -> R^D`, with its vectors as parameters.

The map.  With `K` vectors `v_1, ..., v_K`, none of them 0, where `H_k` reflects in the hyperplane orthogonal to `v_k`,
    x = H_1 H_2 ... H_K z                                                           (1)
    H_k = I - 2 v_k v_k^T/(v_k^T v_k)                                               (2)
    z = H_K ... H_2 H_1 x                                                           (3)
    dx/dz = Q = H_1 H_2 ... H_K                                                     (4)
    log|det dx/dz| = 0                                                              (5)
since each `H_k` is its own inverse and has the determinant -1.  Every orthogonal matrix with the determinant `(-1)^D` is a product
of `D` reflections; every other one is a product of `D - 1`.  The unit of error is normwise, as for all matrix pages.

The reverse rule.  Stage by stage, with `y_K = z`, `y_(k-1) = H_k y_k` and `g_0 = x_bar`, since `H_k` is symmetric,
    g_k = H_k g_(k-1),   z_bar = g_K                                                (6)
    v_k_bar = -2 ((e^T y) (g - (e^T g) e) + (e^T g) (y - (e^T y) e))/|v_k|          (7)
    where  e = v_k/|v_k|,   y = y_k,   g = g_(k-1)
The length of `v_k` has no effect, so `v_k_bar` is orthogonal to `v_k`, and 0 for `D = 1`.  The log-det is constant and gives
nothing.  For the inverse map, with `y_0 = x`, `y_k = H_k y_(k-1)` and `g_K = z_bar`,
    g_(k-1) = H_k g_k,   x_bar = g_0                                                (8)
and (7) holds with `y = y_(k-1)` and `g = g_k`.

Source: Tomczak and Welling, Improving Variational Auto-Encoders using Householder Flow, arXiv:1611.09630; Golub & Van Loan, Matrix
Computations, section 5.1.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, real
from ...core.arithmetic import scaled, unit_scaled
from ...core.products import rows, solution
from ...core.sets import nonzero_vector
from .reflections import Reflections


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def reflected(v, y):
        return y - 2 * v * (v @ y) / (v @ v)                                        # (2)

    def forward(z, vectors):
        return textbook.forward_stages(z, vectors)[0]                               # (1)

    def forward_stages(z, vectors):
        """y_0 to y_K."""
        y = [z]
        for v in vectors[::-1]:
            y.insert(0, textbook.reflected(v, y[0]))                                # (1)
        return y

    def inverse_stages(x, vectors):
        """y_0 to y_K."""
        y = [x]
        for v in vectors:
            y.append(textbook.reflected(v, y[-1]))                                  # (3)
        return y

    def inverse(x, vectors):
        return textbook.inverse_stages(x, vectors)[-1]                              # (3)

    def jacobian(z, vectors):
        return np.array([textbook.forward(unit, vectors) for unit in np.eye(len(z), dtype=z.dtype)]).T      # (4)

    def log_det(z, vectors):
        return z.dtype.type(0)                                                      # (5)

    def inverse_log_det(x, vectors):
        return x.dtype.type(0)                                                      # (5)

    def vector_bar(v, y, g):
        size = np.sqrt(v @ v)
        e = v / size
        return -2 * ((e @ y) * (g - (e @ g) * e) + (e @ g) * (y - (e @ y) * e)) / size          # (7)

    def vjp(z, vectors, x_bar, l_bar):
        y, g = textbook.forward_stages(z, vectors), textbook.inverse_stages(x_bar, vectors)     # (6)
        return g[-1], {"vectors": np.array([textbook.vector_bar(*one) for one in zip(vectors, y[1:], g[:-1])])}         # (7)

    def inverse_vjp(x, vectors, z_bar, l_bar):
        y, g = textbook.inverse_stages(x, vectors), textbook.forward_stages(z_bar, vectors)     # (8)
        return g[0], {"vectors": np.array([textbook.vector_bar(*one) for one in zip(vectors, y[:-1], g[1:])])}          # (7)


r"""In floating point.

In (2), `v^T v` overflows or underflows where `H` does not.  Vectors are scaled by powers of two, exactly:
    H_k y = y - 2 e (e^T y),   e = v'/|v'|,   v_k = 2^p v'                          (9)

In (1) and (3), a partial result may overflow where the result does not.  Events and cotangents are scaled in the same way:
    x = 2^a Q z',   z = 2^a z'                                                      (10)

In (7), `y` or `g` may overflow or vanish where the product with the other does not, and so may `1/|v_k|`.  With
`y = 2^a y'`, `g = 2^b g'`, all powers are multiplied in at once, and the part along `e` is removed from the sum over the batch:
    v_k_bar = 2^(a + b - p) (e_bar - (e^T e_bar) e)/|v'|,   e_bar = -2 ((e^T y') g' + (e^T g') y')            (11)

In (3), an event may have infinite entries after a map that reaches its limits.  Reflections would take their differences, which are
NaN.  There
    z = Q^T x                    by the rules of floats, the matrix first           (12)
gives the limits that exist.
"""


@bijector(source="arXiv:1611.09630", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True,
          textbook=textbook)
class HouseholderLinear(Bijector):
    """x = H_1 H_2 ... H_K z, H_k = I - 2 v_k v_k^T/(v_k^T v_k); z and x (*batch, D), `vectors` (K, D) or (*batch, K, D).

    ValueError for a vector that is 0.
    """

    vectors: Array = nonzero_vector("K", "D")
    event_ndim = (1, 1)
    unit_determinant = True             # log|det| is 0 up to rounding

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        columns, a = self.columns(z)
        return self.events(Reflections(self.vectors, last_first=True).moved(columns)[0], a, z)      # (1) (9) (10)

    def inverse(self, x):
        return self.undone(x)[0]

    def log_det(self, z):
        return np.zeros(z.shape[:-1], z.dtype)                                      # (5)

    def jacobian(self, z):
        return np.broadcast_to(self.Q(), z.shape + z.shape[-1:])                    # (4)

    def Q(self):
        """H_1 H_2 ... H_K."""
        one = np.eye(self.dims["D"], dtype=self.vectors.dtype)
        return Reflections(self.vectors, last_first=True).moved(one)[0]             # (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        reflections, (columns, a) = Reflections(self.vectors, last_first=True), self.columns(z)     # (9)
        moved, steps = reflections.moved(columns)                                   # (1)

        def pullback(x_bar, log_det_bar):
            return self.bars(reflections, steps, a, x_bar)                          # (6) (7)

        return (self.events(moved, a, z), self.log_det(z)), pullback                # (10)

    def inverse_vjp(self, x):
        z, reflections, steps, a = self.undone(x)

        def pullback(z_bar, log_det_bar):
            return self.bars(reflections, steps, a, z_bar)                          # (8) (7)

        return (z, -self.log_det(x)), pullback

    def bars(self, reflections, steps, a, image_bar):
        g, b = self.columns(image_bar)
        event_bar, vectors_bar = reflections.pulled(steps, g, a + b)                # (11)
        return self.events(event_bar, b, image_bar), {"vectors": vectors_bar}       # (10)

    # -- in floating point --------------------------------------------------------------------------------------------

    def undone(self, x):
        """z, the reflections, their steps, and the exponents of the columns."""
        reflections, (columns, a) = Reflections(self.vectors), self.columns(x)      # (9)
        moved, steps = reflections.moved(columns)                                   # (3)
        z, _ = solution(self.events(moved, a, x), 0, x, lambda: self.Q().mT)        # (10) (12)
        return z, reflections, steps, a

    def columns(self, events):
        """Scaled events as columns: all of one matrix, or each of its own where vectors have batch axes; and their exponents."""
        y, e = unit_scaled(events)                                                  # (10)
        return self.as_columns(y), e if type(e) is int else self.as_columns(e)

    def as_columns(self, y):
        return rows(y).T if self.vectors.ndim == 2 else y[..., None]

    def events(self, columns, e, like):
        """The columns as events of a batch."""
        moved = scaled(columns, e)                                                  # (10)
        return moved.T.reshape(like.shape) if self.vectors.ndim == 2 else moved[..., 0]

    hard_cases = (
        case("Line", "D = 1: each vector is a reflection at 0, whatever its size", z=[[3.0]], x=[[-5.0]], vectors=[[0.3], [-7.0], [1.0]]),
        case("Twice", "the same reflection twice: the identity", z=[[1.0, -0.75]], x=[[0.75, 1.0]],
             vectors=[[1.0, 2.0], [-0.5, -1.0]]),
        case("Order", "reflections that do not commute", z=[[1.0, -2.0]], x=[[1.0, -2.0]], vectors=[[1.0, 1.0], [1.0, 0.0]]),
        case("Along", "z is a multiple of v: all of it turns round", z=[[3.0, -6.0, 1.5]], x=[[2.0, -4.0, 1.0]],
             vectors=[[1.0, -2.0, 0.5]]),
        case("Across", "z lies in the plane of the reflection and stays", z=[[2.0, 1.0]], x=[[4.0, 2.0]], vectors=[[1.0, -2.0]]),
        case("Axis", "a sign of one entry", z=[[1.0, 2.0, 4.0]], x=[[1.0, 2.0, 4.0]], vectors=[[0.0, 2.0, 0.0]]),
        case("Sizes", "v^T v underflows or overflows", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             vectors=[[3.0 * 2.0**-20, 2.0**-20], [2.0**20, -(2.0**18)]]),
        case("Huge", "partial sums of (1) overflow, x does not", z=[[2.0**126, 2.0**126]], x=[[2.0**126, -(2.0**126)]],
             vectors=[[3.0, 1.0], [1.0, -2.0]]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], x=[[2.0**-1070, 2.0**-1074]],
             vectors=[[3.0, 1.0], [1.0, -2.0]]),
    )
