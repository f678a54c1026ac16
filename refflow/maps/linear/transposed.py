r"""The transpose of a linear map, `R^D -> R^D`.

The map.  With `A` the matrix of a linear map `f`, `f(v) = A v`,
    x = A^T z                                                                       (1)
    z = A^-T x                                                                      (2)
    dx/dz = A^T                                                                     (3)
    log|det A^T| = log|det A|                                                       (4)
The pullback of `f` is `v_bar = A^T f_bar` and computes (1); the pullback of its inverse is `v_bar = A^-T f_bar` and computes
(2).  The log-det of `f` does not depend on the event.  If `f` has a shift, the shift is 0 and takes no part:
    A e_j = f(e_j) - f(0)                       column j of A                       (5)

The reverse rule.  (1) is linear in `z` and in `A`, and `<x_bar, A^T z> = <A x_bar, z> = <f(x_bar), z>`, so that
    z_bar = f(x_bar)                                                                (6)
    f_bar = f* at v = x_bar, of (z, l_bar)                                          (7)
and for the inverse map, `<z_bar, A^-T x> = <f^-1(z_bar), x>`:
    x_bar = f^-1(z_bar)                                                             (8)
    f_bar = (f^-1)* at z_bar, of (x, l_bar)                                         (9)
where `f*` and `(f^-1)*` are the pullbacks of `f` and of its inverse, which give the cotangents of the parameters of `f`.

Source: the definition; Glow's code multiplies rows by the matrix of its LU form.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, child, invertible, refusal
from ..normalization import ActNorm
from .dense import DenseLinear
from .grouped import GroupedLinear
from .orthogonal import OrthogonalLinear
from .permutation import Permutation
from .plu import PLULinear

MATRICES = (DenseLinear, GroupedLinear, OrthogonalLinear, Permutation, PLULinear)


@bijector(source="definition")
class Transposed(Bijector):
    """x = A^T z for a bijector `inner` of vectors by a matrix, v to A v.

    ValueError for another inner, and for a shift other than 0.
    """

    inner: Bijector = child()
    event_ndim = (1, 1)

    domain = property(lambda self: self.inner.domain)
    codomain = property(lambda self: self.inner.codomain)
    constant_log_det = True
    normwise = property(lambda self: self.inner.normwise)

    def _validate(self):
        if not isinstance(self.inner, MATRICES):
            raise ValueError(f"Transposed: inner must be one of {', '.join(page.__name__ for page in MATRICES)}, "
                             f"not {self.inner!r}")
        shift = getattr(self.inner, "shift", None)
        if shift is not None and np.any(shift):
            raise ValueError("Transposed: the shift of inner must be 0")            # (5)
        super()._validate()

    def image_of(self, where, side=0):
        """That of the inverse: among matrices, only a permutation acts on a set of lower dimension, and its transpose undoes it."""
        return self.inner.image_of(where, 1 - side)

    def output_shape(self, shape):
        return self.inner.input_shape(shape)

    def input_shape(self, shape):
        return self.inner.output_shape(shape)

    @staticmethod
    def definition(m, z, inner):
        D = range(len(z))
        origin = inner.definition(m, [m.mpf(0) for _ in D])
        columns = [inner.definition(m, [m.mpf(int(i == j)) for i in D]) for j in D]
        return [sum((a - a_0) * z_i for a, a_0, z_i in zip(column, origin, z)) for column in columns]   # (1) (5)

    def no_log_det(self, event):
        return np.zeros(event.shape[:-1], event.dtype)

    def forward(self, z):
        _, pullback = self.inner.vjp(z)
        return pullback(z, self.no_log_det(z))[0]                                   # (1)

    def inverse(self, x):
        _, pullback = self.inner.inverse_vjp(x)
        return pullback(x, self.no_log_det(x))[0]                                   # (2)

    def log_det(self, z):
        return self.inner.log_det(z)                                                # (4)

    def jacobian(self, z):
        return np.swapaxes(self.inner.jacobian(z), -1, -2)                          # (3)

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            (z_bar, _), inner_pullback = self.inner.vjp(x_bar)                      # (6)
            return z_bar, {"inner": without_shift(inner_pullback(z, log_det_bar)[1])}       # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            (x_bar, _), inner_pullback = self.inner.inverse_vjp(z_bar)              # (8)
            return x_bar, {"inner": without_shift(inner_pullback(x, log_det_bar)[1])}       # (9)

        return self.inverse_and_log_det(x), pullback

    @classmethod
    def examples(cls, source):
        D = source.count(1, 3)
        return cls(DenseLinear(invertible.draw(source, (D, D), spread=2), source.choice((None, np.zeros(D))))), (D,)

    hard_cases = (
        case("Triangle", "a lower triangle becomes an upper one", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             inner=DenseLinear([[1.0, 0.0], [3.0, 2.0]], None)),
        case("Rotation", "the transpose is the inverse", z=[[1.0, 0.75]], x=[[1.0, 0.75]],
             inner=DenseLinear([[0.6, 0.8], [-0.8, 0.6]], None)),
    )
    refused = (
        refusal("inner must be one of DenseLinear, ", inner=ActNorm([2.0], [1.0])),
        refusal("inner must be a component", inner=1.0),
        refusal("the shift of inner must be 0", inner=DenseLinear([[2.0]], [1.0])),
        refusal("the shift of inner must be 0", inner=DenseLinear([[2.0, 0.0], [1.0, 1.0]], [0.0, 1.0])),
    )


def without_shift(bars):
    return {key: np.zeros_like(bar) if key == "shift" else bar for key, bar in bars.items()}        # (5)
