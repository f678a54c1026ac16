"""NumPyro 0.22.0, as adapters: `refflow check numpyro`.

Its x, y, log_abs_det_jacobian(x, y) are z, x, log_det here.  Where x has more entries than free numbers, its inverse is a
function of the chart, as in `torch`.  LowerCholeskyTransform takes the diagonal's numbers last: they are reordered here.
"""

from __future__ import annotations

import numpy as np
import numpyro.distributions.constraints as constraints
from numpyro.distributions import biject_to
from numpyro.distributions import transforms as t

import refflow

from .shared import directions, pinned
from .shared.constraints import declare_constraints, with_ends
from .shared.jax import compiled, declaring

version = pinned("numpyro", "0.22.0")
declare = declaring("numpyro.distributions.transforms.")


def diagonal_last(size):
    """Where the page's numbers of a triangle, row by row, come from."""
    rows, columns = np.tril_indices(round((2 * size + 0.25) ** 0.5 - 0.5))
    return np.argsort(rows == columns, kind="stable")


def lower_cholesky(p):
    forward, inverse = directions(t.LowerCholeskyTransform())

    def ordered(L):
        z, log_det = inverse(L)
        return z[..., np.argsort(diagonal_last(z.shape[-1]))], log_det

    return lambda z: forward(z[..., diagonal_last(z.shape[-1])]), ordered


declare("Affine", "AffineTransform", lambda p: directions(t.AffineTransform(p["shift"], p["scale"])), broadcast=True)
declare("Exp", "ExpTransform", lambda p: directions(t.ExpTransform()))
declare("Power", "PowerTransform", lambda p: directions(t.PowerTransform(p["exponent"])), broadcast=True)
declare("Sigmoid", "SigmoidTransform", lambda p: directions(t.SigmoidTransform()))
declare("Softplus", "SoftplusTransform", lambda p: directions(t.SoftplusTransform()))
declare("Ordered", "OrderedTransform", lambda p: directions(t.OrderedTransform()))
declare("Permutation", "PermuteTransform", lambda p: directions(t.PermuteTransform(p["order"])))
declare("CholeskyFactor", "LowerCholeskyTransform", lower_cholesky, chart_gradient=True)
declare("StickBreaking", "StickBreakingTransform", compiled(lambda p: directions(t.StickBreakingTransform())), chart_gradient=True)
declare("CorrelationCholesky", "CorrCholeskyTransform", compiled(lambda p: directions(t.CorrCholeskyTransform())), chart_gradient=True)


def constraint(name, ends):
    """The constraint of a name such as "simplex" or "zero_sum(2)", with its ends."""
    plain, _, count = name.rstrip(")").partition("(")
    return getattr(constraints, plain)(int(count)) if count else with_ends(getattr(constraints, plain), ends)


declare_constraints("numpyro", declare, lambda name, ends: directions(biject_to(constraint(name, ends))))
