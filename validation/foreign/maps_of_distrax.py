"""Maps of distrax: its bijectors, and whole flows of couplings with networks of random weights."""

from __future__ import annotations

import distrax
import jax.numpy as jnp

from .entry import DOUBLE, UNIT, normal, positive, uniform
from .in_jax import one

BINS = 5


def both(bijector):
    return bijector.forward_and_log_det, bijector.inverse_and_log_det


def vectors(bijector):
    return both(distrax.Block(bijector, 1))


def affine(h):
    return distrax.ScalarAffine(h[..., :2], log_scale=jnp.tanh(h[..., 2:]))


def network(inner, outer):
    return lambda z: jnp.tanh(z @ inner) @ outer


def split_couplings(*weights):
    return both(distrax.Chain([distrax.SplitCoupling(2, 1, network(*weights[2 * k:2 * k + 2]), affine, swap=bool(k % 2))
                               for k in range(3)]))


def masked_couplings(*weights):
    def spline(h):
        return distrax.RationalQuadraticSpline(h.reshape(*h.shape[:-1], 4, 3 * BINS + 1), -3.0, 3.0, "unconstrained")

    return both(distrax.Chain([distrax.MaskedCoupling(jnp.arange(4) % 2 == k, network(*weights[2 * k:2 * k + 2]), spline)
                               for k in range(2)]))


def maps():
    yield one("ScalarAffine", lambda a, c: both(distrax.ScalarAffine(a, c)), normal(), positive())
    yield one("ScalarAffine [log_scale]", lambda a, c: both(distrax.ScalarAffine(a, log_scale=c)), normal(), normal())
    yield one("Sigmoid", lambda: both(distrax.Sigmoid()), codomain=UNIT)
    yield one("Tanh", lambda: both(distrax.Tanh()), codomain=(-1, 1))
    yield one("Inverse(Tanh)", lambda: both(distrax.Inverse(distrax.Tanh())), domain=(-1, 1))
    yield one("GumbelCDF", lambda: both(distrax.GumbelCDF()), codomain=UNIT)
    yield one("Lambda(sinh)", lambda: both(distrax.Lambda(jnp.sinh)), dtypes=DOUBLE)
    yield one("Block(Sigmoid)", lambda: vectors(distrax.Sigmoid()), event=(3,), codomain=UNIT)
    yield one("RationalQuadraticSpline", lambda h: both(distrax.RationalQuadraticSpline(h, -3.0, 3.0)), normal(3 * BINS + 1), dtypes=DOUBLE)
    yield one("RationalQuadraticSpline of vectors [identity]", lambda h: vectors(distrax.RationalQuadraticSpline(
        h, -3.0, 3.0, "identity")), normal(3, 3 * BINS + 1), event=(3,), dtypes=DOUBLE)
    yield one("DiagLinear", lambda a: both(distrax.DiagLinear(a)), positive(3), event=(3,))
    yield one("DiagPlusLowRankLinear", lambda a, u, v: both(distrax.DiagPlusLowRankLinear(a + 2, u, v)), positive(4),
              uniform(-0.5, 0.5, 4, 2), uniform(-0.5, 0.5, 4, 2), event=(4,))
    yield one("TriangularLinear", lambda a: both(distrax.TriangularLinear(jnp.tril(a) + 2 * jnp.eye(3, dtype=a.dtype))),
              uniform(-1, 1, 3, 3), event=(3,))
    yield one("LowerUpperTriangularAffine", lambda a, c: both(distrax.LowerUpperTriangularAffine(
        a + 2 * jnp.eye(3, dtype=a.dtype), c)), uniform(-1, 1, 3, 3), normal(3), event=(3,))
    yield one("UnconstrainedAffine", lambda a, c: both(distrax.UnconstrainedAffine(a + 2 * jnp.eye(3, dtype=a.dtype), c)),
              uniform(-1, 1, 3, 3), normal(3), event=(3,))
    yield one("Shift", lambda a: both(distrax.Block(distrax.Shift(a), 1)), normal(3), event=(3,))
    yield one("Chain of SplitCoupling", split_couplings, *[normal(2, 8), normal(8, 4)] * 3, event=(4,))
    yield one("Chain of MaskedCoupling of splines", masked_couplings, *[normal(4, 8), normal(8, 4 * (3 * BINS + 1))] * 2, event=(4,),
              dtypes=DOUBLE)
