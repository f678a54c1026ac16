"""Defects of flowjax."""

from __future__ import annotations

from .entry import defect, finding


@defect("flowjax", "17.0.2", "NumericalInverse gives the log-det of forward as the inverse's", "danielward27/flowjax#208",
        "inverse log-det is minus log-det", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from flowjax.bijections import Exp, NumericalInverse
t = NumericalInverse(Exp(), lambda bijection, y, condition: jnp.log(y))
print(float(t.inverse_and_log_det(jnp.float64(2.0))[1]))
""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from flowjax.bijections import Exp, NumericalInverse
from refflow.testing import BlackBox

t = NumericalInverse(Exp(), lambda bijection, y, condition: jnp.log(y))
forward, inverse = jax.jit(jax.vmap(t.transform_and_log_det)), jax.jit(jax.vmap(t.inverse_and_log_det))
box = BlackBox(forward, inverse, codomain=(0, float("inf")))
""")
def of_inverse(m):
    return [-m.log(2)]


@defect("flowjax", "18.0.0", "the gradient of the spline's inverse is NaN beyond its interval", "danielward27/flowjax#239",
        ("pullback is the gradient", "log-det is the determinant of the gradient", "all laws at moved parameters"), """
import equinox
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from flowjax.bijections import RationalQuadraticSpline
parameters, rest = equinox.partition(RationalQuadraticSpline(knots=4, interval=2.0), equinox.is_inexact_array)
t = equinox.combine(jax.tree.map(lambda array: array - 0.5, parameters), rest)
print(float(jax.grad(t.inverse)(jnp.float64(50.0))))
""", """
import equinox
import jax; jax.config.update("jax_enable_x64", True)
from flowjax.bijections import RationalQuadraticSpline
from refflow.testing import BlackBox, jax_pullback

parameters, rest = equinox.partition(RationalQuadraticSpline(knots=4, interval=2.0), equinox.is_inexact_array)

def forward(z, parameters):
    return jax.vmap(equinox.combine(parameters, rest).inverse_and_log_det)(z)

def inverse(x, parameters):
    return jax.vmap(equinox.combine(parameters, rest).transform_and_log_det)(x)

box = BlackBox(jax.jit(forward), jax.jit(inverse), parameters=parameters, pullback=jax.jit(jax_pullback(forward)))
""", missed="JAX compiles the box for each length of a batch, and again at moved parameters, since one of them is weakly typed.")
def identity_beyond(m):
    return [1]


finding("flowjax", "17.2.1", "Planar is not the map of the appendix that it cites", "forward", """
import equinox, jax
from flowjax.bijections import Planar
from refflow.oracle import adapter
jax.config.update("jax_enable_x64", True)

@jax.jit
def planar(h, z):
    layer = equinox.tree_at(lambda one: one.params, Planar(jax.random.key(0), dim=3), h)
    return jax.vmap(layer.transform)(z)

@adapter("Planar", parametrisation="paper, normflows, Pyro, Bijectors.jl", dtype="float64")
def of_the_paper(params, z):
    return {"forward": planar(params["h"], z.reshape(-1, 3)).reshape(z.shape)}
""")
finding("flowjax", "17.2.1", "Planar takes negative slopes at which it folds space", ("inverse of forward", "forward of inverse"), """
import jax; jax.config.update("jax_enable_x64", True)
from flowjax.bijections import Planar
from refflow.testing import BlackBox

t = Planar(jax.random.key(0), dim=2, negative_slope=4.0)
box = BlackBox(jax.jit(jax.vmap(t.transform_and_log_det)), jax.jit(jax.vmap(t.inverse_and_log_det)), event=(2,))
""")
