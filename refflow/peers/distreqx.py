"""distreqx 0.0.3, as adapters: `refflow check distreqx`.

forward_and_log_det and inverse_and_log_det of its bijectors, which lead from latents to data.  A bijector takes one event;
jax.vmap takes it over batches.  The release has no spline, no coupling and no bijector that inverts another.
"""

from __future__ import annotations

import jax.numpy as jnp
from distreqx import bijectors

import refflow
from refflow.models.gaussian import lower_triangular

from .shared import pinned
from .shared.jax import declaring, of_events
from .shared.networks import alone, of_stage

version = pinned("distreqx", "0.0.3")
declare = declaring("distreqx.bijectors.")


def both(bijector, event_ndim=0):
    return of_events(bijector.forward_and_log_det, event_ndim), of_events(bijector.inverse_and_log_det, event_ndim)


def affine(p):
    return bijectors.ScalarAffine(p["shift"], p["scale"])


def triangular(p):
    """The page has a unit lower triangle times the diagonal."""
    return both(bijectors.TriangularLinear((p["lower"] + jnp.eye(3, dtype=p["lower"].dtype)) * p["scale"]), 1)


L = [[0.75, 0, 0], [0.5, -1.5, 0], [-0.25, 3, 2.0]]
SHIFT, SCALE = ["stages.0.shift"], ["stages.0.scale"]
INNER = refflow.Affine(scale=1.5, shift=-0.25)
OF_ENTRIES = refflow.Affine(scale=[1.5, -0.5, 3.0], shift=[-0.25, 1.0, 0.5])

declare(alone(refflow.Affine(shift=0.75)), "Shift", of_stage(lambda p: both(bijectors.Shift(p["shift"]))), fixed=SCALE)
declare("Affine", "ScalarAffine", lambda p: both(affine(p)))
declare("Sigmoid", "Sigmoid", lambda p: both(bijectors.Sigmoid()))
declare("Tanh", "Tanh", lambda p: both(bijectors.Tanh()))
declare("DenseLinear", "UnconstrainedAffine", lambda p: both(bijectors.UnconstrainedAffine(p["W"], p["shift"]), 1))
declare(alone(refflow.ActNorm(scale=[0.75, -1.5, 2.0])), "DiagLinear",
        of_stage(lambda p: both(bijectors.DiagLinear(p["scale"]), 1)), fixed=["stages.0.bias"])
declare(alone(lower_triangular(L)), "TriangularLinear", of_stage(triangular), fixed=["stages.0.upper", *SHIFT])
declare(refflow.Chain([INNER, refflow.Affine(scale=-0.5, shift=3.0)]), "Chain",
        lambda p: both(bijectors.Chain([affine(p["stages"]["1"]), affine(p["stages"]["0"])])))
for given, like in ((INNER, "one scale"), (OF_ENTRIES, "a scale of each entry")):
    declare(refflow.Independent(given, 1), f"Block [{like}]", lambda p: both(bijectors.Block(affine(p["inner"]), 1), 1))
