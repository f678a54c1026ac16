"""Maps of NumPyro: transforms, autoregressive flows, and distribution functions with their quantiles.

Compiling takes the time: half of the maps are asked in float64 alone.  Weibull has no quantile.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as d
from numpyro.distributions import biject_to, constraints
from numpyro.distributions import transforms as t
from numpyro.distributions.flows import InverseAutoregressiveTransform

from .entry import DOUBLE, HALF_LINE, UNIT, normal, positive, transform, uniform
from .in_jax import distribution, of_distribution, one


def vectors(of):
    return transform(t.IndependentTransform(of, 1))


def inverse_autoregressive(a, c):
    """Its network has strictly triangular weights."""
    return transform(InverseAutoregressiveTransform(lambda z: (jnp.tanh(z @ jnp.triu(a, 1)), jnp.tanh(z @ jnp.triu(c, 1)))))


def maps():
    yield one("AffineTransform", lambda a, c: transform(t.AffineTransform(a, c)), normal(), positive())
    yield one("IndependentTransform(AffineTransform)", lambda a, c: vectors(t.AffineTransform(a, c)), normal(3), positive(3), event=(3,))
    yield one("ExpTransform", lambda: transform(t.ExpTransform()), codomain=HALF_LINE)
    yield one("ExpTransform.inv", lambda: transform(t.ExpTransform().inv), domain=HALF_LINE, dtypes=DOUBLE)
    yield one("PowerTransform", lambda a: transform(t.PowerTransform(a)), uniform(0.5, 2), domain=HALF_LINE, codomain=HALF_LINE)
    yield one("SigmoidTransform", lambda: transform(t.SigmoidTransform()), codomain=UNIT)
    yield one("SoftplusTransform", lambda: transform(t.SoftplusTransform()), codomain=HALF_LINE)
    yield one("IdentityTransform", lambda: transform(t.IdentityTransform()), dtypes=DOUBLE)
    yield one("ComposeTransform", lambda a, c: transform(t.ComposeTransform([t.AffineTransform(a, c), t.SigmoidTransform()])), normal(),
              positive(), codomain=UNIT, dtypes=DOUBLE)
    yield one("OrderedTransform", lambda: transform(t.OrderedTransform()), event=(3,))
    yield one("PermuteTransform", lambda: transform(t.PermuteTransform(np.array([2, 0, 1]))), event=(3,), dtypes=DOUBLE)
    yield one("LowerCholeskyAffine", lambda a, c: transform(t.LowerCholeskyAffine(a, jnp.tril(c) + 2 * jnp.eye(3, dtype=c.dtype))),
              normal(3), uniform(-1, 1, 3, 3), event=(3,))
    yield one("ReshapeTransform", lambda: transform(t.ReshapeTransform((6,), (2, 3))), event=(2, 3), dtypes=DOUBLE)
    yield one("RecursiveLinearTransform", lambda a: transform(t.RecursiveLinearTransform(a / 4)), normal(2, 2), event=(3, 2))
    yield one("SimplexToOrderedTransform after StickBreaking", lambda a: transform(t.ComposeTransform(
        [t.StickBreakingTransform(), t.SimplexToOrderedTransform(a)])), normal(), event=(2,), dtypes=DOUBLE)
    yield one("biject_to(interval)", lambda: transform(biject_to(constraints.interval(-1.0, 3.0))), codomain=(-1, 3), dtypes=DOUBLE)
    yield one("biject_to(less_than)", lambda: transform(biject_to(constraints.less_than(0.5))), codomain=(-np.inf, 0.5), dtypes=DOUBLE)
    yield one("InverseAutoregressiveTransform", inverse_autoregressive, normal(3, 3), normal(3, 3), event=(3,))
    yield one("ComposeTransform of InverseAutoregressiveTransform", lambda a, c, e, f: transform(t.ComposeTransform(
        [InverseAutoregressiveTransform(lambda z: (jnp.tanh(z @ jnp.triu(a, 1)), jnp.tanh(z @ jnp.triu(c, 1)))),
         t.PermuteTransform(np.array([2, 1, 0])),
         InverseAutoregressiveTransform(lambda z: (jnp.tanh(z @ jnp.triu(e, 1)), jnp.tanh(z @ jnp.triu(f, 1))))])),
        *[normal(3, 3)] * 4, event=(3,), dtypes=DOUBLE)
    for name, support, *draws in (("Normal", None, normal(), positive()), ("Cauchy", None, normal(), positive()),
                                  ("Laplace", None, normal(), positive()), ("Logistic", None, normal(), positive()),
                                  ("Gumbel", None, normal(), positive()), ("SoftLaplace", None, normal(), positive()),
                                  ("AsymmetricLaplace", None, normal(), positive(), positive()),
                                  ("Exponential", HALF_LINE, positive()), ("HalfNormal", HALF_LINE, positive()),
                                  ("HalfCauchy", HALF_LINE, positive()), ("Gompertz", HALF_LINE, positive(), positive()),
                                  ("LogNormal", HALF_LINE, normal(), positive())):
        yield from of_distribution(name, getattr(d, name), support, *draws, dtypes=DOUBLE)
    yield one("Weibull.cdf", lambda a, k: (distribution(d.Weibull(a, k))[0], None), positive(), positive(), domain=HALF_LINE, codomain=UNIT,
              dtypes=DOUBLE)
