"""Maps of bijx: bijections of numbers, and flows of couplings, with all weights moved, in float64.

Its log-densities fall by the log-det forward, and rise by it in reverse.  Continuous flows are integrated to a tolerance, and are
left out.
"""

from __future__ import annotations

import functools

import bijx
import jax
from flax import nnx
from jax import numpy as jnp

from .entry import DOUBLE, HALF_LINE, UNIT, normal, positive, uniform
from .in_jax import cast, of_weights, one


def whole(name, make, event):
    """(name, dtypes, make) of a flow that `make(rngs)` builds."""
    return name, DOUBLE, functools.partial(box_of, make, event)


def box_of(make, event, seed, dtype):
    graph, trained, fixed = nnx.split(make(nnx.Rngs(seed)), nnx.Param, ...)
    weights, structure = jax.tree_util.tree_flatten(trained)

    def side(k):
        return lambda events, held: both(nnx.merge(graph, jax.tree_util.tree_unflatten(structure, held), cast(fixed, dtype)))[k](events)

    return of_weights(weights, side(0), side(1), event, seed, dtype)


def both(bijection):
    """(forward, inverse) with their log-dets."""
    def side(method):
        def call(events):
            image, log_density = method(events, jnp.zeros(len(events), events.dtype))
            return image, -log_density
        return call

    return side(bijection.forward), side(bijection.reverse)


def bare(kind, *parameters):
    """A bijection of constrained parameters; its default initialisers are numbers, also where it is compiled."""
    with jax.ensure_compile_time_eval():
        return kind(*parameters)


def maps():
    yield one("GaussianCDF", lambda a, c: both(bijx.GaussianCDF(c, a, None)), normal(), positive(), codomain=UNIT)
    yield one("AffineLinear", lambda a, c: both(bijx.AffineLinear(c, a)), normal(3), normal(3), event=(3,))
    yield one("Scaling", lambda c: both(bijx.Scaling(c)), positive(3), event=(3,))
    yield one("Shift", lambda a: both(bijx.Shift(a)), normal(3), event=(3,), dtypes=DOUBLE)
    yield one("Power", lambda a: both(bijx.Power(a)), uniform(0.5, 2), domain=HALF_LINE, codomain=HALF_LINE)
    yield one("BetaStretch", lambda a: both(bijx.BetaStretch(a, None)), uniform(0.5, 2), domain=UNIT, codomain=UNIT)
    yield one("Sigmoid", lambda: both(bijx.Sigmoid()), codomain=UNIT)
    yield one("Tanh", lambda: both(bijx.Tanh()), codomain=(-1, 1))
    yield one("Exponential", lambda: both(bijx.Exponential()), codomain=HALF_LINE)
    yield one("SoftPlus", lambda: both(bijx.SoftPlus()), codomain=HALF_LINE)
    yield one("Sinh", lambda: both(bijx.Sinh()))
    yield one("Tan", lambda: both(bijx.Tan()), domain=UNIT)
    yield one("CubicRational", lambda *p: both(bare(bijx.CubicRational, *p, None, None)), normal(), uniform(-0.5, 4), positive())
    yield one("SinhConjugation", lambda *p: both(bare(bijx.SinhConjugation, *p, None, None, None)), normal(), positive(), normal(),
              normal(), normal())
    yield one("CubicConjugation", lambda *p: both(bare(bijx.CubicConjugation, *p, None, None)), normal(), normal(), positive(), positive())
    yield one("Chain(AffineLinear, Tanh)", lambda a, c: both(bijx.Chain(bijx.AffineLinear(c, a), bijx.Tanh())), normal(), normal(),
              codomain=(-1, 1), dtypes=DOUBLE)
    yield one("Inverse(Exponential)", lambda: both(bijx.Inverse(bijx.Exponential())), domain=HALF_LINE, dtypes=DOUBLE)
    yield whole("MonotoneRQSpline", lambda rngs: bijx.MonotoneRQSpline(5, (3,), rngs=rngs), (3,))
    yield whole("realnvp_flow", lambda rngs: bijx.realnvp_flow(4, n_coupling_layers=3, width=8, depth=1, rngs=rngs), (4,))
    yield whole("coupling_flow of splines", lambda rngs: bijx.coupling_flow(
        4, lambda rngs: bijx.MonotoneRQSpline(5, (), rngs=rngs), n_coupling_layers=2, width=8, depth=1, rngs=rngs), (4,))
    yield whole("coupling_flow of SinhConjugation", lambda rngs: bijx.coupling_flow(
        4, lambda rngs: bijx.SinhConjugation(rngs=rngs), n_coupling_layers=2, n_copies=2, width=8, depth=1, rngs=rngs), (4,))
