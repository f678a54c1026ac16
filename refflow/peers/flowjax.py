"""FlowJAX 19.1.2, as adapters: `refflow check flowjax`.

transform_and_log_det and inverse_and_log_det of one event, mapped over batches.  The spline is asked at its knots and slopes,
which stand in the place of its constrained parameters; planar maps at their raw numbers, without an inverse for tanh.

The networks of Coupling and MaskedAutoregressive have one layer, with refflow's `W a + b` as its numbers.  The library adds the
raw numbers of the transformer that it is given to them, and so do refflow's conventions of its name.

Left out: NumericalInverse, whose inverse is its user's.
"""

from __future__ import annotations

import equinox as eqx
import flowjax.bijections as b
import jax
import jax.numpy as jnp
import numpy as np
import paramax
import scipy
from flowjax.bijections.block_autoregressive_network import _LeakyTanh
from flowjax.flows import _affine_with_min_scale

import refflow
from refflow.maps.autoregressive import BlockAutoregressive
from refflow.maps.conditioners import BlockDense, Contextual, Dense, ReLU, Sequential
from refflow.maps.coupling import Coupling, Family, additive_family, affine_family
from refflow.maps.elementwise import CONVENTIONS
from refflow.maps.parametrisations import SPLINES
from refflow.models.gaussian import lower_triangular

from .shared import pinned
from .shared.jax import compiled, declaring, of_events
from .shared.networks import SIZE, autoregressive, block_autoregressive, block_matrix, coupling, layer, layer_of, masked_layer

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
declare(refflow.Chain([refflow.LeakyTanh(3.0)]), "LeakyTanh", lambda p: events(b.LeakyTanh(float(p["stages"]["0"]["max_val"]))),
        fixed=["stages.0.max_val"])
declare("Permutation", "Permute", lambda p: events(b.Permute(p["order"]), 1))
declare(refflow.Chain([knots]), "RationalQuadraticSpline [knots and slopes given]", spline,
        fixed=KNOTS)


def planar(p, negative_slope=None):
    made = b.Planar(jax.random.key(0), dim=3, negative_slope=negative_slope)
    forward, inverse = events(eqx.tree_at(lambda a: a.params, made, p["h"]), 1)
    return forward, None if negative_slope is None else inverse


declare("Planar", "Planar", planar, parametrisation="FlowJAX")
declare("PiecewisePlanar", "Planar [negative_slope=0.2]", lambda p: planar(p, 0.2), parametrisation="FlowJAX")


# -- linear maps, shapes, ways to combine maps ------------------------------------------------------------------------

def first(p):
    """The parameters of a chain's first stage."""
    return p["stages"]["0"]


def scaled(made, scale):
    """With a scale in the place of the softplus of its raw number."""
    return eqx.tree_at(lambda a: a.scale, made, scale)


def vector_affine(p):
    return scaled(b.Affine(p["shift"]), p["scale"])


def triangular(p):
    inner = first(p)
    matrix = (inner["lower"] + np.eye(3, dtype=bool)) * inner["scale"]
    return events(eqx.tree_at(lambda a: a.triangular, b.TriangularAffine(inner["shift"], np.eye(3)), matrix), 1)


def block_network(p):
    """Its weights are made by softplus and a norm of each row, in whose place the page's matrices stand."""
    layers = list(p["layers"].values())
    made = b.BlockAutoregressiveNetwork(jax.random.key(0), dim=2, depth=1, block_dim=2)

    values = [value for of in layers for value in (block_matrix(of)[0], of["b"])]
    return events(eqx.tree_at(lambda n: [value for linear, _ in n.layers for value in (linear.weight, linear.bias)], made, values),
                  1)


DCT = scipy.fft.dct(np.eye(4), norm="ortho", axis=0)
REVERSED = refflow.Permutation([3, 2, 1, 0])
scalar = refflow.Affine(shift=0.5, scale=1.5)
vector = refflow.Affine(shift=[1.0, 0.5, 0.25], scale=[0.5, 2.0, 3.0])
vector_of_four = refflow.Affine(shift=[1.0, 0.5, 0.25, -2.0], scale=[0.5, 2.0, 3.0, 1.5])
FIELDS = ["stages.0.shift", "stages.0.scale"]
declare(refflow.Chain([refflow.Affine()]), "Identity", lambda p: events(b.Identity()), fixed=FIELDS)
declare(refflow.Chain([refflow.Affine(shift=0.5)]), "Loc", lambda p: events(b.Loc(first(p)["shift"])), fixed=FIELDS[1:])
declare(refflow.Chain([refflow.Affine(scale=0.75)]), "Scale", lambda p: events(scaled(b.Scale(1.0), first(p)["scale"])),
        fixed=FIELDS[:1])
declare(REVERSED, "Flip", lambda p: events(b.Flip((4,)), 1))
declare(refflow.Chain([refflow.OrthogonalLinear(DCT)]), "DiscreteCosine", lambda p: events(b.DiscreteCosine((4,)), 1),
        fixed=["stages.0.Q"])
declare(refflow.Chain([refflow.HouseholderLinear([[1.0, 2.0, -1.5]])]), "Householder",
        lambda p: events(b.Householder(first(p)["vectors"][0]), 1))
declare(refflow.Chain([lower_triangular(np.array([[0.5, 0, 0], [0.25, 2, 0], [-1.5, 3, 0.75]]))]), "TriangularAffine", compiled(triangular),
        fixed=["stages.0.order", "stages.0.upper"])
