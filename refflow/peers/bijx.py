"""bijx 1.3.2, as adapters: `refflow check bijx`.

fwd, rev and log_jac of its scalar bijections, without the log-density that they usually carry.  Raw parameters are replaced by
the page's fields.
"""

from __future__ import annotations

import bijx
import jax.numpy as jnp
from bijx.bijections.splines import rational_quadratic_spline
from flax import nnx

import refflow
from refflow.maps.parametrisations import SPLINES

from .shared import pinned
from .shared.jax import declaring, second_entry
from .shared.numbers import raw, splines

version = pinned("bijx", "1.3.2")
declare = declaring("bijx.")
BINS = 5


def both(bijection):
    def forward(z):
        x = bijection.fwd(z)
        return x, lambda: bijection.log_jac(z, x)

    def inverse(x):
        z = bijection.rev(x)
        return z, lambda: -bijection.log_jac(z, x)

    return forward, inverse


def spline(p):
    parts = jnp.split(raw(p), [BINS, 2 * BINS])
    return [second_entry(lambda z, inverse=inverse: rational_quadratic_spline(z, *parts, inverse=inverse))
            for inverse in (False, True)]


def given(value):
    return nnx.Param(value)


declare("Affine", "AffineLinear [transform_scale=None]", lambda p: both(bijx.AffineLinear(
    given(p["scale"]), given(p["shift"]), transform_scale=None)), params={"scale": lambda scale: scale > 0})
declare("Exp", "Exponential", lambda p: both(bijx.Exponential()))
declare("NormalCDF", "GaussianCDF [transform_scale=None]", lambda p: both(bijx.GaussianCDF(
    given(p["scale"]), given(p["loc"]), transform_scale=None)))
declare("Sigmoid", "Sigmoid", lambda p: both(bijx.Sigmoid()))
declare("Softplus", "SoftPlus", lambda p: both(bijx.SoftPlus()))
declare("Tanh", "Tanh", lambda p: both(bijx.Tanh()))
for like, coupling in splines(refflow.RationalQuadraticSpline, SPLINES["bijx"](BINS)):
    declare(coupling, f"rational_quadratic_spline [{like} numbers]", spline)
