"""distrax 0.1.9, as adapters: `refflow check distrax`.

forward_and_log_det and inverse_and_log_det of its bijectors, which lead from latents to data.  Splines are asked at their raw
numbers, see `shared.numbers`.

Left out: the Gumbel CDF, low-rank and triangular linear maps, which have no page.
"""

from __future__ import annotations

import distrax
import jax.numpy as jnp

import refflow
from refflow.maps.parametrisations import SPLINES

from .shared import pinned
from .shared.jax import declaring, second_entry
from .shared.numbers import raw, splines

version = pinned("distrax", "0.1.9")
declare = declaring("distrax.")
BINS, BOUND = 5, 3.0


def both(bijector):
    return bijector.forward_and_log_det, bijector.inverse_and_log_det


def spline(mode):
    """At an end where the slope is 1, the number of the slope is not read."""
    return lambda p: [second_entry(call) for call in both(distrax.RationalQuadraticSpline(raw(p), -BOUND, BOUND, mode))]


def lu(p):
    """The page's lower and upper triangles in one matrix, whose order is the identity."""
    inner = p["stages"]["0"]
    return both(distrax.LowerUpperTriangularAffine(inner["lower"] + inner["upper"] + jnp.diag(inner["scale"]), inner["shift"]))


declare("Affine", "ScalarAffine", lambda p: both(distrax.ScalarAffine(p["shift"], p["scale"])), broadcast=True)
declare("Sigmoid", "Sigmoid", lambda p: both(distrax.Sigmoid()))
declare("Tanh", "Tanh", lambda p: both(distrax.Tanh()))
declare("DenseLinear", "UnconstrainedAffine", lambda p: both(distrax.UnconstrainedAffine(p["W"], p["shift"])))
declare(refflow.Chain([refflow.PLULinear(order=[0, 1, 2], lower=[[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], shift=[0.5, -1, 2],
                                         upper=[[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]], scale=[0.75, -1.5, 2.0])]),
        "LowerUpperTriangularAffine", lu)
for mode in ("unconstrained", "identity"):
    for like, coupling in splines(refflow.RationalQuadraticSpline, SPLINES["distrax"](BINS, -BOUND, BOUND, mode)):
        declare(coupling, f"RationalQuadraticSpline [{mode}, {like} numbers]", spline(mode))
