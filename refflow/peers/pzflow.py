"""pzflow 4.0.0, as adapters: `refflow check pzflow`.

Its bijectors lead from data to latents and are called what pzflow calls them; the spline is asked at its widths, heights and
slopes, which are exact differences of the knots here, and couplings of splines at their raw numbers.

Documented choices, not defects: numbers given to ShiftBounds and StandardScaler, and the log-dets that follow from them, are made
when the bijector is, once for all events.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from pzflow import bijectors
from pzflow.utils import RationalQuadraticSpline

import refflow
from refflow.maps.elementwise import SoftplusScale
from refflow.maps.parametrisations.knot_slopes import KnotSlopes
from refflow.maps.parametrisations.softmax_knots import SoftmaxKnots
from refflow.maps.parametrisations.spline_conventions import alike

from .shared import by_rows, pinned
from .shared.jax import compiled, declaring
from .shared.numbers import raw, splines

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


# -- linear maps, permutations ----------------------------------------------------------------------------------------

def vectors(made, params=None):
    """(forward, inverse) of a bijector of vectors, at parameters that are drawn if they are not given."""
    initial, _ = made

    def direction(which):
        def call(rows):
            drawn, *calls = initial(jax.random.PRNGKey(0), rows.shape[-1])
            return calls[which](drawn if params is None else params, rows, conditions=jnp.zeros((len(rows), 0), rows.dtype))

        return lambda event: by_rows(call, event)

    return direction(0), direction(1)


def coupling(p):
    """A coupling of two entries: its network has one hidden layer of one unit, and biases alone."""
    h = raw(p)
    network = [(jnp.zeros((1, 1), h.dtype), jnp.zeros(1, h.dtype)), (), (jnp.zeros((1, h.size), h.dtype), h)]
    made = bijectors.NeuralSplineCoupling(K=BINS, B=BOUND, hidden_layers=1, hidden_dim=1)
    return vectors(made, network)


BINS, BOUND = 4, 3.0
SHUFFLED = np.asarray(jax.random.permutation(jax.random.PRNGKey(0), jnp.arange(4)))
FIXED = ["inner.shift", "inner.scale"]
reversal, rolled = refflow.Permutation([3, 2, 1, 0]), refflow.Permutation([3, 0, 1, 2])
declare(reversal, "bijectors.Reverse", lambda p: vectors(bijectors.Reverse()))
declare(rolled, "bijectors.Roll", lambda p: vectors(bijectors.Roll()))
declare(refflow.Permutation(SHUFFLED), "bijectors.Shuffle", lambda p: vectors(bijectors.Shuffle()))
declare(refflow.Chain([reversal, rolled]), "bijectors.Chain",
        lambda p: vectors(bijectors.Chain(bijectors.Reverse(), bijectors.Roll())))
declare(refflow.Independent(refflow.Affine(scale=[0.75, 0.75, 0.75]), 1), "bijectors.Scale",
        lambda p: vectors(bijectors.Scale(0.75)), fixed=FIXED)
declare(refflow.Independent(refflow.Affine(shift=[-2.5, 0.0, 15.0], scale=[2.5, 5.0, 10.0]), 1), "bijectors.ShiftBounds",
        lambda p: vectors(bijectors.ShiftBounds(jnp.array([-1.0, -1.0, -2.0]), jnp.array([3.0, 1.0, -1.0]))), fixed=FIXED)
declare(refflow.Independent(refflow.Affine(shift=[-2.0, 4.0, 0.5], scale=[2.0, 4.0, 0.5]), 1), "bijectors.StandardScaler",
        lambda p: vectors(bijectors.StandardScaler(jnp.array([1.0, -1.0, -1.0]), jnp.array([0.5, 0.25, 2.0]))), fixed=FIXED)
declare(refflow.Chain([refflow.DenseLinear([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, -1, 0], [0, 0, 1, -1]], None)]),
        "bijectors.ColorTransform", lambda p: vectors(bijectors.ColorTransform(2, [1, 2, 3])), fixed=["stages.0.W"])
NUMBERS = alike(SoftmaxKnots(BINS, -BOUND, BOUND), KnotSlopes(SoftplusScale(), BINS))
for like, composite in splines(refflow.RationalQuadraticSpline, NUMBERS):
    declare(composite, f"bijectors.NeuralSplineCoupling [{like} numbers]", compiled(coupling))
