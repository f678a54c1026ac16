"""Maps of TensorFlow Probability on JAX: bijectors, whole flows with networks of random weights, and distributions.

Compiling takes the time: half of the maps are asked in float64 alone.  RationalQuadraticSpline and ScaleMatvecLU cannot be compiled:
they compute shapes of arrays with JAX.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from tensorflow_probability.substrates import jax as tfp

from .entry import DOUBLE, HALF_LINE, UNIT, normal, positive, uniform
from .in_jax import of_distribution, one

b, d = tfp.bijectors, tfp.distributions
LINE = None


def both(bijector, ndim=0):
    return (lambda z: (bijector.forward(z), bijector.forward_log_det_jacobian(z, ndim)),
            lambda x: (bijector.inverse(x), bijector.inverse_log_det_jacobian(x, ndim)))


def vectors(bijector):
    return both(bijector, 1)


def network(inner, outer):
    """The shift and log-scale of the entries that a coupling moves."""
    def of(z, size):
        h = jnp.tanh(z @ inner) @ outer
        return h[..., :size], jnp.tanh(h[..., size:])

    return of


def real_nvp(*weights):
    layers = [b.RealNVP(fraction_masked=0.5 if k % 2 else -0.5, shift_and_log_scale_fn=network(*weights[2 * k:2 * k + 2]))
              for k in range(3)]
    return vectors(b.Chain(layers))


def autoregressive(*weights):
    """Three masked autoregressive flows, whose networks have strictly triangular weights."""
    def shift_and_log_scale(a, c):
        return lambda z: (jnp.tanh(z @ jnp.triu(a, 1)), jnp.tanh(z @ jnp.triu(c, 1)))

    return vectors(b.Chain([layer for a, c in zip(weights[::2], weights[1::2]) for layer in (
        b.MaskedAutoregressiveFlow(shift_and_log_scale(a, c)), b.Permute(np.array([2, 0, 1])))]))


def maps():
    for name, codomain in {"Identity": LINE, "Exp": HALF_LINE, "Expm1": (-1, np.inf), "Softplus": HALF_LINE, "Softsign": (-1, 1),
                           "Sinh": LINE, "Tanh": (-1, 1), "Sigmoid": UNIT, "NormalCDF": UNIT}.items():
        yield one(name, lambda name=name: both(getattr(b, name)()), codomain=codomain)
    yield one("Log", lambda: both(b.Log()), domain=HALF_LINE, dtypes=DOUBLE)
    yield one("Log1p", lambda: both(b.Log1p()), domain=(-1, np.inf), dtypes=DOUBLE)
    yield one("Square", lambda: both(b.Square()), domain=HALF_LINE, codomain=HALF_LINE, dtypes=DOUBLE)
    yield one("Reciprocal", lambda: both(b.Reciprocal()), domain=HALF_LINE, codomain=HALF_LINE, dtypes=DOUBLE)
    yield one("Power", lambda: both(b.Power(3.0)), domain=HALF_LINE, codomain=HALF_LINE, dtypes=DOUBLE)
    yield one("SoftClip", lambda a, c: both(b.SoftClip(a, a + c)), normal(), positive(), codomain=lambda a, c: (a, a + c))
    yield one("Softplus [hinge_softness]", lambda a: both(b.Softplus(hinge_softness=a)), positive(), codomain=HALF_LINE, dtypes=DOUBLE)
    yield one("SinhArcsinh of two", lambda a, c: both(b.SinhArcsinh(a, c)), normal(), positive())
    yield one("LambertWTail", lambda a, c, e: both(b.LambertWTail(a, c, e)), normal(), positive(), uniform(0.1, 0.5), dtypes=DOUBLE)
    yield one("GumbelCDF", lambda a, c: both(b.GumbelCDF(a, c)), normal(), positive(), codomain=UNIT)
    yield one("WeibullCDF", lambda a, c: both(b.WeibullCDF(a, c)), positive(), positive(), domain=HALF_LINE, codomain=UNIT)
    yield one("FrechetCDF", lambda a, c: both(b.FrechetCDF(0.0, a, c)), positive(), positive(), domain=HALF_LINE, codomain=UNIT,
              dtypes=DOUBLE)
    yield one("KumaraswamyCDF", lambda a, c: both(b.KumaraswamyCDF(a, c)), positive(), positive(), domain=UNIT, codomain=UNIT,
              dtypes=DOUBLE)
    yield one("MoyalCDF", lambda a, c: both(b.MoyalCDF(a, c)), normal(), positive(), codomain=UNIT, dtypes=DOUBLE)
    yield one("RayleighCDF", lambda a: both(b.RayleighCDF(a)), positive(), domain=HALF_LINE, codomain=UNIT,
              dtypes=DOUBLE)
    yield one("GompertzCDF", lambda a, c: both(b.GompertzCDF(a, c)), positive(), positive(), domain=HALF_LINE, codomain=UNIT,
              dtypes=DOUBLE)
    yield one("Shift and ScaleMatvecDiag", lambda a, c: vectors(b.Chain([b.Shift(a), b.ScaleMatvecDiag(c)])), normal(3), positive(3),
              event=(3,))
    yield one("ScaleMatvecTriL", lambda a: vectors(b.ScaleMatvecTriL(jnp.tril(a) + 2 * jnp.eye(3, dtype=a.dtype))), uniform(-1, 1, 3, 3),
              event=(3,))
    yield one("Householder", lambda a: vectors(b.Householder(a)), normal(3), event=(3,), dtypes=DOUBLE)
    yield one("Permute", lambda: vectors(b.Permute(np.array([2, 0, 1]))), event=(3,))
    yield one("Ascending", lambda: vectors(b.Ascending()), event=(3,))
    yield one("Blockwise", lambda: vectors(b.Blockwise([b.Exp(), b.Sinh()], [2, 1])), event=(3,), dtypes=DOUBLE)
    yield one("Chain of RealNVP", real_nvp, *[normal(2, 8), normal(8, 4)] * 3, event=(4,))
    yield one("Chain of MaskedAutoregressiveFlow", autoregressive, *[normal(3, 3)] * 4, event=(3,))
    yield from of_distribution("SinhArcsinh", lambda a, c: d.SinhArcsinh(0.0, 1.0, a, c), LINE, normal(), positive(), dtypes=DOUBLE)
    yield from of_distribution("LogLogistic", d.LogLogistic, HALF_LINE, normal(), positive(), dtypes=DOUBLE)
    yield from of_distribution("JohnsonSU", lambda a, c: d.JohnsonSU(a, c, 0.0, 1.0), LINE, normal(), positive(), dtypes=DOUBLE)
