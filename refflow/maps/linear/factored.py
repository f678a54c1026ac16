r"""Linear maps in factored forms that have a name of their own; each function returns a composition of pages.

The pages inside hold the factors, and pullbacks give the cotangent of each.  A page may have a parameter that its form does not
have, such as the lower triangle of a `PLULinear`; each docstring says which.  If such a parameter is trained as well, the map
leaves the form.
"""

from __future__ import annotations

import numpy as np

from ...core import Chain
from ..normalization import ActNorm
from .householder import HouseholderLinear
from .plu import PLULinear
from .transposed import Transposed

__all__ = ["qr_linear", "svd_linear", "triangular_linear"]


def qr_linear(vectors, upper, scale) -> Chain:
    """x = Q R z, Q = H_1 H_2 ... H_K, R = diag(scale) + upper, with reflections H_k at the planes across `vectors` (K, D).

    `H_k` reflects in the hyperplane orthogonal to row k of `vectors`.  `scale` (D,) has no zeros, and `upper` (D, D) is strictly
    upper triangular.  The log-det is log|scale_1 ... scale_D|.  Every invertible matrix has this form, with K = D - 1 vectors.
    Stage 0 holds `upper` and `scale`, stage 1 holds `vectors`; the lower triangle of stage 0 is 0 and does not belong to the form.

    Source: Golub & Van Loan, Matrix Computations, section 5.2; nflows, QRLinear.
    """
    upper = np.asarray(upper)
    return Chain([PLULinear(np.arange(upper.shape[-1]), np.zeros_like(upper), upper, scale, None), HouseholderLinear(vectors)])


def svd_linear(left, scale, right) -> Chain:
    """x = Q diag(scale) P z, Q = H_1 ... H_K of the vectors `left` (K, D), and P the same of the vectors `right`.

    The entries of `scale` (D,) are the singular values if they are positive; none may be 0.  The log-det is log|scale_1 ... scale_D|.
    Stage 0 holds `right`, stage 1 `scale`, stage 2 `left`; the bias of stage 1 is 0 and does not belong to the form.

    Source: Golub & Van Loan, Matrix Computations, section 2.4; nflows, SVDLinear.
    """
    scale = np.asarray(scale)
    return Chain([HouseholderLinear(right), ActNorm(scale, np.zeros_like(scale)), HouseholderLinear(left)])


def triangular_linear(triangle, scale, lower=True) -> PLULinear | Transposed:
    """x = (diag(scale) + triangle) z, with a `triangle` (D, D) strictly lower triangular, or strictly upper if `lower` is False.

    `scale` (D,) has no zeros; ones give a unit diagonal.  The log-det is log|scale_1 ... scale_D|.  The field `upper` of a
    `PLULinear` holds `triangle`, of a lower one in the `inner` of a `Transposed`, where it is transposed; the other triangle of the
    `PLULinear` is 0 and does not belong to the form.

    Source: Golub & Van Loan, Matrix Computations, section 3.1.
    """
    triangle = np.asarray(triangle)
    upper = triangle.mT if lower else triangle
    f = PLULinear(np.arange(upper.shape[-1]), np.zeros_like(upper), upper, scale, None)
    return Transposed(f) if lower else f
