"""FlowJAX 19.1.2, as adapters: `refflow check flowjax`.

transform_and_log_det and inverse_and_log_det of one event, mapped over batches.  The spline is asked at its knots and slopes,
which stand in the place of its constrained parameters; planar maps at their raw numbers, without an inverse for tanh.
"""

from __future__ import annotations

import equinox as eqx
import flowjax.bijections as b
import jax
import jax.numpy as jnp
import paramax

import refflow

from .shared import pinned
from .shared.jax import declaring, of_events

version = pinned("flowjax", "19.1.2")
declare = declaring("flowjax.bijections.")


def events(bijection, event_ndim=0):
    made = paramax.unwrap(bijection)
    return tuple(of_events(call, event_ndim) for call in (made.transform_and_log_det, made.inverse_and_log_det))


def affine(p):
    """Its scale is the softplus of a raw number, in whose place the scale stands."""
    return events(eqx.tree_at(lambda a: a.scale, b.Affine(p["shift"]), p["scale"]))


def spline(p):
    inner = p["stages"]["0"]
    ends = float(POINTS[0]), float(POINTS[-1])
    made = paramax.unwrap(b.RationalQuadraticSpline(knots=len(POINTS) - 2, interval=ends))
    values = tuple(jnp.asarray(inner[name]) for name in ("input_knots", "output_knots", "slopes"))
    return events(eqx.tree_at(lambda s: (s.x_pos, s.y_pos, s.derivatives), made, values))


KNOTS = ["stages.0.input_knots", "stages.0.output_knots"]            # the ends are numbers to it
POINTS = [-4.0, -2.5, -0.5, 1.0, 4.0]
knots = refflow.RationalQuadraticSpline(input_knots=POINTS, output_knots=[-4.0, -3.0, 0.5, 0.75, 4.0],
                                        slopes=[1.0, 0.25, 3.0, 0.125, 1.0])
declare("Affine", "Affine", affine, params={"scale": lambda scale: scale > 0})
declare("Exp", "Exp", lambda p: events(b.Exp()))
declare("Power", "Power", lambda p: events(b.Power(p["exponent"])))
declare("Sigmoid", "Sigmoid", lambda p: events(b.Sigmoid()))
declare("Softplus", "SoftPlus", lambda p: events(b.SoftPlus()))
declare("Tanh", "Tanh", lambda p: events(b.Tanh()))
declare("Permutation", "Permute", lambda p: events(b.Permute(p["order"]), 1))
declare(refflow.Chain([knots]), "RationalQuadraticSpline [knots and slopes given]", spline,
        fixed=KNOTS)


def planar(p, negative_slope=None):
    made = b.Planar(jax.random.key(0), dim=3, negative_slope=negative_slope)
    forward, inverse = events(eqx.tree_at(lambda a: a.params, made, p["h"]), 1)
    return forward, None if negative_slope is None else inverse


declare("Planar", "Planar", planar, parametrisation="FlowJAX")
declare("PiecewisePlanar", "Planar [negative_slope=0.2]", lambda p: planar(p, 0.2), parametrisation="FlowJAX")
