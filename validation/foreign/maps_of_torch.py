"""Maps of torch: transforms, functions with their inverses, and distribution functions with their quantiles.

The transforms that `torch_flows` asks are not repeated.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import distributions as d
from torch.distributions import constraints
from torch.distributions import transforms as t

from .entry import HALF_LINE, UNIT, normal, positive, transform, uniform
from .in_torch import of_distribution, one


def above(low, *_):
    return float(low), np.inf


def function(forward, inverse):
    """Two functions without log-dets."""
    return lambda: (forward, inverse)


def cdf(make):
    return lambda a, b: transform(t.CumulativeDistributionTransform(make(a, b, validate_args=False)))


def affine(a, b, **more):
    return t.AffineTransform(a, b, **more)


def maps():
    yield one("AffineTransform [event_dim=1]", lambda a, b: transform(affine(a, b, event_dim=1)), normal(3), positive(3), event=(3,))
    yield one("AffineTransform [event_dim=2]", lambda a, b: transform(affine(a, b, event_dim=2)), normal(2, 3), positive(2, 3),
              event=(2, 3))
    yield one("AffineTransform.inv", lambda a, b: transform(affine(a, b).inv), normal(), positive())
    yield one("ExpTransform.inv", lambda: transform(t.ExpTransform().inv), domain=HALF_LINE)
    yield one("PowerTransform.inv", lambda a: transform(t.PowerTransform(a).inv), uniform(0.5, 2), domain=HALF_LINE,
              codomain=HALF_LINE)
    yield one("SoftplusTransform", lambda: transform(t.SoftplusTransform()), codomain=HALF_LINE)
    yield one("SigmoidTransform", lambda: transform(t.SigmoidTransform()), codomain=UNIT, dtypes=("float64",))
    yield one("TanhTransform", lambda: transform(t.TanhTransform()), codomain=(-1, 1), dtypes=("float64",))
    yield one("IndependentTransform(AffineTransform, 1)", lambda a, b: transform(t.IndependentTransform(affine(a, b), 1)), normal(3),
              positive(3), event=(3,))
    yield one("IndependentTransform(ExpTransform, 2)", lambda: transform(t.IndependentTransform(t.ExpTransform(), 2)), event=(2, 2),
              codomain=HALF_LINE)
    yield one("ReshapeTransform", lambda: transform(t.ReshapeTransform((2, 3), (6,))), event=(2, 3))
    yield one("CatTransform", lambda a, b: transform(t.IndependentTransform(
        t.CatTransform([t.ExpTransform(), affine(a, b)], -1, [2, 3]), 1)), normal(), positive(), event=(5,))
    yield one("IndependentTransform(StackTransform, 1)", lambda a, b: transform(t.IndependentTransform(
        t.StackTransform([t.ExpTransform(), affine(a, b)], -1), 1)), normal(), positive(), event=(2,))
    yield one("ComposeTransform of four", lambda a, b, c: transform(t.ComposeTransform(
        [affine(a, b), t.ExpTransform(), t.PowerTransform(c), t.ExpTransform().inv])), normal(), positive(), uniform(0.5, 2))
    yield one("StickBreakingTransform", lambda: transform(t.StickBreakingTransform()), event=(3,))
    yield one("CorrCholeskyTransform", lambda: transform(t.CorrCholeskyTransform()), event=(3,))
    yield one("CumulativeDistributionTransform(Normal)", cdf(d.Normal), normal(), positive(), codomain=UNIT)
    yield one("CumulativeDistributionTransform(Weibull)", cdf(d.Weibull), positive(), positive(), domain=HALF_LINE, codomain=UNIT)
    yield one("biject_to(interval)", lambda: transform(d.biject_to(constraints.interval(-1.0, 3.0))), codomain=(-1, 3))
    yield one("biject_to(greater_than)", lambda: transform(d.biject_to(constraints.greater_than(0.5))), codomain=(0.5, np.inf))
    yield one("biject_to(less_than)", lambda: transform(d.biject_to(constraints.less_than(0.5))), codomain=(-np.inf, 0.5))
    yield one("sinh, asinh", function(torch.sinh, torch.asinh))
    yield one("expm1, log1p", function(torch.expm1, torch.log1p), codomain=(-1, np.inf))
    yield one("special.expit, special.logit", function(torch.special.expit, torch.special.logit), codomain=UNIT)
    yield one("special.ndtr, special.ndtri", function(torch.special.ndtr, torch.special.ndtri), codomain=UNIT)
    yield one("erf, erfinv", function(torch.erf, torch.erfinv), codomain=(-1, 1))
    yield one("atan, tan", function(torch.atan, torch.tan), codomain=(-np.pi / 2, np.pi / 2))
    yield from of_distribution("Normal", d.Normal, None, normal(), positive())
    yield from of_distribution("Cauchy", d.Cauchy, None, normal(), positive())
    yield from of_distribution("Laplace", d.Laplace, None, normal(), positive())
    yield from of_distribution("Gumbel", d.Gumbel, None, normal(), positive())
    yield from of_distribution("Exponential", d.Exponential, HALF_LINE, positive())
    yield from of_distribution("Weibull", d.Weibull, HALF_LINE, positive(), positive())
    yield from of_distribution("LogNormal", d.LogNormal, HALF_LINE, normal(), positive())
    yield from of_distribution("HalfNormal", d.HalfNormal, HALF_LINE, positive())
    yield from of_distribution("HalfCauchy", d.HalfCauchy, HALF_LINE, positive())
    yield from of_distribution("Kumaraswamy", d.Kumaraswamy, UNIT, positive(), positive())
    yield from of_distribution("Pareto", d.Pareto, above, positive(), positive())
    yield one("Gamma.cdf", lambda a, b: (lambda x: (d.Gamma(a, b).cdf(x), d.Gamma(a, b).log_prob(x)), None), positive(), positive(),
              domain=HALF_LINE, codomain=UNIT, free=False)