declare(refflow.Chain([refflow.Reshape((2, 2), (4,)), REVERSED, refflow.Reshape((4,), (2, 2))]), "Reshape",
        lambda p: events(b.Reshape(b.Permute(np.arange(4)[::-1]), (2, 2)), 2))
declare(refflow.Concatenate([refflow.Exp(), vector], (2, 3)), "Concatenate",
        lambda p: events(b.Concatenate([b.Exp((2,)), vector_affine(p["parts"]["1"]["inner"])]), 1))
declare(refflow.stack([refflow.Exp(), scalar]), "Stack",
        lambda p: events(b.Stack([b.Exp(), vector_affine(p["parts"]["1"]["inner"])]), 1))
declare(refflow.Chain([refflow.Permutation([2, 0, 1]), refflow.Concatenate([refflow.Exp(), refflow.Affine()], (1, 2)),
                       refflow.Permutation([1, 2, 0])]), "Indexed",
        lambda p: events(b.Indexed(b.Exp(), 2, (3,)), 1),
        fixed=["stages.1.parts.1.inner.shift", "stages.1.parts.1.inner.scale"])
declare(refflow.Chain([scalar, refflow.Softplus()]), "Chain",
        lambda p: events(b.Chain([vector_affine(first(p)), b.SoftPlus()])))
declare(refflow.Inverse(scalar), "Invert", lambda p: events(b.Invert(vector_affine(p["inner"]))))
declare(refflow.Independent(vector, 1), "Vmap",
        lambda p: events(b.Vmap(eqx.filter_vmap(vector_affine)(p["inner"]), in_axes=eqx.if_array(0)), 1))
declare(refflow.Chain([refflow.OrthogonalLinear(DCT), vector_of_four, refflow.OrthogonalLinear(DCT.T)]), "Sandwich",
        lambda p: events(b.Sandwich(vector_affine(p["stages"]["1"]["inner"]), b.DiscreteCosine((4,))), 1),
        fixed=["stages.0.Q", "stages.2.Q"])


# -- couplings and autoregressive maps --------------------------------------------------------------------------------

def with_layer(made, mlp, W, biases):
    return eqx.tree_at(lambda a: [mlp(a).layers[0].weight, mlp(a).layers[0].bias], made, [W, biases])


def of_coupling(transformer):
    def build(p):
        made = paramax.unwrap(b.Coupling(jax.random.key(0), transformer=transformer, untransformed_dim=1, dim=SIZE, nn_width=1, nn_depth=0))
        return events(with_layer(made, lambda a: a.conditioner, *layer_of(p)), 1)

    return build


def of_autoregressive(transformer):
    def build(p):
        made = paramax.unwrap(b.MaskedAutoregressive(jax.random.key(0), transformer=transformer, dim=SIZE, nn_width=1, nn_depth=0))
        return events(with_layer(made, lambda a: a.masked_autoregressive_mlp, *masked_layer(p, jnp.tril)), 1)

    return build


TRANSFORMERS = {
    "Affine": (_affine_with_min_scale(), affine_family(CONVENTIONS["FlowJAX"], ("shift", "scale"))),
    "Loc": (b.Loc(0.0), additive_family()),
    "RationalQuadraticSpline": (b.RationalQuadraticSpline(knots=3, interval=3.0),
                                Family(refflow.RationalQuadraticSpline, SPLINES["FlowJAX 19"](3, -3.0, 3.0))),
}
for name, (transformer, family) in TRANSFORMERS.items():
    weights = name != "RationalQuadraticSpline"
    declare(coupling(family, weights=weights), f"Coupling [{name}]", compiled(of_coupling(transformer)))
    declare(autoregressive(family, weights=weights), f"MaskedAutoregressive [{name}]", compiled(of_autoregressive(transformer)))
def conditioned(embed=None):
    """The layer of the context as the shift; `embed` makes what the layer sees."""
    def build(p):
        of_shift = p["net"]["inner"]["layers"]["2"] if embed else p["net"]["inner"]
        made = b.AdditiveCondition(lambda c: of_shift["W"] @ c + of_shift["b"], (SIZE,), (2,))
        made = b.EmbedCondition(made, lambda c: embed(p["net"]["inner"]["layers"]["0"], c), (2,)) if embed else made
        return tuple(of_events(lambda event, call=call: call(event, p["context"]), 1)
                     for call in (made.transform_and_log_det, made.inverse_and_log_det))

    return build


def of_context(network):
    """Every entry is shifted by what the network makes of a context."""
    return Coupling(np.zeros(SIZE, bool), Contextual(network), additive_family()).at(context=np.array([1.0, 0.5]))


embedding = Sequential([Dense(*layer(2, 2)), ReLU(), Dense(*layer(SIZE, 2))])
declare(of_context(Dense(*layer(SIZE, 2))), "AdditiveCondition", conditioned())
declare(of_context(embedding), "EmbedCondition [AdditiveCondition]",
        conditioned(lambda first, c: jax.nn.relu(first["W"] @ c + first["b"])))
def leaky_tanh(z):
    x, log_det = _LeakyTanh(0.01).transform_and_log_det(z[0])
    return x[None], log_det


leaky = [BlockDense([[[1.0]]], [[0.0]], [0.0])] * 2
declare(BlockAutoregressive(leaky, leak=0.01), "block_autoregressive_network._LeakyTanh",
        lambda p: (of_events(leaky_tanh, 1), None), fixed=[f"layers.{i}.{name}" for i in "01" for name in ("within", "below", "b")])
compiled_network = compiled(block_network)
declare(block_autoregressive(), "BlockAutoregressiveNetwork", lambda p: (compiled_network(p)[0], None))
