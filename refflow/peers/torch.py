"""torch.distributions.transforms, as adapters: `refflow check torch`.

Their x, y, log_abs_det_jacobian(x, y) are z, x, log_det here; their gradients are autograd's.  A composite is held against
the refflow composite of the same parts, with its own parameters.

Conventions that differ without being defects:
- The simplex and the correlation Cholesky factor have more entries than free numbers.  torch's inverse is a function of the
  chart (the first K - 1 entries; the strict lower triangle), refflow's of all entries.  On the manifold both have the same
  values, so values and log-dets are compared there; gradients in the surrounding space legitimately differ, so the gradient of
  torch's inverse is compared with the chart's.
- log_abs_det_jacobian sums over the event that the transform's domain declares.  A transform that acts on each entry separately
  is compared as one, with event axes only inside IndependentTransform.
- LowerCholeskyTransform and PositiveDefiniteTransform read the lower triangle of a matrix, and have no log-det: they are asked their
  values at the numbers of that triangle.
"""

from __future__ import annotations

import torch
from torch import distributions as d
from torch.distributions import transforms as t

import refflow

from .shared import directions, pinned
from .shared.constraints import declare_constraints, with_ends
from .shared.torch import declaring, declaring_values

version = pinned("torch", "2.13.0")
declare_map = declaring("torch.distributions.transforms.")
declare_values = declaring_values("torch.distributions.transforms.")


def declare(page, name, build, **options):
    """`build(params)` makes the transform from tensors."""
    declare_map(page, name, lambda params: directions(build(params)), **options)


# -- one transform, one page ------------------------------------------------------------------------------------------

def normal_cdf(p):
    return t.CumulativeDistributionTransform(d.Normal(p["loc"], p["scale"]))


def weibull_cdf(p):
    return t.CumulativeDistributionTransform(d.Weibull(p["scale"], p["concentration"]))


declare("Affine", "AffineTransform", lambda p: t.AffineTransform(p["shift"], p["scale"]), broadcast=True)
declare("Exp", "ExpTransform", lambda p: t.ExpTransform())
declare("Power", "PowerTransform", lambda p: t.PowerTransform(p["exponent"]), broadcast=True)
declare("Sigmoid", "SigmoidTransform", lambda p: t.SigmoidTransform())
declare("Softplus", "SoftplusTransform", lambda p: t.SoftplusTransform())
declare("Tanh", "TanhTransform", lambda p: t.TanhTransform())
declare("NormalCDF", "CumulativeDistributionTransform(Normal)", normal_cdf, broadcast=True)
declare("WeibullCDF", "CumulativeDistributionTransform(Weibull)", weibull_cdf, broadcast=True)
declare("StickBreaking", "StickBreakingTransform", lambda p: t.StickBreakingTransform(), chart_gradient=True)
declare("CorrelationCholesky", "CorrCholeskyTransform", lambda p: t.CorrCholeskyTransform(), chart_gradient=True)


# -- composites -------------------------------------------------------------------------------------------------------

def affine(p, **options):
    return t.AffineTransform(p["shift"], p["scale"], **options)


def second(p, **options):
    """The affine second part of Concatenate."""
    return affine(p["parts"]["1"]["inner"], **options)


def first(p):
    """The parameters of a chain's first stage."""
    return p["stages"]["0"]


three, grid = [0.5, -2.0, 3.0], [[0.5, -2.0, 3.0], [1.5, 0.25, -1.0]]
scalar = refflow.Affine(shift=0.5, scale=-1.5)
vector = refflow.Affine(shift=[1.0, 0.5, 0.25], scale=three)
small = refflow.Affine(shift=[1.0, 0.5, 0.25], scale=[0.25, -0.125, 0.5])
matrix = refflow.Affine(shift=0.5, scale=grid)

declare(refflow.Inverse(scalar), "_InverseTransform(AffineTransform)", lambda p: affine(p["inner"]).inv)
declare(refflow.Inverse(refflow.Exp()), "_InverseTransform(ExpTransform)", lambda p: t.ExpTransform().inv)
declare(refflow.Independent(vector, 1), "AffineTransform [event_dim=1]", lambda p: affine(p["inner"], event_dim=1))
declare(refflow.Independent(matrix, 2), "AffineTransform [event_dim=2]", lambda p: affine(p["inner"], event_dim=2))
declare(refflow.Independent(scalar, 1), "AffineTransform [event_dim=1, scale of shape ()]",
        lambda p: affine(p["inner"], event_dim=1))
declare(refflow.Independent(vector, 1), "IndependentTransform(AffineTransform, 1)",
        lambda p: t.IndependentTransform(affine(p["inner"]), 1))
declare(refflow.Independent(matrix, 2), "IndependentTransform(AffineTransform, 2)",
        lambda p: t.IndependentTransform(affine(p["inner"]), 2))
declare(refflow.Reshape((2, 3), (6,)), "ReshapeTransform", lambda p: t.ReshapeTransform((2, 3), (6,)))
declare(refflow.Chain([refflow.Affine(shift=0.5, scale=0.75), refflow.Softplus()]), "ComposeTransform",
        lambda p: t.ComposeTransform([affine(first(p)), t.SoftplusTransform()]))
declare(refflow.Chain([refflow.Affine(shift=0.5, scale=0.75), refflow.Exp()]), "ComposeTransform [cache_size=1]",
        lambda p: t.ComposeTransform([affine(first(p)), t.ExpTransform()], cache_size=1))
declare(refflow.Chain([refflow.Independent(small, 1), refflow.StickBreaking()]), "ComposeTransform [event_dim 0 and 1]",
        lambda p: t.ComposeTransform([affine(first(p)["inner"]), t.StickBreakingTransform()]), chart_gradient=True)
declare(refflow.Concatenate([refflow.Exp(), scalar], (2, 3)), "IndependentTransform(CatTransform, 1)",
        lambda p: t.IndependentTransform(t.CatTransform([t.ExpTransform(), second(p)], -1, [2, 3]), 1))
declare(refflow.Concatenate([refflow.Exp(), refflow.Independent(vector, 1)], (2, 3)), "CatTransform [event_dim 0 and 1]",
        lambda p: t.CatTransform([t.ExpTransform(), second(p, event_dim=1)], -1, [2, 3]))
declare(refflow.stack([refflow.Exp(), scalar]), "StackTransform [dim=-1]",
        lambda p: t.StackTransform([t.ExpTransform(), second(p)], -1))


# -- matrices, whose log-det torch does not know ----------------------------------------------------------------------

declare(refflow.Chain([refflow.Affine()]), "identity_transform", lambda p: t.identity_transform,
        fixed=["stages.0.shift", "stages.0.scale"])
declare_values("CholeskyFactor", "LowerCholeskyTransform", lambda: t.LowerCholeskyTransform())
declare_values(refflow.Chain([refflow.CholeskyFactor(), refflow.CholeskyOuterProduct()]), "PositiveDefiniteTransform",
               lambda: t.PositiveDefiniteTransform())


# -- the constraints --------------------------------------------------------------------------------------------------

declare_constraints("torch", declare_map,
                    lambda name, ends: directions(d.biject_to(with_ends(getattr(d.constraints, name), ends))))
