"""Maps of FlowJAX: its bijections, and whole flows, with all weights moved.

A planar map has no inverse without a leaky activation, and a block autoregressive network has none in closed form.  Flows are asked
in float64: their constants are of that dtype where JAX has 64 bits.
"""

from __future__ import annotations

import functools

import equinox
import flowjax.bijections as b
import flowjax.flows
import jax
import numpy as np
import paramax
from flowjax.distributions import Normal
from jax import numpy as jnp

from .entry import BOTH, DOUBLE, HALF_LINE, UNIT, normal, positive, uniform
from .in_jax import cast, of_weights, one


def both(bijection):
    made = paramax.unwrap(bijection)
    return jax.vmap(made.transform_and_log_det), jax.vmap(made.inverse_and_log_det)


def whole(name, make, event, dtypes=BOTH, inverse=True, **more):
    """(name, dtypes, make) of a bijection that `make(key)` builds."""
    return name, dtypes, functools.partial(box_of, make, event, inverse, more)


def box_of(make, event, inverse, more, seed, dtype):
    trained, fixed = equinox.partition(make(jax.random.key(seed)), equinox.is_inexact_array, is_leaf=frozen)
    weights, structure = jax.tree_util.tree_flatten(trained)

    def side(k):
        def call(events, held):
            bijection = equinox.combine(jax.tree_util.tree_unflatten(structure, held), fixed, is_leaf=frozen)
            return both(cast(bijection, events.dtype))[k](events)
        return call

    return of_weights(weights, side(0), side(1) if inverse else None, event, seed, dtype, **more)


def frozen(node):
    return isinstance(node, paramax.NonTrainable)


def flow(make, size, **more):
    """The bijection of a flow."""
    return lambda key: make(key, base_dist=Normal(jnp.zeros(size)), invert=False, **more).bijection


def maps():
    yield one("Affine", lambda a, c: both(b.Affine(a, c)), normal(3), positive(3), event=(3,), free=False)
    yield one("Loc", lambda a: both(b.Loc(a)), normal(3), event=(3,), dtypes=DOUBLE)
    yield one("Scale", lambda a: both(b.Scale(a)), positive(3), event=(3,), free=False)
    yield one("Exp", lambda: both(b.Exp()), codomain=HALF_LINE)
    yield one("SoftPlus", lambda: both(b.SoftPlus()), codomain=HALF_LINE)
    yield one("Tanh", lambda: both(b.Tanh()), codomain=(-1, 1))
    yield one("Sigmoid", lambda: both(b.Sigmoid()), codomain=UNIT)
    yield whole("LeakyTanh", lambda key: b.LeakyTanh(3.0), ())
    yield one("Power", lambda a: both(b.Power(a)), uniform(0.5, 2), domain=HALF_LINE, codomain=HALF_LINE, free=False, dtypes=DOUBLE)
    yield one("Invert(Exp)", lambda: both(b.Invert(b.Exp())), domain=HALF_LINE, dtypes=DOUBLE)
    yield one("Flip", lambda: both(b.Flip((3,))), event=(3,), dtypes=DOUBLE)
    yield one("Permute", lambda: both(b.Permute(np.array([2, 0, 1]))), event=(3,), dtypes=DOUBLE)
    yield one("Reshape(Affine)", lambda a, c: both(b.Reshape(b.Affine(a, c), (3, 2))), normal(6), positive(6), event=(3, 2), free=False,
              dtypes=DOUBLE)
    yield one("TriangularAffine", lambda a, c: both(b.TriangularAffine(a, jnp.tril(c) + 2 * jnp.eye(3, dtype=c.dtype))), normal(3),
              uniform(-1, 1, 3, 3), event=(3,), free=False)
    yield one("Chain(Affine, Tanh)", lambda a, c: both(b.Chain([b.Affine(a, c), b.Tanh()])), normal(), positive(), codomain=(-1, 1),
              free=False, dtypes=DOUBLE)
    yield one("Concatenate", lambda a, c: both(b.Concatenate([b.Affine(a, c), b.Exp((2,))])), normal(2), positive(2), event=(4,),
              free=False, dtypes=DOUBLE)
    yield one("Stack", lambda a, c: both(b.Stack([b.Affine(a, c), b.SoftPlus()])), normal(), positive(), event=(2,), free=False,
              dtypes=DOUBLE)
    yield whole("RationalQuadraticSpline", lambda key: b.RationalQuadraticSpline(knots=5, interval=3.0), ())
    yield whole("Planar [leaky]", lambda key: b.Planar(key, dim=3, negative_slope=0.1), (3,), dtypes=DOUBLE)
    yield whole("Planar", lambda key: b.Planar(key, dim=3), (3,), inverse=False, dtypes=DOUBLE)
    yield whole("masked_autoregressive_flow", flow(flowjax.flows.masked_autoregressive_flow, 3, flow_layers=2, nn_width=8, nn_depth=1),
                (3,), dtypes=DOUBLE)
    yield whole("masked_autoregressive_flow of splines", flow(
        flowjax.flows.masked_autoregressive_flow, 2, flow_layers=1, nn_width=8, nn_depth=1,
        transformer=b.RationalQuadraticSpline(knots=4, interval=3.0)), (2,), dtypes=DOUBLE)
    yield whole("coupling_flow", flow(flowjax.flows.coupling_flow, 4, flow_layers=3, nn_width=8, nn_depth=1), (4,),
                dtypes=DOUBLE)
    yield whole("coupling_flow of splines", flow(
        flowjax.flows.coupling_flow, 4, flow_layers=2, nn_width=8, nn_depth=1,
        transformer=b.RationalQuadraticSpline(knots=4, interval=3.0)), (4,), dtypes=DOUBLE)
    yield whole("planar_flow [leaky]", flow(flowjax.flows.planar_flow, 3, flow_layers=2, negative_slope=0.1), (3,), dtypes=DOUBLE)
    yield whole("triangular_spline_flow", flow(flowjax.flows.triangular_spline_flow, 3, flow_layers=2, knots=4), (3,), dtypes=DOUBLE)
    yield whole("block_neural_autoregressive_flow", flow(flowjax.flows.block_neural_autoregressive_flow, 3, flow_layers=1, nn_depth=1),
                (3,), inverse=False, dtypes=DOUBLE)
