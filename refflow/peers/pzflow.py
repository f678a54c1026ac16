"""pzflow 4.0.0, as adapters: `refflow check pzflow`.

Its bijectors lead from data to latents and are called what pzflow calls them; the spline is asked at its widths, heights and
slopes, which are exact differences of the knots here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from pzflow import bijectors
from pzflow.utils import RationalQuadraticSpline

import refflow

from .shared import by_rows, pinned
from .shared.jax import compiled, declaring

version = pinned("pzflow", "4.0.0")
declare = declaring("pzflow.")


def rows(pair, event_ndim=0):
    return tuple(lambda event, call=call: by_rows(call, event, event_ndim) for call in pair)


def of_bijector(made, size=1):
    """(forward, inverse) of a bijector without parameters."""
    initial, _ = made
    _, forward, inverse = initial(jax.random.PRNGKey(0), size)
    return (lambda z: forward((), z)), (lambda x: inverse((), x))


def softplus():
    """The inverse of InvSoftplus."""
    forward, inverse = of_bijector(bijectors.InvSoftplus(0))
    return rows((inverse, forward))


def spline(p):
    inner = p["stages"]["0"]
    parts = [v[None, None] for v in (jnp.diff(inner["input_knots"]), jnp.diff(inner["output_knots"]), inner["slopes"][1:-1])]

    def of(inverse):
        return lambda z: RationalQuadraticSpline(z, *(jnp.broadcast_to(v, (*z.shape, v.shape[-1])) for v in parts), 4.0,
                                                 inverse=inverse)

    return rows((of(False), of(True)))


FIELDS = [f"stages.0.{name}" for name in ("input_knots", "output_knots", "slopes")]     # their ends are numbers to it
knots = refflow.RationalQuadraticSpline(input_knots=[-4.0, -2.5, -0.5, 1.0, 4.0], output_knots=[-4.0, -3.0, 0.5, 0.75, 4.0],
                                        slopes=[1.0, 0.25, 3.0, 0.125, 1.0])
declare("Softplus", "bijectors.InvSoftplus, inverse", compiled(lambda p: softplus()))
declare(refflow.Chain([knots]), "utils.RationalQuadraticSpline", compiled(spline),
        fixed=FIELDS)
